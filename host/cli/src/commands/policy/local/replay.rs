//! `bps policy replay`: the calls of a recording again, to the policy that was recorded or to another one.

use super::{engine, load};
use crate::output::Output;
use crate::table::{self, clean};
use anyhow::{Context, Result, bail};
use bps_plugin::recording::{self, Ending, Reader, Record, ReplayReport};
use bps_plugin::{LoadedPolicy, WasmPolicy};
use bps_sched::{Fault, Policy};
use bps_types::policy::{Decision, Dispatch, Selection};
use serde::Serialize;
use std::path::Path;

/// Differences that are kept in words.
const DIFFERENCES_KEPT: usize = 16;

/// Replays, and fails where the recorded policy decides otherwise than it did.
pub(in crate::commands::policy) fn replay(file: &Path, policy: Option<&str>, diff: bool, out: Output) -> Result<()> {
    let mut reader = Reader::open(file).with_context(|| format!("{} cannot be replayed", file.display()))?;
    if let Some(policy) = policy {
        let loaded = load(policy)?;
        let mut report = feed(&mut reader, &loaded)?;
        report.ending = ending_text(reader.ending());
        out.emit(&report, |r| comparison_text(r, diff))?;
        return verdict(file, report.decisions, reader.ending());
    }
    let report = recording::replay(reader, &engine()?);
    out.emit(&report, |r| replay_text(r, diff))?;
    if report.decisions == 0 {
        bail!("{} holds no decision that could be compared", file.display());
    }
    if !report.is_identical() {
        bail!("{} calls came out otherwise than recorded{}", report.differing, hint(diff));
    }
    Ok(())
}

/// Fails where the comparison says nothing, or not all that the recording held.
fn verdict(file: &Path, decisions: u64, ending: Option<&Ending>) -> Result<()> {
    if let Some(Ending::Corrupt(reason)) = ending {
        bail!("{} is corrupt after what was compared: {}", file.display(), clean(reason));
    }
    if decisions == 0 {
        bail!("{} holds no decision that could be compared", file.display());
    }
    Ok(())
}

fn ending_text(ending: Option<&Ending>) -> String {
    match ending {
        Some(Ending::Closed) | None => "closed in order".into(),
        Some(Ending::Truncated) => "cut off, as after a crash; compared up to there".into(),
        Some(Ending::Corrupt(reason)) => format!("corrupt: {reason}"),
    }
}

fn hint(diff: bool) -> &'static str {
    if diff { "" } else { "; --diff shows them" }
}

fn replay_text(report: &ReplayReport, diff: bool) -> String {
    let mut text = format!(
        "records    {} ({})\ndecisions  {} compared, {} equal\nothers     {} calls compared\ndiffering  {}\nskipped    {}\nreceipts   {}\n",
        table::count(report.records as u64),
        clean(&report.ending),
        table::count(report.decisions),
        table::count(report.decisions_equal),
        table::count(report.other_calls),
        table::count(report.differing),
        table::count(report.skipped),
        table::count(report.receipts),
    );
    for difference in report.differences.iter().filter(|_| diff) {
        let place = format!("record {}, generation {}, {}", difference.record, difference.generation, difference.call);
        text.push_str(&sides(&place, &difference.recorded, &difference.replayed));
    }
    text
}

fn sides(place: &str, recorded: &str, replayed: &str) -> String {
    format!("\n{}\n  recorded  {}\n  replayed  {}\n", clean(place), clean(recorded), clean(replayed))
}

/// What another policy made of the same situations.
#[derive(Debug, Default, Serialize)]
struct Comparison {
    policy: String,
    ending: String,
    decisions: u64,
    equal: u64,
    recorded: Habits,
    replayed: Habits,
    faults: Vec<String>,
    differences: Vec<Unlike>,
}

/// How a policy decides, in numbers.
#[derive(Debug, Default, Serialize)]
struct Habits {
    dispatches: u64,
    requests: u64,
    waits: u64,
}

#[derive(Debug, Serialize)]
struct Unlike {
    record: usize,
    recorded: String,
    replayed: String,
}

impl Habits {
    fn add(&mut self, decision: &Decision) {
        self.dispatches += decision.dispatches.len() as u64;
        self.requests += decision.dispatches.iter().map(request_count).sum::<u64>();
        self.waits += u64::from(decision.dispatches.is_empty());
    }

    fn text(&self) -> String {
        let mean = self.requests as f64 / self.dispatches.max(1) as f64;
        format!(
            "{} dispatches, {mean:.1} requests each, waited {} times",
            table::count(self.dispatches),
            table::count(self.waits)
        )
    }
}

fn request_count(dispatch: &Dispatch) -> u64 {
    match &dispatch.requests {
        Selection::Head(count) => u64::from(*count),
        Selection::These(ids) => ids.len() as u64,
    }
}

