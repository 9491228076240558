//! Three hosts: what one hands on to the next, what a helper does for two at once, and what becomes of it all when a link
//! or a host in the middle of it is lost.

mod stand;

use crate::stand::{PATIENCE, image, infer, settled, swap, until, values};
use crate::traffic::{Traffic, expected};
use bps_emulator::Fault;
use bps_node::{Host, Verdict};
use bps_types::Nanos;
use stand::{EDGE, FAR, HELPER, Three};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_three_hosts_equals_the_whole_bit_for_bit() {
    let three = Three::chain("cpu").await;
    let edge = three.host(EDGE);
    let last = edge.model("digits", None).unwrap().cut_count - 1;
    let whole = values(&infer(edge, image(3, 5)).await.unwrap());
    for cuts in [[0, 1], [1, 2], [2, last - 1]] {
        three.plan_along(cuts).await;
        three.until_whole_way().await;
        let passed = three.host(HELPER).ledger().guests.passed;
        let split = values(&infer(edge, image(3, 5)).await.unwrap());
        assert_eq!(split, whole, "cuts {cuts:?}");
        assert_eq!(three.whole_ways(1), 1, "cuts {cuts:?}: it did go there");
        assert_eq!(three.host(HELPER).ledger().guests.passed, passed + 1, "cuts {cuts:?}: from one to the next");
    }
    assert_eq!(settled(edge).await.failed, 0);
    until("nothing is left of it", || {
        [HELPER, FAR].iter().all(|host| {
            let guests = three.host(*host).ledger().guests;
            guests.waiting + guests.running == 0
        })
    })
    .await;
}

/// When each execution on the helper began, on the edge's clock, and how long it took.
fn told_of_helper(edge: &Host) -> Vec<(Nanos, Nanos)> {
    let receipts = edge.receipts(1_000);
    let done = receipts.iter().filter(|r| r.verdict == Verdict::Done).flat_map(|r| &r.stages);
    done.filter(|s| s.on.starts_with("helper/")).filter_map(|s| Some((s.began?, s.measured?))).collect()
}

/// What the origins have told of executions on the helper. Receipts are the last thousand, nearly all of them of requests that
/// a quick edge answered itself while the helper was full: on a busy machine few of the helper's are among them at a time.
#[derive(Default)]
struct Told([BTreeSet<(Nanos, Nanos)>; 2]);

impl Told {
    fn look(&mut self, edges: [&Host; 2]) {
        self.0.iter_mut().zip(edges).for_each(|(told, edge)| told.extend(told_of_helper(edge)));
    }

