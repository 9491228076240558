//! Between hosts: what one engine encodes at a cut, another decodes and carries on with.

use bps_codec::{SizeCap, codecs, decode, encode, int8};
use bps_engine::{Engine, Job, JobError, JobInput, JobOutput, JobResult, Leave, Model, PixelInput, digits};
use bps_graph::{Graph, Limits};
use bps_types::{DataType, HostTensor, Packed};
use std::sync::{Arc, mpsc};
use std::time::Duration;

const MODEL: &[u8] = include_bytes!("../../../models/digits/model.onnx");
const LOSSLESS: [u8; 2] = [0, 1];

/// An engine with this device; none where there is none, which is said on standard error.
fn start(device: &str) -> Option<Engine> {
    match Engine::start(&[device.parse().unwrap()]) {
        Ok(engine) => Some(engine),
        Err(reason) if device == "software" => {
            eprintln!("skipped: {reason}");
            None
        }
        Err(reason) => panic!("{reason}"),
    }
}

fn model(engine: &Engine) -> Model {
    let pixels = PixelInput { input: 0, height: 8, width: 8, channels: 1, mean: vec![0.0], scale: vec![1.0 / 255.0] };
    engine.load(Arc::new(Graph::parse(MODEL, &Limits::default()).unwrap()), Some(pixels)).unwrap()
}

fn floats(digits: &[digits::Digit]) -> HostTensor {
    let values: Vec<f32> = digits.iter().flat_map(|d| d.pixels).map(|p| f32::from(p) / 255.0).collect();
    HostTensor::from_f32(vec![digits.len(), 1, 8, 8], &values).unwrap()
}

fn bytes(digits: &[digits::Digit]) -> HostTensor {
    let values: Vec<u8> = digits.iter().flat_map(|d| d.pixels).collect();
    HostTensor::new(DataType::Uint8, vec![digits.len(), 8, 8, 1], values.into()).unwrap()
}

fn run(engine: &Engine, model: &Model, cuts: (usize, usize), input: JobInput, leave: Leave) -> JobResult {
    let (answer, answered) = mpsc::channel();
    let done = Box::new(move |result| drop(answer.send(result)));
    engine.submit(0, Job { model: model.clone(), from_cut: cuts.0, until_cut: cuts.1, input, leave, done });
    answered.recv_timeout(Duration::from_secs(60)).expect("every job is answered")
}

/// The values of a cut, encoded on the device.
fn pack(engine: &Engine, model: &Model, cut: usize, digits: &[digits::Digit], codec: u8) -> Vec<Packed> {
    let input = JobInput::Requests(vec![vec![floats(digits)]]);
    let output =
        run(engine, model, (0, cut), input, Leave::Packed { codec, rate: 0, calibrated: false, cap: None }).unwrap();
    assert!(output.tensors.is_empty());
    assert!(output.encode + output.decode <= output.elapsed);
    output.packed
}

/// From a cut to the end.
fn finish(engine: &Engine, model: &Model, cut: usize, arrivals: Vec<Vec<Packed>>) -> Result<JobOutput, JobError> {
    let last = model.graph().cuts.len() - 1;
    run(engine, model, (cut, last), JobInput::Arrived(arrivals), Leave::Tensors)
}

fn whole(engine: &Engine, model: &Model, digits: &[digits::Digit]) -> HostTensor {
    let last = model.graph().cuts.len() - 1;
    let input = JobInput::Requests(vec![vec![floats(digits)]]);
    run(engine, model, (0, last), input, Leave::Tensors).unwrap().tensors.remove(0)
}

/// Largest difference relative to the largest magnitude.
fn deviation(got: &HostTensor, wanted: &HostTensor) -> f32 {
    assert_eq!(got.shape(), wanted.shape());
    let (got, wanted) = (got.to_f32().unwrap(), wanted.to_f32().unwrap());
    let scale = wanted.iter().fold(0.0f32, |m, w| m.max(w.abs()));
    got.iter().zip(&wanted).map(|(g, w)| (g - w).abs() / scale).fold(0.0, f32::max)
}

/// What a lossy codec may do to this net's scores, relative to the largest: it rounds what crosses once, to 2^-11 of a
/// value or to 1/508 of a row's range, and the layers behind add up what they get.
fn error_bound(codec: u8) -> f32 {
    match codec {
        2 | 3 => 1e-3,
        _ => 2e-2,
    }
}

