//! What decides between lanes under load: a price for each device and each direction of each link, and the few lanes that
//! are worth looking at while the speeds are as they are.
//!
//! The prices are the dual of "as many rows a second as all devices and links together can do". A lane's cost at these
//! prices, less the optimum's, says by how much a row on it delays each row that waits behind it; nothing for the lanes
//! of the optimum. So one rule serves at every load: a batch takes the lane with the earliest answer, where each row that
//! waits behind adds that delay.

use crate::way::Spans;
use crate::{Inputs, Lane, LaneClass, Now, Optimum, Way, maximise};
use bps_policy_sdk::{Nanos, TABLE_BATCHES, World};

/// A lane with what its parts are worth.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedLane {
    /// Which.
    pub lane: Lane,
    /// Its part of all rows at full load; 0 for a lane that full load has no use for.
    pub share: f64,
    /// It is here only for requests that must not meet a lossy codec; others have better lanes.
    pub for_lossless: bool,
    head_price: f64,
    send_price: f64,
    tail_price: f64,
    back_price: f64,
}

/// The lanes to look at, for the speeds it was made for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Those worth looking at.
    pub lanes: Vec<PlannedLane>,
    /// Nanoseconds a row takes at full load.
    pub row_nanos: f64,
}

/// Part of a model's SLO that the unloaded time of a batch may take; the rest is for waiting in line.
const LATENCY_SHARE: f64 = 0.5;

/// What splits must bring at full load to be used for it.
const SIMPLE_GAIN: f64 = 1.08;

/// And lanes that take turns over the same devices: what both fill to the brim, one of them leaves idle in turn.
const TURNS_GAIN: f64 = 1.15;

/// A larger batch may cost so many times what the best costs for each row.
const NEARLY: f64 = 1.03;

/// Part of its time from which a link counts as nearly full.
const LINK_FULL: f64 = 0.75;

/// Batch sizes at which the quickest lane is kept.
const LATENCY_ROWS: [u32; 2] = [1, 8];

impl Plan {
    /// Plans for a model's frontier. `slo` 0: none is stated.
    pub fn make(world: &World, frontier: &[Lane], inputs: &Inputs, rows_max: u32, slo: Nanos) -> Self {
        let rest = inputs.at_rest(world);
        let ways: Vec<Way<'_>> = frontier.iter().filter_map(|lane| Way::of(lane, &rest)).collect();
        let rows: Vec<u32> = ways.iter().map(|way| batch(way, rows_max, slo)).collect();
        let resources = Resources { now: &rest };
        let loads: Vec<Vec<f64>> = ways.iter().zip(&rows).map(|(way, rows)| resources.loads(way, *rows)).collect();
        let Some(optimum) = optimum(&ways, &loads, resources.count()) else { return Self::default() };
        let price = |at: Option<usize>| at.map_or(0.0, |at| optimum.prices[at] / optimum.flow);
        let lane = |(at, for_lossless): (usize, bool)| {
            let places = resources.places(&ways[at]);
            PlannedLane {
                lane: ways[at].lane.clone(),
                share: optimum.amounts[at] / optimum.flow,
                for_lossless,
                head_price: price(places[0]),
                send_price: price(places[1]),
                tail_price: price(places[2]),
                back_price: price(places[3]),
            }
        };
        let used = |at: &usize| optimum.amounts[*at] > optimum.flow * 1e-6;
        let keep = shortlist(&ways, &rows, rows_max, used);
        Self { lanes: keep.into_iter().map(lane).collect(), row_nanos: 1.0 / optimum.flow }
    }

    /// Rows a second that flow at full load, as far as is known.
    pub fn rows_per_second(&self) -> f64 {
        if self.row_nanos > 0.0 { 1e9 / self.row_nanos } else { 0.0 }
    }

    /// By how many nanoseconds each row of a batch that takes so much of each part delays each row behind it.
    pub fn delay(&self, lane: &PlannedLane, spans: &Spans, rows: u32) -> f64 {
        let cost = spans.head * lane.head_price
            + spans.send * lane.send_price
            + spans.tail * lane.tail_price
            + spans.back * lane.back_price;
        (cost / f64::from(rows.max(1)) - self.row_nanos).max(0.0)
    }
}

