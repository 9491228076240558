//! What several policies plan with. Not a policy: a library like the SDK, compiled into each component that uses it.
//!
//! A [`Lane`] is one way for a batch: all here, all on another host's device, or a head here and a tail there with a codec
//! between. [`lanes`] lists them from the cost tables, [`frontier`] keeps those that are best at some link speed and load.
//! [`Now`] is the present in the terms of lanes, [`Way`] a lane in it: how long each part takes, when a batch would be
//! answered, how long to hold it back. [`Plan`] holds what decides between lanes under load: a price for each device and
//! link, out of a small linear program ([`maximise`]). [`Gather`] is batching on this host's own devices, [`Fleet`]
//! what the simple policies over several hosts share.
//!
//! **Invariants.** Pure: no clock, no randomness, no iteration over hashes. Costs are nanoseconds and bytes as `f64`, and
//! never negative or not a number.

mod aimd;
mod estimate;
mod fleet;
mod frontier;
mod gather;
mod lane;
mod learned;
mod line;
mod now;
mod plan;
mod program;
mod tag;
mod way;

#[cfg(not(target_family = "wasm"))]
pub mod testing;

pub use aimd::Aimd;
pub use estimate::{Correction, Estimates, Measured};
pub use fleet::{Fleet, Head, least};
pub use frontier::frontier;
pub use gather::{Gather, Whys};
pub use lane::{Codecs, Lane, LaneClass, lanes};
pub use learned::{Learned, STATE_SCHEMA};
pub use line::{Ends, Line, choose_batch, choose_pipelined};
pub use now::{Coming, DeviceNow, Inputs, LinkNow, Now};
pub use plan::{Plan, PlannedLane};
pub use program::{Optimum, maximise};
pub use tag::Tag;
pub use way::{Spans, Way};
