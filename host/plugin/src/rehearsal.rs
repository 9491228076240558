//! The stage rehearsed: a policy answers many snapshots before it answers one that matters.

mod corpus;

pub use corpus::Corpus;

use crate::{LoadError, LoadStage, LoadedPolicy, WasmPolicy};
use bps_sched::check::{Ground, hops, standings};
use bps_sched::{Fault, Plan, Policy};
use bps_types::policy::{Decision, Origin, Outcome, Snapshot, Table, TableKind, bound};
use bps_types::{Nanos, RequestId};
use serde::Serialize;
use std::time::{Duration, Instant};

/// Decisions between two calls of `observe`.
const OBSERVE_EVERY: usize = 4;

/// Memory growth per call that still counts as none, in the second pass over the same corpus.
const GROWTH_BYTES_PER_CALL_MAX: f64 = 256.0;

/// Deadlines are so many times longer than under traffic: a machine that is busy with something else holds a decision up for
/// longer than any takes, and each snapshot counts with the quickest of three answers anyway.
const PATIENCE: u32 = 8;

/// One row in so many may be invalid: 0.1 %.
const ROWS_PER_INVALID: u64 = 1_000;

/// What became of a policy's state when it was saved and restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StateCarried {
    /// It keeps none.
    None,
    /// A fresh instance declined it.
    Declined,
    /// A fresh instance took it and decided as the saved one did from there on.
    Carried,
}

/// What a rehearsal saw.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rehearsal {
    /// Snapshots answered, each once by the first instance and once again.
    pub snapshots: usize,
    /// Rows proposed in the first pass.
    pub rows: u64,
    /// Rows of them that the check refused.
    pub invalid_rows: u64,
    /// The first refusal in words.
    pub first_invalid: Option<String>,
    /// Time of a decision over the corpus, half of them below this. Each snapshot counts with the quickest of three
    /// answers: the others were held up by whatever else the machine does.
    pub decide_ns_p50: u64,
    /// 99 of 100 below this.
    pub decide_ns_p99: u64,
    /// The longest.
    pub decide_ns_max: u64,
    /// Linear memory at the end.
    pub memory_bytes: usize,
    /// Growth in the second pass.
    pub memory_growth_bytes_per_call: f64,
    /// Whether state survives.
    pub state: StateCarried,
}

/// Rehearses; see [`LoadedPolicy::rehearse`].
pub(crate) fn rehearse(
    loaded: &LoadedPolicy,
    config: &str,
    seed: u64,
    corpus: &Corpus,
) -> Result<Rehearsal, LoadError> {
    let reject = |reason: String| LoadError::new(LoadStage::Rehearsed, reason);
    let mut first = Stand::new(loaded, config, seed, corpus)?;
    let mut second = Stand::new(loaded, config, seed, corpus)?;
    let mut times = Vec::with_capacity(corpus.snapshots.len());
    for (at, snapshot) in corpus.snapshots.iter().enumerate() {
        let (decision, time) = first.timed(at, snapshot).map_err(&reject)?;
        let (again, time_again) = second.timed(at, snapshot).map_err(&reject)?;
        if again != decision {
            return Err(reject(format!("two instances decided differently at snapshot {at}: not deterministic")));
        }
        times.push(time.min(time_again));
    }
    let (rows, invalid_rows, first_invalid) = (first.rows, first.invalid_rows, first.first_invalid.clone());
    let (state, growth) = second_pass(loaded, config, seed, corpus, &mut first, &mut times)?;
    times.sort_unstable();
    let rank = |share: f64| times.get((times.len() as f64 * share) as usize).or(times.last()).copied().unwrap_or(0);
    let report = Rehearsal {
        snapshots: corpus.snapshots.len(),
        rows,
        invalid_rows,
        first_invalid,
        decide_ns_p50: rank(0.5),
        decide_ns_p99: rank(0.99),
        decide_ns_max: rank(1.0),
        memory_bytes: first.policy.memory_bytes(),
        memory_growth_bytes_per_call: growth,
        state,
    };
    judge(&report, corpus, loaded.limits().decide_deadline).map_err(reject)?;
    Ok(report)
}