#[test]
fn a_split_equals_the_whole_at_every_cut() {
    let engine = start("cpu").unwrap();
    let model = model(&engine);
    let digits = &digits::held_out()[..19];
    let wanted = whole(&engine, &model, digits);
    let last = model.graph().cuts.len() - 1;
    assert!(model.graph().cuts.iter().any(|c| c.values.len() > 1), "cuts of several values are among them");
    for cut in 0..last {
        for codec in &codecs()[..6] {
            let packed = match cut {
                0 => vec![encode(codec.id, 0, &floats(digits)).unwrap()],
                _ => pack(&engine, &model, cut, digits, codec.id),
            };
            let output = finish(&engine, &model, cut, vec![packed]).unwrap();
            assert!(output.packed.is_empty() && output.decode > Duration::ZERO && output.encode == Duration::ZERO);
            if codec.lossless {
                assert_eq!(output.tensors[0], wanted, "cut {cut}, {}", codec.name);
            } else {
                let off = deviation(&output.tensors[0], &wanted);
                assert!(off <= error_bound(codec.id), "cut {cut}, {}: off by {off}", codec.name);
            }
        }
    }
    // The outputs travel as well.
    let answer = pack(&engine, &model, last, digits, 1);
    assert_eq!(decode(&answer[0], &[19, 10]).unwrap(), wanted);
}

#[test]
fn what_leaves_is_the_codec_of_what_would_have_left() {
    let engine = start("cpu").unwrap();
    let model = model(&engine);
    let digits = &digits::held_out()[..21];
    for cut in [1, 4] {
        let input = JobInput::Requests(vec![vec![floats(digits)]]);
        let plain = run(&engine, &model, (0, cut), input, Leave::Tensors).unwrap();
        assert!(plain.packed.is_empty() && plain.encode == Duration::ZERO && plain.decode == Duration::ZERO);
        for codec in 0..6 {
            let wanted: Vec<_> = plain.tensors.iter().map(|t| encode(codec, 0, t).unwrap()).collect();
            assert_eq!(pack(&engine, &model, cut, digits, codec), wanted, "cut {cut}, codec {codec}");
        }
    }
}

#[test]
fn arrivals_of_different_origins_are_joined() {
    for device in ["cpu", "software"] {
        let Some(engine) = start(device) else { continue };
        let model = model(&engine);
        let digits = digits::held_out();
        let origins = [&digits[..1], &digits[1..4], &digits[4..6]];
        // Two values cross.
        let cut = model.graph().cuts.iter().position(|c| c.values.len() == 2).unwrap();
        for codecs in [[0, 0, 0], [2, 2, 2], [4, 4, 4], [5, 4, 5], [3, 5, 1], [16, 17, 16], [17, 0, 16]] {
            let arrivals: Vec<_> =
                origins.iter().zip(codecs).map(|(d, codec)| pack(&engine, &model, cut, d, codec)).collect();
            let joined = finish(&engine, &model, cut, arrivals.clone()).unwrap().tensors.remove(0);
            assert_eq!(joined.shape(), [6, 10]);
            let mut row = 0;
            for (arrival, digits) in arrivals.into_iter().zip(origins) {
                let alone = finish(&engine, &model, cut, vec![arrival]).unwrap().tensors.remove(0);
                let off = deviation(&joined.slice_rows(row..row + digits.len()), &alone);
                assert!(off < 1e-5, "{device}, {codecs:?}, rows from {row}: off by {off}");
                row += digits.len();
            }
        }
    }
}

