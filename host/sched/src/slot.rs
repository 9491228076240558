//! The place of the active policy: generations, hand-over, faults, probation, quarantine.
//!
//! Knows only [`Policy`]; where instances come from is the driver's business. Whatever happens here, a decision is always
//! answered: by the active policy or, in the same call, by the native [`Fallback`].

mod faults;
mod probation;
mod status;

pub use status::{PolicyStatus, RollbackReason, SlotState, SwapReport};

use crate::flight::Author;
use crate::policy::{CallLog, Fault, FaultClass, LogEntry, Policy, Stopwatch};
use crate::{Action, Config, Fallback, PolicyLabel};
use bps_types::policy::{Decision, Origin, Outcome, Snapshot, Table, WorldInfo};
use bps_types::{Generation, Nanos};
use indexmap::IndexMap;
use probation::{Probation, Record};
use std::collections::VecDeque;
use std::sync::Arc;

/// Decide times kept for whoever shows them, between two looks.
const DECIDE_TIMES_MAX: usize = 4_096;

/// World and tables as a policy must know them before it decides. Instances are briefed off the hot path; the switch
/// only tells what has changed since.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Briefing {
    /// Grows with every change of world or tables.
    pub version: u64,
    /// The world.
    pub world: WorldInfo,
    /// Every cost table.
    pub tables: Vec<Table>,
}

impl Briefing {
    /// Tells a policy all of it.
    pub fn tell(&self, policy: &mut dyn Policy) -> Result<(), Fault> {
        policy.world_changed(&self.world)?;
        self.tables.iter().try_for_each(|t| policy.table_changed(t))
    }
}

/// A configured, briefed instance that could become the active policy.
pub struct Candidate {
    /// The instance; already told `briefing`.
    pub policy: Box<dyn Policy>,
    /// The configuration it was given.
    pub config: String,
    /// The seed it was given.
    pub seed: u64,
    /// What it has been told.
    pub briefing: Arc<Briefing>,
    /// Offer it its predecessor's state.
    pub carry_state: bool,
}

/// An instance with a generation.
struct Instance {
    policy: Box<dyn Policy>,
    author: Author,
    config: String,
    seed: u64,
    /// Version of the briefing it has been told.
    told: u64,
    record: Record,
}

/// The place of the active policy.
pub(crate) struct PolicySlot {
    active: Option<Instance>,
    standby: Option<Instance>,
    probation: Option<Probation>,
    fallback: Fallback,
    fallback_author: Author,
    generation: Generation,
    briefing: Arc<Briefing>,
    stopwatch: Stopwatch,
    log: Option<Box<dyn CallLog>>,
    /// What is being built again after a fault: who it was, its config and seed.
    rebuilding: Option<(Author, String, u64)>,
    fault_times: VecDeque<Nanos>,
    faults: IndexMap<FaultClass, u64>,
    last_fault: Option<Fault>,
    quarantine: IndexMap<String, (Nanos, String)>,
    /// Each with the generation that decided.
    decide_times: VecDeque<(Generation, Nanos)>,
    swaps: u64,
}

impl PolicySlot {
    pub(crate) fn new(stopwatch: Stopwatch, log: Option<Box<dyn CallLog>>) -> Self {
        let fallback = Fallback::new();
        let fallback_author = author(&fallback, Generation(0));
        Self {
            active: None,
            standby: None,
            probation: None,
            fallback,
            fallback_author,
            generation: Generation(0),
            briefing: Arc::default(),
            stopwatch,
            log,
            rebuilding: None,
            fault_times: VecDeque::new(),
            faults: IndexMap::new(),
            last_fault: None,
            quarantine: IndexMap::new(),
            decide_times: VecDeque::new(),
            swaps: 0,
        }
    }

    pub(crate) fn briefing(&self) -> &Arc<Briefing> {
        &self.briefing
    }

    pub(crate) fn log(&mut self, now: Nanos, entry: LogEntry<'_>) {
        if let Some(log) = &mut self.log {
            log.log(now, entry);
        }
    }

