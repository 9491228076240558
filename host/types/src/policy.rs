//! The vocabulary of `bps:policy@0.1.0` as plain Rust: what the scheduler hands to a policy and takes back.
//!
//! Mirrors `wit/policy.wit` item by item; the documentation of each field is there. The plugin crate converts to and
//! from the generated bindings, so that nothing else knows wasmtime.

#![expect(missing_docs, reason = "wit/policy.wit documents every item; two texts would drift apart")]

use crate::Nanos;
use serde::{Deserialize, Serialize};

/// Most entries a list of each kind may have, as the WIT file states.
pub mod bound {
    pub const QUEUES: usize = 256;
    pub const QUEUE_HEAD: usize = 32;
    pub const DISPATCHES: usize = 256;
    pub const JOINS: usize = 256;
    pub const SHED: usize = 1_024;
    pub const STAGES: usize = 8;
    pub const OUTCOMES: usize = 256;
    pub const STATE_BYTES: usize = 1 << 20;
    pub const TABLE_BYTES: usize = 256 << 10;
}

/// Batch sizes that tables are made for.
pub const TABLE_BATCHES: [u32; 6] = [1, 2, 4, 8, 16, 32];

/// No deadline, in a `slack` column.
pub const NO_DEADLINE: i64 = i64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    Cpu,
    Gpu,
    Software,
}

impl DeviceKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Cpu, Self::Gpu, Self::Software];

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
            Self::Software => "software",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostInfo {
    pub id: u32,
    pub name: String,
    pub is_self: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceInfo {
    pub id: u32,
    pub host: u32,
    pub name: String,
    pub kind: DeviceKind,
    pub memory_bytes: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    pub id: u32,
    pub name: String,
    pub cut_count: u32,
    pub input_bytes: u64,
    pub output_bytes: u64,
    pub batch_max: u32,
    pub slo: Nanos,
    pub accuracy_budget_ppm: u32,
    pub priority: u8,
    pub devices: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CodecInfo {
    pub id: u8,
    pub name: String,
    pub rates: Vec<u8>,
    pub lossless: bool,
    pub for_input: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorldInfo {
    pub epoch: u32,
    pub hosts: Vec<HostInfo>,
    pub devices: Vec<DeviceInfo>,
    pub models: Vec<ModelInfo>,
    pub codecs: Vec<CodecInfo>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TableKind {
    StageNanos,
    CutBytes,
    CodecBits,
    CodecLossPpm,
    EncodeNanos,
    DecodeNanos,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    pub epoch: u32,
    pub model: u32,
    pub device: u32,
    pub codec: u8,
    pub kind: TableKind,
    pub measured: bool,
    pub shape: Vec<u32>,
    pub values: Vec<f32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trigger {
    #[default]
    Arrival,
    Completion,
    Timer,
    Change,
    Activation,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Queue {
    pub id: u32,
    pub model: u32,
    pub waiting: u32,
    pub waiting_rows: u32,
    pub oldest_wait: Nanos,
    pub arrivals_per_second: f32,
    pub head_start: u32,
    pub head_count: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Device {
    pub id: u32,
    pub up: bool,
    pub backlog: Nanos,
    pub running: u32,
    pub credits: u32,
    pub memory_free: Option<u64>,
    pub slowdown: f32,
    pub age: Nanos,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Link {
    pub source: u32,
    pub target: u32,
    pub up: bool,
    pub bytes_per_second: f32,
    pub rtt: Nanos,
    pub backlog_bytes: u64,
    pub age: Nanos,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Arrived {
    pub id: u32,
    pub model: u32,
    pub from_cut: u32,
    pub until_cut: u32,
    pub device: u32,
    pub waiting_rows: u32,
    pub oldest_wait: Nanos,
    pub least_slack: i64,
}

/// Bits of the `constraints` column.
pub mod constraint {
    /// The request must not leave this host.
    pub const LOCAL_ONLY: u8 = 1;
    /// The request must not meet a lossy codec.
    pub const LOSSLESS_ONLY: u8 = 2;
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    pub now: Nanos,
    pub trigger: Trigger,
    pub world_epoch: u32,
    pub queues: Vec<Queue>,
    pub devices: Vec<Device>,
    pub links: Vec<Link>,
    pub arrived: Vec<Arrived>,
    pub ids: Vec<u64>,
    pub rows: Vec<u32>,
    pub waits: Vec<u64>,
    pub slacks: Vec<i64>,
    pub priorities: Vec<u8>,
    pub attempts: Vec<u8>,
    pub constraints: Vec<u8>,
    pub flight_tags: Vec<u64>,
    pub flight_stages: Vec<u8>,
    pub flight_devices: Vec<u32>,
    pub flight_rows: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    pub device: u32,
    pub until_cut: u32,
    pub codec: u8,
    pub rate: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Selection {
    Head(u32),
    These(Vec<u64>),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispatch {
    pub queue: u32,
    pub requests: Selection,
    pub stages: Vec<Stage>,
    pub micro_batch: u32,
    pub tag: u64,
    pub why: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    pub arrived: u32,
    pub take_rows: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    pub dispatches: Vec<Dispatch>,
    pub joins: Vec<Join>,
    pub shed: Vec<u64>,
    pub wake_after: Option<Nanos>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub tag: u64,
    pub generation: u32,
    pub model: u32,
    pub rows: u32,
    pub wait: Nanos,
    pub total: Nanos,
    pub bytes: u64,
    pub stage_nanos: Vec<u64>,
    pub stage_devices: Vec<u32>,
    pub missed: u32,
    pub failed: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub name: String,
    pub version: String,
    pub summary: String,
    pub config_schema: String,
    pub state_schema: String,
    pub reasons: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub name: String,
    pub version: String,
    pub state_schema: String,
}
