//! The policy: one rule of several. Each sees the same tables and the same present as `bps` does, and uses them as its
//! authors describe.

use crate::fixed::{self, Fixed};
use bps_policy_planner::{Aimd, Codecs, Estimates, Fleet, Gather, Head, Lane, LaneClass, Now, Way, Whys, least};
use bps_policy_sdk::{
    ConfigError, Decision, DecisionBuilder, Manifest, ModelInfo, Nanos, Outcome, Policy, QueueView, Room, Snapshot,
    Table, WorldInfo, parse_config,
};
use serde::Deserialize;
use std::collections::BTreeMap;

const CONFIG_SCHEMA: &str = r#"{
  "type": "object",
  "properties": {
    "mode": {"enum": ["neurosurgeon", "dads", "static", "greedy", "aimd"], "default": "neurosurgeon", "description": "Which rule; each has a paragraph in the README"},
    "batch_max": {"type": "integer", "minimum": 1, "maximum": 32, "default": 8, "description": "greedy, aimd: most rows together"},
    "latency_ms": {"type": "number", "exclusiveMinimum": 0, "default": 100, "description": "aimd: the batch latency aimed at where the model has no SLO"}
  },
  "additionalProperties": false
}"#;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Neurosurgeon,
    Dads,
    Static,
    Greedy,
    Aimd,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    mode: Mode,
    batch_max: u32,
    latency_ms: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { mode: Mode::Neurosurgeon, batch_max: 8, latency_ms: 100.0 }
    }
}

/// `dads`: more than so many requests waiting or coming within the slowest part of a way is heavy load.
const HEAVY: f64 = 1.0;

/// The next batch is handed over this long before the way is free.
const LEAD_NANOS: f64 = 300_000.0;

/// One of the rules.
#[derive(Debug)]
pub struct Baselines {
    config: Config,
    fleet: Fleet,
    /// `static`: by model.
    fixed: BTreeMap<u32, Fixed>,
    aimd: Aimd,
}

impl Policy for Baselines {
    fn manifest() -> Manifest {
        Manifest {
            name: "baselines".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: "The rules that bps is measured against: Neurosurgeon, DADS, static, greedy, AIMD.".into(),
            config_schema: CONFIG_SCHEMA.into(),
            state_schema: String::new(),
            reasons: [
                "neurosurgeon: quickest alone",
                "dads, light load: quickest",
                "dads, heavy load: smallest slowest part",
                "static: as planned",
                "static: the plan's way is down",
                "greedy: least bottleneck",
                "aimd: batch size",
            ]
            .map(String::from)
            .into(),
        }
    }

    fn configure(config: &str, _seed: u64) -> Result<Self, ConfigError> {
        let config: Config = parse_config(config)?;
        let checks = [
            ("batch_max", (1..=32).contains(&config.batch_max), "1 to 32"),
            ("latency_ms", config.latency_ms > 0.0 && config.latency_ms <= 1e6, "above 0, to 1000000"),
        ];
        if let Some((field, _, range)) = checks.iter().find(|(_, holds, _)| !holds) {
            return Err(ConfigError::Invalid(format!("{field}: must be within {range}")));
        }
        let codecs = match config.mode {
            Mode::Neurosurgeon | Mode::Dads => Codecs::Raw,
            Mode::Static | Mode::Greedy | Mode::Aimd => Codecs::Allowed,
        };
        Ok(Self { config, fleet: Fleet::new(codecs), fixed: BTreeMap::new(), aimd: Aimd::default() })
    }

    fn world_changed(&mut self, now: WorldInfo) {
        self.fixed.clear();
        self.aimd = Aimd::default();
        self.fleet.world_changed(now);
    }

    fn table_changed(&mut self, now: Table) {
        self.fleet.table_changed(now);
    }

    fn decide(&mut self, snapshot: &Snapshot) -> Decision {
        let (mut now, mut room, mut decision) = self.fleet.begin(snapshot);
        if self.config.mode == Mode::Neurosurgeon && !snapshot.flight_tags.is_empty() {
            return decision.finish();
        }
        for queue in snapshot.queues_by_urgency() {
            let Some(model) = self.fleet.world.model(queue.model).cloned() else { continue };
            if self.config.mode == Mode::Static && !self.fixed.contains_key(&model.id) {
                let fleet = &self.fleet;
                let chosen = fixed::choose(&fleet.world, &model, fleet.lanes(model.id), &now);
                self.fixed.extend(chosen.map(|fixed| (model.id, fixed)));
            }
            if self.config.mode == Mode::Aimd {
                self.serve_aimd(&queue, &model, &mut room, &mut decision);
                now.follow(&room);
            } else {
                self.serve(&queue, &model, &mut now, &mut room, &mut decision);
            }
            if self.config.mode == Mode::Neurosurgeon && decision.dispatch_count() > 0 {
                break;
            }
        }
        decision.finish()
    }

