//! The policy: the lane whose slowest part is the quickest, kept full with micro-batches.

use bps_policy_planner::{Codecs, Fleet, Now, Way, least};
use bps_policy_sdk::{
    ConfigError, Decision, DecisionBuilder, Manifest, Policy, QueueView, Room, Snapshot, Table, WorldInfo, parse_config,
};
use serde::Deserialize;

const CONFIG_SCHEMA: &str = r#"{
  "type": "object",
  "properties": {
    "micro_batch": {"type": "integer", "minimum": 1, "maximum": 32, "default": 4, "description": "Rows of each piece"},
    "depth": {"type": "integer", "minimum": 1, "maximum": 64, "default": 6, "description": "Pieces under way at once, at most"}
  },
  "additionalProperties": false
}"#;

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    micro_batch: u32,
    depth: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { micro_batch: 4, depth: 6 }
    }
}

/// Micro-batches through the steadiest lane.
#[derive(Debug)]
pub struct Pipelining {
    config: Config,
    fleet: Fleet,
}

impl Policy for Pipelining {
    fn manifest() -> Manifest {
        Manifest {
            name: "pipelining".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: "Micro-batches through the cut whose slowest part is the quickest.".into(),
            config_schema: CONFIG_SCHEMA.into(),
            state_schema: String::new(),
            reasons: vec!["next piece".into()],
        }
    }

    fn configure(config: &str, _seed: u64) -> Result<Self, ConfigError> {
        let config: Config = parse_config(config)?;
        let checks = [
            ("micro_batch", (1..=32).contains(&config.micro_batch), "1 to 32"),
            ("depth", (1..=64).contains(&config.depth), "1 to 64"),
        ];
        if let Some((field, _, range)) = checks.iter().find(|(_, holds, _)| !holds) {
            return Err(ConfigError::Invalid(format!("{field}: must be within {range}")));
        }
        Ok(Self { config, fleet: Fleet::new(Codecs::Allowed) })
    }

    fn world_changed(&mut self, now: WorldInfo) {
        self.fleet.world_changed(now);
    }

    fn table_changed(&mut self, now: Table) {
        self.fleet.table_changed(now);
    }

    fn decide(&mut self, snapshot: &Snapshot) -> Decision {
        let (mut now, mut room, mut decision) = self.fleet.begin(snapshot);
        let mut free = self.config.depth.saturating_sub(snapshot.flight_tags.len() as u32);
        for queue in snapshot.queues_by_urgency() {
            self.serve(&queue, &mut free, &mut now, &mut room, &mut decision);
        }
        decision.finish()
    }
}

impl Pipelining {
    /// As many pieces as there is depth left for, in one dispatch where they go the same way.
    fn serve(
        &self,
        queue: &QueueView<'_>,
        free: &mut u32,
        now: &mut Now,
        room: &mut Room,
        decision: &mut DecisionBuilder,
    ) {
        let fleet = &self.fleet;
        let Some(model) = fleet.world.model(queue.model) else { return };
        let piece = self.config.micro_batch.min(model.batch_max).max(1);
        while *free > 0 {
            let taken = decision.taken(queue.id);
            let Some(head) = fleet.head(queue, taken, piece.saturating_mul(*free), now) else { return };
            let slowest = |way: &Way<'_>| way.spans(piece.min(head.rows)).slowest();
            // What is steadiest when everything is full: room is no reason to take another cut.
            let Some(best) = least(fleet.ways(model.id, head, now), slowest).filter(Way::has_room) else { return };
            let lane = best.lane.clone();
            fleet.give(queue, model, &lane, head, (piece, 0), now, room, decision);
            *free = free.saturating_sub(head.rows.div_ceil(piece));
        }
    }
}

#[cfg(test)]
mod tests;
