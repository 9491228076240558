//! Whether a new policy does at least as well as the one before it.

use super::{PolicySlot, RollbackReason};
use crate::{Action, Config};
use bps_types::{Generation, Nanos};

/// A share is judged only after this many observations: fewer say nothing.
const JUDGED_FROM: u64 = 200;
/// So many bad windows in a row roll back: one may be chance.
const BAD_WINDOWS: u32 = 3;
/// A window is held against a policy only if it is worse than its predecessor's worst, and only if that has served about
/// as much in a window of its own: more misses under more load prove nothing.
const COMPARABLE_LOAD: f64 = 1.2;

/// What an instance has done while active, in windows of [`JUDGED_FROM`] requests.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Record {
    window_since: Option<Nanos>,
    window_answered: u64,
    window_missed: u64,
    /// What a successor is held to.
    standard: Standard,
    /// Windows in a row that were worse than the predecessor.
    bad_windows: u32,
}

impl Record {
    pub(crate) fn standard(&self) -> Standard {
        self.standard
    }

    fn note(&mut self, now: Nanos, answered: u64, missed: u64, standard: Option<&Standard>, margin: f64) {
        let since = *self.window_since.get_or_insert(now);
        self.window_answered += answered;
        self.window_missed += missed;
        if self.window_answered < JUDGED_FROM {
            return;
        }
        let rate = self.window_answered as f64 / now.since(since).as_secs_f64().max(1e-9);
        let share = self.window_missed as f64 / self.window_answered as f64;
        let bad = standard.is_some_and(|s| rate <= s.rate_max * COMPARABLE_LOAD && share > s.miss_share_max + margin);
        self.bad_windows = if bad { self.bad_windows + 1 } else { 0 };
        self.standard.rate_max = self.standard.rate_max.max(rate);
        self.standard.miss_share_max = self.standard.miss_share_max.max(share);
        (self.window_since, self.window_answered, self.window_missed) = (Some(now), 0, 0);
    }
}

/// What a new policy is held to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standard {
    /// Share of misses in its worst window.
    miss_share_max: f64,
    /// Requests per second of its busiest window.
    rate_max: f64,
}

/// A new policy's trial.
#[derive(Debug)]
pub(crate) struct Probation {
    since: Nanos,
    standard: Standard,
    decisions: u64,
    slow: u64,
    rows: u64,
    invalid_rows: u64,
}

impl Probation {
    pub(crate) fn new(since: Nanos, standard: Standard) -> Self {
        Self { since, standard, decisions: 0, slow: 0, rows: 0, invalid_rows: 0 }
    }

    fn verdict(&self, record: &Record) -> Option<RollbackReason> {
        if self.invalid_rows > 0 && self.invalid_rows * 1_000 > self.rows.max(JUDGED_FROM) {
            return Some(RollbackReason::InvalidRows);
        }
        if self.decisions >= JUDGED_FROM && self.slow * 100 > self.decisions {
            return Some(RollbackReason::Slow);
        }
        (record.bad_windows >= BAD_WINDOWS).then_some(RollbackReason::Misses)
    }
}

impl PolicySlot {
    pub(super) fn note_decide(&mut self, took: Nanos, config: &Config) {
        if let Some(probation) = &mut self.probation {
            probation.decisions += 1;
            probation.slow += u64::from(took > config.decide_budget);
        }
    }

    /// Rows of a decision of the active policy, as checked.
    pub(crate) fn note_rows(&mut self, valid: u64, invalid: u64) {
        if invalid > 0 {
            *self.faults.entry(crate::FaultClass::InvalidRow).or_default() += invalid;
        }
        if let Some(probation) = &mut self.probation {
            probation.rows += valid + invalid;
            probation.invalid_rows += invalid;
        }
    }

    /// Requests of this generation that ended, and how many of them missed their deadline or SLO.
    pub(crate) fn note_answers(
        &mut self,
        generation: Generation,
        answered: u64,
        missed: u64,
        now: Nanos,
        config: &Config,
    ) {
        let standard = self.probation.as_ref().map(|p| p.standard);
        if let Some(active) = self.active.as_mut().filter(|a| a.author.generation == generation) {
            active.record.note(now, answered, missed, standard.as_ref(), config.probation_miss_margin);
        }
    }

    /// A request expired while it waited: whoever decides now did not get to it.
    pub(crate) fn note_expired(&mut self, now: Nanos, config: &Config) {
        self.note_answers(self.author().generation, 1, 1, now, config);
    }

    /// Ends the probation, well or badly, when there is enough to go by.
    pub(crate) fn judge(&mut self, now: Nanos, config: &Config) -> Vec<Action> {
        let (Some(probation), Some(active)) = (&self.probation, &self.active) else { return Vec::new() };
        if let Some(reason) = probation.verdict(&active.record) {
            return self.roll_back(reason, now);
        }
        let over = now.since(probation.since) >= config.probation || probation.decisions >= config.probation_decisions;
        if over {
            self.probation = None;
            // The predecessor stays on standby for an asked-for rollback, until the next swap.
        }
        Vec::new()
    }
}
