//! The thread's own side: wait, feed, carry out, publish.

use super::book::{Book, Finished};
use super::remote::Remote;
use super::{Message, Parts, Published, Submission};
use crate::clock;
use crate::policies::{BuilderMessage, BuilderSender};
use crate::remote::size_cap;
use bps_engine::{Engine, Job, JobError, JobResult, Leave};
use bps_sched::{Action, Event, Failure, FailureKind, Ledger, Run, Scheduler, SwapReport};
use bps_types::policy::WorldInfo;
use bps_types::{DeviceId, ExecutionId, Generation, Nanos};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Messages taken together before the policy is asked and timers are looked at: a flood must starve neither.
const BURST_MAX: usize = 64;
/// What comes after a decision and is not pressing is decided on together after so many times what the policy took for it, so
/// that a busy core serves requests and not the policy.
const PATIENCE: u64 = 2;
/// And no longer than this.
const PATIENCE_MAX: Nanos = Nanos::from_millis(1);
/// A wake that is due already waits this long: while a policy's timer is due and no device is free, nothing can be done.
const WAKE_MIN: Nanos = Nanos::from_micros(100);
/// Generations whose seed is remembered.
const SEEDS_MAX: usize = 8;
/// How stale the published policy status may be.
const PUBLISH_EVERY: Nanos = Nanos::from_millis(50);

pub(super) struct Worker {
    pub(super) scheduler: Scheduler,
    engine: Engine,
    metrics: Arc<crate::metrics::Metrics>,
    builder: BuilderSender,
    pub(super) sender: Sender<Message>,
    published: Arc<Published>,
    pub(super) book: Book,
    pub(super) remote: Remote,
    /// Reused between events.
    actions: Vec<Action>,
    decide_times: Vec<(Generation, Nanos)>,
    /// Read once per message.
    now: Nanos,
    wake_at: Option<Nanos>,
    /// Nothing has been fed since the last decision.
    is_settled: bool,
    /// What is not pressing is decided on from here.
    patient_until: Nanos,
    /// When the status must be published, if it may have changed.
    publish_at: Option<Nanos>,
    ledger: Ledger,
    /// Who waits for the swap that is being made.
    swap_reply: Option<oneshot::Sender<SwapReport>>,
    swap_answer: Option<(oneshot::Sender<SwapReport>, SwapReport)>,
    /// Seeds of the last generations.
    seeds: VecDeque<(Generation, u64)>,
    stopping: bool,
}

/// Says that the thread has ended, however it ends.
struct Alive(Arc<Published>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.ended();
    }
}

impl Worker {
    /// A worker that has shown its state: whoever has the handle finds it, however late the thread begins to run.
    pub(super) fn new(parts: Parts, sender: Sender<Message>, published: Arc<Published>) -> Self {
        let mut worker = Self {
            scheduler: parts.scheduler,
            engine: parts.engine,
            metrics: parts.metrics,
            builder: parts.builder,
            sender,
            published,
            book: Book::default(),
            remote: Remote::default(),
            actions: Vec::new(),
            decide_times: Vec::new(),
            now: clock::now(),
            wake_at: None,
            is_settled: true,
            patient_until: Nanos::ZERO,
            publish_at: None,
            ledger: Ledger::default(),
            swap_reply: None,
            swap_answer: None,
            seeds: VecDeque::new(),
            stopping: false,
        };
        worker.publish();
        worker
    }

    pub(super) fn run(mut self, receiver: &Receiver<Message>) {
        let _alive = Alive(self.published.clone());
        while !self.stopping {
            let first = self.wait(receiver);
            let has_waited_in_vain = first.is_none();
            self.now = clock::now();
            if let Some(message) = first {
                self.take(message);
                // What has come meanwhile is decided together: each decision is a call into the policy.
                for message in receiver.try_iter().take(BURST_MAX - 1) {
                    self.now = clock::now();
                    self.take(message);
                }
            }
            let is_woken = self.wake_at.is_some_and(|at| at <= self.now);
            if is_woken {
                self.wake_at = None;
            }
            if is_woken || self.settle_at().is_some_and(|at| at <= self.now) {
                if is_woken || has_waited_in_vain {
                    self.feed(Event::Tick); // what was fed last may have been a while ago
                }
                self.settle();
            }
            if self.publish_at.is_some_and(|at| at <= self.now) {
                self.publish();
            }
        }
        self.publish();
        // What arrived after the stop is answered by dropping it: its sender sees a closed channel.
        self.book.close();
        self.remote.guests.clear();
    }

