//! What the scheduler needs of a policy, and how a policy can fail.

use bps_types::Nanos;
use bps_types::policy::{Decision, Manifest, Origin, Outcome, Snapshot, Table, WorldInfo};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A scheduling policy: a pure rule with memory that proposes what to run. One of the host's three `dyn` seams.
///
/// After any `Err` the instance is dead: the scheduler drops it and asks for another.
pub trait Policy: Send {
    /// What the policy says about itself.
    fn manifest(&self) -> &Manifest;
    /// SHA-256 of its component in hex; `native` for one that is compiled in.
    fn digest(&self) -> &str;
    /// The world, whole; always before the first `decide`.
    fn world_changed(&mut self, world: &WorldInfo) -> Result<(), Fault>;
    /// A cost table that is new or replaces the one with the same key.
    fn table_changed(&mut self, table: &Table) -> Result<(), Fault>;
    /// What to run now.
    fn decide(&mut self, snapshot: &Snapshot) -> Result<Decision, Fault>;
    /// What became of earlier decisions. A no-op for a policy that does not learn.
    fn observe(&mut self, outcomes: &[Outcome], dropped: u32) -> Result<(), Fault>;
    /// State for a successor; none where the policy keeps none or declines.
    fn save(&mut self) -> Result<Option<Vec<u8>>, Fault>;
    /// Takes over a predecessor's state; false declines.
    fn restore(&mut self, origin: &Origin, blob: &[u8]) -> Result<bool, Fault>;
    /// Gauges the policy has set, by id.
    fn metrics(&self) -> Vec<(u32, f64)> {
        Vec::new()
    }
}

/// How a policy failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FaultClass {
    /// The guest trapped (unreachable, stack overflow, out of bounds, ...).
    Trap,
    /// A call ran past its deadline.
    Deadline,
    /// The guest asked for more memory than it may have.
    Memory,
    /// A result was larger than allowed.
    Oversize,
    /// The guest broke the component ABI.
    Abi,
    /// A decision held a row that the check refused.
    InvalidRow,
    /// A runnable request waited too long while a capable device was free.
    Stall,
    /// Calls took longer than the budget, too often.
    Slow,
    /// The configuration was rejected.
    ConfigRejected,
    /// State could not be restored.
    RestoreFailed,
}

impl FaultClass {
    /// Every class.
    pub const ALL: [Self; 10] = [
        Self::Trap,
        Self::Deadline,
        Self::Memory,
        Self::Oversize,
        Self::Abi,
        Self::InvalidRow,
        Self::Stall,
        Self::Slow,
        Self::ConfigRejected,
        Self::RestoreFailed,
    ];

    /// For metrics and messages, for example `invalid-row`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::Oversize => "oversize",
            Self::Abi => "abi",
            Self::InvalidRow => "invalid-row",
            Self::Stall => "stall",
            Self::Slow => "slow",
            Self::ConfigRejected => "config-rejected",
            Self::RestoreFailed => "restore-failed",
        }
    }
}

impl fmt::Display for FaultClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One failure of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{class}: {message}")]
pub struct Fault {
    /// What kind.
    pub class: FaultClass,
    /// For people: where and why.
    pub message: String,
}

impl Fault {
    /// A fault with a message.
    pub fn new(class: FaultClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into() }
    }
}

/// Clocks that only measure what a policy takes.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    /// Time that passes.
    pub time: fn() -> Nanos,
    /// Processor time of the calling thread: what a call takes of it is the policy's doing, and where a core is shared with
    /// executions that is a small part of the time that passes.
    pub work: fn() -> Nanos,
}

impl Stopwatch {
    /// Stands still: for simulators and tests.
    pub const STILL: Self = Self { time: || Nanos::ZERO, work: || Nanos::ZERO };
}

/// One line of a recording: every guest call in order with its result, and every receipt.
#[derive(Clone, Debug)]
pub enum LogEntry<'a> {
    /// A policy instance became the active one: configured with this, then told world and tables, then offered a blob.
    Activated {
        /// Its generation.
        generation: u32,
        /// Which component.
        digest: &'a str,
        /// What it says it is.
        manifest: &'a Manifest,
        /// The configuration it was given.
        config: &'a str,
        /// The seed it was given.
        seed: u64,
        /// The world and tables it was told before it was activated.
        briefing: &'a crate::Briefing,
    },
    /// The outgoing policy was asked to save.
    Save {
        /// Whose call.
        generation: u32,
        /// What came of it.
        result: Result<Option<&'a [u8]>, &'a Fault>,
    },
    /// The incoming policy was offered that state.
    Restore {
        /// Whose call.
        generation: u32,
        /// Whose state.
        origin: &'a Origin,
        /// The state.
        blob: &'a [u8],
        /// What came of it.
        result: Result<bool, &'a Fault>,
    },
    /// `world-changed`.
    World {
        /// Whose call.
        generation: u32,
        /// The argument.
        world: &'a WorldInfo,
        /// What came of it.
        result: Result<(), &'a Fault>,
    },
    /// `table-changed`.
    Table {
        /// Whose call.
        generation: u32,
        /// The argument.
        table: &'a Table,
        /// What came of it.
        result: Result<(), &'a Fault>,
    },
    /// `decide`.
    Decide {
        /// Whose call.
        generation: u32,
        /// The argument.
        snapshot: &'a Snapshot,
        /// What came of it.
        result: Result<&'a Decision, &'a Fault>,
    },
    /// `observe`.
    Observe {
        /// Whose call.
        generation: u32,
        /// The outcomes.
        outcomes: &'a [Outcome],
        /// How many were lost before them.
        dropped: u32,
        /// What came of it.
        result: Result<(), &'a Fault>,
    },
    /// The instance of this generation is gone: it failed, or its successor took over for good.
    Dropped {
        /// Which one.
        generation: u32,
        /// The fault that ended it, if one did.
        fault: Option<&'a Fault>,
    },
    /// A dispatch ended.
    Receipt(&'a crate::Receipt),
}

/// Takes down every guest call as it happens. Must not block and must not fail: what cannot be written is its own trouble.
pub trait CallLog: Send {
    /// One entry, at this time.
    fn log(&mut self, now: Nanos, entry: LogEntry<'_>);
}
