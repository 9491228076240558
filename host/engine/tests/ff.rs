//! FF on a GPU (a software one will do): its frames are read by the processor and the processor's by it.

use bps_codec::ff::{
    Calibration, Frame, FrameReader, ID_HAAR, ID_SCALAR, Mode, Order, Package, RATE_LIST, Settings, Weights, calibrate,
};
use bps_codec::{decode, decode_with, encode, encode_with, frame_writer};
use bps_engine::{Engine, Job, JobInput, JobOutput, Leave, Model, digits};
use bps_graph::{Graph, Limits};
use bps_types::{HostTensor, Packed};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

const MODEL: &[u8] = include_bytes!("../../../models/digits/model.onnx");

/// What is not an ordinary number.
const ODD: [f32; 8] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 1e-42, f32::MIN_POSITIVE, -0.0];

/// An engine on a software GPU, the same for all tests; none where there is none, which is said on standard error.
fn gpu() -> Option<&'static Engine> {
    static ENGINE: OnceLock<Option<Engine>> = OnceLock::new();
    let start = || match Engine::start(&["software".parse().unwrap()]) {
        Ok(engine) => Some(engine),
        Err(reason) => {
            eprintln!("skipped: {reason}");
            None
        }
    };
    ENGINE.get_or_init(start).as_ref()
}

fn tensor(shape: &[usize], values: &[f32]) -> HostTensor {
    HostTensor::from_f32(shape.to_vec(), values).unwrap()
}

/// Soft maps with a little noise, behind a ReLU unless they are `signed`.
fn maps(seed: u16, count: usize, scale: f32, signed: bool) -> Vec<f32> {
    let mut state = u64::from(seed) | 1;
    let mut noise = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / 16_777_216.0 - 0.5
    };
    let value = |i: usize| ((i as f32 * 0.23 + f32::from(seed)).sin() + 0.3 * noise()) * scale;
    (0..count).map(value).map(|v| if signed { v } else { v.max(0.0) }).collect()
}

/// A decoded tensor's bits: not-a-number is compared as well.
fn same_bits(got: &HostTensor, wanted: &HostTensor) -> Result<(), String> {
    if got.shape() != wanted.shape() {
        return Err(format!("shape {:?}, expected {:?}", got.shape(), wanted.shape()));
    }
    let words = |tensor: &HostTensor| tensor.data().as_chunks::<4>().0.iter().map(|w| u32::from_le_bytes(*w)).collect();
    let (got, wanted): (Vec<u32>, Vec<u32>) = (words(got), words(wanted));
    match got.iter().zip(&wanted).position(|(g, w)| g != w) {
        Some(at) => Err(format!("element {at}: {:08x}, expected {:08x}", got[at], wanted[at])),
        None => Ok(()),
    }
}

/// The frame that the processor makes in the steps of this one.
fn in_the_same_steps(packed: &Packed, tensor: &HostTensor, shape: &[usize], mode: Mode) -> Vec<u8> {
    let frame = Frame::read(&packed.data).unwrap();
    let reader = FrameReader::new(&packed.data, shape, None).unwrap();
    let chunks = reader.chunks(1).unwrap();
    let rows = chunks.iter().step_by(reader.geometry().row_chunks());
    let steps: Vec<f32> = rows.map(|chunk| reader.plane(chunk, 0, 0).0).collect();
    let settings = Settings { entropy: frame.entropy, order: frame.order, ..Settings::new(mode, frame.q) };
    let writer = frame_writer(&settings, shape).unwrap().unwrap();
    writer.reference(tensor, &steps).unwrap()
}

/// Both codecs, every rate, any shape and data. Frames of the GPU are the processor's in the same steps, byte for byte, and
/// both sides make the same bits of a frame. Software GPUs round as IEEE 754 says; a GPU that does not may be one step off,
/// which `bps bench kernels` tells.
#[test]
fn both_sides_read_each_others_frames() {
    let Some(engine) = gpu() else { return };
    let mut dice = ChaCha8Rng::seed_from_u64(1);
    for case in 0..150 {
        let extents = [3, 13, 15, 15, 2].map(|most| dice.random_range(1..=most));
        let rank = dice.random_range(1..=5);
        let shape = &extents[..rank];
        let count = shape.iter().product();
        let (scale, signed) = (2f32.powi(dice.random_range(-110..110)), dice.random());
        let mut values = maps(dice.random(), count, scale, signed);
        for _ in 0..dice.random_range(0..6) {
            values[dice.random_range(0..count)] = ODD[dice.random_range(0..ODD.len())];
        }
        let given = tensor(shape, &values);
        let rate = RATE_LIST[dice.random_range(0..RATE_LIST.len())];
        let (codec, mode) = if dice.random() { (ID_SCALAR, Mode::Scalar) } else { (ID_HAAR, Mode::Haar1) };
        let shown = format!("case {case}: codec {codec}, rate {rate}, {shape:?}, scale {scale:e}");
        let (packed, _) = engine.encode_on(0, codec, rate, &given, None).unwrap();
        let own = encode(codec, rate, &given).unwrap();
        assert_eq!((packed.codec, packed.rate, &packed.shape), (own.codec, own.rate, &own.shape), "{shown}");
        // Of more extents than four a row is a line of features.
        let four = if rank > 4 { vec![shape[0], count / shape[0]] } else { shape.to_vec() };
        let wanted = in_the_same_steps(&packed, &tensor(&four, &values), &four, mode);
        assert!(packed.data[..] == wanted[..], "{shown}: not the frame of the processor in the same steps");
        for frame in [&packed, &own] {
            let (got, _) = engine.decode_on(0, frame, None).unwrap();
            assert_eq!(same_bits(&got, &decode(frame, shape).unwrap()), Ok(()), "{shown}");
        }
    }
}