    pub(crate) fn drain_decide_times(&mut self) -> impl Iterator<Item = (Generation, Nanos)> + '_ {
        self.decide_times.drain(..)
    }

    /// A new world or tables. The active policy hears of it in [`PolicySlot::catch_up`].
    pub(crate) fn rebrief(&mut self, briefing: Briefing) {
        // The fallback keeps nothing that could fail.
        let _ = self.fallback.world_changed(&briefing.world);
        self.briefing = Arc::new(briefing);
    }

    /// One table changed: tells the active policy just that.
    pub(crate) fn table_changed(
        &mut self,
        briefing: Briefing,
        table: &Table,
        now: Nanos,
        config: &Config,
    ) -> Vec<Action> {
        let before = self.briefing.version;
        self.briefing = Arc::new(briefing);
        let version = self.briefing.version;
        let Some(active) = self.active.as_mut().filter(|a| a.told == before) else { return Vec::new() };
        let result = active.policy.table_changed(table);
        active.told = version;
        let generation = active.author.generation.0;
        self.log(now, LogEntry::Table { generation, table, result: result.as_ref().copied() });
        result.err().map(|fault| self.hard_fault(fault, now, config)).unwrap_or_default()
    }

    /// Tells the active policy what it has not been told yet.
    pub(crate) fn catch_up(&mut self, now: Nanos, config: &Config) -> Vec<Action> {
        let Some(active) = self.active.as_mut().filter(|a| a.told != self.briefing.version) else { return Vec::new() };
        match tell(active, &self.briefing, now, self.log.as_deref_mut()) {
            Ok(()) => Vec::new(),
            Err(fault) => self.hard_fault(fault, now, config),
        }
    }

    /// Asks for a decision. On any fault the fallback answers this very call.
    pub(crate) fn decide(
        &mut self,
        snapshot: &Snapshot,
        now: Nanos,
        config: &Config,
    ) -> (Decision, Author, Vec<Action>) {
        let mut actions = self.catch_up(now, config);
        if let Some(active) = &mut self.active {
            let started = (self.stopwatch.work)();
            let result = active.policy.decide(snapshot);
            let took = (self.stopwatch.work)().since(started);
            let author = active.author.clone();
            if self.decide_times.len() < DECIDE_TIMES_MAX {
                self.decide_times.push_back((author.generation, took));
            }
            let generation = author.generation.0;
            self.log(now, LogEntry::Decide { generation, snapshot, result: result.as_ref() });
            match result {
                Ok(decision) => {
                    self.note_decide(took, config);
                    return (decision, author, actions);
                }
                Err(fault) => actions.extend(self.hard_fault(fault, now, config)),
            }
        }
        let (decision, author) = self.decide_natively(snapshot);
        (decision, author, actions)
    }

    /// The fallback's decision.
    pub(crate) fn decide_natively(&mut self, snapshot: &Snapshot) -> (Decision, Author) {
        let decision = self.fallback.decide(snapshot).unwrap_or_default();
        (decision, self.native_author().clone())
    }

    /// Who answers for what the policy leaves undone.
    pub(crate) fn native_author(&self) -> &Author {
        &self.fallback_author
    }

    /// Tells the active policy what became of decisions.
    pub(crate) fn observe(&mut self, outcomes: &[Outcome], dropped: u32, now: Nanos, config: &Config) -> Vec<Action> {
        let Some(active) = &mut self.active else { return Vec::new() };
        let result = active.policy.observe(outcomes, dropped);
        let generation = active.author.generation.0;
        self.log(now, LogEntry::Observe { generation, outcomes, dropped, result: result.as_ref().copied() });
        result.err().map(|fault| self.hard_fault(fault, now, config)).unwrap_or_default()
    }

    /// Makes a candidate the active policy.
    pub(crate) fn swap(&mut self, mut candidate: Box<Candidate>, now: Nanos) -> SwapReport {
        let digest = candidate.policy.digest().to_owned();
        self.quarantine.retain(|_, (until, _)| *until > now);
        if let Some((until, reason)) = self.quarantine.get(&digest) {
            let left = until.since(now);
            return self.refused(&candidate, format!("quarantined for another {left}: {reason}"));
        }
        let started = (self.stopwatch.time)();
        let stale = candidate.briefing.version != self.briefing.version;
        if stale && let Err(fault) = self.briefing.clone().tell(candidate.policy.as_mut()) {
            return self.refused(&candidate, format!("briefing: {fault}"));
        }
        let generation = Generation(self.generation.0 + 1);
        let saved = if candidate.carry_state { self.save(now) } else { None };
        let briefing = self.briefing.clone();
        if let Some(log) = &mut self.log {
            let (manifest, config) = (candidate.policy.manifest(), candidate.config.as_str());
            let (generation, digest, seed) = (generation.0, digest.as_str(), candidate.seed);
            log.log(now, LogEntry::Activated { generation, digest, manifest, config, seed, briefing: &briefing });
        }
        let mut carried = false;
        if let Some((origin, blob)) = saved {
            let result = candidate.policy.restore(&origin, &blob);
            let entry = LogEntry::Restore {
                generation: generation.0,
                origin: &origin,
                blob: &blob,
                result: result.as_ref().copied(),
            };
            self.log(now, entry);
            match result {
                Ok(taken) => carried = taken,
                Err(fault) => {
                    self.log(now, LogEntry::Dropped { generation: generation.0, fault: Some(&fault) });
                    *self.faults.entry(FaultClass::RestoreFailed).or_default() += 1;
                    self.generation = generation;
                    return self.refused(&candidate, format!("restore: {fault}"));
                }
            }
        }
        self.generation = generation;
        let incumbent = self.install(*candidate, generation, now);
        let mut report = self.report(incumbent, carried, None);
        report.pause = (self.stopwatch.time)().since(started);
        report
    }

    /// Puts an instance in place and the one before it on standby, unless it is the same policy built again: that has
    /// no new predecessor, nothing to prove, and its faults still count. Returns the label of the one before it.
    fn install(&mut self, candidate: Candidate, generation: Generation, now: Nanos) -> Arc<PolicyLabel> {
        let instance = Instance {
            author: author(candidate.policy.as_ref(), generation),
            policy: candidate.policy,
            config: candidate.config,
            seed: candidate.seed,
            told: self.briefing.version,
            record: Record::default(),
        };
        let rebuilt = self.rebuilding.take().is_some_and(|(failed, ..)| failed.label == instance.author.label);
        let previous = self.active.replace(instance);
        // The first policy of a run takes nobody's place.
        self.swaps += u64::from(generation > Generation(1));
        if rebuilt {
            return self.author().label.clone();
        }
        let again = |p: &Instance| {
            p.author.label == self.author().label && self.active.as_ref().is_some_and(|a| a.config == p.config)
        };
        if previous.as_ref().is_some_and(again) {
            // The same policy set up the same way is no predecessor to go back to: the one before it stays.
            if let Some(old) = previous {
                self.log(now, LogEntry::Dropped { generation: old.author.generation.0, fault: None });
            }
            return self.author().label.clone();
        }
        self.drop_standby(now);
        let standard = previous.as_ref().map(|p| p.record.standard());
        let label = previous.as_ref().map_or_else(|| self.fallback_author.label.clone(), |p| p.author.label.clone());
        self.probation = standard.map(|standard| Probation::new(now, standard));
        self.standby = previous;
        self.fault_times.clear();
        label
    }

    /// Asks the active policy for its state; a fault costs the state and that instance, never the swap.
    fn save(&mut self, now: Nanos) -> Option<(Origin, Vec<u8>)> {
        let active = self.active.as_mut()?;
        let result = active.policy.save();
        let manifest = active.policy.manifest();
        let origin = Origin {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            state_schema: manifest.state_schema.clone(),
        };
        let generation = active.author.generation.0;
        let entry = LogEntry::Save { generation, result: result.as_ref().map(|b| b.as_deref()) };
        if let Some(log) = &mut self.log {
            log.log(now, entry);
        }
        match result {
            Ok(blob) => Some((origin, blob?)),
            Err(fault) => {
                self.count_fault(&fault);
                self.log(now, LogEntry::Dropped { generation, fault: Some(&fault) });
                self.active = None;
                None
            }
        }
    }

    fn drop_standby(&mut self, now: Nanos) {
        if let Some(old) = self.standby.take() {
            self.log(now, LogEntry::Dropped { generation: old.author.generation.0, fault: None });
        }
    }

    /// Who decides now.
    pub(crate) fn author(&self) -> &Author {
        self.active.as_ref().map_or(&self.fallback_author, |a| &a.author)
    }
}