#[test]
fn inputs_arrive_as_images_and_as_numbers() {
    for device in ["cpu", "software"] {
        let Some(engine) = start(device) else { continue };
        let model = model(&engine);
        let digits = &digits::held_out()[..4];
        let wanted = whole(&engine, &model, digits);
        let exact: Vec<Vec<Packed>> = vec![
            vec![encode(1, 0, &bytes(&digits[..1])).unwrap()],
            vec![encode(0, 0, &floats(&digits[1..2])).unwrap()],
            vec![encode(0, 0, &bytes(&digits[2..])).unwrap()],
        ];
        assert!(deviation(&finish(&engine, &model, 0, exact).unwrap().tensors[0], &wanted) < 1e-5);
        let halves = vec![vec![encode(2, 0, &floats(digits)).unwrap()]];
        assert!(deviation(&finish(&engine, &model, 0, halves).unwrap().tensors[0], &wanted) < error_bound(2));
        // JPEG blurs 8 x 8 pixels: the scores are those of the blurred picture.
        let jpeg = encode(6, 95, &bytes(digits)).unwrap();
        let blurred = decode(&jpeg, &[4, 8, 8, 1]).unwrap();
        let got = finish(&engine, &model, 0, vec![vec![jpeg]]).unwrap();
        let again = finish(&engine, &model, 0, vec![vec![encode(0, 0, &blurred).unwrap()]]).unwrap();
        assert_eq!(got.tensors, again.tensors);
        assert!(deviation(&got.tensors[0], &wanted) < 0.2);
    }
}

#[test]
fn what_is_hostile_fails_its_job_and_names_the_value() {
    let engine = start("cpu").unwrap();
    let model = model(&engine);
    let graph = model.graph().clone();
    let digit = &digits::held_out()[..2];
    let good = |codec| pack(&engine, &model, 2, digit, codec).remove(0);
    let name = graph.values[graph.cuts[2].values[0].index()].name.as_str();
    let shape = good(0).shape;
    let [rows, rest @ ..] = &shape[..] else { panic!("{shape:?}") };
    let shaped = |first: usize| [&[first], rest].concat();
    let at_cut = |message: &str| format!("value `{name}` of cut 2: {message}");
    let bent = |codec: u8, change: &dyn Fn(&mut Packed)| {
        let mut packed = good(codec);
        change(&mut packed);
        packed
    };
    let cases: Vec<(Vec<Vec<Packed>>, String)> = vec![
        (vec![], "without arrivals".into()),
        (vec![vec![]], "arrival 0: cut 2 has 1 values, got 0".into()),
        (vec![vec![good(0)], vec![good(0), good(0)]], "arrival 1: cut 2 has 1 values, got 2".into()),
        (vec![vec![bent(0, &|p| p.shape = shaped(3))]], at_cut("arrival 0: codec raw, data: ")),
        (vec![vec![bent(0, &|p| p.shape.swap(0, 1))]], at_cut("arrival 0: codec raw: shape ")),
        (vec![vec![bent(0, &|p| p.shape = vec![])]], at_cut("arrival 0: codec raw: shape []")),
        (vec![vec![bent(0, &|p| p.shape = shaped(0))]], "no elements".into()),
        (vec![vec![bent(0, &|p| p.shape = shaped(usize::MAX))]], "too many elements".into()),
        (vec![vec![good(0)], vec![bent(0, &|p| p.shape = shaped(usize::MAX))]], "too many rows".into()),
        (vec![vec![good(0)], vec![bent(2, &|p| p.data = p.data.slice(2..))]], at_cut("arrival 1: codec f16, data: ")),
        (vec![vec![bent(4, &|p| p.data = vec![0xff; p.data.len()].into())]], at_cut("arrival 0: codec int8, row 0: ")),
        (vec![vec![bent(5, &|p| p.data = p.data.slice(..9))]], at_cut("arrival 0: codec int8-zstd, zstd: ")),
        (vec![vec![bent(1, &|p| p.data = vec![7; 30].into())]], at_cut("arrival 0: codec raw-zstd, zstd: ")),
        (vec![vec![bent(0, &|p| p.data_type = DataType::Int32)]], at_cut("arrival 0: FP32 expected, got INT32")),
        (vec![vec![bent(0, &|p| p.codec = 200)]], at_cut("arrival 0: codec 200 does not exist")),
        (vec![vec![bent(0, &|p| p.rate = 3)]], at_cut("arrival 0: codec raw does not offer rate 3")),
    ];
    assert_eq!(*rows, 2);
    for (arrivals, wanted) in cases {
        match finish(&engine, &model, 2, arrivals) {
            Err(error @ JobError::Failed { .. }) => {
                let message = error.to_string();
                assert!(message.contains(&wanted), "{message}, expected {wanted}");
            }
            other => panic!("{wanted}: {other:?}"),
        }
    }
    let image = |packed: Packed| finish(&engine, &model, 0, vec![vec![packed]]).unwrap_err().to_string();
    let small = HostTensor::new(DataType::Uint8, vec![1, 4, 4, 1], vec![0; 16].into()).unwrap();
    let integers = HostTensor::new(DataType::Int64, vec![1, 1], vec![0; 8].into()).unwrap();
    let wide = HostTensor::from_f32(vec![1, 1, 8, 9], &[0.0; 72]).unwrap();
    let lying = Packed { shape: vec![1, 8, 8, 1], ..encode(6, 75, &small).unwrap() };
    for (packed, wanted) in [
        (encode(6, 75, &small).unwrap(), "UINT8 images have shape [rows, 8, 8, 1], got [1, 4, 4, 1]"),
        (lying, "codec jpeg, row 0: the image has extents [4, 4, 1], expected [8, 8, 1]"),
        (encode(0, 0, &integers).unwrap(), "FP32 expected, got INT64"),
        (encode(0, 0, &wide).unwrap(), "arrival 0: shape [1, 1, 8, 9] does not fit"),
    ] {
        let message = image(packed);
        assert!(message.starts_with(&format!("input `{}`: ", graph.inputs[0].name)), "{message}");
        assert!(message.contains(wanted), "{message}");
    }
    // What leaves is checked too.
    for (codec, rate, wanted) in
        [(9, 0, "codec 9 does not exist"), (2, 1, "not offer rate 1"), (6, 75, "not take FP32")]
    {
        let input = JobInput::Requests(vec![vec![floats(digit)]]);
        let message = run(&engine, &model, (0, 2), input, Leave::Packed { codec, rate, calibrated: false, cap: None })
            .unwrap_err()
            .to_string();
        assert!(message.starts_with(&format!("value `{name}`: ")) && message.contains(wanted), "{message}");
    }
    assert!(finish(&engine, &model, 2, vec![vec![good(0)]]).is_ok(), "the executor goes on");
}

