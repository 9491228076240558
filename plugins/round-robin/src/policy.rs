//! The policy: whose turn it is, per model.

use bps_policy_sdk::{
    ConfigError, Decision, DecisionBuilder, Manifest, Policy, QueueView, Room, Snapshot, Table, World, WorldInfo,
    parse_config,
};
use serde::Deserialize;
use std::collections::BTreeMap;

const CONFIG_SCHEMA: &str = r#"{
  "type": "object",
  "properties": {
    "batch_max": {"type": "integer", "minimum": 1, "maximum": 32, "default": 8, "description": "Most rows together"}
  },
  "additionalProperties": false
}"#;

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    batch_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { batch_max: 8 }
    }
}

/// This machine's devices take turns.
#[derive(Debug, Default)]
pub struct RoundRobin {
    config: Config,
    world: World,
    /// Model -> how many turns it has had; the next is the device at this place, modulo their number.
    turns: BTreeMap<u32, usize>,
}

impl Policy for RoundRobin {
    fn manifest() -> Manifest {
        Manifest {
            name: "round-robin".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: "This machine's devices take turns, with batches of up to a set size.".into(),
            config_schema: CONFIG_SCHEMA.into(),
            state_schema: String::new(),
            reasons: vec!["its turn".into()],
        }
    }

    fn configure(config: &str, _seed: u64) -> Result<Self, ConfigError> {
        let config: Config = parse_config(config)?;
        if !(1..=32).contains(&config.batch_max) {
            return Err(ConfigError::Invalid(format!("batch_max: {} is not within 1 to 32", config.batch_max)));
        }
        Ok(Self { config, ..Self::default() })
    }

    fn world_changed(&mut self, now: WorldInfo) {
        self.turns.retain(|model, _| now.models.iter().any(|known| known.id == *model));
        self.world.replace(now);
    }

    fn table_changed(&mut self, _now: Table) {}

    fn decide(&mut self, now: &Snapshot) -> Decision {
        let mut decision = DecisionBuilder::new();
        let mut room = Room::of(now);
        decision.join_arrived(&self.world, now, &mut room);
        for queue in now.queues_by_urgency() {
            let Some(model) = self.world.model(queue.model) else { continue };
            let rows_max = self.config.batch_max.min(model.batch_max);
            let turn = self.turns.entry(model.id).or_default();
            while let Some((count, rows)) = next_batch(&queue, decision.taken(queue.id), rows_max) {
                let Some(device) = next_device(self.world.local_devices(model.id), &room, turn) else { break };
                room.give(device, 0);
                decision.run(&queue).head(count).micro_batch(model.piece_rows(rows)).on(device, model.last_cut());
            }
        }
        decision.finish()
    }
}

/// How many of the queue's requests fit into a batch, and their rows; one that is too large for any goes alone.
fn next_batch(queue: &QueueView<'_>, taken: u32, rows_max: u32) -> Option<(u32, u32)> {
    let mut batch = None;
    for request in queue.head().skip(taken as usize) {
        let (count, rows) = batch.unwrap_or((0, 0_u32));
        let with = rows.saturating_add(request.rows);
        if with > rows_max && count > 0 {
            break;
        }
        batch = Some((count + 1, with));
    }
    batch
}

/// The device whose turn it is; one that is down or full loses its turn.
fn next_device(devices: &[u32], room: &Room, turn: &mut usize) -> Option<u32> {
    for _ in 0..devices.len() {
        let device = devices[*turn % devices.len()];
        *turn = turn.wrapping_add(1);
        if room.free(&[device]).next().is_some() {
            return Some(device);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use bps_policy_sdk::Selection;
    use bps_policy_sdk::testing::{device, snapshot, world};

    fn policy(config: &str) -> RoundRobin {
        let mut policy = RoundRobin::configure(config, 0).expect("valid");
        policy.world_changed(world(&[(1, "m"), (2, "n")], 3));
        policy
    }

    fn devices(decision: &Decision) -> Vec<u32> {
        decision.dispatches.iter().map(|row| row.stages[0].device).collect()
    }

    #[test]
    fn devices_take_turns_across_decisions() {
        let mut policy = policy(r#"{"batch_max": 1}"#);
        let now = snapshot(&[(1, 2)], vec![device(1, 0, 2), device(2, 0, 2), device(3, 0, 2)]);
        assert_eq!(devices(&policy.decide(&now)), [1, 2]);
        assert_eq!(devices(&policy.decide(&now)), [3, 1]);
    }

    #[test]
    fn a_full_or_missing_device_loses_its_turn() {
        let mut policy = policy(r#"{"batch_max": 1}"#);
        let now = snapshot(&[(1, 9)], vec![device(1, 0, 1), device(3, 0, 1)]);
        assert_eq!(devices(&policy.decide(&now)), [1, 3]);
    }

    #[test]
    fn batches_keep_their_size() {
        let now = snapshot(&[(1, 7)], vec![device(1, 0, 2), device(2, 0, 2), device(3, 0, 2)]);
        let decision = policy(r#"{"batch_max": 3}"#).decide(&now);
        let sizes: Vec<_> = decision.dispatches.iter().map(|row| row.requests.clone()).collect();
        assert_eq!(sizes, [Selection::Head(3), Selection::Head(3), Selection::Head(1)]);
    }

    #[test]
    fn a_request_larger_than_a_batch_goes_alone() {
        let mut now = snapshot(&[(1, 3)], vec![device(1, 0, 2), device(2, 0, 2), device(3, 0, 2)]);
        now.rows = vec![1, 40, 1];
        let decision = policy(r#"{"batch_max": 3}"#).decide(&now);
        let pieces: Vec<u32> = decision.dispatches.iter().map(|row| row.micro_batch).collect();
        assert_eq!(pieces, [0, 32, 0], "cut to the model's batch-max");
    }

    #[test]
    fn a_batch_size_out_of_range_is_named() {
        let Err(ConfigError::Invalid(reason)) = RoundRobin::configure(r#"{"batch_max": 0}"#, 0) else {
            panic!("accepted")
        };
        assert!(reason.starts_with("batch_max"), "{reason}");
    }
}
