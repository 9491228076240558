//! The origin's side of other hosts: plans that leave, their answers, and what is known of devices and links elsewhere.

use super::Scheduler;
use crate::cap;
use crate::check::Hop;
use crate::flight::{Flight, Remote};
use crate::{Action, Clamp, Crossing, Failure, FailureKind, Forward, Input, LinkReport, StageTime, Standing};
use bps_types::policy::Trigger;
use bps_types::{DeviceId, ExecutionId, HostId, Nanos, Trace};

/// What is away may take this many times its prediction.
const TIMEOUT_FACTOR: u64 = 4;

impl Scheduler {
    /// Hands the rest of a flight's plan to the host that has its next stage.
    pub(super) fn forward(&mut self, mut flight: Flight, input: Input, actions: &mut Vec<Action>) {
        let host = flight.plan.stages[flight.stage].host;
        flight.away = Some(host);
        let mut predicted = self.predict_way(&flight);
        for index in flight.leg() {
            let Some(device) = self.devices.get_mut(&flight.plan.stages[index].device) else { continue };
            predicted = predicted + device.backlog(self.now) + flight.predicted[index];
            device.started(flight.execution, flight.predicted[index], self.now);
        }
        let allowed = Nanos(predicted.0.saturating_mul(TIMEOUT_FACTOR));
        flight.timeout = self.now + allowed.max(self.config.remote_timeout_floor);
        let trace = *flight.trace.get_or_insert_with(|| made_up(self.config.trace_prefix, flight.execution));
        let waiting = || flight.members.iter().filter(|m| !m.gone).map(|m| &m.waiting.request);
        actions.push(Action::Forward(Forward {
            execution: flight.execution,
            host,
            model: flight.model,
            stages: flight.plan.stages[flight.leg()].to_vec(),
            input,
            rows: flight.rows,
            deadline: waiting().map(|r| r.deadline).min_by_key(|d| d.unwrap_or(Nanos::MAX)).flatten(),
            priority: waiting().map(|r| r.priority).max().unwrap_or(0),
            trace,
            cap: self.cap_of(&flight, flight.stage),
        }));
        self.flights.insert(flight);
    }

    /// Predicted time on links, there and back.
    fn predict_way(&self, flight: &Flight) -> Nanos {
        let Some(own) = self.world.own_host() else { return Nanos::ZERO };
        let (mut here, mut sum) = (own, Nanos::ZERO);
        for stage in &flight.plan.stages[flight.leg()] {
            if stage.host != here {
                let bytes = self.costs.crossing_bytes(flight.model.0, stage, flight.rows);
                sum += self.links.predict(here, stage.host, bytes);
            }
            here = stage.host;
        }
        let output = self.world.model(flight.model).map_or(0, |m| m.output_bytes);
        sum + self.links.predict(here, own, output * u64::from(flight.rows))
    }

    /// A plan came back with a result.
    pub(super) fn came_back(
        &mut self,
        execution: ExecutionId,
        stages: &[StageTime],
        bytes: Crossing,
        actions: &mut Vec<Action>,
    ) -> Option<Trigger> {
        let Some(mut flight) = self.flights.take(execution) else { return self.stale(execution, actions) };
        flight.bytes += bytes.sent + bytes.received;
        let mut first = flight.plan.stages[flight.stage];
        if let Some(rate) = bytes.coarser {
            flight.clamps.push(Clamp::Coarser(rate));
            // At the rate of the plan it took more than the cap, and is believed to take that from now on: a rate that is
            // thought too small would be planned for ever.
            let planned = self.costs.crossing_bytes(flight.model.0, &first, flight.rows);
            let more = planned.saturating_mul(cap::FACTOR);
            let seen = self.costs.observe_bytes(flight.model.0, &first, flight.rows, more, self.now);
            self.corrected.extend(seen);
            first.rate = rate;
        }
        let seen = self.costs.observe_bytes(flight.model.0, &first, flight.rows, bytes.values, self.now);
        self.corrected.extend(seen);
        self.leave_devices(&mut flight, stages);
        self.go_on(flight, execution, actions)
    }