#[test]
fn what_turns_out_large_travels_at_a_coarser_rate() {
    for device in ["cpu", "software"] {
        let Some(engine) = start(device) else { continue };
        let model = model(&engine);
        let send = |codec, rate, cap| {
            let leave = Leave::Packed { codec, rate, calibrated: false, cap };
            let input = JobInput::Requests(vec![vec![floats(&digits::held_out()[..4])]]);
            let packed = run(&engine, &model, (0, 2), input, leave).unwrap().packed;
            (packed[0].rate, packed.iter().map(|one| one.data.len() as u64).sum::<u64>())
        };
        let codec = bps_codec::ff::ID_HAAR;
        let (fine, coarse) = (send(codec, 2, None).1, send(codec, 14, None).1);
        assert!(coarse < fine);
        let cap = |bytes, coarsest| Some(SizeCap { bytes, coarsest });
        assert_eq!(send(codec, 2, cap(fine, 20)), (2, fine), "it fits");
        let (rate, bytes) = send(codec, 2, cap(coarse, 20));
        assert!(rate > 2 && rate <= 20 && bytes <= coarse, "{device}: rate {rate}, {bytes} of {coarse} bytes");
        assert_eq!(send(codec, 2, cap(1, 14)).0, 14, "no further than may be");
        assert_eq!(send(codec, 2, cap(1, 2)), (2, fine), "nothing coarser may be");
        assert_eq!(send(2, 0, cap(1, 20)).0, 0, "a codec without rates");
    }
}

#[test]
fn a_gpu_packs_as_the_processor_does() {
    let Some(engine) = start("software") else { return };
    let model = model(&engine);
    let digits = &digits::held_out()[..3];
    let wanted = whole(&engine, &model, digits);
    let last = model.graph().cuts.len() - 1;
    for cut in 1..last {
        let input = JobInput::Requests(vec![vec![floats(digits)]]);
        let plain = run(&engine, &model, (0, cut), input, Leave::Tensors).unwrap().tensors;
        for codec in 0..6u8 {
            let packed = pack(&engine, &model, cut, digits, codec);
            for (packed, tensor) in packed.iter().zip(&plain) {
                let reference = encode(codec, 0, tensor).unwrap();
                assert_eq!((&packed.shape, packed.data_type), (&reference.shape, DataType::Fp32));
                if codec < 4 {
                    assert_eq!(packed, &reference, "cut {cut}, codec {codec}");
                } else {
                    same_within_a_code(&decode(packed, tensor.shape()).unwrap(), tensor);
                }
            }
            let got = finish(&engine, &model, cut, vec![packed]).unwrap();
            assert!(got.decode > Duration::ZERO && got.decode <= got.elapsed);
            let off = deviation(&got.tensors[0], &wanted);
            let bound = if LOSSLESS.contains(&codec) { 1e-6 } else { error_bound(codec) };
            assert!(off <= bound, "cut {cut}, codec {codec}: off by {off}");
        }
    }
}

