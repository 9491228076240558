//! What these tests stand on: a scheduler with two other hosts, policies of one rule, and what it asks for.

use bps_sched::{
    Action, Advance, Arrival, Candidate, Config, Crossing, Event, Failure, FailureKind, Fault, Forward, Guest,
    LinkReport, PlanStage, Policy, Receipt, Rejection, Request, Run, Scheduler, StageTime, Standing, Stopwatch, Window,
    World,
};
use bps_types::policy::{
    CodecInfo, Decision, DeviceInfo, DeviceKind, Dispatch, HostInfo, Join, Manifest, ModelInfo, Origin, Outcome,
    Selection, Snapshot, Stage, Table, TableKind, WorldInfo,
};
use bps_types::{ArrivalId, DeviceId, ExecutionId, HostId, ModelId, Nanos, RequestId, Trace};

pub(crate) const HERE: HostId = HostId(0);
pub(crate) const THERE: HostId = HostId(1);
pub(crate) const FAR: HostId = HostId(2);
/// What made-up trace ids begin with.
pub(crate) const PREFIX: u64 = 0xfeed_f00d;
/// Device 0 is here, 1 there, 2 far.
pub(crate) const MODEL: ModelId = ModelId(7);

/// A policy made of one rule.
pub(crate) struct Rule(Manifest, fn(&Snapshot) -> Decision);

impl Policy for Rule {
    fn manifest(&self) -> &Manifest {
        &self.0
    }
    fn digest(&self) -> &str {
        "rule"
    }
    fn world_changed(&mut self, _: &WorldInfo) -> Result<(), Fault> {
        Ok(())
    }
    fn table_changed(&mut self, _: &Table) -> Result<(), Fault> {
        Ok(())
    }
    fn decide(&mut self, snapshot: &Snapshot) -> Result<Decision, Fault> {
        Ok((self.1)(snapshot))
    }
    fn observe(&mut self, _: &[Outcome], _: u32) -> Result<(), Fault> {
        Ok(())
    }
    fn save(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        Ok(None)
    }
    fn restore(&mut self, _: &Origin, _: &[u8]) -> Result<bool, Fault> {
        Ok(false)
    }
}

pub(crate) fn dispatch(now: &Snapshot, stages: Vec<Stage>) -> Decision {
    let row = |q: &bps_types::policy::Queue| Dispatch {
        queue: q.id,
        requests: Selection::Head(q.waiting),
        stages: stages.clone(),
        micro_batch: 0,
        tag: 1,
        why: 0,
    };
    Decision { dispatches: now.queues.iter().map(row).collect(), ..Decision::default() }
}

pub(crate) fn stage(device: u32, until_cut: u32) -> Stage {
    Stage { device, until_cut, codec: 0, rate: 0 }
}

/// Whether the device of a snapshot takes more.
pub(crate) fn takes(now: &Snapshot, device: u32) -> bool {
    now.devices.iter().any(|d| d.id == device && d.up && d.credits > 0)
}

/// Here to cut 1, the rest there; all here while the other host cannot be had.
pub(crate) fn splits(now: &Snapshot) -> Decision {
    dispatch(now, if takes(now, 1) { vec![stage(0, 1), stage(1, 2)] } else { vec![stage(0, 2)] })
}

pub(crate) fn goes_there(now: &Snapshot) -> Decision {
    dispatch(now, if takes(now, 1) { vec![stage(1, 2)] } else { vec![stage(0, 2)] })
}

/// There, and three at once.
pub(crate) fn gathers(now: &Snapshot) -> Decision {
    if now.queues.iter().all(|q| q.waiting >= 3) { goes_there(now) } else { Decision::default() }
}

pub(crate) fn goes_far(now: &Snapshot) -> Decision {
    dispatch(now, vec![stage(1, 1), stage(2, 2)])
}

pub(crate) fn joins_all(now: &Snapshot) -> Decision {
    let joins = now.arrived.iter().map(|a| Join { arrived: a.id, take_rows: a.waiting_rows }).collect();
    Decision { joins, ..Decision::default() }
}

pub(crate) fn idles(_: &Snapshot) -> Decision {
    Decision::default()
}

