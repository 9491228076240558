//! Replaying: the same bytes, fed with the same calls, must decide the same.

use super::{Ending, Reader, Record};
use crate::{LoadedPolicy, PolicyEngine, WasmPolicy, prebuilt};
use bps_sched::{Fault, FaultClass, Policy};
use std::collections::BTreeMap;
use std::fmt::Debug;

/// Differences kept in words; more are only counted.
const DIFFERENCES_KEPT: usize = 16;

/// Characters of a value that a difference repeats.
const VALUE_CHARS_MAX: usize = 600;

/// A call that came out otherwise than recorded.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// The place of the record, from 0.
    pub record: usize,
    /// The generation whose call it was.
    pub generation: u32,
    /// The call.
    pub call: &'static str,
    /// What the recording says.
    pub recorded: String,
    /// What came of it now.
    pub replayed: String,
}

/// What a replay found.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct ReplayReport {
    /// Records read.
    pub records: usize,
    /// Decisions compared.
    pub decisions: u64,
    /// Decisions that came out as recorded.
    pub decisions_equal: u64,
    /// Other calls compared: updates, `observe`, `save`, `restore`.
    pub other_calls: u64,
    /// Calls that came out otherwise.
    pub differing: u64,
    /// The first of them.
    pub differences: Vec<Difference>,
    /// Calls that were not compared: of policies that are no components or whose component is not in the recording, calls
    /// that a deadline ended, and all after a gap.
    pub skipped: u64,
    /// Receipts passed over.
    pub receipts: u64,
    /// How the file ended, in words.
    pub ending: String,
}

impl ReplayReport {
    /// Whether everything that could be compared was equal, and something was.
    pub fn is_identical(&self) -> bool {
        self.differing == 0 && self.decisions > 0
    }
}

/// Replays a recording.
pub fn replay(mut reader: Reader<'_>, engine: &PolicyEngine) -> ReplayReport {
    let mut replay =
        Replay { engine, loaded: BTreeMap::new(), running: BTreeMap::new(), report: ReplayReport::default() };
    for record in reader.by_ref() {
        replay.take(record);
        replay.report.records += 1;
    }
    replay.report.ending = match reader.ending() {
        Some(Ending::Closed) | None => "closed in order".into(),
        Some(Ending::Truncated) => "cut off".into(),
        Some(Ending::Corrupt(reason)) => format!("corrupt: {reason}"),
    };
    replay.report
}

struct Replay<'e> {
    engine: &'e PolicyEngine,
    loaded: BTreeMap<String, LoadedPolicy>,
    running: BTreeMap<u32, WasmPolicy>,
    report: ReplayReport,
}

impl Replay<'_> {
    fn take(&mut self, record: Record<'static>) {
        match record {
            Record::Component { digest, bytes } => self.load(&digest, &bytes),
            Record::Activated { generation, digest, config, seed, world, tables, .. } => {
                self.running.remove(&generation);
                let Some(mut policy) = self.find(&digest).and_then(|known| known.instantiate(&config, seed).ok())
                else {
                    return;
                };
                let told = policy.world_changed(&world);
                let told = told.and_then(|()| tables.iter().try_for_each(|table| policy.table_changed(table)));
                if told.is_ok() {
                    self.running.insert(generation, policy);
                }
            }
            Record::World { generation, world, result, .. } => {
                self.compare(generation, "world-changed", own(result), |policy| policy.world_changed(&world));
            }
            Record::Table { generation, table, result, .. } => {
                self.compare(generation, "table-changed", own(result), |policy| policy.table_changed(&table));
            }
            Record::Observe { generation, outcomes, dropped, result, .. } => {
                self.compare(generation, "observe", own(result), |policy| policy.observe(&outcomes, dropped));
            }
            Record::Decide { generation, snapshot, result, .. } => {
                let recorded = own(result).map(std::borrow::Cow::into_owned);
                let is_equal = self.compare(generation, "decide", recorded, |policy| policy.decide(&snapshot));
                self.report.decisions += u64::from(is_equal.is_some());
                self.report.decisions_equal += u64::from(is_equal == Some(true));
                self.report.other_calls -= u64::from(is_equal.is_some());
            }
            Record::Save { generation, result, .. } => {
                let recorded = own(result).map(|blob| blob.map(std::borrow::Cow::into_owned));
                self.compare(generation, "save", recorded, |policy| policy.save());
            }
            Record::Restore { generation, origin, blob, result, .. } => {
                self.compare(generation, "restore", own(result), |policy| policy.restore(&origin, &blob));
            }
            Record::Dropped { generation, .. } => drop(self.running.remove(&generation)),
            Record::Receipt { .. } => self.report.receipts += 1,
            Record::Gap { lost } => {
                self.report.skipped += lost;
                self.running.clear();
            }
            Record::End => {}
        }
    }

    fn load(&mut self, digest: &str, bytes: &[u8]) {
        match self.engine.load(bytes) {
            Ok(policy) if policy.digest() == digest => drop(self.loaded.insert(digest.into(), policy)),
            Ok(_) => tracing::warn!(digest, "a component in the recording is not the one it says"),
            Err(error) => tracing::warn!(digest, %error, "a component in the recording cannot be loaded"),
        }
    }

    /// The component of a digest: from the recording, else one that comes with bps.
    fn find(&mut self, digest: &str) -> Option<LoadedPolicy> {
        if !self.loaded.contains_key(digest) && digest != "native" {
            let known = prebuilt::all().iter().find(|known| known.record.contains(digest));
            if let Some(known) = known {
                self.load(digest, known.wasm);
            }
        }
        self.loaded.get(digest).cloned()
    }

    /// Makes the call again. None if it cannot be compared; else whether it came out as recorded. A fault is equal to one
    /// of its class.
    fn compare<T: PartialEq + Debug>(
        &mut self,
        generation: u32,
        call: &'static str,
        recorded: Result<T, Fault>,
        again: impl FnOnce(&mut WasmPolicy) -> Result<T, Fault>,
    ) -> Option<bool> {
        let Some(policy) = self.running.get_mut(&generation).filter(|_| !was_timed(&recorded)) else {
            self.report.skipped += 1;
            self.running.remove(&generation);
            return None;
        };
        let replayed = again(policy);
        self.report.other_calls += 1;
        let is_equal = match (&recorded, &replayed) {
            (Ok(recorded), Ok(replayed)) => recorded == replayed,
            (Err(recorded), Err(replayed)) => recorded.class == replayed.class,
            _ => false,
        };
        if replayed.is_err() {
            self.running.remove(&generation);
        }
        if !is_equal {
            self.report.differing += 1;
            if self.report.differences.len() < DIFFERENCES_KEPT {
                let (recorded, replayed) = (words(&recorded), words(&replayed));
                let record = self.report.records;
                self.report.differences.push(Difference { record, generation, call, recorded, replayed });
            }
        }
        Some(is_equal)
    }
}

/// Time ended this call; time is not replayed.
fn was_timed<T>(recorded: &Result<T, Fault>) -> bool {
    matches!(recorded, Err(fault) if matches!(fault.class, FaultClass::Deadline | FaultClass::Slow | FaultClass::Stall))
}

fn own<T>(result: super::record::Came<'static, T>) -> Result<T, Fault> {
    result.map_err(std::borrow::Cow::into_owned)
}

fn words(value: &impl Debug) -> String {
    let mut text = format!("{value:?}");
    if let Some((end, _)) = text.char_indices().nth(VALUE_CHARS_MAX) {
        text.truncate(end);
        text.push_str(" ...");
    }
    text
}
