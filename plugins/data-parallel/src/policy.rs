//! The policy: whole models everywhere, each device's share of the rows in proportion to what its way carries.

use bps_policy_planner::{Codecs, Fleet, LaneClass, Now, Way};
use bps_policy_sdk::{
    ConfigError, Decision, DecisionBuilder, Manifest, Nanos, Policy, QueueView, Room, Snapshot, Table, WorldInfo,
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

/// The next batch is handed over this long before the way is free.
const LEAD_NANOS: f64 = 300_000.0;

/// What a device may catch up on after it was left alone, in batches.
const CATCH_UP: f64 = 4.0;

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

/// Whole models on the devices of all hosts.
#[derive(Debug)]
pub struct DataParallel {
    config: Config,
    fleet: Fleet,
    /// (model, device) -> nanoseconds of work that it has been given.
    given: BTreeMap<(u32, u32), f64>,
}

impl Policy for DataParallel {
    fn manifest() -> Manifest {
        Manifest {
            name: "data-parallel".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: "Whole models on the devices of all hosts, in proportion to their speed.".into(),
            config_schema: CONFIG_SCHEMA.into(),
            state_schema: String::new(),
            reasons: vec!["its share".into()],
        }
    }

    fn configure(config: &str, _seed: u64) -> Result<Self, ConfigError> {
        let config: Config = parse_config(config)?;
        if !(1..=32).contains(&config.batch_max) {
            return Err(ConfigError::Invalid(format!("batch_max: {} is not within 1 to 32", config.batch_max)));
        }
        Ok(Self { config, fleet: Fleet::new(Codecs::Allowed), given: BTreeMap::new() })
    }

    fn world_changed(&mut self, now: WorldInfo) {
        self.given.clear();
        self.fleet.world_changed(now);
    }

    fn table_changed(&mut self, now: Table) {
        self.fleet.table_changed(now);
    }

    fn decide(&mut self, snapshot: &Snapshot) -> Decision {
        let (mut now, mut room, mut decision) = self.fleet.begin(snapshot);
        for queue in snapshot.queues_by_urgency() {
            self.serve(&queue, &mut now, &mut room, &mut decision);
        }
        decision.finish()
    }
}

impl DataParallel {
    fn serve(&mut self, queue: &QueueView<'_>, now: &mut Now, room: &mut Room, decision: &mut DecisionBuilder) {
        let fleet = &self.fleet;
        let Some(model) = fleet.world.model(queue.model) else { return };
        let rows_max = self.config.batch_max.min(model.batch_max).max(1);
        while let Some(head) = fleet.head(queue, decision.taken(queue.id), rows_max, now) {
            let whole = fleet.ways(model.id, head, now).filter(|way| way.lane.class() != LaneClass::Split);
            let mut best: BTreeMap<u32, Way<'_>> = BTreeMap::new();
            for way in whole {
                let Some(device) = way.lane.tail.or(way.lane.head) else { continue };
                let known = best.entry(device).or_insert(way);
                if span(&way, head.rows) < span(known, head.rows) {
                    *known = way;
                }
            }
            let given = |device: u32| self.given.get(&(model.id, device)).copied().unwrap_or(0.0);
            let order = |(device, way): &(&u32, &Way<'_>)| given(**device) + span(way, head.rows);
            let mut ways: Vec<_> = best.iter().collect();
            ways.sort_by(|a, b| order(a).total_cmp(&order(b)));
            let mut chosen = None;
            for (device, way) in ways.iter().filter(|(_, way)| way.has_room()) {
                let hold = way.hold(head.rows, LEAD_NANOS);
                if hold == 0.0 {
                    chosen = Some((**device, span(way, head.rows), way.lane.clone()));
                    break;
                }
                decision.wake_after(hold as Nanos);
            }
            let Some((device, cost, lane)) = chosen else { return };
            fleet.give(queue, model, &lane, head, (0, 0), now, room, decision);
            let furthest = ways_furthest(&self.given, model.id);
            let given = self.given.entry((model.id, device)).or_default();
            *given = given.max(furthest - CATCH_UP * cost) + cost;
        }
    }
}

fn ways_furthest(given: &BTreeMap<(u32, u32), f64>, model: u32) -> f64 {
    given.range((model, 0)..=(model, u32::MAX)).map(|(_, nanos)| *nanos).fold(0.0, f64::max)
}

/// What a batch keeps the slowest part of a way busy for.
fn span(way: &Way<'_>, rows: u32) -> f64 {
    way.spans(rows).slowest()
}

#[cfg(test)]
mod tests;