    /// Executions of which both tell: equally long to the nanosecond, and at the same time.
    fn shared(&self) -> usize {
        let [ours, theirs] = &self.0;
        let same = |(began, took): &&(Nanos, Nanos)| {
            theirs.iter().any(|(at, long)| long == took && at.0.abs_diff(began.0) < Nanos::from_millis(20).0)
        };
        ours.iter().filter(same).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_of_two_origins_are_executed_together_and_each_gets_its_own_rows() {
    let hosts = [("edge", "cpu"), ("other", "cpu"), ("helper", "cpu,slowdown=50")];
    // Each origin has four rows under way. A helper that took them all at once would take turns: while it executes one's rows the
    // other's wait, and never both. Of three at a time some are of both.
    let three = Three::start(hosts, &[(0, 2), (1, 2)], "batch_max = 3").await;
    let edges = [three.host(0), three.host(1)];
    let mut traffic = Vec::new();
    for edge in edges {
        let expected = expected(edge).await;
        swap(edge, "chaos", r#"{"mode":"split","cut":1,"rows":1}"#).await;
        traffic.push(Traffic::start(edge, &expected));
    }
    let (began, mut told) = (Instant::now(), Told::default());
    while told.shared() < 5 {
        told.look(edges);
        let ledgers = || [0, 1, 2].map(|host| three.host(host).ledger());
        let counts = || told.0.each_ref().map(BTreeSet::len);
        let late = began.elapsed() > PATIENCE;
        assert!(!late, "the helper does not join rows of both: {:?} executions told, {:?}", counts(), ledgers());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for traffic in traffic {
        assert!(traffic.end().await > 0);
    }
    for edge in edges {
        let ledger = settled(edge).await;
        assert_eq!((ledger.failed, ledger.shed, ledger.expired), (0, 0, 0), "{ledger:?}");
    }
}

/// Waits until requests go the whole way again.
async fn used(three: &Three) {
    let passed = || three.host(HELPER).ledger().guests.passed;
    let before = passed();
    until("the chain is used", || passed() > before + 10 && three.whole_ways(20) > 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_between_two_helpers_that_is_cut_costs_no_request() {
    let three = Three::chain("cpu").await;
    let edge = three.host(EDGE);
    let expected = expected(edge).await;
    three.plan_along([1, 3]).await;
    let traffic = Traffic::start(edge, &expected);
    for fault in [Fault::Cut, Fault::Swallow] {
        used(&three).await;
        let refused = edge.ledger().invalid_rows;
        three.set((HELPER, FAR), fault);
        until("the helpers have lost each other", || !three.seen(HELPER, FAR).up && !three.seen(FAR, HELPER).up).await;
        until("the edge refuses plans over the lost link", || edge.ledger().invalid_rows > refused).await;
        assert!(three.seen(EDGE, HELPER).usable && three.seen(EDGE, FAR).usable, "its own links are well");
        let (arrived, answered) = (three.host(HELPER).ledger().guests.arrived, edge.ledger().answered);
        until("it goes on without", || edge.ledger().answered > answered + 50).await;
        // One may have been on its way.
        let since = three.host(HELPER).ledger().guests.arrived - arrived;
        assert!(since <= 8, "{fault:?}: {since} left on a way that leads nowhere");
        three.set((HELPER, FAR), Fault::None);
        three.linked().await;
    }
    used(&three).await;
    let asked = traffic.end().await + expected.len();
    let ledger = settled(edge).await;
    assert_eq!((ledger.answered, ledger.failed, ledger.expired), (asked as u64, 0, 0), "{ledger:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_host_of_a_chain_dies_and_returns_and_costs_no_request() {
    let mut three = Three::chain("cpu").await;
    let edge = three.host(EDGE).clone();
    let expected = expected(&edge).await;
    three.plan_along([1, 3]).await;
    let traffic = Traffic::start(&edge, &expected);
    used(&three).await;
    three.kill(FAR).await;
    until("it is missed", || !three.seen(EDGE, FAR).up && !three.seen(HELPER, FAR).up).await;
    let answered = edge.ledger().answered;
    until("it goes on without", || edge.ledger().answered > answered + 50).await;
    three.restart(FAR).await;
    three.linked().await;
    used(&three).await;
    let asked = traffic.end().await + expected.len();
    let ledger = settled(&edge).await;
    assert_eq!((ledger.answered, ledger.failed, ledger.expired), (asked as u64, 0, 0), "{ledger:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_handed_on_and_is_no_longer_wanted_is_recalled_where_it_is() {
    let three = Three::chain("cpu,slowdown=300").await;
    let edge = three.host(EDGE);
    three.plan_along([0, 1]).await;
    three.until_whole_way().await;
    let guests = |host: usize| three.host(host).ledger().guests;
    let before = guests(FAR);
    let asking = tokio::spawn({
        let edge = edge.clone();
        async move { infer(&edge, image(1, 8)).await }
    });
    until("the far host has it", || guests(FAR).waiting + guests(FAR).running > 0).await;
    asking.abort();
    until("it is taken back there", || guests(FAR).withdrawn > before.withdrawn).await;
    assert_eq!(guests(FAR).returned, before.returned);
    assert_eq!(settled(edge).await.cancelled, 1);
}

/// Hands a stage on over a stalled link, takes it back meanwhile, and asks again. How many stages the far host then took;
/// none where the link was lost over it, as on a busy machine it may be.
async fn overtaken(three: &Three) -> Option<u64> {
    let edge = three.host(EDGE);
    let guests = |host: usize| three.host(host).ledger().guests;
    three.until_whole_way().await;
    let (passed, arrived, cancelled) = (guests(HELPER).passed, guests(FAR).arrived, edge.ledger().cancelled);
    let began = Instant::now();
    three.set((HELPER, FAR), Fault::Stall);
    let asking = tokio::spawn({
        let edge = edge.clone();
        async move { infer(&edge, image(1, 1)).await }
    });
    until("it is on its way to the far host", || guests(HELPER).passed > passed).await;
    asking.abort();
    until("nobody waits any more", || edge.ledger().cancelled > cancelled).await;
    // Long enough for the recall, and shorter than a link may be silent.
    tokio::time::sleep(Duration::from_millis(100)).await;
    three.set((HELPER, FAR), Fault::None);
    infer(edge, image(2, 1)).await.unwrap();
    let whole = three.whole_ways(1) == 1;
    let stood = three.seen(HELPER, FAR).since_seconds.is_some_and(|s| s > began.elapsed().as_secs_f64());
    (whole && stood).then(|| guests(FAR).arrived - arrived)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recall_that_overtakes_what_is_handed_on_holds() {
    let three = Three::chain("cpu").await;
    three.plan_along([0, 1]).await;
    let mut trials = Vec::new();
    while trials.last() != Some(&Some(1)) {
        assert!(trials.len() < 10, "the next stage, and not the one before it: {trials:?}");
        trials.push(overtaken(&three).await);
    }
    settled(three.host(EDGE)).await;
}
