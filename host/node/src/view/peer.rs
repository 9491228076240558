//! Other hosts as data.

use serde::Serialize;

/// This host, as others know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OwnPeerView {
    /// What it calls itself.
    pub name: String,
    /// SHA-256 of its certificate in hex: who it is.
    pub fingerprint: String,
    /// Where it is met; none: it only connects to others.
    pub listening: Option<String>,
}

/// A paired host.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PeerView {
    /// What it is called here.
    pub name: String,
    /// SHA-256 of its certificate in hex: who it is.
    pub fingerprint: String,
    /// Its number in the world that policies see; none before it was there.
    pub host: Option<u32>,
    /// Whether a session stands.
    pub up: bool,
    /// Whether work can be sent there: its advert and an estimate of the link have come.
    pub usable: bool,
    /// Seconds since the session came or went; none if there never was one.
    pub since_seconds: Option<f64>,
    /// Why there is no session.
    pub reason: Option<String>,
    /// What carries the session: `quic` or `tcp`.
    pub carrier: Option<String>,
    /// Where it is dialled; none: it dials this host.
    pub address: Option<String>,
    /// Round trip, nanoseconds.
    pub rtt_ns: Option<u64>,
    /// Goodput towards it.
    pub bytes_per_second: Option<f32>,
    /// Bytes on the way to it.
    pub backlog_bytes: Option<u64>,
    /// Its clock minus this host's.
    pub clock_offset_ns: Option<i64>,
    /// Bytes of messages sent to it.
    pub sent_bytes: u64,
    /// Bytes of messages that came from it.
    pub received_bytes: u64,
    /// What it may do here.
    pub may: PeerRights,
    /// What it lets this host do; none before it has said.
    pub grants: Option<PeerGrants>,
    /// Its devices.
    pub devices: Vec<PeerDeviceView>,
    /// Its models.
    pub models: Vec<PeerModelView>,
    /// Models of this host that may run there now, by name.
    pub models_shared: Vec<String>,
}

/// What a peer may do here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PeerRights {
    /// Have stages executed.
    pub execute: bool,
    /// Fetch exportable models.
    pub fetch_models: bool,
    /// Dispatches at once per device.
    pub window: u32,
    /// Bytes of its activations at once.
    pub bytes_max: u64,
}

/// What a peer lets this host do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PeerGrants {
    /// Dispatches at once per device; 0: none may be executed.
    pub window: u32,
    /// Models that may be fetched.
    pub exportable_models: usize,
}

/// A peer's device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeerDeviceView {
    /// As this host's policies call it; none before the world has it.
    pub id: Option<u32>,
    /// For example `cpu` or `gpu:0`.
    pub name: String,
    /// `cpu`, `gpu` or `software`.
    pub kind: bps_types::policy::DeviceKind,
    /// Whether it takes work; none before it was heard of.
    pub up: Option<bool>,
    /// Predicted time until all it holds is done, nanoseconds.
    pub backlog_ns: Option<u64>,
    /// Executions it holds.
    pub running: Option<u32>,
}

/// A peer's model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeerModelView {
    /// What it is called there.
    pub name: String,
    /// SHA-256 of its file, and of the tensors beside it, in hex.
    pub digest: String,
    /// Whether it is here too.
    pub shared: SharedModel,
    /// Of a model that is here too and that one of the two hosts has a calibration of: whether both have the same. FF uses
    /// none while any two hosts that run it differ.
    pub same_calibration: Option<bool>,
    /// Whether this host may fetch it.
    pub exportable: bool,
    /// Bytes of its files; 0 where it may not be fetched.
    pub file_bytes: u64,
    /// Bytes that have come, of a fetch under way.
    pub fetching_bytes: Option<u64>,
}

/// Whether a peer's model is here too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SharedModel {
    /// No.
    Absent,
    /// It is this host's own.
    Own,
    /// It was fetched, for stages of other hosts; clients do not see it.
    Fetched,
    /// The file is here, but its layers are numbered differently: splits are refused, whole models are sent.
    OtherCuts,
}