/// A GPU refuses what the processor refuses, in the same words, and reads the rest alike.
#[test]
fn what_is_hostile_is_refused_on_both_sides() {
    let Some(engine) = gpu() else { return };
    let mut dice = ChaCha8Rng::seed_from_u64(2);
    let shape = [2, 5, 9, 7];
    let mut outcomes = [0; 2];
    for case in 0..400 {
        let codec = if case % 4 == 0 { ID_HAAR } else { ID_SCALAR };
        let values = maps(dice.random(), 630, 1.0, case % 3 == 0);
        let mut packed = encode(codec, 8, &tensor(&shape, &values)).unwrap();
        let mut frame = packed.data.to_vec();
        let end = frame.len() - 4;
        for _ in 0..dice.random_range(1..4) {
            // Behind the header, where chunks are; its own faults are the processor's to find.
            let at = dice.random_range(40..end);
            frame[at] = dice.random();
        }
        let checksum = crc32c::crc32c(&frame[..end]);
        frame[end..].copy_from_slice(&checksum.to_le_bytes());
        packed.data = frame.into();
        let got = engine.decode_on(0, &packed, None).map(|(tensor, _)| tensor);
        let wanted = decode(&packed, &shape);
        outcomes[usize::from(wanted.is_ok())] += 1;
        match (got, wanted) {
            (Ok(got), Ok(wanted)) => assert_eq!(same_bits(&got, &wanted), Ok(()), "case {case}"),
            (Err(got), Err(wanted)) => assert!(got.to_string().ends_with(&wanted.to_string()), "{got}, {wanted}"),
            (got, wanted) => panic!("case {case}: {:?}, the processor: {:?}", got.map(drop), wanted.map(drop)),
        }
    }
    assert!(outcomes.iter().all(|count| *count > 20), "{outcomes:?}");
}

#[test]
fn a_tensor_of_many_exceptions_is_left_to_the_processor() {
    let Some(engine) = gpu() else { return };
    let shape = [1, 8, 40, 40];
    let mut values = maps(3, 12_800, 1.0, true);
    values.iter_mut().step_by(2).for_each(|v| *v = f32::NAN);
    let given = tensor(&shape, &values);
    for codec in [ID_SCALAR, ID_HAAR] {
        let (packed, _) = engine.encode_on(0, codec, 12, &given, None).unwrap();
        assert_eq!(packed, encode(codec, 12, &given).unwrap());
        let (got, _) = engine.decode_on(0, &packed, None).unwrap();
        assert_eq!(same_bits(&got, &decode(&packed, &shape).unwrap()), Ok(()));
    }
}

fn run(engine: &Engine, model: &Model, cuts: (usize, usize), input: JobInput, leave: Leave) -> JobOutput {
    let (answer, answered) = mpsc::channel();
    let done = Box::new(move |result| drop(answer.send(result)));
    engine.submit(0, Job { model: model.clone(), from_cut: cuts.0, until_cut: cuts.1, input, leave, done });
    answered.recv_timeout(Duration::from_secs(60)).expect("every job is answered").unwrap()
}

fn images(count: usize) -> HostTensor {
    let digits = &digits::held_out()[..count];
    let values: Vec<f32> = digits.iter().flat_map(|d| d.pixels).map(|p| f32::from(p) / 255.0).collect();
    tensor(&[count, 1, 8, 8], &values)
}

/// What crosses a cut, as it is and encoded.
fn both(
    engine: &Engine,
    model: &Model,
    cut: usize,
    rows: usize,
    (codec, rate): (u8, u8),
    calibrated: bool,
) -> (Vec<HostTensor>, Vec<Packed>) {
    let input = || JobInput::Requests(vec![vec![images(rows)]]);
    let plain = run(engine, model, (0, cut), input(), Leave::Tensors).tensors;
    let packed = run(engine, model, (0, cut), input(), Leave::Packed { codec, rate, calibrated, cap: None }).packed;
    (plain, packed)
}

