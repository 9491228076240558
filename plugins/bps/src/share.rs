//! How many rows of a line each device takes.
//!
//! What waits is poured over the devices, together with what will have come by then ([`pour`]); what a device can begin with
//! now is left to it. A row on its way to another host is a message, which is worth more with a few more rows in it, and
//! takes one of the few places that the device there has until it is answered: messages are spaced so that there is one.

use crate::choice::{Choice, is_uncertain, pour};
use bps_policy_planner::{LaneClass, Way};
use bps_policy_sdk::economical_rows;

/// A batch for another host may wait for this part of the time to its answer, so that others come along.
const GATHER_SHARE: f64 = 0.125;

/// And no longer than this, nanoseconds.
const GATHER_MAX: f64 = 2e6;

/// A line of requests that may go the same ways.
pub(crate) struct Waiting<'s> {
    /// Their rows.
    pub(crate) rows: u32,
    /// Rows a nanosecond that come meanwhile.
    pub(crate) coming: f64,
    /// Nanoseconds that the first of them has waited.
    pub(crate) since: f64,
    /// Most rows of a batch.
    pub(crate) rows_max: u32,
    /// Batch sizes that choices are scored at.
    pub(crate) sizes: &'s [u32],
    /// How long before a device is free its next batch is handed over, nanoseconds.
    pub(crate) lead: f64,
}

/// What becomes of it.
pub(crate) struct Sharing<'s, 'c> {
    line: Waiting<'s>,
    /// Lanes that can answer some of it in time, whose turn it is first.
    pub(crate) in_play: Vec<&'c Choice<'c>>,
    /// When all is answered.
    until: f64,
    /// What part of all that is poured waits now.
    part: f64,
}

impl<'s, 'c> Sharing<'s, 'c> {
    /// `order` tells whose turn it is.
    pub(crate) fn of(line: Waiting<'s>, choices: &'c [Choice<'c>], order: impl Fn(&Choice<'_>) -> (bool, u64)) -> Self {
        let quickest = choices.iter().map(|choice| choice.scores[0]).fold(f64::MAX, f64::min);
        // One alone goes where it is answered first.
        let (until, part) =
            if line.rows > 1 { pour(choices, (line.rows, line.coming), line.sizes) } else { (quickest, 1.0) };
        let mut in_play: Vec<&Choice<'_>> =
            choices.iter().filter(|choice| choice.scores[0] <= until.max(quickest)).collect();
        in_play.sort_by(|a, b| order(a).cmp(&order(b)).then(a.scores[0].total_cmp(&b.scores[0])));
        Self { line, in_play, until, part }
    }

    /// Rows for a lane, if any are; with `reserving`, after those that are left to other devices.
    pub(crate) fn rows(&self, choice: &Choice<'_>, reserving: bool) -> Option<u32> {
        let others = self.in_play.iter().filter(|other| reserving && other.is_best && !other.shares(choice));
        let theirs: f64 = others.map(|other| self.reserved(other)).sum();
        let by_then = choice.rows_by(self.until, self.line.sizes);
        let most = by_then.min(f64::from(self.line.rows) - theirs);
        let share = match choice.planned.lane.class() {
            // One here takes a batch that is no worse for each row than a larger one: the next may be wanted elsewhere.
            LaneClass::Here => most.min(economical(&choice.way, self.whole(most))),
            _ => most,
        };
        (most >= 0.01).then(|| self.whole(share))
    }

    /// Of the rows that a device can answer, those that are not to go elsewhere: what it can begin with now, and for one
    /// here that is busy still its next batch.
    fn reserved(&self, choice: &Choice<'_>) -> f64 {
        let rows = choice.rows_by(self.until, self.line.sizes) * self.part;
        let whole = self.whole(rows);
        if self.is_open(choice, whole) {
            rows
        } else if choice.planned.lane.class() == LaneClass::Here {
            rows.min(economical(&choice.way, whole))
        } else {
            0.0
        }
    }

    /// Whether so many rows that take it go out now.
    fn is_open(&self, choice: &Choice<'_>, rows: u32) -> bool {
        let is_free = choice.way.has_room() && !is_uncertain(choice) && self.busy(choice) <= 0.0;
        is_free && choice.way.hold(rows, self.line.lead) <= 0.0 && self.gather(choice, rows) <= 0.0
    }

    /// For how long the device here is still busy, but for the lead.
    pub(crate) fn busy(&self, choice: &Choice<'_>) -> f64 {
        choice.way.head.map_or(0.0, |head| head.free_in - self.line.lead)
    }

    /// How long so few rows had better wait for others that come along, nanoseconds: no longer than anybody would notice,
    /// or than it takes until the device has its next place where places are what is scarce, counted from when the first of
    /// them came. Messages that leave sooner take all places, and who comes then waits for a round trip.
    pub(crate) fn gather(&self, choice: &Choice<'_>, rows: u32) -> f64 {
        if choice.planned.lane.tail.is_none() {
            return 0.0;
        }
        let unnoticed = (choice.scores[0] * GATHER_SHARE).min(GATHER_MAX);
        let spans = choice.way.spans(rows);
        let apart = choice.way.apart(&spans);
        let most = if apart > spans.slowest() { unnoticed.max(apart) } else { unnoticed };
        if f64::from(rows) >= self.line.coming * most { 0.0 } else { most - self.line.since }
    }

    /// At least one, and no more than a batch.
    fn whole(&self, share: f64) -> u32 {
        ((share - 0.01).ceil().max(1.0) as u32).min(self.line.rows_max)
    }
}

/// The fewest rows, of at most so many, whose batch is nearly as good for each row.
fn economical(way: &Way<'_>, rows_max: u32) -> f64 {
    f64::from(economical_rows(rows_max, |rows| way.spans(rows).slowest()))
}
