//! What the scheduler does with other hosts: plans that leave, links that fail, and stages that come.

use bps_sched::{
    Action, Advance, Arrival, Candidate, Clamp, Config, Crossing, Event, Failure, FailureKind, Fault, Forward, Guest,
    Input, LinkReport, Next, PlanStage, Policy, Receipt, Rejection, Request, Run, Scheduler, StageTime, Standing,
    Verdict, WholeOnly, Window, World,
};
use bps_types::policy::{
    CodecInfo, Decision, DeviceInfo, DeviceKind, Dispatch, HostInfo, Join, Manifest, ModelInfo, Origin, Outcome,
    Selection, Snapshot, Stage, Table, TableKind, WorldInfo,
};
use bps_types::{ArrivalId, DeviceId, ExecutionId, HostId, ModelId, Nanos, RequestId, Trace};

const HERE: HostId = HostId(0);
const THERE: HostId = HostId(1);
const FAR: HostId = HostId(2);
/// What made-up trace ids begin with.
const PREFIX: u64 = 0xfeed_f00d;
/// Device 0 is here, 1 there, 2 far.
const MODEL: ModelId = ModelId(7);

/// A policy made of one rule.
struct Rule(Manifest, fn(&Snapshot) -> Decision);

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

fn dispatch(now: &Snapshot, stages: Vec<Stage>) -> Decision {
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

fn stage(device: u32, until_cut: u32) -> Stage {
    Stage { device, until_cut, codec: 0, rate: 0 }
}

/// Whether the device of a snapshot takes more.
fn takes(now: &Snapshot, device: u32) -> bool {
    now.devices.iter().any(|d| d.id == device && d.up && d.credits > 0)
}

/// Here to cut 1, the rest there; all here while the other host cannot be had.
fn splits(now: &Snapshot) -> Decision {
    dispatch(now, if takes(now, 1) { vec![stage(0, 1), stage(1, 2)] } else { vec![stage(0, 2)] })
}

fn goes_there(now: &Snapshot) -> Decision {
    dispatch(now, if takes(now, 1) { vec![stage(1, 2)] } else { vec![stage(0, 2)] })
}

/// There, and three at once.
fn gathers(now: &Snapshot) -> Decision {
    if now.queues.iter().all(|q| q.waiting >= 3) { goes_there(now) } else { Decision::default() }
}

fn goes_far(now: &Snapshot) -> Decision {
    dispatch(now, vec![stage(1, 1), stage(2, 2)])
}

fn joins_all(now: &Snapshot) -> Decision {
    let joins = now.arrived.iter().map(|a| Join { arrived: a.id, take_rows: a.waiting_rows }).collect();
    Decision { joins, ..Decision::default() }
}

fn idles(_: &Snapshot) -> Decision {
    Decision::default()
}

struct Bench {
    scheduler: Scheduler,
    now: Nanos,
    asked: u64,
    runs: Vec<Run>,
    forwards: Vec<Forward>,
    answered: Vec<u64>,
    refused: usize,
    recalled: Vec<(ExecutionId, HostId)>,
    advanced: Vec<Advance>,
    rejected: Vec<(ArrivalId, Rejection)>,
    receipts: Vec<Receipt>,
}

impl Bench {
    fn new(decide: fn(&Snapshot) -> Decision) -> Self {
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
            scheduler: Scheduler::new(Config { trace_prefix: PREFIX, ..Config::default() }, || Nanos::ZERO, None),
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
    fn linked(decide: fn(&Snapshot) -> Decision) -> Self {
        let mut bench = Self::new(decide);
        for (a, b) in [(HERE, THERE), (HERE, FAR), (THERE, FAR)] {
            bench.link(a, b, true);
        }
        bench
    }

    fn link(&mut self, a: HostId, b: HostId, up: bool) {
        for (source, target) in [(a, b), (b, a)] {
            let (rtt, backlog_bytes) = (Nanos::from_millis(2), 0);
            self.feed(Event::Link(LinkReport { source, target, up, bytes_per_second: 1e6, rtt, backlog_bytes }));
        }
    }

    fn stand(&mut self, device: u32, up: bool, backlog: Nanos) {
        let device = DeviceId(device);
        self.feed(Event::Standing(Standing { device, up, backlog, running: 0, memory_free: None }));
    }

    fn feed(&mut self, event: Event) {
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

    fn submit(&mut self, deadline: Option<Nanos>) {
        self.submit_traced(5, deadline, None);
    }

    fn submit_traced(&mut self, priority: u8, deadline: Option<Nanos>, trace: Option<Trace>) {
        self.asked += 1;
        let (id, model, constraints) = (RequestId(self.asked), MODEL, 0);
        let request = Request { id, model, shape_key: 0, rows: 1, bytes: 10, priority, deadline, constraints, trace };
        self.feed(Event::Submit(request));
    }

    fn done(&mut self) {
        let run = self.runs.remove(0);
        let (elapsed, coding) = (Nanos::from_micros(90), Nanos::from_micros(10));
        self.feed(Event::Done { execution: run.execution, elapsed, coding });
    }

    fn comes_back(&mut self) {
        let forward = self.forwards.remove(0);
        let (elapsed, waited) = (Nanos::from_micros(50), Some(Nanos::from_micros(7)));
        let time = StageTime { waited, began: self.now, elapsed, batch_rows: forward.rows };
        let stages = vec![time; forward.stages.len()];
        let bytes = Crossing { sent: 100, received: 11 };
        self.feed(Event::Answered { execution: forward.execution, stages, bytes });
    }

    fn fails(&mut self, kind: FailureKind) {
        let execution = self.forwards.remove(0).execution;
        self.feed(Event::Failed { execution, failure: Failure { kind, message: "scripted".into() } });
    }

    fn arrive(&mut self, id: u64, stages: Vec<PlanStage>, deadline: Option<Nanos>) {
        self.arrive_traced(id, THERE, stages, deadline, None);
    }

    fn arrive_traced(
        &mut self,
        id: u64,
        origin: HostId,
        stages: Vec<PlanStage>,
        deadline: Option<Nanos>,
        trace: Option<Trace>,
    ) {
        self.feed(Event::Arrive(Arrival {
            id: ArrivalId(id),
            host: THERE,
            origin,
            model: MODEL,
            stages,
            rows: 2,
            bytes: 20,
            priority: 0,
            deadline,
            trace,
        }));
    }
}

fn leg(device: u32, from_cut: u32, until_cut: u32) -> PlanStage {
    PlanStage { device: DeviceId(device), host: HostId(device), from_cut, until_cut, codec: 0, rate: 0 }
}

#[test]
fn a_split_plan_runs_its_head_here_and_its_tail_there() {
    let mut bench = Bench::linked(splits);
    bench.now = Nanos::from_millis(5);
    bench.submit(Some(Nanos::from_millis(50)));
    let run = bench.runs[0].clone();
    assert_eq!((run.device, run.from_cut, run.until_cut), (DeviceId(0), 0, 1));
    assert_eq!(run.leave, Some((0, 0)), "its output is encoded on the device");
    assert!(bench.forwards.is_empty());
    bench.done();
    let forward = bench.forwards[0].clone();
    assert_eq!((forward.host, forward.stages.clone()), (THERE, vec![leg(1, 1, 2)]));
    assert_eq!(forward.input, Input::Execution(run.execution));
    assert_eq!((forward.rows, forward.priority, forward.deadline), (1, 5, Some(Nanos::from_millis(50))));
    bench.comes_back();
    assert_eq!(bench.answered, [1]);
    let receipt = &bench.receipts[0];
    assert_eq!((receipt.bytes_predicted, receipt.bytes), (6 + 4, 111));
    assert!(receipt.stages.iter().all(|s| s.measured.is_some() && s.began.is_some()), "{receipt:?}");
    let waited: Vec<_> = receipt.stages.iter().map(|s| s.waited).collect();
    assert_eq!(waited, [None, Some(Nanos::from_micros(7))], "what it waited there is told apart");
}

#[test]
fn the_oldest_trace_travels_and_where_there_is_none_one_is_made_up() {
    let mut bench = Bench::linked(gathers);
    bench.submit(None);
    bench.submit_traced(1, None, Some(trace(1)));
    bench.submit_traced(9, None, Some(trace(2)));
    assert_eq!(bench.forwards[0].input, Input::Requests([3, 1, 2].map(|id| (RequestId(id), 1)).to_vec()));
    assert_eq!(bench.forwards[0].trace, trace(1), "that of the oldest that has one, whatever its place");
    (0..3).for_each(|_| bench.submit(None));
    let made_up = bench.forwards[1].trace;
    assert_eq!((&made_up.trace_id[..8], made_up.known()), (&PREFIX.to_be_bytes()[..], Some(made_up)));
    (0..2).for_each(|_| bench.comes_back());
    let traces: Vec<_> = bench.receipts.iter().map(|r| r.trace).collect();
    assert_eq!(traces, [Some(trace(1)), Some(made_up)]);
}

#[test]
fn a_trace_is_made_up_for_none_that_stays() {
    let mut bench = Bench::new(goes_there);
    bench.submit(None);
    bench.submit_traced(0, None, Some(trace(1)));
    (0..2).for_each(|_| bench.done());
    let traces: Vec<_> = bench.receipts.iter().map(|r| (r.trace, r.is_own())).collect();
    assert_eq!(traces, [(None, true), (Some(trace(1)), true)]);
}

#[test]
fn a_split_is_refused_where_only_whole_models_are_taken() {
    let mut bench = Bench::linked(splits);
    let whole_only = vec![WholeOnly { model: MODEL, device: DeviceId(1) }];
    bench.feed(Event::World(World { whole_only, ..bench.scheduler.world().clone() }));
    bench.submit(None);
    assert_eq!(bench.scheduler.ledger().invalid_rows, 1);
    assert_eq!((bench.runs[0].from_cut, bench.runs[0].until_cut), (0, 2), "the fallback answers");
    bench.done();
    assert_eq!((bench.answered.clone(), bench.forwards.len()), (vec![1], 0));

    let mut bench = Bench::linked(goes_there);
    let whole_only = vec![WholeOnly { model: MODEL, device: DeviceId(1) }];
    bench.feed(Event::World(World { whole_only, ..bench.scheduler.world().clone() }));
    bench.submit(None);
    assert_eq!(bench.forwards[0].stages, [leg(1, 0, 2)], "whole it goes there");
    assert_eq!(bench.scheduler.ledger().invalid_rows, 0);
}

#[test]
fn the_whole_rest_of_a_plan_travels_at_once() {
    let mut bench = Bench::linked(goes_far);
    bench.submit(None);
    assert!(bench.runs.is_empty());
    assert_eq!(bench.forwards[0].stages, [leg(1, 0, 1), leg(2, 1, 2)]);
    assert_eq!(bench.forwards[0].input, Input::Requests(vec![(RequestId(1), 1)]));
    bench.link(THERE, FAR, false);
    assert_eq!(bench.answered.len(), 0);
    assert_eq!(bench.receipts.len(), 1, "a link in the middle of the way counts as much as the first");
    let away = bench.forwards[0].execution;
    assert_eq!(bench.recalled, [(away, THERE), (away, FAR)], "one of them has it");
    assert_eq!(bench.runs.len(), 1, "the fallback answers for a policy that knows no other way");
    bench.done();
    assert_eq!(bench.answered, [1]);
    (0..20).for_each(|_| bench.submit(None));
    while !bench.runs.is_empty() {
        bench.done();
    }
    assert_eq!((bench.forwards.len(), bench.answered.len()), (1, 21), "what cannot arrive does not leave");
    assert_eq!(bench.scheduler.ledger().retried, 1, "and nobody's patience is tried");
}

#[test]
fn every_host_of_the_way_is_told_that_nobody_waits() {
    let mut bench = Bench::linked(goes_far);
    bench.submit(Some(Nanos::from_millis(10)));
    bench.now = Nanos::from_millis(11);
    bench.feed(Event::Tick);
    let away = bench.forwards[0].execution;
    assert_eq!(bench.recalled, [(away, THERE), (away, FAR)]);
    bench.recalled.clear();
    bench.submit(None);
    let away = bench.forwards[1].execution;
    bench.link(HERE, THERE, false);
    assert_eq!(bench.recalled, [(away, FAR)], "nobody can be told over the link that is down");
}

#[test]
fn a_stage_that_gets_no_further_leaves_the_way_alone_for_a_moment() {
    let mut bench = Bench::linked(goes_far);
    bench.submit(None);
    for attempt in 1..=20 {
        bench.fails(FailureKind::Unreachable);
        assert_eq!(bench.runs.len(), 1, "attempt {attempt}: the next is made here");
        bench.done();
        assert_eq!(bench.answered.len(), attempt);
        bench.now += Nanos::from_millis(51);
        bench.submit(None);
        assert_eq!(bench.forwards.len(), 1, "attempt {attempt}: and then it is tried again");
    }
    assert_eq!(bench.refused, 0);
}

#[test]
fn a_clock_that_jumps_back_neither_shortens_nor_prolongs_a_deadline() {
    let mut bench = Bench::linked(goes_there);
    bench.now = Nanos::from_secs(100);
    bench.submit(Some(bench.now + Nanos::from_millis(50)));
    for now in [Nanos::ZERO, Nanos::from_secs(100) + Nanos::from_millis(49)] {
        bench.now = now;
        bench.feed(Event::Tick);
        assert_eq!(bench.refused, 0, "at {now}");
    }
    bench.now = Nanos::from_secs(1);
    bench.submit(Some(Nanos::from_secs(100) + Nanos::from_millis(60)));
    bench.now = Nanos::from_secs(100) + Nanos::from_millis(51);
    bench.feed(Event::Tick);
    assert_eq!((bench.refused, bench.scheduler.ledger().expired), (1, 1), "the first, and not the second");
}

#[test]
fn what_is_away_when_the_link_fails_is_executed_here() {
    let mut bench = Bench::linked(goes_there);
    (0..2).for_each(|_| bench.submit(None));
    assert_eq!((bench.forwards.len(), bench.runs.len()), (2, 0));
    bench.link(HERE, THERE, false);
    assert_eq!(bench.runs.len(), 1, "both in one batch, here");
    assert_eq!(bench.runs[0].rows, 2);
    let late = bench.forwards[0].execution;
    let bytes = Crossing::default();
    bench.feed(Event::Answered { execution: late, stages: vec![], bytes });
    assert_eq!(bench.answered.len(), 0, "an answer that comes late after all is dropped");
    bench.done();
    assert_eq!(bench.answered, [1, 2]);
    assert!(bench.receipts.iter().any(|r| matches!(&r.verdict, Verdict::Failed(m) if m.contains("went down"))));
    bench.link(HERE, THERE, true);
    bench.forwards.clear();
    bench.submit(None);
    assert_eq!(bench.forwards.len(), 1, "and when it is back, it is used again");
}

#[test]
fn a_refusal_leaves_the_device_alone_for_a_moment_and_costs_no_attempt() {
    let mut bench = Bench::linked(goes_there);
    bench.submit(None);
    for _ in 0..3 {
        bench.fails(FailureKind::Refused);
        assert_eq!(bench.runs.len(), 1, "executed here instead");
        bench.done();
        bench.submit(None);
        assert_eq!(bench.forwards.len(), 0, "still left alone");
        bench.done();
        bench.now += Nanos::from_millis(51);
        bench.submit(None);
        assert_eq!(bench.forwards.len(), 1);
    }
    assert_eq!(bench.refused, 0);
}

#[test]
fn a_silent_host_is_recalled_and_its_requests_run_here() {
    let mut bench = Bench::linked(goes_there);
    bench.submit(None);
    bench.now += Nanos::from_millis(1_999);
    bench.feed(Event::Tick);
    assert!(bench.recalled.is_empty(), "it has its time");
    bench.now += Nanos::from_millis(2);
    bench.feed(Event::Tick);
    assert_eq!(bench.recalled.len(), 1);
    assert_eq!(bench.runs.len(), 1);
    bench.done();
    assert_eq!(bench.answered, [1]);
}

#[test]
fn what_nobody_waits_for_is_called_back() {
    let mut bench = Bench::linked(goes_there);
    bench.submit(Some(Nanos::from_millis(10)));
    bench.now = Nanos::from_millis(11);
    bench.feed(Event::Tick);
    assert_eq!((bench.recalled.len(), bench.refused), (1, 1));
    assert_eq!(bench.scheduler.ledger().expired, 1);
}

#[test]
fn what_was_called_back_and_never_answers_is_forgotten_in_time() {
    let mut bench = Bench::linked(goes_there);
    for n in 1..=300 {
        bench.submit(Some(Nanos::from_millis(10 * n)));
        bench.now = Nanos::from_millis(10 * n);
        bench.feed(Event::Tick);
    }
    assert_eq!((bench.recalled.len(), bench.scheduler.ledger().expired), (300, 300));
    while !bench.forwards.is_empty() {
        bench.comes_back();
    }
    assert_eq!(bench.scheduler.ledger().stale, 256, "of the last ones it is known that they were given up");
    bench.submit(None);
    assert_eq!(bench.forwards.len(), 1, "and all credits are free");
}

#[test]
fn credits_of_another_host_are_its_window() {
    let mut bench = Bench::linked(goes_there);
    (0..3).for_each(|_| bench.submit(None));
    assert_eq!(bench.forwards.len(), 2);
    assert_eq!(bench.runs.len(), 1, "the third stays here");
}

/// Uses the other host or nothing.
fn only_there(now: &Snapshot) -> Decision {
    if takes(now, 1) { dispatch(now, vec![stage(1, 2)]) } else { Decision::default() }
}

#[test]
fn a_policy_is_not_blamed_for_a_dead_link_nor_for_using_other_hosts() {
    let mut bench = Bench::linked(only_there);
    (0..3).for_each(|_| bench.submit(None));
    assert_eq!((bench.forwards.len(), bench.runs.len()), (2, 0));
    bench.now += Nanos::from_millis(400);
    bench.feed(Event::Tick);
    assert!(bench.runs.is_empty(), "the third waits for the others, beside an idle device");
    bench.link(HERE, THERE, false);
    bench.now += Nanos::from_millis(400);
    bench.feed(Event::Tick);
    assert_eq!(bench.runs.iter().map(|r| r.rows).sum::<u32>(), 3, "the fallback answers");
    assert_eq!(bench.scheduler.status().label.name, "rule", "and the policy stays");
    assert!(bench.scheduler.status().faults.iter().all(|(_, n)| *n == 0), "blameless");
}

#[test]
fn no_plan_leaves_before_the_link_is_up() {
    let mut bench = Bench::new(goes_there);
    bench.submit(None);
    assert_eq!((bench.forwards.len(), bench.runs.len()), (0, 1));
}

fn trace(number: u8) -> Trace {
    Trace { trace_id: [number; 16], span_id: [number; 8], flags: 1 }
}

#[test]
fn what_is_executed_for_others_leaves_receipts() {
    let mut bench = Bench::linked(idles);
    let at = |ms| Nanos::from_millis(ms);
    bench.arrive(1, vec![leg(0, 1, 2)], None);
    bench.now = at(4);
    bench.arrive(2, vec![leg(0, 1, 2)], None);
    bench.now = at(6);
    bench.arrive_traced(3, FAR, vec![leg(0, 1, 2)], None, Some(trace(3)));
    assert!(bench.receipts.is_empty(), "none before it ends");
    bench.now = at(10);
    bench.done();
    bench.now = at(13);
    bench.done();
    let [first, second] = &bench.receipts[..] else { panic!("{:?}", bench.receipts) };
    let names = |r: &Receipt| r.for_hosts.iter().map(|h| h.to_string()).collect::<Vec<_>>();
    assert_eq!((names(first), first.requests, first.rows, first.wait), (vec!["h1".to_owned()], 1, 2, Nanos::ZERO));
    assert_eq!((first.trace, first.is_own(), &first.verdict), (None, false, &Verdict::Done));
    assert_eq!((first.policy.name.as_str(), first.generation.0), ("fallback", 0), "the host joined it, not its policy");
    assert!(first.why.contains("left over"), "{first:?}");
    assert_eq!((names(second), second.requests, second.rows), (vec!["h1".to_owned(), "h2".to_owned()], 2, 4));
    assert_eq!((second.at, second.ended, second.wait), (at(10), at(13), at(6)), "the longest wait");
    assert_eq!((second.trace, second.bytes, second.bytes_predicted), (Some(trace(3)), 40, 24));
    let stage = &second.stages[0];
    assert_eq!((second.stages.len(), &*stage.on, stage.via.as_deref()), (1, "d0", Some("raw")));
    assert_eq!((stage.from_cut, stage.until_cut, stage.measured), (1, 2, Some(Nanos::from_micros(100))));
    let began = at(13) - Nanos::from_micros(100);
    assert_eq!((stage.began, stage.waited), (Some(began), Some(began - at(4))), "in line and on the device");
    let guests = bench.scheduler.ledger().guests;
    assert_eq!((guests.executions, guests.rows), (2, 6));
    assert_eq!(bench.scheduler.ledger().answered, 0);
}

#[test]
fn who_joined_is_in_the_receipt_and_what_stayed_here_crossed_no_link() {
    let mut bench = Bench::linked(joins_all);
    bench.arrive(1, vec![leg(0, 0, 1), leg(0, 1, 2)], None);
    (0..2).for_each(|_| bench.done());
    let said: Vec<_> = bench.receipts.iter().map(|r| (r.policy.name.as_str(), r.generation.0, r.bytes)).collect();
    assert_eq!(said, [("rule", 1, 20), ("rule", 1, 0)]);
    let via: Vec<_> = bench.receipts.iter().map(|r| r.stages[0].via.as_deref()).collect();
    assert_eq!(via, [Some("raw"), None]);
}

#[test]
fn arrivals_of_the_same_range_run_together_and_go_back() {
    let mut bench = Bench::linked(joins_all);
    (1..=3).for_each(|id| bench.arrive(id, vec![leg(0, 1, 2)], None));
    assert_eq!(bench.runs.len(), 2, "one runs, one is ready, the third waits for a credit");
    let rows: Vec<u32> = bench.runs.iter().map(|r| r.rows).collect();
    assert_eq!(rows, [2, 2]);
    bench.done();
    assert_eq!(bench.advanced.len(), 1);
    assert_eq!((bench.advanced[0].next.clone(), bench.advanced[0].arrival), (Next::Origin, ArrivalId(1)));
    (0..2).for_each(|_| bench.done());
    let guests = bench.scheduler.ledger().guests;
    assert_eq!((guests.arrived, guests.returned, guests.waiting, guests.running), (3, 3, 0, 0));
}

#[test]
fn a_policy_that_knows_no_guests_does_not_starve_them() {
    let mut bench = Bench::linked(idles);
    (1..=3).for_each(|id| bench.arrive(id, vec![leg(0, 1, 2)], None));
    assert_eq!(bench.runs.len(), 1, "an idle device is given what waits");
    bench.done();
    assert_eq!(bench.runs[0].rows, 4, "and then the rest, together");
    bench.done();
    assert_eq!(bench.advanced.len(), 3);
    let firsts: Vec<u32> = bench.advanced.iter().map(|a| a.row).collect();
    assert_eq!(firsts, [0, 0, 2]);
}

#[test]
fn an_arrival_goes_on_here_or_elsewhere() {
    let mut bench = Bench::linked(joins_all);
    bench.arrive(1, vec![leg(0, 0, 1), leg(0, 1, 2)], None);
    bench.done();
    assert_eq!(bench.advanced[0].next, Next::Here);
    assert_eq!((bench.runs[0].from_cut, bench.runs[0].until_cut), (1, 2));
    bench.done();
    assert_eq!(bench.advanced[1].next, Next::Origin);
    bench.arrive(2, vec![leg(0, 0, 1), leg(2, 1, 2)], None);
    assert_eq!(bench.runs[0].leave, Some((0, 0)));
    bench.done();
    assert_eq!(bench.advanced[2].next, Next::Host(FAR, vec![leg(2, 1, 2)]));
    assert_eq!(bench.scheduler.ledger().guests.passed, 1);
}

#[test]
fn what_cannot_be_executed_here_is_given_back_at_once() {
    let forbidden = |r: &Rejection| matches!(r, Rejection::Forbidden(_));
    let late = Some(Nanos::ZERO);
    let plans = [
        vec![],
        vec![leg(1, 1, 2)],
        vec![leg(0, 1, 1)],
        vec![leg(0, 0, 1)],
        vec![leg(0, 0, 9)],
        vec![leg(0, 0, 1), leg(0, 0, 2)],
    ];
    let cases = plans.into_iter().map(|plan| (plan, None)).chain([(vec![leg(0, 0, 2)], late)]);
    for (index, (stages, deadline)) in cases.enumerate() {
        let mut bench = Bench::linked(joins_all);
        bench.arrive(index as u64, stages.clone(), deadline);
        let reason = &bench.rejected[0].1;
        let expected = if deadline.is_some() { *reason == Rejection::Expired } else { forbidden(reason) };
        assert!(expected, "{stages:?}: {reason:?}");
        assert_eq!(bench.scheduler.ledger().guests.arrived, 0);
    }
}

#[test]
fn a_guest_has_a_window_and_a_quota() {
    let mut bench = Bench::linked(idles);
    (1..=4).for_each(|id| bench.arrive(id, vec![leg(0, 1, 2)], None));
    assert_eq!(bench.rejected, [(ArrivalId(4), Rejection::Busy)], "a window of three");
}

#[test]
fn guests_whose_host_is_gone_are_forgotten() {
    let mut bench = Bench::linked(joins_all);
    (1..=3).for_each(|id| bench.arrive(id, vec![leg(0, 1, 2)], None));
    bench.link(HERE, THERE, false);
    let guests = bench.scheduler.ledger().guests;
    assert_eq!((guests.withdrawn, guests.waiting, guests.running), (3, 0, 0));
    (0..2).for_each(|_| bench.done());
    assert!(bench.advanced.is_empty(), "their rows are executed and dropped");
    bench.link(HERE, THERE, true);
    bench.arrive(9, vec![leg(0, 1, 2)], None);
    assert_eq!(bench.runs.len(), 1, "and the quota is free again");
}

#[test]
fn a_guest_that_failed_in_company_is_tried_alone() {
    let mut bench = Bench::linked(idles);
    (1..=3).for_each(|id| bench.arrive(id, vec![leg(0, 1, 2)], None));
    bench.done();
    assert_eq!(bench.runs[0].rows, 4);
    let fail = |bench: &mut Bench| {
        let execution = bench.runs.remove(0).execution;
        let failure = Failure { kind: FailureKind::Execution, message: "scripted".into() };
        bench.feed(Event::Failed { execution, failure });
    };
    fail(&mut bench);
    assert_eq!(bench.runs[0].rows, 2, "alone");
    fail(&mut bench);
    assert!(matches!(bench.rejected[..], [(ArrivalId(2), Rejection::Failed(_))]), "{:?}", bench.rejected);
    bench.done();
    assert_eq!(bench.advanced.len(), 2);
    let told = |r: &Receipt| (r.requests, r.verdict == Verdict::Done, r.clamps.clone());
    let alone = vec![Clamp::Alone];
    let all: Vec<_> = bench.receipts.iter().map(told).collect();
    assert_eq!(all, [(1, true, vec![]), (2, false, vec![]), (1, false, alone.clone()), (1, true, alone)]);
    assert_eq!(bench.scheduler.ledger().guests.executions, 2, "those that ended well");
}
