//! A world around the scheduler in virtual time: scripted arrivals, devices that cost what tables say, no clock, no thread.
//!
//! Stands beside the node: both feed [`bps_sched::Scheduler`] the same events and carry out the same actions, so a policy
//! (the same component bytes) takes the same decisions here as there, and can be tried before it touches traffic.
//!
//! **Invariants.** Nothing is read but the arguments: the same setup, workload and policies give the same [`Report`],
//! letter for letter. Events at equal times happen in the order in which they were made.

#![forbid(unsafe_code)]

mod report;
mod simulation;
mod workload;

pub use report::Report;
pub use simulation::{Setup, SimDevice, SimModel, Simulation, Step};
pub use workload::{Arrival, Workload};
