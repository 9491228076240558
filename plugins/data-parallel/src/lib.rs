//! `data-parallel`: whole models on the devices of all hosts, in proportion to their speed. The policy is in `policy.rs`.

mod policy;

pub use policy::DataParallel;

bps_policy_sdk::export_policy!(crate::DataParallel);
