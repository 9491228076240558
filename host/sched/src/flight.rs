//! What has been dispatched and not yet ended, and how busy that makes each device.

use crate::StageTime;
use crate::check::Hop;
use crate::plan::Plan;
use crate::queue::Waiting;
use crate::receipt::{Clamp, PolicyLabel};
use bps_types::{DeviceId, ExecutionId, Generation, HostId, ModelId, Nanos, RequestId, Trace};
use indexmap::IndexMap;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// A request in a flight.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) waiting: Waiting,
    /// It expired or was cancelled: its rows are executed, its answer dropped.
    pub(crate) gone: bool,
}

/// One piece of a dispatch on its way through its stages.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) group: u64,
    pub(crate) plan: Arc<Plan>,
    pub(crate) model: ModelId,
    /// Index of the stage that runs.
    pub(crate) stage: usize,
    pub(crate) execution: ExecutionId,
    pub(crate) members: Vec<Member>,
    pub(crate) rows: u32,
    pub(crate) at: Nanos,
    /// Arrival of its oldest request.
    pub(crate) oldest: Nanos,
    pub(crate) predicted: Vec<Nanos>,
    /// How its stages went; none for those that have not ended.
    pub(crate) times: Vec<Option<StageTime>>,
    /// Bytes that crossed links for it.
    pub(crate) bytes: u64,
    /// The host that was handed the rest of the plan.
    pub(crate) away: Option<HostId>,
    /// When the running stage has taken too long.
    pub(crate) timeout: Nanos,
    pub(crate) author: Author,
    pub(crate) clamps: Vec<Clamp>,
    /// That of its oldest request that has one; made up when it leaves without.
    pub(crate) trace: Option<Trace>,
}

impl Flight {
    /// The stages that are executing now: one on this host, or the whole rest of the plan on others.
    pub(crate) fn leg(&self) -> Range<usize> {
        let end = if self.away.is_some() { self.plan.stages.len() } else { self.stage + 1 };
        self.stage..end
    }

    /// Whether what is executing now crosses a link, the answer's way to `own` included.
    pub(crate) fn crosses(&self, own: HostId, hop: Hop) -> bool {
        let mut here = own;
        let hosts = self.plan.stages[self.leg()].iter().map(|s| s.host).chain([own]);
        self.away.is_some()
            && hosts.into_iter().any(|next| Hop { source: std::mem::replace(&mut here, next), target: next } == hop)
    }
}

/// Who chose a dispatch.
#[derive(Clone, Debug)]
pub(crate) struct Author {
    pub(crate) label: Arc<PolicyLabel>,
    pub(crate) generation: Generation,
    pub(crate) reasons: Arc<[String]>,
}

/// Executions of one device that were given up and may still answer. A device of this host has no more than its credits of
/// them; another host that was told so never answers, and nothing depends on being told that it does.
const ABANDONED_MAX: usize = 256;

/// By how much one execution may seem slower or quicker than believed.
const SLOWDOWN_STEP: f32 = 4.0;

/// How a device stands.
#[derive(Debug)]
pub(crate) struct DeviceState {
    /// As the driver reports it.
    pub(crate) up: bool,
    /// A stage on it timed out; it is left alone until it answers.
    pub(crate) stalled: bool,
    /// Another host's: what it takes from this one at once, and what it last said of itself. None for our own.
    pub(crate) remote: Option<Remote>,
    pub(crate) memory_free: Option<u64>,
    /// Stages promised to it by dispatches that have not yet left it.
    pub(crate) reserved: u32,
    /// Executions it holds, oldest first, with their predicted time.
    pub(crate) outstanding: VecDeque<(ExecutionId, Nanos)>,
    /// Since when the first of them has been the first.
    pub(crate) front_since: Nanos,
    /// Measured over predicted, smoothed.
    pub(crate) slowdown: f32,
    /// Most rows it has been seen to have memory for, per model, after it ran out.
    pub(crate) rows_max: IndexMap<ModelId, u32>,
}

