//! The account of every request: where it is, or how it ended.

use serde::Serialize;

/// Counts of requests. See [`Ledger::holds`] for the law they obey.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ledger {
    /// Taken into a queue.
    pub submitted: u64,
    /// Ended with a result.
    pub answered: u64,
    /// Ended because their executions failed.
    pub failed: u64,
    /// Ended because the policy chose so, or their model went away.
    pub shed: u64,
    /// Ended because their deadline passed.
    pub expired: u64,
    /// Ended because the client went away.
    pub cancelled: u64,
    /// Waiting now.
    pub waiting: u64,
    /// In an execution now.
    pub running: u64,

    /// Never taken: the queue was full, or the request could not be served. Not part of the law.
    pub refused: u64,
    /// Executions that were tried again, counted by request. Not part of the law.
    pub retried: u64,
    /// Rows that came back for requests that had ended. Not part of the law.
    pub late: u64,
    /// Answers of executions that had been given up. Not part of the law.
    pub stale: u64,
    /// Rows of decisions that the check refused. Not part of the law.
    pub invalid_rows: u64,
    /// Rows of decisions that were executed. Not part of the law.
    pub valid_rows: u64,
    /// Decisions made by the fallback. Not part of the law.
    pub fallback_decisions: u64,
    /// The account of stages that came from other hosts; a law of its own.
    pub guests: GuestLedger,
}

/// Counts of stages that came from other hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GuestLedger {
    /// Taken.
    pub arrived: u64,
    /// Executed to the end; their origin was answered.
    pub returned: u64,
    /// Executed here and handed on to another host.
    pub passed: u64,
    /// Given back to their sender.
    pub rejected: u64,
    /// Taken back by their sender, or its link went down.
    pub withdrawn: u64,
    /// Waiting now.
    pub waiting: u64,
    /// In an execution now.
    pub running: u64,
    /// Never taken: no right, no credit, no sense. Not part of the law.
    pub refused: u64,
    /// Executions of what arrived, joined or alone, that ended well. Not part of the law.
    pub executions: u64,
    /// Rows in them. Not part of the law.
    pub rows: u64,
}

impl GuestLedger {
    /// `arrived = returned + passed + rejected + withdrawn + waiting + running`.
    pub fn holds(&self) -> bool {
        self.arrived == self.returned + self.passed + self.rejected + self.withdrawn + self.waiting + self.running
    }
}

impl Ledger {
    /// `submitted = answered + failed + shed + expired + cancelled + waiting + running`, and the guests' law.
    pub fn holds(&self) -> bool {
        self.submitted
            == self.answered + self.failed + self.shed + self.expired + self.cancelled + self.waiting + self.running
            && self.guests.holds()
    }
}
