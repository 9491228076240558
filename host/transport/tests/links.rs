//! Sessions over an emulated link: what estimates say, and what faults do.

mod host;

use bps_emulator::{Conditions, Direction, Fault, Loss, Proxy, ProxyConditions};
use bps_transport::{CarrierChoice, Estimate, Happening};
use bps_types::Nanos;
use host::{Host, SOON, execute, pair_through};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::time::sleep;

const BOTH: [CarrierChoice; 2] = [CarrierChoice::Tcp, CarrierChoice::Quic];
const ACTIVATION_BYTES: usize = 200_000;

fn link(megabits: f64, rtt_ms: u64, loss: Loss) -> ProxyConditions {
    let link = Conditions { loss, ..Conditions::link(Some(megabits * 1e6), Nanos::from_millis(rtt_ms)) };
    ProxyConditions { link, fault: Fault::None }
}

async fn through(carrier: CarrierChoice, conditions: ProxyConditions) -> (Host, Host, Proxy) {
    let mut proxy = None;
    let (edge, strong) = pair_through(
        |s| (s.carrier, s.in_flight_bytes_max) = (carrier, 1 << 20),
        |target| {
            let proxy = proxy.insert(Proxy::start(target).expect("a port"));
            proxy.set(conditions);
            proxy.address()
        },
    )
    .await;
    (edge, strong, proxy.expect("it was dialled"))
}

/// Activations for as long as there is room, until told to stop; how many were accepted.
fn traffic(edge: &Host, strong: &Host) -> (Arc<AtomicBool>, tokio::task::JoinHandle<u64>) {
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, transport, from, to) = (stop.clone(), edge.transport.clone(), edge.key(), strong.key());
    let task = tokio::spawn(async move {
        let mut accepted = 0;
        while !stopped.load(Ordering::Relaxed) {
            match transport.send(to, execute(from, accepted, ACTIVATION_BYTES)) {
                Ok(_) => accepted += 1,
                Err(_) => sleep(Duration::from_millis(2)).await,
            }
        }
        accepted
    });
    (stop, task)
}

fn estimate(host: &Host) -> Estimate {
    host.transport.status()[0].estimate.unwrap_or_default()
}

/// How long until the speed is in `range` (bytes per second).
async fn until_speed(host: &Host, range: std::ops::Range<f32>) -> Duration {
    let began = Instant::now();
    while !range.contains(&estimate(host).bytes_per_second) {
        assert!(began.elapsed() < SOON, "{:?} never in {range:?}", estimate(host));
        sleep(Duration::from_millis(5)).await;
    }
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drop_of_the_rate_shows_at_once_in_traffic() {
    for carrier in BOTH {
        let (edge, strong, proxy) = through(carrier, link(100.0, 10, Loss::None)).await;
        let (stop, task) = traffic(&edge, &strong);
        sleep(Duration::from_millis(700)).await;
        // Less where this machine is too busy to fill the link, but never more than the link has.
        until_speed(&edge, 5e6..14e6).await;
        let before = estimate(&edge).bytes_per_second;
        proxy.set(link(10.0, 10, Loss::None));
        let down = until_speed(&edge, 0.5e6..3.2e6).await;
        stop.store(true, Ordering::Relaxed);
        let accepted = task.await.expect("no panic");
        eprintln!(
            "{carrier:?}: {before:.2e} bytes per second, the drop seen after {down:?}; {accepted} activations, {:?}",
            estimate(&edge)
        );
        assert!(down < Duration::from_millis(700), "{carrier:?}: {down:?}");
        assert!(estimate(&edge).rtt >= Nanos::from_millis(9), "{:?}", estimate(&edge));
        // Hosts of one process have one clock; the link delays both ways alike.
        assert!(estimate(&edge).clock_offset_nanos.abs() < 20_000_000, "{:?}", estimate(&edge));
        assert_eq!(edge.count(|h| matches!(h, Happening::Down { .. })), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_link_is_measured_by_probes() {
    for carrier in BOTH {
        let (edge, _strong, _proxy) = through(carrier, link(20.0, 10, Loss::None)).await;
        let seen = until_speed(&edge, 1.2e6..4e6).await;
        eprintln!("{carrier:?}: seen after {seen:?}, {:?}", estimate(&edge));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn quic_holds_its_rate_where_packets_are_lost() {
    let (edge, strong, _proxy) = through(CarrierChoice::Quic, link(100.0, 40, Loss::Random(0.01))).await;
    let (stop, task) = traffic(&edge, &strong);
    sleep(Duration::from_secs(2)).await;
    let (before, began) = (strong.arrived().len(), Instant::now());
    sleep(Duration::from_secs(3)).await;
    let goodput = ((strong.arrived().len() - before) * ACTIVATION_BYTES) as f64 / began.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    task.await.expect("no panic");
    eprintln!("goodput {:.1} Mbit/s, {:?}", goodput * 8e-6, estimate(&edge));
    // The goal is 60 Mbit/s, which a busy machine does not reach in a debug build. Loss-based control reaches 3.
    assert!(goodput > 15e6 / 8.0, "{goodput} bytes per second");
    assert_eq!(edge.count(|h| matches!(h, Happening::Down { .. })), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_end_the_session_and_it_comes_back_when_they_do() {
    for carrier in BOTH {
        for fault in [Fault::Swallow, Fault::Cut, Fault::Stall] {
            let (edge, strong, proxy) = through(carrier, ProxyConditions::default()).await;
            proxy.set(ProxyConditions { fault, ..ProxyConditions::default() });
            let began = Instant::now();
            let reason = edge.until_down().await;
            strong.until_down().await;
            eprintln!("{carrier:?}, {fault:?}: {reason:?} after {:?}", began.elapsed());
            assert!(began.elapsed() < Duration::from_millis(1_500), "{carrier:?}, {fault:?}: {:?}", began.elapsed());
            proxy.set(ProxyConditions::default());
            edge.until_up().await;
            strong.until_up().await;
            edge.transport.send(strong.key(), execute(edge.key(), 1, 1_000)).expect("it is up");
            strong.until("it arrives", |_| (strong.arrived().len() == 1).then_some(())).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn corrupted_bytes_are_never_believed() {
    for carrier in BOTH {
        let (edge, strong, proxy) = through(carrier, ProxyConditions::default()).await;
        for n in 0..20 {
            proxy.corrupt(Direction::ToTarget);
            // Down is possible at any moment here.
            let _ = edge.transport.send(strong.key(), execute(edge.key(), n, 50_000));
            sleep(Duration::from_millis(30)).await;
        }
        edge.until_up().await;
        strong.until_up().await;
        for message in strong.arrived() {
            let bps_wire::Message::Execute(e) = &message else { panic!("{message:?}") };
            assert_eq!(message, execute(edge.key(), e.dispatch, 50_000));
        }
    }
}
