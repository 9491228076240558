//! A plan: the proof that a proposed dispatch can run.

use bps_types::{DeviceId, HostId, QueueId, RequestId};

/// One stage of a checked plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanStage {
    /// Where it runs.
    pub device: DeviceId,
    /// Whose device that is.
    pub host: HostId,
    /// The cut at which it enters.
    pub from_cut: u32,
    /// The cut at which it leaves; greater than `from_cut`.
    pub until_cut: u32,
    /// How its input travels.
    pub codec: u8,
    /// The codec's rate.
    pub rate: u8,
}

/// A dispatch that has been checked: its requests wait in one queue and are named once, its stages cover every layer once
/// in order, its devices are up, allowed and credited, the links between its hosts are up. Made only by [`crate::check`]; immutable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub(crate) queue: QueueId,
    pub(crate) requests: Vec<RequestId>,
    pub(crate) stages: Vec<PlanStage>,
    pub(crate) micro_batch: u32,
    pub(crate) tag: u64,
    pub(crate) why: u32,
}

impl Plan {
    /// The stages, in order; the first enters at cut 0.
    pub fn stages(&self) -> &[PlanStage] {
        &self.stages
    }

    /// The requests, in the order their rows are executed.
    pub fn requests(&self) -> &[RequestId] {
        &self.requests
    }
}
