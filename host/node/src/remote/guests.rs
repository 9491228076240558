//! Stages that came from other hosts: what is checked before they wait, and what they have with them.

use super::{Courier, Departed, Load, Parcel, accept, denied};
use crate::clock;
use crate::models::InFlight;
use crate::peers::{Peers, Roster};
use bps_sched::{Advance, Arrival, FailureKind, Next, PlanStage, Rejection};
use bps_types::{ArrivalId, HostId, HostTensor, Nanos, Packed};
use bps_wire::{Answer, Denied, DeniedKind, Execute, HostKey, StageReport};
use std::collections::{HashMap, VecDeque};

/// A stage that has been checked as far as this can be done without the scheduler.
pub(crate) struct Guest {
    /// Whose session brought it.
    host: HostId,
    /// Who is answered.
    origin: HostId,
    /// What was sent; the tensors are those of the next stage.
    execute: Execute,
    /// The model, which stays as long as the stage does.
    in_flight: InFlight,
    /// The plan in this host's numbers.
    stages: Vec<PlanStage>,
    deadline: Option<Nanos>,
}

impl Guest {
    /// Checks rights, model, cuts, codecs and the way back; `enter` finds a model by its digest and holds on to it.
    pub(crate) fn check(
        roster: &Roster,
        enter: impl FnOnce(&[u8; 32]) -> Option<InFlight>,
        peer: HostKey,
        execute: Execute,
    ) -> Result<Self, Denied> {
        let (host, origin) = accept::sender(roster, peer, &execute)?;
        let unknown = || denied(DeniedKind::Mismatch, "no model with this digest");
        let in_flight = enter(&execute.model).ok_or_else(unknown)?;
        let model = in_flight.model();
        let stages = accept::stages(roster, &model.graph, &model.cut_list, &execute)?;
        accept::memory(model, &stages, &execute)?;
        let deadline = execute.budget.map(|budget| clock::now() + budget);
        Ok(Self { host, origin, execute, in_flight, stages, deadline })
    }

    /// As the scheduler sees it.
    fn arrival(&self, id: ArrivalId) -> Arrival {
        Arrival {
            id,
            host: self.host,
            origin: self.origin,
            model: self.in_flight.model().id,
            stages: self.stages.clone(),
            rows: self.execute.rows,
            bytes: self.execute.tensors.iter().map(|t| t.data.len() as u64).sum(),
            priority: self.execute.priority,
            deadline: self.deadline,
            trace: self.execute.trace.known(),
        }
    }
}

/// Recalls that came before their stage: what a host hands on waits for a slow link seldom more often than this.
const EARLY_MAX: usize = 256;

/// What the dispatcher keeps of guests; looked up by id, never iterated where order matters.
#[derive(Default)]
pub(crate) struct GuestBook {
    guests: HashMap<ArrivalId, Guest>,
    numbers: HashMap<(HostId, u64), ArrivalId>,
    /// Recalled and not here: an origin tells every host of the way, and the stage may still be on it. The oldest make
    /// room; what is forgotten too soon is executed for nobody.
    early: VecDeque<(HostId, u64)>,
    next: u64,
}

/// An execution's output, as far as guests need it.
pub(crate) struct Left<'a> {
    pub(crate) tensors: &'a [HostTensor],
    /// Encoded on the device; empty where it was not asked for.
    pub(crate) packed: &'a [Packed],
    pub(crate) batchable: bool,
}

impl GuestBook {
    /// Takes a guest in; none if its origin has said meanwhile that it does not want it any more.
    pub(crate) fn keep(&mut self, guest: Guest) -> Option<Arrival> {
        let number = (guest.origin, guest.execute.dispatch);
        if let Some(at) = self.early.iter().position(|early| *early == number) {
            self.early.remove(at);
            return None;
        }
        self.next += 1;
        let id = ArrivalId(self.next);
        let arrival = guest.arrival(id);
        self.numbers.insert(number, id);
        self.guests.insert(id, guest);
        Some(arrival)
    }

    /// Lets go of a guest that its origin no longer wants; none if it is not here, or not yet.
    pub(crate) fn recall(&mut self, from: HostId, dispatch: u64) -> Option<ArrivalId> {
        let Some(id) = self.numbers.get(&(from, dispatch)).copied() else {
            if self.early.len() >= EARLY_MAX {
                self.early.pop_front();
            }
            self.early.push_back((from, dispatch));
            return None;
        };
        self.remove(id)?;
        Some(id)
    }

    fn remove(&mut self, id: ArrivalId) -> Option<Guest> {
        let guest = self.guests.remove(&id)?;
        self.numbers.remove(&(guest.origin, guest.execute.dispatch));
        Some(guest)
    }

    /// The model and the inputs of arrivals that are to be executed together.
    pub(crate) fn inputs(
        &self,
        arrivals: &[(ArrivalId, u32)],
    ) -> Result<(std::sync::Arc<crate::models::ServedModel>, Vec<Vec<Packed>>), String> {
        let mut model = None;
        let mut inputs = Vec::with_capacity(arrivals.len());
        for (id, _) in arrivals {
            let guest = self.guests.get(id).ok_or_else(|| format!("the input of arrival {id} is gone"))?;
            inputs.push(guest.execute.tensors.clone());
            model.get_or_insert_with(|| guest.in_flight.model().clone());
        }
        Ok((model.ok_or("an execution without arrivals")?, inputs))
    }

