//! The helper's side of other hosts: stages that arrive are queued, joined, executed, and passed on or given back.

use super::Scheduler;
use super::dispatch::TIMEOUT_FACTOR;
use crate::arrivals::{self, Held, Joint, Range};
use crate::check::InvalidRow;
use crate::estimate::Observation;
use crate::flight::Author;
use crate::{
    Action, Advance, Arrival, Clamp, Failure, FailureKind, Input, Leaving, Next, PlanStage, Rejection, Run, Verdict,
};
use bps_types::policy::{Join, Trigger, bound};
use bps_types::{ArrivalId, ExecutionId, HostId, Nanos};

/// Why the host joins what its policy does not.
const LEFT_OVER: &str = "left over, for an idle device";

impl Scheduler {
    /// Takes in a stage from another host, or gives it back at once.
    pub(super) fn arrive(&mut self, arrival: Arrival, actions: &mut Vec<Action>) -> Option<Trigger> {
        let id = arrival.id;
        let taken = self
            .check_arrival(&arrival)
            .and_then(|part| if self.arrivals.push(arrival, part, self.now) { Ok(()) } else { Err(Rejection::Busy) });
        match taken {
            Ok(()) => {
                self.ledger.guests.arrived += 1;
                self.ledger.guests.waiting += 1;
                Some(Trigger::Arrival)
            }
            Err(reason) => {
                self.ledger.guests.refused += 1;
                actions.push(Action::Reject { arrival: id, reason });
                None
            }
        }
    }

    /// What it takes of its host's window, if it may come in.
    fn check_arrival(&self, arrival: &Arrival) -> Result<u64, Rejection> {
        let forbidden = |text: &str| Rejection::Forbidden(text.to_owned());
        let guest = self.world.guests.iter().find(|g| g.host == arrival.host);
        let guest = guest.ok_or_else(|| forbidden("no right to execute here"))?;
        let own = self.world.own_host().ok_or_else(|| forbidden("this host has no world yet"))?;
        let first = arrival.stages.first().ok_or_else(|| forbidden("a plan without stages"))?;
        let model = self.world.model(arrival.model).ok_or_else(|| forbidden("the model is not here"))?;
        if first.host != own || arrival.stages.len() > bound::STAGES {
            return Err(forbidden("the plan is not one for this host"));
        }
        if !model.devices.contains(&first.device.0) || !self.devices.contains_key(&first.device) {
            return Err(forbidden("the model does not run on that device"));
        }
        let mut from = first.from_cut;
        for stage in &arrival.stages {
            if stage.from_cut != from || stage.until_cut <= from {
                return Err(forbidden("the plan's cuts do not follow each other"));
            }
            from = stage.until_cut;
        }
        if from + 1 != model.cut_count {
            return Err(forbidden("the plan does not reach the model's output"));
        }
        if arrival.rows == 0 || arrival.rows > model.batch_max {
            return Err(forbidden("more rows than the model takes at once"));
        }
        if arrival.deadline.is_some_and(|d| d <= self.now) {
            return Err(Rejection::Expired);
        }
        let part = arrivals::part(arrival.rows, model.batch_max);
        let (held, bytes) = self.arrivals.load(arrival.host, first.device);
        if held + part > u64::from(guest.window) * arrivals::DISPATCH
            || bytes.saturating_add(arrival.bytes) > guest.bytes_max
        {
            return Err(Rejection::Busy);
        }
        Ok(part)
    }

    /// Its sender does not want it any more.
    pub(super) fn withdraw(&mut self, id: ArrivalId) {
        if self.arrivals.remove(id).is_some() {
            self.ledger.guests.waiting -= 1;
        } else if self.arrivals.abandon(id).is_some() {
            self.ledger.guests.running -= 1;
        } else {
            return;
        }
        self.ledger.guests.withdrawn += 1;
    }

