//! Whatever happens to link and peer, every request is answered once.

use super::stand::{Two, Wish};
use crate::stand::{assert_close, image, infer, settled, until, values};
use bps_emulator::{Direction, Fault, ProxyConditions};
use bps_node::{InferReply, ServeError};
use bps_transport::CarrierChoice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Traffic of a few clients, each asking again as soon as it is answered, until told to stop.
struct Traffic {
    stop: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<usize>>,
}

impl Traffic {
    fn start(two: &Two, expected: &[Vec<f32>]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |index: usize| {
            let (edge, stop, expected) = (two.edge.clone(), stop.clone(), expected.to_vec());
            tokio::spawn(async move {
                let mut answered = 0;
                while !stop.load(Ordering::Relaxed) {
                    let seed = (index + answered) % expected.len();
                    let reply: Result<InferReply, ServeError> = infer(&edge, image(seed, 1)).await;
                    assert_close(&expected[seed], &values(&reply.expect("every request is answered")));
                    answered += 1;
                }
                answered
            })
        };
        Self { clients: (0..8).map(client).collect(), stop }
    }

    async fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let mut answered = 0;
        for client in self.clients {
            answered += client.await.expect("a client that was answered rightly");
        }
        answered
    }
}

async fn expected(two: &Two) -> Vec<Vec<f32>> {
    let mut all = Vec::new();
    for seed in 0..16 {
        all.push(values(&infer(&two.edge, image(seed, 1)).await.unwrap()));
    }
    all
}

async fn used(two: &Two) {
    let before = two.edge.ledger().answered;
    until("the server is used", || two.edge.ledger().answered > before + 20 && two.executed_there(20) > 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_cut_again_and_again_costs_no_request() {
    for carrier in [CarrierChoice::Tcp, CarrierChoice::Quic] {
        let two = Two::start(Wish { carrier, ..Wish::default() }).await;
        let expected = expected(&two).await;
        two.split(2, 0, 0).await;
        let traffic = Traffic::start(&two, &expected);
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
        let expected = expected(&two).await;
        two.split(2, 0, 0).await;
        let traffic = Traffic::start(&two, &expected);
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
async fn corrupted_bytes_end_the_link_and_nothing_else() {
    let two = Two::start(Wish::default()).await;
    let expected = expected(&two).await;
    two.split(2, 0, 0).await;
    let traffic = Traffic::start(&two, &expected);
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
    let expected = expected(&two).await;
    two.split(2, 0, 0).await;
    let traffic = Traffic::start(&two, &expected);
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
    let expected = expected(&two).await;
    let traffic = Traffic::start(&two, &expected);
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
