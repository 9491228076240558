//! The policy: whole models on another host while one can be reached, here only when none can.

use bps_policy_planner::{Codecs, Fleet, LaneClass, Now, Way, least};
use bps_policy_sdk::{
    ConfigError, Decision, DecisionBuilder, Manifest, Nanos, Policy, QueueView, Room, Snapshot, Table, WorldInfo,
    parse_config,
};
use serde::Deserialize;

const CONFIG_SCHEMA: &str = r#"{
  "type": "object",
  "properties": {
    "codec": {"type": "string", "default": "raw", "description": "Name of the codec for the input, for example \"jpeg\"; \"auto\" takes the one that answers first. One that the model does not allow gives way to raw"},
    "rate": {"type": "integer", "minimum": 0, "maximum": 255, "description": "Rate of the codec; the smallest that the accuracy budget allows where none is given"},
    "batch_max": {"type": "integer", "minimum": 1, "maximum": 32, "default": 8, "description": "Most rows together"}
  },
  "additionalProperties": false
}"#;

const WHY_THERE: u32 = 0;
const WHY_HERE: u32 = 1;

/// The next batch is handed over this long before the way is free.
const LEAD_NANOS: f64 = 300_000.0;

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    codec: String,
    rate: Option<u8>,
    batch_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { codec: "raw".into(), rate: None, batch_max: 8 }
    }
}

/// Whole models on another host.
#[derive(Debug)]
pub struct RemoteOnly {
    config: Config,
    fleet: Fleet,
}

impl Policy for RemoteOnly {
    fn manifest() -> Manifest {
        Manifest {
            name: "remote-only".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: "Whole models on the best device of another host; here only while none can be reached.".into(),
            config_schema: CONFIG_SCHEMA.into(),
            state_schema: String::new(),
            reasons: ["another host", "no other host can be used"].map(String::from).into(),
        }
    }

    fn configure(config: &str, _seed: u64) -> Result<Self, ConfigError> {
        let config: Config = parse_config(config)?;
        if !(1..=32).contains(&config.batch_max) {
            return Err(ConfigError::Invalid(format!("batch_max: {} is not within 1 to 32", config.batch_max)));
        }
        let codecs = if config.rate.is_some() { Codecs::AtEachRate } else { Codecs::Allowed };
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
        for queue in snapshot.queues_by_urgency() {
            self.serve(&queue, &mut now, &mut room, &mut decision);
        }
        decision.finish()
    }
}

impl RemoteOnly {
    fn serve(&self, queue: &QueueView<'_>, now: &mut Now, room: &mut Room, decision: &mut DecisionBuilder) {
        let fleet = &self.fleet;
        let Some(model) = fleet.world.model(queue.model) else { return };
        let rows_max = self.config.batch_max.min(model.batch_max).max(1);
        while let Some(head) = fleet.head(queue, decision.taken(queue.id), rows_max, now) {
            let of = |class: LaneClass| {
                let ways = fleet.ways(model.id, head, now).filter(move |way| way.lane.class() == class);
                ways.filter(move |way| class == LaneClass::Here || self.carries(way))
            };
            let finish = |way: &Way<'_>| way.finish(head.rows);
            let raw = fleet.ways(model.id, head, now);
            let raw = raw.filter(|way| way.lane.class() == LaneClass::There && way.lane.codec == 0);
            let there = least(of(LaneClass::There), finish).or_else(|| least(raw, finish));
            let why = if there.is_some() { WHY_THERE } else { WHY_HERE };
            let Some(best) = there.or_else(|| least(of(LaneClass::Here), finish)) else { return };
            let hold = best.hold(head.rows, LEAD_NANOS);
            if !best.has_room() || hold > 0.0 {
                if best.has_room() {
                    decision.wake_after(hold as Nanos);
                }
                return;
            }
            let lane = best.lane.clone();
            fleet.give(queue, model, &lane, head, (0, why), now, room, decision);
        }
    }

    /// Whether a way's codec is the one that was asked for.
    fn carries(&self, way: &Way<'_>) -> bool {
        let named =
            |id: u8| self.fleet.world.codecs().iter().any(|codec| codec.id == id && codec.name == self.config.codec);
        let is_it = match self.config.codec.as_str() {
            "auto" => true,
            "raw" => way.lane.codec == 0,
            _ => named(way.lane.codec),
        };
        is_it && self.config.rate.is_none_or(|rate| way.lane.rate == rate || way.lane.codec == 0)
    }
}

#[cfg(test)]
mod tests;
