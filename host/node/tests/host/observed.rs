//! What a host shows about itself.

use crate::stand::{image, infer, settled, start};
use bps_node::{InferCall, PolicyEntryState, Verdict};

#[tokio::test(flavor = "multi_thread")]
async fn metrics_statistics_and_receipts_tell_the_same_story() {
    let host = start(|_| {}).await;
    for seed in 0..5 {
        infer(&host, image(seed, 2)).await.unwrap();
    }
    infer(&host, image(1, 40)).await.unwrap_err();
    host.infer(InferCall { model: "nobody".into(), ..InferCall::default() }).await.unwrap_err();
    settled(&host).await;
    let text = host.render_metrics();
    for line in [
        "bps_requests_total{model=\"digits\",outcome=\"ok\"} 5",
        "bps_requests_total{model=\"digits\",outcome=\"invalid\"} 1",
        "bps_requests_total{model=\"\",outcome=\"not-found\"} 1",
        "bps_request_seconds_count{model=\"digits\"} 5",
        "bps_batch_rows_sum{model=\"digits\"} 10",
        "bps_device_up{device=\"cpu\"} 1",
        "bps_policy_info{name=\"bps\",",
        "nv_inference_request_success{model=\"digits\",version=\"1\"} 5",
        "nv_inference_request_failure{model=\"digits\",version=\"1\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let stats = &host.model_stats(None, None).unwrap()[0];
    assert_eq!((stats.inference_count, stats.execution_count), (10, 5));
    let times = stats.inference_stats;
    let parts = times.queue.ns + times.compute_input.ns + times.compute_infer.ns + times.compute_output.ns;
    assert_eq!((times.success.count, parts), (5, times.success.ns));
    let receipts = host.receipts(3);
    assert_eq!(receipts.len(), 3);
    let last = &receipts[2];
    assert_eq!((last.policy.name.as_str(), &*last.model, last.rows), ("bps", "digits", 2));
    assert_eq!(last.verdict, Verdict::Done);
    assert!(last.stages[0].measured.is_some());
    assert!(host.devices()[0].busy_seconds > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_is_of_the_active_policy() {
    let host = start(|_| {}).await;
    let status = host.policy_status();
    assert_eq!((status.decide.count, status.swaps, status.last_pause_us), (0, 0, None), "a start is no swap");
    infer(&host, image(1, 1)).await.unwrap();
    let status = host.policy_status();
    assert!(status.decide.count > 0, "who has been answered finds the decision counted");
    assert_eq!((status.active.name.as_str(), status.generation, status.state.as_str()), ("bps", 1, "stable"));
    assert_eq!(status.ledger, host.ledger());
    let active: Vec<_> = host.policies().into_iter().filter(|p| p.state == PolicyEntryState::Active).collect();
    assert_eq!((active.len(), active[0].digest.as_str()), (1, status.active.digest.as_str()));
    assert!(host.policies().iter().all(|p| p.origin == "prebuilt" && !p.summary.is_empty()));
    assert!(host.render_metrics().contains("bps_swaps_total 0"));
    host.swap_policy(crate::swaps::to("round-robin")).await.unwrap();
    let status = host.policy_status();
    assert_eq!((status.generation, status.decide.count, status.swaps), (2, 0, 1), "counted anew");
    infer(&host, image(1, 1)).await.unwrap();
    assert!(host.policy_status().decide.count > 0);
    assert!(host.render_metrics().contains("bps_swaps_total 1"));
    settled(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_replays_to_the_same_decisions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.bpsrec");
    let host = start(|c| c.record = Some(path.clone())).await;
    for seed in 0..20 {
        infer(&host, image(seed, 1)).await.unwrap();
    }
    host.swap_policy(crate::swaps::to("round-robin")).await.unwrap();
    for seed in 0..20 {
        infer(&host, image(seed, 1)).await.unwrap();
    }
    settled(&host).await;
    host.drain().await;
    drop(host);
    let reader = bps_plugin::recording::Reader::open(&path).unwrap();
    let engine = bps_plugin::PolicyEngine::new(bps_plugin::GuestLimits::default()).unwrap();
    let report = bps_plugin::recording::replay(reader, &engine);
    assert!(report.is_identical(), "{report:?}");
}
