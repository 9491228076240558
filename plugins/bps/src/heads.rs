//! Requests at a queue's head, by what they allow. Sets of them are bits: a snapshot shows 32 of a queue at most.

use bps_policy_planner::PlannedLane;
use bps_policy_sdk::Request;

/// Requests at the head that are not given out yet.
pub(crate) struct Heads {
    pub(crate) requests: Vec<Request>,
    /// By place: to be served in this round.
    pub(crate) open: u32,
    /// By place: may leave this host.
    pub(crate) may_leave: u32,
    /// By place: may meet a lossy codec.
    pub(crate) may_lose: u32,
    /// Given out by this decision.
    pub(crate) given: u32,
    pub(crate) unseen: u32,
}

impl Heads {
    /// Requests that may go along a lane.
    pub(crate) fn on(&self, lane: &PlannedLane) -> u32 {
        let leaves = if lane.lane.tail.is_some() { self.may_leave } else { u32::MAX };
        let loses = if lane.lane.lossless { u32::MAX } else { self.may_lose };
        self.open & leaves & loses
    }

    pub(crate) fn rows(&self, places: u32) -> u32 {
        bits(places).fold(0, |sum, at| sum.saturating_add(self.requests[at].rows))
    }
}

pub(crate) fn bits(mut set: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let at = set.trailing_zeros();
        set &= set.wrapping_sub(1);
        (at < 32).then_some(at as usize)
    })
}
