//! `static`: cut, codec and batch size chosen once, from the first complete tables and the first look at the link.

use bps_policy_planner::{Lane, Now, Way};
use bps_policy_sdk::{ModelInfo, Nanos, TABLE_BATCHES, World};

/// What was chosen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fixed {
    pub(crate) lane: Lane,
    pub(crate) rows: u32,
}

/// Part of an SLO that the time of a batch alone may take.
const LATENCY_SHARE: f64 = 0.5;

/// The lane and batch with the smallest slowest part for each row; none while a device or its table is missing.
pub(crate) fn choose(world: &World, model: &ModelInfo, lanes: &[Lane], now: &Now) -> Option<Fixed> {
    let known = |device: &u32| {
        now.device(*device).is_some() && world.costs().stage_nanos(model.id, *device, 1, 0, model.last_cut()).is_some()
    };
    if !model.devices.iter().all(known) {
        return None;
    }
    let slo: Nanos = model.slo;
    let sizes = TABLE_BATCHES.iter().copied().filter(|rows| *rows < model.batch_max).chain([model.batch_max.max(1)]);
    let mut best: Option<(f64, Fixed)> = None;
    for rows in sizes {
        for way in lanes.iter().filter_map(|lane| Way::of(lane, now)) {
            let in_time = slo == 0 || rows == 1 || way.time_alone(rows) <= slo as f64 * LATENCY_SHARE;
            let cost = way.spans(rows).slowest() / f64::from(rows);
            if in_time && best.as_ref().is_none_or(|(least, _)| cost < *least) {
                best = Some((cost, Fixed { lane: way.lane.clone(), rows }));
            }
        }
    }
    best.map(|(_, fixed)| fixed)
}
