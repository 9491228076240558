//! The engine as its users see it: jobs in, results or errors out, on whatever devices there are.

use bps_engine::{Engine, Job, JobError, JobInput, JobOutput, JobResult, Leave, Model, PixelInput, adapters, digits};
use bps_graph::{Graph, Limits};
use bps_types::policy::DeviceKind;
use bps_types::{DataType, HostTensor};
use std::sync::{Arc, mpsc};
use std::time::Duration;

const MODEL: &[u8] = include_bytes!("../../../models/digits/model.onnx");

fn start(devices: &[&str]) -> Engine {
    Engine::start(&devices.iter().map(|d| d.parse().unwrap()).collect::<Vec<_>>()).unwrap()
}

/// An engine with the software rasteriser; none where there is none, which is said on standard error.
fn software(test: &str) -> Option<Engine> {
    match Engine::start(&["software".parse().unwrap()]) {
        Ok(engine) => Some(engine),
        Err(reason) => {
            eprintln!("skipped {test}: {reason}");
            None
        }
    }
}

fn model(engine: &Engine) -> Model {
    let pixels = PixelInput { input: 0, height: 8, width: 8, channels: 1, mean: vec![0.0], scale: vec![1.0 / 255.0] };
    engine.load(Arc::new(Graph::parse(MODEL, &Limits::default()).unwrap()), Some(pixels)).unwrap()
}

/// Digits as FP32 network input.
fn floats(digits: &[digits::Digit]) -> HostTensor {
    let values: Vec<f32> = digits.iter().flat_map(|d| d.pixels).map(|p| f32::from(p) / 255.0).collect();
    HostTensor::from_f32(vec![digits.len(), 1, 8, 8], &values).unwrap()
}

/// Digits as image bytes.
fn bytes(digits: &[digits::Digit]) -> HostTensor {
    let values: Vec<u8> = digits.iter().flat_map(|d| d.pixels).collect();
    HostTensor::new(DataType::Uint8, vec![digits.len(), 8, 8, 1], values.into()).unwrap()
}

fn submit(
    engine: &Engine,
    device: usize,
    model: &Model,
    cuts: (usize, usize),
    input: JobInput,
) -> mpsc::Receiver<JobResult> {
    let (answer, answered) = mpsc::channel();
    let done = Box::new(move |result| drop(answer.send(result)));
    let (from_cut, until_cut) = cuts;
    engine.submit(device, Job { model: model.clone(), from_cut, until_cut, input, leave: Leave::Tensors, done });
    answered
}

fn run(engine: &Engine, device: usize, model: &Model, cuts: (usize, usize), input: JobInput) -> JobResult {
    submit(engine, device, model, cuts, input).recv_timeout(Duration::from_secs(60)).expect("every job is answered")
}

fn whole(engine: &Engine, model: &Model, tensors: Vec<HostTensor>) -> JobOutput {
    let last = model.graph().cuts.len() - 1;
    let requests = tensors.into_iter().map(|t| vec![t]).collect();
    run(engine, 0, model, (0, last), JobInput::Requests(requests)).unwrap()
}

fn values(output: &JobOutput) -> Vec<f32> {
    output.tensors[0].to_f32().unwrap()
}

fn failure(engine: &Engine, model: &Model, cuts: (usize, usize), input: JobInput) -> String {
    match run(engine, 0, model, cuts, input) {
        Err(error @ JobError::Failed { .. }) => error.to_string(),
        other => panic!("an error expected, got {other:?}"),
    }
}

/// Largest difference relative to the largest magnitude.
fn deviation(got: &[f32], wanted: &[f32]) -> f32 {
    assert_eq!(got.len(), wanted.len());
    let scale = wanted.iter().fold(0.0f32, |m, w| m.max(w.abs()));
    got.iter().zip(wanted).map(|(g, w)| (g - w).abs() / scale).fold(0.0, f32::max)
}

fn accuracy(engine: &Engine) -> f32 {
    let model = model(engine);
    let held_out = digits::held_out();
    let best = |row: &[f32]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
    let mut right = 0;
    for batch in held_out.chunks(125) {
        let scores = values(&whole(engine, &model, vec![bytes(batch)]));
        right += scores.chunks_exact(10).zip(batch).filter(|(row, d)| best(row) == usize::from(d.label)).count();
    }
    right as f32 / held_out.len() as f32
}

