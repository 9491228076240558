//! Words that every layer of bps shares: ids, time, traces, tensors and the vocabulary a scheduling policy speaks.
//!
//! Stands at the bottom of the workspace: everything depends on it, it depends on nothing of ours.
//!
//! **Invariants.** Data only: no I/O, no clock, no thread, no randomness. Lengths that come from outside are checked with
//! overflow-safe arithmetic before anything is allocated for them.

#![forbid(unsafe_code)]

mod hex;
mod id;
mod packed;
pub mod policy;
mod tensor;
mod time;
mod trace;

pub use hex::{digest_from_hex, hex};
pub use id::{ArrivalId, DeviceId, ExecutionId, Generation, HostId, ModelId, QueueId, RequestId};
pub use packed::Packed;
pub use tensor::{DataType, HostTensor, TensorError, TensorSpec, element_count};
pub use time::Nanos;
pub use trace::Trace;
