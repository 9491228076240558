//! The rule for one queue.
//!
//! Each device that can answer is looked at with its best lane: this host's devices whole, another host's with the cut and
//! codec whose batch is answered first, where every row that waits behind adds the delay that the plan's prices put on
//! the lane. The waiting rows are then poured over these lanes like water ([`share`](crate::share)): each takes what it can
//! answer by the time at which all are answered. A lane that takes nothing by then is left alone, so a slow device helps
//! with a long line and not with a short one. Of the lanes that take something those of the plan's optimum come first, the one first that is
//! most behind its share: at low load that is the quickest, at full load all keep their proportions. A batch is held back
//! while it would only wait in front of something busy.

use crate::choice::{Bests, Choice, SIZES_MAX, is_uncertain, is_unknown, sizes};
use crate::heads::{Heads, bits};
use crate::known::InUse;
use crate::message::even_message;
use crate::policy::why;
use crate::share::{Sharing, Waiting};
use crate::turns::Turns;
use bps_policy_planner::{Gather, LaneClass, Line, Now, Plan, PlannedLane, Spans, Tag, Way, choose_pipelined};
use bps_policy_sdk::{DecisionBuilder, ModelInfo, Nanos, QueueView, Request, Room, World};
use std::collections::BTreeMap;

/// Dispatches for one queue in one decision, at most; the next decision makes more.
const DISPATCHES_MAX: u32 = 16;
/// A batch is cut into pieces that overlap only for this gain.
const PIECES_GAIN: f64 = 0.95;

/// What a message costs two hosts beside its bytes, nanoseconds; in no table, and nothing beside executions of milliseconds.
const MESSAGE: f64 = 200_000.0;

/// A queue's service.
pub(crate) struct Serve<'a> {
    pub(crate) world: &'a World,
    pub(crate) gather: &'a Gather,
    pub(crate) model: &'a ModelInfo,
    pub(crate) plan: &'a Plan,
    pub(crate) hysteresis: f64,
    pub(crate) in_use: &'a mut BTreeMap<u32, InUse>,
    pub(crate) turns: &'a mut Turns,
}

/// A batch that goes out.
struct Batch {
    places: u32,
    rows: u32,
    piece: u32,
}

