//! The figures of `bps bench link` are made, for every carrier; what they are is not judged here.

use bps_transport::CarrierChoice;
use bps_transport::bench::{echo_link, echo_raw_tls};

#[tokio::test(flavor = "multi_thread")]
async fn echoes_come_back() {
    let rounds = 200;
    let bare = echo_raw_tls(200_000, rounds).await.expect("loopback works");
    let mut shown = format!("bare TLS p50 {:?}", bare.quantile(0.5));
    for carrier in [CarrierChoice::Tcp, CarrierChoice::Quic] {
        let echoes = echo_link(carrier, 200_000, rounds).await.expect("loopback works");
        assert_eq!(echoes.round_trips.len(), rounds);
        assert!(echoes.quantile(0.0) <= echoes.quantile(1.0) && echoes.quantile(0.5) > std::time::Duration::ZERO);
        let cost = echoes.processor_seconds_per_gigabyte();
        let ratio = echoes.quantile(0.5).as_secs_f64() / bare.quantile(0.5).as_secs_f64();
        shown += &format!("; {carrier:?} p50 {:?} ({ratio:.2}x), {cost:.2?} s/GB", echoes.quantile(0.5));
    }
    eprintln!("{shown}; bare {:.2?} s/GB", bare.processor_seconds_per_gigabyte());
}
