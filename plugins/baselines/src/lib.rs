//! `baselines`: the rules that `bps` is measured against, by configuration. The policy is in `policy.rs`, the rule that plans
//! once in `fixed.rs`.

mod fixed;
mod policy;

pub use policy::Baselines;

bps_policy_sdk::export_policy!(crate::Baselines);
