//! Every operator against values that onnxruntime computed; see `data/make_cases.py`.

use bps_engine::{Engine, Job, JobInput, JobResult, Leave, Model};
use bps_graph::{Graph, Limits};
use bps_types::HostTensor;
use serde_json::Value;
use std::sync::{Arc, mpsc};

const CASES: &str = include_str!("data/operators.json");

fn tensor(json: &Value) -> HostTensor {
    let shape = json["shape"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap() as usize).collect();
    let values: Vec<f32> = json["values"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect();
    HostTensor::from_f32(shape, &values).unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

fn run(engine: &Engine, model: &Model, inputs: Vec<HostTensor>) -> JobResult {
    let (answer, answered) = mpsc::channel();
    let until_cut = model.graph().cuts.len() - 1;
    let done = Box::new(move |result| answer.send(result).unwrap());
    let input = JobInput::Requests(vec![inputs]);
    let leave = Leave::Tensors;
    engine.submit(0, Job { model: model.clone(), from_cut: 0, until_cut, input, leave, done });
    answered.recv().unwrap()
}

/// Largest difference, relative where values are large.
fn difference(got: &HostTensor, wanted: &HostTensor) -> f32 {
    assert_eq!(got.shape(), wanted.shape());
    let pairs = got.to_f32().unwrap().into_iter().zip(wanted.to_f32().unwrap());
    pairs.map(|(g, w)| (g - w).abs() / w.abs().max(1.0)).fold(0.0, f32::max)
}

fn check_all(device: &str, tolerance: f32) -> usize {
    let engine = Engine::start(&[device.parse().unwrap()]).unwrap();
    let cases: Vec<Value> = serde_json::from_str(CASES).unwrap();
    let mut wrong = vec![];
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let graph = match Graph::parse(&bytes(case["model"].as_str().unwrap()), &Limits::default()) {
            Ok(graph) => graph,
            Err(error) => {
                wrong.push(format!("{name}: {error}"));
                continue;
            }
        };
        let model = engine.load(Arc::new(graph), None).unwrap();
        let inputs = case["inputs"].as_array().unwrap().iter().map(tensor).collect();
        let wanted: Vec<_> = case["outputs"].as_array().unwrap().iter().map(tensor).collect();
        match run(&engine, &model, inputs) {
            Err(error) => wrong.push(format!("{name}: {error}")),
            Ok(got) => {
                assert_eq!(got.tensors.len(), wanted.len(), "{name}");
                let worst = got.tensors.iter().zip(&wanted).map(|(g, w)| difference(g, w)).fold(0.0, f32::max);
                if worst.is_nan() || worst > tolerance {
                    wrong.push(format!("{name}: off by {worst}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "on {device}, {} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    cases.len()
}

#[test]
fn operators_agree_with_onnxruntime_on_the_processor() {
    assert!(check_all("cpu", 2e-5) >= 100);
}

#[test]
fn operators_agree_with_onnxruntime_on_a_software_gpu() {
    if let Err(reason) = Engine::start(&["software".parse().unwrap()]) {
        eprintln!("skipped operators_agree_with_onnxruntime_on_a_software_gpu: {reason}");
        return;
    }
    assert!(check_all("software", 1e-4) >= 100);
}
