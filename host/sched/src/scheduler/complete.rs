//! The end of an execution: the next stage, the answers, or another try.

use super::Scheduler;
use crate::estimate::Observation;
use crate::flight::Flight;
use crate::{Action, Answer, Failure, FailureKind, Input, Refusal, StageTime, Verdict};
use bps_types::policy::Trigger;
use bps_types::{ExecutionId, Nanos};

/// Times a request may come back from other hosts unexecuted before that counts as a failed attempt.
const BOUNCES_MAX: u8 = 8;

impl Scheduler {
    pub(super) fn stage_done(
        &mut self,
        execution: ExecutionId,
        elapsed: Nanos,
        coding: Nanos,
        actions: &mut Vec<Action>,
    ) -> Option<Trigger> {
        let Some(mut flight) = self.flights.take(execution) else { return self.stale(execution, actions) };
        let began = self.now - (elapsed + coding);
        let time = StageTime { waited: None, began, elapsed, batch_rows: flight.rows };
        self.leave_devices(&mut flight, &[time]);
        self.go_on(flight, execution, actions)
    }

    /// What follows on an execution that ended well: the next stage, or the answers.
    pub(super) fn go_on(
        &mut self,
        mut flight: Flight,
        execution: ExecutionId,
        actions: &mut Vec<Action>,
    ) -> Option<Trigger> {
        let next = flight.leg().end;
        if next < flight.plan.stages.len() && flight.members.iter().any(|m| !m.gone) {
            flight.stage = next;
            self.launch(flight, Input::Execution(execution), actions);
            return Some(Trigger::Completion);
        }
        self.abandon_later_stages(&flight);
        self.answer(&flight, execution, actions);
        actions.push(Action::Release(execution));
        Some(Trigger::Completion)
    }

    pub(super) fn stage_failed(
        &mut self,
        execution: ExecutionId,
        failure: &Failure,
        actions: &mut Vec<Action>,
    ) -> Option<Trigger> {
        let Some(flight) = self.flights.take(execution) else { return self.stale(execution, actions) };
        let id = flight.plan.stages[flight.stage].device;
        let until = self.now + self.config.remote_pause;
        if let Some(device) = self.devices.get_mut(&id) {
            match failure.kind {
                FailureKind::Execution => {}
                // Another host's device is as its host says; until it does, it is left alone. That holds where the way on
                // from there is what failed, too: a policy that knows no other way would bounce off it until the requests
                // have failed, before anybody could tell that it is down.
                FailureKind::DeviceLost | FailureKind::Refused | FailureKind::Unreachable => match &mut device.remote {
                    Some(remote) => remote.paused_until = until,
                    None if failure.kind == FailureKind::Unreachable => {}
                    None => {
                        device.up = false;
                        actions.push(Action::Device { device: id, up: false });
                    }
                },
                FailureKind::OutOfMemory => {
                    device.rows_max.insert(flight.model, (flight.rows / 2).max(1));
                }
            }
        }
        self.give_up(flight, failure, actions);
        Some(Trigger::Completion)
    }

    /// A stage has had its time: its device is left alone until it answers, its requests are tried elsewhere.
    pub(super) fn stage_timed_out(&mut self, execution: ExecutionId, actions: &mut Vec<Action>) {
        let Some(flight) = self.flights.take(execution) else { return };
        let id = flight.plan.stages[flight.stage].device;
        let until = self.now + Nanos(self.config.remote_timeout_floor.0);
        if let Some(device) = self.devices.get_mut(&id) {
            match &mut device.remote {
                Some(remote) => remote.paused_until = until,
                None => {
                    device.stalled = true;
                    actions.push(Action::Device { device: id, up: false });
                }
            }
        }
        if flight.away.is_some() {
            self.recall(&flight, actions);
            actions.push(Action::Release(execution));
        }
        self.flights.abandon(execution, id);
        let kind = if flight.away.is_some() { FailureKind::Unreachable } else { FailureKind::Execution };
        let message = format!("no answer from device {id} in time");
        self.give_up(flight, &Failure { kind, message }, actions);
    }

    pub(super) fn give_up(&mut self, mut flight: Flight, failure: &Failure, actions: &mut Vec<Action>) {
        let device = flight.plan.stages[flight.stage].device;
        let trace = flight.trace.map(tracing::field::display);
        tracing::warn!(
            %device,
            kind = ?failure.kind,
            message = %failure.message,
            rows = flight.rows,
            trace,
            "execution failed; what it was for is given out again where it may be"
        );
        self.leave_devices(&mut flight, &[]);
        self.abandon_later_stages(&flight);
        self.retry_or_fail(flight, failure, actions);
    }

    /// An answer of an execution that was given up: its device is well again, its result unwanted.
    pub(super) fn stale(&mut self, execution: ExecutionId, actions: &mut Vec<Action>) -> Option<Trigger> {
        let device = self.flights.take_abandoned(execution)?;
        self.ledger.stale += 1;
        actions.push(Action::Release(execution));
        let state = self.devices.get_mut(&device)?;
        let was_stalled = std::mem::take(&mut state.stalled);
        if was_stalled {
            actions.push(Action::Device { device, up: state.up });
        }
        was_stalled.then_some(Trigger::Change)
    }

