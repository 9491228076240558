//! What one run comes to: figures of its answers, and how the system reacted to what was done to it. Pure.

use super::dispatch::{self, Dispatch};
use super::load::{Answer, End};
use crate::latency::Latencies;
use serde::Serialize;
use std::time::Duration;

/// Answers that make a plain count exact enough (2 %).
const MANY: usize = 50;
/// Steps in which a recovery is looked for, seconds.
const STEP: f64 = 0.05;
/// The shortest stretch over which a throughput is taken, seconds.
const STRETCH: f64 = 0.5;
/// A throughput has recovered when it has this share of the level it settles at: less would be noise of short stretches.
const RECOVERED: f64 = 0.8;

/// Figures of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Figures {
    /// Answers per second; with a deadline, those in time.
    pub(super) throughput: f64,
    /// Milliseconds.
    pub(super) p50_ms: f64,
    /// Milliseconds.
    pub(super) p95_ms: f64,
    /// Milliseconds.
    pub(super) p99_ms: f64,
    /// Share of requests that were late, expired or refused.
    pub(super) missed: f64,
    /// Requests that ended in the window.
    pub(super) ended: u64,
    /// The host had no room.
    pub(super) refused: u64,
    /// The host gave them up and said so.
    pub(super) expired: u64,
    /// Ended in an error.
    pub(super) failed: u64,
    /// Had no answer at all.
    pub(super) lost: u64,
    /// What the first error said.
    pub(super) first_failure: Option<String>,
    /// Share of answers that name the right class, where that is known.
    pub(super) right: Option<f64>,
    /// Bytes over links per request.
    pub(super) bytes_per_request: Option<f64>,
    /// Bytes that the emulated links delivered per request, both ways: headers, acknowledgements and probes included.
    pub(super) wire_bytes_per_request: Option<f64>,
    /// Rows per dispatch.
    pub(super) rows_mean: Option<f64>,
    /// The plan of most requests, and their share.
    pub(super) usual_plan: Option<(String, f64)>,
    /// Median time of a decision, microseconds.
    pub(super) decide_p50_us: Option<f64>,
    /// 99th percentile of it.
    pub(super) decide_p99_us: Option<f64>,
    /// The longest that the swap to this policy held up dispatch, microseconds.
    pub(super) swap_pause_us: Option<f64>,
    /// What was done to the system, and what it made of it.
    pub(super) reactions: Vec<Reaction>,
}

/// Something done to the system during a run.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Event {
    /// When, seconds from the beginning of the window.
    pub(super) at: f64,
    /// What.
    pub(super) text: String,
}

/// What the system made of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Reaction {
    /// What was done.
    pub(super) text: String,
    /// When, seconds from the beginning of the window.
    pub(super) at_s: f64,
    /// The usual plan of the second before; none where nothing was dispatched.
    pub(super) plan_before: Option<String>,
    /// Until the first dispatch by another plan than that; none where plans stayed.
    pub(super) new_plan_ms: Option<f64>,
    /// Answers per second before.
    pub(super) before: f64,
    /// Answers per second once it had settled: in the second half of the time until the next event.
    pub(super) after: f64,
    /// Until throughput had reached 80 % of that; none where it never did.
    pub(super) recovered_ms: Option<f64>,
    /// Requests that missed their deadline or had no answer until the next event.
    pub(super) missed: u64,
}

/// Figures of the answers of a run. `steady`: nothing was done to the system, so that a few answers can be timed.
pub(super) fn of_answers(answers: &[Answer], span: Duration, deadline: Option<Duration>, steady: bool) -> Figures {
    let span = span.as_secs_f64();
    let in_window = |a: &&Answer| a.at >= 0.0 && a.at < span;
    let good = |a: &&Answer| is_good(a, deadline);
    let mut figures = Figures { throughput: throughput(answers, span, deadline, steady), ..Figures::default() };
    let mut latencies = Latencies::new();
    let (mut right, mut judged) = (0u64, 0u64);
    for answer in answers.iter().filter(in_window) {
        figures.ended += 1;
        match &answer.end {
            End::Answered(judgement) => {
                latencies.record(Duration::from_secs_f64(answer.latency));
                judged += u64::from(judgement.is_some());
                right += u64::from(*judgement == Some(true));
            }
            End::Expired => figures.expired += 1,
            End::Refused => figures.refused += 1,
            End::Failed(_) | End::Lost => {}
        }
    }
    // Errors and losses count wherever they end: what a late run loses is lost too.
    for answer in answers {
        match &answer.end {
            End::Failed(said) => {
                figures.failed += 1;
                figures.first_failure.get_or_insert_with(|| said.clone());
            }
            End::Lost => figures.lost += 1,
            _ => {}
        }
    }
    let missed = answers.iter().filter(in_window).filter(|a| !good(a)).count();
    figures.missed = missed as f64 / (figures.ended.max(1)) as f64;
    figures.right = (judged > 0).then(|| right as f64 / judged as f64);
    let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|q| latencies.quantile_ms(q));
    (figures.p50_ms, figures.p95_ms, figures.p99_ms) = (p50, p95, p99);
    figures
}

