//! Whatever happens to link and peer, every request is answered once.

use super::stand::{Two, Wish};
use crate::stand::{settled, until};
use crate::traffic::{Traffic, expected};
use bps_emulator::{Direction, Fault, ProxyConditions};
use bps_transport::CarrierChoice;
use bps_types::Nanos;
use std::time::{Duration, Instant};

async fn used(two: &Two) {
    let before = two.edge.ledger().answered;
    until("the server is used", || two.edge.ledger().answered > before + 20 && two.executed_there(20) > 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_cut_again_and_again_costs_no_request() {
    for carrier in [CarrierChoice::Tcp, CarrierChoice::Quic] {
        let two = Two::start(Wish { carrier, ..Wish::default() }).await;
        let expected = expected(&two.edge).await;
        two.split(2, 0, 0).await;
        let traffic = Traffic::start(&two.edge, &expected);
        for _ in 0..3 {
            used(&two).await;
            two.proxy.set(ProxyConditions { fault: Fault::Cut, ..ProxyConditions::default() });
            two.unlinked().await;
            let before = two.edge.ledger().answered;
            until("it goes on alone", || two.edge.ledger().answered > before + 20).await;
            two.proxy.set(ProxyConditions::default());
            two.linked().await;
        }
        used(&two).await;
        assert!(traffic.end().await > 100);
        let ledger = settled(&two.edge).await;
        assert_eq!((ledger.failed, ledger.expired, ledger.shed), (0, 0, 0), "{carrier:?}: {ledger:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_open_link_is_found_out() {
    for fault in [Fault::Stall, Fault::Swallow] {
        let two = Two::start(Wish::default()).await;
        let expected = expected(&two.edge).await;
        two.split(2, 0, 0).await;
        let traffic = Traffic::start(&two.edge, &expected);
        used(&two).await;
        two.proxy.set(ProxyConditions { fault, ..ProxyConditions::default() });
        two.unlinked().await;
        let before = two.edge.ledger().answered;
        until("it goes on alone", || two.edge.ledger().answered > before + 50).await;
        two.proxy.set(ProxyConditions::default());
        two.linked().await;
        used(&two).await;
        traffic.end().await;
        let ledger = settled(&two.edge).await;
        assert_eq!((ledger.failed, ledger.expired), (0, 0), "{fault:?}: {ledger:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_stops_for_long_is_done_without_and_used_again() {
    // Longer than any wait between the two: for an answer, a dial, a handshake.
    peer_stops_for(Duration::from_millis(5_500)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "half a minute"]
async fn a_peer_that_stops_for_half_a_minute_is_done_without_and_used_again() {
    peer_stops_for(Duration::from_secs(30)).await;
}

/// As a process that is stopped, or a host that sleeps: its connections stand, it says nothing, and when it goes on it
/// takes and sends what has become meaningless meanwhile.
async fn peer_stops_for(span: Duration) {
    let sched = |config: &mut bps_sched::Config| config.remote_timeout_floor = Nanos::from_millis(300);
    let two = Two::start(Wish { sched, ..Wish::default() }).await;
    let expected = expected(&two.edge).await;
    two.split(2, 0, 0).await;
    let traffic = Traffic::start(&two.edge, &expected);
    used(&two).await;
    let stopped = Instant::now();
    two.proxy.set(ProxyConditions { fault: Fault::Stall, ..ProxyConditions::default() });
    two.unlinked().await;
    assert!(stopped.elapsed() < Duration::from_secs(2), "it is missed after {:?}", stopped.elapsed());
    while stopped.elapsed() < span {
        let before = two.edge.ledger().answered;
        until("it goes on alone", || two.edge.ledger().answered > before + 50).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(two.edge.peers().iter().all(|p| !p.up), "nobody is there");
    two.proxy.set(ProxyConditions::default());
    two.linked().await;
    used(&two).await;
    let asked = traffic.end().await + expected.len();
    let ledger = settled(&two.edge).await;
    assert_eq!((ledger.answered, ledger.failed, ledger.expired), (asked as u64, 0, 0), "{ledger:?}");
    let server = two.server.as_ref().unwrap();
    until("the server holds nothing of it", || {
        let guests = server.ledger().guests;
        guests.waiting + guests.running == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn corrupted_bytes_end_the_link_and_nothing_else() {
    let two = Two::start(Wish::default()).await;
    let expected = expected(&two.edge).await;
    two.split(2, 0, 0).await;
    let traffic = Traffic::start(&two.edge, &expected);
    for direction in [Direction::ToTarget, Direction::FromTarget, Direction::ToTarget] {
        used(&two).await;
        two.proxy.corrupt(direction);
        tokio::time::sleep(Duration::from_millis(50)).await;
        two.linked().await;
    }
    used(&two).await;
    traffic.end().await;
    assert_eq!(settled(&two.edge).await.failed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_and_returns_is_used_again() {
    let mut two = Two::start(Wish::default()).await;
    let expected = expected(&two.edge).await;
    two.split(2, 0, 0).await;
    let traffic = Traffic::start(&two.edge, &expected);
    used(&two).await;
    two.kill_server().await;
    two.unlinked().await;
    let before = two.edge.ledger().answered;
    until("it goes on alone", || two.edge.ledger().answered > before + 50).await;
    two.restart_server().await;
    two.linked().await;
    used(&two).await;
    traffic.end().await;
    let ledger = settled(&two.edge).await;
    assert_eq!((ledger.failed, ledger.expired), (0, 0), "{ledger:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_are_swapped_while_plans_are_away() {
    // Nothing may be lost on the way, whatever a policy would like to send.
    let two = Two::start(Wish { manifest: "accuracy_budget_ppm = 0", ..Wish::default() }).await;
    let expected = expected(&two.edge).await;
    let traffic = Traffic::start(&two.edge, &expected);
    for round in 0..20 {
        match round % 4 {
            0 => two.split(2, 0, 0).await,
            1 => two.swap("local-only", "").await,
            2 => two.split(0, 0, 0).await,
            _ => two.swap("bps", "").await,
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    two.split(1, 0, 0).await;
    used(&two).await;
    traffic.end().await;
    let ledger = settled(&two.edge).await;
    assert_eq!((ledger.failed, ledger.shed, ledger.expired), (0, 0, 0), "{ledger:?}");
}