    /// Books what is executing off its devices and learns from how long it took; `times` is empty where it failed.
    pub(super) fn leave_devices(&mut self, flight: &mut Flight, times: &[StageTime]) {
        let leg = flight.leg();
        for index in leg.clone() {
            let stage = flight.plan.stages[index];
            let last = self.flights.passed(flight.group, index);
            let time = times.get(index - leg.start);
            flight.times[index] = time.copied();
            let Some(device) = self.devices.get_mut(&stage.device) else { continue };
            device.ended(flight.execution, self.now);
            device.reserved -= u32::from(last).min(device.reserved);
            let Some(time) = time else { continue };
            // Rows that others joined are no measure of what ours take.
            if time.batch_rows == flight.rows {
                device.learn(flight.predicted[index], time.elapsed);
            }
            let seen = Observation {
                model: flight.model.0,
                device: stage.device.0,
                rows: time.batch_rows.max(flight.rows),
                from_cut: stage.from_cut,
                until_cut: stage.until_cut,
                elapsed: time.elapsed,
            };
            if let Some(table) = self.costs.observe(seen, self.now) {
                self.corrected.push_back(table);
            }
        }
    }

    /// Gives back what the stages after those that execute were promised.
    fn abandon_later_stages(&mut self, flight: &Flight) {
        for (index, stage) in flight.plan.stages.iter().enumerate().skip(flight.leg().end) {
            let last = self.flights.passed(flight.group, index);
            if let Some(device) = self.devices.get_mut(&stage.device) {
                device.reserved -= u32::from(last).min(device.reserved);
            }
        }
    }

    fn answer(&mut self, flight: &Flight, execution: ExecutionId, actions: &mut Vec<Action>) {
        let (mut row, mut answered, mut missed) = (0, 0, 0);
        let slo = self.slo(flight);
        let mut answers = Vec::with_capacity(flight.members.len());
        for member in &flight.members {
            let request = &member.waiting.request;
            if member.gone {
                self.ledger.late += 1;
            } else {
                let total = self.now.since(member.waiting.arrived);
                answers.push(Action::Answer(Answer {
                    request: request.id,
                    execution,
                    row,
                    rows: request.rows,
                    wait: flight.at.since(member.waiting.arrived),
                    total,
                    batch_rows: flight.rows,
                    generation: flight.author.generation,
                }));
                self.forget_deadline(request.deadline, request.id);
                self.ledger.running -= 1;
                self.ledger.answered += 1;
                answered += 1;
                missed += u64::from(slo > Nanos::ZERO && total > slo);
            }
            row += request.rows;
        }
        let gone = flight.members.len() as u64 - answered;
        let generation = flight.author.generation;
        self.slot.note_answers(generation, answered + gone, missed + gone, self.now, &self.config);
        // Who has its answer finds its receipt.
        self.close(flight, Verdict::Done, (missed + gone) as u32, 0, actions);
        actions.append(&mut answers);
    }

    fn slo(&self, flight: &Flight) -> Nanos {
        self.world.info.models.iter().find(|m| m.id == flight.model.0).map_or(Nanos::ZERO, |m| m.slo)
    }

    fn retry_or_fail(&mut self, flight: Flight, failure: &Failure, actions: &mut Vec<Action>) {
        let mut failed = 0;
        let gone = flight.members.iter().filter(|m| m.gone).count() as u32;
        self.close(
            &flight,
            Verdict::Failed(failure.message.clone()),
            gone,
            flight.members.len() as u32 - gone,
            actions,
        );
        let served = self.world.info.models.iter().any(|m| m.id == flight.model.0);
        for member in flight.members.into_iter().filter(|m| !m.gone) {
            let mut waiting = member.waiting;
            self.ledger.running -= 1;
            let blameless = match failure.kind {
                // What was only too large for the device has done nothing wrong: it is tried again in company.
                FailureKind::OutOfMemory => flight.rows > waiting.request.rows,
                // Nor has what never got anywhere; but a request must not travel for ever.
                FailureKind::Refused | FailureKind::Unreachable => {
                    waiting.bounces = waiting.bounces.saturating_add(1);
                    waiting.bounces <= BOUNCES_MAX
                }
                FailureKind::Execution | FailureKind::DeviceLost => false,
            };
            waiting.attempts += u8::from(!blameless);
            let line = if served { self.queues.line_for(&waiting.request) } else { None };
            match line.filter(|_| waiting.attempts <= self.config.retries_max) {
                Some(line) => {
                    self.ledger.waiting += 1;
                    self.ledger.retried += 1;
                    self.queues.push(line, waiting);
                }
                None => {
                    failed += 1;
                    let reason = Refusal::Failed { attempts: waiting.attempts, message: failure.message.clone() };
                    self.end(&waiting.request, reason, actions);
                }
            }
        }
        if failed > 0 {
            tracing::warn!(failed, message = %failure.message, "requests failed for good");
        }
    }
}