fn is_good(answer: &Answer, deadline: Option<Duration>) -> bool {
    matches!(answer.end, End::Answered(_)) && deadline.is_none_or(|d| answer.latency <= d.as_secs_f64())
}

/// Answers per second. Where a steady window holds few, they are timed from the last answer before the window to the last
/// one in it: a count would be off by up to one on either side.
fn throughput(answers: &[Answer], span: f64, deadline: Option<Duration>, steady: bool) -> f64 {
    let times = answers.iter().filter(|a| is_good(a, deadline)).map(|a| a.at);
    let (before, inside): (Vec<f64>, Vec<f64>) = times.filter(|at| *at < span).partition(|at| *at < 0.0);
    if steady
        && inside.len() < MANY
        && let (Some(first), Some(last)) = (before.last(), inside.last())
    {
        return inside.len() as f64 / (last - first);
    }
    inside.len() as f64 / span
}

/// Adds what the hosts' receipts say. Each origin's dispatches are of this run.
pub(super) fn add_dispatches(figures: &mut Figures, dispatches: &[Dispatch]) {
    let totals = dispatch::totals(dispatches);
    figures.bytes_per_request = totals.bytes_per_request;
    figures.rows_mean = totals.rows_mean;
    figures.usual_plan = totals.usual_plan;
}

/// What the system made of each event. `plans`: when (seconds from the beginning of the window) a dispatch left, and its plan.
pub(super) fn reactions(
    events: &[Event],
    answers: &[Answer],
    plans: &[(f64, String)],
    span: Duration,
    deadline: Option<Duration>,
) -> Vec<Reaction> {
    let good: Vec<f64> = answers.iter().filter(|a| is_good(a, deadline)).map(|a| a.at).collect();
    let bad: Vec<f64> = answers.iter().filter(|a| !is_good(a, deadline)).map(|a| a.at).collect();
    let count = |times: &[f64], from: f64, until: f64| times.iter().filter(|t| **t >= from && **t < until).count();
    let rate =
        |from: f64, until: f64| if until > from { count(&good, from, until) as f64 / (until - from) } else { 0.0 };
    let react = |(number, event): (usize, &Event)| {
        let until = events.get(number + 1).map_or(span.as_secs_f64(), |next| next.at);
        let since = number.checked_sub(1).map_or(-1.0, |n| events[n].at).max(event.at - 2.0);
        let after = rate((event.at + until) / 2.0, until);
        // Long enough for a few answers at that rate.
        let stretch = if after > 0.0 { (5.0 / after).max(STRETCH) } else { STRETCH };
        let usual = usual_plan(plans, event.at - 1.0, event.at);
        let new =
            plans.iter().find(|(t, plan)| *t >= event.at && *t < until && usual.is_some_and(|usual| plan != usual));
        let starts = (0..).map(|i| event.at + f64::from(i) * STEP).take_while(|at| at + stretch <= until);
        let recovered = starts.into_iter().find(|&at| after > 0.0 && rate(at, at + stretch) >= RECOVERED * after);
        Reaction {
            text: event.text.clone(),
            at_s: event.at,
            plan_before: usual.cloned(),
            new_plan_ms: new.map(|(at, _)| (at - event.at) * 1e3),
            before: rate(since, event.at),
            after,
            recovered_ms: recovered.map(|at| (at - event.at) * 1e3),
            missed: count(&bad, event.at, until) as u64,
        }
    };
    events.iter().enumerate().map(react).collect()
}

