//! The models of this host: which versions there are, which serve, and how they come and go.
//!
//! A load makes new ids beside the old ones, tells the dispatcher of both, switches requests over, lets the old ones
//! drain and only then takes them out of the world. One change is made at a time; requests never wait for one.

mod calibration;
mod codings;
mod costs;
mod export;
mod loader;
mod memory;
mod placement;
mod profiles;
mod served;
mod world;

pub(crate) use export::{
    CALIBRATION, Export, LIST, MODEL, ORIGIN, PIECE_BYTES_MAX, check_list, check_names, digest_of,
};
pub(crate) use loader::Loader;
pub(crate) use placement::{Other, unmatched_anywhere};
pub(crate) use served::{InFlight, ServedModel};

use crate::dispatcher::Dispatcher;
use crate::peers::Circle;
use crate::repository::{Repository, Source, Versions};
use crate::{HostError, IndexEntry, ModelState, ModelStats, ModelView, ServeError};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use world::{MODELS_MAX, Population};

/// The registry.
pub(crate) struct Models {
    repository: Repository,
    loader: Arc<Loader>,
    dispatcher: Dispatcher,
    names: RwLock<BTreeMap<String, BTreeMap<u64, Slot>>>,
    world: Mutex<Population>,
    /// What other hosts may ask for; looked up, never iterated.
    digests: RwLock<HashMap<[u8; 32], Arc<ServedModel>>>,
    /// The other hosts, where there are any.
    circle: Option<Circle>,
    /// Held by whoever changes models.
    change: tokio::sync::Mutex<()>,
    drain_timeout: Duration,
    /// Requests and bytes that may wait per model, where the model does not say.
    queue_bounds: (u32, u64),
}

/// One version's place.
struct Slot {
    state: ModelState,
    reason: String,
    served: Option<Arc<ServedModel>>,
}

/// What came of loading one version.
type Loaded = (u64, Result<Arc<ServedModel>, String>);

impl Models {
    pub(crate) fn new(
        repository: Repository,
        loader: Loader,
        dispatcher: Dispatcher,
        drain_timeout: Duration,
        queue_bounds: (u32, u64),
        circle: Option<Circle>,
    ) -> Self {
        Self {
            repository,
            loader: Arc::new(loader),
            dispatcher,
            names: RwLock::default(),
            world: Mutex::default(),
            digests: RwLock::default(),
            circle,
            change: tokio::sync::Mutex::default(),
            drain_timeout,
            queue_bounds,
        }
    }

    /// Loads everything there is. Blocks; for the start only.
    pub(crate) fn load_all_blocking(&self) -> Result<(), HostError> {
        self.tell_world(); // devices, even where there is no model
        for (name, versions) in self.repository.scan()? {
            let loaded = self.loader.load_versions(&name, &versions);
            let old = self.put_in_place(&name, loaded);
            debug_assert!(old.is_empty(), "nothing was served before the start");
        }
        Ok(())
    }

    /// Loads a model anew from where it comes from.
    pub(crate) async fn load(&self, name: &str) -> Result<(), ServeError> {
        let _change = self.change.lock().await;
        let versions = self.repository.find(name).map_err(|e| ServeError::Failed(e.to_string()))?;
        if versions.is_empty() {
            return Err(ServeError::NotFound(format!("no model {name} in the repository")));
        }
        self.mark_loading(name, &versions);
        let loaded = self.load_off_thread(name, versions).await;
        let failures: Vec<String> = loaded
            .iter()
            .filter_map(|(version, result)| Some(format!("version {version}: {}", result.as_ref().err()?)))
            .collect();
        let old = self.put_in_place(name, loaded);
        self.retire(old).await;
        if failures.is_empty() {
            return Ok(());
        }
        Err(ServeError::Invalid(format!("model {name}: {}", failures.join("; "))))
    }

    async fn load_off_thread(&self, name: &str, versions: Versions) -> Vec<Loaded> {
        let (loader, owned) = (self.loader.clone(), name.to_owned());
        let numbers: Vec<u64> = versions.keys().copied().collect();
        let loading = tokio::task::spawn_blocking(move || loader.load_versions(&owned, &versions));
        loading.await.unwrap_or_else(|error| {
            numbers.into_iter().map(|n| (n, Err(format!("the loader failed: {error}")))).collect()
        })
    }

    /// Refuses new requests, waits for those there are, and lets go.
    pub(crate) async fn unload(&self, name: &str) -> Result<(), ServeError> {
        let _change = self.change.lock().await;
        let served = {
            let mut names = self.names.write();
            let slots = names.get_mut(name).ok_or_else(|| unknown(name))?;
            let take = |slot: &mut Slot| {
                slot.state = ModelState::Unloading;
                slot.reason = "unloading".into();
                slot.served.take()
            };
            slots.values_mut().filter_map(take).collect()
        };
        self.retire(served).await;
        if let Some(slots) = self.names.write().get_mut(name) {
            for slot in slots.values_mut() {
                slot.state = ModelState::Unavailable;
                slot.reason = "unloaded".into();
            }
        }
        Ok(())
    }

