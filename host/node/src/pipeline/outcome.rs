//! How a request ended, counted exactly once: also when its future is dropped.

use crate::dispatcher::Answered;
use crate::models::ServedModel;
use crate::stats::Spent;
use crate::{ServeError, clock};
use bps_types::Nanos;
use std::sync::Arc;

/// Open until [`Outcome::end`]; dropped before that, the client went away.
pub(super) struct Outcome {
    model: Arc<ServedModel>,
    arrived: Nanos,
    spent: Option<(u32, Spent)>,
    ended: bool,
}

impl Outcome {
    pub(super) fn begin(model: Arc<ServedModel>, arrived: Nanos) -> Self {
        Self { model, arrived, spent: None, ended: false }
    }

    /// Notes where the time of an answered request went.
    pub(super) fn answered(&mut self, rows: u32, handed_over: Nanos, answered: &Answered) {
        let spent = Spent {
            prepare: handed_over - self.arrived,
            wait: answered.wait,
            compute: answered.compute,
            total: clock::now() - self.arrived,
        };
        self.spent = Some((rows, spent));
    }

    /// Counts the end and passes the result on.
    pub(super) fn end<T>(mut self, result: Result<T, ServeError>) -> Result<T, ServeError> {
        self.ended = true;
        match (&result, self.spent) {
            (Ok(_), Some((rows, spent))) => {
                self.model.stats.answered(u64::from(rows), spent);
                self.model.meters.answered(spent.wait, spent.total);
            }
            (Ok(_), None) => self.not_answered("ok"),
            (Err(error), _) => self.not_answered(error.outcome()),
        }
        result
    }

    fn not_answered(&self, outcome: &str) {
        self.model.stats.not_answered(clock::now() - self.arrived);
        self.model.meters.ended(outcome);
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        if !self.ended {
            self.not_answered("cancelled");
        }
    }
}
