//! Views over a snapshot: queues with their heads, and the room that devices have left during one decision.

use crate::{Device, Link, NO_DEADLINE, Nanos, Queue, Snapshot};
use std::ops::Deref;

/// One waiting request, out of the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The host's id.
    pub id: u64,
    /// Its own batch dimension, at least 1.
    pub rows: u32,
    /// How long it has waited.
    pub wait: Nanos,
    /// Time to its deadline, negative when that has passed; none where it has no deadline.
    pub slack: Option<i64>,
    /// Higher is more urgent.
    pub priority: u8,
    /// Executions of it that have failed already.
    pub attempts: u8,
    /// It must not leave this machine.
    pub local_only: bool,
    /// It must not meet a lossy codec.
    pub lossless_only: bool,
}

/// A queue and its head. Derefs to [`Queue`].
#[derive(Clone, Copy, Debug)]
pub struct QueueView<'a> {
    snapshot: &'a Snapshot,
    queue: &'a Queue,
}

impl Deref for QueueView<'_> {
    type Target = Queue;
    fn deref(&self) -> &Queue {
        self.queue
    }
}

impl<'a> QueueView<'a> {
    /// The requests at its head, most urgent first: at most 32, though more may wait.
    pub fn head(&self) -> impl ExactSizeIterator<Item = Request> + Clone + 'a {
        let snapshot = self.snapshot;
        let begin = (self.queue.head_start as usize).min(snapshot.ids.len());
        let end = begin.saturating_add(self.queue.head_count as usize).min(snapshot.ids.len());
        (begin..end).map(move |at| Request {
            id: snapshot.ids[at],
            rows: snapshot.rows[at],
            wait: snapshot.waits[at],
            slack: Some(snapshot.slacks[at]).filter(|slack| *slack != NO_DEADLINE),
            priority: snapshot.priorities[at],
            attempts: snapshot.attempts[at],
            local_only: snapshot.constraints[at] & 1 != 0,
            lossless_only: snapshot.constraints[at] & 2 != 0,
        })
    }
}

impl Snapshot {
    /// The queues that are not empty, by id.
    pub fn queues(&self) -> impl ExactSizeIterator<Item = QueueView<'_>> {
        self.queues.iter().map(|queue| QueueView { snapshot: self, queue })
    }

    /// The queues, most urgent first: by the priority of the first request, then by how long the oldest has waited.
    pub fn queues_by_urgency(&self) -> Vec<QueueView<'_>> {
        let mut queues: Vec<_> = self.queues().collect();
        if queues.len() > 1 {
            let priority = |queue: &QueueView<'_>| queue.head().next().map_or(0, |first| first.priority);
            queues.sort_by_key(|queue| (std::cmp::Reverse(priority(queue)), std::cmp::Reverse(queue.oldest_wait)));
        }
        queues
    }

    /// The devices as the host lists them.
    pub fn devices(&self) -> impl ExactSizeIterator<Item = &Device> {
        self.devices.iter()
    }

    /// The link from one host to another; none where there has never been one.
    pub fn link(&self, source: u32, target: u32) -> Option<&Link> {
        self.links.iter().find(|link| (link.source, link.target) == (source, target))
    }

    /// The device `id`.
    pub fn device(&self, id: u32) -> Option<&Device> {
        self.devices.iter().find(|device| device.id == id)
    }
}

/// What one device still takes during one decision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeviceRoom {
    /// `Device::id`.
    pub id: u32,
    /// Executions it still takes.
    pub credits: u32,
    /// Predicted time until all it has been given, in this decision too, is done.
    pub backlog: Nanos,
    /// Executions given to it and not yet answered, in this decision too.
    pub running: u32,
    /// Measured over predicted time; 1.0 until known.
    pub slowdown: f32,
}

/// The devices that are up, and what they still take while a decision is being made.
#[derive(Clone, Debug)]
pub struct Room(Vec<DeviceRoom>);

impl Room {
    /// The room at the beginning of a decision.
    pub fn of(snapshot: &Snapshot) -> Self {
        let up = snapshot.devices.iter().filter(|device| device.up);
        Self(
            up.map(|device| DeviceRoom {
                id: device.id,
                credits: device.credits,
                backlog: device.backlog,
                running: device.running,
                slowdown: device.slowdown,
            })
            .collect(),
        )
    }

    /// The device `id`, if it is up.
    pub fn device(&self, id: u32) -> Option<&DeviceRoom> {
        self.0.iter().find(|device| device.id == id)
    }

    /// The devices among `allowed` that are up, with or without room.
    pub fn up<'a>(&'a self, allowed: &'a [u32]) -> impl Iterator<Item = &'a DeviceRoom> {
        self.0.iter().filter(|device| allowed.contains(&device.id))
    }

    /// The devices among `allowed` that still take something.
    pub fn free<'a>(&'a self, allowed: &'a [u32]) -> impl Iterator<Item = &'a DeviceRoom> {
        self.up(allowed).filter(|device| device.credits > 0)
    }

    /// The one with room that will be done first; the first listed of equals.
    pub fn least_backlog(&self, allowed: &[u32]) -> Option<DeviceRoom> {
        self.free(allowed).min_by_key(|device| device.backlog).copied()
    }

    /// Gives `device` one execution of `cost` nanoseconds.
    pub fn give(&mut self, device: u32, cost: Nanos) {
        if let Some(room) = self.0.iter_mut().find(|room| room.id == device) {
            room.credits = room.credits.saturating_sub(1);
            room.running += 1;
            room.backlog = room.backlog.saturating_add(cost);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{device, snapshot};

    #[test]
    fn a_head_is_its_own_part_of_the_columns() {
        let now = snapshot(&[(7, 2), (8, 3)], vec![]);
        let heads: Vec<Vec<u64>> = now.queues().map(|queue| queue.head().map(|request| request.id).collect()).collect();
        assert_eq!(heads, [vec![700, 701], vec![800, 801, 802]]);
    }

    #[test]
    fn a_head_that_points_past_the_columns_is_cut() {
        let mut now = snapshot(&[(1, 2)], vec![]);
        (now.queues[0].head_start, now.queues[0].head_count) = (1, u32::MAX);
        assert_eq!(now.queues().next().map(|queue| queue.head().len()), Some(1));
    }

    #[test]
    fn given_work_counts_at_once() {
        let now = snapshot(&[], vec![device(1, 50, 2), device(2, 60, 1)]);
        let mut room = Room::of(&now);
        assert_eq!(room.least_backlog(&[1, 2]).map(|device| device.id), Some(1));
        room.give(1, 100);
        assert_eq!(room.least_backlog(&[1, 2]).map(|device| device.id), Some(2));
        room.give(2, 500);
        assert_eq!(room.least_backlog(&[1, 2]).map(|device| device.id), Some(1), "2 has no credit left");
        room.give(1, 1);
        assert_eq!(room.least_backlog(&[1, 2]), None);
    }

    #[test]
    fn urgent_queues_come_first() {
        let mut now = snapshot(&[(1, 1), (2, 1), (3, 1)], vec![]);
        now.priorities = vec![0, 9, 0];
        now.queues[2].oldest_wait = 1 << 40;
        let order: Vec<u32> = now.queues_by_urgency().iter().map(|queue| queue.id).collect();
        assert_eq!(order, [2, 3, 1]);
    }
}
