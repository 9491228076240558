//! What the simple policies over several hosts share: the lanes of each model, the head of a queue that may go one way, and
//! handing a batch to a lane.

use crate::{Codecs, Lane, Now, Tag, Way, lanes};
use bps_policy_sdk::{DecisionBuilder, ModelInfo, Nanos, QueueView, Room, Snapshot, Table, World, WorldInfo};
use std::collections::BTreeMap;

/// A link or a device of another host that was last heard of longer ago is not used.
const STALE: Nanos = 1_500_000_000;

/// The world with every lane of every model.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// Topology and tables.
    pub world: World,
    codecs: Codecs,
    lanes: BTreeMap<u32, Vec<Lane>>,
}

/// The first requests of a queue that may go the same ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Requests.
    pub count: u32,
    /// Their rows.
    pub rows: u32,
    /// They must not leave this host, or should not, since they failed once already.
    pub stays: bool,
    /// They must not meet a lossy codec.
    pub lossless: bool,
}

impl Fleet {
    /// Knows nothing yet; its lanes will use these codecs.
    pub fn new(codecs: Codecs) -> Self {
        Self { world: World::default(), codecs, lanes: BTreeMap::new() }
    }

    /// Feed it from `Policy::world_changed`.
    pub fn world_changed(&mut self, now: WorldInfo) {
        self.world.replace(now);
        self.lanes.clear();
        for model in &self.world.info().models {
            self.lanes.insert(model.id, lanes(&self.world, model, self.codecs));
        }
    }

    /// Feed it from `Policy::table_changed`.
    pub fn table_changed(&mut self, now: Table) {
        let id = now.model;
        self.world.insert(now);
        if let Some(model) = self.world.model(id) {
            self.lanes.insert(id, lanes(&self.world, model, self.codecs));
        }
    }

    /// Every lane of a model.
    pub fn lanes(&self, model: u32) -> &[Lane] {
        self.lanes.get(&model).map_or(&[], Vec::as_slice)
    }

    /// How a decision begins: stages that arrived from other hosts are joined at once, then comes the present.
    pub fn begin(&self, snapshot: &Snapshot) -> (Now, Room, DecisionBuilder) {
        let (mut room, mut decision) = (Room::of(snapshot), DecisionBuilder::new());
        decision.join_arrived(&self.world, snapshot, &mut room);
        let mut now = Now::of(&self.world, snapshot, STALE);
        now.follow(&room);
        (now, room, decision)
    }

    /// The requests at the head of a queue, after those that were taken, that have at most `rows_max` rows together and may
    /// go the same ways as the first of them.
    pub fn head(&self, queue: &QueueView<'_>, taken: u32, rows_max: u32, now: &Now) -> Option<Head> {
        let can_stay = self.world.local_devices(queue.model).iter().any(|device| now.device(*device).is_some());
        let mut head: Option<Head> = None;
        for request in queue.head().skip(taken as usize) {
            let stays = request.local_only || (request.attempts > 0 && can_stay);
            let (rows, lossless) = (request.rows, request.lossless_only);
            match &mut head {
                None => head = Some(Head { count: 1, rows, stays, lossless }),
                Some(head) => {
                    let with = head.rows.saturating_add(rows);
                    if with > rows_max || (head.stays, head.lossless) != (stays, lossless) {
                        break;
                    }
                    (head.count, head.rows) = (head.count + 1, with);
                }
            }
        }
        head
    }

    /// The ways of a model that are open to a head, with or without room.
    pub fn ways<'a>(&'a self, model: u32, head: Head, now: &'a Now) -> impl Iterator<Item = Way<'a>> {
        let fits = move |lane: &&Lane| (lane.lossless || !head.lossless) && (lane.tail.is_none() || !head.stays);
        self.lanes(model).iter().filter(fits).filter_map(|lane| Way::of(lane, now))
    }

    /// Hands a head of the queue to a way, in pieces of `piece` rows (0: one), and books it.
    #[expect(clippy::too_many_arguments, reason = "all that a dispatch is and changes")]
    pub fn give(
        &self,
        queue: &QueueView<'_>,
        model: &ModelInfo,
        lane: &Lane,
        head: Head,
        (piece, why): (u32, u32),
        now: &mut Now,
        room: &mut Room,
        decision: &mut DecisionBuilder,
    ) {
        let Some(way) = Way::of(lane, now) else { return };
        let piece_rows = if piece == 0 { head.rows } else { piece.min(head.rows) }.max(1);
        let (spans, count) = (way.spans(piece_rows), f64::from(head.rows.div_ceil(piece_rows)));
        let leaves = way.head.map_or(spans.encode, |device| device.free_in + spans.head * count);
        let place = |id: u32| self.world.info().devices.iter().position(|device| device.id == id);
        let tag = Tag {
            tail: lane.tail.and_then(place).and_then(|at| u8::try_from(at).ok()),
            cut: u16::try_from(lane.cut).unwrap_or(u16::MAX),
            bytes: f64::from(lane.bytes),
            tail_nanos: spans.tail / f64::from(piece_rows),
        };
        let piece = if piece == 0 || piece >= head.rows { model.piece_rows(head.rows) } else { piece };
        let run = decision.run(queue).head(head.count).tag(tag.pack()).why(why).micro_batch(piece);
        run.along(lane.stages(model.last_cut()));
        if let Some(device) = lane.head {
            room.give(device, (spans.head * count) as Nanos);
        }
        if let Some(device) = lane.tail {
            room.give(device, (spans.tail * count) as Nanos);
            now.expect(device, leaves, f64::from(lane.bytes) * f64::from(head.rows), spans.tail * count);
        }
        now.follow(room);
    }
}

/// The way with the least cost; the first of equals.
pub fn least<'a>(ways: impl Iterator<Item = Way<'a>>, cost: impl Fn(&Way<'a>) -> f64) -> Option<Way<'a>> {
    ways.map(|way| (cost(&way), way)).min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, way)| way)
}
