//! The components that come with bps.

use super::{CORPUS, ENGINE, told};
use bps_plugin::{Corpus, StateCarried, prebuilt};
use bps_sched::Policy;

#[test]
fn each_is_what_its_record_says() {
    for known in prebuilt::all().iter().chain([&prebuilt::CHAOS]) {
        let loaded = ENGINE.load(known.wasm).unwrap_or_else(|error| panic!("{}: {error}", known.name));
        assert!(known.record.contains(&format!("component_sha256 = \"{}\"", loaded.digest())), "{}", known.name);
        assert!(known.record.contains(&format!("name = \"{}\"", loaded.manifest().name)));
        assert_eq!(loaded.size_bytes(), known.wasm.len());
        let ours = |name: &String| name.starts_with("bps:policy/");
        assert!(loaded.imports().iter().all(ours), "{:?}", loaded.imports());
        assert!(loaded.exports().iter().any(|name| name == "bps:policy/policy@0.1.0"));
        assert!(prebuilt::find(known.name).is_some());
    }
    for known in prebuilt::all() {
        assert_eq!(ENGINE.load(known.wasm).expect("loads").manifest().summary, known.summary);
    }
}

#[test]
fn each_passes_its_rehearsal() {
    let corpus = Corpus::synthetic(2, 1_000);
    for known in prebuilt::all() {
        let loaded = ENGINE.load(known.wasm).expect("loads");
        let report = loaded.rehearse("", 3, &corpus).unwrap_or_else(|error| panic!("{}: {error}", known.name));
        assert_eq!(report.invalid_rows, 0, "{}: {:?}", known.name, report.first_invalid);
        // By default `baselines` is one at a time, and most snapshots have something under way.
        let least = if known.name == "baselines" { 50 } else { 500 };
        assert!(report.rows > least, "{}: {} rows", known.name, report.rows);
        let learns = ["batching", "bps"].contains(&known.name);
        let expected = if learns { StateCarried::Carried } else { StateCarried::None };
        assert_eq!(report.state, expected, "{}", known.name);
    }
    let configs = [
        ("batching", r#"{"mode":"aimd"}"#),
        ("bps", r#"{"splits":false}"#),
        ("surgeon", r#"{"classic":true}"#),
        ("remote-only", r#"{"codec":"jpeg","batch_max":32}"#),
        ("baselines", r#"{"mode":"dads"}"#),
        ("baselines", r#"{"mode":"static"}"#),
        ("baselines", r#"{"mode":"greedy"}"#),
        ("baselines", r#"{"mode":"aimd"}"#),
    ];
    for (name, config) in configs {
        let loaded = ENGINE.load(prebuilt::find(name).expect("there").wasm).expect("loads");
        let report = loaded.rehearse(config, 3, &corpus).unwrap_or_else(|error| panic!("{name} {config}: {error}"));
        assert_eq!(report.invalid_rows, 0, "{name} {config}: {:?}", report.first_invalid);
    }
}

#[test]
fn metrics_are_kept() {
    let loaded = ENGINE.load(prebuilt::find("batching").expect("there").wasm).expect("loads");
    let mut policy = told(&loaded, "");
    assert!(policy.metrics().is_empty());
    policy.decide(&CORPUS.snapshots[1]).expect("decided");
    let outcome = bps_types::policy::Outcome {
        tag: 0,
        generation: 1,
        model: 1,
        rows: 7,
        wait: bps_types::Nanos(1),
        total: bps_types::Nanos(2),
        bytes: 0,
        stage_nanos: vec![5],
        stage_devices: vec![1],
        missed: 0,
        failed: 0,
    };
    policy.observe(&[outcome], 0).expect("told");
    assert_eq!(policy.metrics(), [(0, 7.0)]);
}
