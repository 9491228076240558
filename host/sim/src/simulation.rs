//! The event heap, the modelled devices and links, and the loop.

use crate::network::{Network, Passage};
use crate::report::{Report, Tally};
use crate::setup::{Setup, SimDevice};
use crate::workload::Arrival;
use bps_sched::{
    Action, Advance, Candidate, Crossing, Event, Failure, FailureKind, Forward, Next, PlanStage, Rejection, Request,
    Run, Scheduler, StageTime, Standing, Stopwatch,
};
use bps_types::{ArrivalId, DeviceId, ExecutionId, HostId, ModelId, Nanos};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

/// How often hosts look at their links and tell each other how they stand.
const LOOK_EVERY: Nanos = Nanos::from_millis(50);
/// A host wakes no sooner than this: a policy that asks for no time at all must not stop it.
const WAKE_MIN: Nanos = Nanos::from_micros(100);
/// A message that says little: a refusal, a recall.
const SMALL_BYTES: u64 = 100;

/// Something that happens at a time of its own.
pub enum Step {
    /// A new policy for the host that takes the requests, briefed with [`Simulation::briefing`].
    Swap(Box<Candidate>),
    /// A device goes down or comes back. What runs on one that goes down is lost.
    Device(DeviceId, bool),
    /// A link changes: its rate in bytes per second, and whether anything passes. Its ends know at once whether it is up;
    /// the rate they find out.
    Link {
        /// Between whom.
        hosts: (u32, u32),
        /// From now on.
        bytes_per_second: f64,
        /// Whether anything passes.
        up: bool,
    },
}

enum Happening {
    Arrival(Arrival),
    Step(Step),
    Finished { host: usize, execution: ExecutionId, device: DeviceId, elapsed: Nanos },
    Parcel(Passage, Parcel),
    Wake(usize),
    Look,
}

/// What crosses a link.
enum Parcel {
    Stage { to: usize, guest: Guest, arrival: bps_sched::Arrival },
    Answer { guest: Guest, outcome: Result<(), Failure>, received: u64 },
    Recall { to: usize, origin: usize, execution: ExecutionId },
}

/// A stage away from home.
#[derive(Clone)]
struct Guest {
    origin: usize,
    execution: ExecutionId,
    load: Load,
    /// Bytes of the first crossing.
    sent: u64,
    times: Vec<StageTime>,
}

struct Lane {
    up: bool,
    free_at: Nanos,
    running: BTreeSet<ExecutionId>,
}

struct Host {
    scheduler: Scheduler,
    wake: Option<Nanos>,
    guests: BTreeMap<ArrivalId, Guest>,
}

/// A run of the schedulers of all hosts in virtual time.
pub struct Simulation {
    setup: Setup,
    hosts: Vec<Host>,
    network: Network,
    now: Nanos,
    happenings: BTreeMap<u64, Happening>,
    order: BinaryHeap<Reverse<(Nanos, u64)>>,
    made: u64,
    lanes: Vec<Lane>,
    next_arrival: u64,
    tally: Tally,
}

impl Simulation {
    /// Hosts at rest, the first deciding with the fallback until the first [`Step::Swap`], the others for good.
    pub fn new(setup: Setup) -> Self {
        let lane = |_: &SimDevice| Lane { up: true, free_at: Nanos::ZERO, running: BTreeSet::new() };
        let host = |_: &String| Host {
            scheduler: Scheduler::new(setup.config.clone(), Stopwatch::STILL, None),
            wake: None,
            guests: BTreeMap::new(),
        };
        let mut simulation = Self {
            hosts: setup.hosts.iter().map(host).collect(),
            network: Network::new(&setup.links),
            now: Nanos::ZERO,
            happenings: BTreeMap::new(),
            order: BinaryHeap::new(),
            made: 0,
            lanes: setup.devices.iter().map(lane).collect(),
            next_arrival: 0,
            tally: Tally::default(),
            setup,
        };
        for host in 0..simulation.hosts.len() {
            simulation.feed(host, Event::World(simulation.setup.world(host as u32)));
            for table in simulation.setup.tables() {
                simulation.feed(host, Event::Table(table));
            }
        }
        simulation.look();
        simulation
    }

    /// What a candidate must be told before it is handed in.
    pub fn briefing(&self) -> std::sync::Arc<bps_sched::Briefing> {
        self.hosts[0].scheduler.briefing()
    }

    /// Adds arrivals.
    pub fn arrive(&mut self, arrivals: impl IntoIterator<Item = Arrival>) {
        for arrival in arrivals {
            self.at(arrival.at, Happening::Arrival(arrival));
        }
    }

    /// Adds a step.
    pub fn schedule(&mut self, at: Nanos, step: Step) {
        self.at(at, Happening::Step(step));
    }

    /// Runs until nothing is left to happen, or until `end`; says what became of it.
    pub fn run(&mut self, end: Nanos) -> Report {
        if self.hosts.len() > 1 {
            self.at(self.now + LOOK_EVERY, Happening::Look);
        }
        while let Some(Reverse((at, id))) = self.order.pop() {
            if at > end {
                self.order.push(Reverse((at, id)));
                break;
            }
            let Some(happening) = self.happenings.remove(&id) else { continue };
            self.now = self.now.max(at);
            self.happen(happening);
        }
        self.tally.report(self.now, self.hosts[0].scheduler.ledger())
    }

