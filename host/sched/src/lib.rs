//! The scheduler: a pure state machine that owns every request, asks a policy, checks what it proposes, and accounts for
//! the end of each request.
//!
//! Stands between the node (or the simulator), which feeds it [`Event`]s with the time and carries out its [`Action`]s, and
//! the [`Policy`], which it asks for decisions. Both worlds drive this same code.
//!
//! **Invariants.**
//! - Reads no clock, opens no socket, starts no thread, draws no random number, iterates no `HashMap`: the same events at
//!   the same times give the same actions. The one exception, what a policy call takes, is handed in as a
//!   [`Stopwatch`] and steers nothing but the slow-policy rule, which a simulator leaves out by handing in a still one.
//! - A policy's decision is an untrusted proposal; only a checked [`Plan`] is executed.
//! - Custody: after every event, `submitted = answered + failed + shed + expired + cancelled + waiting + running`
//!   ([`Ledger::holds`]). A policy that faults, lies or is swapped cannot break it, since it never owns a request.
//! - Every queue is bounded in requests and bytes; what does not fit is refused at once.
//! - A stage that came from another host is given back to it, done or not, unless that host took it back or is gone.

#![forbid(unsafe_code)]

mod arrivals;
mod cap;
pub mod check;
mod config;
mod estimate;
mod event;
mod fallback;
mod flight;
mod ledger;
mod links;
mod plan;
mod policy;
mod queue;
mod receipt;
mod scheduler;
mod slot;
mod snapshot;
mod world;

pub use config::Config;

pub use event::{
    Action, Advance, Answer, Arrival, Cap, Crossing, Event, Failure, FailureKind, Forward, Input, Leaving, LinkReport,
    Next, Refusal, Rejection, Request, Run, StageTime, Standing,
};
pub use fallback::Fallback;
pub use ledger::{GuestLedger, Ledger};
pub use plan::{Plan, PlanStage};
pub use policy::{CallLog, Fault, FaultClass, LogEntry, Policy, Stopwatch};
pub use receipt::{Clamp, PolicyLabel, Receipt, ReceiptStage, Verdict};
pub use scheduler::Scheduler;
pub use slot::{Briefing, Candidate, PolicyStatus, RollbackReason, SlotState, SwapReport};
pub use world::{Guest, QueueLimit, WholeOnly, Window, World};
