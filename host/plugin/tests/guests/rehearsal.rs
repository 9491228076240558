//! What a rehearsal rejects.

use super::CHAOS;
use bps_plugin::{Corpus, LoadStage, StateCarried};

#[test]
fn what_is_rejected_and_why() {
    let corpus = Corpus::synthetic(2, 1_000);
    // (config, a word of the reason)
    let cases = [
        (r#"{"mode":"unreachable","after":500}"#, "decide at snapshot 500"),
        (r#"{"mode":"loop","after":3}"#, "deadline"),
        (r#"{"mode":"random"}"#, "invalid"),
        (r#"{"mode":"out-of-range"}"#, "queue"),
        (r#"{"mode":"duplicate"}"#, "twice"),
        (r#"{"mode":"never"}"#, "never dispatched"),
        (r#"{"mode":"defer"}"#, "never dispatched"),
        (r#"{"mode":"leak"}"#, "memory grows"),
        (r#"{"mode":"trap-save"}"#, "chaos in save"),
        (r#"{"mode":"trap-restore"}"#, "chaos in restore"),
        (r#"{"mode":"trap-world"}"#, "chaos in world-changed"),
        (r#"{"mode":"huge-save"}"#, "oversize"),
    ];
    for (config, word) in cases {
        let error = CHAOS.rehearse(config, 1, &corpus).expect_err(config);
        assert_eq!(error.stage, LoadStage::Rehearsed, "{config}: {error}");
        assert!(error.reason.contains(word), "{config}: {error}");
    }
    assert_eq!(CHAOS.rehearse("{", 1, &corpus).expect_err("config").stage, LoadStage::Configured);
}

#[test]
fn what_waits_until_after_the_rehearsal_passes() {
    let report = CHAOS.rehearse(r#"{"mode":"unreachable","after":100000}"#, 1, &Corpus::synthetic(2, 1_000));
    let report = report.expect("good for long enough");
    assert_eq!((report.snapshots, report.state), (1_000, StateCarried::Carried));
    assert!(report.decide_ns_p50 <= report.decide_ns_p99 && report.decide_ns_p99 <= report.decide_ns_max);
}