    /// A host cannot be reached any more: nobody waits for what it sent.
    pub(super) fn guest_left(&mut self, host: HostId, actions: &mut Vec<Action>) {
        for id in self.arrivals.matching(|a| a.host == host) {
            self.withdraw(id);
            // The driver lets go of its input; there is nobody to tell.
            actions.push(Action::Reject { arrival: id, reason: Rejection::Expired });
        }
    }

    /// Gives back what waits and is too late.
    pub(super) fn expire_arrivals(&mut self, actions: &mut Vec<Action>) {
        if self.arrivals.next_deadline().is_none_or(|d| d > self.now) {
            return;
        }
        let now = self.now;
        for id in self.arrivals.matching(|a| a.deadline.is_some_and(|d| d <= now)) {
            if let Some(held) = self.arrivals.remove(id) {
                self.ledger.guests.waiting -= 1;
                self.reject(&held, Rejection::Expired, actions);
            }
        }
    }

    fn reject(&mut self, held: &Held, reason: Rejection, actions: &mut Vec<Action>) {
        self.ledger.guests.rejected += 1;
        actions.push(Action::Reject { arrival: held.arrival.id, reason });
    }

    /// Runs the arrived rows that a decision wants together; returns how many of its rows held and how many did not.
    pub(super) fn join(&mut self, joins: &[Join], author: &Author, actions: &mut Vec<Action>) -> (u64, u64) {
        let (mut valid, mut invalid) = (0, joins.len().saturating_sub(bound::DISPATCHES) as u64);
        for join in joins.iter().take(bound::DISPATCHES) {
            match self.join_one(join, (author, ""), actions) {
                Ok(()) => valid += 1,
                Err(reason) => {
                    invalid += 1;
                    tracing::debug!(%reason, arrived = join.arrived, "join row refused");
                }
            }
        }
        (valid, invalid)
    }

    /// `by` is who wants it, and why.
    fn join_one(&mut self, join: &Join, by: (&Author, &str), actions: &mut Vec<Action>) -> Result<(), InvalidRow> {
        let group = self.arrivals.group(join.arrived).ok_or(InvalidRow::UnknownArrived(join.arrived))?;
        if join.take_rows == 0 {
            return Err(InvalidRow::NothingToJoin);
        }
        let Range { model, device, from_cut, until_cut } = group.range;
        let state = self.devices.get_mut(&device).ok_or(InvalidRow::UnknownDevice(device.0))?;
        if !state.takes_work(self.now) {
            return Err(InvalidRow::DeviceDown(device.0));
        }
        if state.credits(self.now, self.config.device_credits) == 0 {
            return Err(InvalidRow::NoCredits(device.0));
        }
        let batch_max = self.world.model(model).map_or(1, |m| m.batch_max);
        let wanted = join.take_rows.min(batch_max);
        let seen = state.rows_max.get(&model).copied().filter(|seen| *seen < wanted);
        let taken = self.arrivals.take(join.arrived, seen.unwrap_or(wanted));
        let (range, held) = taken.ok_or(InvalidRow::UnknownArrived(join.arrived))?;
        let alone = held.iter().any(|h| h.alone).then_some(Clamp::Alone);
        let clamps = seen.map(Clamp::Rows).into_iter().chain(alone).collect();
        let rows = held.iter().map(|h| h.arrival.rows).sum();
        let predicted = self.costs.predict(model.0, device.0, rows, from_cut, until_cut);
        let execution = self.flights.next_execution();
        state.reserved += 1;
        let allowed = Nanos((state.backlog(self.now) + predicted).0.saturating_mul(TIMEOUT_FACTOR));
        state.started(execution, predicted, self.now);
        self.ledger.guests.waiting -= held.len() as u64;
        self.ledger.guests.running += held.len() as u64;
        let stage = held.first().map_or((0, 0), |h| (h.arrival.stages[0].codec, h.arrival.stages[0].rate));
        actions.push(Action::Run(Run {
            execution,
            device,
            model,
            from_cut,
            until_cut,
            codec: stage.0,
            rate: stage.1,
            input: Input::Arrivals(held.iter().map(|h| (h.arrival.id, h.arrival.rows)).collect()),
            rows,
            leave: self.leave_of(&held),
        }));
        let timeout = self.now + allowed.max(self.config.stage_timeout_floor);
        let receipt = self.joint_receipt(range, &held, predicted, by, clamps);
        let members = held.into_iter().map(|h| (h.arrival.rows, Some(h))).collect();
        self.arrivals.start(execution, Joint { range, members, rows, predicted, timeout, receipt });
        Ok(())
    }