    fn mark_loading(&self, name: &str, versions: &BTreeMap<u64, Source>) {
        let mut names = self.names.write();
        let slots = names.entry(name.to_owned()).or_default();
        for version in versions.keys() {
            let slot = slots.entry(*version).or_insert_with(|| Slot {
                state: ModelState::Loading,
                reason: String::new(),
                served: None,
            });
            if slot.served.is_none() {
                slot.state = ModelState::Loading;
                slot.reason = "loading".into();
            }
        }
    }

    /// Makes what was loaded serve, and returns what served before. A version that failed to load keeps serving as it
    /// was; one whose file is gone goes.
    fn put_in_place(&self, name: &str, loaded: Vec<Loaded>) -> Vec<Arc<ServedModel>> {
        let fresh: Vec<_> = loaded.iter().filter_map(|(_, result)| result.as_ref().ok().cloned()).collect();
        // The world is told first: no request may reach the scheduler before its model has.
        let in_world = self.join_world(&fresh);
        let mut names = self.names.write();
        let slots = names.entry(name.to_owned()).or_default();
        let present: Vec<u64> = loaded.iter().map(|(version, _)| *version).collect();
        let gone: Vec<u64> = slots.keys().copied().filter(|version| !present.contains(version)).collect();
        let mut old: Vec<_> = gone.iter().filter_map(|version| slots.remove(version)?.served).collect();
        for (version, result) in loaded {
            let result = result.and_then(|m| {
                if in_world { Ok(m) } else { Err(format!("this host serves {MODELS_MAX} models, its most")) }
            });
            let before = slots.remove(&version).and_then(|slot| slot.served);
            let slot = match (result, before) {
                (Ok(model), before) => {
                    old.extend(before);
                    Slot { state: ModelState::Ready, reason: String::new(), served: Some(model) }
                }
                (Err(reason), Some(before)) => {
                    tracing::warn!(model = name, version, reason, "reload failed, the old one keeps serving");
                    Slot { state: ModelState::Ready, reason, served: Some(before) }
                }
                (Err(reason), None) => {
                    tracing::error!(model = name, version, reason, "model not loaded");
                    Slot { state: ModelState::Unavailable, reason, served: None }
                }
            };
            slots.insert(version, slot);
        }
        old
    }

    /// A model that takes requests, entered: it does not go away before the guard is dropped.
    pub(crate) fn enter(&self, name: &str, version: Option<&str>) -> Result<InFlight, ServeError> {
        let names = self.names.read();
        let slots = names.get(name).ok_or_else(|| unknown(name))?;
        Ok(InFlight::enter(pick(name, slots, version)?))
    }

    /// A model that is ready, as data.
    pub(crate) fn view(&self, name: &str, version: Option<&str>) -> Result<ModelView, ServeError> {
        let names = self.names.read();
        let slots = names.get(name).ok_or_else(|| unknown(name))?;
        let model = pick(name, slots, version)?;
        let ready = slots.iter().filter(|(_, slot)| slot.served.is_some());
        Ok(model.view(ready.map(|(version, _)| version.to_string()).collect()))
    }

    pub(crate) fn index(&self) -> Vec<IndexEntry> {
        let names = self.names.read();
        let entry = |name: &str, version: u64, slot: &Slot| IndexEntry {
            name: name.to_owned(),
            version: version.to_string(),
            state: slot.state,
            reason: slot.reason.clone(),
        };
        names.iter().flat_map(|(name, slots)| slots.iter().map(move |(v, slot)| entry(name, *v, slot))).collect()
    }

    pub(crate) fn stats(&self, name: Option<&str>, version: Option<&str>) -> Result<Vec<ModelStats>, ServeError> {
        let names = self.names.read();
        let of = |model: &Arc<ServedModel>| model.stats.view(&model.name, &model.version);
        match name {
            None => Ok(names.values().flat_map(|s| s.values()).filter_map(|s| s.served.as_ref()).map(of).collect()),
            Some(name) => {
                let slots = names.get(name).ok_or_else(|| unknown(name))?;
                match version {
                    Some(_) => Ok(vec![of(pick(name, slots, version)?)]),
                    None => Ok(slots.values().filter_map(|s| s.served.as_ref()).map(of).collect()),
                }
            }
        }
    }
}

fn unknown(name: &str) -> ServeError {
    ServeError::NotFound(format!("unknown model: {name}"))
}

/// The version named, or the highest that is ready.
fn pick<'a>(
    name: &str,
    slots: &'a BTreeMap<u64, Slot>,
    version: Option<&str>,
) -> Result<&'a Arc<ServedModel>, ServeError> {
    let slot = match version.filter(|v| !v.is_empty()) {
        Some(text) => {
            let found = text.parse().ok().and_then(|number: u64| slots.get(&number));
            found.ok_or_else(|| ServeError::NotFound(format!("model {name} has no version {text}")))?
        }
        None => {
            let ready = slots.values().rev().find(|slot| slot.served.is_some());
            ready.or_else(|| slots.values().next_back()).ok_or_else(|| unknown(name))?
        }
    };
    slot.served.as_ref().ok_or_else(|| {
        let state = match slot.state {
            ModelState::Loading => "is loading",
            ModelState::Unloading => "is unloading",
            ModelState::Ready | ModelState::Unavailable => "is not available",
        };
        ServeError::Unavailable(format!("model {name} {state}: {}", slot.reason))
    })
}
