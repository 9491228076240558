//! Policies as WebAssembly components: loading, limiting, calling, rehearsing, recording.
//!
//! Stands between `bps-sched`, which knows only its trait `Policy`, and wasmtime, which nothing else in bps knows. Bytes
//! come in ([`PolicyEngine::load`]), become a [`LoadedPolicy`] stage by stage, and end as [`WasmPolicy`] instances.
//!
//! **Invariants.**
//! - A component is untrusted. Whatever it is or does ends in a [`LoadError`] or a [`bps_sched::Fault`], within bounded
//!   time and memory, and never in a panic of the host.
//! - A component's imports are its whole authority; anything but `bps:policy/host` is refused before compilation.
//! - After a failed call an instance is dead: it is never entered again.
//! - Only components are taken, never precompiled code, which would run unchecked.

#![forbid(unsafe_code)]

pub mod bench;
mod bindings;
mod convert;
mod engine;
mod error;
mod fault;
mod guest;
mod limits;
mod loaded;
mod policy;
pub mod prebuilt;
pub mod recording;
mod rehearsal;
mod verify;

pub use engine::PolicyEngine;
pub use error::{LoadError, LoadStage, PluginError};
pub use limits::GuestLimits;
pub use loaded::LoadedPolicy;
pub use policy::WasmPolicy;
pub use rehearsal::{Corpus, Rehearsal, StateCarried};
