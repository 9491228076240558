//! Guests that break the component ABI.

use super::raw::Raw;
use super::{CORPUS, ENGINE, told};
use bps_plugin::LoadStage;
use bps_sched::{FaultClass, Policy};
use bps_types::Nanos;
use bps_types::policy::{Decision, Dispatch, Join, Selection, Stage};
use std::time::{Duration, Instant};

#[test]
fn a_raw_guest_is_a_policy_like_any_other() {
    let loaded = ENGINE.load(&Raw { decide: "i32.const 832", ..Raw::default() }.build()).expect("loads");
    assert_eq!((loaded.manifest().name.as_str(), loaded.manifest().version.as_str()), ("raw", "1.2.3"));
    let stages = vec![Stage { device: 9, until_cut: 8, codec: 7, rate: 6 }];
    let ids = vec![41, 42 | 1 << 32];
    let requests = Selection::These(ids.clone());
    let dispatch = Dispatch { queue: 5, requests, stages, micro_batch: 3, tag: 0x4444_3333_2222_1111, why: 6 };
    let joins = vec![Join { arrived: 11, take_rows: 12 }];
    let expected = Decision { dispatches: vec![dispatch], joins, shed: ids, wake_after: Some(Nanos(77)) };
    assert_eq!(told(&loaded, "").decide(&CORPUS.snapshots[1]), Ok(expected), "every field of a decision");
}

/// A decision at 2048 with these words.
fn store(words: [(u32, i32); 2]) -> String {
    let stores = words.map(|(at, word)| format!("(i32.store (i32.const {}) (i32.const {word}))", 2048 + at));
    format!("{} i32.const 2048", stores.concat())
}

#[test]
fn results_that_break_the_abi() {
    let bad_selection = "(i32.store (i32.const 900) (i32.const 9)) i32.const 832".to_owned();
    // (what, body of decide)
    let cases = [
        ("misaligned result pointer", "i32.const 769".to_owned()),
        ("result pointer out of bounds", "i32.const -16".to_owned()),
        ("list length 2^32-1 of dispatches", store([(0, 896), (4, -1)])),
        ("list length 2^32-1 of ids", store([(16, 896), (20, -1)])),
        ("misaligned list", store([(0, 897), (4, 1)])),
        ("list out of bounds", store([(16, 131_064), (20, 2)])),
        ("discriminant 9 of a selection", bad_selection),
        ("discriminant 2 of an option", store([(24, 2), (28, 0)])),
    ];
    for (what, decide) in cases {
        let bytes = Raw { decide: decide.leak(), ..Raw::default() }.build();
        let mut policy = told(&ENGINE.load(&bytes).expect(what), "");
        let fault = policy.decide(&CORPUS.snapshots[1]).expect_err(what);
        assert!(matches!(fault.class, FaultClass::Abi | FaultClass::Oversize), "{what}: {fault}");
        assert_eq!(policy.dead(), Some(&fault));
    }
}

#[test]
fn allocators_that_lie() {
    // (what, body, whether a call fails): address 0 is memory like any other, the rest is not
    let cases = [
        ("out of bounds", "i32.const -8", true),
        ("misaligned", "i32.const 4097", true),
        ("traps", "unreachable", true),
        ("returns 0", "i32.const 0", false),
    ];
    for (what, realloc, fails) in cases {
        let loaded = ENGINE.load(&Raw { realloc, ..Raw::default() }.build()).expect(what);
        // The configuration is the first thing that is written into the guest.
        let instance = loaded.instantiate("{\"some\": \"configuration\"}", 1);
        let decided = instance.map(|mut policy| policy.decide(&CORPUS.snapshots[1]).is_ok());
        assert_eq!(decided != Ok(true), fails, "{what}: {decided:?}");
    }
}

#[test]
fn guests_that_are_not_admitted() {
    let cases = [
        ("traps in describe", Raw { describe: "unreachable", ..Raw::default() }, "unreachable"),
        ("loops in describe", Raw { describe: "(loop $l (br $l)) i32.const 0", ..Raw::default() }, "deadline"),
        (
            "invalid UTF-8 in its name",
            Raw { describe: "(i32.store8 (i32.const 129) (i32.const 255)) i32.const 256", ..Raw::default() },
            "utf-8",
        ),
        (
            "an upper-case name",
            Raw { describe: "(i32.store8 (i32.const 128) (i32.const 82)) i32.const 256", ..Raw::default() },
            "name \"Raw\"",
        ),
        (
            "an endless start function",
            Raw { extra: "(func $s (loop $l (br $l))) (start $s)", ..Raw::default() },
            "deadline",
        ),
        (
            "a start function that traps",
            Raw { extra: "(func $s unreachable) (start $s)", ..Raw::default() },
            "unreachable",
        ),
        ("4 GiB of initial memory", Raw { memory: "65536", ..Raw::default() }, "memory"),
        ("a huge table", Raw { extra: "(table 10000000 funcref)", ..Raw::default() }, "table"),
    ];
    for (what, raw, word) in cases {
        let started = Instant::now();
        let error = ENGINE.load(&raw.build()).expect_err(what);
        assert_eq!(error.stage, LoadStage::Admitted, "{what}: {error}");
        assert!(error.reason.to_lowercase().contains(&word.to_lowercase()), "{what}: {error}");
        assert!(started.elapsed() < Duration::from_secs(10), "{what} took {:?}", started.elapsed());
    }
}

#[test]
fn a_result_that_is_no_result() {
    let configure = "(i32.store8 (i32.const 512) (i32.const 7)) i32.const 512";
    let loaded = ENGINE.load(&Raw { configure, ..Raw::default() }.build()).expect("loads");
    assert_eq!(loaded.instantiate("", 1).expect_err("discriminant 7").stage, LoadStage::Configured);
}
