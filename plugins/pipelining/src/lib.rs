//! `pipelining`: micro-batches through the cut with the smallest slowest part. The policy is in `policy.rs`.

mod policy;

pub use policy::Pipelining;

bps_policy_sdk::export_policy!(crate::Pipelining);