pub(crate) struct Bench {
    pub(crate) scheduler: Scheduler,
    pub(crate) now: Nanos,
    pub(crate) asked: u64,
    pub(crate) runs: Vec<Run>,
    pub(crate) forwards: Vec<Forward>,
    pub(crate) answered: Vec<u64>,
    pub(crate) refused: usize,
    pub(crate) recalled: Vec<(ExecutionId, HostId)>,
    pub(crate) advanced: Vec<Advance>,
    pub(crate) rejected: Vec<(ArrivalId, Rejection)>,
    pub(crate) receipts: Vec<Receipt>,
}

impl Bench {
    pub(crate) fn new(decide: fn(&Snapshot) -> Decision) -> Self {
        let device =
            |id| DeviceInfo { id, host: id, name: format!("d{id}"), kind: DeviceKind::Cpu, memory_bytes: None };
        let host = |id: u32| HostInfo { id, name: format!("h{id}"), is_self: id == 0 };
        let model = ModelInfo {
            id: MODEL.0,
            name: "m".into(),
            cut_count: 3,
            input_bytes: 10,
            output_bytes: 4,
            batch_max: 8,
            slo: Nanos::ZERO,
            accuracy_budget_ppm: 0,
            priority: 0,
            devices: vec![0, 1, 2],
        };
        let raw = CodecInfo { id: 0, name: "raw".into(), rates: vec![], lossless: true, for_input: false };
        let info = WorldInfo {
            epoch: 1,
            hosts: (0..3).map(host).collect(),
            devices: (0..3).map(device).collect(),
            models: vec![model],
            codecs: vec![raw],
        };
        let windows = [1, 2].map(|d| Window { device: DeviceId(d), dispatches: 2 }).to_vec();
        let guests = vec![Guest { host: THERE, window: 3, bytes_max: 100 }];
        let mut bench = Self {
            scheduler: Scheduler::new(Config { trace_prefix: PREFIX, ..Config::default() }, Stopwatch::STILL, None),
            now: Nanos::ZERO,
            asked: 0,
            runs: vec![],
            forwards: vec![],
            answered: vec![],
            refused: 0,
            recalled: vec![],
            advanced: vec![],
            rejected: vec![],
            receipts: vec![],
        };
        bench.feed(Event::World(World { info, windows, guests, ..World::default() }));
        let table = |kind, shape, values| Table {
            epoch: 1,
            model: MODEL.0,
            device: 0,
            codec: 0,
            kind,
            measured: true,
            shape,
            values,
        };
        bench.feed(Event::Table(table(TableKind::CutBytes, vec![3], vec![10.0, 6.0, 4.0])));
        let manifest = Manifest { name: "rule".into(), version: "1.0.0".into(), ..Manifest::default() };
        let (policy, briefing) = (Box::new(Rule(manifest, decide)), bench.scheduler.briefing());
        let candidate = Candidate { policy, config: "{}".into(), seed: 0, briefing, carry_state: false };
        bench.feed(Event::Swap(Box::new(candidate)));
        for device in [1, 2] {
            bench.stand(device, true, Nanos::ZERO);
        }
        bench
    }

    /// With every link up.
    pub(crate) fn linked(decide: fn(&Snapshot) -> Decision) -> Self {
        let mut bench = Self::new(decide);
        for (a, b) in [(HERE, THERE), (HERE, FAR), (THERE, FAR)] {
            bench.link(a, b, true);
        }
        bench
    }

    pub(crate) fn link(&mut self, a: HostId, b: HostId, up: bool) {
        for (source, target) in [(a, b), (b, a)] {
            let (rtt, backlog_bytes) = (Nanos::from_millis(2), 0);
            self.feed(Event::Link(LinkReport { source, target, up, bytes_per_second: 1e6, rtt, backlog_bytes }));
        }
    }

    pub(crate) fn stand(&mut self, device: u32, up: bool, backlog: Nanos) {
        let device = DeviceId(device);
        self.feed(Event::Standing(Standing { device, up, backlog, running: 0, memory_free: None }));
    }