    fn observe(&mut self, outcomes: &[Outcome], _dropped: u32) {
        for outcome in outcomes.iter().filter(|_| self.config.mode == Mode::Aimd) {
            let Some(model) = self.fleet.world.model(outcome.model) else { continue };
            let latency = if model.slo > 0 { model.slo } else { (self.config.latency_ms * 1e6) as Nanos };
            self.aimd.learn(outcome, latency, self.config.batch_max.min(model.batch_max));
        }
    }
}

impl Baselines {
    fn serve(
        &self,
        queue: &QueueView<'_>,
        model: &ModelInfo,
        now: &mut Now,
        room: &mut Room,
        decision: &mut DecisionBuilder,
    ) {
        let rows_max = match self.config.mode {
            Mode::Greedy => self.config.batch_max.min(model.batch_max).max(1),
            Mode::Static => self.fixed.get(&model.id).map_or(1, |fixed| fixed.rows),
            Mode::Neurosurgeon | Mode::Dads | Mode::Aimd => 1,
        };
        while let Some(head) = self.fleet.head(queue, decision.taken(queue.id), rows_max, now) {
            let Some((way, why)) = self.choose(queue, model, head, now) else { return };
            let hold = way.hold(head.rows, LEAD_NANOS);
            if !way.has_room() {
                return;
            }
            if hold > 0.0 {
                decision.wake_after(hold as Nanos);
                return;
            }
            let lane: Lane = way.lane.clone();
            self.fleet.give(queue, model, &lane, head, (0, why), now, room, decision);
            if self.config.mode == Mode::Neurosurgeon {
                return;
            }
        }
    }

    fn choose<'a>(
        &'a self,
        queue: &QueueView<'_>,
        model: &ModelInfo,
        head: Head,
        now: &'a Now,
    ) -> Option<(Way<'a>, u32)> {
        let ways = || self.fleet.ways(model.id, head, now);
        let quickest = |way: &Way<'_>| way.time_alone(head.rows);
        let slowest = |way: &Way<'_>| way.spans(head.rows).slowest();
        match self.config.mode {
            Mode::Neurosurgeon => least(ways(), quickest).map(|way| (way, 0)),
            Mode::Dads => {
                let light = least(ways(), quickest)?;
                let coming = f64::from(queue.arrivals_per_second) * slowest(&light) / 1e9;
                let heavy = coming > HEAVY || queue.waiting > 1;
                if heavy { least(ways(), slowest).map(|way| (way, 2)) } else { Some((light, 1)) }
            }
            Mode::Static => {
                let fixed = self.fixed.get(&model.id).map(|fixed| &fixed.lane);
                let planned = fixed.and_then(|lane| ways().find(|way| way.lane.is_same_way(lane)));
                let here = || ways().filter(|way| way.lane.class() == LaneClass::Here);
                planned.map(|way| (way, 3)).or_else(|| least(here(), quickest).map(|way| (way, 4)))
            }
            // With room only: what is full is no way out.
            Mode::Greedy => {
                let open = ways().filter(Way::has_room);
                least(open, |way| bottleneck(way, head.rows)).map(|way| (way, 5))
            }
            Mode::Aimd => None,
        }
    }

    fn serve_aimd(&self, queue: &QueueView<'_>, model: &ModelInfo, room: &mut Room, decision: &mut DecisionBuilder) {
        let whys = Whys { idle: 6, full: 6, next: 6 };
        let gather = Gather { batch_max: self.config.batch_max, slack_share: 1.0, lead: 0, wait_share: 0.0, whys };
        let (world, out) = (&self.fleet.world, (room, decision));
        gather.serve_aimd(world, &Estimates::default(), &self.aimd, queue, model, out, 6);
    }
}

/// When the busiest part of a way would be free after a batch.
fn bottleneck(way: &Way<'_>, rows: u32) -> f64 {
    let spans = way.spans(rows);
    let head = way.head.map_or(0.0, |device| device.free_in + spans.head);
    let (send, tail) = way.tail.map_or((0.0, 0.0), |(device, link)| {
        (link.coming.total(link.up_free_in) + spans.send, device.coming.total(device.free_in) + spans.tail)
    });
    head.max(send).max(tail)
}

#[cfg(test)]
mod tests;
