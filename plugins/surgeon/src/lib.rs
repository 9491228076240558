//! `surgeon`: each request along the cut that answers it first. The policy is in `policy.rs`.

mod policy;

pub use policy::Surgeon;

bps_policy_sdk::export_policy!(crate::Surgeon);
