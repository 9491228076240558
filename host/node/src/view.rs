//! What the host shows: calls, replies and the state of models, devices and policies, as plain data.
//!
//! Everything that leaves through an API derives `Serialize`; field names are part of the admin protocol.

mod peer;
mod policy;

pub use peer::{OwnPeerView, PeerDeviceView, PeerGrants, PeerModelView, PeerRights, PeerView, SharedModel};
pub use policy::{
    DecideTimes, PolicyEntry, PolicyEntryState, PolicyName, PolicyRejected, PolicyStatusView, SwapError, SwapReport,
    SwapRequest,
};

use bps_types::{DataType, HostTensor, Nanos, TensorSpec, Trace};
use serde::Serialize;
use std::time::Duration;

/// A tensor with the name a model gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedTensor {
    /// As the model file calls it.
    pub name: String,
    /// The tensor.
    pub tensor: HostTensor,
}

/// One inference to be made.
#[derive(Clone, Debug, Default)]
pub struct InferCall {
    /// Which model.
    pub model: String,
    /// Which version; none: the highest that is served.
    pub version: Option<String>,
    /// One tensor per model input, in any order. A model with `[preprocess]` also takes UINT8 NHWC pixels, or a BYTES
    /// tensor with one PNG or JPEG per element.
    pub inputs: Vec<NamedTensor>,
    /// Names of the outputs wanted, in this order; empty: all, in the model's order.
    pub outputs: Vec<String>,
    /// Urgency; none: the model's.
    pub priority: Option<u8>,
    /// How long a result is useful; none: for ever.
    pub timeout: Option<Duration>,
    /// Bits of [`bps_types::policy::constraint`].
    pub constraints: u8,
    /// What its client is following it by.
    pub trace: Option<Trace>,
}

/// The result of one inference.
#[derive(Clone, Debug)]
pub struct InferReply {
    /// The model.
    pub model: String,
    /// The version that answered.
    pub version: String,
    /// The outputs.
    pub outputs: Vec<NamedTensor>,
    /// Where the time went.
    pub timings: Timings,
}

/// Where the time of one request went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Timings {
    /// In the queue, nanoseconds.
    pub wait: Nanos,
    /// From arrival at the scheduler to the result, nanoseconds.
    pub total: Nanos,
    /// On the device, nanoseconds: the execution that answered.
    pub compute: Nanos,
    /// Rows executed together.
    pub batch_rows: u32,
    /// Generation of the policy that chose.
    pub generation: u32,
}

/// A served model, for metadata requests.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelView {
    /// Its name.
    pub name: String,
    /// The version this is about.
    pub version: String,
    /// Every version that is ready, ascending.
    pub versions: Vec<String>,
    /// Inputs; an extent that is free is none, the first one always is.
    pub inputs: Vec<TensorSpec>,
    /// Outputs.
    pub outputs: Vec<TensorSpec>,
    /// The input that also takes encoded images or pixels, if there is one.
    pub image_input: Option<ImageInputView>,
    /// Most rows of one request and of one execution.
    pub batch_max: u32,
    /// Latency its owner asks for, milliseconds; 0 where none is stated.
    pub slo_ms: f64,
    /// Its requests' urgency.
    pub priority: u8,
    /// SHA-256 of the file in hex.
    pub digest: String,
    /// Layers after lowering.
    pub layer_count: usize,
    /// Legal cuts, input and output included.
    pub cut_count: usize,
    /// Weights.
    pub parameter_count: u64,
    /// Names of the devices it may run on.
    pub devices: Vec<String>,
    /// Whether its cost tables were measured (false: estimated from FLOPs).
    pub measured: bool,
}

/// The input of a model that takes images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImageInputView {
    /// Its name.
    pub name: String,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// 1 or 3.
    pub channels: usize,
}

/// Whether a model version can serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names are Triton's")]
pub enum ModelState {
    Ready,
    Loading,
    Unloading,
    Unavailable,
}

/// One line of the repository index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IndexEntry {
    /// The model.
    pub name: String,
    /// The version.
    pub version: String,
    /// Whether it serves.
    pub state: ModelState,
    /// Why not, where it does not.
    pub reason: String,
}

/// How often something happened and how long it took in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DurationStat {
    /// How often.
    pub count: u64,
    /// Nanoseconds in all.
    pub ns: u64,
}

/// Times of a model's requests, in Triton's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct InferenceStats {
    /// Requests that were answered: whole time.
    pub success: DurationStat,
    /// Requests that were not: whole time.
    pub fail: DurationStat,
    /// Time in the queue.
    pub queue: DurationStat,
    /// Time to decode and arrange inputs.
    pub compute_input: DurationStat,
    /// Time on devices.
    pub compute_infer: DurationStat,
    /// Time from a device's answer to the reply.
    pub compute_output: DurationStat,
    /// There is no response cache: zero.
    pub cache_hit: DurationStat,
    /// There is no response cache: zero.
    pub cache_miss: DurationStat,
}

/// Times of executions of one batch size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BatchStats {
    /// Rows executed together.
    pub batch_size: u64,
    /// See [`InferenceStats`].
    pub compute_input: DurationStat,
    /// See [`InferenceStats`].
    pub compute_infer: DurationStat,
    /// See [`InferenceStats`].
    pub compute_output: DurationStat,
}

/// Counts of one model version, in Triton's words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ModelStats {
    /// The model.
    pub name: String,
    /// The version.
    pub version: String,
    /// When the last request was answered, milliseconds since the Unix epoch; 0: never.
    pub last_inference: u64,
    /// Rows answered.
    pub inference_count: u64,
    /// Batches executed.
    pub execution_count: u64,
    /// Times.
    pub inference_stats: InferenceStats,
    /// Times by batch size.
    pub batch_stats: Vec<BatchStats>,
}

/// A device that executes layers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeviceView {
    /// As policies call it.
    pub id: u32,
    /// For example `cpu` or `gpu:0`.
    pub name: String,
    /// `cpu`, `gpu` or `software`.
    pub kind: bps_types::policy::DeviceKind,
    /// Hardware, driver and share in one line; profiles are kept by it.
    pub fingerprint: String,
    /// Memory it may use.
    pub memory_bytes: Option<u64>,
    /// Memory that is free.
    pub memory_free_bytes: Option<u64>,
    /// Threads that compute.
    pub threads: usize,
    /// Declared slowdown; 1 is full speed.
    pub slowdown: f32,
    /// Whether it takes work.
    pub up: bool,
    /// Seconds it has executed.
    pub busy_seconds: f64,
}

/// What a drain left behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DrainReport {
    /// Requests still waiting when time was up.
    pub waiting: u64,
    /// Requests still running when time was up.
    pub running: u64,
    /// Milliseconds it took.
    pub took_ms: u64,
    /// The final account.
    pub ledger: bps_sched::Ledger,
}

/// What a client may send for this input, for messages.
pub(crate) fn spec_text(spec: &TensorSpec) -> String {
    let extents: Vec<String> = spec.shape.iter().map(|d| d.map_or_else(|| "-1".into(), |n| n.to_string())).collect();
    format!("{}[{}]", spec.data_type, extents.join(", "))
}

/// A tensor's type and shape, for messages.
pub(crate) fn tensor_text(data_type: DataType, shape: &[usize]) -> String {
    format!("{data_type}{shape:?}")
}
