//! What the scheduler does with policies that are swapped, fail, lie, stall or are slow; and with devices that fail.

use bps_sched::{
    Action, Candidate, Config, Event, Failure, FailureKind, Fault, FaultClass, Policy, Refusal, Request,
    RollbackReason, Run, Scheduler, SlotState, Stopwatch, SwapReport, World,
};
use bps_types::policy::{
    CodecInfo, Decision, DeviceInfo, DeviceKind, Dispatch, HostInfo, Manifest, ModelInfo, Origin, Outcome, Selection,
    Snapshot, Stage, Table, WorldInfo,
};
use bps_types::{DeviceId, ModelId, Nanos, RequestId};

/// A policy made of one rule.
struct Rule {
    manifest: Manifest,
    decide: fn(&Snapshot) -> Result<Decision, Fault>,
    blob: Option<&'static [u8]>,
    restored: Option<Vec<u8>>,
}

impl Policy for Rule {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }
    fn digest(&self) -> &str {
        &self.manifest.name
    }
    fn world_changed(&mut self, _: &WorldInfo) -> Result<(), Fault> {
        Ok(())
    }
    fn table_changed(&mut self, _: &Table) -> Result<(), Fault> {
        Ok(())
    }
    fn decide(&mut self, snapshot: &Snapshot) -> Result<Decision, Fault> {
        (self.decide)(snapshot)
    }
    fn observe(&mut self, _: &[Outcome], _: u32) -> Result<(), Fault> {
        Ok(())
    }
    fn save(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.blob.map(<[u8]>::to_vec))
    }
    fn restore(&mut self, origin: &Origin, blob: &[u8]) -> Result<bool, Fault> {
        self.restored = Some(blob.to_vec());
        match origin.name.as_str() {
            "poison" => Err(Fault::new(FaultClass::Trap, "cannot read this")),
            _ => Ok(true),
        }
    }
}

/// Runs the head of each queue, one request at a time, on the first device with credits.
fn good(snapshot: &Snapshot) -> Result<Decision, Fault> {
    batches_of(1, snapshot)
}

fn batches_of(count: u32, snapshot: &Snapshot) -> Result<Decision, Fault> {
    let mut decision = Decision::default();
    let Some(device) = snapshot.devices.iter().find(|d| d.credits > 0) else { return Ok(decision) };
    for queue in snapshot.queues.iter().take(1) {
        let requests = Selection::Head(count.min(queue.waiting));
        let stages = vec![Stage { device: device.id, until_cut: 1, codec: 0, rate: 0 }];
        decision.dispatches.push(Dispatch { queue: queue.id, requests, stages, micro_batch: 0, tag: 1, why: 0 });
    }
    Ok(decision)
}

fn traps(_: &Snapshot) -> Result<Decision, Fault> {
    Err(Fault::new(FaultClass::Trap, "unreachable"))
}

fn idles(_: &Snapshot) -> Result<Decision, Fault> {
    Ok(Decision::default())
}

fn lies(snapshot: &Snapshot) -> Result<Decision, Fault> {
    let mut decision = good(snapshot)?;
    decision.dispatches.iter_mut().for_each(|d| d.stages[0].device = 77);
    Ok(decision)
}

struct Bench {
    scheduler: Scheduler,
    now: Nanos,
    asked: u64,
    runs: Vec<Run>,
    answered: Vec<u64>,
    refused: Vec<(u64, Refusal)>,
    swaps: Vec<SwapReport>,
    rebuilds: Vec<(bps_types::Generation, Nanos)>,
}

impl Bench {
    fn new(config: Config) -> Self {
        let mut bench = Self {
            scheduler: Scheduler::new(config, Stopwatch::STILL, None),
            now: Nanos::ZERO,
            asked: 0,
            runs: vec![],
            answered: vec![],
            refused: vec![],
            swaps: vec![],
            rebuilds: vec![],
        };
        bench.feed(Event::World(world()));
        bench
    }

