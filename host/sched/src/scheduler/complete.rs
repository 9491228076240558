//! The end of an execution: the next stage, the answers, or another try.

use super::Scheduler;
use crate::estimate::Observation;
use crate::flight::Flight;
use crate::{Action, Answer, Failure, FailureKind, Input, Receipt, ReceiptStage, Refusal, Verdict};
use bps_types::policy::{Outcome, Trigger, bound};
use bps_types::{DeviceId, ExecutionId, Nanos};

impl Scheduler {
    pub(super) fn stage_done(
        &mut self,
        execution: ExecutionId,
        elapsed: Nanos,
        actions: &mut Vec<Action>,
    ) -> Option<Trigger> {
        let Some(mut flight) = self.flights.take(execution) else { return self.stale(execution, actions) };
        self.leave_device(&mut flight, Some(elapsed));
        if flight.stage + 1 < flight.plan.stages.len() && flight.members.iter().any(|m| !m.gone) {
            flight.stage += 1;
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
        if let Some(device) = self.devices.get_mut(&flight.plan.stages[flight.stage].device) {
            match failure.kind {
                FailureKind::Execution => {}
                FailureKind::DeviceLost => {
                    device.up = false;
                    let device = flight.plan.stages[flight.stage].device;
                    actions.push(Action::Device { device, up: false });
                }
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
        if let Some(device) = self.devices.get_mut(&id) {
            device.stalled = true;
            actions.push(Action::Device { device: id, up: false });
        }
        self.flights.abandon(execution, id);
        let message = format!("no answer from device {id} in time");
        self.give_up(flight, &Failure { kind: FailureKind::Execution, message }, actions);
    }

    fn give_up(&mut self, mut flight: Flight, failure: &Failure, actions: &mut Vec<Action>) {
        let device = flight.plan.stages[flight.stage].device;
        tracing::warn!(%device, kind = ?failure.kind, message = %failure.message, rows = flight.rows, "execution failed");
        self.leave_device(&mut flight, None);
        self.abandon_later_stages(&flight);
        self.retry_or_fail(flight, failure, actions);
    }

    /// An answer of an execution that was given up: its device is well again, its result unwanted.
    fn stale(&mut self, execution: ExecutionId, actions: &mut Vec<Action>) -> Option<Trigger> {
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

    /// Books a stage off its device and learns from how long it took.
    fn leave_device(&mut self, flight: &mut Flight, elapsed: Option<Nanos>) {
        let stage = flight.plan.stages[flight.stage];
        let last = self.flights.passed(flight.group, flight.stage);
        flight.measured[flight.stage] = elapsed;
        let Some(device) = self.devices.get_mut(&stage.device) else { return };
        device.ended(flight.execution, self.now);
        device.reserved -= u32::from(last).min(device.reserved);
        let Some(elapsed) = elapsed else { return };
        device.learn(flight.predicted[flight.stage], elapsed);
        let seen = Observation {
            model: flight.model.0,
            device: stage.device.0,
            rows: flight.rows,
            from_cut: stage.from_cut,
            until_cut: stage.until_cut,
            elapsed,
        };
        if let Some(table) = self.costs.observe(seen, self.now) {
            self.corrected.push_back(table);
        }
    }

    /// Gives back what the stages after this one were promised.
    fn abandon_later_stages(&mut self, flight: &Flight) {
        for (index, stage) in flight.plan.stages.iter().enumerate().skip(flight.stage + 1) {
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
            // What was only too large for the device has done nothing wrong: it is tried again in company.
            let blameless = failure.kind == FailureKind::OutOfMemory && flight.rows > waiting.request.rows;
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

    /// Writes the receipt and the outcome of a flight that has ended.
    fn close(&mut self, flight: &Flight, verdict: Verdict, missed: u32, failed: u32, actions: &mut Vec<Action>) {
        let stages = flight.plan.stages.iter().zip(&flight.predicted).zip(&flight.measured);
        let receipt = Receipt {
            at: flight.at,
            ended: self.now,
            policy: flight.author.label.clone(),
            generation: flight.author.generation,
            tag: flight.plan.tag,
            why: flight.author.reasons.get(flight.plan.why as usize).cloned().unwrap_or_default(),
            model: self.model_name(flight),
            requests: flight.members.len() as u32,
            rows: flight.rows,
            wait: flight.at.since(flight.oldest),
            stages: stages
                .map(|((s, predicted), measured)| ReceiptStage {
                    device: s.device.0,
                    from_cut: s.from_cut,
                    until_cut: s.until_cut,
                    codec: s.codec,
                    rate: s.rate,
                    predicted: *predicted,
                    measured: *measured,
                })
                .collect(),
            bytes_predicted: self.link_bytes(flight),
            bytes: 0,
            clamps: flight.clamps.clone(),
            verdict,
        };
        self.slot.log(self.now, crate::LogEntry::Receipt(&receipt));
        actions.push(Action::Receipt(receipt));
        if flight.author.generation.0 == 0 {
            return; // the fallback does not learn
        }
        if self.outcomes.len() >= bound::OUTCOMES {
            self.outcomes.remove(0);
            self.outcomes_dropped = self.outcomes_dropped.saturating_add(1);
        }
        self.outcomes.push(Outcome {
            tag: flight.plan.tag,
            generation: flight.author.generation.0,
            model: flight.model.0,
            rows: flight.rows,
            wait: flight.at.since(flight.oldest),
            total: self.now.since(flight.oldest),
            bytes: 0,
            stage_nanos: flight.measured.iter().map(|m| m.unwrap_or_default().0).collect(),
            stage_devices: flight.plan.stages.iter().map(|s| s.device.0).collect(),
            missed,
            failed,
        });
    }

    /// Bytes that cross links between hosts on the plan's way, raw, as the cut tables say.
    fn link_bytes(&self, flight: &Flight) -> u64 {
        let host = |device: DeviceId| self.world.info.devices.iter().find(|d| d.id == device.0).map(|d| d.host);
        let mut here = self.world.info.hosts.iter().find(|h| h.is_self).map(|h| h.id);
        let mut sum = 0;
        for stage in &flight.plan.stages {
            let there = host(stage.device);
            if there != here {
                sum += self.costs.cut_bytes(flight.model.0, stage.from_cut, flight.rows).unwrap_or(0);
            }
            here = there;
        }
        sum
    }

    fn model_name(&self, flight: &Flight) -> std::sync::Arc<str> {
        let model = self.world.info.models.iter().find(|m| m.id == flight.model.0);
        model.map_or_else(|| format!("model {}", flight.model).into(), |m| m.name.as_str().into())
    }
}
