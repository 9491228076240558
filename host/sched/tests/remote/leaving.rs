//! Plans that leave, links that fail, and hosts that do not answer.

use crate::bench::{
    Bench, FAR, HERE, MODEL, PREFIX, THERE, gathers, goes_far, goes_there, leg, only_there, splits, trace,
};
use bps_sched::{Cap, Clamp, Crossing, Event, FailureKind, Input, Leaving, Verdict, WholeOnly, World};
use bps_types::policy::{CodecInfo, Decision, Snapshot, Table, TableKind};
use bps_types::{DeviceId, Nanos, RequestId};

/// As it is.
const RAW: Leaving = Leaving { codec: 0, rate: 0, cap: None };

#[test]
fn a_split_plan_runs_its_head_here_and_its_tail_there() {
    let mut bench = Bench::linked(splits);
    bench.now = Nanos::from_millis(5);
    bench.submit(Some(Nanos::from_millis(50)));
    let run = bench.runs[0].clone();
    assert_eq!((run.device, run.from_cut, run.until_cut), (DeviceId(0), 0, 1));
    assert_eq!(run.leave, Some(RAW), "its output is encoded on the device");
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
fn what_another_host_answers_is_pressing_when_it_has_nothing_left() {
    let mut bench = Bench::linked(goes_there);
    (0..2).for_each(|_| bench.submit(None));
    let away: Vec<_> = bench.forwards.iter().map(|forward| forward.execution).collect();
    assert_eq!(away.len(), 2);
    let (mut pressing, mut actions) = (Vec::new(), Vec::new());
    for execution in away {
        let bytes = Crossing { sent: 1, values: 1, received: 1, coarser: None };
        bench.scheduler.note(Event::Answered { execution, stages: vec![], bytes }, bench.now, &mut actions);
        pressing.push(bench.scheduler.is_pressing());
    }
    assert_eq!(pressing, [false, true]);
    bench.scheduler.settle(&mut actions);
    assert!(!bench.scheduler.is_pressing());
}

#[test]
fn a_codec_is_judged_by_its_values_and_not_by_the_message_around_them() {
    // (bytes of the values of a row that is told to take ten, whether its bits are corrected)
    for (values, is_corrected) in [(10, false), (5, true)] {
        let mut bench = Bench::linked(goes_there);
        bench.feed(Event::Table(Table {
            epoch: 1,
            model: MODEL.0,
            device: 0,
            codec: 0,
            kind: TableKind::CodecBits,
            measured: false,
            shape: vec![3, 1],
            values: vec![32.0; 3],
        }));
        for _ in 0..9 {
            bench.now += Nanos::from_secs(1);
            bench.submit(None);
            let execution = bench.forwards.remove(0).execution;
            let bytes = Crossing { sent: 400, values, received: 9, coarser: None };
            bench.feed(Event::Answered { execution, stages: vec![], bytes });
        }
        let briefing = bench.scheduler.briefing();
        let bits = briefing.tables.iter().find(|t| t.kind == TableKind::CodecBits).map(|t| t.values[0]);
        assert_eq!(bits.map(|bits| bits < 32.0), Some(is_corrected), "{values}: {bits:?}");
        assert!(bits.is_some_and(|bits| bits <= 32.0));
    }
}

/// Splits, and sends the values in a codec with rates.
fn splits_coded(now: &Snapshot) -> Decision {
    let mut decision = splits(now);
    let tails = decision.dispatches.iter_mut().filter_map(|d| d.stages.get_mut(1));
    tails.for_each(|tail| (tail.codec, tail.rate) = (17, 2));
    decision
}

/// Goes there whole, with its input in a codec with rates.
fn goes_there_coded(now: &Snapshot) -> Decision {
    let mut decision = goes_there(now);
    let firsts = decision.dispatches.iter_mut().filter_map(|d| d.stages.first_mut());
    firsts.for_each(|first| (first.codec, first.rate) = (17, 2));
    decision
}

/// With the codec of the two above: what it loses at each rate, and 500 ppm that may be lost.
fn with_codec(mut bench: Bench) -> Bench {
    let mut world = bench.scheduler.world().clone();
    let name = "lossy".into();
    world.info.codecs.push(CodecInfo { id: 17, name, rates: vec![0, 2, 4, 6], lossless: false, for_input: false });
    world.info.models[0].accuracy_budget_ppm = 500;
    bench.feed(Event::World(world));
    let table = |kind, codec, shape: [u32; 2], values| {
        Event::Table(Table {
            epoch: 1,
            model: MODEL.0,
            device: 0,
            codec,
            kind,
            measured: true,
            shape: shape.to_vec(),
            values,
        })
    };
    // At the input half of what they lose, and a tenth of the size, at the value between.
    let losses = [[50.0, 100.0, 200.0, 300.0], [100.0, 200.0, 400.0, 600.0], [0.0; 4]].concat();
    let bits = [[1_600.0, 800.0, 400.0, 200.0], [16_000.0, 8_000.0, 4_000.0, 2_000.0], [0.0; 4]].concat();
    bench.feed(table(TableKind::CodecLossPpm, 17, [3, 4], losses));
    bench.feed(table(TableKind::CodecBits, 17, [3, 4], bits));
    bench
}

#[test]
fn what_leaves_has_a_cap_as_coarse_as_the_budget_allows() {
    let mut bench = with_codec(Bench::linked(splits_coded));
    bench.submit(None);
    let leave = bench.runs[0].leave.expect("its output goes there");
    // Six bytes are one element and a half, of 8,000 bits each at rate 2; twice that is too much.
    assert_eq!((leave.codec, leave.rate, leave.cap), (17, 2, Some(Cap { bytes: 3_000, coarsest: 4 })));
    let mut bench = with_codec(Bench::linked(goes_there_coded));
    bench.submit(None);
    assert_eq!(bench.forwards[0].cap.map(|cap| cap.coarsest), Some(6), "an input, too");
}

#[test]
fn a_receipt_names_the_rate_that_was_used() {
    let mut bench = Bench::linked(goes_there);
    bench.submit(None);
    let execution = bench.forwards.remove(0).execution;
    let bytes = Crossing { sent: 400, values: 300, received: 9, coarser: Some(6) };
    bench.feed(Event::Answered { execution, stages: vec![], bytes });
    assert_eq!(bench.receipts[0].clamps, [Clamp::Coarser(6)]);
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