    fn feed(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.scheduler.handle(event, self.now, &mut actions);
        self.carry_out(actions);
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Run(run) => self.runs.push(run),
                Action::Answer(answer) => self.answered.push(answer.request.0),
                Action::Refuse { request, reason } => self.refused.push((request.0, reason)),
                Action::Swapped(report) => self.swaps.push(report),
                Action::Rebuild { generation, at, .. } => self.rebuilds.push((generation, at)),
                Action::Release(_) | Action::Receipt(_) | Action::WakeAt(_) | Action::Device { .. } => {}
                remote => panic!("one host only: {remote:?}"),
            }
        }
        assert!(self.scheduler.ledger().holds());
    }

    fn candidate(
        &self,
        name: &str,
        decide: fn(&Snapshot) -> Result<Decision, Fault>,
        blob: Option<&'static [u8]>,
    ) -> Box<Candidate> {
        let manifest = Manifest { name: name.into(), version: "1.0.0".into(), ..Manifest::default() };
        let policy = Box::new(Rule { manifest, decide, blob, restored: None });
        Box::new(Candidate {
            policy,
            config: "{}".into(),
            seed: 0,
            briefing: self.scheduler.briefing(),
            carry_state: true,
        })
    }

    fn swap(&mut self, name: &str, decide: fn(&Snapshot) -> Result<Decision, Fault>) -> SwapReport {
        let candidate = self.candidate(name, decide, None);
        self.feed(Event::Swap(candidate));
        self.swaps.last().cloned().expect("a swap is reported")
    }

    fn request(&mut self) -> Request {
        self.asked += 1;
        Request {
            id: RequestId(self.asked),
            model: ModelId(0),
            shape_key: 0,
            rows: 1,
            bytes: 1,
            priority: 0,
            deadline: None,
            constraints: 0,
            trace: None,
        }
    }

    fn submit(&mut self, count: u64) {
        for _ in 0..count {
            let request = self.request();
            self.feed(Event::Submit(request));
        }
    }

    fn finish_all(&mut self) {
        while !self.runs.is_empty() {
            let run = self.runs.remove(0);
            self.feed(Event::Done { execution: run.execution, elapsed: Nanos::from_micros(100), coding: Nanos::ZERO });
        }
    }

    fn fail_next(&mut self, kind: FailureKind) {
        let run = self.runs.remove(0);
        self.feed(Event::Failed { execution: run.execution, failure: Failure { kind, message: "scripted".into() } });
    }

    fn active(&self) -> String {
        self.scheduler.status().label.name.clone()
    }
}

fn world() -> World {
    let device = |id| DeviceInfo { id, host: 0, name: format!("d{id}"), kind: DeviceKind::Cpu, memory_bytes: None };
    let model = ModelInfo {
        id: 0,
        name: "m".into(),
        cut_count: 2,
        input_bytes: 1,
        output_bytes: 1,
        batch_max: 8,
        slo: Nanos::from_millis(10),
        accuracy_budget_ppm: 0,
        priority: 0,
        devices: vec![0, 1],
    };
    let info = WorldInfo {
        epoch: 1,
        hosts: vec![HostInfo { id: 0, name: "here".into(), is_self: true }],
        devices: vec![device(0), device(1)],
        models: vec![model],
        codecs: vec![CodecInfo { id: 0, name: "raw".into(), rates: vec![], lossless: true, for_input: false }],
    };
    World { info, ..World::default() }
}

#[test]
fn a_new_policy_serves_what_the_old_one_left() {
    let mut bench = Bench::new(Config::default());
    bench.swap("first", idles);
    bench.submit(3);
    assert!(bench.runs.is_empty());
    let report = bench.swap("second", good);
    assert_eq!((report.from.name.as_str(), report.to.name.as_str(), report.refused), ("first", "second", None));
    bench.finish_all();
    assert_eq!(bench.answered, [1, 2, 3]);
    assert_eq!(bench.scheduler.status().standby.map(|l| l.name.clone()).as_deref(), Some("first"));
}

#[test]
fn a_trap_is_answered_by_the_fallback_and_rolls_back_on_probation() {
    let mut bench = Bench::new(Config::default());
    bench.swap("good", good);
    bench.swap("bad", traps);
    bench.submit(1);
    assert_eq!(bench.runs.len(), 1, "the fallback answered this very decision");
    assert_eq!(bench.active(), "good");
    assert!(matches!(bench.swaps.last().unwrap().rollback, Some(RollbackReason::Fault(_))));
    bench.finish_all();
    assert_eq!(bench.answered, [1]);
}

#[test]
fn repeated_faults_back_off_and_then_quarantine() {
    let mut bench = Bench::new(Config::default());
    bench.swap("bad", traps);
    let mut waits = Vec::new();
    for _ in 0..3 {
        bench.submit(1);
        let (generation, at) = bench.rebuilds.pop().expect("a rebuild is asked for");
        waits.push(at.since(bench.now));
        assert!(matches!(bench.scheduler.status().state, SlotState::Fallback { rebuilding: true }));
        bench.now = at;
        let candidate = bench.candidate("bad", traps, None);
        bench.feed(Event::Rebuilt { generation, candidate: Ok(candidate) });
    }
    assert_eq!(waits, [100, 200, 400].map(Nanos::from_millis));
    bench.submit(1);
    assert_eq!(bench.scheduler.status().state, SlotState::Fallback { rebuilding: false });
    let refused = bench.swap("bad", good).refused.expect("a quarantined digest is refused");
    assert!(refused.contains("quarantined"), "{refused}");
    bench.now += Config::default().quarantine;
    assert_eq!(bench.swap("bad", good).refused, None, "and taken again when its time is over");
    bench.finish_all();
    assert_eq!(bench.answered.len(), 4);
}