/// The corpus once more: the instance that knows it already must not grow, and one restored from its state must decide
/// as it does.
fn second_pass(
    loaded: &LoadedPolicy,
    config: &str,
    seed: u64,
    corpus: &Corpus,
    first: &mut Stand<'_>,
    times: &mut [u64],
) -> Result<(StateCarried, f64), LoadError> {
    let reject = |reason: String| LoadError::new(LoadStage::Rehearsed, reason);
    let mut heir = Stand::new(loaded, config, seed, corpus)?;
    let state = match first.policy.save().map_err(|fault| reject(format!("save: {fault}")))? {
        None => StateCarried::None,
        Some(blob) => match heir.policy.restore(&origin(loaded), &blob) {
            Ok(true) => StateCarried::Carried,
            Ok(false) => StateCarried::Declined,
            Err(fault) => return Err(reject(format!("restore of its own state: {fault}"))),
        },
    };
    // What is pending and what chance brings is the same for both from here on.
    (heir.random, heir.pending) = (first.random, first.pending.clone());
    let before = first.policy.memory_bytes();
    for (at, snapshot) in corpus.snapshots.iter().enumerate() {
        let (decision, time) = first.timed(at, snapshot).map_err(&reject)?;
        times[at] = times[at].min(time);
        if state == StateCarried::Carried && heir.decide(at, snapshot).map_err(&reject)? != decision {
            return Err(reject(format!("restored from its own state it decided differently, first at snapshot {at}")));
        }
    }
    let grown = first.policy.memory_bytes().saturating_sub(before);
    Ok((state, grown as f64 / corpus.snapshots.len().max(1) as f64))
}

fn origin(loaded: &LoadedPolicy) -> Origin {
    let manifest = loaded.manifest();
    Origin {
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        state_schema: manifest.state_schema.clone(),
    }
}

/// What a report must not say.
fn judge(report: &Rehearsal, corpus: &Corpus, deadline: Duration) -> Result<(), String> {
    if u128::from(report.decide_ns_p99) > (deadline / 2).as_nanos() {
        return Err(format!("slow: one decision in a hundred takes over {} us", report.decide_ns_p99 / 1_000));
    }
    if u128::from(report.decide_ns_max) > deadline.as_nanos() {
        let took = report.decide_ns_max / 1_000;
        return Err(format!("slow: a decision takes {took} us, the deadline is {} us", deadline.as_micros()));
    }
    if report.invalid_rows * ROWS_PER_INVALID > report.rows {
        let example = report.first_invalid.as_deref().unwrap_or("no example");
        return Err(format!("{} of {} rows are invalid, the first: {example}", report.invalid_rows, report.rows));
    }
    if report.memory_growth_bytes_per_call > GROWTH_BYTES_PER_CALL_MAX {
        let bytes = report.memory_growth_bytes_per_call;
        return Err(format!("memory grows by {bytes:.0} bytes with each decision"));
    }
    if report.rows == 0 && corpus.has_work() {
        return Err("it never dispatched anything, with requests waiting and devices free".into());
    }
    Ok(())
}

/// An instance on the rehearsal stage, with what the host would keep about it.
struct Stand<'c> {
    policy: WasmPolicy,
    corpus: &'c Corpus,
    losses: Vec<Table>,
    pending: Vec<Outcome>,
    random: u64,
    rows: u64,
    invalid_rows: u64,
    first_invalid: Option<String>,
}

impl<'c> Stand<'c> {
    fn new(loaded: &LoadedPolicy, config: &str, seed: u64, corpus: &'c Corpus) -> Result<Self, LoadError> {
        let reject = |fault: Fault| LoadError::new(LoadStage::Rehearsed, fault.to_string());
        let mut policy = loaded.instantiate(config, seed)?;
        policy.be_patient(PATIENCE);
        policy.world_changed(&corpus.world).map_err(reject)?;
        for table in &corpus.tables {
            policy.table_changed(table).map_err(reject)?;
        }
        let is_loss = |table: &&Table| table.kind == TableKind::CodecLossPpm;
        let losses = corpus.tables.iter().filter(is_loss).cloned().collect();
        let (pending, random) = (vec![], 1);
        Ok(Self { policy, corpus, losses, pending, random, rows: 0, invalid_rows: 0, first_invalid: None })
    }

    /// One decision and its nanoseconds.
    fn timed(&mut self, at: usize, snapshot: &Snapshot) -> Result<(Decision, u64), String> {
        let started = Instant::now();
        let decision = self.policy.decide(snapshot);
        let time = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.settle(at, snapshot, decision).map(|decision| (decision, time))
    }

    /// One decision.
    fn decide(&mut self, at: usize, snapshot: &Snapshot) -> Result<Decision, String> {
        self.timed(at, snapshot).map(|(decision, _)| decision)
    }

