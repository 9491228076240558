//! Each way to misbehave that the guest `chaos` knows.

use super::{CHAOS, CORPUS, ENGINE, told};
use bps_plugin::{GuestLimits, LoadStage, PolicyEngine};
use bps_sched::{FaultClass, Policy};
use bps_types::policy::{Decision, Origin};
use std::time::{Duration, Instant};

/// Far above the deadlines, far below for ever: the machine may be busy.
const BOUNDED: Duration = Duration::from_secs(5);

fn origin() -> Origin {
    Origin { name: "chaos".into(), version: "0.1.0".into(), state_schema: "chaos-1".into() }
}

#[test]
fn what_ends_a_decision() {
    let cases = [
        ("loop", FaultClass::Deadline),
        ("recursion", FaultClass::Trap),
        ("unreachable", FaultClass::Trap),
        ("memory", FaultClass::Memory),
        ("huge-decision", FaultClass::Oversize),
        ("log-line", FaultClass::Oversize),
    ];
    for (mode, class) in cases {
        let mut policy = told(&CHAOS, &format!(r#"{{"mode":"{mode}","after":1}}"#));
        policy.decide(&CORPUS.snapshots[1]).expect("the first decision is good");
        let started = Instant::now();
        let fault = policy.decide(&CORPUS.snapshots[1]).expect_err(mode);
        assert_eq!(fault.class, class, "{mode}: {fault}");
        assert!(started.elapsed() < BOUNDED, "{mode} took {:?}", started.elapsed());
        assert_eq!(policy.decide(&CORPUS.snapshots[1]), Err(fault), "{mode}: a dead instance is not entered again");
    }
}

#[test]
fn the_default_deadline_ends_a_loop() {
    let engine = PolicyEngine::new(GuestLimits::default()).expect("an engine");
    let loaded = engine.load(bps_plugin::prebuilt::CHAOS.wasm).expect("loads");
    let started = Instant::now();
    let fault = told(&loaded, r#"{"mode":"loop"}"#).decide(&CORPUS.snapshots[1]).expect_err("loops");
    assert_eq!(fault.class, FaultClass::Deadline, "{fault}");
    assert!(started.elapsed() < BOUNDED);
}

#[test]
fn what_a_panic_said_reaches_the_fault() {
    let fault = told(&CHAOS, r#"{"mode":"unreachable"}"#).decide(&CORPUS.snapshots[1]).expect_err("panics");
    assert!(fault.message.contains("chaos in decide"), "{fault}");
}

#[test]
fn nonsense_is_an_answer_for_the_check_and_no_fault() {
    for mode in ["random", "out-of-range", "duplicate", "never", "defer", "oscillate", "leak", "log-flood", "empty"] {
        let mut policy = told(&CHAOS, &format!(r#"{{"mode":"{mode}"}}"#));
        for snapshot in &CORPUS.snapshots {
            policy.decide(snapshot).unwrap_or_else(|fault| panic!("{mode}: {fault}"));
        }
    }
}

#[test]
fn slow_within_the_deadline_is_no_fault() {
    let mut policy = told(&CHAOS, r#"{"mode":"slow","us":100}"#);
    policy.decide(&CORPUS.snapshots[1]).expect("slow, but in time");
}

#[test]
fn traps_outside_decide() {
    let world = &CORPUS.world;
    let start = |mode: &str| CHAOS.instantiate(&format!(r#"{{"mode":"{mode}"}}"#), 1).expect(mode);
    assert_eq!(start("trap-world").world_changed(world).expect_err("world").class, FaultClass::Trap);
    assert_eq!(start("trap-table").table_changed(&CORPUS.tables[0]).expect_err("table").class, FaultClass::Trap);
    assert_eq!(start("trap-observe").observe(&[], 0).expect_err("observe").class, FaultClass::Trap);
    assert_eq!(start("trap-save").save().expect_err("save").class, FaultClass::Trap);
    assert_eq!(start("trap-restore").restore(&origin(), &[0; 16]).expect_err("restore").class, FaultClass::Trap);
    assert_eq!(start("huge-save").save().expect_err("save").class, FaultClass::Oversize);
}

#[test]
fn refusals_are_not_faults() {
    let mut policy = told(&CHAOS, r#"{"mode":"refuse-save"}"#);
    assert_eq!(policy.save(), Ok(None));
    assert_eq!(policy.restore(&origin(), b"odd"), Ok(false));
    assert_eq!(policy.dead(), None);
    assert_ne!(policy.decide(&CORPUS.snapshots[1]), Ok(Decision::default()), "it serves on");
}

#[test]
fn what_ends_a_configuration() {
    // (config, a word of the reason)
    let cases = [
        (r#"{"mode":"trap-configure"}"#, "chaos in configure"),
        (r#"{"mode":"unsupported"}"#, "unsupported"),
        (r#"{"mode":"no-such-mode"}"#, "no-such-mode"),
        ("{", "line 1"),
    ];
    for (config, word) in cases {
        let error = CHAOS.instantiate(config, 1).expect_err(config);
        assert_eq!(error.stage, LoadStage::Configured, "{config}");
        assert!(error.reason.contains(word), "{config}: {error}");
    }
}

#[test]
fn a_flood_of_log_lines_costs_little() {
    let mut policy = told(&CHAOS, r#"{"mode":"log-flood"}"#);
    let started = Instant::now();
    (0..20).for_each(|_| drop(policy.decide(&CORPUS.snapshots[1]).expect("decided")));
    assert!(started.elapsed() < BOUNDED);
}

#[test]
fn one_guests_end_is_not_anothers() {
    let mut good = told(&CHAOS, "");
    let before = good.decide(&CORPUS.snapshots[1]).expect("decided");
    told(&CHAOS, r#"{"mode":"loop"}"#).decide(&CORPUS.snapshots[1]).expect_err("loops");
    assert_eq!(good.decide(&CORPUS.snapshots[1]).expect("decided"), before);
    assert!(ENGINE.load(bps_plugin::prebuilt::CHAOS.wasm).is_ok());
}
