//! A present for native tests: one queue of the only model, this host's device and the other's, and the link between them.

use super::{Cell, LOCAL, MODEL, REMOTE, add_links, tables, world};
use bps_policy_sdk::testing::{device, snapshot};
use bps_policy_sdk::{Decision, Policy, Selection, Snapshot};

/// A policy that has been told of a cell with so many other hosts, each as quick as the cell's.
pub fn told<P: Policy>(cell: &Cell, remotes: u32, accuracy_budget_ppm: u32, config: &str) -> P {
    let mut policy = P::configure(config, 1).unwrap_or_else(|error| panic!("{config}: {error:?}"));
    policy.world_changed(world(&cell.network, remotes, accuracy_budget_ppm));
    let mut speeds = vec![cell.speeds[0]];
    speeds.extend((0..remotes).map(|_| cell.speeds[1]));
    tables(&cell.network, &speeds).into_iter().for_each(|table| policy.table_changed(table));
    policy
}

/// So many requests wait, every device is idle, every link is up.
pub fn at_rest(cell: &Cell, remotes: u32, waiting: u32) -> Snapshot {
    let mut devices = vec![device(LOCAL, 0, 2)];
    devices.extend((0..remotes).map(|at| device(REMOTE + at, 0, 8)));
    let mut now = snapshot(&[(MODEL, waiting)], devices);
    add_links(&mut now, remotes, (cell.net.mbit * 1e6 / 8.0) as f32, (cell.net.rtt_ms * 1e6) as u64);
    now
}

/// (requests, cut at which they leave this host, codec) of each dispatch: cut 0 for all there, the last cut for all here.
pub fn rows(decision: &Decision, last_cut: u32) -> Vec<(u32, u32, u8)> {
    let row = |dispatch: &bps_policy_sdk::Dispatch| {
        let count = match &dispatch.requests {
            Selection::Head(count) => *count,
            Selection::These(ids) => ids.len() as u32,
        };
        let cut = match &dispatch.stages[..] {
            [only] if only.device == LOCAL => last_cut,
            [_] => 0,
            [first, ..] => first.until_cut,
            [] => u32::MAX,
        };
        (count, cut, dispatch.stages.last().map_or(0, |stage| stage.codec))
    };
    decision.dispatches.iter().map(row).collect()
}