    /// A link changed. What was on its way over one that went down is tried elsewhere; what came over it is dropped, for
    /// its origin does the same.
    pub(super) fn link_changed(&mut self, report: LinkReport, actions: &mut Vec<Action>) -> Option<Trigger> {
        let changed = self.links.take(report, self.now);
        self.reach();
        if !report.up {
            self.lose(report.source, report.target, actions);
        }
        changed.then_some(Trigger::Change)
    }

    fn lose(&mut self, source: HostId, target: HostId, actions: &mut Vec<Action>) {
        let Some(own) = self.world.own_host() else { return };
        let hop = Hop { source, target };
        for execution in self.flights.matching(|f| f.crosses(own, hop)) {
            let Some(flight) = self.flights.take(execution) else { continue };
            self.recall(&flight, actions);
            actions.push(Action::Release(execution));
            let message = format!("the link from host {source} to host {target} went down");
            self.give_up(flight, &Failure { kind: FailureKind::Unreachable, message }, actions);
        }
        let lost: Vec<DeviceId> =
            self.devices.iter().filter(|(_, d)| d.remote.is_some_and(|r| !r.reachable)).map(|(id, _)| *id).collect();
        self.flights.forget_abandoned(|device| lost.contains(&device));
        if target == own || source == own {
            self.guest_left(if target == own { source } else { target }, actions);
        }
    }

    /// Works out anew which devices of other hosts can be reached.
    pub(super) fn reach(&mut self) {
        let Some(own) = self.world.own_host() else { return };
        for (id, device) in &mut self.devices {
            let Some(host) = self.world.host_of(*id) else { continue };
            let window = self.world.windows.iter().find(|w| w.device == *id).map_or(0, |w| w.dispatches);
            let before = device.remote.unwrap_or_default();
            let reachable = self.links.up(own, host) && self.links.up(host, own);
            device.remote = (host != own).then_some(Remote { window, reachable, ..before });
        }
    }

    /// A peer said how its device stands.
    pub(super) fn hear(&mut self, standing: Standing) -> Option<Trigger> {
        let now = self.now;
        let device = self.devices.get_mut(&standing.device)?;
        let remote = device.remote.as_mut()?;
        let had_room = remote.paused_until <= now && device.up;
        (remote.backlog, remote.running, remote.heard) = (standing.backlog, standing.running, now);
        device.up = standing.up;
        device.memory_free = standing.memory_free;
        (device.up && !had_room).then_some(Trigger::Change)
    }

    /// Tells every host on the way of what is away, as far as it can be told, that nobody waits any more: whoever was
    /// handed it may have passed it on.
    pub(super) fn recall(&self, flight: &Flight, actions: &mut Vec<Action>) {
        let Some(own) = self.world.own_host().filter(|_| flight.away.is_some()) else { return };
        let stages = &flight.plan.stages[flight.leg()];
        for (index, host) in stages.iter().map(|s| s.host).enumerate() {
            let told = stages[..index].iter().any(|s| s.host == host);
            if !told && self.links.up(own, host) {
                actions.push(Action::Recall { execution: flight.execution, host });
            }
        }
    }

    /// Takes back what is away and nobody waits for any more.
    pub(super) fn recall_deserted(&mut self, actions: &mut Vec<Action>) {
        while let Some(execution) = self.flights.deserted() {
            let Some(mut flight) = self.flights.take(execution) else { return };
            self.recall(&flight, actions);
            self.leave_devices(&mut flight, &[]);
            let message = "nobody waits for it any more".to_owned();
            let gone = flight.members.len() as u32;
            self.ledger.late += u64::from(gone);
            self.close(&flight, crate::Verdict::Failed(message), gone, 0, actions);
            self.flights.abandon(execution, flight.plan.stages[flight.stage].device);
            actions.push(Action::Release(execution));
        }
    }
}

/// A trace for a plan that no client follows, so that what other hosts say of it can be told to be about it.
fn made_up(prefix: u64, execution: ExecutionId) -> Trace {
    let trace_id = (u128::from(prefix) << 64) | u128::from(execution.0);
    Trace { trace_id: trace_id.to_be_bytes(), span_id: execution.0.to_be_bytes(), flags: 1 }
}
