//! The policies of this host: which there are, which decides, and how another one comes to decide.
//!
//! ```text
//! bytes ──> library (verified, compiled, admitted) ──> instance (configured) ──> rehearsed ──> briefed ──> switch
//!           └────────────────────── builder thread ──────────────────────────────────────────┘   dispatcher
//! ```
//! [`Policies`] is the handle, `builder::Builder` the thread behind it. Until the switch the old policy decides, and
//! whatever fails on the way leaves it in place.

mod builder;
mod last_good;
mod library;
mod watch;

pub(crate) use builder::{Builder, BuilderMessage, BuilderSender, Prepared, channel};
pub(crate) use last_good::LastGood;
pub(crate) use library::Library;
pub(crate) use watch::Watch;

use crate::dispatcher::Dispatcher;
use crate::{
    HostError, PolicyChoice, PolicyEntry, PolicyEntryState, PolicyName, PolicyRejected, PolicyStatusView, SwapError,
    SwapReport, SwapRequest,
};
use bps_sched::{PolicyLabel, RollbackReason, SlotState};
use crossbeam_channel::Receiver;
use parking_lot::Mutex;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;
use tokio::sync::{Semaphore, oneshot};

/// Swaps that are being made or wait their turn. One more is told that we are busy.
const SWAPS_MAX: usize = 2;
/// Components that are being taken in: each may be 16 MiB.
const LOADS_MAX: usize = 4;

