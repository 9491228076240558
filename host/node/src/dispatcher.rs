//! The dispatcher: one thread that owns the scheduler, feeds it what happens and carries out what it asks for.
//!
//! [`Dispatcher`] is the handle outside, `worker::Worker` the owner inside; they talk through one channel of
//! [`message::Message`]s.
//!
//! **The channel is unbounded in its type and bounded by what can be sent:** per admitted request one submission and one
//! cancellation (admission bounds the requests), per execution one completion (credits bound the executions), and
//! control messages, whose senders each wait for an answer or are one of a kind. Completions must never wait, since
//! they come from an executor's thread, and a cancellation comes from a destructor that cannot.

mod book;
mod message;
mod published;
mod remote;
mod worker;

pub(crate) use message::{Answered, Message, Submission};
pub(crate) use published::Published;

use crate::metrics::Metrics;
use crate::{DeviceView, HostError, Ledger, Receipt};
use bps_engine::Engine;
use bps_sched::{Briefing, Candidate, PolicyStatus, Scheduler, SwapReport};
use bps_types::Generation;
use crossbeam_channel::Sender;
use parking_lot::Mutex;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// The handle: cheap to clone, sends messages and reads what the thread publishes.
#[derive(Clone)]
pub(crate) struct Dispatcher {
    sender: Sender<Message>,
    published: Arc<Published>,
    engine: Engine,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// What the worker thread needs to start.
pub(crate) struct Parts {
    pub(crate) scheduler: Scheduler,
    pub(crate) engine: Engine,
    pub(crate) metrics: Arc<Metrics>,
    /// Where rebuilds after a fault are asked for and news of swaps goes.
    pub(crate) builder: crate::policies::BuilderSender,
}

impl Dispatcher {
    /// Starts the thread.
    pub(crate) fn start(parts: Parts) -> Result<Self, HostError> {
        let (sender, receiver) = crossbeam_channel::unbounded(); // see the module's text for what bounds it
        let published = Arc::new(Published::new(parts.engine.devices().len()));
        let engine = parts.engine.clone();
        let worker = worker::Worker::new(parts, sender.clone(), published.clone());
        let thread = std::thread::Builder::new()
            .name("bps-dispatcher".into())
            .spawn(move || worker.run(&receiver))
            .map_err(|e| HostError::Internal(format!("dispatcher thread: {e}")))?;
        Ok(Self { sender, published, engine, thread: Arc::new(Mutex::new(Some(thread))) })
    }

    /// Hands a message over; false when the thread has ended.
    pub(crate) fn send(&self, message: Message) -> bool {
        self.published.is_alive() && self.sender.send(message).is_ok()
    }

    /// Makes a candidate the active policy; none when the thread has ended.
    pub(crate) async fn swap(&self, candidate: Box<Candidate>) -> Option<SwapReport> {
        self.ask(|reply| Message::Swap { candidate, reply }).await
    }

    /// Goes back to the policy before.
    pub(crate) async fn rollback(&self) -> Option<SwapReport> {
        self.ask(|reply| Message::Rollback { reply }).await
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        if !self.send(message(reply)) {
            return None;
        }
        answer.await.ok()
    }

    /// What a policy must be told before it decides; none when the thread has ended.
    pub(crate) async fn briefing(&self) -> Option<Arc<Briefing>> {
        self.ask(|reply| Message::Briefing { reply }).await
    }

    /// The same. Blocks: for the builder's thread only.
    pub(crate) fn briefing_blocking(&self) -> Option<Arc<Briefing>> {
        let (reply, answer) = oneshot::channel();
        if !self.send(Message::Briefing { reply }) {
            return None;
        }
        answer.blocking_recv().ok()
    }

    /// State of the active policy, as of the last burst of events.
    pub(crate) fn policy_status(&self) -> Option<PolicyStatus> {
        self.published.policy_status().map(|(status, _)| status)
    }

    /// The same, with the seed that the policy was given.
    pub(crate) fn policy_status_and_seed(&self) -> Option<(PolicyStatus, u64)> {
        self.published.policy_status()
    }

    /// Times of a generation's decide calls, as far as none has decided since.
    pub(crate) fn decide_times(&self, generation: Generation) -> crate::DecideTimes {
        self.published.decide_times(generation)
    }

    /// Pause of the last swap.
    pub(crate) fn last_pause(&self) -> Option<bps_types::Nanos> {
        self.published.last_pause()
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.published.ledger()
    }

    pub(crate) fn receipts(&self, last: usize) -> Vec<Receipt> {
        self.published.receipts(last)
    }

    /// How the devices of this host stand: index, takes work, backlog, executions held.
    pub(crate) fn standing(&self) -> Vec<(u32, bool, bps_types::Nanos, u32)> {
        let one = |index: usize| {
            let state = self.published.device(index);
            (index as u32, state.up, state.backlog, state.running)
        };
        (0..self.engine.devices().len()).map(one).collect()
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.published.is_alive()
    }

    pub(crate) fn any_device_up(&self) -> bool {
        (0..self.engine.devices().len()).any(|index| self.published.device(index).up)
    }

    pub(crate) fn devices(&self) -> Vec<DeviceView> {
        let view = |(index, device): (usize, &bps_engine::DeviceDescription)| {
            let state = self.published.device(index);
            DeviceView {
                id: index as u32,
                name: device.name.clone(),
                kind: device.kind,
                fingerprint: device.fingerprint.clone(),
                memory_bytes: device.memory_bytes,
                memory_free_bytes: self.engine.memory_free(index),
                threads: device.threads,
                slowdown: device.slowdown,
                up: state.up,
                busy_seconds: state.busy.as_secs_f64(),
            }
        };
        self.engine.devices().iter().enumerate().map(view).collect()
    }

    /// Ends the thread and waits for it. What it still holds is completed as unavailable.
    pub(crate) async fn stop(&self) {
        self.request_stop();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            // A panicked dispatcher has already said so through the log.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    /// Ends the thread without waiting.
    pub(crate) fn request_stop(&self) {
        let _ = self.sender.send(Message::Stop);
    }
}
