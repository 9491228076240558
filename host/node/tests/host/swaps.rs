//! Policies that are exchanged while requests are in flight.

use crate::stand::{call, chaos, image, infer, no_probation, settled, start, until, values};
use bps_node::{Host, PolicyEntryState, SwapError, SwapRequest};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) fn to(policy: &str) -> SwapRequest {
    SwapRequest { policy: policy.into(), rehearse: false, ..SwapRequest::default() }
}

fn resident_bytes() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(text.split(' ').nth(1)?.parse::<usize>().ok()? * 4096)
}

/// Clients that ask until told to stop; each gives the number of its answers.
fn clients(host: &Host, count: usize, stop: &Arc<AtomicBool>) -> Vec<tokio::task::JoinHandle<u64>> {
    (0..count)
        .map(|client| {
            let (host, stop) = (host.clone(), stop.clone());
            tokio::spawn(async move {
                let expected = values(&infer(&host, image(client, 1)).await.unwrap());
                let mut answers = 1;
                while !stop.load(Ordering::Relaxed) {
                    let reply = host.infer(call(&host, image(client, 1))).await.expect("no request is lost");
                    crate::stand::assert_close(&values(&reply), &expected);
                    answers += 1;
                }
                answers
            })
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_swaps_under_load_lose_nothing() {
    let host = start(no_probation).await;
    let stop = Arc::new(AtomicBool::new(false));
    let clients = clients(&host, 6, &stop);
    let names = ["bps", "round-robin", "local-only"];
    let mut resident = None;
    let mut generation = 1;
    for swap in 1..=1_000 {
        let report = host.swap_policy(to(names[swap % 3])).await.unwrap();
        assert_eq!(report.to.name, names[swap % 3]);
        assert!(report.generation > generation);
        generation = report.generation;
        if swap == 100 {
            resident = resident_bytes();
        }
    }
    let grown = resident_bytes().zip(resident).map_or(0, |(after, before)| after.saturating_sub(before));
    stop.store(true, Ordering::Relaxed);
    let mut answers = 0;
    for client in clients {
        answers += client.await.unwrap();
    }
    let ledger = settled(&host).await;
    assert_eq!((ledger.submitted, ledger.answered), (answers, answers), "each request once: {ledger:?}");
    assert_eq!((ledger.stale, ledger.late, ledger.retried), (0, 0, 0));
    assert!(grown < 64 << 20, "900 swaps left {grown} bytes behind");
    assert!(host.policy_status().swaps >= 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_component_is_refused_with_its_stage() {
    let host = start(|_| {}).await;
    let good = bps_plugin::prebuilt::find("local-only").unwrap().wasm;
    let core_module = vec![0, b'a', b's', b'm', 1, 0, 0, 0];
    for bytes in [b"nonsense".to_vec(), good[..good.len() / 2].to_vec(), core_module, vec![]] {
        let rejected = host.load_policy(bytes, "upload".into()).await.unwrap_err();
        assert!(!rejected.stage.is_empty() && !rejected.reason.is_empty(), "{rejected:?}");
    }
    let is_rejected = |p: &bps_node::PolicyEntry| matches!(p.state, PolicyEntryState::Rejected { .. });
    assert_eq!(host.policies().iter().filter(|p| is_rejected(p)).count(), 1, "one line for each origin");
    assert!(matches!(host.swap_policy(to("nobody")).await, Err(SwapError::NotFound(_))));
    let bad_config = SwapRequest { config: "{\"no-such-field\": 1}".into(), ..to("round-robin") };
    let error = host.swap_policy(bad_config).await.unwrap_err();
    assert_eq!(error.stage(), Some("configured"), "{error}");
    assert_eq!(host.policy_status().active.name, "bps", "the old one decides");
    infer(&host, image(1, 1)).await.unwrap();
    settled(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_takes_the_name_of_a_built_in_policy_is_marked() {
    let host = start(|_| {}).await;
    let known = host.policies();
    assert!(known.iter().all(|p| p.shadows.is_none()), "{known:?}");
    let built_in = known.into_iter().find(|p| p.name == "round-robin").unwrap().digest;
    let mut bytes = bps_plugin::prebuilt::find("round-robin").unwrap().wasm.to_vec();
    let again = host.load_policy(bytes.clone(), "upload".into()).await.unwrap();
    assert_eq!((again.origin.as_str(), again.shadows), ("prebuilt", None), "the very same");
    bytes.extend([0, 5, 4, b't', b'e', b's', b't']); // a custom section makes it another component
    let taker = host.load_policy(bytes, "upload".into()).await.unwrap();
    assert_eq!(taker.shadows.as_ref(), Some(&built_in));
    let marked: Vec<_> = host.policies().into_iter().filter(|p| p.shadows.is_some()).map(|p| p.digest).collect();
    assert_eq!(marked, [taker.digest.as_str()]);
    assert_eq!(host.swap_policy(to("round-robin")).await.unwrap().to.digest, taker.digest);
    assert_eq!(host.swap_policy(to(&built_in[..12])).await.unwrap().to.digest, built_in);
    settled(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_fails_its_rehearsal_never_decides() {
    let host = start(|_| {}).await;
    host.load_policy(chaos(), "upload".into()).await.unwrap();
    for mode in ["loop", "unreachable", "random", "never", "leak"] {
        let config = format!("{{\"mode\": \"{mode}\"}}");
        let request = SwapRequest { config, rehearse: true, ..to("chaos") };
        let error = host.swap_policy(request).await.unwrap_err();
        assert_eq!(error.stage(), Some("rehearsed"), "{mode}: {error}");
    }
    let status = host.policy_status();
    assert_eq!((status.active.name.as_str(), status.generation), ("bps", 1));
    match host.swap_policy(SwapRequest { rehearse: true, ..to("round-robin") }).await {
        Ok(report) => assert!(report.rehearsal.is_some_and(|text| text.contains("1000 snapshots"))),
        // A machine that is busy with something else makes every policy look slow.
        Err(error) => assert!(error.to_string().contains("rehearsed: slow"), "{error}"),
    }
    settled(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_three_swaps_at_once_one_is_told_to_wait() {
    let host = start(|_| {}).await;
    let swap = |name: &str| {
        let (host, request) = (host.clone(), to(name));
        async move { host.swap_policy(request).await }
    };
    let (a, b, c) = tokio::join!(swap("round-robin"), swap("local-only"), swap("batching"));
    assert_eq!(a.unwrap().to.name, "round-robin");
    assert_eq!(b.unwrap().to.name, "local-only", "it waited its turn");
    assert_eq!(c.unwrap_err(), SwapError::Busy);
    assert_eq!(host.policy_status().active.name, "local-only");
    settled(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_returns_to_the_one_before() {
    let host = start(|_| {}).await;
    assert!(matches!(host.rollback_policy().await, Err(SwapError::Refused(_))), "there is none before the first");
    let seeded = SwapRequest { seed: 9, ..to("round-robin") };
    host.swap_policy(seeded).await.unwrap();
    assert_eq!(host.policy_status().seed, 9);
    let standby = host.policies().into_iter().find(|p| p.state == PolicyEntryState::Standby).unwrap();
    assert_eq!(standby.name, "bps");
    infer(&host, image(1, 1)).await.unwrap();
    let report = host.rollback_policy().await.unwrap();
    assert_eq!((report.from.name.as_str(), report.to.name.as_str()), ("round-robin", "bps"));
    assert_eq!(report.rollback.as_deref(), Some("asked for"));
    let status = host.policy_status();
    assert_eq!((status.active.name.as_str(), status.seed), ("bps", 0));
    infer(&host, image(1, 1)).await.unwrap();
    until("it is settled", || host.ledger().answered == 2).await;
    settled(&host).await;
}
