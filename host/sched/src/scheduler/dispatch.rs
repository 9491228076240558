//! From a policy's proposal to executions: check every row, run what is in order, let the fallback answer for the rest.

use super::Scheduler;
use crate::cap::cap;
use crate::check::{DeviceStanding, Ground};
use crate::flight::{Author, Flight, Member};
use crate::plan::{Plan, PlanStage};
use crate::queue::Waiting;
use crate::{Action, Cap, Clamp, Input, Leaving, Refusal, Run};
use bps_types::policy::{Decision, Trigger, bound};
use bps_types::{ExecutionId, ModelId, Nanos, RequestId, Trace};
use std::sync::Arc;

/// A stage may take this many times its prediction before it counts as timed out.
pub(super) const TIMEOUT_FACTOR: u64 = 20;

impl Scheduler {
    /// Executes the rows that are in order. Where others are not, the fallback decides for their queues.
    pub(super) fn carry_out(&mut self, decision: Decision, author: &Author, actions: &mut Vec<Action>) {
        self.wake_policy = decision.wake_after.map(|after| self.now + after);
        let touched = self.execute(&decision, author, actions);
        if touched.is_empty() {
            return;
        }
        self.fill_snapshot(Trigger::Change);
        self.snapshot.queues.retain(|q| touched.contains(&q.id));
        let (decision, author) = self.slot.decide_natively(&self.snapshot);
        self.execute(&decision, &author, actions);
    }

    /// Checks and runs a decision's rows; returns the queues of the rows that were refused.
    fn execute(&mut self, decision: &Decision, author: &Author, actions: &mut Vec<Action>) -> Vec<u32> {
        let (joined, not_joined) = self.join(&decision.joins, author, actions);
        let (plans, shed, invalid, touched) = self.check(decision);
        let (valid, invalid) = ((plans.len() + shed.len()) as u64 + joined, invalid + not_joined);
        self.ledger.valid_rows += valid;
        self.ledger.invalid_rows += invalid;
        if author.generation.0 == 0 {
            self.ledger.fallback_decisions += 1;
        } else {
            self.slot.note_rows(valid, invalid);
        }
        for id in shed {
            self.end_waiting(id, Refusal::Shed, actions);
        }
        for plan in plans {
            self.start(plan, author, actions);
        }
        touched
    }

    fn check(&self, decision: &Decision) -> (Vec<Plan>, Vec<RequestId>, u64, Vec<u32>) {
        let (mut plans, mut shed, mut invalid, mut touched) = (Vec::new(), Vec::new(), 0, Vec::new());
        let (standings, hops) = (self.standings(), self.links.hops());
        let mut ground = Ground::new(&self.world.info, &self.queues, standings, hops, self.costs.losses());
        ground.whole_only = &self.world.whole_only;
        for &id in decision.shed.iter().take(bound::SHED) {
            let id = RequestId(id);
            match ground.check_shed(id, self.queues.contains(id)) {
                Ok(()) => shed.push(id),
                Err(reason) => {
                    invalid += 1;
                    tracing::debug!(%reason, "shed row refused");
                }
            }
        }
        for dispatch in decision.dispatches.iter().take(bound::DISPATCHES) {
            match ground.check(dispatch) {
                Ok(plan) => plans.push(plan),
                Err(reason) => {
                    invalid += 1;
                    touched.push(dispatch.queue);
                    tracing::debug!(%reason, tag = dispatch.tag, "dispatch row refused");
                }
            }
        }
        invalid += decision.dispatches.len().saturating_sub(bound::DISPATCHES) as u64;
        invalid += decision.shed.len().saturating_sub(bound::SHED) as u64;
        (plans, shed, invalid, touched)
    }

    fn standings(&self) -> Vec<DeviceStanding> {
        let (now, credits) = (self.now, self.config.device_credits);
        let standing = |(id, d): (&bps_types::DeviceId, &crate::flight::DeviceState)| DeviceStanding {
            id: *id,
            up: d.takes_work(now),
            credits: d.credits(now, credits),
            memory_free: d.memory_free,
        };
        self.devices.iter().map(standing).collect()
    }

    /// Takes the plan's requests out of their queue and starts its pieces.
    fn start(&mut self, plan: Plan, author: &Author, actions: &mut Vec<Action>) {
        let Some(model) = self.queues.get(plan.queue).map(|q| q.model) else { return };
        let waiting: Vec<Waiting> = plan.requests.iter().filter_map(|id| self.queues.remove(*id)).collect();
        self.ledger.waiting -= waiting.len() as u64;
        self.ledger.running += waiting.len() as u64;
        let (pieces, clamps) = self.cut_into_pieces(&plan, model, waiting);
        let group = self.flights.open_group(pieces.len() as u32, plan.stages.len());
        for stage in &plan.stages {
            if let Some(device) = self.devices.get_mut(&stage.device) {
                device.reserved += 1;
            }
        }
        let plan = Arc::new(plan);
        for members in pieces {
            let rows = members.iter().map(|m| m.waiting.request.rows).sum();
            let predict = |s: &PlanStage| self.costs.predict(model.0, s.device.0, rows, s.from_cut, s.until_cut);
            let flight = Flight {
                group,
                model,
                stage: 0,
                execution: ExecutionId(0),
                rows,
                at: self.now,
                oldest: members.iter().map(|m| m.waiting.arrived).min().unwrap_or(self.now),
                predicted: plan.stages.iter().map(predict).collect(),
                times: vec![None; plan.stages.len()],
                bytes: 0,
                away: None,
                timeout: Nanos::MAX,
                author: author.clone(),
                clamps: clamps.clone(),
                trace: trace_of(&members),
                plan: plan.clone(),
                members,
            };
            let source = flight.members.iter().map(|m| (m.waiting.request.id, m.waiting.request.rows)).collect();
            self.launch(flight, Input::Requests(source), actions);
        }
    }