#[test]
fn lies_are_not_executed_and_end_the_probation() {
    let mut bench = Bench::new(Config::default());
    bench.swap("good", good);
    bench.swap("liar", lies);
    bench.submit(1);
    assert!(bench.runs.iter().all(|r| r.device != DeviceId(77)));
    assert_eq!(bench.runs.len(), 1, "the fallback answers for the refused row");
    assert_eq!(bench.scheduler.ledger().invalid_rows, 1);
    assert_eq!(bench.swaps.last().unwrap().rollback, Some(RollbackReason::InvalidRows));
    assert_eq!(bench.active(), "good");
}

#[test]
fn a_policy_that_leaves_requests_lying_is_found_out() {
    let mut bench = Bench::new(Config::default());
    bench.swap("idle", idles);
    bench.submit(2);
    bench.now += Nanos::from_millis(250);
    bench.feed(Event::Tick);
    assert!(bench.runs.is_empty(), "not before its time");
    bench.now += Nanos(1);
    bench.feed(Event::Tick);
    assert_eq!(bench.runs.iter().map(|r| r.rows).sum::<u32>(), 2, "the fallback took over");
    let status = bench.scheduler.status();
    assert_eq!(status.last_fault.map(|f| f.class), Some(FaultClass::Stall));
}

#[test]
fn waiting_for_a_busy_device_is_no_stall() {
    let mut bench = Bench::new(Config::default());
    bench.swap("good", good);
    bench.submit(8);
    bench.now += Nanos::from_secs(5);
    bench.feed(Event::Tick);
    assert_eq!(bench.active(), "good");
    bench.finish_all();
    assert_eq!(bench.answered.len(), 8);
}

#[test]
fn state_goes_over_or_is_declined_or_refuses_the_swap() {
    let mut bench = Bench::new(Config::default());
    let first = bench.candidate("keeper", good, Some(b"state"));
    bench.feed(Event::Swap(first));
    assert!(bench.swap("next", good).carried_state);
    let poison = bench.candidate("poison", good, Some(b"bad"));
    bench.feed(Event::Swap(poison));
    let report = bench.swap("heir", good);
    assert!(report.refused.is_some_and(|r| r.contains("restore")), "a trap in restore leaves the old policy in place");
    assert_eq!(bench.active(), "poison");
    bench.submit(1);
    bench.finish_all();
    assert_eq!(bench.answered, [1]);
}

#[test]
fn a_rollback_is_there_for_the_asking() {
    let mut bench = Bench::new(Config::default());
    bench.feed(Event::Rollback);
    assert!(bench.swaps.last().unwrap().refused.is_some(), "nothing to go back to");
    bench.swap("first", good);
    assert_eq!(bench.scheduler.status().swaps, 0, "it takes nobody's place");
    bench.swap("second", good);
    bench.feed(Event::Rollback);
    assert_eq!((bench.active().as_str(), bench.scheduler.status().swaps), ("first", 2));
    assert_eq!(bench.swaps.last().unwrap().rollback, Some(RollbackReason::Asked));
}

/// Serves `count` requests one after another, each `took` after it came.
fn serve(bench: &mut Bench, count: u64, took: Nanos) {
    for _ in 0..count {
        bench.submit(1);
        bench.now += took;
        bench.finish_all();
    }
}

#[test]
fn more_misses_than_the_predecessor_at_the_same_load_roll_back() {
    let mut bench = Bench::new(Config::default());
    bench.swap("first", good);
    serve(&mut bench, 300, Nanos::from_millis(9));
    bench.swap("second", good);
    serve(&mut bench, 500, Nanos::from_millis(11)); // past the model's SLO
    assert_eq!(bench.active(), "second", "two bad windows may be chance");
    serve(&mut bench, 200, Nanos::from_millis(11));
    assert_eq!(bench.swaps.last().unwrap().rollback, Some(RollbackReason::Misses));
    assert_eq!(bench.active(), "first");
}

#[test]
fn more_misses_under_more_load_prove_nothing() {
    let mut bench = Bench::new(Config::default());
    bench.swap("first", good);
    serve(&mut bench, 300, Nanos::from_millis(9)); // 111 a second
    bench.swap("second", good);
    for _ in 0..300 {
        bench.submit(4);
        bench.now += Nanos::from_millis(11); // 363 a second
        bench.finish_all();
    }
    assert_eq!(bench.active(), "second");
}

