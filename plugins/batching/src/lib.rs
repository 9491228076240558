//! `batching`: batch size and wait chosen from measured costs, arrivals and deadlines. The policy is in `policy.rs`; how
//! batches are gathered, what is learned and the AIMD baseline are in the crate `planner`, since other policies need them.

mod config;
mod policy;

pub use policy::Batching;

bps_policy_sdk::export_policy!(crate::Batching);
