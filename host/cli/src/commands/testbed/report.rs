//! What a test bed says in the end: a table per cell, the gain over each baseline, and the cells that were lost.

use super::figures::{Figures, Reaction};
use super::network::Kind;
use super::plan::Cell;
use super::statistics::{self, Comparison, Interval, Verdict};
use crate::latency::{median, micros_text};
use crate::table::{self, Table, percent};
use serde::Serialize;

/// Everything, as the JSON has it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// How it was measured.
    pub(super) method: Method,
    /// What was measured where.
    pub(super) cells: Vec<CellReport>,
    /// The subject over each baseline, over all cells.
    pub(super) gains: Vec<Gain>,
    /// Cells in which the subject is worse than the best baseline beyond the interval.
    pub(super) lost_cells: Vec<String>,
}

/// How it was measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Method {
    /// The policy that is compared with the others.
    pub(super) subject: String,
    /// What the network is made of.
    pub(super) network: Kind,
    /// Hosts, the server last.
    pub(super) hosts: Vec<String>,
    /// The core of each host; empty: they are not kept to cores.
    pub(super) cores: Vec<usize>,
    /// Cores of the machine.
    pub(super) cores_of_machine: usize,
    /// The carrier that was asked for.
    pub(super) carrier: String,
    /// What the networks with random weights might use besides raw.
    pub(super) codecs: Vec<String>,
    /// Share of accuracy that codecs might cost.
    pub(super) max_accuracy_loss: f64,
    /// How requests came.
    pub(super) load: String,
    /// Interleaved runs per policy and cell.
    pub(super) runs: u32,
    /// Seconds of each.
    pub(super) span_seconds: f64,
    /// Seconds before it that are not counted.
    pub(super) settle_seconds: f64,
    /// Milliseconds; none: answers are of use for ever.
    pub(super) deadline_ms: Option<f64>,
    /// Wanted, but not known to the host.
    pub(super) missing_policies: Vec<String>,
}

/// One cell.
#[derive(Debug, Serialize)]
pub(super) struct CellReport {
    /// Where.
    pub(super) cell: Cell,
    /// A row per policy.
    pub(super) rows: Vec<Row>,
    /// The subject over each other policy.
    pub(super) comparisons: Vec<Against>,
    /// The baseline with the highest median throughput.
    pub(super) best_baseline: Option<String>,
}

/// One policy in one cell.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// Which.
    pub(super) policy: String,
    /// Answers per second.
    pub(super) throughput: Option<Interval>,
    /// Of each run that was repeated since the host had gone back to another policy, what its log says.
    pub(super) rolled_back: Vec<String>,
    /// Each run.
    pub(super) runs: Vec<Figures>,
}

/// The subject over one policy.
#[derive(Debug, Serialize)]
pub(super) struct Against {
    /// Which.
    pub(super) baseline: String,
    /// By throughput.
    #[serde(flatten)]
    pub(super) comparison: Comparison,
}

/// The subject over one baseline, over all cells.
#[derive(Debug, Serialize)]
pub(super) struct Gain {
    /// Which.
    pub(super) baseline: String,
    /// Cells that have both.
    pub(super) cells: usize,
    /// Smallest ratio.
    pub(super) min: f64,
    /// Median ratio.
    pub(super) median: f64,
    /// Best ratio.
    pub(super) best: f64,
    /// Cells in which it is worse beyond the interval.
    pub(super) worse: usize,
}

impl CellReport {
    /// Compares the subject with every other row. `floor`: a throughput that stands for none at all.
    pub(super) fn new(cell: Cell, rows: Vec<Row>, subject: &str, floor: f64) -> Self {
        let throughputs = |row: &Row| row.runs.iter().map(|f| f.throughput).collect::<Vec<f64>>();
        let mine = rows.iter().find(|r| r.policy == subject).map(throughputs);
        let others = || rows.iter().filter(|r| r.policy != subject);
        let against = |row: &Row| {
            let comparison = statistics::compare(mine.as_ref()?, &throughputs(row), floor)?;
            Some(Against { baseline: row.policy.clone(), comparison })
        };
        let middle = |row: &&Row| row.throughput.map_or(0.0, |t| t.median);
        let best = others().max_by(|a, b| middle(a).total_cmp(&middle(b))).map(|r| r.policy.clone());
        Self { comparisons: others().filter_map(against).collect(), best_baseline: best, cell, rows }
    }

    fn over_best(&self) -> Option<&Against> {
        self.comparisons.iter().find(|a| Some(&a.baseline) == self.best_baseline.as_ref())
    }
}

