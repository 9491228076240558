//! What the demo found: counted, judged, and as a table.

use super::control::Steering;
use super::plan::Segment;
use crate::latency::{Latencies, LatencySummary, micros_text};
use crate::table::{self, Table};
use crate::traffic::Hit;
use bps_sched::Ledger;
use serde::Serialize;

/// The model tells 99 % of the digits it has not seen; what is served must not do noticeably worse.
const ACCURACY_MIN: f64 = 0.97;
/// Failures that are quoted.
const ERRORS_QUOTED: usize = 3;

/// Counts of one segment.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    latencies: Latencies,
    answered: u64,
    right: u64,
    failed: u64,
    errors: Vec<String>,
}

impl Tally {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self { latencies: Latencies::new(), answered: 0, right: 0, failed: 0, errors: Vec::new() }
    }

    /// One more request has ended.
    pub(super) fn add(&mut self, hit: &Hit) {
        match &hit.outcome {
            Ok(answered) => {
                self.answered += 1;
                self.right += u64::from(answered.right);
                self.latencies.record(hit.latency);
            }
            Err(error) => {
                self.failed += 1;
                if self.errors.len() < ERRORS_QUOTED {
                    self.errors.push(error.clone());
                }
            }
        }
    }
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Phase {
    policy: String,
    load: &'static str,
    digest: String,
    answered: u64,
    accuracy: f64,
    requests_per_second: f64,
    latency: LatencySummary,
    mean_batch: f64,
    decide_p50_us: f64,
    decide_p99_us: f64,
}

/// Everything the demo found.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    phases: Vec<Phase>,
    sent: u64,
    answered: u64,
    lost: u64,
    accuracy: f64,
    swaps: u64,
    swaps_that_met_requests: u64,
    pause_p50_us: f64,
    pause_p99_us: f64,
    pause_max_us: f64,
    /// The host's own account, after it was drained.
    ledger: Option<Ledger>,
    errors: Vec<String>,
}

impl Report {
    /// Puts counts and notes together.
    pub(super) fn new(segments: &[Segment], tallies: Vec<Tally>, steering: Steering, sent: usize) -> Self {
        let sum = |of: fn(&Tally) -> u64| tallies.iter().map(of).sum::<u64>();
        let (answered, right) = (sum(|t| t.answered), sum(|t| t.right));
        let mut pauses = steering.pauses_us;
        pauses.sort_by(f64::total_cmp);
        let notes = steering.phases.into_iter();
        let phases = segments.iter().zip(&tallies).zip(notes).map(|((segment, tally), note)| Phase {
            policy: decided(segment.policy, &note.policy),
            load: segment.load_name(),
            digest: if segment.policy.is_some() { note.digest } else { String::new() },
            answered: tally.answered,
            accuracy: share(tally.right, tally.answered),
            requests_per_second: tally.answered as f64 / segment.span.as_secs_f64(),
            latency: tally.latencies.summary(),
            mean_batch: note.mean_batch,
            decide_p50_us: note.decide_p50_us,
            decide_p99_us: note.decide_p99_us,
        });
        Self {
            phases: phases.collect(),
            sent: sent as u64,
            answered,
            lost: (sent as u64).saturating_sub(answered),
            accuracy: share(right, answered),
            swaps: pauses.len() as u64,
            swaps_that_met_requests: steering.met_requests,
            pause_p50_us: quantile(&pauses, 0.5),
            pause_p99_us: quantile(&pauses, 0.99),
            pause_max_us: quantile(&pauses, 1.0),
            ledger: None,
            errors: tallies.into_iter().flat_map(|t| t.errors).take(ERRORS_QUOTED).collect(),
        }
    }

    /// Adds what the host itself counted.
    pub(super) fn with_ledger(self, ledger: Ledger) -> Self {
        Self { ledger: Some(ledger), ..self }
    }

    /// Why the run is a failure, if it is one.
    pub(super) fn wrong(&self) -> Option<String> {
        if self.lost > 0 {
            let errors = if self.errors.is_empty() { String::new() } else { format!(": {}", self.errors.join("; ")) };
            return Some(format!("{} of {} requests were not answered{errors}", self.lost, self.sent));
        }
        if self.accuracy < ACCURACY_MIN {
            let (got, least) = (table::percent(self.accuracy), table::percent(ACCURACY_MIN));
            return Some(format!("only {got} of the answers are right, at least {least} should be"));
        }
        match &self.ledger {
            Some(ledger) if ledger.submitted != ledger.answered => {
                Some(format!("the host took {} requests and answered {}", ledger.submitted, ledger.answered))
            }
            _ => None,
        }
    }
}

