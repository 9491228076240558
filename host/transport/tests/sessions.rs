//! Sessions over both carriers, on loopback.

mod host;

use bps_transport::{Carrier, CarrierChoice, Happening, SendError};
use bps_types::Nanos;
use bps_wire::{Message, Standing};
use host::{Ground, SOON, clock, execute, pair, pair_with};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::time::sleep;

const BOTH: [CarrierChoice; 2] = [CarrierChoice::Tcp, CarrierChoice::Quic];

fn dispatches(messages: &[Message]) -> BTreeSet<u64> {
    messages.iter().filter_map(|m| if let Message::Execute(e) = m { Some(e.dispatch) } else { None }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_messages_arrive_whole() {
    for carrier in BOTH {
        let (edge, strong) = pair(carrier).await;
        for n in 0..1_000 {
            let message = execute(edge.key(), n, 1 + (n as usize * 37) % 9_000);
            while let Err(error) = edge.transport.send(strong.key(), message.clone()) {
                assert!(matches!(error, SendError::Full { .. }), "{error}");
                sleep(Duration::from_millis(1)).await;
            }
            strong.transport.send(edge.key(), Message::Recall { dispatch: n }).expect("there is room");
        }
        strong.until("all arrive", |_| (strong.arrived().len() == 1_000).then_some(())).await;
        edge.until("all arrive", |_| (edge.arrived().len() == 1_000).then_some(())).await;
        for message in strong.arrived() {
            let Message::Execute(e) = &message else { panic!("{message:?}") };
            assert_eq!(message, execute(edge.key(), e.dispatch, 1 + (e.dispatch as usize * 37) % 9_000));
        }
        assert_eq!(dispatches(&strong.arrived()), (0..1_000).collect());
        // Control messages keep their order.
        let recalls =
            edge.arrived().into_iter().map(|m| if let Message::Recall { dispatch } = m { dispatch } else { 0 });
        assert!(recalls.eq(0..1_000));
        edge.transport.stop().await;
        assert_eq!(strong.until_down().await, "the peer said goodbye: the host is shutting down");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_pass_a_large_activation() {
    for carrier in BOTH {
        let (edge, strong) = pair(carrier).await;
        for n in 0..4 {
            edge.transport.send(strong.key(), execute(edge.key(), n, 5 << 20)).expect("there is room");
        }
        // Said last, heard first.
        edge.transport.send(strong.key(), Message::Standing(Standing::default())).expect("there is room");
        strong.until("all arrive", |_| (strong.arrived().len() == 5).then_some(())).await;
        let place = strong.arrived().iter().position(|m| matches!(m, Message::Standing(_)));
        assert!(place < Some(4), "{carrier:?}: the standing came at {place:?}");
        assert_eq!(strong.count(|h| matches!(h, Happening::Down { .. })), 0);
        edge.until("the peer reports all of it", |log| {
            let last = log
                .iter()
                .rev()
                .find_map(|h| if let Happening::Estimate { estimate, .. } = h { Some(estimate) } else { None });
            last.filter(|e| e.backlog_bytes == 0 && e.bytes_per_second > 1e6 && e.rtt.0 > 0).map(|_| ())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_recalled_in_time_never_arrives_and_what_is_not_is_told() {
    for carrier in BOTH {
        let (edge, strong) = pair(carrier).await;
        for n in 0..12 {
            edge.transport.send(strong.key(), execute(edge.key(), n, 4 << 20)).expect("there is room");
        }
        (6..12).for_each(|n| edge.transport.recall(strong.key(), n));
        let rest = || (0..6).all(|n| dispatches(&strong.arrived()).contains(&n));
        strong.until("the rest arrives", |_| rest().then_some(())).await;
        // Of those the peer was told of, each was already sent; the others are gone, and nothing is left in the books.
        edge.until("nothing is in flight", |_| {
            edge.transport.status()[0].estimate.filter(|e| e.backlog_bytes == 0).map(|_| ())
        })
        .await;
        let told: BTreeSet<u64> = strong
            .arrived()
            .iter()
            .filter_map(|m| if let Message::Recall { dispatch } = m { Some(*dispatch) } else { None })
            .collect();
        let came = dispatches(&strong.arrived());
        assert!((0..6).all(|n| came.contains(&n)), "{carrier:?}: {came:?}");
        assert!((6..12).all(|n| came.contains(&n) == told.contains(&n)), "{carrier:?}: came {came:?}, told {told:?}");
        assert!(came.len() < 12, "{carrier:?}: none was recalled in time");
        edge.transport.send(strong.key(), execute(edge.key(), 100, 10)).expect("the link goes on");
        strong.until("it goes on", |_| dispatches(&strong.arrived()).contains(&100).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_is_refused_at_once() {
    for carrier in BOTH {
        let small = 4 << 20;
        let (edge, strong) = pair_with(|s| {
            (s.carrier, s.in_flight_bytes_max, s.frame_bytes_max) = (carrier, small, small + 4_096);
        })
        .await;
        let error = edge.transport.send(strong.key(), execute(edge.key(), 0, small as usize + 4_096));
        assert!(matches!(error, Err(SendError::TooLarge { .. })), "{error:?}");
        let mut sent = 0;
        let full = (0..100).find_map(|n| match edge.transport.send(strong.key(), execute(edge.key(), n, 1 << 20)) {
            Ok(_) => {
                sent += 1;
                None
            }
            Err(error) => Some(error),
        });
        assert!(matches!(full, Some(SendError::Full { .. })), "{full:?} after {sent}");
        edge.until("there is room again", |_| {
            edge.transport.send(strong.key(), execute(edge.key(), 100, 1 << 20)).ok()
        })
        .await;
        strong.until("all arrive", |_| (strong.arrived().len() == sent + 1).then_some(())).await;
        let nobody = edge.transport.send(bps_wire::HostKey([0; 32]), Message::Recall { dispatch: 0 });
        assert!(matches!(nobody, Err(SendError::Down)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_paired_is_not_let_in_until_it_is_and_put_out_when_it_is_not() {
    for carrier in BOTH {
        let (edge, strong) = (Ground::new(), Ground::new());
        let strong_host = strong.start(|s| s.carrier = carrier);
        edge.knows(strong.key(), Some(strong_host.address()));
        let edge_host = edge.start(|s| s.carrier = carrier);
        edge_host.until("it is refused", |_| edge_host.transport.status()[0].reason.clone()).await;
        sleep(Duration::from_millis(300)).await;
        assert_eq!(strong_host.count(|_| true) + edge_host.count(|_| true), 0);
        strong.knows(edge.key(), None);
        edge_host.until_up().await;
        strong_host.until_up().await;
        strong.store.remove(&edge.key().short()).expect("it is there");
        assert_eq!(edge_host.until_down().await, "the peer said goodbye: no longer paired");
        assert_eq!(strong_host.until_down().await, "no longer paired");
        assert!(strong_host.transport.status().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_nobody_is_paired_with_listens_from_the_first_pairing_on() {
    let (edge, strong) = (Ground::new(), Ground::new());
    let strong_host = strong.start(|s| s.listen_once_paired = true);
    sleep(Duration::from_millis(100)).await;
    assert_eq!(strong_host.transport.listening(), None);
    strong.knows(edge.key(), None);
    let address = strong_host.until("it listens", |_| strong_host.transport.listening()).await;
    edge.knows(strong.key(), Some(address));
    let edge_host = edge.start(|_| {});
    edge_host.until_up().await;
    // Where the first was there from the start, so is the port.
    drop(strong_host);
    assert!(strong.start(|s| s.listen_once_paired = true).transport.listening().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_dies_is_missed_within_a_second_and_found_again() {
    for carrier in BOTH {
        let (edge, strong) = (Ground::new(), Ground::new());
        strong.knows(edge.key(), None);
        // A runtime of its own, so that it can be stopped dead: nothing of it runs on, not even to close sockets well.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let start = |address: std::net::SocketAddr| {
            let strong = strong.clone();
            move || strong.start(|s| (s.carrier, s.listen) = (carrier, Some(address)))
        };
        let first = start(([127, 0, 0, 1], 0).into());
        let host = runtime.spawn(async move { first() }).await.expect("it starts");
        let address = host.address();
        edge.knows(strong.key(), Some(address));
        let edge_host = edge.start(|s| s.carrier = carrier);
        edge_host.until_up().await;
        runtime.shutdown_background();
        let killed = Instant::now();
        edge_host.until_down().await;
        assert!(killed.elapsed() < Duration::from_secs(1), "{carrier:?}: {:?}", killed.elapsed());
        drop(host);
        // The port is free once the dead runtime's threads are gone.
        let again = start(address);
        let began = Instant::now();
        let revived = loop {
            let again = again.clone();
            match tokio::spawn(async move { again() }).await {
                Ok(host) => break host,
                Err(error) => assert!(error.is_panic() && began.elapsed() < SOON, "{error}"),
            }
            sleep(Duration::from_millis(50)).await;
        };
        edge_host.until_up().await;
        revived.until_up().await;
        edge_host.transport.send(strong.key(), execute(edge.key(), 1, 1_000)).expect("there is room");
        revived.until("it arrives", |_| (revived.arrived().len() == 1).then_some(())).await;
    }
}

/// Seconds by which the clock of a peer is ahead of the test's own.
static AHEAD: AtomicU64 = AtomicU64::new(7_200);

fn jumping() -> Nanos {
    clock() + Nanos::from_secs(AHEAD.load(Ordering::Relaxed))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_whose_clock_jumps_is_no_stranger() {
    let (edge, strong) = (Ground::new(), Ground::new());
    strong.knows(edge.key(), None);
    let strong = strong.start_by(jumping, |_| {});
    edge.knows(strong.key(), Some(strong.address()));
    let edge = edge.start(|_| {});
    edge.until_up().await;
    strong.until_up().await;
    for (n, ahead) in [7_200, 10_800, 3_600].into_iter().enumerate() {
        AHEAD.store(ahead, Ordering::Relaxed);
        edge.until("it knows the other's clock", |_| {
            let offset = edge.transport.status()[0].estimate?.clock_offset_nanos;
            (offset.abs_diff(ahead as i64 * 1_000_000_000) < 50_000_000).then_some(())
        })
        .await;
        for (from, to) in [(&edge, &strong), (&strong, &edge)] {
            from.transport.send(to.key(), execute(from.key(), n as u64, 1_000)).expect("the session stands");
            to.until("it arrives", |_| (to.arrived().len() == n + 1).then_some(())).await;
        }
    }
    for host in [&edge, &strong] {
        assert_eq!(host.count(|h| matches!(h, Happening::Down { .. })), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_dial_each_other_have_one_session() {
    for carrier in BOTH {
        for _ in 0..5 {
            let (a, b) = (Ground::new(), Ground::new());
            // Both learn of each other at the same refresh.
            let (a_host, b_host) = (a.start(|s| s.carrier = carrier), b.start(|s| s.carrier = carrier));
            a.knows(b.key(), Some(b_host.address()));
            b.knows(a.key(), Some(a_host.address()));
            a_host.until_up().await;
            b_host.until_up().await;
            sleep(Duration::from_millis(400)).await;
            for host in [&a_host, &b_host] {
                assert_eq!(host.count(|h| matches!(h, Happening::Up { .. })), 1, "{carrier:?}");
                assert_eq!(host.count(|h| matches!(h, Happening::Down { .. })), 0, "{carrier:?}");
            }
            a_host.transport.send(b.key(), execute(a.key(), 1, 10)).expect("there is room");
            b_host.until("it arrives", |_| (b_host.arrived().len() == 1).then_some(())).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_with_one_identity_one_keeps_the_link() {
    for carrier in BOTH {
        let (edge, strong) = (Ground::new(), Ground::new());
        strong.knows(edge.key(), None);
        let strong = strong.start(|s| s.carrier = carrier);
        edge.knows(strong.key(), Some(strong.address()));
        let copies = [(); 2].map(|()| edge.start(|s| s.carrier = carrier));
        let sessions = || strong.count(|h| matches!(h, Happening::Up { .. }));
        // The first few replace each other within a second, since any of them could be a host that has crashed.
        strong.until("they replace each other", |_| (sessions() > 2).then_some(())).await;
        sleep(Duration::from_secs(4)).await;
        let settled = sessions();
        sleep(Duration::from_secs(4)).await;
        assert_eq!(sessions(), settled, "{carrier:?}: they go on replacing each other");
        let is_up = |host: &host::Host| host.transport.status()[0].up;
        let (served, left): (Vec<_>, Vec<_>) = copies.into_iter().partition(is_up);
        assert_eq!((served.len(), left.len()), (1, 1), "{carrier:?}");
        served[0].transport.stop().await;
        left[0].until("the other one is let in", |_| is_up(&left[0]).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_one_machine_the_choice_is_tcp_and_without_tcp_quic() {
    let (edge, _strong) = pair(CarrierChoice::Auto).await;
    assert_eq!(edge.transport.status()[0].carrier, Some(Carrier::Tcp));
    let (edge, strong) = (Ground::new(), Ground::new());
    strong.knows(edge.key(), None);
    let strong = strong.start(|s| s.carrier = CarrierChoice::Quic);
    edge.knows(strong.key(), Some(strong.address()));
    let edge = edge.start(|s| s.carrier = CarrierChoice::Auto);
    edge.until_up().await;
    assert_eq!(edge.transport.status()[0].carrier, Some(Carrier::Quic));
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_rights_come_with_a_new_session() {
    let (edge, strong) = pair(CarrierChoice::Tcp).await;
    let mut peer = strong.ground.store.get(&edge.key()).expect("it is paired");
    peer.rights.execute = false;
    strong.ground.store.put(peer).expect("there is room");
    strong
        .until("it is up on new terms", |log| {
            log.iter().any(|h| matches!(h, Happening::Up { rights, .. } if !rights.execute)).then_some(())
        })
        .await;
    assert_eq!(strong.count(|h| matches!(h, Happening::Up { .. })), 2);
}
