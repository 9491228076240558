//! A plan over several hosts in turn, as told: for tests of what one host hands on to the next.

use crate::policy::Config;
use bps_policy_sdk::{Decision, DecisionBuilder, ModelInfo, Room, Snapshot, Stage, World};

/// The head of each queue along the way; here alone while a host of it takes no work.
pub(crate) fn decide(world: &World, config: &Config, now: &Snapshot) -> Decision {
    let mut decision = DecisionBuilder::new();
    let mut room = Room::of(now);
    for queue in now.queues() {
        let Some(model) = world.model(queue.model) else { continue };
        let mut left = queue.head_count;
        while left > 0 {
            let Some(route) = route(world, config, &room, model) else { break };
            route.iter().for_each(|s| room.give(s.device, 1_000_000));
            let count = left.min(config.rows).min(model.batch_max);
            left -= count;
            decision.run(&queue).head(count).micro_batch(model.batch_max).along(route);
        }
    }
    decision.finish()
}

/// The stages; none while a device of the way has no room.
fn route(world: &World, config: &Config, room: &Room, model: &ModelInfo) -> Option<Vec<Stage>> {
    let elsewhere = |name: &String| {
        let host = world.info().hosts.iter().find(|host| host.name == *name).map(|host| host.id);
        let devices = world.remote_devices(model.id).iter().copied();
        devices.filter(|device| host.is_some() && world.host_of(*device) == host).collect::<Vec<u32>>()
    };
    let mut places = vec![world.local_devices(model.id).to_vec()];
    places.extend(config.way.iter().map(elsewhere));
    if places.iter().any(|devices| room.up(devices).next().is_none()) {
        places.truncate(1);
    }
    let last = model.last_cut();
    let mut stages: Vec<Stage> = vec![];
    let mut from = 0;
    for (index, devices) in places.iter().enumerate() {
        let on = config.cuts.get(index).copied().filter(|_| index + 1 < places.len());
        let until_cut = on.unwrap_or(last).min(last);
        // A first cut at the input leaves this host nothing to do.
        if until_cut <= from {
            continue;
        }
        let device = room.least_backlog(devices)?;
        // What this host computes first came from nowhere: it has no codec.
        let (codec, rate) = if index == 0 { (0, 0) } else { (config.codec, config.rate) };
        stages.push(Stage { device: device.id, until_cut, codec, rate });
        from = until_cut;
    }
    Some(stages)
}
