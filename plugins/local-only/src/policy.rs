//! The policy: a pure function of the world and the snapshot.

use bps_policy_sdk::{
    ConfigError, Decision, DecisionBuilder, Manifest, NoConfig, Policy, Room, Snapshot, Table, World, WorldInfo,
    parse_config,
};

/// One request at a time, on this machine's least busy device.
#[derive(Debug, Default)]
pub struct LocalOnly {
    world: World,
}

impl Policy for LocalOnly {
    fn manifest() -> Manifest {
        Manifest {
            name: "local-only".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: "One request at a time, on this machine's least busy device.".into(),
            config_schema: r#"{"type":"object","additionalProperties":false}"#.into(),
            state_schema: String::new(),
            reasons: vec!["least backlog".into()],
        }
    }

    fn configure(config: &str, _seed: u64) -> Result<Self, ConfigError> {
        parse_config::<NoConfig>(config)?;
        Ok(Self::default())
    }

    fn world_changed(&mut self, now: WorldInfo) {
        self.world.replace(now);
    }

    fn table_changed(&mut self, now: Table) {
        self.world.insert(now);
    }

    fn decide(&mut self, now: &Snapshot) -> Decision {
        decide(&self.world, now)
    }
}

/// Each request, most urgent first, goes to the device that will be done first, while any still takes one.
fn decide(world: &World, now: &Snapshot) -> Decision {
    let mut decision = DecisionBuilder::new();
    let mut room = Room::of(now);
    decision.join_arrived(world, now, &mut room);
    for queue in now.queues_by_urgency() {
        let Some(model) = world.model(queue.model) else { continue };
        for request in queue.head() {
            let Some(device) = room.least_backlog(world.local_devices(model.id)) else { break };
            let cost = world.costs().stage_nanos(model.id, device.id, request.rows, 0, model.last_cut());
            room.give(device.id, cost.unwrap_or(UNKNOWN_COST));
            decision.run(&queue).head(1).micro_batch(model.piece_rows(request.rows)).on(device.id, model.last_cut());
        }
    }
    decision.finish()
}

/// What an execution without a cost table is taken to need, so that requests still spread over the devices.
const UNKNOWN_COST: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use bps_policy_sdk::Selection;
    use bps_policy_sdk::testing::{device, snapshot, stage_table, world};

    /// (queue, device) of each row.
    fn rows(decision: &Decision) -> Vec<(u32, u32)> {
        decision.dispatches.iter().map(|row| (row.queue, row.stages[0].device)).collect()
    }

    fn known(models: &[(u32, &str)], devices: u32) -> World {
        let mut known = World::default();
        known.replace(world(models, devices));
        for (model, _) in models {
            (1..=devices).for_each(|device| known.insert(stage_table(*model, device, &[10.0, 20.0])));
        }
        known
    }

    #[test]
    fn the_least_busy_device_first() {
        let now = snapshot(&[(1, 1)], vec![device(1, 90, 2), device(2, 30, 2)]);
        assert_eq!(rows(&decide(&known(&[(1, "m")], 2), &now)), [(1, 2)]);
    }

    #[test]
    fn requests_spread_and_stop_when_no_device_takes_more() {
        let now = snapshot(&[(1, 9)], vec![device(1, 0, 2), device(2, 0, 1)]);
        let decision = decide(&known(&[(1, "m")], 2), &now);
        assert_eq!(rows(&decision), [(1, 1), (1, 2), (1, 1)]);
        assert!(decision.dispatches.iter().all(|row| row.requests == Selection::Head(1)));
    }

    #[test]
    fn nothing_goes_to_a_device_that_is_down_or_not_allowed() {
        let mut down = device(1, 0, 2);
        down.up = false;
        let now = snapshot(&[(1, 3)], vec![down, device(2, 0, 2)]);
        let mut here = world(&[(1, "m")], 2);
        here.models[0].devices = vec![1];
        let mut known = World::default();
        known.replace(here);
        assert!(rows(&decide(&known, &now)).is_empty());
    }

    #[test]
    fn a_queue_of_an_unknown_model_is_left_alone() {
        let now = snapshot(&[(8, 3)], vec![device(1, 0, 2)]);
        assert!(rows(&decide(&known(&[(1, "m")], 1), &now)).is_empty());
    }
}
