//! [`Host`]: the handle through which everything outside talks to a running node.
//!
//! Cheap to clone. The threads behind it (dispatcher, policy builder, one executor per device) end with
//! [`Host::drain`], or when the last clone is dropped.

use crate::admission::Admission;
use crate::dispatcher::{Dispatcher, Parts};
use crate::metrics::{Metrics, PolicyText};
use crate::models::{Loader, Models};
use crate::peers::{self, Circle, Peers, Roster};
use crate::policies::{self, Builder, LastGood, Policies, Watch};
use crate::repository::Repository;
use crate::{
    DeviceView, DrainReport, HostConfig, HostError, IndexEntry, InferCall, InferReply, Ledger, ModelStats, ModelView,
    OwnPeerView, PeerView, PolicyEntry, PolicyRejected, PolicyStatusView, Receipt, ServeError, SwapError, SwapReport,
    SwapRequest,
};
use crate::{clock, record};
use bps_engine::{DeviceRequest, Engine, RequestedKind};
use bps_plugin::PolicyEngine;
use bps_sched::Scheduler;
use bps_types::Nanos;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// What is started where no device is named.
const AUTOMATIC: DeviceRequest = DeviceRequest { kind: RequestedKind::Auto, slowdown: 1.0 };

/// A running node.
#[derive(Clone)]
pub struct Host {
    pub(crate) inner: Arc<Inner>,
}

/// What the clones share.
pub(crate) struct Inner {
    pub(crate) admission: Arc<Admission>,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) models: Arc<Models>,
    pub(crate) policies: Policies,
    /// None where this host meets no others.
    pub(crate) peers: Option<Arc<Peers>>,
    pub(crate) metrics: Arc<Metrics>,
    /// Image decoders that run at once.
    pub(crate) decoders: Arc<Semaphore>,
    pub(crate) next_request: AtomicU64,
    pub(crate) body_bytes_max: usize,
    pub(crate) draining: AtomicBool,
    pub(crate) drain_timeout: Duration,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(peers) = &self.peers {
            peers.request_stop();
        }
        self.policies.request_stop();
        self.dispatcher.request_stop();
    }
}

impl Host {
    /// Starts devices and threads, loads every model of the repositories and makes the chosen policy active. A model that
    /// does not load is no error here: the index says so, with the reason.
    pub async fn start(config: HostConfig) -> Result<Self, HostError> {
        let begun = tokio::task::spawn_blocking(move || assemble(config)).await;
        begun.unwrap_or_else(|e| Err(HostError::Internal(e.to_string())))
    }

    /// One inference; the whole story is in `pipeline.rs`. Dropping the future cancels the request.
    pub async fn infer(&self, call: InferCall) -> Result<InferReply, ServeError> {
        crate::pipeline::infer(&self.inner, call).await
    }

    /// Whether requests are taken: not draining, the dispatcher lives and some device is up.
    pub fn is_ready(&self) -> bool {
        !self.inner.draining.load(Ordering::Acquire)
            && self.inner.dispatcher.is_alive()
            && self.inner.dispatcher.any_device_up()
    }

    /// A model that is ready, by name and version (none: the highest).
    pub fn model(&self, name: &str, version: Option<&str>) -> Result<ModelView, ServeError> {
        self.inner.models.view(name, version)
    }

    /// Every model version there is, whatever its state.
    pub fn index(&self) -> Vec<IndexEntry> {
        self.inner.models.index()
    }

    /// Reads a model's folder again and serves what is there under new ids; what was served before drains. A failure
    /// leaves the old one serving. Goes on to its end even if the future is dropped.
    pub async fn load_model(&self, name: &str) -> Result<(), ServeError> {
        let (models, name) = (self.inner.models.clone(), name.to_owned());
        finished(tokio::spawn(async move { models.load(&name).await })).await
    }

    /// Refuses new requests for a model, waits until those it has have ended, and lets go of it. Goes on to its end even
    /// if the future is dropped.
    pub async fn unload_model(&self, name: &str) -> Result<(), ServeError> {
        let (models, name) = (self.inner.models.clone(), name.to_owned());
        finished(tokio::spawn(async move { models.unload(&name).await })).await
    }

    /// Counts and times, of one model or of all.
    pub fn model_stats(&self, name: Option<&str>, version: Option<&str>) -> Result<Vec<ModelStats>, ServeError> {
        self.inner.models.stats(name, version)
    }

    /// The devices of this host.
    pub fn devices(&self) -> Vec<DeviceView> {
        self.inner.dispatcher.devices()
    }

    /// The hosts paired with this one, and how they and the links to them stand.
    pub fn peers(&self) -> Vec<PeerView> {
        self.inner.peers.as_ref().map_or_else(Vec::new, |peers| peers.views())
    }

    /// This host as others know it; none where it meets no others.
    pub fn own_peer(&self) -> Option<OwnPeerView> {
        self.inner.peers.as_ref().map(|peers| peers.own_view())
    }

    /// Every policy that is known: prebuilt, dropped in, uploaded, and what was rejected.
    pub fn policies(&self) -> Vec<PolicyEntry> {
        self.inner.policies.list()
    }

    /// Takes a component into the library, where it can be swapped in from. `origin` is for people.
    pub async fn load_policy(&self, bytes: Vec<u8>, origin: String) -> Result<PolicyEntry, PolicyRejected> {
        self.inner.policies.load(bytes, origin).await
    }

    /// Makes another policy active. The old one decides until the new one is ready; any failure leaves it in place. One
    /// swap is made at a time, one more may wait its turn.
    pub async fn swap_policy(&self, request: SwapRequest) -> Result<SwapReport, SwapError> {
        self.inner.policies.swap(request).await
    }

