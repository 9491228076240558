//! Decisions of the policies that come with bps on a fixed corpus. They change only on purpose, and a component that was
//! rebuilt with another toolchain (`bash plugins/build --check`) must make the same.

#![expect(clippy::expect_used, reason = "a test says what it expected")]

use bps_plugin::{Corpus, GuestLimits, PolicyEngine, prebuilt};
use bps_sched::Policy;
use sha2::{Digest, Sha256};
use std::path::PathBuf;

/// (policy, configuration, SHA-256 over its decisions)
const GOLDEN: &str = include_str!("golden/decisions.txt");

/// The component under test: the rebuilt one where there is one, else the committed one.
fn component(name: &str) -> Vec<u8> {
    let rebuilt = std::env::var_os("BPS_REBUILT_POLICIES").map(PathBuf::from);
    let rebuilt = rebuilt.and_then(|folder| std::fs::read(folder.join(format!("{name}.wasm"))).ok());
    rebuilt.unwrap_or_else(|| prebuilt::find(name).expect("a known policy").wasm.to_vec())
}

#[test]
fn decisions_are_the_golden_ones() {
    let decide_deadline = std::time::Duration::from_millis(500);
    let engine = PolicyEngine::new(GuestLimits { decide_deadline, ..GuestLimits::default() }).expect("an engine");
    let corpus = Corpus::synthetic(42, 400);
    let mut found = String::new();
    for line in GOLDEN.lines() {
        let (name, rest) = line.split_once(' ').expect("name, config, hash");
        let (config, _) = rest.rsplit_once(' ').expect("config, hash");
        let mut policy = engine.load(&component(name)).expect(name).instantiate(config, 7).expect(config);
        policy.world_changed(&corpus.world).expect("told");
        corpus.tables.iter().try_for_each(|table| policy.table_changed(table)).expect("told");
        let mut hash = Sha256::new();
        for snapshot in &corpus.snapshots {
            hash.update(format!("{:?}\n", policy.decide(snapshot).expect("decided")));
        }
        let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        found.push_str(&format!("{name} {config} {hash}\n"));
    }
    assert_eq!(found, GOLDEN, "if the change is meant, tests/golden/decisions.txt becomes the left side");
}