    /// The next message, or none when a timer is due.
    fn wait(&mut self, receiver: &Receiver<Message>) -> Option<Message> {
        let until = [self.wake_at, self.publish_at, self.settle_at()].into_iter().flatten().min();
        let result = match until {
            None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => receiver.recv_timeout(at.since(clock::now()).duration()),
        };
        match result {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                self.stopping = true;
                None
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Submit(submission) => self.submit(*submission),
            Message::Cancel(id) => self.feed(Event::Cancel(id)),
            Message::Finished { execution, result } => self.finished(execution, result),
            Message::World(world) => self.feed(Event::World(world)),
            Message::Table(table) => self.feed(Event::Table(table)),
            Message::Peers(peers) => self.remote.open(peers),
            Message::Link(report) => self.feed(Event::Link(report)),
            Message::Standing(standing) => self.feed(Event::Standing(standing)),
            Message::Remote(incoming) => self.incoming(incoming),
            Message::Unsent { execution, failure } => self.unsent(execution, failure),
            Message::Memory { device, free_bytes } => {
                self.feed(Event::Memory { device: DeviceId(device), free: free_bytes });
            }
            Message::Swap { candidate, reply } => {
                let seed = candidate.seed;
                self.switch(Event::Swap(candidate), Some(seed), reply);
            }
            Message::Rollback { reply } => self.switch(Event::Rollback, None, reply),
            Message::Rebuilt { generation, candidate } => {
                let seed = candidate.as_ref().map_or(0, |c| c.seed);
                self.feed(Event::Rebuilt { generation, candidate });
                self.note_seed(seed);
            }
            Message::Briefing { reply } => {
                let _ = reply.send(self.scheduler.briefing());
            }
            Message::Stop => self.stopping = true,
        }
    }

    fn submit(&mut self, submission: Submission) {
        let request = submission.request.clone();
        self.book.keep(submission);
        self.feed(Event::Submit(request));
    }

    fn finished(&mut self, execution: ExecutionId, result: JobResult) {
        match result {
            Ok(output) => {
                let coding = Nanos::from(output.decode + output.encode);
                let elapsed = Nanos::from(output.elapsed) - coding;
                let finished = Finished { tensors: output.tensors, packed: output.packed, elapsed };
                if let Some(execution) = self.book.finished(execution, finished) {
                    let device = execution.device as usize;
                    if execution.last {
                        execution.model.executed(execution.rows, elapsed);
                    }
                    self.published.with_device(device, |d| d.busy += elapsed);
                    self.metrics.device_busy(device, elapsed);
                }
                let stale = self.ledger.stale;
                self.feed(Event::Done { execution, elapsed, coding });
                if self.ledger.stale != stale {
                    self.book.release(execution); // it had been given up: nobody will ask for it
                }
            }
            Err(error) => {
                self.book.release(execution);
                self.feed(Event::Failed { execution, failure: failure(&error) });
            }
        }
    }

    fn device(&self, device: DeviceId, up: bool) {
        match up {
            true => tracing::warn!(%device, "device answers again and takes work"),
            false => tracing::error!(%device, "device takes no more work: it was lost or does not answer"),
        }
        self.published.with_device(device.0 as usize, |d| d.up = up);
        self.metrics.device_up(device.0 as usize, up);
    }

    /// Whoever asked hears of it after the status is published.
    fn switch(&mut self, event: Event, seed: Option<u64>, reply: oneshot::Sender<SwapReport>) {
        self.swap_reply = Some(reply);
        self.feed(event);
        self.settle();
        // Where the scheduler had nothing to say, the dropped reply says so.
        self.swap_reply = None;
        match seed {
            Some(seed) => self.note_seed(seed),
            None => self.publish(),
        }
        if let Some((reply, report)) = self.swap_answer.take() {
            let _ = reply.send(report);
        }
    }

    /// The seed belongs to the generation that decides now, if that is a new one.
    fn note_seed(&mut self, seed: u64) {
        let generation = self.scheduler.status().generation;
        if self.seeds.iter().all(|(known, _)| *known != generation) {
            self.seeds.push_back((generation, seed));
            // The active generation and its standby are among the last few.
            self.seeds.drain(..self.seeds.len().saturating_sub(SEEDS_MAX));
        }
        self.publish();
    }

    /// One event into the scheduler, and everything it asks for but for decisions: those are [`settle`](Self::settle)'s.
    pub(super) fn feed(&mut self, event: Event) {
        let now = self.now;
        self.is_settled = false;
        self.with_scheduler(|scheduler, actions| scheduler.note(event, now, actions));
        self.publish_at.get_or_insert(self.now + PUBLISH_EVERY);
    }

    /// When what has been fed is to be decided on, if anything has.
    fn settle_at(&self) -> Option<Nanos> {
        let at = if self.scheduler.is_pressing() { Nanos::ZERO } else { self.patient_until };
        (!self.is_settled).then_some(at)
    }

    /// The decision on all that has been fed, if anything has.
    fn settle(&mut self) {
        if std::mem::replace(&mut self.is_settled, true) {
            return;
        }
        let deciding = self.with_scheduler(Scheduler::settle);
        let patience = Nanos(deciding.0.saturating_mul(PATIENCE)).min(PATIENCE_MAX);
        self.patient_until = self.patient_until.max(clock::now() + patience);
    }

