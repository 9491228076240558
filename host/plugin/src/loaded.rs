//! A component that passed verification, compilation and admission: what instances are made of.

use crate::bindings::exports::bps::policy as exported;
use crate::policy::Exports;
use crate::{Corpus, GuestLimits, LoadError, LoadStage, PolicyEngine, Rehearsal, WasmPolicy, convert, guest, verify};
use bps_sched::Fault;
use bps_types::policy::Manifest;
use std::sync::Arc;
use wasmtime::Store;
use wasmtime::component::{Component, InstancePre};

/// A policy that can be instantiated. Cheap to clone.
#[derive(Clone)]
pub struct LoadedPolicy(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) engine: PolicyEngine,
    pub(crate) manifest: Manifest,
    pub(crate) digest: String,
    bytes: Arc<[u8]>,
    imports: Vec<String>,
    exports: Vec<String>,
    pre: InstancePre<guest::GuestState>,
    policy: exported::policy::GuestIndices,
    learning: Option<exported::learning::GuestIndices>,
    state: Option<exported::state::GuestIndices>,
}

impl std::fmt::Debug for LoadedPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadedPolicy").field("name", &self.0.manifest.name).field("digest", &self.0.digest).finish()
    }
}

impl LoadedPolicy {
    /// The stage admitted: the types fit, an instance comes up under its limits, and `describe` says who it is.
    pub(crate) fn admit(
        engine: PolicyEngine,
        component: Component,
        bytes: &[u8],
        digest: String,
    ) -> Result<Self, LoadError> {
        let mismatch = |error: wasmtime::Error| LoadError::new(LoadStage::Verified, format!("{error:#}"));
        let pre = engine.linker.instantiate_pre(&component).map_err(mismatch)?;
        let exports = verify::exports(&engine.engine, &component);
        let has = |interface: &str| exports.iter().any(|name| name.split('@').next() == Some(interface));
        let policy = exported::policy::GuestIndices::new(&pre).map_err(mismatch)?;
        let learning = has("bps:policy/learning")
            .then(|| exported::learning::GuestIndices::new(&pre))
            .transpose()
            .map_err(mismatch)?;
        let state =
            has("bps:policy/state").then(|| exported::state::GuestIndices::new(&pre)).transpose().map_err(mismatch)?;
        let mut inner = Inner {
            imports: verify::imports(&engine.engine, &component),
            manifest: Manifest::default(),
            bytes: bytes.into(),
            engine,
            digest,
            exports,
            pre,
            policy,
            learning,
            state,
        };
        inner.manifest = describe(&inner).map_err(|fault| LoadError::new(LoadStage::Admitted, fault.to_string()))?;
        check_manifest(&inner.manifest).map_err(|reason| LoadError::new(LoadStage::Admitted, reason))?;
        Ok(Self(Arc::new(inner)))
    }

    /// What it says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.0.manifest
    }

    /// SHA-256 of the component, in hex.
    pub fn digest(&self) -> &str {
        &self.0.digest
    }

    /// Size of the component.
    pub fn size_bytes(&self) -> usize {
        self.0.bytes.len()
    }

    /// The component itself.
    pub fn bytes(&self) -> Arc<[u8]> {
        Arc::clone(&self.0.bytes)
    }

    /// Its compiled code.
    #[cfg(test)]
    pub(crate) fn component(&self) -> &Component {
        self.0.pre.component()
    }

    /// Interfaces it imports: its whole authority.
    pub fn imports(&self) -> &[String] {
        &self.0.imports
    }

    /// Interfaces it exports.
    pub fn exports(&self) -> &[String] {
        &self.0.exports
    }

    /// The limits it runs under.
    pub fn limits(&self) -> &GuestLimits {
        &self.0.engine.limits
    }

    /// The stage configured: a fresh instance that took this configuration.
    pub fn instantiate(&self, config: &str, seed: u64) -> Result<WasmPolicy, LoadError> {
        let admitted = |fault: Fault| LoadError::new(LoadStage::Admitted, fault.to_string());
        let name = format!("{}@{}", self.0.manifest.name, self.0.manifest.version);
        let (store, exports) = self.0.start(name.into()).map_err(admitted)?;
        let mut policy = WasmPolicy::new(Arc::clone(&self.0), store, exports);
        policy.configure(config, seed)?;
        Ok(policy)
    }

    /// The stage rehearsed: answers the corpus twice over and reports what it saw; a fault, invalid rows, answers that
    /// differ between two instances and the like reject.
    pub fn rehearse(&self, config: &str, seed: u64, corpus: &Corpus) -> Result<Rehearsal, LoadError> {
        crate::rehearsal::rehearse(self, config, seed, corpus)
    }
}

impl Inner {
    /// A fresh store with a running instance; its start function ran under the deadline.
    fn start(&self, name: Arc<str>) -> Result<(Store<guest::GuestState>, Exports), Fault> {
        let limits = &self.engine.limits;
        let mut store = guest::store(&self.engine.engine, limits, name);
        let exports = guest::timed(&mut store, limits.start_deadline, limits.blob_bytes_max, |store| {
            let instance = self.pre.instantiate(&mut *store)?;
            Ok(Exports {
                policy: self.policy.load(&mut *store, &instance)?,
                learning: self.learning.as_ref().map(|found| found.load(&mut *store, &instance)).transpose()?,
                state: self.state.as_ref().map(|found| found.load(&mut *store, &instance)).transpose()?,
            })
        })?;
        Ok((store, exports))
    }
}

fn describe(inner: &Inner) -> Result<Manifest, Fault> {
    let limits = &inner.engine.limits;
    let (mut store, exports) = inner.start("(new policy)".into())?;
    let described = guest::timed(&mut store, limits.start_deadline, limits.blob_bytes_max, |store| {
        exports.policy.call_describe(store)
    })?;
    Ok(convert::manifest(described))
}

/// The bounds that `wit/policy.wit` states for a manifest.
fn check_manifest(manifest: &Manifest) -> Result<(), String> {
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let name = &manifest.name;
    if name.is_empty() || name.len() > 64 || !name.bytes().all(is_name) {
        return Err(format!("manifest: name {name:?} must be 1 to 64 lower-case letters, digits and dashes"));
    }
    let (numbers, _) = manifest.version.split_once(['-', '+']).unwrap_or((&manifest.version, ""));
    if manifest.version.len() > 64 || numbers.split('.').filter(|part| part.parse::<u32>().is_ok()).count() != 3 {
        return Err(format!("manifest: version {:?} is not SemVer (major.minor.patch)", manifest.version));
    }
    if manifest.reasons.len() > 64 {
        return Err(format!("manifest: {} reasons; at most 64", manifest.reasons.len()));
    }
    if let Err(error) = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&manifest.config_schema) {
        return Err(format!("manifest: config-schema is not a JSON object: {error}"));
    }
    Ok(())
}
