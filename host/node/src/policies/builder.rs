//! The builder thread: everything about policies that takes longer than a dispatcher may wait.
//!
//! It compiles what is uploaded or dropped in, prepares candidates for a switch, builds fresh instances after faults,
//! keeps the last good policy on disk, and about once a second looks at the watched folder and at the metrics.
//!
//! **Its channel is unbounded in its type and bounded by what can be sent:** a few loads and one preparation, whose
//! senders wait, and from the dispatcher one rebuild per generation and one note per change of policy.

use super::{LastGood, Library, SwapError, watch::Watch};
use crate::clock;
use crate::dispatcher::{Dispatcher, Message};
use crate::metrics::Metrics;
use crate::record::Components;
use crate::{PolicyChoice, PolicyEntry, PolicyRejected, state_dir};
use bps_engine::Engine;
use bps_plugin::{Corpus, LoadError, LoadedPolicy, PolicyEngine, prebuilt};
use bps_sched::{Candidate, SlotState};
use bps_types::Generation;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Between two looks at folder and metrics.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Every how many looks free memory is read.
const MEMORY_LOOKS: u32 = 5;
/// A larger file is not read; as large as the policy engine accepts.
const COMPONENT_BYTES_MAX: u64 = 16 << 20;

/// The corpus of every rehearsal on this host: the same, so that reports compare.
const CORPUS_SEED: u64 = 1;
const CORPUS_SNAPSHOTS: usize = 1_000;
/// Rehearsals of a policy that is only slow.
const REHEARSALS_MAX: u32 = 3;

/// What is said to the builder.
pub(crate) enum BuilderMessage {
    /// Take a component into the library.
    Load { bytes: Vec<u8>, origin: String, reply: oneshot::Sender<Result<PolicyEntry, PolicyRejected>> },
    /// Make a candidate for a switch.
    Prepare {
        choice: PolicyChoice,
        carry_state: bool,
        rehearse: bool,
        reply: oneshot::Sender<Result<Prepared, SwapError>>,
    },
    /// Make a fresh instance after a fault, not before `wait` has passed.
    Rebuild { generation: Generation, digest: String, config: String, seed: u64, wait: Duration },
    /// The active policy changed without being asked.
    Changed,
    /// End the thread.
    Stop,
}

/// A candidate, and what its rehearsal said.
pub(crate) struct Prepared {
    pub(crate) candidate: Box<Candidate>,
    pub(crate) rehearsal: Option<String>,
}

/// The sending end.
#[derive(Clone)]
pub(crate) struct BuilderSender(Sender<BuilderMessage>);

impl BuilderSender {
    /// Hands a message over; when the thread has ended, nobody needs it any more.
    pub(crate) fn send(&self, message: BuilderMessage) {
        let _ = self.0.send(message);
    }
}

/// A channel whose other end no thread reads yet.
pub(crate) fn channel() -> (BuilderSender, Receiver<BuilderMessage>) {
    let (sender, receiver) = crossbeam_channel::unbounded(); // see the file's text for what bounds it
    (BuilderSender(sender), receiver)
}

/// The thread's own side.
pub(crate) struct Builder {
    pub(crate) policies: PolicyEngine,
    pub(crate) library: Arc<Mutex<Library>>,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) engine: Engine,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) last_good: Option<LastGood>,
    pub(crate) watch: Option<Watch>,
    pub(crate) activate_on_drop: bool,
    /// Where components are written down before they decide.
    pub(crate) recording: Option<Components>,
    pub(crate) rebuilds: Vec<Rebuild>,
}

/// A rebuild that is not due yet.
pub(crate) struct Rebuild {
    generation: Generation,
    digest: String,
    config: String,
    seed: u64,
    due: Instant,
}