impl Report {
    /// Adds up the cells.
    pub(super) fn new(method: Method, cells: Vec<CellReport>) -> Self {
        let mut names: Vec<&str> = Vec::new();
        for against in cells.iter().flat_map(|c| &c.comparisons) {
            if !names.contains(&against.baseline.as_str()) {
                names.push(&against.baseline);
            }
        }
        let gain = |name: &&str| {
            let of: Vec<&Comparison> = cells
                .iter()
                .flat_map(|c| &c.comparisons)
                .filter(|a| a.baseline == *name)
                .map(|a| &a.comparison)
                .collect();
            let ratios: Vec<f64> = of.iter().map(|c| c.ratio).collect();
            let spread = statistics::interval(&ratios)?;
            let worse = of.iter().filter(|c| c.verdict == Verdict::Worse).count();
            let (min, median, best) = (spread.min, spread.median, spread.max);
            Some(Gain { baseline: (*name).to_owned(), cells: of.len(), min, median, best, worse })
        };
        let gains = names.iter().filter_map(gain).collect();
        let lost = cells.iter().filter(|c| c.over_best().is_some_and(|a| a.comparison.verdict == Verdict::Worse));
        let lost_cells = lost.map(|c| c.cell.text()).collect();
        Self { method, gains, lost_cells, cells }
    }

    /// What makes the run a failure: a request without an end, or one that ended in an error.
    pub(super) fn wrong(&self) -> Option<String> {
        let runs = || self.cells.iter().flat_map(|c| &c.rows).flat_map(|r| &r.runs);
        let lost: u64 = runs().map(|f| f.lost).sum();
        let failed: u64 = runs().map(|f| f.failed).sum();
        if lost + failed == 0 {
            return None;
        }
        let first = runs().find_map(|f| f.first_failure.as_deref()).unwrap_or("no answer");
        Some(format!("{lost} requests have no answer and {failed} ended in an error; the first one: {first}"))
    }

    /// The pages for people.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for cell in &self.cells {
            text.push_str(&format!("{}\n{}", cell.cell.text(), cell.table()));
            if let Some(against) = cell.over_best() {
                text.push_str(&format!("{}\n", against.text(&self.method.subject)));
            }
            for (policy, said) in cell.rows.iter().flat_map(|r| r.rolled_back.iter().map(|said| (&r.policy, said))) {
                text.push_str(&format!(
                    "{policy}: a run was repeated, the host had gone back to another policy: {said}\n"
                ));
            }
            text.push_str(&cell.reactions());
            text.push('\n');
        }
        if self.cells.len() > 1 && !self.gains.is_empty() {
            text.push_str(&format!("{} over each baseline, all cells\n{}\n", self.method.subject, self.gains_table()));
        }
        if !self.gains.is_empty() {
            match self.lost_cells.as_slice() {
                [] if self.method.runs < 2 => text.push_str("one run has no interval: nothing can be judged\n"),
                [] => text.push_str("no cell is lost to its best baseline beyond the 95 % interval\n"),
                lost => text.push_str(&format!(
                    "LOST to the best baseline beyond the 95 % interval:\n  {}\n",
                    lost.join("\n  ")
                )),
            }
        }
        text.push_str(&self.method.text());
        text
    }

    fn gains_table(&self) -> String {
        let mut table = Table::new(&["baseline", ">cells", ">min", ">median", ">best", ">worse in"]);
        for gain in &self.gains {
            let ratio = |r: f64| format!("{r:.2}x");
            table.row([
                gain.baseline.clone(),
                gain.cells.to_string(),
                ratio(gain.min),
                ratio(gain.median),
                ratio(gain.best),
                gain.worse.to_string(),
            ]);
        }
        table.to_string()
    }
}

impl Against {
    fn text(&self, subject: &str) -> String {
        let Comparison { ratio, bounds, verdict } = self.comparison;
        let bounds = bounds.map_or_else(|| "one run".into(), |(low, high)| format!("95 %: {low:.2} to {high:.2}"));
        let word = match verdict {
            Verdict::Better => "better",
            Verdict::Same => "not worse",
            Verdict::Worse => "WORSE",
            Verdict::Unknown => "cannot be judged",
        };
        format!("{subject} over the best baseline, {}: {ratio:.2}x ({bounds}): {word}", self.baseline)
    }
}

