//! The state machine itself: one function takes an event and says what to do.

mod admit;
mod complete;
mod dispatch;
mod guests;
mod receipts;
mod remote;
mod watch;

use crate::arrivals::Arrivals;
use crate::estimate::Costs;
use crate::flight::{DeviceState, Flights};
use crate::links::Links;
use crate::policy::{CallLog, Stopwatch};
use crate::queue::Queues;
use crate::slot::PolicySlot;
use crate::snapshot::{self, View};
use crate::{Action, Briefing, Config, Event, Ledger, PolicyStatus, World};
use bps_types::policy::{Outcome, Snapshot, Table, Trigger, bound};
use bps_types::{DeviceId, Generation, HostId, Nanos, RequestId};
use indexmap::IndexMap;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// Owns requests, queues, flights and the active policy. See the crate's documentation for its invariants.
pub struct Scheduler {
    config: Config,
    now: Nanos,
    world: World,
    devices: IndexMap<DeviceId, DeviceState>,
    costs: Costs,
    queues: Queues,
    flights: Flights,
    links: Links,
    arrivals: Arrivals,
    /// Deadlines of all requests that wait or run.
    deadlines: BTreeSet<(Nanos, RequestId)>,
    ledger: Ledger,
    slot: PolicySlot,
    snapshot: Snapshot,
    /// Why the policy is to be asked, if it is: noted and not settled yet.
    trigger: Option<Trigger>,
    /// Whether what was noted cannot well wait for what comes next.
    pressing: bool,
    /// When the policy wants to be asked again at the latest.
    wake_policy: Option<Nanos>,
    /// Corrected tables the policy has not been told yet.
    corrected: VecDeque<Table>,
    outcomes: Vec<Outcome>,
    outcomes_dropped: u32,
    next_sequence: u64,
    last_wake: Option<Nanos>,
}

/// Whether an event should be settled at once.
enum Pressure {
    /// It can wait.
    Never,
    /// If it is for the policy to decide on.
    IfAsked,
    /// The same, and if this host has nothing left from here.
    IfIdle(HostId),
}

impl Pressure {
    /// Before the event is taken.
    fn of(event: &Event, flights: &Flights) -> Self {
        match event {
            Event::Submit(_) => Self::Never,
            Event::Answered { execution, .. } => flights.away(*execution).map_or(Self::IfAsked, Self::IfIdle),
            _ => Self::IfAsked,
        }
    }

    /// After it has been.
    fn is_felt(&self, trigger: Option<Trigger>, flights: &Flights) -> bool {
        trigger.is_some()
            && match self {
                Self::Never => false,
                Self::IfAsked => true,
                Self::IfIdle(host) => !flights.iter().any(|flight| flight.away == Some(*host)),
            }
    }
}

impl Scheduler {
    /// A scheduler with no world and the fallback as its policy. `stopwatch` only measures; see the crate's invariants.
    pub fn new(config: Config, stopwatch: Stopwatch, log: Option<Box<dyn CallLog>>) -> Self {
        Self {
            config,
            now: Nanos::ZERO,
            world: World::default(),
            devices: IndexMap::new(),
            costs: Costs::default(),
            queues: Queues::default(),
            flights: Flights::default(),
            links: Links::default(),
            arrivals: Arrivals::default(),
            deadlines: BTreeSet::new(),
            ledger: Ledger::default(),
            slot: PolicySlot::new(stopwatch, log),
            snapshot: Snapshot::default(),
            trigger: None,
            pressing: false,
            wake_policy: None,
            corrected: VecDeque::new(),
            outcomes: Vec::new(),
            outcomes_dropped: 0,
            next_sequence: 0,
            last_wake: None,
        }
    }

    /// Takes an event at a time (which never runs backwards: an earlier one counts as the latest) and appends what is
    /// to be done.
    pub fn handle(&mut self, event: Event, now: Nanos, actions: &mut Vec<Action>) {
        self.note(event, now, actions);
        self.settle(actions);
    }

    /// The first half of [`handle`](Self::handle): everything but asking the policy. [`settle`](Self::settle) has to follow;
    /// events that came together may be noted one after another first, so that one decision serves them all.
    pub fn note(&mut self, event: Event, now: Nanos, actions: &mut Vec<Action>) {
        self.now = self.now.max(now);
        self.expire(actions);
        self.expire_arrivals(actions);
        let timed_out = self.time_out(actions);
        let pressure = Pressure::of(&event, &self.flights);
        let trigger = self.take(event, actions);
        self.pressing |= timed_out.is_some() || pressure.is_felt(trigger, &self.flights);
        // Of several the first is told; only that it is new is more important to a policy.
        let is_first = self.trigger.is_none() || trigger == Some(Trigger::Activation);
        if is_first && let Some(trigger) = trigger.or(timed_out) {
            self.trigger = Some(trigger);
        }
    }