    /// Sends a flight's present stage to its device, or the rest of its plan to the host that has it.
    pub(super) fn launch(&mut self, mut flight: Flight, input: Input, actions: &mut Vec<Action>) {
        let stage = flight.plan.stages[flight.stage];
        flight.execution = self.flights.next_execution();
        if Some(stage.host) != self.world.own_host() {
            return self.forward(flight, input, actions);
        }
        let predicted = flight.predicted[flight.stage];
        if let Some(device) = self.devices.get_mut(&stage.device) {
            let allowed = Nanos((device.backlog(self.now) + predicted).0.saturating_mul(TIMEOUT_FACTOR));
            flight.timeout = self.now + allowed.max(self.config.stage_timeout_floor);
            device.started(flight.execution, predicted, self.now);
        }
        let leave = self.leaving(&flight);
        actions.push(Action::Run(Run {
            execution: flight.execution,
            device: stage.device,
            model: flight.model,
            from_cut: stage.from_cut,
            until_cut: stage.until_cut,
            codec: stage.codec,
            rate: stage.rate,
            input,
            rows: flight.rows,
            leave,
        }));
        self.flights.insert(flight);
    }

    /// How the output of a flight's present stage leaves this host, if it does.
    fn leaving(&self, flight: &Flight) -> Option<Leaving> {
        let (stages, next) = (&flight.plan.stages, flight.stage + 1);
        let stage = stages.get(next).filter(|stage| stage.host != stages[flight.stage].host)?;
        Some(Leaving { codec: stage.codec, rate: stage.rate, cap: self.cap_of(flight, next) })
    }

    /// What becomes of the input of a stage of a flight that turns out large.
    pub(super) fn cap_of(&self, flight: &Flight, index: usize) -> Option<Cap> {
        let (info, model, stages) = (&self.world.info, flight.model.0, &flight.plan.stages);
        let budget = info.models.iter().find(|m| m.id == model).map_or(0, |m| m.accuracy_budget_ppm);
        let planned = self.costs.crossing_bytes(model, stages.get(index)?, flight.rows);
        cap(&info.codecs, self.costs.losses(), (model, budget), stages, index, planned)
    }

    /// Pieces of at most `micro_batch` rows (a request is never cut), or of what a device has been seen to have memory
    /// for; a request that failed in company goes alone, so that a poisonous one takes no other down with it twice.
    fn cut_into_pieces(&self, plan: &Plan, model: ModelId, waiting: Vec<Waiting>) -> (Vec<Vec<Member>>, Vec<Clamp>) {
        let mut clamps = Vec::new();
        let mut rows_max = if plan.micro_batch == 0 { u32::MAX } else { plan.micro_batch };
        let seen = plan.stages.iter().filter_map(|s| self.devices.get(&s.device)?.rows_max.get(&model).copied());
        if let Some(seen) = seen.min().filter(|seen| *seen < rows_max) {
            let rows: u64 = waiting.iter().map(|w| u64::from(w.request.rows)).sum();
            rows_max = seen;
            if rows > u64::from(seen) {
                clamps.push(Clamp::Rows(seen));
            }
        }
        let mut pieces: Vec<Vec<Member>> = Vec::new();
        let (mut rows, mut open) = (0u32, false);
        for waiting in waiting {
            let alone = waiting.attempts > 0;
            let added = waiting.request.rows;
            let member = Member { waiting, gone: false };
            if alone {
                pieces.push(vec![member]);
                clamps.push(Clamp::Alone);
                open = false;
                continue;
            }
            match pieces.last_mut().filter(|_| open && rows.saturating_add(added) <= rows_max) {
                Some(piece) => piece.push(member),
                None => {
                    pieces.push(vec![member]);
                    rows = 0;
                    open = true;
                }
            }
            rows = rows.saturating_add(added);
        }
        (pieces, clamps)
    }
}

/// The trace of the oldest request that has one.
fn trace_of(members: &[Member]) -> Option<Trace> {
    let traced = members.iter().map(|m| &m.waiting).filter(|w| w.request.trace.is_some());
    traced.min_by_key(|w| (w.arrived, w.sequence))?.request.trace
}
