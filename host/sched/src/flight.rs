//! What has been dispatched and not yet ended, and how busy that makes each device.

use crate::plan::Plan;
use crate::queue::Waiting;
use crate::receipt::{Clamp, PolicyLabel};
use bps_types::{DeviceId, ExecutionId, Generation, ModelId, Nanos, RequestId};
use indexmap::IndexMap;
use std::collections::VecDeque;
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
    pub(crate) measured: Vec<Option<Nanos>>,
    /// When the running stage has taken too long.
    pub(crate) timeout: Nanos,
    pub(crate) author: Author,
    pub(crate) clamps: Vec<Clamp>,
}

/// Who chose a dispatch.
#[derive(Clone, Debug)]
pub(crate) struct Author {
    pub(crate) label: Arc<PolicyLabel>,
    pub(crate) generation: Generation,
    pub(crate) reasons: Arc<[String]>,
}

/// How a device stands.
#[derive(Debug)]
pub(crate) struct DeviceState {
    /// As the driver reports it.
    pub(crate) up: bool,
    /// A stage on it timed out; it is left alone until it answers.
    pub(crate) stalled: bool,
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

impl Default for DeviceState {
    fn default() -> Self {
        Self {
            up: true,
            stalled: false,
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
    pub(crate) fn takes_work(&self) -> bool {
        self.up && !self.stalled
    }

    pub(crate) fn credits(&self, max: u32) -> u32 {
        if self.takes_work() { max.saturating_sub(self.reserved) } else { 0 }
    }

    /// Predicted time until all it holds is done: what is promised less what the running one has had.
    pub(crate) fn backlog(&self, now: Nanos) -> Nanos {
        let Some((_, first)) = self.outstanding.front() else { return Nanos::ZERO };
        let sum = self.outstanding.iter().fold(Nanos::ZERO, |sum, (_, p)| sum + *p);
        sum - now.since(self.front_since).min(*first)
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
        self.abandoned.insert(execution, device);
    }

    pub(crate) fn take_abandoned(&mut self, execution: ExecutionId) -> Option<DeviceId> {
        self.abandoned.swap_remove(&execution)
    }

    /// Executions whose stage has timed out, and the next time one will.
    pub(crate) fn timed_out(&self, now: Nanos) -> (Vec<ExecutionId>, Option<Nanos>) {
        let late = self.flights.iter().filter(|(_, f)| f.timeout <= now).map(|(e, _)| *e).collect();
        let next = self.flights.values().map(|f| f.timeout).filter(|t| *t > now).min();
        (late, next)
    }
}
