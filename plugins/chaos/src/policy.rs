//! Good behaviour, and where it ends.

use crate::echo;
use crate::misdeed::{self, Mode};
use bps_policy_sdk::{
    ConfigError, Decision, DecisionBuilder, Level, Manifest, Origin, Outcome, Policy, Room, Snapshot, Stage, Table,
    World, WorldInfo, log, parse_config,
};
use serde::Deserialize;

const CONFIG_SCHEMA: &str = r#"{
  "type": "object",
  "properties": {
    "mode": {"type": "string", "default": "least-backlog", "description": "What to do wrong; see misdeed.rs"},
    "after": {"type": "integer", "minimum": 0, "default": 0, "description": "Good decisions before it"},
    "us": {"type": "integer", "default": 1000, "description": "slow: about so many microseconds"},
    "bytes": {"type": "integer", "default": 4194304, "description": "huge-save: size of the state"},
    "stages": {"type": "integer", "minimum": 1, "maximum": 2, "default": 1, "description": "least-backlog: stages of each dispatch"},
    "cut": {"type": "integer", "minimum": 0, "default": 0, "description": "split: where the model leaves this host"},
    "codec": {"type": "integer", "minimum": 0, "default": 0, "description": "split: how it travels"},
    "rate": {"type": "integer", "minimum": 0, "default": 0, "description": "split: at which rate"},
    "rows": {"type": "integer", "minimum": 1, "default": 4, "description": "split, chain: requests of each dispatch at most"},
    "cuts": {"type": "array", "items": {"type": "integer", "minimum": 0}, "default": [], "description": "chain: where it goes on to the next host"},
    "way": {"type": "array", "items": {"type": "string"}, "default": [], "description": "chain: the hosts after this one, by name"}
  },
  "additionalProperties": false
}"#;

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) mode: Mode,
    pub(crate) after: u64,
    pub(crate) us: u64,
    pub(crate) bytes: usize,
    pub(crate) stages: u32,
    pub(crate) cut: u32,
    pub(crate) codec: u8,
    pub(crate) rate: u8,
    pub(crate) rows: u32,
    pub(crate) cuts: Vec<u32>,
    pub(crate) way: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::LeastBacklog,
            after: 0,
            us: 1_000,
            bytes: 4 << 20,
            stages: 1,
            cut: 0,
            codec: 0,
            rate: 0,
            rows: 4,
            cuts: vec![],
            way: vec![],
        }
    }
}

/// Misbehaves in one way.
#[derive(Debug)]
pub struct Chaos {
    pub(crate) config: Config,
    pub(crate) world: World,
    pub(crate) decisions: u64,
    pub(crate) random: u64,
    pub(crate) leaked: Vec<Vec<u8>>,
    /// What the mode `echo` was told beside snapshots.
    pub(crate) told: Vec<String>,
}

impl Policy for Chaos {
    fn manifest() -> Manifest {
        Manifest {
            name: "chaos".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: "Misbehaves in one way at a time; the host must survive each. For tests only.".into(),
            config_schema: CONFIG_SCHEMA.into(),
            state_schema: "chaos-1".into(),
            reasons: vec!["chaos".into()],
        }
    }

    fn configure(config: &str, seed: u64) -> Result<Self, ConfigError> {
        let config: Config = parse_config(config)?;
        match config.mode {
            Mode::TrapConfigure => panic!("chaos in configure"),
            Mode::Unsupported => Err(ConfigError::Unsupported("chaos supports nothing".into())),
            _ => Ok(Self {
                config,
                world: World::default(),
                decisions: 0,
                random: seed | 1,
                leaked: vec![],
                told: vec![],
            }),
        }
    }

    fn world_changed(&mut self, now: WorldInfo) {
        assert!(self.config.mode != Mode::TrapWorld, "chaos in world-changed");
        self.hear(|| echo::world(&now));
        self.world.replace(now);
    }

    fn table_changed(&mut self, now: Table) {
        assert!(self.config.mode != Mode::TrapTable, "chaos in table-changed");
        self.hear(|| echo::table(&now));
        self.world.insert(now);
    }

    fn decide(&mut self, now: &Snapshot) -> Decision {
        if self.config.mode == Mode::Empty {
            return DecisionBuilder::new().finish();
        }
        self.decisions += 1;
        if self.decisions <= self.config.after {
            least_backlog(&self.world, now, 1)
        } else {
            misdeed::decide(self, now)
        }
    }

    fn observe(&mut self, outcomes: &[Outcome], dropped: u32) {
        self.hear(|| echo::outcomes(outcomes, dropped));
        assert!(self.config.mode != Mode::TrapObserve, "chaos in observe");
    }

    fn save(&mut self) -> Result<Vec<u8>, String> {
        match self.config.mode {
            Mode::TrapSave => panic!("chaos in save"),
            Mode::HugeSave => Ok(vec![7; self.config.bytes]),
            Mode::Echo => Ok(self.told.join("\n").into_bytes()),
            Mode::RefuseSave => Err("chaos keeps its state".into()),
            _ => Ok([self.decisions, self.random].iter().flat_map(|word| word.to_le_bytes()).collect()),
        }
    }

    fn restore(&mut self, _origin: &Origin, blob: &[u8]) -> Result<bool, String> {
        assert!(self.config.mode != Mode::TrapRestore, "chaos in restore");
        let (Some(decisions), Some(random)) = (word(blob, 0), word(blob, 8)) else {
            return Err(format!("{} bytes are not a state of chaos", blob.len()));
        };
        (self.decisions, self.random) = (decisions, random);
        log(Level::Info, "restored");
        Ok(true)
    }
}

impl Chaos {
    fn hear(&mut self, told: impl FnOnce() -> String) {
        if self.config.mode == Mode::Echo {
            self.told.push(told());
        }
    }
}

fn word(blob: &[u8], at: usize) -> Option<u64> {
    blob.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes)
}

/// Good behaviour: the head of each queue on the least busy devices, in one stage or two.
pub(crate) fn least_backlog(world: &World, now: &Snapshot, stages: u32) -> Decision {
    let mut decision = DecisionBuilder::new();
    let mut room = Room::of(now);
    for queue in now.queues() {
        let Some(model) = world.model(queue.model) else { continue };
        // Two stages may leave this machine: then nothing of them is fit for requests that must not.
        let devices = if stages > 1 { &model.devices } else { world.local_devices(model.id) };
        let Some(first) = room.least_backlog(devices) else { continue };
        room.give(first.id, 1_000_000);
        let count = (queue.head_count).min(model.batch_max);
        let second = if stages > 1 && model.last_cut() > 1 { room.least_backlog(devices) } else { None };
        let stage = |device, until_cut| Stage { device, until_cut, codec: 0, rate: 0 };
        let route = match second {
            Some(second) => {
                room.give(second.id, 1_000_000);
                vec![stage(first.id, model.last_cut() / 2), stage(second.id, model.last_cut())]
            }
            None => vec![stage(first.id, model.last_cut())],
        };
        decision.run(&queue).head(count).micro_batch(model.batch_max).along(route);
    }
    decision.finish()
}