/// Who decided. A host that finds a policy too slow, say on a busy machine, goes back to the one before: that is said.
fn decided(planned: Option<&str>, active: &str) -> String {
    match planned {
        None => "(two in turn)".into(),
        Some(planned) if planned == active => planned.into(),
        Some(planned) => format!("{planned}, rolled back to {active}"),
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The smallest value that this share of an ascending list does not exceed; 0 for an empty one.
fn quantile(ascending: &[f64], share: f64) -> f64 {
    let rank = (share * ascending.len() as f64).ceil() as usize;
    ascending.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// The table and the totals.
pub(super) fn text(report: &Report) -> String {
    let mut table = Table::new(&[
        "policy",
        "load",
        "digest",
        ">answered",
        ">right",
        ">req/s",
        ">p50",
        ">p99",
        ">mean batch",
        ">decide p50",
        ">p99",
    ]);
    // A policy that has just come has not decided anything yet.
    let decide = |us: f64| if us > 0.0 { micros_text(us) } else { "-".into() };
    for phase in &report.phases {
        table.row([
            phase.policy.clone(),
            phase.load.into(),
            table::short(&phase.digest),
            table::count(phase.answered),
            table::percent(phase.accuracy),
            format!("{:.0}", phase.requests_per_second),
            micros_text(phase.latency.p50_us),
            micros_text(phase.latency.p99_us),
            format!("{:.1}", phase.mean_batch),
            decide(phase.decide_p50_us),
            decide(phase.decide_p99_us),
        ]);
    }
    format!(
        "\n{table}\nswaps      {}, {} of them with requests in the house; dispatch paused p50 {}, p99 {}, max {}\nrequests   {} sent, {} answered, {} lost\n\
         answers    {} right, on digits the model was not trained on\n",
        report.swaps,
        report.swaps_that_met_requests,
        micros_text(report.pause_p50_us),
        micros_text(report.pause_p99_us),
        micros_text(report.pause_max_us),
        table::count(report.sent),
        table::count(report.answered),
        table::count(report.lost),
        table::percent(report.accuracy),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::demo::control::PhaseNote;
    use crate::commands::demo::{DemoArgs, plan};
    use crate::traffic::Answered;
    use std::time::Duration;

    fn report(answered: u32, right: u32, failed: u32) -> Report {
        let segments = &plan::segments(&DemoArgs::default())[..1];
        let mut tally = Tally::new();
        for number in 0..answered + failed {
            let ok = Answered { right: number < right, timing: None };
            let outcome = if number < answered { Ok(ok) } else { Err("503".to_owned()) };
            tally.add(&Hit { segment: 0, latency: Duration::from_millis(2), outcome });
        }
        let steering = Steering {
            phases: vec![PhaseNote { policy: "local-only".into(), ..PhaseNote::default() }],
            pauses_us: vec![3.0, 1.0, 2.0],
            met_requests: 1,
        };
        Report::new(segments, vec![tally], steering, (answered + failed) as usize)
    }

    #[test]
    fn all_answered_and_right_is_a_success() {
        let report = report(100, 97, 0);
        assert_eq!(report.wrong(), None);
        assert_eq!((report.pause_p50_us, report.pause_max_us, report.lost), (2.0, 3.0, 0));
        let text = text(&report);
        for part in ["local-only", "97.0 %", "100 sent, 100 answered, 0 lost", "max 3.0 µs"] {
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        }
    }

    #[test]
    fn a_lost_request_wrong_answers_and_a_false_account_are_failures() {
        assert!(report(99, 99, 1).wrong().unwrap().contains("1 of 100 requests were not answered: 503"));
        assert!(report(100, 90, 0).wrong().unwrap().contains("90.0 %"));
        let ledger = Ledger { submitted: 101, answered: 100, ..Ledger::default() };
        assert!(report(100, 100, 0).with_ledger(ledger).wrong().unwrap().contains("took 101"));
    }

    #[test]
    fn a_policy_that_was_taken_back_is_not_credited() {
        assert_eq!(decided(Some("batching"), "batching"), "batching");
        assert_eq!(decided(Some("batching"), "local-only"), "batching, rolled back to local-only");
    }

    #[test]
    fn quantiles_of_few_values() {
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(|q| quantile(&[1.0, 2.0, 3.0], q)), [1.0, 2.0, 3.0, 3.0]);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }
}