    /// Goes back to the policy before the active one, while it is still kept.
    pub async fn rollback_policy(&self) -> Result<SwapReport, SwapError> {
        self.inner.policies.rollback().await
    }

    /// The active policy and how it does.
    pub fn policy_status(&self) -> PolicyStatusView {
        self.inner.policies.status()
    }

    /// The account of every request, as of the last event.
    pub fn ledger(&self) -> Ledger {
        self.inner.dispatcher.ledger()
    }

    /// What time it is on the clock that receipts and predictions are told in.
    pub fn clock(&self) -> Nanos {
        clock::now()
    }

    /// The last receipts, oldest first; at most 4,096 are kept.
    pub fn receipts(&self, last: usize) -> Vec<Receipt> {
        self.inner.dispatcher.receipts(last)
    }

    /// Metrics in Prometheus text format.
    pub fn render_metrics(&self) -> String {
        self.inner.metrics.peers(&self.peers());
        let mut text = self.inner.metrics.render();
        let policy = self.policy_status();
        let models = self.model_stats(None, None).unwrap_or_default();
        PolicyText { policy: &policy, models: &models }.write(&mut text);
        text
    }

    /// Refuses what is new, finishes what waits and runs (for at most the configured time), and stops the threads.
    pub async fn drain(&self) -> DrainReport {
        let began = Instant::now();
        self.inner.draining.store(true, Ordering::Release);
        let emptied = tokio::time::timeout(self.inner.drain_timeout, self.inner.admission.wait_empty()).await.is_ok();
        let ledger = self.inner.dispatcher.ledger();
        if let Some(peers) = &self.inner.peers {
            peers.stop().await;
        }
        self.inner.policies.stop().await;
        self.inner.dispatcher.stop().await;
        let ledger = if emptied { self.inner.dispatcher.ledger() } else { ledger };
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        DrainReport { waiting: ledger.waiting, running: ledger.running, took_ms, ledger }
    }
}

/// The result of a task of ours, which ends early only if it panics or the runtime stops.
async fn finished(task: JoinHandle<Result<(), ServeError>>) -> Result<(), ServeError> {
    task.await.unwrap_or_else(|error| Err(ServeError::Failed(format!("internal: {error}"))))
}

/// Puts a host together. Blocks: it compiles policies, reads and profiles models.
fn assemble(mut config: HostConfig) -> Result<Host, HostError> {
    config.sched.trace_prefix = rand::random();
    // What can be told at once comes before devices, which take a while to be found.
    let repository = Repository::new(config.models, config.builtin_models)?;
    let meeting = config.peers.zip(config.state_dir.clone());
    meeting.as_ref().map(|(config, folder)| peers::check(config, folder)).transpose()?;
    let requests = if config.devices.is_empty() { vec![AUTOMATIC] } else { config.devices };
    let engine = Engine::start(&requests)?;
    let names: Vec<String> = engine.devices().iter().map(|d| d.name.clone()).collect();
    let metrics = Arc::new(Metrics::new(&names));
    let (log, recording) = config.record.as_deref().map(record::open).transpose()?.unzip();
    let queue_bounds = (config.sched.queue_requests_max, config.sched.queue_bytes_max);
    let scheduler = Scheduler::new(config.sched, clock::STOPWATCH, log);
    let (builder, messages) = policies::channel();
    let parts = Parts { scheduler, engine: engine.clone(), metrics: metrics.clone(), builder: builder.clone() };
    let dispatcher = Dispatcher::start(parts)?;
    let identity = meeting.as_ref().map(|(_, folder)| peers::identity(folder)).transpose()?;
    let circle = identity.as_ref().zip(meeting.as_ref()).map(|(identity, (config, _))| Circle {
        roster: Arc::new(Roster::new(identity.key(), engine.devices().len() as u32)),
        name: config.name.clone(),
    });
    let loader = Loader {
        engine: engine.clone(),
        metrics: metrics.clone(),
        profile: config.profile,
        accuracy_loss_max_ppm: config.accuracy_loss_max_ppm,
        state_dir: config.state_dir.clone(),
        next_id: AtomicU32::new(0),
        meets_others: circle.is_some(),
        codec_timings: OnceLock::new(),
    };
    let roster = circle.as_ref().map(|circle| circle.roster.clone());
    let models =
        Arc::new(Models::new(repository, loader, dispatcher.clone(), config.drain_timeout, queue_bounds, circle));
    models.load_all_blocking()?;
    let maker = Builder {
        policies: PolicyEngine::shared()?,
        library: Arc::default(),
        dispatcher: dispatcher.clone(),
        engine: engine.clone(),
        metrics: metrics.clone(),
        last_good: config.state_dir.as_deref().map(LastGood::new),
        watch: config.policies_dir.map(Watch::new),
        activate_on_drop: config.activate_on_drop,
        recording,
        rebuilds: Vec::new(),
    };
    let policies = Policies::start(maker, &config.policy, builder, messages)?;
    // Last: from here on others may send work.
    let peers = match (meeting, identity, roster) {
        (Some((config, state_dir)), Some(identity), Some(roster)) => {
            let (models, dispatcher) = (models.clone(), dispatcher.clone());
            let state_dir = &state_dir;
            Some(Peers::start(peers::Parts { config, state_dir, identity, roster, models, dispatcher, engine })?)
        }
        _ => None,
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let inner = Inner {
        admission: Admission::new(config.requests_max, config.request_bytes_max),
        dispatcher,
        models,
        policies,
        peers,
        metrics,
        decoders: Arc::new(Semaphore::new(cores)),
        next_request: AtomicU64::new(0),
        body_bytes_max: config.body_bytes_max,
        draining: AtomicBool::new(false),
        drain_timeout: config.drain_timeout,
    };
    Ok(Host { inner: Arc::new(inner) })
}
