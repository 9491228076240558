//! The few lanes that can be best.
//!
//! What a lane costs is a sum over its parts: time here, bytes, time there. Which sum counts depends on the link's speed and
//! on how scarce each device is; but for any such weights the best lane is among a few. So they are found once per table
//! rather than in each decision: for each link speed and each of a handful of weights the best by the weighted sum, and
//! the one with the smallest slowest part.

use crate::{Lane, LaneClass};
use bps_policy_sdk::TABLE_BATCHES;
use std::collections::BTreeSet;

/// Slowest link that is planned for: 0.25 Mbit/s, in bytes a nanosecond. Each next one is twice as fast, up to 4 Gbit/s.
const SLOWEST: f64 = 32e-6;
const SPEEDS: u32 = 15;

/// Weights of time here and there beside a link's one.
const WEIGHTS: [(f64, f64); 5] = [(1.0, 1.0), (1.0, 0.2), (0.2, 1.0), (1.0, 0.0), (0.0, 1.0)];

/// Places in the tables' batch sizes that are looked at: 1 and 16 rows.
const BATCHES: [usize; 2] = [0, 4];

/// The lanes among `all` that are best at some link speed and load; all that are not splits are kept.
pub fn frontier(all: Vec<Lane>) -> Vec<Lane> {
    let mut keep: BTreeSet<usize> = (0..all.len()).filter(|at| all[*at].class() != LaneClass::Split).collect();
    let pairs: BTreeSet<_> = all.iter().filter(|lane| lane.class() == LaneClass::Split).map(pair).collect();
    for wanted in pairs {
        let of_pair: Vec<usize> = (0..all.len()).filter(|at| pair(&all[*at]) == wanted).collect();
        let lossless: Vec<usize> = of_pair.iter().copied().filter(|at| all[*at].lossless).collect();
        best(&all, &of_pair, &mut keep);
        if lossless.len() < of_pair.len() {
            best(&all, &lossless, &mut keep);
        }
    }
    let mut at = 0;
    let mut all = all;
    all.retain(|_| {
        at += 1;
        keep.contains(&(at - 1))
    });
    all
}

fn pair(lane: &Lane) -> (Option<u32>, Option<u32>) {
    (lane.head, lane.tail)
}

/// A lane's parts for one row: time here, bytes, time there.
type Parts = (f64, f64, f64);

fn best(all: &[Lane], among: &[usize], keep: &mut BTreeSet<usize>) {
    for batch in BATCHES {
        let rows = f64::from(TABLE_BATCHES[batch]);
        let parts: Vec<(usize, Parts)> = among
            .iter()
            .map(|at| {
                let lane = &all[*at];
                let here = f64::from(lane.head_nanos[batch]) / rows + f64::from(lane.encode_nanos);
                let there = f64::from(lane.tail_nanos[batch]) / rows + f64::from(lane.decode_nanos);
                (*at, (here, f64::from(lane.bytes), there))
            })
            .collect();
        let mut take = |cost: &dyn Fn(&Parts) -> f64| {
            let least = parts.iter().map(|(at, parts)| (cost(parts), *at)).min_by(|a, b| a.0.total_cmp(&b.0));
            keep.extend(least.map(|(_, at)| at));
        };
        for speed in 0..SPEEDS {
            let speed = SLOWEST * f64::from(1_u32 << speed);
            for (here, there) in WEIGHTS {
                take(&|parts| parts.0 * here + parts.1 / speed + parts.2 * there);
            }
            take(&|parts| parts.0.max(parts.1 / speed).max(parts.2));
        }
    }
}
