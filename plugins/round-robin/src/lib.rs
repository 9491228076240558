//! `round-robin`: this machine's devices take turns, with batches of up to a set size. The policy is in `policy.rs`.

mod policy;

pub use policy::RoundRobin;

bps_policy_sdk::export_policy!(crate::RoundRobin);
