//! `batching`: batch size and wait chosen from measured costs, arrivals and deadlines. The policy is in `policy.rs`, the
//! choice of a batch in `choose.rs`, what it learns in `estimate.rs`, the baseline in `aimd.rs`.

mod aimd;
mod choose;
mod config;
mod estimate;
mod policy;
mod state;

pub use policy::Batching;

bps_policy_sdk::export_policy!(crate::Batching);
