//! Good behaviour over two hosts, as told: for tests of what travels.

use crate::policy::Config;
use bps_policy_sdk::{Decision, DecisionBuilder, Room, Snapshot, Stage, World};

/// The head of each queue, here up to the cut and on another host from there; here alone while none takes work.
pub(crate) fn decide(world: &World, config: &Config, now: &Snapshot) -> Decision {
    let mut decision = DecisionBuilder::new();
    let mut room = Room::of(now);
    for queue in now.queues() {
        let Some(model) = world.model(queue.model) else { continue };
        let here = world.local_devices(model.id);
        let elsewhere = world.remote_devices(model.id);
        let mut left = queue.head_count;
        while left > 0 {
            let last = model.last_cut();
            let cut = config.cut.min(last);
            let stage = |device, until_cut, codec, rate| Stage { device, until_cut, codec, rate };
            let own = room.least_backlog(here).map(|d| d.id);
            let other = room.least_backlog(elsewhere).map(|d| d.id);
            let route = match (own, other) {
                (_, Some(other)) if cut == 0 => vec![stage(other, last, config.codec, config.rate)],
                (Some(own), Some(other)) if cut < last => {
                    vec![stage(own, cut, 0, 0), stage(other, last, config.codec, config.rate)]
                }
                (Some(own), _) => vec![stage(own, last, 0, 0)],
                (None, _) => break,
            };
            route.iter().for_each(|s| room.give(s.device, 1_000_000));
            let count = left.min(config.rows).min(model.batch_max);
            left -= count;
            decision.run(&queue).head(count).micro_batch(model.batch_max).along(route);
        }
    }
    decision.finish()
}