/// Every row within the codec's error of what it was.
fn same_within_a_code(got: &HostTensor, wanted: &HostTensor) {
    let (rows, got, values) = (wanted.rows(), got.to_f32().unwrap(), wanted.to_f32().unwrap());
    for (got, row) in got.chunks(values.len() / rows).zip(values.chunks(values.len() / rows)) {
        let scale = int8::Affine::fit(row).scale;
        assert!(got.iter().zip(row).all(|(g, w)| (g - w).abs() <= scale * 0.51 + 1e-6), "a row is off");
    }
}

#[test]
fn every_device_tells_what_codecs_cost() {
    for device in ["cpu", "software"] {
        let Some(engine) = start(device) else { continue };
        let timings = engine.measure_codecs(0).unwrap();
        assert_eq!(timings.iter().map(|t| t.codec).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 16, 17, 18]);
        for timing in &timings {
            let all = [timing.encode_nanos_per_element, timing.decode_nanos_per_element, timing.fixed_nanos];
            assert!(all.iter().all(|n| n.is_finite() && *n >= 0.0), "{device}: {timing:?}");
            // Raw may cost nothing on a processor; whatever works on every element does.
            let free = timing.codec == 0 && device == "cpu";
            assert!(free || timing.encode_nanos_per_element + timing.fixed_nanos > 0.0, "{device}: {timing:?}");
            eprintln!("{device}: {timing:?}");
        }
        assert_eq!(engine.measure_codecs(1).unwrap_err().to_string(), "there is no device 1; this engine has 1");
    }
}

#[test]
fn one_tensor_alone_is_coded_on_every_device() {
    let values: Vec<f32> = (0..2 * 3 * 4 * 5).map(|i| (i as f32 * 0.3).sin()).collect();
    let maps = HostTensor::from_f32(vec![2, 3, 4, 5], &values).unwrap();
    let image = HostTensor::new(DataType::Uint8, vec![1, 8, 8, 1], vec![77; 64].into()).unwrap();
    let nothing = HostTensor::from_f32(vec![0, 3], &[]).unwrap();
    for device in ["cpu", "software"] {
        let Some(engine) = start(device) else { continue };
        for spec in codecs() {
            let rate = spec.usual_rate();
            for tensor in [&maps, &image, &nothing] {
                let encoded = engine.encode_on(0, spec.id, rate, tensor, None);
                if !spec.takes(tensor.data_type()) {
                    let message = encoded.unwrap_err().to_string();
                    assert!(message.contains(&format!("codec {} does not take", spec.name)), "{message}");
                    continue;
                }
                let (packed, _) = encoded.unwrap();
                let (got, _) = engine.decode_on(0, &packed, None).unwrap();
                let wanted = decode(&encode(spec.id, rate, tensor).unwrap(), tensor.shape()).unwrap();
                assert_eq!((got.data_type(), got.shape()), (wanted.data_type(), wanted.shape()));
                if matches!(spec.id, 4 | 5) && device != "cpu" && !tensor.shape().contains(&0) {
                    same_within_a_code(&got, tensor);
                } else if matches!(spec.id, 16 | 17) && device != "cpu" {
                    // A device finds its own steps: what it encoded is what counts.
                    assert_eq!(got, decode(&packed, tensor.shape()).unwrap(), "{}", spec.name);
                } else {
                    assert_eq!(got, wanted, "{device}, {}", spec.name);
                }
            }
        }
        let (mut packed, _) = engine.encode_on(0, 2, 0, &maps, None).unwrap();
        packed.shape = vec![2, 3, 4, 6];
        let message = engine.decode_on(0, &packed, None).unwrap_err().to_string();
        assert!(message.starts_with(&format!("device `{device}`: ")) && message.contains("codec f16"), "{message}");
        assert!(engine.encode_on(1, 0, 0, &maps, None).unwrap_err().to_string().contains("no device 1"));
    }
}
