//! Custody under random interleavings: whatever clients, devices and policies do, no request is lost or answered twice.

use bps_sched::{
    Action, Arrival, Briefing, Candidate, Config, Crossing, Event, Failure, FailureKind, Fault, FaultClass, Guest,
    Input, LinkReport, Next, PlanStage, Policy, Request, Scheduler, StageTime, Standing, Window, World,
};
use bps_types::policy::{
    CodecInfo, Decision, DeviceInfo, DeviceKind, Dispatch, HostInfo, Join, Manifest, ModelInfo, Origin, Outcome,
    Selection, Snapshot, Stage, Table, WorldInfo,
};
use bps_types::{ArrivalId, DeviceId, ExecutionId, HostId, ModelId, Nanos, RequestId};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const MODELS: u32 = 2;
/// The first three are this host's, the last is another's.
const DEVICES: u32 = 4;
const REMOTE: u32 = 3;
const CUTS: u32 = 5;

fn world(epoch: u32, models: u32) -> World {
    let devices = (0..DEVICES).map(|id| DeviceInfo {
        id,
        host: u32::from(id == REMOTE),
        name: format!("d{id}"),
        kind: DeviceKind::Cpu,
        memory_bytes: None,
    });
    let model = |id| ModelInfo {
        id,
        name: format!("m{id}"),
        cut_count: CUTS,
        input_bytes: 10,
        output_bytes: 10,
        batch_max: 8,
        slo: Nanos::from_millis(20),
        accuracy_budget_ppm: 0,
        priority: 0,
        devices: (0..DEVICES).collect(),
    };
    let info = WorldInfo {
        epoch,
        hosts: vec![
            HostInfo { id: 0, name: "here".into(), is_self: true },
            HostInfo { id: 1, name: "there".into(), is_self: false },
        ],
        devices: devices.collect(),
        models: (0..models).map(model).collect(),
        codecs: vec![CodecInfo { id: 0, name: "raw".into(), rates: vec![], lossless: true, for_input: false }],
    };
    let windows = vec![Window { device: DeviceId(REMOTE), dispatches: 3 }];
    let guests = vec![Guest { host: HostId(1), window: 4, bytes_max: 100 }];
    World { info, windows, guests, ..World::default() }
}

/// A policy that does whatever its script says: good, idle, nonsense, or a fault.
struct Scripted {
    manifest: Manifest,
    digest: String,
    script: Vec<u8>,
    at: usize,
}

impl Scripted {
    fn candidate(script: Vec<u8>, name: u8, briefing: Arc<Briefing>) -> Box<Candidate> {
        let manifest = Manifest { name: format!("p{name}"), version: "0.1.0".into(), ..Manifest::default() };
        let policy = Box::new(Self { manifest, digest: format!("{name:02x}"), script, at: 0 });
        Box::new(Candidate { policy, config: "{}".into(), seed: 0, briefing, carry_state: true })
    }

    fn next(&mut self) -> u8 {
        self.at += 1;
        self.script.get(self.at % self.script.len().max(1)).copied().unwrap_or(0)
    }
}