#[test]
fn the_committed_model_reads_held_out_digits() {
    assert_eq!(accuracy(&start(&["cpu"])), 0.99);
}

#[test]
fn a_software_gpu_reads_them_as_well() {
    if let Some(engine) = software("a_software_gpu_reads_them_as_well") {
        let accuracy = accuracy(&engine);
        assert!((0.988..=0.992).contains(&accuracy), "{accuracy}");
    }
}

#[test]
fn two_stages_equal_one_at_every_cut() {
    let engine = start(&["cpu"]);
    let model = model(&engine);
    let digits = &digits::held_out()[..3];
    let wanted = whole(&engine, &model, vec![floats(digits)]);
    let last = model.graph().cuts.len() - 1;
    assert!(last > 5);
    for cut in 0..=last {
        let first = run(&engine, 0, &model, (0, cut), JobInput::Requests(vec![vec![floats(digits)]])).unwrap();
        if cut == last {
            assert_eq!(first.tensors, wanted.tensors);
            continue;
        }
        let second = run(&engine, 0, &model, (cut, last), JobInput::Activation(first.tensors)).unwrap();
        assert_eq!(second.tensors, wanted.tensors, "cut {cut}");
    }
}

#[test]
fn a_batch_equals_its_rows() {
    let engine = start(&["cpu"]);
    let model = model(&engine);
    let digits = &digits::held_out()[..7];
    let joined = values(&whole(&engine, &model, digits.chunks(3).map(floats).collect()));
    let single: Vec<f32> = digits.chunks(1).flat_map(|d| values(&whole(&engine, &model, vec![floats(d)]))).collect();
    assert!(deviation(&joined, &single) < 1e-6, "{}", deviation(&joined, &single));
}

#[test]
fn image_bytes_and_floats_mix() {
    let engine = start(&["cpu"]);
    let model = model(&engine);
    let digits = &digits::held_out()[..4];
    let mixed = values(&whole(&engine, &model, vec![bytes(&digits[..1]), floats(&digits[1..3]), bytes(&digits[3..])]));
    let plain = values(&whole(&engine, &model, vec![floats(digits)]));
    assert!(deviation(&mixed, &plain) < 1e-5);
}

#[test]
fn devices_agree() {
    let Some(software) = software("devices_agree") else { return };
    let cpu = start(&["cpu"]);
    let digits = &digits::held_out()[..5];
    let wanted = values(&whole(&cpu, &model(&cpu), vec![floats(digits)]));
    let model = model(&software);
    for input in [floats(digits), bytes(digits)] {
        let got = values(&whole(&software, &model, vec![input]));
        assert!(deviation(&got, &wanted) < 1e-4, "{}", deviation(&got, &wanted));
    }
}