    /// Checks a decision, and now and then tells what became of the earlier ones.
    fn settle(&mut self, at: usize, snapshot: &Snapshot, made: Result<Decision, Fault>) -> Result<Decision, String> {
        let place = |what: &str, fault: Fault| format!("{what} at snapshot {at}: {fault}");
        let decision = made.map_err(|fault| place("decide", fault))?;
        self.check(snapshot, &decision);
        if at % OBSERVE_EVERY == OBSERVE_EVERY - 1 {
            let outcomes = std::mem::take(&mut self.pending);
            let told = &outcomes[..outcomes.len().min(bound::OUTCOMES)];
            self.policy.observe(told, 0).map_err(|fault| place("observe", fault))?;
        }
        Ok(decision)
    }

    fn check(&mut self, snapshot: &Snapshot, decision: &Decision) {
        let mut ground = Ground::new(&self.corpus.world, snapshot, standings(snapshot), hops(snapshot), &self.losses);
        let mut refusals = vec![];
        for dispatch in &decision.dispatches {
            match ground.check(dispatch) {
                Ok(plan) => self.pending.push(imagine(snapshot, dispatch.queue, dispatch.tag, &plan, &mut self.random)),
                Err(refusal) => refusals.push(refusal.to_string()),
            }
        }
        for id in &decision.shed {
            if let Err(refusal) = ground.check_shed(RequestId(*id), snapshot.ids.contains(id)) {
                refusals.push(refusal.to_string());
            }
        }
        let unknown = |join: &&bps_types::policy::Join| !snapshot.arrived.iter().any(|stage| stage.id == join.arrived);
        refusals.extend(decision.joins.iter().filter(unknown).map(|join| format!("no arrived stage {}", join.arrived)));
        let counts = [
            (decision.dispatches.len(), bound::DISPATCHES, "dispatches"),
            (decision.joins.len(), bound::JOINS, "joins"),
            (decision.shed.len(), bound::SHED, "sheds"),
        ];
        refusals.extend(
            counts.iter().filter(|(n, max, _)| n > max).map(|(n, max, what)| format!("{n} {what}, {max} allowed")),
        );
        self.rows += (decision.dispatches.len() + decision.joins.len() + decision.shed.len()) as u64;
        self.invalid_rows += refusals.len() as u64;
        if self.first_invalid.is_none() {
            self.first_invalid = refusals.into_iter().next();
        }
    }
}

/// What could have become of a plan: each stage takes 1 to 17 ms.
fn imagine(snapshot: &Snapshot, queue: u32, tag: u64, plan: &Plan, random: &mut u64) -> Outcome {
    let mut stage_nanos = vec![];
    for _ in plan.stages() {
        stage_nanos.push(1_000_000 + corpus::next(random) % 16_000_000);
    }
    let known = snapshot.queues.iter().find(|known| known.id == queue);
    let wait = known.map_or(Nanos::ZERO, |queue| queue.oldest_wait);
    Outcome {
        tag,
        generation: 1,
        model: known.map_or(0, |queue| queue.model),
        rows: plan.requests().len() as u32,
        wait,
        total: wait + Nanos(stage_nanos.iter().sum()),
        bytes: 0,
        stage_devices: plan.stages().iter().map(|stage| stage.device.0).collect(),
        stage_nanos,
        missed: 0,
        failed: u32::from(corpus::next(random).is_multiple_of(50)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_slow_is_told_apart_from_what_was_held_up() {
        // (99 of 100 decisions, the longest, in ns; a word of the reason)
        let cases = [
            (2_400_000, 4_900_000, ""),
            (2_600_000, 2_600_000, "one decision in a hundred"),
            (1_000, 5_100_000, "the deadline is 5000 us"),
        ];
        let corpus = Corpus::synthetic(1, 1);
        for (decide_ns_p99, decide_ns_max, word) in cases {
            let report = Rehearsal {
                snapshots: 1,
                rows: 1,
                invalid_rows: 0,
                first_invalid: None,
                decide_ns_p50: 1_000,
                decide_ns_p99,
                decide_ns_max,
                memory_bytes: 0,
                memory_growth_bytes_per_call: 0.0,
                state: StateCarried::None,
            };
            let judged = judge(&report, &corpus, Duration::from_millis(5));
            assert_eq!(judged.is_ok(), word.is_empty(), "{judged:?}");
            assert!(judged.err().unwrap_or_default().contains(word));
        }
    }
}