impl CellReport {
    fn table(&self) -> String {
        let mut table = Table::new(&[
            "policy",
            ">answers/s",
            ">±95 %",
            ">p50 ms",
            ">p95 ms",
            ">p99 ms",
            ">missed",
            ">sent/request",
            ">on the link",
            ">rows",
            ">decide",
            ">swap",
            ">right",
            "usual plan",
        ]);
        for row in &self.rows {
            let of = |value: fn(&Figures) -> f64| middle(row, |f| Some(value(f)));
            let millis = |value: Option<f64>| value.map_or_else(|| "-".into(), |v| format!("{v:.1}"));
            let throughput = row.throughput.unwrap_or_default();
            let plan = row.runs.iter().rev().find_map(|f| f.usual_plan.clone());
            table.row([
                row.policy.clone(),
                number(throughput.mean),
                throughput.half.map_or_else(|| "-".into(), number),
                millis(of(|f| f.p50_ms)),
                millis(of(|f| f.p95_ms)),
                millis(of(|f| f.p99_ms)),
                of(|f| f.missed).map_or_else(|| "-".into(), percent),
                middle(row, |f| f.bytes_per_request).map_or_else(|| "-".into(), |b| table::bytes(b as u64)),
                middle(row, |f| f.wire_bytes_per_request).map_or_else(|| "-".into(), |b| table::bytes(b as u64)),
                middle(row, |f| f.rows_mean).map_or_else(|| "-".into(), |r| format!("{r:.1}")),
                middle(row, |f| f.decide_p50_us).map_or_else(|| "-".into(), micros_text),
                middle(row, |f| f.swap_pause_us).map_or_else(|| "-".into(), micros_text),
                middle(row, |f| f.right).map_or_else(|| "-".into(), percent),
                plan.map_or_else(|| "-".into(), |(plan, share)| format!("{plan} ({})", percent(share))),
            ]);
        }
        table.to_string()
    }

    /// What was done to the system in the last run of each policy.
    fn reactions(&self) -> String {
        let last = |row: &Row| row.runs.last().map(|f| f.reactions.clone()).unwrap_or_default();
        let mut table = Table::new(&[
            "policy",
            ">at",
            "what happened",
            ">new plan after",
            ">before",
            ">after",
            ">recovered after",
            ">missed",
        ]);
        let mut any = false;
        for row in &self.rows {
            for reaction in last(row) {
                any = true;
                table.row(reaction_row(&row.policy, &reaction));
            }
        }
        if any { table.to_string() } else { String::new() }
    }
}

fn reaction_row(policy: &str, reaction: &Reaction) -> [String; 8] {
    let millis = |value: Option<f64>| value.map_or_else(|| "-".into(), |v| format!("{v:.0} ms"));
    [
        policy.to_owned(),
        format!("{:.1} s", reaction.at_s),
        reaction.text.clone(),
        millis(reaction.new_plan_ms),
        format!("{}/s", number(reaction.before)),
        format!("{}/s", number(reaction.after)),
        millis(reaction.recovered_ms),
        table::count(reaction.missed),
    ]
}

fn middle(row: &Row, value: impl Fn(&Figures) -> Option<f64>) -> Option<f64> {
    median(&row.runs.iter().filter_map(value).collect::<Vec<_>>())
}

/// Three digits that count.
fn number(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

impl Method {
    fn text(&self) -> String {
        let network = match self.network {
            Kind::Namespaces => "a network namespace each, emulated link between them",
            Kind::Proxy => {
                "loopback, emulated link in a proxy (NO namespaces: not the figures of a real network stack)"
            }
        };
        let cores = match self.cores.as_slice() {
            [] => format!("not kept to cores of {}", self.cores_of_machine),
            cores => format!("on cores {cores:?} of {}", self.cores_of_machine),
        };
        let deadline = self.deadline_ms.map_or_else(String::new, |ms| format!(", deadline {ms} ms"));
        let of_all = if self.hosts.len() > 2 { ", of all edges together" } else { "" };
        let missing = match self.missing_policies.as_slice() {
            [] => String::new(),
            missing => format!("not there: {}\n", missing.join(", ")),
        };
        format!(
            "{} interleaved runs of {:.1} s after {:.1} s to settle; {}{deadline}; carrier {}\ncodecs may cost {} % of \
             accuracy; models with random weights may use raw, {}\nhosts {} {cores}; {network}\n\
             answers/s: mean and its 95 % interval{of_all}; the other columns: medians of the runs; not worse: the 95 % \
             interval of the ratio within runs holds 1 or more\n{missing}",
            self.runs,
            self.span_seconds,
            self.settle_seconds,
            self.load,
            self.carrier,
            self.max_accuracy_loss * 100.0,
            self.codecs.join(", "),
            self.hosts.join(", "),
        )
    }
}

#[cfg(test)]
mod tests;
