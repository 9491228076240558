//! Receipts: what was decided, by whom, and what came of it. Traces, dashboards and replays are made of them.

use crate::StageTime;
use bps_types::{Generation, Nanos, Trace};
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
    /// What it took; for or by another host, decoding and encoding included. None where it did not end.
    pub measured: Option<Nanos>,
    /// How long its input had been on its host when it began, in line and behind others on the device; for several, the
    /// longest. Known for stages for or by another host.
    pub waited: Option<Nanos>,
    /// When it began, on this host's clock; none where it did not end.
    pub began: Option<Nanos>,
}

impl ReceiptStage {
    /// Notes how it went.
    pub(crate) fn went(&mut self, time: StageTime) {
        self.measured = Some(time.elapsed);
        self.waited = time.waited;
        self.began = Some(time.began);
    }
}

/// What the host changed about a plan that was otherwise in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Clamp {
    /// The batch was cut into pieces of at most this many rows, since the device ran out of memory with more.
    Rows(u32),
    /// A request that had failed in company was executed by itself.
    Alone,
    /// What left this host took more than twice the bytes that were planned for, and was encoded at this rate instead.
    Coarser(u8),
}

/// How a dispatch ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// All its stages were executed.
    Done,
    /// A stage failed; its requests were queued again or given up.
    Failed(String),
}

/// The record of one executed piece of a dispatch, or of stages of other hosts' plans that were executed together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// When it was dispatched, or joined.
    pub at: Nanos,
    /// When it ended.
    pub ended: Nanos,
    /// The hosts whose plans' stages these were, by name, in the order of their rows; empty: this host's own requests.
    #[serde(rename = "for")]
    pub for_hosts: Vec<Arc<str>>,
    /// What tools follow it by: the trace of its oldest request, or stage, that has one. One is made up for a plan that
    /// leaves this host without.
    pub trace: Option<Trace>,
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
    /// Requests in it, or stages that arrived.
    pub requests: u32,
    /// Rows in it.
    pub rows: u32,
    /// The longest that one of them had waited in line.
    pub wait: Nanos,
    /// The plan, and how it went.
    pub stages: Vec<ReceiptStage>,
    /// Bytes of encoded values that the cut tables say cross links.
    pub bytes_predicted: u64,
    /// Bytes that crossed links, whole messages: for other hosts, as far as this host knows, their input.
    pub bytes: u64,
    /// What the host changed.
    pub clamps: Vec<Clamp>,
    /// How it ended.
    pub verdict: Verdict,
}

impl Receipt {
    /// Whether it is of this host's own requests.
    pub fn is_own(&self) -> bool {
        self.for_hosts.is_empty()
    }
}
