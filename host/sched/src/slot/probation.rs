//! Whether a new policy does at least as well as the one before it.

use super::{PolicySlot, RollbackReason};
use crate::{Action, Config};
use bps_types::Nanos;

/// A share is judged only after this many observations: fewer say nothing.
const JUDGED_FROM: u64 = 200;

/// What an instance has done while active.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Record {
    answered: u64,
    missed: u64,
}

impl Record {
    pub(crate) fn miss_share(&self) -> f64 {
        if self.answered == 0 { 0.0 } else { self.missed as f64 / self.answered as f64 }
    }
}

/// A new policy's trial.
#[derive(Debug)]
pub(crate) struct Probation {
    since: Nanos,
    /// Its predecessor's share of missed deadlines.
    incumbent_share: f64,
    decisions: u64,
    slow: u64,
    rows: u64,
    invalid_rows: u64,
}

impl Probation {
    pub(crate) fn new(since: Nanos, incumbent_share: f64) -> Self {
        Self { since, incumbent_share, decisions: 0, slow: 0, rows: 0, invalid_rows: 0 }
    }

    fn verdict(&self, record: &Record, config: &Config) -> Option<RollbackReason> {
        if self.invalid_rows > 0 && self.invalid_rows * 1_000 > self.rows.max(JUDGED_FROM) {
            return Some(RollbackReason::InvalidRows);
        }
        if self.decisions >= JUDGED_FROM && self.slow * 100 > self.decisions {
            return Some(RollbackReason::Slow);
        }
        let worse = record.miss_share() > self.incumbent_share + config.probation_miss_margin;
        (record.answered >= JUDGED_FROM && worse).then_some(RollbackReason::Misses)
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
    pub(crate) fn note_answers(&mut self, generation: bps_types::Generation, answered: u64, missed: u64) {
        if let Some(active) = self.active.as_mut().filter(|a| a.author.generation == generation) {
            active.record.answered += answered;
            active.record.missed += missed;
        }
    }

    /// Ends the probation, well or badly, when there is enough to go by.
    pub(crate) fn judge(&mut self, now: Nanos, config: &Config) -> Vec<Action> {
        let (Some(probation), Some(active)) = (&self.probation, &self.active) else { return Vec::new() };
        if let Some(reason) = probation.verdict(&active.record, config) {
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
