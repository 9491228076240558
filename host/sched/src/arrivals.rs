//! Stages that came from other hosts and wait here, grouped by what could run together: same model, same range of layers,
//! same device, whoever sent them.

use crate::{Arrival, Receipt};
use bps_types::policy::{Arrived, NO_DEADLINE};
use bps_types::{ArrivalId, DeviceId, ExecutionId, HostId, ModelId, Nanos};
use indexmap::IndexMap;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Stage queues at once; a snapshot shows them all.
const GROUPS_MAX: usize = 256;

/// What could run together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Range {
    pub(crate) model: ModelId,
    pub(crate) from_cut: u32,
    pub(crate) until_cut: u32,
    pub(crate) device: DeviceId,
}

impl Range {
    /// Of an arrival's first stage.
    pub(crate) fn of(arrival: &Arrival) -> Option<Self> {
        let stage = arrival.stages.first()?;
        let (from_cut, until_cut, device) = (stage.from_cut, stage.until_cut, stage.device);
        Some(Self { model: arrival.model, from_cut, until_cut, device })
    }
}

/// Place in a line: more urgent first, then the nearer deadline, then the earlier arrival.
type Key = (Reverse<u8>, Nanos, u64);

/// An arrival that waits or runs.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) arrival: Arrival,
    /// When its input was complete here.
    pub(crate) arrived: Nanos,
    pub(crate) sequence: u64,
    /// Its input came over a link; else a stage before it left it here.
    pub(crate) crossed: bool,
    /// It failed in company and is tried once more by itself.
    pub(crate) alone: bool,
    /// What it takes of its host's window, of [`DISPATCH`] for each dispatch.
    pub(crate) part: u64,
}

/// A dispatch with as many rows as its model takes at once. Windows are counted in parts of it: the pieces of one dispatch
/// come one by one, and together are no more than it.
pub(crate) const DISPATCH: u64 = 1 << 16;

/// What so many rows take of a window. Rounded down: pieces must not be more than the whole.
pub(crate) fn part(rows: u32, rows_max: u32) -> u64 {
    (DISPATCH * u64::from(rows) / u64::from(rows_max.max(1))).max(1)
}

impl Held {
    fn key(&self) -> Key {
        (Reverse(self.arrival.priority), self.arrival.deadline.unwrap_or(Nanos::MAX), self.sequence)
    }
}

/// One stage queue.
pub(crate) struct Group {
    pub(crate) id: u32,
    pub(crate) range: Range,
    line: BTreeMap<Key, Held>,
    pub(crate) rows: u64,
}

/// Arrivals that are executed together.
#[derive(Debug)]
pub(crate) struct Joint {
    pub(crate) range: Range,
    /// None in place of one that was withdrawn, with its rows.
    pub(crate) members: Vec<(u32, Option<Held>)>,
    pub(crate) rows: u32,
    pub(crate) predicted: Nanos,
    pub(crate) timeout: Nanos,
    /// As far as it could be written when they were joined.
    pub(crate) receipt: Receipt,
}

/// All that came from other hosts.
#[derive(Default)]
pub(crate) struct Arrivals {
    groups: IndexMap<Range, Group>,
    places: IndexMap<ArrivalId, (Range, Key)>,
    joints: IndexMap<ExecutionId, Joint>,
    /// Where each running arrival runs.
    running: IndexMap<ArrivalId, ExecutionId>,
    /// What each host has on each device, in parts of a dispatch, and its bytes.
    held: IndexMap<(HostId, DeviceId), u64>,
    bytes: IndexMap<HostId, u64>,
    next_group: u32,
    next_sequence: u64,
}

