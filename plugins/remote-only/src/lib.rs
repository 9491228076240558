//! `remote-only`: whole models on the best device of another host. The policy is in `policy.rs`.

mod policy;

pub use policy::RemoteOnly;

bps_policy_sdk::export_policy!(crate::RemoteOnly);