#[test]
fn failed_in_company_is_tried_alone_and_given_up_in_the_end() {
    let mut bench = Bench::new(Config::default());
    bench.feed(Event::Device { device: DeviceId(1), up: false });
    bench.submit(3); // the fallback: one, then, with the second credit, one; the third waits
    bench.fail_next(FailureKind::Execution);
    bench.fail_next(FailureKind::Execution);
    assert!(bench.runs.iter().all(|r| r.rows == 1), "{:?}", bench.runs);
    while !bench.runs.is_empty() {
        bench.fail_next(FailureKind::Execution);
    }
    assert_eq!(bench.refused.len(), 3);
    assert!(bench.refused.iter().all(|(_, r)| matches!(r, Refusal::Failed { attempts: 3, .. })), "{:?}", bench.refused);
}

#[test]
fn out_of_memory_is_retried_smaller() {
    let mut bench = Bench::new(Config::default());
    bench.feed(Event::Device { device: DeviceId(1), up: false });
    bench.swap("four", |s| batches_of(4, s));
    bench.submit(10);
    let rows = |bench: &Bench| bench.runs.iter().map(|r| r.rows).collect::<Vec<_>>();
    assert_eq!(rows(&bench), [1, 1], "arrivals one by one");
    let first = bench.runs.remove(0);
    bench.feed(Event::Done { execution: first.execution, elapsed: Nanos(1), coding: Nanos::ZERO });
    assert_eq!(rows(&bench), [1, 4]);
    bench.runs.swap(0, 1);
    bench.fail_next(FailureKind::OutOfMemory);
    bench.finish_all();
    assert_eq!(bench.answered.len(), 10);
    assert!(bench.refused.is_empty());
}

#[test]
fn a_lost_device_costs_time_not_requests() {
    let mut bench = Bench::new(Config::default());
    bench.submit(2);
    let device = bench.runs[0].device;
    bench.fail_next(FailureKind::DeviceLost);
    assert!(bench.runs.iter().skip(1).all(|r| r.device != device), "retried elsewhere");
    bench.finish_all();
    assert_eq!(bench.answered.len(), 2);
}

#[test]
fn a_device_that_does_not_answer_is_left_alone_until_it_does() {
    let mut bench = Bench::new(Config::default());
    bench.swap("good", good);
    bench.submit(1);
    let stuck = bench.runs.remove(0);
    bench.now += Config::default().stage_timeout_floor + Nanos(1);
    bench.feed(Event::Tick);
    assert_eq!(bench.runs.len(), 1, "tried again");
    assert_ne!(bench.runs[0].device, stuck.device);
    assert_eq!(bench.active(), "good", "no blame on the policy");
    bench.finish_all();
    bench.feed(Event::Done { execution: stuck.execution, elapsed: Nanos::from_secs(11), coding: Nanos::ZERO });
    assert_eq!((bench.answered.clone(), bench.scheduler.ledger().stale), (vec![1], 1), "the late answer is dropped");
    bench.submit(1);
    assert_eq!(bench.runs[0].device, stuck.device, "and the device is used again");
}

#[test]
fn queues_are_bounded() {
    let mut bench = Bench::new(Config { queue_requests_max: 4, ..Config::default() });
    bench.swap("idle", idles);
    bench.submit(6);
    assert_eq!(bench.refused, [(5, Refusal::QueueFull), (6, Refusal::QueueFull)]);
    assert_eq!(bench.scheduler.ledger().refused, 2);
}

#[test]
fn what_comes_together_is_decided_together() {
    let mut bench = Bench::new(Config::default());
    bench.swap("pairs", |snapshot| batches_of(2, snapshot));
    let (mut actions, before) = (Vec::new(), bench.scheduler.drain_decide_times().count());
    for _ in 0..2 {
        let request = bench.request();
        bench.scheduler.note(Event::Submit(request), bench.now, &mut actions);
    }
    assert!(actions.is_empty(), "nothing is decided before all of it is known: {actions:?}");
    assert!(!bench.scheduler.is_pressing(), "requests can wait for others");
    bench.scheduler.settle(&mut actions);
    bench.carry_out(actions);
    assert_eq!(bench.runs.iter().map(|run| run.rows).collect::<Vec<_>>(), [2]);
    assert_eq!((before, bench.scheduler.drain_decide_times().count()), (0, 1));
    bench.finish_all();
    assert_eq!(bench.answered, [1, 2]);
}
