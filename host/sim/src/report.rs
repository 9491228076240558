//! What became of a run, in figures.

use bps_sched::{Answer, Ledger, Receipt, SwapReport};
use bps_types::{Nanos, RequestId};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// Figures of one run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// When the last event happened.
    pub ended: Nanos,
    /// The account of every request.
    pub ledger: Ledger,
    /// Answers per second of the whole run.
    pub throughput: f64,
    /// Latency percentiles of answered requests: 50, 95, 99.
    pub latency: [Nanos; 3],
    /// Mean rows of the batches that were executed.
    pub mean_batch: f64,
    /// Executed batches.
    pub batches: u64,
    /// Every answer, in order.
    #[serde(skip)]
    pub answers: Vec<Answered>,
    /// How often each plan was executed, and with how many rows in all.
    pub plans: BTreeMap<String, (u64, u64)>,
    /// Switches of the active policy, as `name#generation`; rollbacks and refusals say why.
    pub swaps: Vec<String>,
}

/// When a request was answered, and how long that took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// When.
    pub at: Nanos,
    /// From its arrival.
    pub total: Nanos,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let l = &self.ledger;
        writeln!(f, "ended at {} · {:.1} answers/s", self.ended, self.throughput)?;
        writeln!(f, "latency p50 {} · p95 {} · p99 {}", self.latency[0], self.latency[1], self.latency[2])?;
        writeln!(f, "{} batches of {:.2} rows", self.batches, self.mean_batch)?;
        writeln!(
            f,
            "submitted {} · answered {} · failed {} · shed {} · expired {} · cancelled {} · refused {} · left {}",
            l.submitted,
            l.answered,
            l.failed,
            l.shed,
            l.expired,
            l.cancelled,
            l.refused,
            l.waiting + l.running
        )?;
        writeln!(
            f,
            "retried {} · late {} · invalid rows {} · fallback decisions {}",
            l.retried, l.late, l.invalid_rows, l.fallback_decisions
        )?;
        write!(f, "policies: {}", self.swaps.join(", "))
    }
}

/// Collects what a [`Report`] is made of.
#[derive(Default)]
pub(crate) struct Tally {
    next: u64,
    answers: Vec<Answered>,
    rows: u64,
    batches: u64,
    plans: BTreeMap<String, (u64, u64)>,
    swaps: Vec<String>,
}

impl Tally {
    pub(crate) fn asked(&mut self) -> RequestId {
        self.next += 1;
        RequestId(self.next)
    }

    pub(crate) fn answered(&mut self, answer: &Answer, at: Nanos) {
        self.answers.push(Answered { at, total: answer.total });
    }

    pub(crate) fn receipt(&mut self, receipt: &Receipt) {
        self.rows += u64::from(receipt.rows);
        self.batches += 1;
        let stage = |s: &bps_sched::ReceiptStage| {
            let via = s.via.as_deref().map_or(String::new(), |codec| format!("={codec}=> "));
            format!("{via}{}[{}..{}]", s.on, s.from_cut, s.until_cut)
        };
        let plan = receipt.stages.iter().map(stage).collect::<Vec<_>>().join(" ");
        let count = self.plans.entry(plan).or_default();
        count.0 += 1;
        count.1 += u64::from(receipt.rows);
    }

    pub(crate) fn swapped(&mut self, report: &SwapReport) {
        let to = format!("{}#{}", report.to.name, report.generation);
        self.swaps.push(match (&report.refused, &report.rollback) {
            (Some(reason), _) => format!("refused ({reason})"),
            (None, Some(reason)) => format!("{to} after {reason:?}"),
            (None, None) => to,
        });
    }

    pub(crate) fn report(&mut self, ended: Nanos, ledger: Ledger) -> Report {
        debug_assert_eq!(self.next, ledger.submitted + ledger.refused, "every request is on the books");
        let mut latencies: Vec<Nanos> = self.answers.iter().map(|a| a.total).collect();
        latencies.sort_unstable();
        let percentile = |p: usize| {
            let at = (latencies.len() * p).div_ceil(100).saturating_sub(1);
            latencies.get(at).copied().unwrap_or_default()
        };
        let seconds = ended.as_secs_f64().max(1e-9);
        Report {
            ended,
            ledger,
            throughput: self.answers.len() as f64 / seconds,
            latency: [percentile(50), percentile(95), percentile(99)],
            mean_batch: self.rows as f64 / (self.batches as f64).max(1.0),
            batches: self.batches,
            answers: self.answers.clone(),
            plans: self.plans.clone(),
            swaps: self.swaps.clone(),
        }
    }
}