#[test]
fn kernels_agree_with_their_references() {
    let Some(engine) = software("kernels_agree_with_their_references") else { return };
    let checks = engine.check_kernels(0).unwrap();
    assert!(checks.len() > 400, "{}", checks.len());
    let failed: Vec<_> = checks.iter().filter(|c| !c.passed()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    // A software GPU rounds as the processor does.
    let apart: Vec<_> = checks.iter().filter(|c| c.kernel == "ff_quantise" && c.deviation > 0.0).collect();
    assert!(apart.is_empty(), "{apart:#?}");
    assert!(start(&["cpu"]).check_kernels(0).unwrap().is_empty());
}

#[test]
fn wrong_inputs_are_errors_and_the_executor_goes_on() {
    let engine = start(&["cpu"]);
    let model = model(&engine);
    let digit = &digits::held_out()[..1];
    let last = model.graph().cuts.len() - 1;
    let requests = |tensors: Vec<HostTensor>| JobInput::Requests(vec![tensors]);
    let zeros = |shape: &[usize]| HostTensor::from_f32(shape.to_vec(), &vec![0.0; shape.iter().product()]).unwrap();
    let integers = HostTensor::new(DataType::Int64, vec![1, 1], vec![0; 8].into()).unwrap();
    let small = HostTensor::new(DataType::Uint8, vec![1, 4, 4, 1], vec![0; 16].into()).unwrap();
    let cases: Vec<((usize, usize), JobInput, &str)> = vec![
        ((0, last), JobInput::Requests(vec![]), "without requests"),
        ((0, last), requests(vec![]), "0 tensors, the model has 1 inputs"),
        ((0, last), requests(vec![floats(digit), floats(digit)]), "2 tensors"),
        ((0, last), requests(vec![integers]), "FP32 expected, got INT64"),
        ((0, last), requests(vec![small]), "UINT8 images have shape [rows, 8, 8, 1]"),
        ((0, last), requests(vec![zeros(&[0, 1, 8, 8])]), "no rows"),
        ((0, last), requests(vec![zeros(&[1, 3, 8, 8])]), "3"),
        ((0, last), requests(vec![zeros(&[64])]), ""),
        ((0, last), JobInput::Requests(vec![vec![floats(digit)], vec![zeros(&[1, 1, 4, 4])]]), "different shapes"),
        ((0, last + 1), requests(vec![floats(digit)]), "cuts 0.."),
        ((3, 2), JobInput::Activation(vec![]), "cuts 3..2"),
        ((1, last), requests(vec![floats(digit)]), "first cut only"),
        ((1, last), JobInput::Activation(vec![]), "got 0"),
        ((1, last), JobInput::Activation(vec![zeros(&[1, 2, 3])]), "expected"),
    ];
    for (cuts, input, wanted) in cases {
        let shown = format!("{cuts:?} {input:?}");
        let message = failure(&engine, &model, cuts, input);
        assert!(message.contains(wanted), "{shown}: {message}");
    }
    assert_eq!(values(&whole(&engine, &model, vec![floats(digit)])).len(), 10);
}

#[test]
fn a_panicking_callback_and_a_missing_device_harm_nobody() {
    let engine = start(&["cpu"]);
    let model = model(&engine);
    let input = || JobInput::Requests(vec![vec![floats(&digits::held_out()[..1])]]);
    let done = Box::new(|_: JobResult| panic!("a callback's own fault"));
    let leave = Leave::Tensors;
    engine.submit(0, Job { model: model.clone(), from_cut: 0, until_cut: 1, input: input(), leave, done });
    assert!(run(&engine, 0, &model, (0, 1), input()).is_ok());
    assert!(matches!(run(&engine, 9, &model, (0, 1), input()), Err(JobError::DeviceLost { .. })));
    assert_eq!(engine.warm(9, &model).unwrap_err().to_string(), "there is no device 9; this engine has 1");
}

#[test]
fn not_a_number_passes_through() {
    let engine = start(&["cpu"]);
    let model = model(&engine);
    let mut poisoned = vec![0.5; 2 * 64];
    poisoned[10] = f32::NAN;
    let tensor = HostTensor::from_f32(vec![2, 1, 8, 8], &poisoned).unwrap();
    let scores = values(&whole(&engine, &model, vec![tensor]));
    assert!(scores[..10].iter().all(|s| s.is_nan()), "{scores:?}");
    assert!(scores[10..].iter().all(|s| s.is_finite()), "rows do not touch each other");
}

#[test]
fn two_halves_of_the_processor_work_at_once() {
    let engine = start(&["cpu:2"]);
    let names: Vec<_> = engine.devices().iter().map(|d| d.name.as_str()).collect();
    assert_eq!(names, ["cpu:0/2", "cpu:1/2"]);
    assert_eq!(engine.devices().iter().map(|d| d.index).collect::<Vec<_>>(), [0, 1]);
    let model = model(&engine);
    let last = model.graph().cuts.len() - 1;
    let digits = digits::held_out();
    let wanted = values(&whole(&engine, &model, vec![floats(&digits[..20])]));
    std::thread::scope(|scope| {
        for device in 0..2 {
            let (engine, model, digits, wanted) = (&engine, &model, &digits, &wanted);
            scope.spawn(move || {
                for _ in 0..20 {
                    let input = JobInput::Requests(vec![vec![floats(&digits[..20])]]);
                    let got = run(engine, device, model, (0, last), input).unwrap();
                    assert_eq!(&values(&got), wanted);
                }
            });
        }
    });
}

#[test]
fn jobs_are_answered_in_order_even_after_the_handle_is_gone() {
    let engine = start(&["cpu"]);
    let model = model(&engine);
    let (answer, answered) = mpsc::channel();
    for number in 0..50 {
        let answer = answer.clone();
        let done = Box::new(move |result: JobResult| answer.send((number, result.is_ok())).unwrap());
        let input = JobInput::Requests(vec![vec![floats(&digits::held_out()[..1])]]);
        let leave = Leave::Tensors;
        engine.submit(0, Job { model: model.clone(), from_cut: 0, until_cut: 2, input, leave, done });
    }
    drop((engine, model, answer));
    assert_eq!(answered.iter().collect::<Vec<_>>(), (0..50).map(|n| (n, true)).collect::<Vec<_>>());
}

#[test]
fn a_profile_covers_layers_and_batches() {
    let engine = start(&["cpu,slowdown=2"]);
    let model = model(&engine);
    let mut last = (0, 0);
    let profile = engine.profile(0, &model, &[1, 4, 0], &mut |done, total| last = (done, total)).unwrap();
    assert_eq!((profile.batches.as_slice(), profile.device.as_str()), (&[1, 4][..], "cpu"));
    assert_eq!(profile.digest, model.graph().digest_hex());
    assert!(profile.layer_nanos.iter().all(|l| l.len() == model.graph().layers.len()));
    assert!(profile.layer_nanos.iter().flatten().sum::<u64>() > 0);
    assert_eq!(profile.overhead_nanos.len(), 2);
    assert!(last.0 == last.1 && last.1 > 0);
    assert_eq!(engine.devices()[0].slowdown, 2.0);
}

#[test]
fn devices_are_named_and_missing_ones_say_what_there_is() {
    let listed = adapters();
    assert_eq!(listed[0].taken_as.as_deref(), Some("cpu"));
    let names: Vec<_> = listed.iter().filter_map(|a| a.taken_as.as_deref()).collect();
    assert!((1..names.len()).all(|i| !names[..i].contains(&names[i])), "a name is given twice: {names:?}");
    let auto = start(&["auto"]);
    let gpus = listed.iter().filter(|a| a.taken_as.is_some() && a.kind == DeviceKind::Gpu).count();
    assert_eq!(auto.devices().iter().filter(|d| d.kind == DeviceKind::Gpu).count(), gpus);
    assert!(auto.devices().iter().all(|d| d.kind != DeviceKind::Software), "software is never automatic");
    assert_eq!(auto.devices().last().unwrap().name, "cpu");
    let missing = Engine::start(&["gpu:77".parse().unwrap()]).unwrap_err().to_string();
    assert!(missing.starts_with("there is no device `gpu:77`; this machine has: cpu"), "{missing}");
    let twice = Engine::start(&["cpu".parse().unwrap(), "cpu".parse().unwrap()]).unwrap_err().to_string();
    assert!(twice.contains("`cpu` is asked for twice"), "{twice}");
}

#[test]
fn image_descriptions_must_fit_the_model() {
    let engine = start(&["cpu"]);
    let graph = Arc::new(Graph::parse(MODEL, &Limits::default()).unwrap());
    let good = PixelInput { input: 0, height: 8, width: 8, channels: 1, mean: vec![0.0], scale: vec![1.0] };
    let cases = [
        (PixelInput { input: 3, ..good.clone() }, "image input 3 does not exist"),
        (PixelInput { width: 9, ..good.clone() }, "do not fit input"),
        (PixelInput { mean: vec![], ..good.clone() }, "as many means and scales, got 0 and 1"),
        (PixelInput { channels: 3, ..good.clone() }, "3 channels need"),
    ];
    for (pixels, wanted) in cases {
        let message = engine.load(graph.clone(), Some(pixels)).unwrap_err().to_string();
        assert!(message.contains(wanted), "{message}");
    }
    let plain = engine.load(graph, None).unwrap();
    let last = plain.graph().cuts.len() - 1;
    let message = failure(&engine, &plain, (0, last), JobInput::Requests(vec![vec![bytes(&digits::held_out()[..1])]]));
    assert!(message.contains("model.toml"), "{message}");
}