/// The handle.
pub(crate) struct Policies {
    library: Arc<Mutex<Library>>,
    builder: BuilderSender,
    dispatcher: Dispatcher,
    tickets: Semaphore,
    turn: tokio::sync::Mutex<()>,
    loads: Semaphore,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Policies {
    /// Makes the chosen policy active and starts the builder's thread. Blocks.
    pub(crate) fn start(
        mut maker: Builder,
        choice: &PolicyChoice,
        builder: BuilderSender,
        messages: Receiver<BuilderMessage>,
    ) -> Result<Self, HostError> {
        maker.load_prebuilt();
        maker.first(choice).map_err(|reason| HostError::Policy { name: choice.name_or_path.clone(), reason })?;
        let (library, dispatcher) = (maker.library.clone(), maker.dispatcher.clone());
        let thread = std::thread::Builder::new()
            .name("bps-policies".into())
            .spawn(move || maker.run(&messages))
            .map_err(|e| HostError::Internal(format!("policy builder thread: {e}")))?;
        Ok(Self {
            library,
            builder,
            dispatcher,
            tickets: Semaphore::new(SWAPS_MAX),
            turn: tokio::sync::Mutex::default(),
            loads: Semaphore::new(LOADS_MAX),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// What is known, each with where it stands.
    pub(crate) fn list(&self) -> Vec<PolicyEntry> {
        let mut entries = self.library.lock().entries();
        if let Some(status) = self.dispatcher.policy_status() {
            entries.iter_mut().for_each(|entry| stand(entry, &status));
        }
        entries
    }

    pub(crate) async fn load(&self, bytes: Vec<u8>, origin: String) -> Result<PolicyEntry, PolicyRejected> {
        let rejected = |reason: &str| PolicyRejected { stage: "received".to_owned(), reason: reason.to_owned() };
        let _turn = self.loads.try_acquire().map_err(|_| rejected("too many components are being loaded"))?;
        let (reply, answer) = oneshot::channel();
        self.builder.send(BuilderMessage::Load { bytes, origin, reply });
        answer.await.unwrap_or_else(|_| Err(rejected("the host is stopping")))
    }

    pub(crate) async fn swap(&self, request: SwapRequest) -> Result<SwapReport, SwapError> {
        let _ticket = self.tickets.try_acquire().map_err(|_| SwapError::Busy)?;
        let _turn = self.turn.lock().await;
        let began = Instant::now();
        let (reply, answer) = oneshot::channel();
        let choice =
            PolicyChoice { name_or_path: request.policy, config: request.config, seed: request.seed, strict: true };
        let (carry_state, rehearse) = (request.carry_state, request.rehearse);
        self.builder.send(BuilderMessage::Prepare { choice, carry_state, rehearse, reply });
        let prepared = answer.await.unwrap_or(Err(SwapError::Stopping))?;
        let prepare_ms = began.elapsed().as_secs_f64() * 1e3;
        switch(&self.dispatcher, prepared, prepare_ms).await
    }

    pub(crate) async fn rollback(&self) -> Result<SwapReport, SwapError> {
        let _ticket = self.tickets.try_acquire().map_err(|_| SwapError::Busy)?;
        let _turn = self.turn.lock().await;
        match self.dispatcher.rollback().await {
            Some(report) => accept(report, 0.0, None),
            None if self.dispatcher.is_alive() => {
                Err(SwapError::Refused("there is no policy to go back from".to_owned()))
            }
            None => Err(SwapError::Stopping),
        }
    }

    pub(crate) fn status(&self) -> PolicyStatusView {
        let Some((status, seed)) = self.dispatcher.policy_status_and_seed() else {
            return PolicyStatusView::default();
        };
        PolicyStatusView {
            active: name(&status.label),
            generation: status.generation.0,
            state: state_text(&status.state).to_owned(),
            previous: status.standby.as_deref().map(name),
            seed,
            config: status.config,
            decide: self.dispatcher.decide_times(status.generation),
            faults: status.faults.iter().map(|(class, count)| (class.name().to_owned(), *count)).collect(),
            last_fault: status.last_fault.map(|fault| fault.to_string()),
            quarantined: status.quarantined.into_iter().map(|(digest, _, reason)| (digest, reason)).collect(),
            gauges: status.gauges.into_iter().collect(),
            ledger: self.dispatcher.ledger(),
            swaps: status.swaps,
            last_pause_us: self.dispatcher.last_pause().map(|pause| pause.0 as f64 / 1e3),
        }
    }

    /// Ends the builder's thread and waits for it.
    pub(crate) async fn stop(&self) {
        self.request_stop();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            // A panicked builder has already said so through the log.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    pub(crate) fn request_stop(&self) {
        self.builder.send(BuilderMessage::Stop);
    }
}

/// Hands a candidate to the dispatcher and tells what came of it.
pub(crate) async fn switch(
    dispatcher: &Dispatcher,
    prepared: Prepared,
    prepare_ms: f64,
) -> Result<SwapReport, SwapError> {
    let report = dispatcher.swap(prepared.candidate).await.ok_or(SwapError::Stopping)?;
    accept(report, prepare_ms, prepared.rehearsal)
}

fn accept(report: bps_sched::SwapReport, prepare_ms: f64, rehearsal: Option<String>) -> Result<SwapReport, SwapError> {
    if let Some(reason) = report.refused {
        return Err(SwapError::Refused(reason));
    }
    Ok(SwapReport {
        from: name(&report.from),
        to: name(&report.to),
        generation: report.generation.0,
        carried: if report.carried_state { "restored" } else { "none" }.to_owned(),
        rollback: report.rollback.as_ref().map(rollback_text),
        pause_us: report.pause.0 as f64 / 1e3,
        prepare_ms,
        rehearsal,
    })
}

fn rollback_text(reason: &RollbackReason) -> String {
    match reason {
        RollbackReason::Asked => "asked for".to_owned(),
        RollbackReason::Fault(fault) => fault.to_string(),
        RollbackReason::InvalidRows => "too many invalid rows".to_owned(),
        RollbackReason::Slow => "too many slow decisions".to_owned(),
        RollbackReason::Misses => "missed more deadlines than its predecessor".to_owned(),
    }
}

fn state_text(state: &SlotState) -> &'static str {
    match state {
        SlotState::Probation => "probation",
        SlotState::Stable => "stable",
        SlotState::Fallback { rebuilding: true } => "rebuilding",
        SlotState::Fallback { rebuilding: false } => "fallback",
    }
}

fn name(label: &PolicyLabel) -> PolicyName {
    PolicyName { name: label.name.clone(), version: label.version.clone(), digest: label.digest.clone() }
}

fn stand(entry: &mut PolicyEntry, status: &bps_sched::PolicyStatus) {
    if entry.state != PolicyEntryState::Available {
        return;
    }
    let quarantined = status.quarantined.iter().find(|(digest, ..)| *digest == entry.digest);
    if let Some((_, _, reason)) = quarantined {
        entry.state = PolicyEntryState::Quarantined { reason: reason.clone() };
    } else if status.label.digest == entry.digest {
        entry.state = PolicyEntryState::Active;
    } else if status.standby.as_ref().is_some_and(|s| s.digest == entry.digest) {
        entry.state = PolicyEntryState::Standby;
    }
}
