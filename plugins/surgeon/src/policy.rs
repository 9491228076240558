//! The policy: for what waits first, the lane whose answer comes first.

use bps_policy_planner::{Codecs, Fleet, Now, Way, least};
use bps_policy_sdk::{
    ConfigError, Decision, DecisionBuilder, Manifest, Policy, QueueView, Room, Snapshot, Table, WorldInfo, parse_config,
};
use serde::Deserialize;

const CONFIG_SCHEMA: &str = r#"{
  "type": "object",
  "properties": {
    "classic": {"type": "boolean", "default": false, "description": "As published: raw tensors, one request at a time, queues not looked at"},
    "batch_max": {"type": "integer", "minimum": 1, "maximum": 32, "default": 1, "description": "Most rows together; not with classic"}
  },
  "additionalProperties": false
}"#;

const WHY_LIVE: u32 = 0;
const WHY_CLASSIC: u32 = 1;

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    classic: bool,
    batch_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { classic: false, batch_max: 1 }
    }
}

/// Each request along the cut that answers it first.
#[derive(Debug)]
pub struct Surgeon {
    config: Config,
    fleet: Fleet,
}

impl Policy for Surgeon {
    fn manifest() -> Manifest {
        Manifest {
            name: "surgeon".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: "Each request along the cut and codec that answer it first.".into(),
            config_schema: CONFIG_SCHEMA.into(),
            state_schema: String::new(),
            reasons: ["answered first", "quickest alone"].map(String::from).into(),
        }
    }

    fn configure(config: &str, _seed: u64) -> Result<Self, ConfigError> {
        let config: Config = parse_config(config)?;
        if !(1..=32).contains(&config.batch_max) {
            return Err(ConfigError::Invalid(format!("batch_max: {} is not within 1 to 32", config.batch_max)));
        }
        if config.classic && config.batch_max > 1 {
            return Err(ConfigError::Unsupported("batch_max: classic runs one request at a time".into()));
        }
        let codecs = if config.classic { Codecs::Raw } else { Codecs::Allowed };
        Ok(Self { config, fleet: Fleet::new(codecs) })
    }

    fn world_changed(&mut self, now: WorldInfo) {
        self.fleet.world_changed(now);
    }

    fn table_changed(&mut self, now: Table) {
        self.fleet.table_changed(now);
    }

    fn decide(&mut self, snapshot: &Snapshot) -> Decision {
        let (mut now, mut room, mut decision) = self.fleet.begin(snapshot);
        if self.config.classic && !snapshot.flight_tags.is_empty() {
            return decision.finish();
        }
        for queue in snapshot.queues_by_urgency() {
            self.serve(&queue, &mut now, &mut room, &mut decision);
            if self.config.classic && decision.dispatch_count() > 0 {
                break;
            }
        }
        decision.finish()
    }
}

impl Surgeon {
    /// Until the best lane for what waits first has no room.
    fn serve(&self, queue: &QueueView<'_>, now: &mut Now, room: &mut Room, decision: &mut DecisionBuilder) {
        let fleet = &self.fleet;
        let Some(model) = fleet.world.model(queue.model) else { return };
        let rows_max = self.config.batch_max.min(model.batch_max).max(1);
        while let Some(head) = fleet.head(queue, decision.taken(queue.id), rows_max, now) {
            let cost = |way: &Way<'_>| match self.config.classic {
                true => way.time_alone(head.rows),
                false => way.finish(head.rows),
            };
            let Some(best) = least(fleet.ways(model.id, head, now), cost).filter(Way::has_room) else { return };
            let lane = best.lane.clone();
            let why = if self.config.classic { WHY_CLASSIC } else { WHY_LIVE };
            fleet.give(queue, model, &lane, head, (0, why), now, room, decision);
            if self.config.classic {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
