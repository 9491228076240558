//! Policies that misbehave, that are dropped into a folder, and that come back after a restart.

use crate::stand::{chaos, chaos_choice, config, image, infer, no_probation, settled, start, until};
use crate::swaps::to;
use bps_node::{Host, HostConfig, PolicyChoice, PolicyEntryState, SwapError, SwapRequest};
use bps_types::Nanos;
use std::path::Path;
use std::time::Duration;

fn chaos_file(folder: &Path) -> String {
    let path = folder.join("chaos.wasm");
    std::fs::write(&path, chaos()).unwrap();
    path.to_string_lossy().into_owned()
}

async fn with_chaos(change: impl FnOnce(&mut HostConfig)) -> Host {
    let host = start(change).await;
    host.load_policy(chaos(), "upload".into()).await.unwrap();
    host
}

async fn forty_requests(host: &Host) {
    forty_requests_apart(host, Duration::ZERO).await;
}

/// What comes together is decided together; what comes apart asks the policy forty times.
async fn forty_requests_apart(host: &Host, apart: Duration) {
    let mut replies = vec![];
    for seed in 0..40 {
        let host = host.clone();
        replies.push(tokio::spawn(async move { infer(&host, image(seed, 1)).await }));
        if !apart.is_zero() {
            tokio::time::sleep(apart).await;
        }
    }
    for reply in replies {
        reply.await.unwrap().expect("whatever the policy does");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_misbehaves_on_probation_is_rolled_back() {
    let cases = [("loop", "deadline"), ("unreachable", "trap"), ("memory", "memory"), ("recursion", "trap")];
    for (mode, class) in cases {
        let host = with_chaos(|_| {}).await;
        let config = format!("{{\"mode\": \"{mode}\", \"after\": 3}}");
        host.swap_policy(SwapRequest { config, ..to("chaos") }).await.unwrap();
        forty_requests(&host).await;
        let ledger = settled(&host).await;
        assert_eq!(ledger.answered, 40, "{mode}");
        until("the fault is published", || host.policy_status().faults.values().sum::<u64>() > 0).await;
        let status = host.policy_status();
        assert_eq!(status.active.name, "bps", "{mode}: {status:?}");
        // On a machine that is busy enough, any of them may meet the deadline first.
        let blamed = [class, "deadline"].iter().any(|class| status.faults.contains_key(*class));
        assert!(blamed, "{mode}: {:?}", status.faults);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_invalid_are_refused_and_answered_for() {
    for mode in ["random", "out-of-range", "duplicate"] {
        let host = with_chaos(|_| {}).await;
        let config = format!("{{\"mode\": \"{mode}\"}}");
        host.swap_policy(SwapRequest { config, ..to("chaos") }).await.unwrap();
        forty_requests_apart(&host, Duration::from_millis(1)).await;
        let ledger = settled(&host).await;
        assert_eq!(ledger.answered, 40, "{mode}");
        assert!(ledger.invalid_rows > 0, "{mode}: {ledger:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_never_dispatches_has_stalled() {
    let host = with_chaos(|c| c.sched.stall_floor = Nanos::from_millis(30)).await;
    host.swap_policy(SwapRequest { config: "{\"mode\": \"never\"}".into(), ..to("chaos") }).await.unwrap();
    forty_requests(&host).await;
    assert_eq!(settled(&host).await.answered, 40);
    until("the stall is published", || host.policy_status().faults.contains_key("stall")).await;
    assert_eq!(host.policy_status().active.name, "bps");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_policy_that_keeps_failing_is_rebuilt_then_quarantined() {
    let folder = tempfile::tempdir().unwrap();
    let path = chaos_file(folder.path());
    let host = start(|c| {
        c.policy = PolicyChoice { name_or_path: path, ..chaos_choice("{\"mode\": \"unreachable\", \"after\": 1}") };
        c.sched.rebuild_backoff = Nanos::from_millis(2);
    })
    .await;
    let digest = host.policy_status().active.digest;
    let mut asked = 0;
    while host.policy_status().quarantined.is_empty() {
        assert!(asked < 2_000, "not quarantined: {:?}", host.policy_status());
        infer(&host, image(asked, 1)).await.unwrap();
        asked += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let status = host.policy_status();
    assert_eq!((status.active.digest.as_str(), status.state.as_str()), ("native", "fallback"));
    let error = host.swap_policy(to(&digest)).await.unwrap_err();
    assert!(matches!(error, SwapError::Quarantined { .. }), "{error:?}");
    let entry = host.policies().into_iter().find(|p| p.digest == digest).unwrap();
    assert!(matches!(entry.state, PolicyEntryState::Quarantined { .. }), "{entry:?}");
    infer(&host, image(1, 1)).await.expect("the fallback serves");
    host.swap_policy(to("batching")).await.expect("another policy is welcome");
    settled(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_in_component_becomes_available_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let host = start(|c| c.policies_dir = Some(folder.path().into())).await;
    std::fs::write(folder.path().join("broken.wasm"), b"nothing").unwrap();
    let path = chaos_file(folder.path());
    until("it is found", || host.policies().iter().any(|p| p.origin == path)).await;
    let entry = host.policies().into_iter().find(|p| p.origin == path).unwrap();
    assert_eq!((entry.name.as_str(), &entry.state), ("chaos", &PolicyEntryState::Available));
    let broken = host.policies().into_iter().find(|p| p.name == "broken.wasm");
    assert!(matches!(broken.map(|p| p.state), Some(PolicyEntryState::Rejected { .. })));
    assert_eq!(host.policy_status().active.name, "bps", "dropping in is not activating");
    host.swap_policy(to(&entry.digest[..8])).await.unwrap();
    infer(&host, image(1, 1)).await.unwrap();
    settled(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_in_component_is_activated_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let host = start(|c| {
        c.policies_dir = Some(folder.path().into());
        c.activate_on_drop = true;
    })
    .await;
    // It is rehearsed first, and on a busy machine that may have to be tried again: with each new copy it is.
    for _ in 0..10 {
        chaos_file(folder.path());
        let wait = Duration::from_secs(6);
        let decides = async { until("it decides", || host.policy_status().active.name == "chaos").await };
        if tokio::time::timeout(wait, decides).await.is_ok() {
            break;
        }
    }
    assert_eq!(host.policy_status().active.name, "chaos");
    infer(&host, image(1, 1)).await.unwrap();
    settled(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_without_its_policy_uses_the_last_good_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = chaos_file(folder.path());
    let state = folder.path().join("state");
    let mine = |path: &str| {
        let mut config = config();
        no_probation(&mut config);
        config.state_dir = Some(state.clone());
        let good = chaos_choice("{\"mode\": \"least-backlog\", \"stages\": 2}");
        config.policy = PolicyChoice { name_or_path: path.to_owned(), seed: 5, ..good };
        config
    };
    let host = Host::start(mine(&path)).await.unwrap();
    infer(&host, image(1, 1)).await.unwrap();
    let digest = host.policy_status().active.digest;
    until("it is kept", || state.join("policy/last-good.json").exists()).await;
    settled(&host).await;
    host.drain().await;

    std::fs::remove_file(&path).unwrap();
    let host = Host::start(mine(&path)).await.unwrap();
    let status = host.policy_status();
    assert_eq!((status.active.digest.as_str(), status.seed), (digest.as_str(), 5));
    assert!(status.config.contains("stages"), "{}", status.config);
    infer(&host, image(1, 1)).await.unwrap();
    settled(&host).await;
    host.drain().await;

    std::fs::write(state.join("policy").join(format!("{digest}.wasm")), b"damaged").unwrap();
    let error = Host::start(mine(&path)).await.err().unwrap().to_string();
    assert!(error.contains("no such file") && error.contains("last good"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_of_two_stages_on_two_devices_answers_the_same() {
    let one = start(|_| {}).await;
    let host = with_chaos(|c| c.devices = vec![crate::stand::device("cpu:2")]).await;
    host.swap_policy(SwapRequest { config: "{\"stages\": 2}".into(), ..to("chaos") }).await.unwrap();
    for seed in 0..10 {
        let (split, whole) = (infer(&host, image(seed, 2)).await.unwrap(), infer(&one, image(seed, 2)).await.unwrap());
        crate::stand::assert_close(&crate::stand::values(&split), &crate::stand::values(&whole));
    }
    assert!(host.receipts(10).iter().all(|r| r.stages.len() == 2), "{:?}", host.receipts(1));
    settled(&host).await;
    // The gauge follows the dispatcher's next look at itself.
    until("no output stays behind", || host.render_metrics().contains("bps_outputs_held 0")).await;
    settled(&one).await;
}
