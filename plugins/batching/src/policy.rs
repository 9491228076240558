//! The policy: keeps each device busy with the batch that serves the waiting line best (`planner::Gather`).

use crate::config::{self, Config, Mode};
use bps_policy_planner::{Aimd, Estimates, Gather, Learned, STATE_SCHEMA, Whys};
use bps_policy_sdk::{
    ConfigError, Decision, DecisionBuilder, Manifest, Nanos, Origin, Outcome, Policy, Room, Snapshot, Table, World,
    WorldInfo, metric,
};

/// Indices into the manifest's reasons.
const WHY_IDLE: u32 = 0;
const WHY_FULL: u32 = 1;
const WHY_NEXT: u32 = 2;
const WHY_AIMD: u32 = 3;

/// The policy and what it has learned.
#[derive(Debug)]
pub struct Batching {
    config: Config,
    gather: Gather,
    world: World,
    estimates: Estimates,
    aimd: Aimd,
}

impl Policy for Batching {
    fn manifest() -> Manifest {
        Manifest {
            name: "batching".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: "Batch size and wait chosen from measured costs, arrivals and deadlines.".into(),
            config_schema: config::SCHEMA.into(),
            state_schema: STATE_SCHEMA.into(),
            reasons: ["idle device", "full batch", "device about to be free", "aimd batch size"]
                .map(String::from)
                .into(),
        }
    }

    fn configure(config: &str, _seed: u64) -> Result<Self, ConfigError> {
        let config = Config::parse(config)?;
        let gather = Gather {
            batch_max: config.batch_max,
            slack_share: config.slack_share,
            lead: config.lead_us * 1_000,
            wait_share: config.wait_share,
            whys: Whys { idle: WHY_IDLE, full: WHY_FULL, next: WHY_NEXT },
        };
        let (world, estimates, aimd) = (World::default(), Estimates::default(), Aimd::default());
        Ok(Self { config, gather, world, estimates, aimd })
    }

    fn world_changed(&mut self, now: WorldInfo) {
        let learned = Learned::collect(&self.world, &self.estimates, &self.aimd);
        self.world.replace(now);
        (self.estimates, self.aimd) = learned.apply(&self.world, self.estimates.now);
    }

    fn table_changed(&mut self, now: Table) {
        self.estimates.table_changes(&self.world, &now);
        self.world.insert(now);
    }

    fn decide(&mut self, now: &Snapshot) -> Decision {
        self.estimates.begin(now.now);
        let mut decision = DecisionBuilder::new();
        let mut room = Room::of(now);
        decision.join_when_due(&self.world, now, &mut room, self.gather.lead);
        for queue in now.queues_by_urgency() {
            let Some(model) = self.world.model(queue.model) else { continue };
            match self.config.mode {
                Mode::Adaptive => {
                    self.gather.serve(&self.world, &self.estimates, &queue, model, &mut room, &mut decision);
                }
                Mode::Aimd => {
                    let out = (&mut room, &mut decision);
                    self.gather.serve_aimd(&self.world, &self.estimates, &self.aimd, &queue, model, out, WHY_AIMD);
                }
            }
        }
        decision.finish()
    }

    fn observe(&mut self, outcomes: &[Outcome], _dropped: u32) {
        for outcome in outcomes {
            self.estimates.learn(&self.world, outcome);
            if let Some(model) = self.world.model(outcome.model).filter(|_| self.config.mode == Mode::Aimd) {
                let latency = if model.slo > 0 { model.slo } else { (self.config.latency_ms * 1e6) as Nanos };
                self.aimd.learn(outcome, latency, self.config.batch_max.min(model.batch_max));
            }
        }
        if let Some(newest) = outcomes.last() {
            metric(0, f64::from(newest.rows));
        }
    }

    fn save(&mut self) -> Result<Vec<u8>, String> {
        let state = Learned::collect(&self.world, &self.estimates, &self.aimd);
        serde_json::to_vec(&state).map_err(|error| error.to_string())
    }

    fn restore(&mut self, origin: &Origin, blob: &[u8]) -> Result<bool, String> {
        if origin.state_schema != STATE_SCHEMA {
            return Ok(false);
        }
        let state: Learned = serde_json::from_slice(blob).map_err(|error| error.to_string())?;
        (self.estimates, self.aimd) = state.apply(&self.world, self.estimates.now);
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
