//! One entry of a recording: the scheduler's `LogEntry`, with what it refers to.

use bps_sched::{Fault, LogEntry, Receipt};
use bps_types::Nanos;
use bps_types::policy::{Decision, Manifest, Origin, Outcome, Snapshot, Table, WorldInfo};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// What a call came to; the value borrows from the scheduler while it is written.
pub(super) type Came<'a, T> = Result<T, Cow<'a, Fault>>;

/// One entry. Its serialised form is the file format: change it only together with [`super::VERSION`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "bps_sched::LogEntry documents the fields")]
pub enum Record<'a> {
    /// A component that instances below are made of.
    Component {
        digest: Cow<'a, str>,
        bytes: Cow<'a, [u8]>,
    },
    /// A policy instance became the active one.
    Activated {
        at: Nanos,
        generation: u32,
        digest: Cow<'a, str>,
        manifest: Cow<'a, Manifest>,
        config: Cow<'a, str>,
        seed: u64,
        world: Cow<'a, WorldInfo>,
        tables: Cow<'a, [Table]>,
    },
    Save {
        at: Nanos,
        generation: u32,
        result: Came<'a, Option<Cow<'a, [u8]>>>,
    },
    Restore {
        at: Nanos,
        generation: u32,
        origin: Cow<'a, Origin>,
        blob: Cow<'a, [u8]>,
        result: Came<'a, bool>,
    },
    World {
        at: Nanos,
        generation: u32,
        world: Cow<'a, WorldInfo>,
        result: Came<'a, ()>,
    },
    Table {
        at: Nanos,
        generation: u32,
        table: Cow<'a, Table>,
        result: Came<'a, ()>,
    },
    Decide {
        at: Nanos,
        generation: u32,
        snapshot: Cow<'a, Snapshot>,
        result: Came<'a, Cow<'a, Decision>>,
    },
    Observe {
        at: Nanos,
        generation: u32,
        outcomes: Cow<'a, [Outcome]>,
        dropped: u32,
        result: Came<'a, ()>,
    },
    Dropped {
        at: Nanos,
        generation: u32,
        fault: Option<Cow<'a, Fault>>,
    },
    Receipt {
        at: Nanos,
        receipt: Box<Cow<'a, Receipt>>,
    },
    /// So many records were lost here since the disk did not keep up; what follows cannot be replayed.
    Gap {
        lost: u64,
    },
    /// The recording was closed in order.
    End,
}

impl<'a> Record<'a> {
    /// The record of a log entry, without copying.
    pub(crate) fn of(at: Nanos, entry: LogEntry<'a>) -> Self {
        match entry {
            LogEntry::Activated { generation, digest, manifest, config, seed, briefing } => Self::Activated {
                at,
                generation,
                digest: digest.into(),
                manifest: Cow::Borrowed(manifest),
                config: config.into(),
                seed,
                world: Cow::Borrowed(&briefing.world),
                tables: (&briefing.tables[..]).into(),
            },
            LogEntry::Save { generation, result } => {
                let result = result.map(|blob| blob.map(Cow::Borrowed)).map_err(Cow::Borrowed);
                Self::Save { at, generation, result }
            }
            LogEntry::Restore { generation, origin, blob, result } => {
                let (origin, result) = (Cow::Borrowed(origin), result.map_err(Cow::Borrowed));
                Self::Restore { at, generation, origin, blob: blob.into(), result }
            }
            LogEntry::World { generation, world, result } => {
                Self::World { at, generation, world: Cow::Borrowed(world), result: result.map_err(Cow::Borrowed) }
            }
            LogEntry::Table { generation, table, result } => {
                Self::Table { at, generation, table: Cow::Borrowed(table), result: result.map_err(Cow::Borrowed) }
            }
            LogEntry::Decide { generation, snapshot, result } => {
                let result = result.map(Cow::Borrowed).map_err(Cow::Borrowed);
                Self::Decide { at, generation, snapshot: Cow::Borrowed(snapshot), result }
            }
            LogEntry::Observe { generation, outcomes, dropped, result } => {
                let result = result.map_err(Cow::Borrowed);
                Self::Observe { at, generation, outcomes: outcomes.into(), dropped, result }
            }
            LogEntry::Dropped { generation, fault } => {
                Self::Dropped { at, generation, fault: fault.map(Cow::Borrowed) }
            }
            LogEntry::Receipt(receipt) => Self::Receipt { at, receipt: Box::new(Cow::Borrowed(receipt)) },
        }
    }
}
