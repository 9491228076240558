//! Waiting lines: one per (model, input shape), ordered by priority, deadline, arrival.

use crate::Request;
use crate::check::{Candidate, Waitlist};
use crate::estimate::ArrivalRate;
use bps_types::policy::bound;
use bps_types::{ModelId, Nanos, QueueId, RequestId};
use indexmap::IndexMap;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Place in a line: more urgent first, then the nearer deadline, then the earlier arrival.
pub(crate) type Key = (Reverse<u8>, Nanos, u64);

/// A request that waits, or ran and may wait again.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) request: Request,
    pub(crate) arrived: Nanos,
    /// Order of arrival; kept over retries, so that a retried request is not sent to the back.
    pub(crate) sequence: u64,
    /// Executions that have failed.
    pub(crate) attempts: u8,
    /// Times it came back from another host unexecuted.
    pub(crate) bounces: u8,
}

impl Waiting {
    pub(crate) fn key(&self) -> Key {
        (Reverse(self.request.priority), self.request.deadline.unwrap_or(Nanos::MAX), self.sequence)
    }
}

/// One line.
pub(crate) struct Queue {
    pub(crate) id: QueueId,
    pub(crate) model: ModelId,
    shape_key: u64,
    line: BTreeMap<Key, Waiting>,
    by_arrival: BTreeSet<(Nanos, u64)>,
    pub(crate) rows: u64,
    pub(crate) arrivals: ArrivalRate,
    /// Since when a capable device has been idle while somebody waited here.
    pub(crate) runnable_since: Option<Nanos>,
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.line.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Waiting> {
        self.line.values()
    }

    /// Arrival of the request that has waited longest.
    pub(crate) fn oldest(&self) -> Option<Nanos> {
        self.by_arrival.first().map(|(arrived, _)| *arrived)
    }
}

/// All lines.
#[derive(Default)]
pub(crate) struct Queues {
    lines: IndexMap<QueueId, Queue>,
    /// Where each waiting request stands.
    places: IndexMap<RequestId, (QueueId, Key)>,
    /// Requests and bytes waiting per model.
    load: IndexMap<ModelId, (u32, u64)>,
    next_id: u32,
}

impl Queues {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Queue> {
        self.lines.values()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Queue> {
        self.lines.values_mut()
    }

    pub(crate) fn get(&self, id: QueueId) -> Option<&Queue> {
        self.lines.get(&id)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub(crate) fn contains(&self, id: RequestId) -> bool {
        self.places.contains_key(&id)
    }

    /// Requests and bytes of a model that wait.
    pub(crate) fn load(&self, model: ModelId) -> (u32, u64) {
        self.load.get(&model).copied().unwrap_or_default()
    }

    /// The line for a request, made if there is none; none when there are as many lines as a snapshot may show.
    pub(crate) fn line_for(&mut self, request: &Request) -> Option<QueueId> {
        let fits = |q: &&Queue| q.model == request.model && q.shape_key == request.shape_key;
        if let Some(queue) = self.lines.values().find(fits) {
            return Some(queue.id);
        }
        if self.lines.len() >= bound::QUEUES {
            let idle = self.lines.values().find(|q| q.len() == 0).map(|q| q.id)?;
            self.lines.shift_remove(&idle);
        }
        let id = QueueId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        let queue = Queue {
            id,
            model: request.model,
            shape_key: request.shape_key,
            line: BTreeMap::new(),
            by_arrival: BTreeSet::new(),
            rows: 0,
            arrivals: ArrivalRate::default(),
            runnable_since: None,
        };
        self.lines.insert(id, queue);
        Some(id)
    }

    /// Takes a request into a line.
    pub(crate) fn push(&mut self, line: QueueId, waiting: Waiting) {
        let Some(queue) = self.lines.get_mut(&line) else { unreachable!("line_for made line {line}") };
        let key = waiting.key();
        let load = self.load.entry(queue.model).or_default();
        load.0 += 1;
        load.1 += waiting.request.bytes;
        queue.rows += u64::from(waiting.request.rows);
        queue.by_arrival.insert((waiting.arrived, waiting.sequence));
        self.places.insert(waiting.request.id, (line, key));
        queue.line.insert(key, waiting);
    }

    /// Takes a request out of its line.
    pub(crate) fn remove(&mut self, id: RequestId) -> Option<Waiting> {
        let (line, key) = self.places.swap_remove(&id)?;
        let queue = self.lines.get_mut(&line)?;
        let waiting = queue.line.remove(&key)?;
        queue.by_arrival.remove(&(waiting.arrived, waiting.sequence));
        queue.rows -= u64::from(waiting.request.rows);
        if queue.line.is_empty() {
            queue.runnable_since = None;
        }
        if let Some(load) = self.load.get_mut(&queue.model) {
            load.0 -= 1;
            load.1 -= waiting.request.bytes;
        }
        Some(waiting)
    }

    /// Who waits for a model that is not among those kept.
    pub(crate) fn waiting_elsewhere(&self, keep: impl Fn(ModelId) -> bool) -> Vec<RequestId> {
        self.iter().filter(|q| !keep(q.model)).flat_map(|q| q.iter().map(|w| w.request.id)).collect()
    }

    /// Notes an arrival in a line.
    pub(crate) fn arrived(&mut self, line: QueueId, now: Nanos) {
        if let Some(queue) = self.lines.get_mut(&line) {
            queue.arrivals.arrived(now);
        }
    }

    /// Forgets empty lines of models that are gone.
    pub(crate) fn drop_empty(&mut self, keep: impl Fn(ModelId) -> bool) {
        self.lines.retain(|_, q| keep(q.model) || q.len() > 0);
        self.load.retain(|model, load| keep(*model) || load.0 > 0);
    }
}

impl Waitlist for Queues {
    fn model(&self, queue: QueueId) -> Option<ModelId> {
        self.lines.get(&queue).filter(|q| q.len() > 0).map(|q| q.model)
    }

    fn head(&self, queue: QueueId, count: u32) -> Option<Vec<Candidate>> {
        let queue = self.lines.get(&queue)?;
        if queue.len() < count as usize {
            return None;
        }
        Some(queue.iter().take(count as usize).map(|w| w.request.as_candidate()).collect())
    }

    fn find(&self, queue: QueueId, id: RequestId) -> Option<Candidate> {
        let (line, key) = self.places.get(&id)?;
        if *line != queue {
            return None;
        }
        self.lines.get(line)?.line.get(key).map(|w| w.request.as_candidate())
    }
}

impl Request {
    fn as_candidate(&self) -> Candidate {
        Candidate { id: self.id, rows: self.rows, constraints: self.constraints }
    }
}
