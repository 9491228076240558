//! Guests, good and hostile: each ends as the host wants it to, within bounded time and without a panic.

#![expect(clippy::expect_used, clippy::panic, reason = "a test says what it expected")]

#[path = "guests/abi.rs"]
mod abi;
#[path = "guests/chaos.rs"]
mod chaos;
#[path = "guests/prebuilt.rs"]
mod prebuilt;
#[path = "guests/raw.rs"]
mod raw;
#[path = "guests/recording.rs"]
mod recording;
#[path = "guests/refused.rs"]
mod refused;
#[path = "guests/rehearsal.rs"]
mod rehearsal;
#[path = "guests/round_trip.rs"]
mod round_trip;

use bps_plugin::{Corpus, GuestLimits, LoadedPolicy, PolicyEngine, WasmPolicy};
use bps_sched::Policy;
use std::sync::LazyLock;
use std::time::Duration;

/// One engine and its ticker for all tests, as in production; its deadlines are far above what a busy machine needs, so
/// that only what never ends runs into them.
static ENGINE: LazyLock<PolicyEngine> = LazyLock::new(|| {
    let deadline = Duration::from_millis(500);
    let (decide_deadline, update_deadline, start_deadline) = (deadline, deadline, deadline);
    let limits = GuestLimits { decide_deadline, update_deadline, start_deadline, ..GuestLimits::default() };
    PolicyEngine::new(limits).expect("an engine")
});

/// The guest that misbehaves, compiled once.
static CHAOS: LazyLock<LoadedPolicy> =
    LazyLock::new(|| ENGINE.load(bps_plugin::prebuilt::CHAOS.wasm).expect("chaos loads"));

/// A world, tables and some snapshots.
static CORPUS: LazyLock<Corpus> = LazyLock::new(|| Corpus::synthetic(5, 80));

/// A configured instance that has been told the world.
fn told(loaded: &LoadedPolicy, config: &str) -> WasmPolicy {
    let mut policy = loaded.instantiate(config, 1).expect("configured");
    policy.world_changed(&CORPUS.world).expect("told the world");
    CORPUS.tables.iter().try_for_each(|table| policy.table_changed(table)).expect("told the tables");
    policy
}