impl Policy for Scripted {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }
    fn digest(&self) -> &str {
        &self.digest
    }
    fn world_changed(&mut self, _: &WorldInfo) -> Result<(), Fault> {
        if self.next() == 250 { Err(Fault::new(FaultClass::Trap, "world")) } else { Ok(()) }
    }
    fn table_changed(&mut self, _: &Table) -> Result<(), Fault> {
        Ok(())
    }
    fn decide(&mut self, snapshot: &Snapshot) -> Result<Decision, Fault> {
        let mut decision = Decision::default();
        for queue in &snapshot.queues {
            let roll = self.next();
            let device = u32::from(self.next()) % (DEVICES + 1); // one too many: sometimes nonsense
            let count = 1 + u32::from(roll) % 4;
            let stages = match roll % 5 {
                0 => vec![
                    Stage { device, until_cut: 2, codec: 0, rate: 0 },
                    Stage { device: (device + 1) % DEVICES, until_cut: CUTS - 1, codec: 0, rate: 0 },
                ],
                1 => vec![Stage { device, until_cut: u32::from(roll), codec: 0, rate: 0 }],
                _ => vec![Stage { device, until_cut: CUTS - 1, codec: 0, rate: 0 }],
            };
            let requests = if roll.is_multiple_of(7) {
                Selection::These(vec![u64::from(roll), u64::from(roll)])
            } else {
                Selection::Head(count)
            };
            match roll {
                0..=20 => {}
                21..=30 => decision.shed.push(snapshot.ids.first().copied().unwrap_or(u64::from(roll))),
                245..=249 => return Err(Fault::new(FaultClass::Trap, "scripted")),
                _ => decision.dispatches.push(Dispatch {
                    queue: queue.id,
                    requests,
                    stages,
                    micro_batch: u32::from(roll) % 3,
                    tag: u64::from(roll),
                    why: 0,
                }),
            }
        }
        for group in &snapshot.arrived {
            let roll = self.next();
            let nonsense = u32::from(roll == 9);
            if roll > 100 {
                decision.joins.push(Join { arrived: group.id + nonsense, take_rows: u32::from(roll) % 7 });
            }
        }
        decision.wake_after = Some(Nanos::from_millis(u64::from(self.next()) % 5));
        Ok(decision)
    }
    fn observe(&mut self, _: &[Outcome], _: u32) -> Result<(), Fault> {
        if self.next() == 251 { Err(Fault::new(FaultClass::Deadline, "observe")) } else { Ok(()) }
    }
    fn save(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        match self.next() {
            252 => Err(Fault::new(FaultClass::Trap, "save")),
            n if n % 2 == 0 => Ok(Some(vec![n])),
            _ => Ok(None),
        }
    }
    fn restore(&mut self, _: &Origin, _: &[u8]) -> Result<bool, Fault> {
        match self.next() {
            253 => Err(Fault::new(FaultClass::Trap, "restore")),
            n => Ok(n % 3 == 0),
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Submit {
        model: u32,
        shape: u64,
        rows: u32,
        deadline_ms: Option<u64>,
        priority: u8,
    },
    Cancel(usize),
    Finish(usize),
    Fail(usize, u8),
    Device(u32, bool),
    Swap(u8, Vec<u8>),
    Rebuild(bool, Vec<u8>),
    Rollback,
    World(u32),
    Pass(u64),
    Link(bool, bool),
    Standing(bool),
    Arrive {
        model: u32,
        rows: u32,
        stages: u8,
        deadline_ms: Option<u64>,
    },
    Withdraw(usize),
    /// The next events come together: the policy is asked after the last of them.
    Together(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let submit = (0..=MODELS, 0..2u64, 0..10u32, proptest::option::of(0..50u64), 0..3u8).prop_map(
        |(model, shape, rows, deadline_ms, priority)| Step::Submit { model, shape, rows, deadline_ms, priority },
    );
    let script = || proptest::collection::vec(any::<u8>(), 1..40);
    let step = prop_oneof![
        12 => submit,
        2 => any::<usize>().prop_map(Step::Cancel),
        10 => any::<usize>().prop_map(Step::Finish),
        2 => (any::<usize>(), 0..5u8).prop_map(|(at, kind)| Step::Fail(at, kind)),
        1 => (0..DEVICES, any::<bool>()).prop_map(|(d, up)| Step::Device(d, up)),
        2 => (0..4u8, script()).prop_map(|(name, script)| Step::Swap(name, script)),
        2 => (any::<bool>(), script()).prop_map(|(ok, script)| Step::Rebuild(ok, script)),
        1 => Just(Step::Rollback),
        1 => (1..=MODELS).prop_map(Step::World),
        8 => (0..40u64).prop_map(Step::Pass),
        1 => (1_000..40_000u64).prop_map(Step::Pass),
        2 => any::<(bool, bool)>().prop_map(|(there, back)| Step::Link(there, back)),
        2 => (0..4u8).prop_map(|n| Step::Link(n > 0, n > 0)),
        1 => any::<bool>().prop_map(Step::Standing),
        5 => (0..=MODELS, 0..10u32, 0..6u8, proptest::option::of(0..50u64)).prop_map(
            |(model, rows, stages, deadline_ms)| Step::Arrive { model, rows, stages, deadline_ms },
        ),
        1 => any::<usize>().prop_map(Step::Withdraw),
        3 => (1..8u8).prop_map(Step::Together),
    ];
    proptest::collection::vec(step, 1..250)
}

/// Stands for the node: keeps what runs, and checks that every request is answered or refused exactly once.
struct Driver {
    scheduler: Scheduler,
    now: Nanos,
    epoch: u32,
    asked: u64,
    open: BTreeSet<RequestId>,
    outputs: BTreeMap<ExecutionId, bool>,
    running: Vec<ExecutionId>,
    away: BTreeSet<ExecutionId>,
    guests: BTreeSet<ArrivalId>,
    withdrawn: BTreeSet<ArrivalId>,
    guests_seen: u64,
    /// Executions for other hosts that have no receipt yet.
    joints: u64,
    rebuild: Option<bps_types::Generation>,
    /// Events that are still to be noted before the policy is asked.
    together: u8,
}

impl Driver {
    fn new() -> Self {
        let mut driver = Self {
            scheduler: Scheduler::new(Config::default(), || Nanos::ZERO, None),
            now: Nanos::ZERO,
            epoch: 1,
            asked: 0,
            open: BTreeSet::new(),
            outputs: BTreeMap::new(),
            running: Vec::new(),
            away: BTreeSet::new(),
            guests: BTreeSet::new(),
            withdrawn: BTreeSet::new(),
            guests_seen: 0,
            joints: 0,
            rebuild: None,
            together: 0,
        };
        driver.feed(Event::World(world(1, MODELS)));
        driver
    }

    fn feed(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.scheduler.note(event, self.now, &mut actions);
        if self.together == 0 {
            self.scheduler.settle(&mut actions);
        }
        self.together = self.together.saturating_sub(1);
        for action in actions {
            self.carry_out(action);
        }
        let ledger = self.scheduler.ledger();
        assert!(ledger.holds(), "{ledger:?}");
        assert_eq!(ledger.waiting + ledger.running, self.open.len() as u64, "{ledger:?}");
        assert_eq!(ledger.guests.waiting + ledger.guests.running, self.guests.len() as u64, "{ledger:?}");
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Run(run) => {
                assert!(run.rows > 0 && run.from_cut < run.until_cut && run.until_cut < CUTS);
                match &run.input {
                    Input::Requests(parts) => {
                        assert_eq!(run.from_cut, 0);
                        assert!(parts.iter().all(|(id, _)| self.open.contains(id)), "runs a request that has ended");
                        assert_eq!(parts.iter().map(|(_, rows)| rows).sum::<u32>(), run.rows);
                    }
                    Input::Execution(before) => assert_eq!(self.outputs.remove(before), Some(true), "input is there"),
                    Input::Arrivals(parts) => {
                        assert!(parts.iter().all(|(id, _)| self.guests.contains(id)), "runs a guest that has ended");
                        self.joints += 1;
                        assert_eq!(parts.iter().map(|(_, rows)| rows).sum::<u32>(), run.rows);
                    }
                }
                assert!(run.device.0 != REMOTE, "runs here");
                assert!(self.outputs.insert(run.execution, false).is_none(), "execution ids are used once");
                self.running.push(run.execution);
            }
            Action::Forward(forward) => {
                assert!(forward.stages.iter().all(|s| s.host == HostId(1)) && forward.host == HostId(1));
                match &forward.input {
                    Input::Requests(parts) => assert!(parts.iter().all(|(id, _)| self.open.contains(id))),
                    Input::Execution(before) => assert_eq!(self.outputs.remove(before), Some(true), "input is there"),
                    Input::Arrivals(_) => panic!("guests are passed on, not forwarded"),
                }
                assert!(self.outputs.insert(forward.execution, false).is_none(), "execution ids are used once");
                self.running.push(forward.execution);
                self.away.insert(forward.execution);
            }
            Action::Recall { execution, .. } => assert!(self.away.contains(&execution), "recalls what was forwarded"),
            Action::Advance(advance) => {
                assert_eq!(self.outputs.get(&advance.execution), Some(&true), "advanced from a finished execution");
                match advance.next {
                    Next::Here => assert!(self.guests.contains(&advance.arrival)),
                    Next::Origin | Next::Host(..) => assert!(self.guests.remove(&advance.arrival), "answered twice"),
                }
            }
            // One that was withdrawn in the very moment in which its time ran out is given back all the same.
            Action::Reject { arrival, .. } => {
                assert!(
                    self.guests.remove(&arrival) || self.withdrawn.remove(&arrival),
                    "rejected twice or never came"
                );
            }
            Action::Answer(answer) => {
                assert_eq!(self.outputs.get(&answer.execution), Some(&true), "answered from a finished execution");
                assert!(self.open.remove(&answer.request), "answered twice or never asked");
            }
            Action::Refuse { request, .. } => assert!(self.open.remove(&request), "refused twice or never asked"),
            Action::Release(execution) => {
                self.outputs.remove(&execution);
            }
            Action::Rebuild { generation, .. } => self.rebuild = Some(generation),
            Action::Receipt(receipt) if !receipt.is_own() => {
                self.joints = self.joints.checked_sub(1).expect("one receipt for each execution for others");
            }
            Action::Receipt(_) | Action::WakeAt(_) | Action::Swapped(_) | Action::Device { .. } => {}
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Submit { model, shape, rows, deadline_ms, priority } => {
                self.asked += 1;
                let id = RequestId(self.asked);
                self.open.insert(id);
                let deadline = deadline_ms.map(|ms| self.now + Nanos::from_millis(ms));
                let model = ModelId(model);
                self.feed(Event::Submit(Request {
                    id,
                    model,
                    shape_key: shape,
                    rows,
                    bytes: 10,
                    priority,
                    deadline,
                    constraints: 0,
                    trace: None,
                }));
            }
            Step::Cancel(at) => {
                let id = RequestId(at as u64 % (self.asked + 2));
                self.feed(Event::Cancel(id));
            }
            Step::Finish(at) => {
                if let Some(execution) = self.pick(at) {
                    self.finish(execution);
                }
            }
            Step::Fail(at, kind) => {
                let kinds = [
                    FailureKind::Execution,
                    FailureKind::OutOfMemory,
                    FailureKind::DeviceLost,
                    FailureKind::Refused,
                    FailureKind::Unreachable,
                ];
                if let Some(execution) = self.pick(at) {
                    self.outputs.remove(&execution);
                    self.feed(Event::Failed {
                        execution,
                        failure: Failure { kind: kinds[kind as usize], message: "scripted".into() },
                    });
                }
            }
            Step::Device(device, up) => self.feed(Event::Device { device: DeviceId(device), up }),
            Step::Swap(name, script) => {
                let candidate = Scripted::candidate(script, name, self.scheduler.briefing());
                self.feed(Event::Swap(candidate));
            }
            Step::Rebuild(ok, script) => {
                if let Some(generation) = self.rebuild.take() {
                    let candidate = if ok {
                        Ok(Scripted::candidate(script, 0, self.scheduler.briefing()))
                    } else {
                        Err("no".into())
                    };
                    self.feed(Event::Rebuilt { generation, candidate });
                }
            }
            Step::Rollback => self.feed(Event::Rollback),
            Step::World(models) => {
                self.epoch += 1;
                self.feed(Event::World(world(self.epoch, models)));
            }
            Step::Link(there, back) => {
                self.link(0, 1, there);
                self.link(1, 0, back);
            }
            Step::Standing(up) => self.stand(up),
            Step::Arrive { model, rows, stages, deadline_ms } => {
                self.guests_seen += 1;
                let id = ArrivalId(self.guests_seen);
                self.guests.insert(id);
                let stage = |device: u32, from_cut, until_cut| PlanStage {
                    device: DeviceId(device),
                    host: HostId(u32::from(device == REMOTE)),
                    from_cut,
                    until_cut,
                    codec: 0,
                    rate: 0,
                };
                let stages = match stages {
                    0 => vec![],
                    1 => vec![stage(0, 1, 2), stage(1, 2, CUTS - 1)],
                    2 => vec![stage(0, 1, 2), stage(REMOTE, 2, CUTS - 1)],
                    3 => vec![stage(0, 3, 2)],
                    _ => vec![stage(u32::from(stages) % 3, 2, CUTS - 1)],
                };
                let deadline = deadline_ms.map(|ms| self.now + Nanos::from_millis(ms));
                self.feed(Event::Arrive(Arrival {
                    id,
                    host: HostId(1),
                    origin: HostId(1),
                    model: ModelId(model),
                    stages,
                    rows,
                    bytes: 10,
                    priority: 0,
                    deadline,
                    trace: None,
                }));
            }
            Step::Withdraw(at) => {
                // As the node does it: it lets go of the input, then tells the scheduler.
                if let Some(id) = self.guests.iter().nth(at % self.guests.len().max(1)).copied() {
                    self.guests.remove(&id);
                    self.withdrawn.insert(id);
                    self.feed(Event::Withdraw(id));
                }
            }
            Step::Together(count) => self.together = count,
            Step::Pass(ms) => {
                self.now += Nanos::from_millis(ms);
                self.feed(Event::Tick);
            }
        }
    }

    fn link(&mut self, source: u32, target: u32, up: bool) {
        let (source, target) = (HostId(source), HostId(target));
        self.feed(Event::Link(LinkReport {
            source,
            target,
            up,
            bytes_per_second: 1e6,
            rtt: Nanos::from_millis(1),
            backlog_bytes: 0,
        }));
    }

    fn stand(&mut self, up: bool) {
        let (device, backlog) = (DeviceId(REMOTE), Nanos::from_millis(1));
        self.feed(Event::Standing(Standing { device, up, backlog, running: 1, memory_free: None }));
    }

    fn finish(&mut self, execution: ExecutionId) {
        if let Some(output) = self.outputs.get_mut(&execution) {
            *output = true;
        }
        let elapsed = Nanos::from_millis(1);
        if self.away.remove(&execution) {
            let stages = vec![StageTime { waited: None, began: self.now, elapsed, batch_rows: 1 }];
            self.feed(Event::Answered { execution, stages, bytes: Crossing { sent: 9, values: 8, received: 1 } });
        } else {
            self.feed(Event::Done { execution, elapsed, coding: Nanos(1) });
        }
    }

    fn pick(&mut self, at: usize) -> Option<ExecutionId> {
        let count = self.running.len();
        (count > 0).then(|| self.running.remove(at % count))
    }

    /// Lets everything end: devices up, every execution answered, the policy out of the way.
    fn drain(&mut self) {
        self.together = 0;
        for device in 0..DEVICES {
            self.feed(Event::Device { device: DeviceId(device), up: true });
        }
        self.link(0, 1, true);
        self.link(1, 0, true);
        for _ in 0..5_000 {
            if self.open.is_empty() && self.guests.is_empty() {
                return;
            }
            self.now += Nanos::from_millis(300);
            self.feed(Event::Tick);
            while let Some(execution) = self.pick(0) {
                self.finish(execution);
            }
        }
        panic!("left: {:?}, {:?}, {:?}", self.open, self.guests, self.scheduler.ledger());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_request_is_lost_or_answered_twice(steps in steps()) {
        let mut driver = Driver::new();
        for step in steps {
            driver.step(step);
        }
        driver.drain();
        let ledger = driver.scheduler.ledger();
        prop_assert_eq!(ledger.waiting + ledger.running, 0);
        prop_assert!(driver.outputs.values().all(|done| !done) || driver.outputs.is_empty(), "outputs are released");
        while let Some(execution) = driver.pick(0) {
            driver.finish(execution);
        }
        prop_assert_eq!(driver.joints, 0, "every execution for others has its receipt");
    }
}
