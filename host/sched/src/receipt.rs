//! Receipts: what was decided, by whom, and what came of it. Traces, dashboards and replays are made of them.

use bps_types::{Generation, Nanos};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Which policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyLabel {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of its component in hex, or `native`.
    pub digest: String,
}

/// One stage as it was planned and as it went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptStage {
    /// Device id.
    pub device: u32,
    /// The device in words; another host's with that host's name before it, as in `server/cpu`.
    pub on: Arc<str>,
    /// The cut at which it entered.
    pub from_cut: u32,
    /// The cut at which it left.
    pub until_cut: u32,
    /// The codec in words, where the input crossed a link.
    pub via: Option<Arc<str>>,
    /// How its input travelled.
    pub codec: u8,
    /// The codec's rate.
    pub rate: u8,
    /// What the cost tables said.
    pub predicted: Nanos,
    /// What it took; none where it did not end.
    pub measured: Option<Nanos>,
    /// When it began, on this host's clock; none where it did not end.
    pub began: Option<Nanos>,
}

/// What the host changed about a plan that was otherwise in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Clamp {
    /// The batch was cut into pieces of at most this many rows, since the device ran out of memory with more.
    Rows(u32),
    /// A request that had failed in company was executed by itself.
    Alone,
}

/// How a dispatch ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// All its stages were executed.
    Done,
    /// A stage failed; its requests were queued again or given up.
    Failed(String),
}

/// The record of one executed piece of a dispatch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// When it was dispatched.
    pub at: Nanos,
    /// When it ended.
    pub ended: Nanos,
    /// Who chose it.
    pub policy: Arc<PolicyLabel>,
    /// Which generation.
    pub generation: Generation,
    /// The policy's mark.
    pub tag: u64,
    /// The policy's reason, in words.
    pub why: String,
    /// The model's name.
    pub model: Arc<str>,
    /// Requests in it.
    pub requests: u32,
    /// Rows in it.
    pub rows: u32,
    /// The longest that one of its requests had waited.
    pub wait: Nanos,
    /// The plan, and how it went.
    pub stages: Vec<ReceiptStage>,
    /// Bytes that the cut tables say cross links.
    pub bytes_predicted: u64,
    /// Bytes that crossed links.
    pub bytes: u64,
    /// What the host changed.
    pub clamps: Vec<Clamp>,
    /// How it ended.
    pub verdict: Verdict,
}
