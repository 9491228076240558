//! Write a scheduling policy for bps.
//!
//! A policy implements [`Policy`] and names itself with [`export_policy!`]; compiled for `wasm32-unknown-unknown` it is
//! a component of the world `learner` in `wit/policy.wit`. The same code compiles natively, where the trait is called
//! directly, so a policy is unit-tested without Wasm.
//!
//! What a policy is told lives in [`World`] (topology and cost tables) and [`Snapshot`] (the present); what it answers
//! is made with a [`DecisionBuilder`]. Units: nanoseconds, bytes, rows. Invariants: the same calls give the same
//! answers (no clock, no randomness beyond the seed, no hash-map iteration), and a panic reaches the host's log before
//! the instance dies.

#[doc(hidden)]
#[path = "bindings.rs"]
pub mod __bindings;
#[doc(hidden)]
#[path = "export.rs"]
pub mod __export;
mod config;
mod costs;
mod decision;
mod host;
mod snapshot;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
mod world;

pub use __bindings::bps::policy::types::{
    Arrived, CodecInfo, ConfigError, Decision, Device, DeviceInfo, DeviceKind, Dispatch, HostInfo, Join, Level, Link,
    Manifest, ModelInfo, Origin, Outcome, Queue, Selection, Snapshot, Stage, Table, TableKind, Trigger, WorldInfo,
};
pub use config::{NoConfig, parse_config};
pub use costs::{Costs, TABLE_BATCHES, economical_rows};
pub use decision::{DecisionBuilder, Run};
pub use host::{log, metric};
pub use snapshot::{DeviceRoom, QueueView, Request, Room};
pub use world::World;

/// Nanoseconds since the run began, or a span of them.
pub type Nanos = u64;

/// No deadline, in a slack column.
pub const NO_DEADLINE: i64 = i64::MAX;

/// What a policy is. The host calls `manifest` first, `configure` once, and then the rest in any order.
pub trait Policy: Sized {
    /// Who this is.
    fn manifest() -> Manifest;

    /// A configured instance. `config` is JSON text (see [`parse_config`]); `seed` is the only source of randomness.
    fn configure(config: &str, seed: u64) -> Result<Self, ConfigError>;

    /// The topology changed. Ids from before are gone.
    fn world_changed(&mut self, now: WorldInfo);

    /// A cost table is new or replaces the one of the same model, device, codec and kind.
    fn table_changed(&mut self, now: Table);

    /// What to run now. The hot path: microseconds.
    fn decide(&mut self, now: &Snapshot) -> Decision;

    /// What became of earlier dispatches, oldest first; `dropped` outcomes were lost on the way.
    fn observe(&mut self, _outcomes: &[Outcome], _dropped: u32) {}

    /// State for a successor; never called while `Manifest::state_schema` is empty.
    fn save(&mut self) -> Result<Vec<u8>, String> {
        Ok(Vec::new())
    }

    /// Takes over a predecessor's state; false declines and starts cold.
    fn restore(&mut self, _origin: &Origin, _blob: &[u8]) -> Result<bool, String> {
        Ok(false)
    }
}