/// The plan of most dispatches of a stretch.
fn usual_plan(plans: &[(f64, String)], from: f64, until: f64) -> Option<&String> {
    let within: Vec<&String> = plans.iter().filter(|(t, _)| *t >= from && *t < until).map(|(_, plan)| plan).collect();
    within.iter().max_by_key(|plan| within.iter().filter(|p| p == plan).count()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn answered(at: f64) -> Answer {
        Answer { at, latency: 0.01, end: End::Answered(None) }
    }

    #[test]
    fn answers_are_counted_within_the_window() {
        let mut answers: Vec<Answer> = (-10..110).map(|i| answered(f64::from(i) / 100.0)).collect();
        answers.push(Answer { end: End::Refused, ..answered(0.5) });
        answers.push(Answer { end: End::Failed("no".into()), ..answered(1.5) });
        answers.push(Answer { end: End::Answered(Some(true)), ..answered(0.5) });
        let figures = of_answers(&answers, SECOND, None, true);
        assert_eq!((figures.throughput, figures.ended, figures.refused, figures.failed), (101.0, 102, 1, 1));
        assert_eq!((figures.first_failure.as_deref(), figures.right), (Some("no"), Some(1.0)));
        assert!((figures.p50_ms - 10.0).abs() < 0.1 && (figures.missed - 1.0 / 102.0).abs() < 1e-9);
    }

    #[test]
    fn few_answers_are_timed() {
        // One every 0.3 s: three or four in a second, depending on where it begins.
        for offset in [0.0, 0.1, 0.2] {
            let answers: Vec<Answer> = (-5..5).map(|i| answered(f64::from(i) * 0.3 + offset)).collect();
            let timed = of_answers(&answers, SECOND, None, true).throughput;
            assert!((timed - 1.0 / 0.3).abs() < 1e-9, "{timed}");
            assert!([3.0, 4.0].contains(&of_answers(&answers, SECOND, None, false).throughput));
        }
        assert_eq!(of_answers(&[], SECOND, None, true).throughput, 0.0);
    }

    #[test]
    fn late_answers_are_missed() {
        let answers = [answered(0.1), Answer { latency: 0.5, ..answered(0.6) }];
        let figures = of_answers(&answers, SECOND, Some(Duration::from_millis(100)), false);
        assert_eq!((figures.throughput, figures.missed, figures.ended), (1.0, 0.5, 2));
    }

    #[test]
    fn a_kill_is_felt_and_got_over() {
        // 100 a second until 2 s, nothing for 0.4 s, then 40 a second.
        let mut answers: Vec<Answer> = (-100..200).map(|i| answered(f64::from(i) / 100.0)).collect();
        answers.extend((0..144).map(|i| answered(2.4 + f64::from(i) / 40.0)));
        answers.push(Answer { end: End::Expired, ..answered(2.2) });
        let mut plans: Vec<(f64, String)> = (0..200).map(|i| (f64::from(i) / 100.0, "split".into())).collect();
        plans.push((2.3, "local".into()));
        let events = [Event { at: 2.0, text: "server killed".into() }];
        let span = Duration::from_secs(6);
        let reaction = &reactions(&events, &answers, &plans, span, None)[0];
        assert!((reaction.before - 100.0).abs() < 1.0 && (reaction.after - 40.0).abs() < 1.0, "{reaction:?}");
        assert!((reaction.new_plan_ms.unwrap() - 300.0).abs() < 1.0, "{reaction:?}");
        let recovered = reaction.recovered_ms.unwrap();
        assert!((250.0..=400.0).contains(&recovered), "{recovered}");
        assert_eq!((reaction.missed, reaction.plan_before.as_deref()), (1, Some("split")));
    }

    #[test]
    fn what_never_recovers_is_said() {
        let answers: Vec<Answer> = (0..100).map(|i| answered(f64::from(i) / 100.0)).collect();
        let events = [Event { at: 1.0, text: "down".into() }];
        let reaction = &reactions(&events, &answers, &[], Duration::from_secs(3), None)[0];
        assert_eq!((reaction.after, reaction.recovered_ms, reaction.new_plan_ms), (0.0, None, None));
    }
}
