//! `bps`: cut, batch, codec and share of every host chosen together from live estimates. The policy is in `policy.rs`, the
//! rule for one queue in `serve.rs`, how a line is shared in `share.rs` and goes into messages in `message.rs`, what a model's
//! plan is made of in `known.rs`, what survives a swap in `memory.rs`.

mod choice;
mod config;
mod heads;
mod known;
mod memory;
mod message;
mod policy;
mod serve;
mod share;
mod turns;

pub use policy::Bps;

bps_policy_sdk::export_policy!(crate::Bps);