    pub(crate) fn feed(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.scheduler.handle(event, self.now, &mut actions);
        for action in actions {
            match action {
                Action::Run(run) => self.runs.push(run),
                Action::Forward(forward) => self.forwards.push(forward),
                Action::Answer(answer) => self.answered.push(answer.request.0),
                Action::Refuse { .. } => self.refused += 1,
                Action::Recall { execution, host } => self.recalled.push((execution, host)),
                Action::Advance(advance) => self.advanced.push(advance),
                Action::Reject { arrival, reason } => self.rejected.push((arrival, reason)),
                Action::Receipt(receipt) => self.receipts.push(receipt),
                Action::Release(_) | Action::WakeAt(_) | Action::Device { .. } | Action::Swapped(_) => {}
                Action::Rebuild { .. } => panic!("no rule here fails"),
            }
        }
        assert!(self.scheduler.ledger().holds(), "{:?}", self.scheduler.ledger());
    }

    pub(crate) fn submit(&mut self, deadline: Option<Nanos>) {
        self.submit_traced(5, deadline, None);
    }

    pub(crate) fn submit_traced(&mut self, priority: u8, deadline: Option<Nanos>, trace: Option<Trace>) {
        self.asked += 1;
        let (id, model, constraints) = (RequestId(self.asked), MODEL, 0);
        let request = Request { id, model, shape_key: 0, rows: 1, bytes: 10, priority, deadline, constraints, trace };
        self.feed(Event::Submit(request));
    }

    pub(crate) fn done(&mut self) {
        let run = self.runs.remove(0);
        let (elapsed, coding) = (Nanos::from_micros(90), Nanos::from_micros(10));
        self.feed(Event::Done { execution: run.execution, elapsed, coding });
    }

    pub(crate) fn comes_back(&mut self) {
        let forward = self.forwards.remove(0);
        let (elapsed, waited) = (Nanos::from_micros(50), Some(Nanos::from_micros(7)));
        let time = StageTime { waited, began: self.now, elapsed, batch_rows: forward.rows };
        let stages = vec![time; forward.stages.len()];
        let bytes = Crossing { sent: 100, values: 100, received: 11, coarser: None };
        self.feed(Event::Answered { execution: forward.execution, stages, bytes });
    }

    pub(crate) fn fails(&mut self, kind: FailureKind) {
        let execution = self.forwards.remove(0).execution;
        self.feed(Event::Failed { execution, failure: Failure { kind, message: "scripted".into() } });
    }

    pub(crate) fn arrive(&mut self, id: u64, stages: Vec<PlanStage>, deadline: Option<Nanos>) {
        self.arrive_traced(id, THERE, stages, deadline, None);
    }

    pub(crate) fn arrive_traced(
        &mut self,
        id: u64,
        origin: HostId,
        stages: Vec<PlanStage>,
        deadline: Option<Nanos>,
        trace: Option<Trace>,
    ) {
        self.feed(Event::Arrive(Arrival { origin, stages, deadline, trace, ..arrival(id) }));
    }

    pub(crate) fn arrive_with(&mut self, id: u64, rows: u32, bytes: u64) {
        self.feed(Event::Arrive(Arrival { rows, bytes, ..arrival(id) }));
    }
}

fn arrival(id: u64) -> Arrival {
    Arrival {
        id: ArrivalId(id),
        host: THERE,
        origin: THERE,
        model: MODEL,
        stages: vec![leg(0, 1, 2)],
        rows: 2,
        bytes: 20,
        priority: 0,
        deadline: None,
        trace: None,
    }
}

pub(crate) fn leg(device: u32, from_cut: u32, until_cut: u32) -> PlanStage {
    PlanStage { device: DeviceId(device), host: HostId(device), from_cut, until_cut, codec: 0, rate: 0 }
}

/// Uses the other host or nothing.
pub(crate) fn only_there(now: &Snapshot) -> Decision {
    if takes(now, 1) { dispatch(now, vec![stage(1, 2)]) } else { Decision::default() }
}

pub(crate) fn trace(number: u8) -> Trace {
    Trace { trace_id: [number; 16], span_id: [number; 8], flags: 1 }
}