impl Arrivals {
    pub(crate) fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values().filter(|g| !g.line.is_empty())
    }

    pub(crate) fn group(&self, id: u32) -> Option<&Group> {
        self.groups.values().find(|g| g.id == id && !g.line.is_empty())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// What a host has here: parts of dispatches on a device, and bytes.
    pub(crate) fn load(&self, host: HostId, device: DeviceId) -> (u64, u64) {
        (self.held.get(&(host, device)).copied().unwrap_or(0), self.bytes.get(&host).copied().unwrap_or(0))
    }

    pub(crate) fn contains(&self, id: ArrivalId) -> bool {
        self.places.contains_key(&id) || self.running.contains_key(&id)
    }

    /// Takes an arrival in that takes `part` of its host's window; false when there are as many stage queues as a snapshot
    /// may show.
    pub(crate) fn push(&mut self, arrival: Arrival, part: u64, now: Nanos) -> bool {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.put(Held { arrival, arrived: now, sequence, crossed: true, alone: false, part })
    }

    /// Puts one in line that was taken out.
    pub(crate) fn put(&mut self, held: Held) -> bool {
        let Some(range) = Range::of(&held.arrival) else { return false };
        if !self.groups.contains_key(&range) {
            self.groups.retain(|_, g| !g.line.is_empty());
            if self.groups.len() >= GROUPS_MAX {
                return false;
            }
            let id = self.next_group;
            self.next_group = self.next_group.wrapping_add(1);
            self.groups.insert(range, Group { id, range, line: BTreeMap::new(), rows: 0 });
        }
        let Some(group) = self.groups.get_mut(&range) else { return false };
        let (key, arrival) = (held.key(), &held.arrival);
        *self.held.entry((arrival.host, range.device)).or_default() += held.part;
        *self.bytes.entry(arrival.host).or_default() += arrival.bytes;
        self.places.insert(arrival.id, (range, key));
        group.rows += u64::from(arrival.rows);
        group.line.insert(key, held);
        true
    }

    /// Takes a waiting arrival out.
    pub(crate) fn remove(&mut self, id: ArrivalId) -> Option<Held> {
        let (range, key) = self.places.swap_remove(&id)?;
        let group = self.groups.get_mut(&range)?;
        let held = group.line.remove(&key)?;
        group.rows -= u64::from(held.arrival.rows);
        self.forget(&held, range.device);
        Some(held)
    }

    fn forget(&mut self, held: &Held, device: DeviceId) {
        let arrival = &held.arrival;
        if let Some(parts) = self.held.get_mut(&(arrival.host, device)) {
            *parts = parts.saturating_sub(held.part);
        }
        if let Some(bytes) = self.bytes.get_mut(&arrival.host) {
            *bytes = bytes.saturating_sub(arrival.bytes);
        }
    }

    /// The first arrivals of a group that have at most `rows_max` rows together, at least one; what failed in company
    /// before goes alone. They count as running from here on.
    pub(crate) fn take(&mut self, id: u32, rows_max: u32) -> Option<(Range, Vec<Held>)> {
        let group = self.group(id)?;
        let (mut rows, mut chosen) = (0u64, Vec::new());
        for held in group.line.values() {
            let added = u64::from(held.arrival.rows);
            let fits = chosen.is_empty() || (!held.alone && rows + added <= u64::from(rows_max));
            if !fits {
                break;
            }
            rows += added;
            chosen.push(held.arrival.id);
            if held.alone {
                break;
            }
        }
        let range = group.range;
        let mut taken = Vec::with_capacity(chosen.len());
        for id in chosen {
            let (_, key) = self.places.swap_remove(&id)?;
            let group = self.groups.get_mut(&range)?;
            let held = group.line.remove(&key)?;
            group.rows -= u64::from(held.arrival.rows);
            taken.push(held);
        }
        Some((range, taken))
    }

    pub(crate) fn start(&mut self, execution: ExecutionId, joint: Joint) {
        for held in joint.members.iter().filter_map(|(_, h)| h.as_ref()) {
            self.running.insert(held.arrival.id, execution);
        }
        self.joints.insert(execution, joint);
    }

    /// Takes a joint out; its members are nowhere until put back, and no longer count for their hosts.
    pub(crate) fn finish(&mut self, execution: ExecutionId) -> Option<Joint> {
        let joint = self.joints.swap_remove(&execution)?;
        for (_, held) in &joint.members {
            let Some(held) = held else { continue };
            self.running.swap_remove(&held.arrival.id);
            self.forget(held, joint.range.device);
        }
        Some(joint)
    }

    /// Marks a running arrival as gone: its rows are executed and dropped.
    pub(crate) fn abandon(&mut self, id: ArrivalId) -> Option<Held> {
        let execution = self.running.swap_remove(&id)?;
        let joint = self.joints.get_mut(&execution)?;
        let device = joint.range.device;
        let slot = joint.members.iter_mut().find(|(_, h)| h.as_ref().is_some_and(|h| h.arrival.id == id))?;
        let held = slot.1.take()?;
        self.forget(&held, device);
        Some(held)
    }

    /// Whatever matches, waiting or running.
    pub(crate) fn matching(&self, matches: impl Fn(&Arrival) -> bool) -> Vec<ArrivalId> {
        let waiting = self.groups.values().flat_map(|g| g.line.values());
        let running = self.joints.values().flat_map(|j| j.members.iter().filter_map(|(_, h)| h.as_ref()));
        waiting.chain(running).filter(|h| matches(&h.arrival)).map(|h| h.arrival.id).collect()
    }

    /// Joints that have taken too long, and the next time one will have.
    pub(crate) fn timed_out(&self, now: Nanos) -> (Vec<ExecutionId>, Option<Nanos>) {
        let late = self.joints.iter().filter(|(_, j)| j.timeout <= now).map(|(e, _)| *e).collect();
        (late, self.joints.values().map(|j| j.timeout).filter(|t| *t > now).min())
    }

    /// The next deadline of one that waits.
    pub(crate) fn next_deadline(&self) -> Option<Nanos> {
        self.groups.values().flat_map(|g| g.line.values()).filter_map(|h| h.arrival.deadline).min()
    }

    /// As a policy sees them.
    pub(crate) fn fill(&self, out: &mut Vec<Arrived>, now: Nanos) {
        out.extend(self.groups().map(|group| {
            Arrived {
                id: group.id,
                model: group.range.model.0,
                from_cut: group.range.from_cut,
                until_cut: group.range.until_cut,
                device: group.range.device.0,
                waiting_rows: group.rows.min(u64::from(u32::MAX)) as u32,
                oldest_wait: group.line.values().map(|h| now.since(h.arrived)).max().unwrap_or_default(),
                least_slack: group
                    .line
                    .values()
                    .filter_map(|h| h.arrival.deadline)
                    .min()
                    .map_or(NO_DEADLINE, |d| d.signed_since(now)),
            }
        }));
    }
}