    /// How long deciding has taken.
    fn with_scheduler(&mut self, does: impl FnOnce(&mut Scheduler, &mut Vec<Action>)) -> Nanos {
        let mut actions = std::mem::take(&mut self.actions);
        does(&mut self.scheduler, &mut actions);
        let deciding = self.account();
        actions.drain(..).for_each(|action| self.carry_out(action));
        self.actions = actions;
        deciding
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Run(run) => self.start(&run),
            Action::Forward(forward) => self.forward(&forward),
            Action::Recall { execution, host } => self.remote.recall(execution, host),
            Action::Advance(advance) => self.remote.advance(&advance, self.book.execution(advance.execution)),
            Action::Reject { arrival, reason } => self.remote.reject(arrival, &reason),
            Action::Answer(answer) => self.book.answer(&answer),
            Action::Device { device, up } => self.device(device, up),
            Action::Refuse { request, reason } => self.book.refuse(request, reason, self.now),
            Action::Release(execution) => drop(self.book.release(execution)),
            Action::Receipt(receipt) => self.published.push_receipt(receipt),
            Action::WakeAt(at) => self.wake_at = Some(at.max(self.now + WAKE_MIN)),
            Action::Rebuild { generation, digest, config, seed, at } => {
                let wait = at.since(self.now).duration();
                self.builder.send(BuilderMessage::Rebuild { generation, digest, config, seed, wait });
            }
            Action::Swapped(report) => self.swapped(report),
        }
    }

    fn start(&mut self, run: &Run) {
        let (execution, sender) = (run.execution, self.sender.clone());
        match self.book.begin(run, &self.remote.guests) {
            Ok((model, input)) => {
                let calibrated = model.is_calibrated();
                let done = move |result| {
                    // The thread may have ended: then nobody waits for this either.
                    let _ = sender.send(Message::Finished { execution, result });
                };
                self.engine.submit(
                    run.device.0 as usize,
                    Job {
                        model: model.engine.clone(),
                        from_cut: run.from_cut as usize,
                        until_cut: run.until_cut as usize,
                        input,
                        leave: run.leave.map_or(Leave::Tensors, |leaving| Leave::Packed {
                            codec: leaving.codec,
                            rate: leaving.rate,
                            calibrated,
                            cap: leaving.cap.map(size_cap),
                        }),
                        done: Box::new(done),
                    },
                );
            }
            Err(message) => {
                tracing::error!(%execution, message, "an execution cannot start");
                let result = Err(JobError::Failed { layer: None, message });
                let _ = sender.send(Message::Finished { execution, result });
            }
        }
    }

    fn swapped(&mut self, report: SwapReport) {
        if report.refused.is_none() {
            // Whoever asks from now on is told of this one.
            self.publish_at = Some(self.now);
            let (from, to) = (&report.from.name, &report.to.name);
            match &report.rollback {
                Some(reason) => tracing::warn!(%from, %to, ?reason, "rolled back"),
                None if report.generation == Generation(1) => tracing::info!(policy = %to, "the first policy decides"),
                None => tracing::info!(%from, %to, "policy swapped"),
            }
            if report.rollback.is_some() || report.generation > Generation(1) {
                self.published.set_pause(report.pause);
                self.metrics.paused(report.pause);
            }
        }
        match self.swap_reply.take() {
            Some(reply) => self.swap_answer = Some((reply, report)),
            None => self.builder.send(BuilderMessage::Changed),
        }
    }

    /// The ledger and how long decisions took are published before any request hears of its end.
    /// How long the decisions since the last time have taken.
    fn account(&mut self) -> Nanos {
        self.decide_times.clear();
        self.decide_times.extend(self.scheduler.drain_decide_times());
        if !self.decide_times.is_empty() {
            self.metrics.decided(self.decide_times.iter().map(|(_, took)| *took));
            self.published.record_decide(&self.decide_times);
        }
        let now = self.scheduler.ledger();
        self.metrics.account(&self.ledger, &now);
        self.ledger = now;
        self.published.set_ledger(now);
        Nanos(self.decide_times.iter().map(|(_, took)| took.0).sum())
    }

    fn publish(&mut self) {
        self.publish_at = None;
        let status = self.scheduler.status();
        self.metrics.faults(&status.faults);
        self.metrics.swaps(status.swaps);
        let seed =
            self.seeds.iter().find(|(generation, _)| *generation == status.generation).map_or(0, |(_, seed)| *seed);
        self.published.set_policy_status(status, seed);
        let names: &WorldInfo = &self.scheduler.world().info;
        self.metrics.waiting(&self.scheduler.waiting(), names);
        for (device, up, backlog, running) in self.scheduler.own_devices() {
            self.published.with_device(device.0 as usize, |d| (d.up, d.backlog, d.running) = (up, backlog, running));
        }
        let (requests, executions) = self.book.sizes();
        self.metrics.held(requests, executions);
    }
}

fn failure(error: &JobError) -> Failure {
    let kind = match error {
        JobError::Failed { .. } => FailureKind::Execution,
        JobError::OutOfMemory { .. } => FailureKind::OutOfMemory,
        JobError::DeviceLost { .. } => FailureKind::DeviceLost,
    };
    Failure { kind, message: error.to_string() }
}