#[test]
fn activations_are_encoded_as_they_lie() {
    let Some(engine) = gpu() else { return };
    let model = engine.load(Arc::new(Graph::parse(MODEL, &Limits::default()).unwrap()), None).unwrap();
    let last = model.graph().cuts.len() - 1;
    let mut orders = Vec::new();
    for cut in 1..last {
        for (codec, mode) in [(ID_SCALAR, Mode::Scalar), (ID_HAAR, Mode::Haar1)] {
            let (plain, packed) = both(engine, &model, cut, 3, (codec, 6), false);
            for (packed, tensor) in packed.iter().zip(&plain) {
                let wanted = in_the_same_steps(packed, tensor, tensor.shape(), mode);
                assert!(packed.data[..] == wanted[..], "cut {cut}, codec {codec}");
                orders.push(Frame::read(&packed.data).unwrap().order);
            }
            // Rows that arrive from two hosts become one tensor.
            let others = both(engine, &model, cut, 2, (codec, 6), false).1;
            let arrivals = vec![packed.clone(), others.clone()];
            let got = run(engine, &model, (cut, last), JobInput::Arrived(arrivals), Leave::Tensors).tensors.remove(0);
            let decoded = |packed: &[Packed]| packed.iter().map(|p| decode(p, &p.shape).unwrap()).collect::<Vec<_>>();
            for (rows, packed) in [(0..3, &packed), (3..5, &others)] {
                let input = JobInput::Activation(decoded(packed));
                let wanted = run(engine, &model, (cut, last), input, Leave::Tensors).tensors.remove(0);
                let (got, wanted) = (got.slice_rows(rows).to_f32().unwrap(), wanted.to_f32().unwrap());
                let far = got.iter().zip(&wanted).map(|(g, w)| (g - w).abs()).fold(0.0, f32::max);
                assert!(far < 1e-4, "cut {cut}, codec {codec}: {far}");
            }
        }
    }
    // Convolutions leave channels innermost, and nobody turns them.
    assert!(orders.contains(&Order::Nhwc) && orders.contains(&Order::Nchw), "{orders:?}");
}

#[test]
fn with_a_package_both_sides_make_the_same_bytes() {
    let Some(engine) = gpu() else { return };
    let graph = Arc::new(Graph::parse(MODEL, &Limits::default()).unwrap());
    let plain_model = engine.load(graph.clone(), None).unwrap();
    let cut = 2;
    let samples =
        run(engine, &plain_model, (0, cut), JobInput::Requests(vec![vec![images(40)]]), Leave::Tensors).tensors;
    let name = &graph.values[graph.cuts[cut].values[0].index()].name;
    let package = calibrate(&Calibration {
        name,
        model: graph.digest,
        samples: &samples[..1],
        order: Order::Nchw,
        modes: &Mode::ALL,
        rates: &[8, 10],
        weights: &Weights::default(),
        directions: None,
    })
    .unwrap();
    for best in Mode::ALL {
        // Two levels travel only where a package says so.
        let package = package.with_best_and(|_| Some(best), &[Mode::Scalar]).unwrap();
        let package = Arc::new(Package::new(graph.digest, vec![package]).unwrap());
        let model = engine.load_calibrated(graph.clone(), None, Some(package.clone())).unwrap();
        for (codec, mode) in [(ID_SCALAR, Mode::Scalar), (ID_HAAR, best)] {
            let (plain, packed) = both(engine, &model, cut, 3, (codec, 8), true);
            let frame = Frame::read(&packed[0].data).unwrap();
            assert_eq!((frame.mode, frame.package), (mode, package.cuts()[0].id()));
            let own = encode_with(codec, 8, &plain[0], package.cut(name)).unwrap();
            let values = |packed: &Packed| decode_with(packed, &packed.shape, Some(&package)).unwrap();
            assert_eq!(same_bits(&values(&packed[0]), &values(&own)), Ok(()));
            if frame.order == Order::Nchw {
                assert_eq!(packed[0], own, "{best:?}, codec {codec}");
            }
            let last = graph.cuts.len() - 1;
            let arrived = JobInput::Arrived(vec![packed.clone()]);
            let got = run(engine, &model, (cut, last), arrived, Leave::Tensors).tensors.remove(0);
            let input = JobInput::Activation(packed.iter().map(values).collect());
            let wanted = run(engine, &model, (cut, last), input, Leave::Tensors).tensors.remove(0);
            assert_eq!(got, wanted, "{best:?}, codec {codec}");
        }
    }
}