    /// How the output leaves this host, where all of a joint goes the same way in one piece.
    fn leave_of(&self, held: &[Held]) -> Option<Leaving> {
        let [only] = held else { return None };
        let here = only.arrival.stages[0].host;
        let next = only.arrival.stages.get(1).filter(|next| next.host != here)?;
        // What may be lost is known where the plan is from.
        Some(Leaving { codec: next.codec, rate: next.rate, cap: None })
    }

    /// An execution of arrived rows ended well; none if it was not one.
    pub(super) fn joint_done(
        &mut self,
        execution: ExecutionId,
        elapsed: Nanos,
        coding: Nanos,
        actions: &mut Vec<Action>,
    ) -> Option<Trigger> {
        let joint = self.leave_joint(execution)?;
        let began = self.now - (elapsed + coding);
        let (device, range) = (joint.range.device, joint.range);
        if let Some(state) = self.devices.get_mut(&device) {
            state.learn(joint.predicted, elapsed);
        }
        let seen = Observation {
            model: range.model.0,
            device: device.0,
            rows: joint.rows,
            from_cut: range.from_cut,
            until_cut: range.until_cut,
            elapsed,
        };
        self.corrected.extend(self.costs.observe(seen, self.now));
        self.ledger.guests.executions += 1;
        self.ledger.guests.rows += u64::from(joint.rows);
        // Who has its answer finds its receipt.
        self.close_joint(joint.receipt, Some((began, elapsed + coding)), Verdict::Done, actions);
        let mut row = 0;
        for (rows, held) in joint.members {
            let first = row;
            row += rows;
            let Some(mut held) = held else { continue };
            self.ledger.guests.running -= 1;
            let rest = held.arrival.stages.split_off(1);
            let next = self.next_of(&rest, held.arrival.stages[0].host);
            actions.push(Action::Advance(Advance {
                arrival: held.arrival.id,
                execution,
                row: first,
                rows,
                batch_rows: joint.rows,
                device,
                arrived: held.arrived,
                began,
                elapsed: elapsed + coding,
                next: next.clone(),
            }));
            match next {
                Next::Origin => self.ledger.guests.returned += 1,
                Next::Host(..) => self.ledger.guests.passed += 1,
                Next::Here => {
                    let arrival = Arrival { stages: rest, ..held.arrival };
                    self.queue_again(Held { arrival, crossed: false, ..held }, actions);
                }
            }
        }
        actions.push(Action::Release(execution));
        Some(Trigger::Completion)
    }

    fn next_of(&self, rest: &[PlanStage], here: HostId) -> Next {
        match rest.first() {
            None => Next::Origin,
            Some(stage) if stage.host == here => Next::Here,
            Some(stage) => Next::Host(stage.host, rest.to_vec()),
        }
    }

    fn queue_again(&mut self, held: Held, actions: &mut Vec<Action>) {
        let held = Held { arrived: self.now, ..held };
        if self.arrivals.put(held.clone()) {
            self.ledger.guests.waiting += 1;
        } else {
            self.reject(&held, Rejection::Busy, actions);
        }
    }

