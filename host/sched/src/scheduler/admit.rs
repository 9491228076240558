//! The two ends of a request's wait: how it is taken in, and how it ends without a result.

use super::Scheduler;
use crate::queue::Waiting;
use crate::{Action, Refusal, Request};
use bps_types::policy::Trigger;
use bps_types::{Nanos, RequestId};

impl Scheduler {
    pub(super) fn submit(&mut self, request: Request, actions: &mut Vec<Action>) -> Option<Trigger> {
        let id = request.id;
        match self.admit(request) {
            Ok(()) => Some(Trigger::Arrival),
            Err(Refusal::Expired) => {
                // It was expected to be answered and came too late: counted as taken and expired.
                self.ledger.submitted += 1;
                self.ledger.expired += 1;
                actions.push(Action::Refuse { request: id, reason: Refusal::Expired });
                None
            }
            Err(reason) => {
                self.ledger.refused += 1;
                actions.push(Action::Refuse { request: id, reason });
                None
            }
        }
    }

    fn admit(&mut self, request: Request) -> Result<(), Refusal> {
        let model = self.world.info.models.iter().find(|m| m.id == request.model.0).ok_or(Refusal::UnknownModel)?;
        if request.rows == 0 || request.rows > model.batch_max {
            return Err(Refusal::TooManyRows { rows: request.rows, max: model.batch_max });
        }
        if request.deadline.is_some_and(|d| d <= self.now) {
            return Err(Refusal::Expired);
        }
        let limit = self.world.queue_limits.iter().find(|l| l.model == request.model.0);
        let requests_max = limit.map_or(self.config.queue_requests_max, |l| l.requests_max);
        let bytes_max = limit.map_or(self.config.queue_bytes_max, |l| l.bytes_max);
        let (requests, bytes) = self.queues.load(request.model);
        if requests >= requests_max || bytes.saturating_add(request.bytes) > bytes_max {
            return Err(Refusal::QueueFull);
        }
        let line = self.queues.line_for(&request).ok_or(Refusal::QueueFull)?;
        let seen = self.costs.observe_input(request.model.0, request.rows, request.bytes, self.now);
        self.corrected.extend(seen);
        if let Some(deadline) = request.deadline {
            self.deadlines.insert((deadline, request.id));
        }
        self.queues.arrived(line, self.now);
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.queues.push(line, Waiting { request, arrived: self.now, sequence, attempts: 0, bounces: 0 });
        self.ledger.submitted += 1;
        self.ledger.waiting += 1;
        Ok(())
    }

    pub(super) fn cancel(&mut self, id: RequestId, actions: &mut Vec<Action>) {
        if self.queues.contains(id) {
            self.end_waiting(id, Refusal::Cancelled, actions);
        } else if self.flights.contains(id) {
            self.end_running(id, Refusal::Cancelled, actions);
        }
    }

    /// Ends every request whose deadline has passed. Rows that run already are executed and dropped.
    pub(super) fn expire(&mut self, actions: &mut Vec<Action>) {
        while let Some(&(deadline, id)) = self.deadlines.first() {
            if deadline > self.now {
                break;
            }
            if self.queues.contains(id) {
                self.end_waiting(id, Refusal::Expired, actions);
            } else {
                self.end_running(id, Refusal::Expired, actions);
            }
            self.deadlines.remove(&(deadline, id));
        }
    }

    /// Ends a waiting request without a result.
    pub(super) fn end_waiting(&mut self, id: RequestId, reason: Refusal, actions: &mut Vec<Action>) {
        let Some(waiting) = self.queues.remove(id) else { return };
        self.ledger.waiting -= 1;
        if reason == Refusal::Expired {
            self.slot.note_expired(self.now, &self.config);
        }
        self.end(&waiting.request, reason, actions);
    }

    fn end_running(&mut self, id: RequestId, reason: Refusal, actions: &mut Vec<Action>) {
        let Some(deadline) = self.flights.forget(id) else { return };
        self.ledger.running -= 1;
        self.count_end(&reason);
        self.forget_deadline(deadline, id);
        actions.push(Action::Refuse { request: id, reason });
        self.recall_deserted(actions);
    }

    /// Books the end of a request that is in no queue and no flight any more.
    pub(super) fn end(&mut self, request: &Request, reason: Refusal, actions: &mut Vec<Action>) {
        self.count_end(&reason);
        self.forget_deadline(request.deadline, request.id);
        actions.push(Action::Refuse { request: request.id, reason });
    }

    pub(super) fn forget_deadline(&mut self, deadline: Option<Nanos>, id: RequestId) {
        if let Some(deadline) = deadline {
            self.deadlines.remove(&(deadline, id));
        }
    }

    fn count_end(&mut self, reason: &Refusal) {
        let counter = match reason {
            Refusal::Shed | Refusal::UnknownModel | Refusal::TooManyRows { .. } | Refusal::QueueFull => {
                &mut self.ledger.shed
            }
            Refusal::Expired => &mut self.ledger.expired,
            Refusal::Cancelled => &mut self.ledger.cancelled,
            Refusal::Failed { .. } => &mut self.ledger.failed,
        };
        *counter += 1;
    }
}
