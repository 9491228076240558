//! The thread's dealings with other hosts; what they say to each other is in `crate::remote`.

use super::Message;
use super::book::{Execution, Finished};
use super::worker::Worker;
use crate::peers::Peers;
use crate::remote::away::{self, Numbers, Verdict};
use crate::remote::guests::GuestBook;
use crate::remote::{Courier, Departed, Incoming};
use bps_sched::{Advance, Crossing, Event, Failure, FailureKind, Forward, Rejection};
use bps_types::{ArrivalId, ExecutionId, HostId, Nanos};
use bps_wire::Answer;
use std::sync::Arc;

/// What the dispatcher has for other hosts.
#[derive(Default)]
pub(super) struct Remote {
    open: Option<Open>,
    pub(super) guests: GuestBook,
}

/// Once there are any.
struct Open {
    peers: Arc<Peers>,
    courier: Courier,
    numbers: Numbers,
}

impl Remote {
    /// Other hosts can be met from now on.
    pub(super) fn open(&mut self, peers: Arc<Peers>) {
        match Courier::start(&peers) {
            Ok(courier) => self.open = Some(Open { peers, courier, numbers: Numbers::new(rand::random()) }),
            Err(error) => tracing::error!(%error, "no thread to send with: other hosts stay unused"),
        }
    }

    pub(super) fn recall(&self, execution: ExecutionId, host: HostId) {
        if let Some(open) = &self.open {
            open.peers.recall(host, open.numbers.on_wire(execution));
        }
    }

    pub(super) fn advance(&mut self, advance: &Advance, execution: Option<&mut Execution>) {
        let (Some(open), Some(left)) = (&self.open, execution.as_ref().and_then(|e| e.left())) else { return };
        self.guests.advance(advance, &left, &open.peers, &open.courier);
    }

    pub(super) fn reject(&mut self, arrival: ArrivalId, reason: &Rejection) {
        if let Some(open) = &self.open {
            self.guests.reject(arrival, reason, &open.courier);
        }
    }
}

impl Worker {
    /// Hands the rest of a plan to another host.
    pub(super) fn forward(&mut self, forward: &Forward) {
        let (execution, sender) = (forward.execution, self.sender.clone());
        let unsent = move |failure| {
            // The thread may have ended: then nobody waits for this either.
            let _ = sender.send(Message::Unsent { execution, failure });
        };
        let departed = self.book.depart(forward).map_err(|message| Failure { kind: FailureKind::Execution, message });
        let away = departed.and_then(|(model, load)| {
            let open = self.remote.open.as_ref();
            let none = || Failure { kind: FailureKind::Unreachable, message: "there are no other hosts".into() };
            let open = open.ok_or_else(none)?;
            let failed = Box::new(unsent.clone());
            away::hand_over(&open.peers, &open.courier, open.numbers, model, forward, load, failed)
        });
        match away {
            Ok(away) => {
                if let Some(execution) = self.book.execution(execution) {
                    execution.away = Some(away);
                }
            }
            Err(failure) => unsent(failure),
        }
    }

    pub(super) fn unsent(&mut self, execution: ExecutionId, failure: Failure) {
        self.book.release(execution);
        self.feed(Event::Failed { execution, failure });
    }

    pub(super) fn incoming(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Guest(guest) => {
                if let Some(arrival) = self.remote.guests.keep(*guest) {
                    self.feed(Event::Arrive(arrival));
                }
            }
            Incoming::Answer { from, answer, bytes } => self.answered(from, *answer, bytes),
            Incoming::Recall { from, dispatch } => {
                if let Some(arrival) = self.remote.guests.recall(from, dispatch) {
                    self.feed(Event::Withdraw(arrival));
                }
            }
        }
    }

    /// An answer to a plan of ours; one that nobody waits for any more is dropped.
    fn answered(&mut self, from: HostId, answer: Answer, received: u64) {
        let Some(open) = &self.remote.open else { return };
        let id = open.numbers.of_wire(answer.dispatch);
        let Some(execution) = self.book.execution(id) else {
            return self.feed(Event::Failed { execution: id, failure: late() });
        };
        let Some(away) = &execution.away else { return };
        match away.judge(&open.peers, from, &execution.model, execution.rows, answer) {
            Verdict::Foreign => tracing::warn!(%from, "an answer from a host that was not asked is dropped"),
            Verdict::Failed(failure) => {
                self.book.release(id);
                self.feed(Event::Failed { execution: id, failure });
            }
            Verdict::Done(tensors, stages, Departed { sent, values, coarser }) => {
                let elapsed = stages.iter().fold(Nanos::ZERO, |sum, s| sum + s.elapsed);
                if let Some(execution) = self.book.finished(id, Finished { tensors, packed: vec![], elapsed }) {
                    execution.model.executed(execution.rows, elapsed);
                }
                let bytes = Crossing { sent, values, received, coarser };
                self.feed(Event::Answered { execution: id, stages, bytes });
            }
        }
    }
}

/// What a late answer comes to: the scheduler counts it where it knows the number, and drops it.
fn late() -> Failure {
    Failure { kind: FailureKind::Unreachable, message: "answered too late".into() }
}
