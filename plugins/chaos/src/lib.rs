//! `chaos`: misbehaves in one way at a time, for the tests of the host. Each way is a mode of the config; `after` good
//! decisions come first, so that a rehearsal may pass. `misdeed.rs` holds the ways.

mod chain;
mod echo;
mod misdeed;
mod policy;
mod split;

pub use policy::Chaos;

bps_policy_sdk::export_policy!(crate::Chaos);
