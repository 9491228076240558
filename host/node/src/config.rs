//! What can be set about a host, and the file that sets it.

mod file;

pub use file::{FileConfig, FileLimits, FilePeers, FilePolicy, ModelControl};

use bps_engine::DeviceRequest;
use bps_transport::CarrierChoice;
use bytes::Bytes;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Everything a host needs to start.
pub struct HostConfig {
    /// Model repositories (folders) and single `.onnx` files.
    pub models: Vec<PathBuf>,
    /// Devices to start; empty: automatic.
    pub devices: Vec<DeviceRequest>,
    /// The policy to start with.
    pub policy: PolicyChoice,
    /// A folder that is watched for policy components.
    pub policies_dir: Option<PathBuf>,
    /// Make what is dropped there active at once. Off: it only becomes available.
    pub activate_on_drop: bool,
    /// Where profiles and the last good policy are kept; none: nowhere.
    pub state_dir: Option<PathBuf>,
    /// Record every policy call to this file.
    pub record: Option<PathBuf>,
    /// Bounds and times of the scheduler.
    pub sched: bps_sched::Config,
    /// Where cost tables come from.
    pub profile: ProfileChoice,
    /// Accuracy that codecs may cost, in parts per million: what a model may lose whose `model.toml` does not say, and the
    /// most that any may. None: what `model.toml` says, and nothing where it does not.
    pub accuracy_loss_max_ppm: Option<u32>,
    /// How this host meets others; none: not at all. Needs a state folder.
    pub peers: Option<PeersConfig>,
    /// How long a drain or an unload waits for requests to end.
    pub drain_timeout: Duration,
    /// Models that come with the binary.
    pub builtin_models: Vec<BuiltinModel>,
    /// Most bytes one request's inputs may have.
    pub body_bytes_max: usize,
    /// Most requests this host holds at once, waiting and running, over all models. Above it, new ones are refused; it
    /// also bounds the dispatcher's channel. Twice 8 models' default queues.
    pub requests_max: usize,
    /// Most bytes of input this host holds at once.
    pub request_bytes_max: usize,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            models: vec![],
            devices: vec![],
            policy: PolicyChoice::default(),
            policies_dir: None,
            activate_on_drop: false,
            state_dir: default_state_dir(),
            record: None,
            sched: bps_sched::Config::default(),
            profile: ProfileChoice::Quick,
            accuracy_loss_max_ppm: None,
            peers: None,
            drain_timeout: Duration::from_secs(30),
            builtin_models: vec![],
            body_bytes_max: 64 << 20,
            requests_max: 16_384,
            request_bytes_max: 1 << 30,
        }
    }
}

/// `$XDG_STATE_HOME/bps`, else `~/.local/state/bps`, else none.
pub(crate) fn default_state_dir() -> Option<PathBuf> {
    let of = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    of("XDG_STATE_HOME").or_else(|| of("HOME").map(|home| home.join(".local/state"))).map(|dir| dir.join("bps"))
}

/// Which policy, and how it is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyChoice {
    /// A prebuilt policy's name, or the path of a component.
    pub name_or_path: String,
    /// Its configuration; empty: its defaults.
    pub config: String,
    /// What its random choices are drawn from.
    pub seed: u64,
    /// Start with this one or not at all, rather than with the last good one: for choices that a person waits for.
    pub strict: bool,
}

impl Default for PolicyChoice {
    fn default() -> Self {
        Self { name_or_path: "bps".into(), config: String::new(), seed: 0, strict: false }
    }
}

/// How a host meets others. Who they are and what they may do is in the state folder.
#[derive(Clone, Debug, PartialEq)]
pub struct PeersConfig {
    /// What others call this host.
    pub name: String,
    /// Where they connect; none: this host only connects to them.
    pub listen: Option<SocketAddr>,
    /// They can connect only from when the first of them is paired.
    pub listen_once_paired: bool,
    /// What carries tensors.
    pub carrier: CarrierChoice,
    /// Dispatches that each of them may have with each device here at once; what was granted when pairing may be less.
    pub window: u32,
    /// Disk that models fetched from them may take, bytes.
    pub disk_bytes_max: u64,
}

impl Default for PeersConfig {
    fn default() -> Self {
        Self {
            name: "host".into(),
            listen: None,
            listen_once_paired: false,
            carrier: CarrierChoice::Auto,
            window: 4,
            disk_bytes_max: 4 << 30,
        }
    }
}

/// Where cost tables come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProfileChoice {
    /// A kept profile, else a measurement of at most two seconds per model and device.
    #[default]
    Quick,
    /// A kept profile, else estimates from FLOPs.
    Cached,
    /// Estimates from FLOPs.
    Off,
}

/// A model that comes with the binary.
#[derive(Clone, Debug)]
pub struct BuiltinModel {
    /// Its name.
    pub name: String,
    /// The ONNX file's bytes, without external data.
    pub onnx: Bytes,
    /// The text of its `model.toml`; may be empty.
    pub manifest: String,
    /// Its calibration, as a file beside it would hold it; empty where it has none.
    pub calibration: Bytes,
}