fn tell(
    active: &mut Instance,
    briefing: &Briefing,
    now: Nanos,
    mut log: Option<&mut (dyn CallLog + 'static)>,
) -> Result<(), Fault> {
    let generation = active.author.generation.0;
    active.told = briefing.version;
    let result = active.policy.world_changed(&briefing.world);
    if let Some(log) = log.as_deref_mut() {
        log.log(now, LogEntry::World { generation, world: &briefing.world, result: result.as_ref().copied() });
    }
    result?;
    for table in &briefing.tables {
        let result = active.policy.table_changed(table);
        if let Some(log) = log.as_deref_mut() {
            log.log(now, LogEntry::Table { generation, table, result: result.as_ref().copied() });
        }
        result?;
    }
    Ok(())
}

fn tell_if_stale(
    active: &mut Instance,
    briefing: &Briefing,
    now: Nanos,
    log: Option<&mut (dyn CallLog + 'static)>,
) -> Result<(), Fault> {
    if active.told == briefing.version { Ok(()) } else { tell(active, briefing, now, log) }
}

fn author(policy: &dyn Policy, generation: Generation) -> Author {
    let manifest = policy.manifest();
    let label = PolicyLabel {
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        digest: policy.digest().to_owned(),
    };
    Author { label: Arc::new(label), generation, reasons: manifest.reasons.clone().into() }
}