    fn at(&mut self, at: Nanos, happening: Happening) {
        self.made += 1;
        self.happenings.insert(self.made, happening);
        self.order.push(Reverse((at, self.made)));
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrival(arrival) => {
                let id = self.tally.asked();
                let deadline = arrival.patience.map(|p| self.now + p);
                let request = Request {
                    id,
                    model: arrival.model,
                    shape_key: 0,
                    rows: arrival.rows,
                    bytes: 0,
                    priority: 0,
                    deadline,
                    constraints: 0,
                    trace: None,
                };
                self.feed(0, Event::Submit(request));
            }
            Happening::Step(Step::Swap(candidate)) => self.feed(0, Event::Swap(candidate)),
            Happening::Step(Step::Device(device, up)) => self.switch_device(device, up),
            Happening::Step(Step::Link { hosts: (a, b), bytes_per_second, up }) => {
                if self.network.change(a, b, bytes_per_second, up) {
                    self.tell_links();
                }
            }
            Happening::Finished { host, execution, device, elapsed } => {
                let Some(lane) = self.lanes.get_mut(device.0 as usize) else { return };
                if lane.running.remove(&execution) {
                    self.feed(host, Event::Done { execution, elapsed, coding: Nanos::ZERO });
                }
            }
            Happening::Parcel(passage, parcel) => {
                if self.network.arrived(&passage) {
                    self.deliver(parcel);
                }
            }
            Happening::Wake(host) => {
                self.hosts[host].wake = None;
                self.feed(host, Event::Tick);
            }
            Happening::Look => {
                self.network.look();
                self.look();
                if self.happenings.values().any(|h| !matches!(h, Happening::Look)) {
                    self.at(self.now + LOOK_EVERY, Happening::Look);
                }
            }
        }
    }

    /// Every host hears how links and the others' devices stand.
    fn look(&mut self) {
        self.tell_links();
        let standings: Vec<(usize, Standing)> = (0..self.hosts.len())
            .flat_map(|host| {
                let own = self.hosts[host].scheduler.own_devices();
                own.map(move |(device, up, backlog, running)| {
                    (host, Standing { device, up, backlog, running, memory_free: None })
                })
                .collect::<Vec<_>>()
            })
            .collect();
        for (whose, standing) in standings {
            for host in (0..self.hosts.len()).filter(|host| *host != whose) {
                self.feed(host, Event::Standing(standing));
            }
        }
    }

    fn tell_links(&mut self) {
        for report in self.network.reports(self.now) {
            for host in 0..self.hosts.len() {
                self.feed(host, Event::Link(report));
            }
        }
    }

    fn switch_device(&mut self, device: DeviceId, up: bool) {
        let Some(lane) = self.lanes.get_mut(device.0 as usize) else { return };
        lane.up = up;
        let lost = std::mem::take(&mut lane.running);
        if up {
            lane.free_at = self.now;
        }
        let host = self.setup.devices[device.0 as usize].host as usize;
        self.feed(host, Event::Device { device, up });
        for execution in lost {
            let failure = Failure { kind: FailureKind::DeviceLost, message: "device went down".into() };
            if !up {
                self.feed(host, Event::Failed { execution, failure });
            }
        }
    }

    fn feed(&mut self, host: usize, event: Event) {
        let mut actions = Vec::new();
        self.hosts[host].scheduler.handle(event, self.now, &mut actions);
        for action in actions {
            self.carry_out(host, action);
        }
    }

    fn carry_out(&mut self, host: usize, action: Action) {
        match action {
            Action::Run(run) => self.execute(host, &run),
            Action::Forward(forward) => self.forward(host, forward),
            Action::Recall { execution, host: to } => {
                self.send(host, to.0, SMALL_BYTES, Parcel::Recall { to: to.0 as usize, origin: host, execution });
            }
            Action::Advance(advance) => self.advance(host, advance),
            Action::Reject { arrival, reason } => self.reject(host, arrival, reason),
            Action::Answer(answer) => self.tally.answered(&answer, self.now),
            Action::Receipt(receipt) if receipt.is_own() => self.tally.receipt(&receipt),
            Action::Swapped(report) => self.tally.swapped(&report),
            Action::WakeAt(at) => self.wake_at(host, at),
            // Nobody holds inputs or outputs here (the ledger counts refusals), and a policy that fails is not
            // built again: its failure is the finding.
            Action::Refuse { .. } | Action::Release(_) | Action::Rebuild { .. } | Action::Device { .. } => {}
            Action::Receipt(_) => {} // a helper's part is in its origin's
        }
    }

    fn wake_at(&mut self, host: usize, at: Nanos) {
        let at = at.max(self.now + WAKE_MIN);
        let wake = &mut self.hosts[host].wake;
        if wake.is_none_or(|wake| at < wake) {
            *wake = Some(at);
            self.at(at, Happening::Wake(host));
        }
    }

    /// A device takes executions one after another.
    fn execute(&mut self, host: usize, run: &Run) {
        let (device, execution) = (run.device, run.execution);
        let elapsed = self.setup.cost(device, run.model.0, (run.from_cut, run.until_cut), run.rows);
        let Some(lane) = self.lanes.get_mut(device.0 as usize) else { return };
        let ends = lane.free_at.max(self.now) + elapsed;
        lane.free_at = ends;
        lane.running.insert(execution);
        self.at(ends, Happening::Finished { host, execution, device, elapsed });
    }

    /// Puts a parcel on a link; false where there is none.
    fn send(&mut self, from: usize, to: u32, bytes: u64, parcel: Parcel) -> bool {
        let Some(passage) = self.network.send(from as u32, to, bytes, self.now) else { return false };
        self.at(passage.arrives, Happening::Parcel(passage, parcel));
        true
    }

    fn forward(&mut self, origin: usize, forward: Forward) {
        let Forward { execution, host, model, stages, rows, deadline, priority, .. } = forward;
        let load = Load { model, rows, deadline, priority };
        let guest = Guest { origin, execution, load, sent: 0, times: vec![] };
        if !self.send_stage(origin, host, guest, stages) {
            let failure = Failure { kind: FailureKind::Unreachable, message: "no link".into() };
            self.feed(origin, Event::Failed { execution, failure });
        }
    }

    fn send_stage(&mut self, from: usize, to: HostId, mut guest: Guest, stages: Vec<PlanStage>) -> bool {
        let Some(first) = stages.first() else { return false };
        let load = guest.load;
        let bytes = self.setup.bytes(load.model.0, first.from_cut, first.codec, load.rows);
        guest.sent = if guest.sent == 0 { bytes } else { guest.sent };
        self.next_arrival += 1;
        let arrival = bps_sched::Arrival {
            id: ArrivalId(self.next_arrival),
            host: HostId(from as u32),
            origin: HostId(guest.origin as u32),
            model: load.model,
            stages,
            rows: load.rows,
            bytes,
            priority: load.priority,
            deadline: load.deadline,
            trace: None,
        };
        self.send(from, to.0, bytes, Parcel::Stage { to: to.0 as usize, guest, arrival })
    }

    fn deliver(&mut self, parcel: Parcel) {
        match parcel {
            Parcel::Stage { to, guest, arrival } => {
                self.hosts[to].guests.insert(arrival.id, guest);
                self.feed(to, Event::Arrive(arrival));
            }
            Parcel::Answer { guest, outcome, received } => {
                let Guest { origin, execution, sent, times, load: _ } = guest;
                match outcome {
                    Ok(()) => {
                        let bytes = Crossing { sent, values: sent, received, coarser: None };
                        self.feed(origin, Event::Answered { execution, stages: times, bytes });
                    }
                    Err(failure) => self.feed(origin, Event::Failed { execution, failure }),
                }
            }
            Parcel::Recall { to, origin, execution } => {
                let is_it = |g: &Guest| g.origin == origin && g.execution == execution;
                let found = self.hosts[to].guests.iter().find(|(_, g)| is_it(g)).map(|(id, _)| *id);
                if let Some(id) = found {
                    self.hosts[to].guests.remove(&id);
                    self.feed(to, Event::Withdraw(id));
                }
            }
        }
    }

    fn advance(&mut self, host: usize, advance: Advance) {
        let waited = Some(advance.began.since(advance.arrived));
        let time = StageTime { waited, began: advance.began, elapsed: advance.elapsed, batch_rows: advance.batch_rows };
        if advance.next == Next::Here {
            if let Some(guest) = self.hosts[host].guests.get_mut(&advance.arrival) {
                guest.times.push(time);
            }
            return;
        }
        let Some(mut guest) = self.hosts[host].guests.remove(&advance.arrival) else { return };
        guest.times.push(time);
        match advance.next {
            // Where the link is down, its origin knows and does not wait.
            Next::Host(to, stages) => {
                self.send_stage(host, to, guest, stages);
            }
            Next::Origin | Next::Here => {
                let received = self.setup.output_bytes(guest.load.model.0, advance.rows);
                let to = guest.origin as u32;
                self.send(host, to, received, Parcel::Answer { guest, outcome: Ok(()), received });
            }
        }
    }

    fn reject(&mut self, host: usize, arrival: ArrivalId, reason: Rejection) {
        let Some(guest) = self.hosts[host].guests.remove(&arrival) else { return };
        let failure = match reason {
            Rejection::Failed(failure) => failure,
            Rejection::Expired => Failure { kind: FailureKind::Unreachable, message: "expired".into() },
            Rejection::Busy | Rejection::Forbidden(_) => Failure { kind: FailureKind::Refused, message: "busy".into() },
        };
        let to = guest.origin as u32;
        self.send(host, to, SMALL_BYTES, Parcel::Answer { guest, outcome: Err(failure), received: SMALL_BYTES });
    }
}

/// What travels along a plan.
#[derive(Clone, Copy)]
struct Load {
    model: ModelId,
    rows: u32,
    deadline: Option<Nanos>,
    priority: u8,
}
