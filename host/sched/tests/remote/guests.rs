//! Stages that come from other hosts.

use crate::bench::{Bench, FAR, HERE, THERE, idles, joins_all, leg, trace};
use bps_sched::{Clamp, Event, Failure, FailureKind, Leaving, Next, Receipt, Rejection, Verdict};
use bps_types::{ArrivalId, Nanos};

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
    assert_eq!(bench.runs[0].leave, Some(Leaving { codec: 0, rate: 0, cap: None }));
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
    // (rows and bytes of each, how many are taken): a window of three dispatches of a model that takes eight rows, and a
    // hundred bytes. Pieces of a dispatch are together no more than it.
    for (rows, bytes, taken) in [(8, 1, 3), (2, 1, 12), (3, 1, 8), (1, 1, 24), (2, 20, 5), (2, 101, 0)] {
        let mut bench = Bench::linked(idles);
        (1..=30).for_each(|id| bench.arrive_with(id, rows, bytes));
        assert_eq!(bench.rejected.len(), 30 - taken, "{rows} rows, {bytes} bytes");
        assert!(bench.rejected.iter().all(|(_, reason)| *reason == Rejection::Busy));
    }
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
