//! What every test here stands on: a host with a small network, and its inputs.

use bps_engine::DeviceRequest;
use bps_graph::build::with_external;
use bps_graph::topology::{Topology, make};
use bps_node::{
    BuiltinModel, Host, HostConfig, InferCall, InferReply, Ledger, NamedTensor, PolicyChoice, ProfileChoice,
    ServeError, SwapRequest,
};
use bps_types::{HostTensor, Nanos};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest that anything here may take; only a hang reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The digits network with preprocessing, on the processor, without state on disk.
pub(crate) fn config() -> HostConfig {
    HostConfig {
        devices: vec![device("cpu")],
        state_dir: None,
        profile: ProfileChoice::Off,
        builtin_models: vec![digits("digits", "")],
        drain_timeout: Duration::from_secs(30),
        ..HostConfig::default()
    }
}

pub(crate) fn device(text: &str) -> DeviceRequest {
    text.parse().expect("a device of this test")
}

pub(crate) fn digits(name: &str, manifest: &str) -> BuiltinModel {
    let preprocess = "[preprocess]\nchannels = 1\nmean = [0.0]\nscale = [0.00392156862745098]\n";
    let manifest = format!("{manifest}\n{preprocess}");
    BuiltinModel {
        name: name.into(),
        onnx: make(Topology::DigitsNet, 7).into(),
        manifest,
        calibration: Default::default(),
    }
}

/// A model with its weights, all but the first, in turn in the files that are named; and what those hold.
pub(crate) fn spread(onnx: &[u8], outside: &[&str]) -> (Vec<u8>, BTreeMap<String, Vec<u8>>) {
    let mut count = 0;
    let in_turn = |_: &str| {
        count += 1;
        (count > 1 && !outside.is_empty()).then(|| outside[count % outside.len()].to_owned())
    };
    with_external(onnx, in_turn).expect("a model")
}

/// Writes a model, what lies beside it and its settings into a folder.
pub(crate) fn write_model(folder: &Path, onnx: &[u8], outside: &BTreeMap<String, Vec<u8>>, manifest: &str) {
    std::fs::create_dir_all(folder).expect("a folder");
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).expect("a file");
    write("model.onnx", onnx);
    write("model.toml", manifest.as_bytes());
    outside.iter().for_each(|(name, bytes)| write(name, bytes));
}

pub(crate) fn chaos_choice(config: &str) -> PolicyChoice {
    PolicyChoice { name_or_path: "chaos".into(), config: config.into(), seed: 1, strict: false }
}

pub(crate) fn chaos() -> Vec<u8> {
    bps_plugin::prebuilt::find("chaos").expect("chaos is built in").wasm.to_vec()
}

/// Swaps to a policy without a rehearsal.
pub(crate) async fn swap(host: &Host, name: &str, config: &str) {
    let request = SwapRequest { policy: name.into(), config: config.into(), rehearse: false, ..SwapRequest::default() };
    host.swap_policy(request).await.unwrap_or_else(|e| panic!("{name} {config}: {e}"));
}

pub(crate) async fn start(change: impl FnOnce(&mut HostConfig)) -> Host {
    let mut config = config();
    change(&mut config);
    Host::start(config).await.expect("the host starts")
}

/// A host whose device takes long enough for a queue to build up.
pub(crate) async fn start_slow(change: impl FnOnce(&mut HostConfig)) -> Host {
    start(|c| {
        c.devices = vec![device("cpu,slowdown=100")];
        change(c);
    })
    .await
}

/// `rows` images, each different and each the same in every call.
pub(crate) fn image(seed: usize, rows: usize) -> HostTensor {
    let value = |i: usize| ((i * 31 + seed * 17) % 97) as f32 / 97.0;
    let values: Vec<f32> = (0..rows * 64).map(value).collect();
    HostTensor::from_f32(vec![rows, 1, 8, 8], &values).expect("the shape fits")
}

pub(crate) fn call(host: &Host, tensor: HostTensor) -> InferCall {
    let view = host.model("digits", None).expect("digits are served");
    InferCall {
        model: "digits".into(),
        inputs: vec![NamedTensor { name: view.inputs[0].name.clone(), tensor }],
        ..InferCall::default()
    }
}

pub(crate) async fn infer(host: &Host, tensor: HostTensor) -> Result<InferReply, ServeError> {
    host.infer(call(host, tensor)).await
}

pub(crate) fn values(reply: &InferReply) -> Vec<f32> {
    reply.outputs[0].tensor.to_f32().expect("logits are FP32")
}

/// Equal but for the order of additions, which batch sizes may change.
pub(crate) fn assert_close(a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len());
    for (x, y) in a.iter().zip(b) {
        assert!((x - y).abs() <= 1e-4 * x.abs().max(1.0), "{x} is not {y}");
    }
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits until nothing waits or runs, and asserts the law of custody.
pub(crate) async fn settled(host: &Host) -> Ledger {
    until("every request has ended", || {
        let ledger = host.ledger();
        assert!(ledger.holds(), "custody: {ledger:?}");
        ledger.waiting + ledger.running == 0
    })
    .await;
    host.ledger()
}

/// Probation that ends at once.
pub(crate) fn no_probation(config: &mut HostConfig) {
    config.sched.probation = Nanos::from_millis(1);
}