    /// Gives a guest back unexecuted.
    pub(crate) fn reject(&mut self, id: ArrivalId, reason: &Rejection, courier: &Courier) {
        let Some(guest) = self.remove(id) else { return };
        let denial = match reason {
            Rejection::Forbidden(text) => denied(DeniedKind::Forbidden, text.as_str()),
            Rejection::Busy => denied(DeniedKind::Busy, "window or quota is full"),
            Rejection::Expired => denied(DeniedKind::Expired, "its time ran out"),
            Rejection::Failed(failure) => {
                let kind = match failure.kind {
                    FailureKind::Execution => DeniedKind::Execution,
                    FailureKind::OutOfMemory => DeniedKind::OutOfMemory,
                    FailureKind::DeviceLost | FailureKind::Refused | FailureKind::Unreachable => DeniedKind::Lost,
                };
                denied(kind, failure.message.as_str())
            }
        };
        answer(guest, Err(denial), courier);
    }

    /// Carries an executed guest on: to its next stage here or elsewhere, or back.
    pub(crate) fn advance(&mut self, advance: &Advance, left: &Left<'_>, peers: &Peers, courier: &Courier) {
        let Some(guest) = self.guests.get_mut(&advance.arrival) else { return };
        if let Some((_, device)) = peers.route_of(advance.device) {
            guest.execute.reports.push(StageReport {
                host: peers.self_key(),
                device,
                arrived: advance.arrived,
                began: advance.began,
                elapsed: advance.elapsed,
                batch_rows: advance.batch_rows,
            });
        }
        let mine = || rows_of(left, advance.row as usize, advance.rows as usize);
        match &advance.next {
            Next::Here => match mine().map(|tensors| tensors.iter().map(raw).collect()) {
                Ok(tensors) => {
                    guest.execute.tensors = tensors;
                    guest.execute.route.remove(0);
                    guest.stages.remove(0);
                }
                // The executor's next look at it fails and says so.
                Err(message) => tracing::error!(message, "an arrived stage has no output"),
            },
            Next::Origin => {
                let Some(guest) = self.remove(advance.arrival) else { return };
                let outcome = mine().map(|tensors| tensors.iter().map(raw).collect());
                answer(guest, outcome.map_err(|m| denied(DeniedKind::Execution, m)), courier);
            }
            Next::Host(host, _) => {
                let Some(guest) = self.remove(advance.arrival) else { return };
                pass_on(guest, *host, left, mine(), courier);
            }
        }
    }

    /// Lets go of all: the thread is ending, and with it the links.
    pub(crate) fn clear(&mut self) {
        self.guests.clear();
        self.numbers.clear();
        self.early.clear();
    }
}

fn pass_on(mut guest: Guest, host: HostId, left: &Left<'_>, mine: Result<Vec<HostTensor>, String>, courier: &Courier) {
    guest.execute.route.remove(0);
    guest.execute.budget = guest.deadline.map(|d| d.since(clock::now()));
    guest.execute.tensors.clear();
    let load = match mine {
        _ if !left.packed.is_empty() => Load::Packed(left.packed.to_vec()),
        Ok(tensors) => Load::Tensors(tensors),
        Err(message) => return answer(guest, Err(denied(DeniedKind::Execution, message)), courier),
    };
    let model = guest.in_flight.model().clone();
    let execute = Box::new(guest.execute.clone());
    let back = courier.clone();
    let sent = Box::new(move |result: Result<Departed, bps_sched::Failure>| {
        if let Err(failure) = result {
            answer(guest, Err(denied(DeniedKind::Lost, failure.message)), &back);
        }
    });
    courier.send(Parcel::Stage { to: host, execute, load, model, cap: None, sent });
}

fn answer(guest: Guest, outcome: Result<Vec<Packed>, Denied>, courier: &Courier) {
    let answer = Answer { dispatch: guest.execute.dispatch, reports: guest.execute.reports, outcome };
    courier.send(Parcel::Answer { to: guest.origin, answer: Box::new(answer) });
}

/// A tensor as it is.
fn raw(tensor: &HostTensor) -> Packed {
    Packed {
        codec: 0,
        rate: 0,
        data_type: tensor.data_type(),
        shape: tensor.shape().to_vec(),
        data: tensor.data().clone(),
    }
}

fn rows_of(left: &Left<'_>, row: usize, rows: usize) -> Result<Vec<HostTensor>, String> {
    let slice = |tensor: &HostTensor| {
        if !left.batchable {
            return Ok(tensor.clone()); // such a model runs one request at a time
        }
        if tensor.shape().is_empty() || tensor.rows() < row + rows {
            return Err(format!("rows {row}..{} are asked of an output with shape {:?}", row + rows, tensor.shape()));
        }
        Ok(tensor.slice_rows(row..row + rows))
    };
    if left.tensors.is_empty() && left.packed.is_empty() {
        return Err("its execution has no output".into());
    }
    left.tensors.iter().map(slice).collect()
}
