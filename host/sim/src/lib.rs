//! A world around schedulers in virtual time: scripted arrivals, devices that cost what tables say, links that take what
//! bytes take, no clock, no thread. One host or several, each with a scheduler of its own.
//!
//! Stands beside the node: both feed [`bps_sched::Scheduler`] the same events and carry out the same actions, so a policy
//! (the same component bytes) takes the same decisions here as there, and can be tried before it touches traffic.
//!
//! **Invariants.** Nothing is read but the arguments: the same setup, workload and policies give the same [`Report`],
//! letter for letter. Events at equal times happen in the order in which they were made.

#![forbid(unsafe_code)]

mod network;
mod report;
mod setup;
mod simulation;
mod workload;

pub use report::{Answered, Report};
pub use setup::{Setup, SimCodec, SimDevice, SimLink, SimModel};
pub use simulation::{Simulation, Step};
pub use workload::{Arrival, Workload};