/// What is known of another host's device.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Remote {
    pub(crate) window: u32,
    /// Links lead there and back.
    pub(crate) reachable: bool,
    /// It refused or was silent; it is left alone until then.
    pub(crate) paused_until: Nanos,
    /// What it holds, whoever gave it, and when it said so.
    pub(crate) backlog: Nanos,
    pub(crate) running: u32,
    pub(crate) heard: Nanos,
}

impl Default for DeviceState {
    fn default() -> Self {
        Self {
            up: true,
            stalled: false,
            remote: None,
            memory_free: None,
            reserved: 0,
            outstanding: VecDeque::new(),
            front_since: Nanos::ZERO,
            slowdown: 1.0,
            rows_max: IndexMap::new(),
        }
    }
}

impl DeviceState {
    pub(crate) fn takes_work(&self, now: Nanos) -> bool {
        let there = self.remote.is_none_or(|r| r.reachable && r.paused_until <= now);
        self.up && !self.stalled && there
    }

    /// Dispatches it still takes; `own` is what a device of this host takes in all.
    pub(crate) fn credits(&self, now: Nanos, own: u32) -> u32 {
        let all = self.remote.map_or(own, |r| r.window);
        if self.takes_work(now) { all.saturating_sub(self.reserved) } else { 0 }
    }

    /// Predicted time until all it holds is done: what is promised less what the running one has had. Another host's
    /// device may hold more than this host gave it.
    pub(crate) fn backlog(&self, now: Nanos) -> Nanos {
        let said = self.remote.map_or(Nanos::ZERO, |r| r.backlog - now.since(r.heard));
        let Some((_, first)) = self.outstanding.front() else { return said };
        let sum = self.outstanding.iter().fold(Nanos::ZERO, |sum, (_, p)| sum + *p);
        said.max(sum - now.since(self.front_since).min(*first))
    }

    /// Executions it holds.
    pub(crate) fn running(&self) -> u32 {
        self.remote.map_or(0, |r| r.running).max(self.outstanding.len() as u32)
    }

    /// How old what is known of it is.
    pub(crate) fn age(&self, now: Nanos) -> Nanos {
        self.remote.map_or(Nanos::ZERO, |r| now.since(r.heard))
    }

    pub(crate) fn started(&mut self, execution: ExecutionId, predicted: Nanos, now: Nanos) {
        if self.outstanding.is_empty() {
            self.front_since = now;
        }
        self.outstanding.push_back((execution, predicted));
    }

    pub(crate) fn ended(&mut self, execution: ExecutionId, now: Nanos) {
        if let Some(at) = self.outstanding.iter().position(|(e, _)| *e == execution) {
            self.outstanding.remove(at);
            self.front_since = now;
        }
    }

    pub(crate) fn learn(&mut self, predicted: Nanos, measured: Nanos) {
        if predicted > Nanos::ZERO {
            let ratio = (measured.0 as f64 / predicted.0 as f64) as f32;
            // A device that is slow once may be given nothing for long, and is then not measured again: one execution
            // counts as at most so much slower or quicker than believed.
            let ratio = ratio.clamp(self.slowdown / SLOWDOWN_STEP, self.slowdown * SLOWDOWN_STEP);
            self.slowdown = (self.slowdown + 0.1 * (ratio - self.slowdown)).clamp(1e-3, 1e3);
        }
    }
}

/// All flights, by execution.
#[derive(Default)]
pub(crate) struct Flights {
    flights: IndexMap<ExecutionId, Flight>,
    /// Which execution holds a running request.
    members: IndexMap<RequestId, ExecutionId>,
    /// Pieces of each dispatch that have yet to pass each stage; a device's promise ends when all have.
    groups: IndexMap<u64, Vec<u32>>,
    /// Executions that were given up and may still answer, with their device.
    abandoned: IndexMap<ExecutionId, DeviceId>,
    next_execution: u64,
    next_group: u64,
}

impl Flights {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Flight> {
        self.flights.values()
    }

    /// The host that was handed what is left of an execution's plan.
    pub(crate) fn away(&self, execution: ExecutionId) -> Option<HostId> {
        self.flights.get(&execution)?.away
    }

    pub(crate) fn next_execution(&mut self) -> ExecutionId {
        self.next_execution += 1;
        ExecutionId(self.next_execution)
    }