/// The most that flows, as simply as it can be had: splits, and several codecs or cuts over the same devices, are used only
/// where they bring something. They tie devices together and take turns, which costs what the tables do not know.
fn optimum(ways: &[Way<'_>], loads: &[Vec<f64>], resource_count: usize) -> Option<Optimum> {
    let all: Vec<usize> = (0..ways.len()).collect();
    let joint = among(loads, &all, resource_count).filter(|optimum| optimum.flow > 0.0)?;
    let is_enough = |found: &Optimum, gain: f64| found.flow * gain >= joint.flow;
    let whole: Vec<usize> = all.iter().copied().filter(|at| ways[*at].lane.class() != LaneClass::Split).collect();
    let apart = among(loads, &whole, resource_count).filter(|found| is_enough(found, SIMPLE_GAIN));
    let found = apart.as_ref().unwrap_or(&joint);
    // Of the lanes over the same devices, the one that carries most.
    let over = |at: usize| (ways[at].lane.head, ways[at].lane.tail);
    let is_main = |at: &usize| {
        let rivals = all.iter().filter(|rival| over(**rival) == over(*at));
        found.amounts[*at] > 0.0 && rivals.clone().all(|rival| found.amounts[*rival] <= found.amounts[*at])
    };
    let mut mains: Vec<usize> = all.iter().copied().filter(is_main).collect();
    let mut plain = among(loads, &mains, resource_count)?;
    if !is_enough(&plain, SIMPLE_GAIN) {
        // That one may need another beside it where a third would do alone: small values where large ones fill the link.
        for place in 0..mains.len() {
            let main = mains[place];
            for rival in all.iter().copied().filter(|rival| *rival != main && over(*rival) == over(main)) {
                let mut others = mains.clone();
                others[place] = rival;
                let Some(other) = among(loads, &others, resource_count) else { continue };
                if other.flow > plain.flow {
                    (mains, plain) = (others, other);
                }
            }
        }
    }
    let plain = Some(plain).filter(|plain| is_enough(plain, if apart.is_some() { TURNS_GAIN } else { SIMPLE_GAIN }));
    plain.map(|plain| spare_links(ways, loads, mains, plain)).or(apart).or(Some(joint))
}

/// The same flow, nearly, with less on links that are nearly full: how fast a device is, is known to a few per cent at best,
/// and a link that turns out to be what limits has a queue before anybody notices.
fn spare_links(ways: &[Way<'_>], loads: &[Vec<f64>], mut mains: Vec<usize>, plain: Optimum) -> Optimum {
    let resource_count = plain.prices.len();
    let sent = |at: usize| ways[at].tail.map_or(0.0, |(_, link)| f64::from(ways[at].lane.bytes) / link.up);
    let mut found = plain.clone();
    for place in 0..mains.len() {
        let main = mains[place];
        if found.amounts[main] * sent(main) < LINK_FULL {
            continue;
        }
        let same = |at: &usize| {
            let (lane, other) = (&ways[*at].lane, &ways[main].lane);
            (lane.head, lane.tail, lane.cut) == (other.head, other.tail, other.cut) && lane.bytes < other.bytes
        };
        let mut rivals: Vec<usize> = (0..ways.len()).filter(same).collect();
        // The one that changes least comes first.
        rivals.sort_by(|a, b| ways[*b].lane.bytes.total_cmp(&ways[*a].lane.bytes));
        for rival in rivals {
            let mut others = mains.clone();
            others[place] = rival;
            let Some(spared) = among(loads, &others, resource_count) else { continue };
            if spared.flow * NEARLY >= plain.flow && spared.amounts[rival] * sent(rival) < LINK_FULL {
                (mains, found) = (others, spared);
                break;
            }
        }
    }
    found
}

/// The most that flows along some of the lanes.
fn among(loads: &[Vec<f64>], some: &[usize], resource_count: usize) -> Option<Optimum> {
    let columns: Vec<Vec<f64>> = some.iter().map(|at| loads[*at].clone()).collect();
    let found = maximise(&columns, resource_count)?;
    let mut amounts = vec![0.0; loads.len()];
    some.iter().zip(&found.amounts).for_each(|(at, amount)| amounts[*at] = *amount);
    Some(Optimum { amounts, ..found })
}

/// The batch in which a row costs the least, of those whose time alone leaves room for a wait; the larger of two that are
/// nearly as good, and one row where none leaves any. On many a processor a large batch costs more for each row.
fn batch(way: &Way<'_>, rows_max: u32, slo: Nanos) -> u32 {
    let fits = |rows: &u32| slo == 0 || way.finish(*rows) <= slo as f64 * LATENCY_SHARE;
    let sizes = TABLE_BATCHES.iter().copied().filter(|rows| *rows < rows_max).chain([rows_max]);
    let costs: Vec<(u32, f64)> =
        sizes.filter(fits).map(|rows| (rows, way.spans(rows).slowest() / f64::from(rows))).collect();
    let least = costs.iter().map(|(_, cost)| *cost).fold(f64::MAX, f64::min);
    costs.iter().rev().find(|(_, cost)| *cost <= least * NEARLY).map_or(1, |(rows, _)| *rows)
}

/// Places of the lanes to look at: all that full load uses, and of each kind the quickest and the steadiest. With each,
/// whether only requests that must not meet a lossy codec have a use for it.
fn shortlist(ways: &[Way<'_>], rows: &[u32], rows_max: u32, used: impl Fn(&usize) -> bool) -> Vec<(usize, bool)> {
    let is_kept = |at: &usize| used(at) || ways[*at].lane.class() == LaneClass::Here;
    let mut keep: Vec<(usize, bool)> = (0..ways.len()).filter(is_kept).map(|at| (at, false)).collect();
    let mut tails: Vec<u32> = ways.iter().filter_map(|way| way.lane.tail).collect();
    tails.sort_unstable();
    tails.dedup();
    for tail in tails {
        for lossless in [false, true] {
            let fits = |at: &usize| ways[*at].lane.tail == Some(tail) && (!lossless || ways[*at].lane.lossless);
            let mut take = |cost: &dyn Fn(usize) -> f64, class: Option<LaneClass>| {
                let of_class = |at: &usize| fits(at) && class.is_none_or(|class| ways[*at].lane.class() == class);
                let best = (0..ways.len()).filter(of_class).min_by(|a, b| cost(*a).total_cmp(&cost(*b)));
                keep.extend(best.map(|at| (at, lossless)));
            };
            for size in LATENCY_ROWS {
                take(&|at| ways[at].finish(size.min(rows_max)), None);
            }
            take(&|at| ways[at].spans(rows[at]).slowest() / f64::from(rows[at]), None);
            take(&|at| ways[at].finish(1), Some(LaneClass::There));
        }
    }
    // Of one that is here for both, the first stays: it is for all.
    keep.sort_unstable();
    keep.dedup_by_key(|(at, _)| *at);
    keep
}

/// Devices and link directions in one row: devices first, then each link's way there and back.
struct Resources<'a> {
    now: &'a Now,
}

impl Resources<'_> {
    fn count(&self) -> usize {
        self.now.devices.len() + 2 * self.now.links.len()
    }

    /// Places of a way's head, way there, tail and way back.
    fn places(&self, way: &Way<'_>) -> [Option<usize>; 4] {
        let device = |id: u32| self.now.devices.iter().position(|device| device.id == id);
        let link = way.tail.and_then(|(_, link)| self.now.links.iter().position(|known| known.host == link.host));
        let there = link.map(|link| self.now.devices.len() + 2 * link);
        [way.lane.head.and_then(device), there, way.lane.tail.and_then(device), there.map(|at| at + 1)]
    }

    /// What one row of a batch takes of each.
    fn loads(&self, way: &Way<'_>, rows: u32) -> Vec<f64> {
        let spans = way.spans(rows);
        let mut loads = vec![0.0; self.count()];
        for (place, span) in self.places(way).into_iter().zip([spans.head, spans.send, spans.tail, spans.back]) {
            if let Some(place) = place {
                loads[place] += span / f64::from(rows);
            }
        }
        // Something that takes no time at all would flow without bound.
        if let Some(first) = loads.first_mut().filter(|_| spans.slowest() <= 0.0) {
            *first = 1.0;
        }
        loads
    }
}

#[cfg(test)]
mod tests;