    /// Whether what has been noted should be settled at once. Requests can wait a moment for others, and so can what another
    /// host has answered while it still holds work from here; what may have left a device without any, cannot.
    pub fn is_pressing(&self) -> bool {
        self.pressing
    }

    /// The second half: asks the policy if there is anything to ask, tells it what it should know, and plans ahead.
    pub fn settle(&mut self, actions: &mut Vec<Action>) {
        self.pressing = false;
        if let Some(trigger) = self.trigger.take().or_else(|| self.timer_due()) {
            self.ask_if_runnable(trigger, actions);
        }
        self.watch(actions);
        self.tell_policy(actions);
        actions.extend(self.slot.judge(self.now, &self.config));
        self.plan_wake(actions);
        debug_assert!(self.ledger.holds(), "custody: {:?}", self.ledger);
    }

    /// Where every request is or how it ended.
    pub fn ledger(&self) -> Ledger {
        self.ledger
    }

    /// All there is to say about the active policy.
    pub fn status(&self) -> PolicyStatus {
        self.slot.status()
    }

    /// What a candidate must be told before it is handed in.
    pub fn briefing(&self) -> Arc<Briefing> {
        self.slot.briefing().clone()
    }

    /// The present world.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Which generation decided since the last look (at most 4,096 times), and how long each call took.
    pub fn drain_decide_times(&mut self) -> impl Iterator<Item = (Generation, Nanos)> + '_ {
        self.slot.drain_decide_times()
    }

    /// How the devices of this host stand: whether they take work, predicted time until all they hold is done, and how
    /// many executions that is.
    pub fn own_devices(&self) -> impl Iterator<Item = (DeviceId, bool, Nanos, u32)> + '_ {
        let own = self.devices.iter().filter(|(_, d)| d.remote.is_none());
        own.map(|(id, d)| (*id, d.takes_work(self.now), d.backlog(self.now), d.running()))
    }

    /// Requests and rows that wait, per model.
    pub fn waiting(&self) -> Vec<(bps_types::ModelId, u32, u64)> {
        let mut sums: IndexMap<bps_types::ModelId, (u32, u64)> = IndexMap::new();
        for queue in self.queues.iter() {
            let sum = sums.entry(queue.model).or_default();
            sum.0 += queue.len() as u32;
            sum.1 += queue.rows;
        }
        sums.into_iter().map(|(model, (requests, rows))| (model, requests, rows)).collect()
    }

    /// Requests of a model that wait or run.
    pub fn unfinished(&self, model: bps_types::ModelId) -> u64 {
        let running = self.flights.iter().filter(|f| f.model == model);
        let running: usize = running.map(|f| f.members.iter().filter(|m| !m.gone).count()).sum();
        u64::from(self.queues.load(model).0) + running as u64
    }

    fn take(&mut self, event: Event, actions: &mut Vec<Action>) -> Option<Trigger> {
        match event {
            Event::World(world) => self.change_world(world, actions),
            Event::Table(table) => self.take_table(table, actions),
            Event::Submit(request) => self.submit(request, actions),
            Event::Cancel(id) => {
                self.cancel(id, actions);
                None
            }
            Event::Done { execution, elapsed, coding } => {
                let joint = self.joint_done(execution, elapsed, coding, actions);
                joint.or_else(|| self.stage_done(execution, elapsed, coding, actions))
            }
            Event::Failed { execution, failure } => {
                let joint = self.joint_failed(execution, &failure, actions);
                joint.or_else(|| self.stage_failed(execution, &failure, actions))
            }
            Event::Answered { execution, stages, bytes } => self.came_back(execution, &stages, bytes, actions),
            Event::Standing(standing) => self.hear(standing),
            Event::Link(report) => self.link_changed(report, actions),
            Event::Arrive(arrival) => self.arrive(arrival, actions),
            Event::Withdraw(id) => {
                self.withdraw(id);
                None
            }
            Event::Device { device, up } => {
                let was_up = std::mem::replace(&mut self.devices.get_mut(&device)?.up, up);
                (was_up != up).then_some(Trigger::Change)
            }
            Event::Memory { device, free } => {
                self.devices.get_mut(&device)?.memory_free = free;
                None
            }
            Event::Swap(candidate) => {
                let report = self.slot.swap(candidate, self.now);
                let swapped = report.refused.is_none();
                actions.push(Action::Swapped(report));
                self.wake_policy = if swapped { None } else { self.wake_policy };
                swapped.then_some(Trigger::Activation)
            }
            Event::Rebuilt { generation, candidate } => {
                actions.extend(self.slot.rebuilt(generation, candidate, self.now, &self.config));
                Some(Trigger::Activation)
            }
            Event::Rollback => {
                actions.extend(self.slot.roll_back(crate::RollbackReason::Asked, self.now));
                Some(Trigger::Activation)
            }
            Event::Tick => None,
        }
    }

    fn change_world(&mut self, world: World, actions: &mut Vec<Action>) -> Option<Trigger> {
        self.devices.retain(|id, _| world.info.devices.iter().any(|d| d.id == id.0));
        for device in &world.info.devices {
            self.devices.entry(DeviceId(device.id)).or_default();
        }
        let kept = |model: u32| world.info.models.iter().any(|m| m.id == model);
        self.costs.retain(kept);
        for id in self.queues.waiting_elsewhere(|m| kept(m.0)) {
            self.end_waiting(id, crate::Refusal::UnknownModel, actions);
        }
        self.queues.drop_empty(|m| kept(m.0));
        self.corrected.retain(|t| kept(t.model));
        for id in self.arrivals.matching(|a| !kept(a.model.0)) {
            if self.arrivals.contains(id) {
                self.withdraw(id);
                let reason = crate::Rejection::Forbidden("the model is no longer here".into());
                actions.push(Action::Reject { arrival: id, reason });
            }
        }
        self.links.retain(|host| world.info.hosts.iter().any(|h| h.id == host.0));
        self.costs.set_rates(&world.info.codecs);
        self.world = world;
        self.reach();
        self.slot.rebrief(self.new_briefing());
        Some(Trigger::Change)
    }

    fn take_table(&mut self, table: Table, actions: &mut Vec<Action>) -> Option<Trigger> {
        let known = self.world.info.models.iter().any(|m| m.id == table.model);
        if table.values.len() * 4 > bound::TABLE_BYTES || !known || !self.costs.insert(table.clone()) {
            tracing::warn!(model = table.model, kind = ?table.kind, shape = ?table.shape, "cost table refused");
            return None;
        }
        self.share_table(&table, actions);
        None
    }

    /// Puts a table into the briefing and tells the active policy.
    fn share_table(&mut self, table: &Table, actions: &mut Vec<Action>) {
        let briefing = self.new_briefing();
        actions.extend(self.slot.table_changed(briefing, table, self.now, &self.config));
    }

    fn new_briefing(&self) -> Briefing {
        Briefing {
            version: self.slot.briefing().version + 1,
            world: self.world.info.clone(),
            tables: self.costs.tables().cloned().collect(),
        }
    }

    fn timer_due(&self) -> Option<Trigger> {
        self.wake_policy.filter(|at| *at <= self.now).map(|_| Trigger::Timer)
    }

    /// Whether somebody waits for whom a capable device is free.
    fn runnable(&self) -> bool {
        self.queues.iter().any(|q| q.len() > 0 && self.device_free_for(q.model.0))
    }

    fn device_free_for(&self, model: u32) -> bool {
        self.any_device(model, |d| d.credits(self.now, self.config.device_credits) > 0)
    }

    /// Only devices of this host count: whether another host's are worth the way is for the policy to say.
    fn device_idle_for(&self, model: u32) -> bool {
        self.any_device(model, |d| d.remote.is_none() && d.takes_work(self.now) && d.reserved == 0)
    }

    fn any_device(&self, model: u32, fits: impl Fn(&DeviceState) -> bool) -> bool {
        let Some(model) = self.world.info.models.iter().find(|m| m.id == model) else { return false };
        model.devices.iter().any(|id| self.devices.get(&DeviceId(*id)).is_some_and(&fits))
    }

    fn ask_if_runnable(&mut self, trigger: Trigger, actions: &mut Vec<Action>) {
        if trigger == Trigger::Timer {
            self.wake_policy = None; // it has come, whether or not anything can run; a completion asks again
        }
        let waits = !self.queues.is_empty() && self.runnable();
        if waits || self.joinable() {
            self.wake_policy = None;
            self.fill_snapshot(trigger);
            let (decision, author, more) = self.slot.decide(&self.snapshot, self.now, &self.config);
            actions.extend(more);
            self.carry_out(decision, &author, actions);
            self.join_left_over(actions);
        }
    }

    fn fill_snapshot(&mut self, trigger: Trigger) {
        let view = View {
            queues: &self.queues,
            devices: &self.devices,
            flights: &self.flights,
            links: &self.links,
            arrivals: &self.arrivals,
            world_epoch: self.world.info.epoch,
            device_credits: self.config.device_credits,
        };
        snapshot::fill(&mut self.snapshot, &view, trigger, self.now);
    }
}