/// Shows every recorded situation to another policy. It never sees what its own decisions would have led to, so this tells
/// how it decides, not how it would have done.
fn feed(reader: &mut Reader<'_>, loaded: &LoadedPolicy) -> Result<Comparison> {
    let manifest = loaded.manifest();
    let mut comparison =
        Comparison { policy: format!("{} {}", manifest.name, manifest.version), ..Comparison::default() };
    let mut running: Option<WasmPolicy> = None;
    for (number, record) in reader.enumerate() {
        let outcome = match record {
            Record::Activated { seed, world, tables, .. } => {
                let mut policy = loaded.instantiate("", seed).context("the other policy does not start")?;
                let told =
                    policy.world_changed(&world).and_then(|()| tables.iter().try_for_each(|t| policy.table_changed(t)));
                running = Some(policy);
                told
            }
            Record::Decide { snapshot, result, .. } => {
                let recorded = result.ok().map(std::borrow::Cow::into_owned).unwrap_or_default();
                call(&mut running, |p| p.decide(&snapshot).map(|d| comparison.add(number, &recorded, &d)))
            }
            Record::World { world, .. } => call(&mut running, |p| p.world_changed(&world)),
            Record::Table { table, .. } => call(&mut running, |p| p.table_changed(&table)),
            Record::Observe { outcomes, dropped, .. } => call(&mut running, |p| p.observe(&outcomes, dropped)),
            _ => Ok(()),
        };
        if let Err(fault) = outcome {
            running = None;
            if comparison.faults.len() < DIFFERENCES_KEPT {
                comparison.faults.push(format!("record {number}: {fault}"));
            }
        }
    }
    Ok(comparison)
}

/// Calls the policy if it still lives.
fn call(
    running: &mut Option<WasmPolicy>,
    make: impl FnOnce(&mut WasmPolicy) -> Result<(), Fault>,
) -> Result<(), Fault> {
    running.as_mut().map_or(Ok(()), make)
}

impl Comparison {
    fn add(&mut self, record: usize, recorded: &Decision, replayed: &Decision) {
        self.decisions += 1;
        self.recorded.add(recorded);
        self.replayed.add(replayed);
        if recorded == replayed {
            self.equal += 1;
        } else if self.differences.len() < DIFFERENCES_KEPT {
            let (recorded, replayed) = (format!("{recorded:?}"), format!("{replayed:?}"));
            self.differences.push(Unlike { record, recorded, replayed });
        }
    }
}

fn comparison_text(comparison: &Comparison, diff: bool) -> String {
    let mut text = format!(
        "policy     {}\nending     {}\ndecisions  {} compared, {} equal\nrecorded   {}\nreplayed   {}\n",
        clean(&comparison.policy),
        clean(&comparison.ending),
        table::count(comparison.decisions),
        table::count(comparison.equal),
        comparison.recorded.text(),
        comparison.replayed.text(),
    );
    comparison.faults.iter().for_each(|fault| text.push_str(&format!("fault      {}\n", clean(fault))));
    for unlike in comparison.differences.iter().filter(|_| diff) {
        text.push_str(&sides(&format!("record {}", unlike.record), &unlike.recorded, &unlike.replayed));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(requests: Selection) -> Decision {
        let dispatch = Dispatch { queue: 1, requests, stages: vec![], micro_batch: 1, tag: 0, why: 0 };
        Decision { dispatches: vec![dispatch], ..Decision::default() }
    }

    #[test]
    fn habits_are_counted_and_differences_kept() {
        let mut comparison = Comparison::default();
        comparison.add(0, &decision(Selection::Head(4)), &decision(Selection::Head(4)));
        comparison.add(1, &decision(Selection::These(vec![1, 2])), &Decision::default());
        let text = comparison_text(&comparison, true);
        for part in ["2 compared, 1 equal", "2 dispatches, 3.0 requests", "waited 1 times", "record 1\n"] {
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        }
    }

    #[test]
    fn a_recording_that_cannot_be_trusted_fails() {
        let said = |decisions, ending: Ending| {
            let result = verdict(Path::new("x.bpsrec"), decisions, Some(&ending));
            (ending_text(Some(&ending)), result.err().map(|e| e.to_string()).unwrap_or_default())
        };
        assert_eq!(said(1, Ending::Closed), ("closed in order".into(), String::new()));
        assert!(said(0, Ending::Closed).1.contains("no decision"));
        let (text, error) = said(1, Ending::Truncated);
        assert!(text.contains("cut off") && error.is_empty(), "{text:?} {error:?}");
        assert!(said(0, Ending::Truncated).1.contains("no decision"));
        let (text, error) = said(1, Ending::Corrupt("checksum".into()));
        assert!(
            text.contains("corrupt") && error.contains("x.bpsrec") && error.contains("checksum"),
            "{text:?} {error:?}"
        );
    }
}