    /// An execution of arrived rows ended badly; none if it was not one. What failed in company is tried alone once; what
    /// fails alone goes back.
    pub(super) fn joint_failed(
        &mut self,
        execution: ExecutionId,
        failure: &Failure,
        actions: &mut Vec<Action>,
    ) -> Option<Trigger> {
        let joint = self.leave_joint(execution)?;
        let device = joint.range.device;
        if let Some(state) = self.devices.get_mut(&device) {
            match failure.kind {
                FailureKind::DeviceLost => {
                    state.up = false;
                    actions.push(Action::Device { device, up: false });
                }
                FailureKind::OutOfMemory => {
                    state.rows_max.insert(joint.range.model, (joint.rows / 2).max(1));
                }
                FailureKind::Execution | FailureKind::Refused | FailureKind::Unreachable => {}
            }
        }
        self.close_joint(joint.receipt, None, Verdict::Failed(failure.message.clone()), actions);
        let company = joint.members.len() > 1 && failure.kind != FailureKind::DeviceLost;
        for held in joint.members.into_iter().filter_map(|(_, held)| held) {
            self.ledger.guests.running -= 1;
            if company && !held.alone {
                let alone = failure.kind == FailureKind::Execution;
                self.queue_again(Held { alone, ..held }, actions);
            } else {
                self.reject(&held, Rejection::Failed(failure.clone()), actions);
            }
        }
        actions.push(Action::Release(execution));
        Some(Trigger::Completion)
    }

    /// Gives up joints that have taken too long: their device is left alone until it answers.
    pub(super) fn time_out_joints(&mut self, actions: &mut Vec<Action>) -> bool {
        let (late, _) = self.arrivals.timed_out(self.now);
        for execution in &late {
            let Some(joint) = self.leave_joint(*execution) else { continue };
            let device = joint.range.device;
            if let Some(state) = self.devices.get_mut(&device) {
                state.stalled = true;
                actions.push(Action::Device { device, up: false });
            }
            self.flights.abandon(*execution, device);
            let message = format!("no answer from device {device} in time");
            let failure = Failure { kind: FailureKind::DeviceLost, message };
            self.close_joint(joint.receipt, None, Verdict::Failed(failure.message.clone()), actions);
            for held in joint.members.into_iter().filter_map(|(_, held)| held) {
                self.ledger.guests.running -= 1;
                self.reject(&held, Rejection::Failed(failure.clone()), actions);
            }
        }
        !late.is_empty()
    }

    fn leave_joint(&mut self, execution: ExecutionId) -> Option<Joint> {
        let joint = self.arrivals.finish(execution)?;
        if let Some(state) = self.devices.get_mut(&joint.range.device) {
            state.ended(execution, self.now);
            state.reserved = state.reserved.saturating_sub(1);
        }
        Some(joint)
    }

    /// Whether an arrived stage waits for a device that takes more.
    pub(super) fn joinable(&self) -> bool {
        let room = |g: &crate::arrivals::Group| {
            self.devices.get(&g.range.device).is_some_and(|d| d.credits(self.now, self.config.device_credits) > 0)
        };
        !self.arrivals.is_empty() && self.arrivals.groups().any(room)
    }

    /// Joins, for devices that would otherwise do nothing, what a policy that knows nothing of guests has left lying.
    pub(super) fn join_left_over(&mut self, actions: &mut Vec<Action>) {
        let idle = |g: &crate::arrivals::Group| {
            self.devices.get(&g.range.device).is_some_and(|d| d.takes_work(self.now) && d.reserved == 0)
        };
        let left: Vec<Join> = self
            .arrivals
            .groups()
            .filter(|g| idle(g))
            .map(|g| Join { arrived: g.id, take_rows: g.rows.min(u64::from(u32::MAX)) as u32 })
            .collect();
        let native = self.slot.native_author().clone();
        for join in left {
            // An earlier one of these may have taken the device.
            let _taken = self.join_one(&join, (&native, LEFT_OVER), actions);
        }
    }
}