    /// Opens a group of `pieces` pieces over `stages` stages.
    pub(crate) fn open_group(&mut self, pieces: u32, stages: usize) -> u64 {
        self.next_group += 1;
        self.groups.insert(self.next_group, vec![pieces; stages]);
        self.next_group
    }

    /// One piece of a group has passed a stage; true when it was the last.
    pub(crate) fn passed(&mut self, group: u64, stage: usize) -> bool {
        let Some(left) = self.groups.get_mut(&group) else { return false };
        left[stage] = left[stage].saturating_sub(1);
        let last = left[stage] == 0;
        if left.iter().all(|n| *n == 0) {
            self.groups.swap_remove(&group);
        }
        last
    }

    pub(crate) fn insert(&mut self, flight: Flight) {
        let execution = flight.execution;
        for member in flight.members.iter().filter(|m| !m.gone) {
            self.members.insert(member.waiting.request.id, execution);
        }
        self.flights.insert(execution, flight);
    }

    /// Takes a flight out; its members are nowhere until put back or ended.
    pub(crate) fn take(&mut self, execution: ExecutionId) -> Option<Flight> {
        let flight = self.flights.swap_remove(&execution)?;
        for member in flight.members.iter().filter(|m| !m.gone) {
            self.members.swap_remove(&member.waiting.request.id);
        }
        Some(flight)
    }

    /// Marks a running request as gone and returns its deadline; none if it does not run.
    pub(crate) fn forget(&mut self, id: RequestId) -> Option<Option<Nanos>> {
        let execution = self.members.swap_remove(&id)?;
        let member = self.flights.get_mut(&execution)?.members.iter_mut().find(|m| m.waiting.request.id == id)?;
        member.gone = true;
        Some(member.waiting.request.deadline)
    }

    pub(crate) fn contains(&self, id: RequestId) -> bool {
        self.members.contains_key(&id)
    }

    pub(crate) fn abandon(&mut self, execution: ExecutionId, device: DeviceId) {
        let mut same = self.abandoned.iter().filter(|(_, d)| **d == device).map(|(execution, _)| *execution);
        if let Some(oldest) = same.next().filter(|_| same.count() + 1 >= ABANDONED_MAX) {
            self.abandoned.shift_remove(&oldest);
        }
        self.abandoned.insert(execution, device);
    }

    /// Forgets executions that were given up and will not answer, since their device is out of reach.
    pub(crate) fn forget_abandoned(&mut self, lost: impl Fn(DeviceId) -> bool) {
        self.abandoned.retain(|_, device| !lost(*device));
    }

    /// Flights that match.
    pub(crate) fn matching(&self, matches: impl Fn(&Flight) -> bool) -> Vec<ExecutionId> {
        self.flights.iter().filter(|(_, f)| matches(f)).map(|(e, _)| *e).collect()
    }

    /// The flight on another host that nobody waits for since `forget`, if it is one.
    pub(crate) fn deserted(&self) -> Option<ExecutionId> {
        let deserted = |f: &Flight| f.away.is_some() && f.members.iter().all(|m| m.gone);
        self.flights.iter().find(|(_, f)| deserted(f)).map(|(e, _)| *e)
    }

    pub(crate) fn take_abandoned(&mut self, execution: ExecutionId) -> Option<DeviceId> {
        self.abandoned.shift_remove(&execution)
    }

    /// Executions whose stage has timed out, and the next time one will.
    pub(crate) fn timed_out(&self, now: Nanos) -> (Vec<ExecutionId>, Option<Nanos>) {
        let late = self.flights.iter().filter(|(_, f)| f.timeout <= now).map(|(e, _)| *e).collect();
        let next = self.flights.values().map(|f| f.timeout).filter(|t| *t > now).min();
        (late, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_execution_is_not_believed_and_many_are() {
        let mut device = DeviceState::default();
        device.learn(Nanos(1_000), Nanos(1_000_000));
        assert!(device.slowdown < 1.5, "{}", device.slowdown);
        (0..60).for_each(|_| device.learn(Nanos(1_000), Nanos(1_000_000)));
        assert!(device.slowdown > 900.0, "{}", device.slowdown);
    }
}