impl Builder {
    pub(crate) fn run(mut self, receiver: &Receiver<BuilderMessage>) {
        let (mut next_look, mut looks) = (Instant::now(), 0u32);
        loop {
            let due = self.rebuilds.iter().map(|r| r.due).fold(next_look, Instant::min);
            match receiver.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(BuilderMessage::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.rebuild_what_is_due();
            if Instant::now() >= next_look {
                next_look = Instant::now() + LOOK_EVERY;
                looks = looks.wrapping_add(1);
                self.look(looks % MEMORY_LOOKS == 1);
            }
        }
        self.keep_last_good();
        if let Some(recording) = &self.recording {
            recording.flush();
        }
    }

    fn take(&mut self, message: BuilderMessage) {
        match message {
            BuilderMessage::Load { bytes, origin, reply } => {
                let name = origin.clone();
                let _ = reply.send(self.load(&bytes, name, origin));
            }
            BuilderMessage::Prepare { choice, carry_state, rehearse, reply } => {
                let _ = reply.send(self.prepare(&choice, carry_state, rehearse));
            }
            BuilderMessage::Rebuild { generation, digest, config, seed, wait } => {
                let due = Instant::now() + wait;
                self.rebuilds.push(Rebuild { generation, digest, config, seed, due });
            }
            BuilderMessage::Changed => self.keep_last_good(),
            BuilderMessage::Stop => {}
        }
    }

    /// Takes in what comes with bps.
    pub(crate) fn load_prebuilt(&self) {
        for known in prebuilt::all() {
            if let Err(error) = self.load(known.wasm, known.name.into(), super::library::PREBUILT.into()) {
                tracing::error!(name = known.name, %error, "a prebuilt policy does not load");
            }
        }
    }

    /// Through the stages received, verified, compiled and admitted, into the library.
    fn load(&self, bytes: &[u8], name: String, origin: String) -> Result<PolicyEntry, PolicyRejected> {
        let loaded = self.policies.load(bytes).map_err(PolicyRejected::from);
        let in_use = self.dispatcher.policy_status();
        let mut library = self.library.lock();
        let in_use = |digest: &str| {
            let status = in_use.as_ref();
            status.is_some_and(|s| s.label.digest == digest || s.standby.as_ref().is_some_and(|l| l.digest == digest))
        };
        let taken = loaded.and_then(|policy| library.insert(policy, origin.clone(), in_use));
        match &taken {
            Ok(PolicyEntry { name, version, digest, shadows: Some(built_in), .. }) => {
                tracing::warn!(
                    name,
                    version,
                    digest,
                    origin,
                    built_in,
                    "this policy has the name of a built-in one: the name means it now, the built-in one goes by its digest"
                );
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(origin, stage = error.stage, reason = error.reason, "policy rejected");
                library.reject(name, origin, bytes.len(), error);
            }
        }
        taken
    }

    fn prepare(&mut self, choice: &PolicyChoice, carry_state: bool, rehearse: bool) -> Result<Prepared, SwapError> {
        let policy = self.library.lock().find(&choice.name_or_path)?;
        self.refuse_quarantined(policy.digest())?;
        let rehearsal = if rehearse { Some(self.rehearse(&policy, choice)?) } else { None };
        let candidate = self.candidate(&policy, choice, carry_state)?;
        Ok(Prepared { candidate, rehearsal })
    }

    fn refuse_quarantined(&self, digest: &str) -> Result<(), SwapError> {
        let status = self.dispatcher.policy_status().ok_or(SwapError::Stopping)?;
        match status.quarantined.into_iter().find(|(quarantined, ..)| quarantined == digest) {
            Some((digest, _, reason)) => Err(SwapError::Quarantined { digest, reason }),
            None => Ok(()),
        }
    }

    fn rehearse(&self, policy: &LoadedPolicy, choice: &PolicyChoice) -> Result<String, SwapError> {
        let corpus = Corpus::synthetic(CORPUS_SEED, CORPUS_SNAPSHOTS);
        let attempt = || policy.rehearse(&choice.config, choice.seed, &corpus);
        // It competes with serving for the processor, which can make a good policy look slow, but not every time.
        let slow = |result: &Result<_, LoadError>| result.as_ref().is_err_and(|e| e.reason.starts_with("slow"));
        let mut result = attempt();
        for _ in 1..REHEARSALS_MAX {
            if !slow(&result) {
                break;
            }
            result = attempt();
        }
        let seen = result.map_err(PolicyRejected::from)?;
        Ok(format!(
            "{} snapshots, {} rows, {} invalid; decide p50 {:.1} us, p99 {:.1} us; memory {} KiB; state {:?}",
            seen.snapshots,
            seen.rows,
            seen.invalid_rows,
            seen.decide_ns_p50 as f64 / 1e3,
            seen.decide_ns_p99 as f64 / 1e3,
            seen.memory_bytes >> 10,
            seen.state,
        ))
    }

    /// Configured, and told world and tables.
    fn candidate(
        &mut self,
        policy: &LoadedPolicy,
        choice: &PolicyChoice,
        carry_state: bool,
    ) -> Result<Box<Candidate>, SwapError> {
        if let Some(recording) = &mut self.recording {
            recording.note(policy);
        }
        let mut instance = policy.instantiate(&choice.config, choice.seed).map_err(PolicyRejected::from)?;
        let briefing = self.dispatcher.briefing_blocking().ok_or(SwapError::Stopping)?;
        let briefed = briefing.tell(&mut instance);
        briefed.map_err(|fault| PolicyRejected { stage: "briefed".into(), reason: fault.to_string() })?;
        Ok(Box::new(Candidate {
            policy: Box::new(instance),
            config: choice.config.clone(),
            seed: choice.seed,
            briefing,
            carry_state,
        }))
    }

    fn rebuild_what_is_due(&mut self) {
        let now = Instant::now();
        for rebuild in self.rebuilds.extract_if(.., |r| r.due <= now).collect::<Vec<_>>() {
            let Rebuild { generation, digest, config, seed, .. } = rebuild;
            let policy = self.library.lock().by_digest(&digest);
            let choice = PolicyChoice { name_or_path: digest, config, seed, strict: true };
            let candidate = match policy {
                Some(policy) => self.candidate(&policy, &choice, false).map_err(|e| e.to_string()),
                None => Err("its component is no longer in the library".to_owned()),
            };
            self.dispatcher.send(Message::Rebuilt { generation, candidate });
        }
    }

    fn look(&mut self, read_memory: bool) {
        self.metrics.upkeep();
        self.keep_last_good();
        for path in self.watch.as_mut().map(Watch::look).unwrap_or_default() {
            self.dropped_in(&path);
        }
        if read_memory {
            for device in self.engine.devices() {
                let free_bytes = self.engine.memory_free(device.index);
                self.dispatcher.send(Message::Memory { device: device.index as u32, free_bytes });
            }
        }
    }

    fn dropped_in(&mut self, path: &Path) {
        let origin = path.display().to_string();
        let name = path.file_name().map_or_else(|| origin.clone(), |n| n.to_string_lossy().into_owned());
        let taken = match state_dir::read_bounded(path, COMPONENT_BYTES_MAX) {
            Ok(Some(bytes)) => self.load(&bytes, name, origin),
            Ok(None) => return, // gone again
            Err(error) => {
                let error = PolicyRejected { stage: "received".into(), reason: error.to_string() };
                self.library.lock().reject(name, origin, 0, &error);
                return;
            }
        };
        let Ok(entry) = taken else { return };
        tracing::info!(name = entry.name, version = entry.version, digest = entry.digest, "policy dropped in");
        if self.activate_on_drop {
            self.activate(&entry);
        }
    }

    fn activate(&mut self, entry: &PolicyEntry) {
        let choice = PolicyChoice { name_or_path: entry.digest.clone(), ..PolicyChoice::default() };
        let prepared = self.prepare(&choice, true, true);
        let activated = prepared.and_then(|prepared| self.switch_blocking(prepared));
        if let Err(error) = activated {
            tracing::warn!(name = entry.name, %error, "the policy that was dropped in is not made active");
        }
    }

    /// Hands a candidate over and waits for what comes of it.
    pub(crate) fn switch_blocking(&self, prepared: Prepared) -> Result<(), SwapError> {
        let (reply, answer) = oneshot::channel();
        self.dispatcher.send(Message::Swap { candidate: prepared.candidate, reply });
        let report = answer.blocking_recv().map_err(|_| SwapError::Stopping)?;
        report.refused.map_or(Ok(()), |reason| Err(SwapError::Refused(reason)))
    }

    /// A policy that is past its probation is kept for the next start.
    fn keep_last_good(&mut self) {
        let Some(last_good) = &mut self.last_good else { return };
        let status = self.dispatcher.policy_status_and_seed();
        let Some((status, seed)) = status.filter(|(s, _)| s.state == SlotState::Stable) else { return };
        let Some(policy) = self.library.lock().by_digest(&status.label.digest) else { return };
        if let Err(error) = last_good.keep(&policy, &status.config, seed, clock::now()) {
            tracing::warn!(%error, "the last good policy is not kept");
        }
    }

    /// At the start: the chosen policy, else the last good one. An error means that neither can decide.
    pub(crate) fn first(&mut self, choice: &PolicyChoice) -> Result<(), String> {
        let chosen = self.resolve(choice).and_then(|choice| self.start_with(&choice));
        let Err(reason) = chosen else { return Ok(()) };
        if choice.strict {
            return Err(reason);
        }
        let Some((bytes, kept, digest)) = self.last_good.as_ref().and_then(|l| l.read().ok().flatten()) else {
            return Err(reason);
        };
        tracing::warn!(
            policy = choice.name_or_path,
            reason,
            last_good = kept.name_or_path,
            "using the last good policy"
        );
        let entry = self.load(&bytes, kept.name_or_path.clone(), "last good".into());
        let entry = entry.map_err(|e| format!("{reason}; and the last good one: {e}"))?;
        if entry.digest != digest {
            return Err(format!("{reason}; and the last good one on disk is damaged"));
        }
        let kept = PolicyChoice { name_or_path: digest, ..kept };
        self.start_with(&kept).map_err(|e| format!("{reason}; and the last good one: {e}"))
    }

    /// A path is loaded first and then goes by its digest.
    fn resolve(&self, choice: &PolicyChoice) -> Result<PolicyChoice, String> {
        let path = PathBuf::from(&choice.name_or_path);
        if path.extension().is_none_or(|e| e != "wasm") {
            return Ok(choice.clone());
        }
        let bytes = state_dir::read_bounded(&path, COMPONENT_BYTES_MAX).map_err(|e| e.to_string())?;
        let bytes = bytes.ok_or_else(|| format!("{}: no such file", path.display()))?;
        let entry = self.load(&bytes, choice.name_or_path.clone(), choice.name_or_path.clone());
        Ok(PolicyChoice { name_or_path: entry.map_err(|e| e.to_string())?.digest, ..choice.clone() })
    }

    fn start_with(&mut self, choice: &PolicyChoice) -> Result<(), String> {
        let prepared = self.prepare(choice, false, false).map_err(|e| e.to_string())?;
        self.switch_blocking(prepared).map_err(|e| e.to_string())
    }
}