impl Serve<'_> {
    /// Gives out what should go out now. True if something is left that may go any way, and should not go now: then nothing
    /// of this model should.
    pub(crate) fn queue(
        &mut self,
        queue: &QueueView<'_>,
        now: &mut Now,
        room: &mut Room,
        decision: &mut DecisionBuilder,
    ) -> bool {
        let mut heads = self.heads(queue, now);
        let (all, mut is_held) = (heads.open, false);
        for _ in 0..DISPATCHES_MAX {
            if heads.open == 0 {
                break;
            }
            let plan = self.plan;
            let Some((at, batch)) = self.next(queue, &heads, now, decision) else {
                // The first of them cannot go out now; those with other constraints perhaps can.
                let alike = self.alike(&heads);
                is_held |= alike & heads.may_leave & heads.may_lose != 0;
                heads.open &= !alike;
                continue;
            };
            heads.open &= !batch.places;
            heads.given |= batch.places;
            self.turns.took(at, plan.lanes[at].share, batch.rows);
            self.give_out(queue, &heads, &plan.lanes[at], &batch, now, room, decision);
        }
        if heads.given == all && heads.unseen > 0 && room.free(&self.model.devices).next().is_some() {
            // Devices have room for requests that this snapshot does not show: ask again with the next ones.
            decision.wake_after(0);
        }
        is_held
    }

    fn heads(&self, queue: &QueueView<'_>, now: &Now) -> Heads {
        let requests: Vec<Request> = queue.head().take(32).collect();
        let here = self.world.local_devices(self.model.id);
        let can_stay = here.iter().any(|device| now.device(*device).is_some());
        let places = |fits: &dyn Fn(&Request) -> bool| {
            requests.iter().enumerate().filter(|(_, request)| fits(request)).fold(0_u32, |set, (at, _)| set | 1 << at)
        };
        Heads {
            open: places(&|_| true),
            // What has failed once is not sent away again while it can be answered here.
            may_leave: places(&|request| !request.local_only && (request.attempts == 0 || !can_stay)),
            may_lose: places(&|request| !request.lossless_only),
            given: 0,
            unseen: queue.waiting.saturating_sub(queue.head_count),
            requests,
        }
    }

    /// Requests that may go the same ways as the first open one.
    fn alike(&self, heads: &Heads) -> u32 {
        let first = 1_u32 << heads.open.trailing_zeros();
        let same = |set: u32| if set & first != 0 { set } else { !set };
        heads.open & same(heads.may_leave) & same(heads.may_lose)
    }

    /// The lane and batch to hand over now, if any; what is worth waiting for becomes a wake-up.
    fn next(
        &self,
        queue: &QueueView<'_>,
        heads: &Heads,
        now: &Now,
        decision: &mut DecisionBuilder,
    ) -> Option<(usize, Batch)> {
        let is_open = |id: &u32| now.device(*id).is_some_and(|device| device.credits > 0);
        if !self.model.devices.iter().any(is_open) {
            return None;
        }
        let rows_max = self.gather.rows_max(self.model);
        let first = 1_u32 << heads.open.trailing_zeros();
        let waiting = heads.rows(heads.open).saturating_add(heads.unseen);
        let sizes = sizes(waiting.clamp(1, rows_max));
        // Rows a nanosecond that come while these are on their way, and wait behind them.
        let coming = f64::from(queue.arrivals_per_second.max(0.0)).min(1e9) / 1e9;
        let choices = self.choices(heads, first, (waiting, coming), &sizes, now);
        let since = heads.requests.get(heads.open.trailing_zeros() as usize).map_or(0.0, |first| first.wait as f64);
        let line = Waiting { rows: waiting, coming, since, rows_max, sizes: &sizes, lead: self.gather.lead as f64 };
        let sharing = Sharing::of(line, &choices, |choice| self.order(choice));
        // Nothing is left lying for a device that does not take it after all.
        let mut pick = |reserving: bool| self.pick(heads, &sharing, reserving, waiting, decision);
        pick(true).or_else(|| pick(false)).or_else(|| self.probe(heads, now))
    }

    /// The first lane in turn that takes some of the line now, with its batch.
    fn pick(
        &self,
        heads: &Heads,
        sharing: &Sharing<'_, '_>,
        reserving: bool,
        waiting: u32,
        decision: &mut DecisionBuilder,
    ) -> Option<(usize, Batch)> {
        // Lanes over the same devices differ in what they send: where the one whose turn it is must wait, so must they.
        let mut tried: Vec<(Option<u32>, Option<u32>)> = vec![];
        for choice in &sharing.in_play {
            let over = (choice.planned.lane.head, choice.planned.lane.tail);
            if tried.contains(&over) || !choice.way.has_room() || is_uncertain(choice) {
                continue;
            }
            tried.push(over);
            let busy = sharing.busy(choice);
            if busy > 0.0 {
                decision.wake_after(busy as Nanos);
                continue;
            }
            let Some(rows) = sharing.rows(choice, reserving) else { continue };
            let batch = self.batch(heads, choice, rows, waiting);
            let hold = choice.way.hold(batch.rows, self.gather.lead as f64).max(sharing.gather(choice, rows));
            if hold <= 0.0 {
                return Some((choice.at, batch));
            }
            decision.wake_after(hold as Nanos);
        }
        None
    }

    /// Lanes of the optimum by how far they are ahead of their share, then all others.
    fn order(&self, choice: &Choice<'_>) -> (bool, u64) {
        if choice.planned.share > 0.0 { (false, self.turns.of(choice.at)) } else { (true, 0) }
    }

    /// For the first open request: to each device the best lane, the best that needs none of this host's devices, and the
    /// lanes of the optimum.
    fn choices<'n>(
        &'n self,
        heads: &Heads,
        first: u32,
        (waiting, coming): (u32, f64),
        sizes: &[u32],
        now: &'n Now,
    ) -> Vec<Choice<'n>> {
        // What nobody would wait for in larger batches is not looked at in larger batches.
        let usual = sizes.last().copied().unwrap_or(1);
        let (may_lose, steady) = (heads.may_lose & first != 0, self.steady());
        // (device, score, place in `found`) of the best lane, and of the best without a head here.
        let (mut best, mut alone) = (Bests::default(), Bests::default());
        let mut found: Vec<(usize, Way<'n>)> = Vec::with_capacity(self.plan.lanes.len());
        for (at, planned) in self.plan.lanes.iter().enumerate() {
            let Some(device) = planned.lane.tail.or(planned.lane.head) else { continue };
            if heads.on(planned) & first == 0 || (planned.for_lossless && may_lose) {
                continue;
            }
            let Some(way) = Way::of(&planned.lane, now) else { continue };
            let score =
                self.score(planned, &way, &way.spans(usual), usual, waiting, coming) * self.discount(planned, &steady);
            best.take(device, score, found.len());
            if planned.lane.head.is_none() {
                alone.take(device, score, found.len());
            }
            found.push((at, way));
        }
        let is_looked_at =
            |place: usize, at: usize| best.has(place) || alone.has(place) || self.plan.lanes[at].share > 0.0;
        let looked_at = found.iter().enumerate().filter(|(place, (at, _))| is_looked_at(*place, *at));
        looked_at
            .map(|(place, (at, way))| {
                let planned = &self.plan.lanes[*at];
                let mut scores = [f64::MAX; SIZES_MAX];
                let (mut floor, mut slope, mut one) = (0.0_f64, f64::MAX, None);
                for (score, rows) in scores.iter_mut().zip(sizes) {
                    let spans = way.spans(*rows);
                    let together = self.score(planned, way, &spans, *rows, waiting, coming);
                    // Where a large batch costs more for each row, they had better follow each other.
                    let (first, apart) = *one.get_or_insert((together, spans.slowest()));
                    floor = floor.max(together.min(first + apart * f64::from(*rows - 1)));
                    (*score, slope) = (floor, slope.min(spans.slowest() / f64::from(*rows)));
                }
                Choice { at: *at, planned, is_best: best.has(place), way: *way, scores, slope }
            })
            .collect()
    }

    /// When `rows` rows are answered, with what that costs each row behind them.
    fn score(&self, planned: &PlannedLane, way: &Way<'_>, spans: &Spans, rows: u32, waiting: u32, coming: f64) -> f64 {
        let finish = way.finish_of(spans);
        let behind = f64::from(waiting.saturating_sub(rows)) + coming * finish.min(1e9);
        finish + behind * self.plan.delay(planned, spans, rows)
    }

    /// Devices to which the lane in use is of the optimum.
    fn steady(&self) -> Vec<u32> {
        let of_optimum = self.plan.lanes.iter().filter(|planned| planned.share > 0.0);
        let tails = of_optimum.filter_map(|planned| planned.lane.tail.map(|tail| (tail, InUse::of(&planned.lane))));
        tails.filter(|(tail, lane)| self.in_use.get(tail) == Some(lane)).map(|(tail, _)| tail).collect()
    }

    /// The lane in use to a device stays until another is better by a margin; all lanes of the optimum are in use.
    fn discount(&self, planned: &PlannedLane, steady: &[u32]) -> f64 {
        let Some(tail) = planned.lane.tail else { return 1.0 };
        let of_optimum = planned.share > 0.0 && steady.contains(&tail);
        let keeps = of_optimum || self.in_use.get(&tail) == Some(&InUse::of(&planned.lane));
        if keeps { 1.0 - self.hysteresis } else { 1.0 }
    }

    /// The first requests that fit, as many as serve the deadlines best, and the pieces they go in.
    fn batch(&self, heads: &Heads, choice: &Choice<'_>, rows_max: u32, waiting: u32) -> Batch {
        let places = heads.on(choice.planned);
        let requests: Vec<Request> = bits(places).map(|at| heads.requests[at]).collect();
        let line = Line::from_requests(&requests, heads.unseen, self.model.slo, self.gather.slack_share);
        let even = even_message(&choice.way, &line, rows_max, waiting);
        let (count, rows) = even.unwrap_or_else(|| choose_pipelined(&line, rows_max, |rows| choice.way.ends(rows)));
        let chosen = bits(places).take(count as usize).fold(0_u32, |set, at| set | 1 << at);
        let mut batch = Batch { places: chosen, rows, piece: self.model.piece_rows(rows) };
        let leaves = choice.planned.lane.class() != LaneClass::Here;
        if leaves && even.is_none() && count > 1 && batch.piece == 0 {
            let behind = f64::from(waiting.saturating_sub(rows));
            let cost = |piece: u32| {
                let delay = self.plan.delay(choice.planned, &choice.way.spans(piece), piece);
                let messages = MESSAGE * f64::from(rows.div_ceil(piece));
                choice.way.finish_in_pieces(rows, piece) + behind * delay + messages
            };
            let whole = cost(rows) * PIECES_GAIN;
            let pieces = [rows.div_ceil(2), rows.div_ceil(4)].into_iter().map(|piece| (cost(piece), piece));
            let best = pieces.min_by(|a, b| a.0.total_cmp(&b.0)).filter(|(cost, _)| *cost < whole);
            batch.piece = best.map_or(0, |(_, piece)| piece);
        }
        batch
    }

    /// One request for a device of which nobody has measured anything and that stands idle while others wait: what it really
    /// takes may be a tenth of what is assumed. The last visible one goes, and only if it has time.
    fn probe(&self, heads: &Heads, now: &Now) -> Option<(usize, Batch)> {
        for (at, planned) in self.plan.lanes.iter().enumerate() {
            let Some(way) = Way::of(&planned.lane, now).filter(Way::has_room) else { continue };
            let idle = way.tail.is_some_and(|(device, _)| device.slowdown == 1.0 && device.running == 0);
            let places = heads.on(planned);
            if planned.lane.measured || !idle || places.count_ones() < 2 {
                continue;
            }
            let last = 31 - places.leading_zeros();
            let request = heads.requests[last as usize];
            let in_time = request.slack.is_none_or(|slack| slack as f64 > 2.0 * way.finish(request.rows));
            if in_time && request.rows <= self.gather.rows_max(self.model) {
                return Some((at, Batch { places: 1 << last, rows: request.rows, piece: 0 }));
            }
        }
        None
    }

    #[expect(clippy::too_many_arguments, reason = "all that a dispatch changes")]
    fn give_out(
        &mut self,
        queue: &QueueView<'_>,
        heads: &Heads,
        planned: &PlannedLane,
        batch: &Batch,
        now: &mut Now,
        room: &mut Room,
        decision: &mut DecisionBuilder,
    ) {
        let lane = &planned.lane;
        let Some(way) = Way::of(lane, now) else { return };
        let piece = if batch.piece == 0 { batch.rows } else { batch.piece };
        let (spans, count) = (way.spans(piece), f64::from(batch.rows.div_ceil(piece.max(1))));
        let leaves = way.head.map_or(spans.encode, |head| head.free_in + spans.head * count);
        let place = |id: u32| self.world.info().devices.iter().position(|device| device.id == id);
        let tag = Tag {
            tail: lane.tail.and_then(place).and_then(|at| u8::try_from(at).ok()),
            cut: u16::try_from(lane.cut).unwrap_or(u16::MAX),
            bytes: f64::from(lane.bytes),
            tail_nanos: spans.tail / f64::from(piece.max(1)),
        };
        let (probe, why) = match lane.class() {
            _ if batch.places.count_ones() == 1 && is_unknown(planned, &way) => (true, why::PROBE),
            LaneClass::Here => (false, why::HERE),
            LaneClass::There => (false, why::THERE),
            LaneClass::Split => (false, why::SPLIT),
        };
        let ids: Vec<u64> = bits(batch.places).map(|at| heads.requests[at].id).collect();
        // The first in line need not be named.
        let is_prefix = |set: u32| set & set.wrapping_add(1) == 0;
        let are_first = is_prefix(heads.given) && is_prefix(heads.given & !batch.places);
        let run = decision.run(queue).tag(tag.pack()).why(why).micro_batch(batch.piece);
        let run = if are_first { run.head(ids.len() as u32) } else { run.these(ids) };
        run.along(lane.stages(self.model.last_cut()));
        if let Some(head) = lane.head {
            room.give(head, (spans.head * count) as Nanos);
        }
        if let Some(tail) = lane.tail {
            room.give(tail, (spans.tail * count) as Nanos);
            now.expect(tail, leaves, f64::from(lane.bytes) * f64::from(batch.rows), spans.tail * count);
            if !probe {
                self.in_use.insert(tail, InUse::of(lane));
            }
        }
        now.follow(room);
    }
}
