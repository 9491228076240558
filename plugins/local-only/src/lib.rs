//! `local-only`: one request at a time, on this machine's least busy device. The policy is in `policy.rs`.

mod policy;

pub use policy::LocalOnly;

bps_policy_sdk::export_policy!(crate::LocalOnly);
