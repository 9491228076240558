//! One running instance of a component, as the scheduler sees it.

use crate::bindings::bps::policy::types::ConfigError;
use crate::bindings::exports::bps::policy as exported;
use crate::convert::{self, SnapshotScratch, WorldLists};
use crate::guest::{self, GuestState};
use crate::{LoadError, LoadStage, loaded};
use bps_sched::{Fault, Policy};
use bps_types::policy::{Decision, Manifest, Origin, Outcome, Snapshot, Table, WorldInfo};
use std::sync::Arc;
use std::time::Duration;
use wasmtime::Store;

/// The exports of an instance, looked up once.
pub(crate) struct Exports {
    pub(crate) policy: exported::policy::Guest,
    pub(crate) learning: Option<exported::learning::Guest>,
    pub(crate) state: Option<exported::state::Guest>,
}

/// A configured instance. After a failed call it is dead and answers every further call with that fault.
pub struct WasmPolicy {
    loaded: Arc<loaded::Inner>,
    store: Store<GuestState>,
    exports: Exports,
    scratch: SnapshotScratch,
    dead: Option<Fault>,
    /// By how much its deadlines are longer than the limits say.
    patience: u32,
}

impl std::fmt::Debug for WasmPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let manifest = &self.loaded.manifest;
        f.debug_struct("WasmPolicy").field("name", &manifest.name).field("dead", &self.dead).finish_non_exhaustive()
    }
}

impl WasmPolicy {
    pub(crate) fn new(loaded: Arc<loaded::Inner>, store: Store<GuestState>, exports: Exports) -> Self {
        Self { loaded, store, exports, scratch: SnapshotScratch::default(), dead: None, patience: 1 }
    }

    /// Makes every deadline so many times longer, for where nobody waits and the machine may be busy with something else.
    pub(crate) fn be_patient(&mut self, times: u32) {
        self.patience = times;
    }

    /// Linear memory it holds now.
    pub fn memory_bytes(&self) -> usize {
        self.store.data().memory_bytes
    }

    /// The fault that ended it, if one did.
    pub fn dead(&self) -> Option<&Fault> {
        self.dead.as_ref()
    }

    pub(crate) fn configure(&mut self, config: &str, seed: u64) -> Result<(), LoadError> {
        let limits = &self.loaded.engine.limits;
        let (budget, bytes_max) = (limits.start_deadline, limits.blob_bytes_max);
        let answer = self.call(budget, bytes_max, |store, exports| exports.policy.call_configure(store, config, seed));
        let refuse = |reason: String| LoadError::new(LoadStage::Configured, reason);
        match answer.map_err(|fault| refuse(fault.to_string()))? {
            Ok(()) => Ok(()),
            Err(ConfigError::Invalid(reason)) => Err(refuse(format!("invalid configuration: {reason}"))),
            Err(ConfigError::Unsupported(reason)) => Err(refuse(format!("unsupported configuration: {reason}"))),
        }
    }

    /// Enters the guest; whatever fails there ends this instance.
    fn call<R>(
        &mut self,
        budget: Duration,
        bytes_max: usize,
        call: impl FnOnce(&mut Store<GuestState>, &Exports) -> wasmtime::Result<R>,
    ) -> Result<R, Fault> {
        if let Some(fault) = &self.dead {
            return Err(fault.clone());
        }
        let (exports, budget) = (&self.exports, budget.saturating_mul(self.patience));
        let result = guest::timed(&mut self.store, budget, bytes_max, |store| call(store, exports));
        if let Err(fault) = &result {
            self.dead = Some(fault.clone());
        }
        result
    }

    /// A call outside the hot path that returns little.
    fn update(
        &mut self,
        call: impl FnOnce(&mut Store<GuestState>, &Exports) -> wasmtime::Result<()>,
    ) -> Result<(), Fault> {
        let limits = &self.loaded.engine.limits;
        let (budget, bytes_max) = (limits.update_deadline, limits.result_bytes_max);
        self.call(budget, bytes_max, call)
    }
}

impl Policy for WasmPolicy {
    fn manifest(&self) -> &Manifest {
        &self.loaded.manifest
    }

    fn digest(&self) -> &str {
        &self.loaded.digest
    }

    fn world_changed(&mut self, world: &WorldInfo) -> Result<(), Fault> {
        let lists = WorldLists::new(world);
        self.update(|store, exports| exports.policy.call_world_changed(store, lists.lower()))
    }

    fn table_changed(&mut self, table: &Table) -> Result<(), Fault> {
        self.update(|store, exports| exports.policy.call_table_changed(store, convert::table(table)))
    }

    fn decide(&mut self, snapshot: &Snapshot) -> Result<Decision, Fault> {
        let limits = &self.loaded.engine.limits;
        let (budget, bytes_max) = (limits.decide_deadline, limits.result_bytes_max);
        let mut scratch = std::mem::take(&mut self.scratch);
        let now = scratch.lower(snapshot);
        let decision = self.call(budget, bytes_max, |store, exports| exports.policy.call_decide(store, now));
        self.scratch = scratch;
        decision.map(convert::decision)
    }

    fn observe(&mut self, outcomes: &[Outcome], dropped: u32) -> Result<(), Fault> {
        if self.exports.learning.is_none() {
            return Ok(());
        }
        let outcomes: Vec<_> = outcomes.iter().map(convert::outcome).collect();
        self.update(|store, exports| match &exports.learning {
            Some(learning) => learning.call_observe(store, &outcomes, dropped),
            None => Ok(()),
        })
    }

    fn save(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        if self.exports.state.is_none() || self.loaded.manifest.state_schema.is_empty() {
            return Ok(None);
        }
        let limits = &self.loaded.engine.limits;
        let (budget, bytes_max) = (limits.update_deadline, limits.blob_bytes_max);
        let answer = self.call(budget, bytes_max, |store, exports| match &exports.state {
            Some(state) => state.call_save(store).map(Some),
            None => Ok(None),
        })?;
        match answer {
            Some(Ok(blob)) => Ok(Some(blob)),
            Some(Err(reason)) => {
                tracing::info!(policy = self.loaded.manifest.name, reason, "the policy keeps its state to itself");
                Ok(None)
            }
            None => Ok(None),
        }
    }

    fn restore(&mut self, origin: &Origin, blob: &[u8]) -> Result<bool, Fault> {
        if self.exports.state.is_none() {
            return Ok(false);
        }
        let limits = &self.loaded.engine.limits;
        let (budget, bytes_max) = (limits.update_deadline, limits.blob_bytes_max);
        let answer = self.call(budget, bytes_max, |store, exports| match &exports.state {
            Some(state) => state.call_restore(store, convert::origin(origin), blob),
            None => Ok(Ok(false)),
        })?;
        // A refusal in words is the policy's right and not the end of it: it starts cold.
        answer.or_else(|reason| {
            tracing::info!(policy = self.loaded.manifest.name, reason, "the policy refused its predecessor's state");
            Ok(false)
        })
    }

    fn metrics(&self) -> Vec<(u32, f64)> {
        self.store.data().gauges()
    }
}
