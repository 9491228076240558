//! The policy: keeps the world, learns from outcomes, and serves the queues in their order.

use crate::config::{self, Config};
use crate::known::Known;
use crate::memory::{self, Memory};
use crate::serve::Serve;
use bps_policy_planner::{Estimates, Gather, Learned, Now, STATE_SCHEMA, Tag, Whys};
use bps_policy_sdk::{
    ConfigError, Decision, DecisionBuilder, Manifest, Nanos, Origin, Outcome, Policy, Room, Snapshot, Table, World,
    WorldInfo, metric,
};
use std::collections::BTreeMap;

/// Indices into the manifest's reasons.
pub(crate) mod why {
    pub(crate) const IDLE: u32 = 0;
    pub(crate) const FULL: u32 = 1;
    pub(crate) const NEXT: u32 = 2;
    pub(crate) const HERE: u32 = 3;
    pub(crate) const THERE: u32 = 4;
    pub(crate) const SPLIT: u32 = 5;
    pub(crate) const PROBE: u32 = 6;
}

/// The policy and what it knows.
#[derive(Debug)]
pub struct Bps {
    config: Config,
    gather: Gather,
    world: World,
    estimates: Estimates,
    models: BTreeMap<u32, Known>,
}

impl Policy for Bps {
    fn manifest() -> Manifest {
        let reasons = [
            "idle device",
            "full batch",
            "device about to be free",
            "answered first here",
            "answered first by another host",
            "answered first by both hosts together",
            "to find out what another host takes",
        ];
        Manifest {
            name: "bps".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: "Cut, batch, codec and share of every host, chosen together from live estimates.".into(),
            config_schema: config::SCHEMA.into(),
            state_schema: memory::SCHEMA.into(),
            reasons: reasons.map(String::from).into(),
        }
    }

    fn configure(config: &str, _seed: u64) -> Result<Self, ConfigError> {
        let config = Config::parse(config)?;
        let gather = Gather {
            batch_max: config.batch_max,
            slack_share: config.slack_share,
            lead: config.lead_us * 1_000,
            wait_share: config.wait_share,
            whys: Whys { idle: why::IDLE, full: why::FULL, next: why::NEXT },
        };
        let (world, estimates, models) = (World::default(), Estimates::default(), BTreeMap::new());
        Ok(Self { config, gather, world, estimates, models })
    }

    fn world_changed(&mut self, now: WorldInfo) {
        let memory = Memory::collect(&self.world, &self.estimates, &self.models);
        self.world.replace(now);
        self.recall(&memory);
    }

    fn table_changed(&mut self, now: Table) {
        self.estimates.table_changes(&self.world, &now);
        let model = now.model;
        self.world.insert(now);
        self.rebuild(model);
    }

    fn decide(&mut self, now: &Snapshot) -> Decision {
        let mut decision = DecisionBuilder::new();
        let mut room = Room::of(now);
        decision.join_when_due(&self.world, now, &mut room, self.gather.lead);
        self.estimates.begin(now.now);
        let mut present = Now::of(&self.world, now, self.config.stale_ms * 1_000_000);
        present.follow(&room);
        // Models of which nothing more should go out now.
        let mut held: Vec<u32> = vec![];
        for queue in now.queues_by_urgency() {
            let Some(model) = self.world.model(queue.model).filter(|model| !held.contains(&model.id)) else { continue };
            let Some(known) = self.models.get_mut(&model.id) else { continue };
            present.tune(model.id, &self.estimates);
            let rows_max = self.gather.rows_max(model);
            known.refresh(&self.world, model, &present, now.now, rows_max);
            if let Some(planned) = &known.planned
                && known.plan().is_some()
            {
                let (world, gather, hysteresis) = (&self.world, &self.gather, self.config.hysteresis);
                let plan = &planned.plan;
                let (in_use, turns) = (&mut known.in_use, &mut known.turns);

                let mut serve = Serve { world, gather, model, plan, hysteresis, in_use, turns };
                if serve.queue(&queue, &mut present, &mut room, &mut decision) {
                    held.push(model.id);
                }
            } else {
                self.gather.serve(&self.world, &self.estimates, &queue, model, &mut room, &mut decision);
                present.follow(&room);
            }
        }
        decision.finish()
    }

    fn observe(&mut self, outcomes: &[Outcome], _dropped: u32) {
        for outcome in outcomes {
            self.learn(outcome);
        }
        if let Some(newest) = outcomes.last() {
            metric(0, f64::from(newest.rows));
            if let Some(planned) = self.models.get(&newest.model).and_then(|known| known.planned.as_ref()) {
                metric(1, planned.plan.rows_per_second());
            }
        }
    }

    fn save(&mut self) -> Result<Vec<u8>, String> {
        let memory = Memory::collect(&self.world, &self.estimates, &self.models);
        serde_json::to_vec(&memory).map_err(|error| error.to_string())
    }

    fn restore(&mut self, origin: &Origin, blob: &[u8]) -> Result<bool, String> {
        let memory: Memory = match origin.state_schema.as_str() {
            memory::SCHEMA => serde_json::from_slice(blob).map_err(|error| error.to_string())?,
            STATE_SCHEMA => {
                let learned: Learned = serde_json::from_slice(blob).map_err(|error| error.to_string())?;
                Memory::from_learned(learned)
            }
            _ => return Ok(false),
        };
        self.recall(&memory);
        Ok(true)
    }
}

impl Bps {
    /// Begins anew with what is remembered of this world.
    fn recall(&mut self, memory: &Memory) {
        self.models = self.world.info().models.iter().map(|model| (model.id, Known::default())).collect();
        self.estimates = memory.apply(&self.world, self.estimates.now, &mut self.models);
        let ids: Vec<u32> = self.models.keys().copied().collect();
        ids.into_iter().for_each(|id| self.rebuild(id));
    }

    fn rebuild(&mut self, id: u32) {
        let (Some(model), Some(known)) = (self.world.model(id), self.models.get_mut(&id)) else { return };
        // Without other hosts the whole plan is to fill this one's devices.
        if !self.world.remote_devices(id).is_empty() {
            known.rebuild(&self.world, model, self.config.splits, self.gather.rows_max(model));
        }
    }

    fn learn(&mut self, outcome: &Outcome) {
        self.estimates.learn(&self.world, outcome);
        let (&[head, _], &[device, _]) = (&outcome.stage_nanos[..], &outcome.stage_devices[..]) else { return };
        let Some(tag) = Tag::unpack(outcome.tag).filter(|_| outcome.failed == 0) else { return };
        let cuts: (u32, u32) = (0, u32::from(tag.cut));
        self.estimates.learn_stage(&self.world, outcome.model, device, cuts, outcome.rows, head as Nanos);
    }
}

#[cfg(test)]
mod tests;
