//! How many waiting requests to run together: a pure function of their deadlines and the cost of each batch size.

use bps_policy_sdk::{Nanos, QueueView, Request};

/// Requests looked at, those beyond the visible head included: what is further back hardly changes the choice.
const LOOK_AHEAD: usize = 96;

/// Batch sizes that are tried, besides the largest.
const SIZES: [u32; 8] = [1, 2, 4, 8, 12, 16, 24, 32];

/// Requests of a queue that one decision has not taken yet, most urgent first.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Rows of each.
    pub rows: Vec<u32>,
    /// Time left to each, as far as a plan may use it; the largest value where there is no deadline.
    pub budgets: Vec<Nanos>,
    /// Requests that wait behind these and are not visible.
    pub unseen: u32,
}

impl Line {
    /// The rest of a queue after its first `taken` requests. `slo` (0: none) counts from a request's arrival.
    pub fn of(queue: &QueueView<'_>, taken: u32, slo: Nanos, slack_share: f64) -> Self {
        let rest = queue.head().skip(taken as usize);
        Self::from_requests_iter(rest, queue.waiting.saturating_sub(queue.head_count), slo, slack_share)
    }

    /// Just these requests, and how many wait unseen behind them.
    pub fn from_requests(requests: &[Request], unseen: u32, slo: Nanos, slack_share: f64) -> Self {
        Self::from_requests_iter(requests.iter().copied(), unseen, slo, slack_share)
    }

    fn from_requests_iter(
        rest: impl Iterator<Item = Request> + Clone,
        unseen: u32,
        slo: Nanos,
        slack_share: f64,
    ) -> Self {
        let budget = |slack: Option<i64>, wait: Nanos| {
            let from_slack = slack.map_or(Nanos::MAX, |slack| slack.max(0) as Nanos);
            let from_slo = if slo == 0 { Nanos::MAX } else { slo.saturating_sub(wait) };
            match from_slack.min(from_slo) {
                Nanos::MAX => Nanos::MAX,
                left => (left as f64 * slack_share) as Nanos,
            }
        };
        Self {
            rows: rest.clone().map(|request| request.rows).collect(),
            budgets: rest.map(|request| budget(request.slack, request.wait)).collect(),
            unseen,
        }
    }

    /// How many of the first requests have at most `rows_max` rows together, and those rows; at least one request.
    pub fn fit(&self, rows_max: u32) -> (u32, u32) {
        let (mut count, mut sum) = (0, 0_u32);
        for rows in &self.rows {
            let with = sum.saturating_add(*rows);
            if with > rows_max && count > 0 {
                break;
            }
            (count, sum) = (count + 1, with);
        }
        (count, sum)
    }

    /// All rows that wait; those of unseen requests are taken to be one each.
    pub fn rows_waiting(&self) -> u32 {
        self.rows.iter().fold(self.unseen, |sum, rows| sum.saturating_add(*rows))
    }
}

/// The batch (requests, rows) that, repeated over the whole line, misses the fewest deadlines; of equals the one that is
/// through with the line first. `start` is when the first batch begins, `cost` the time of so many rows.
///
/// The line as a whole decides: a batch cut to the slack of its most urgent request alone lowers throughput just when
/// the queue is long, and then everybody behind is late.
pub fn choose_batch(line: &Line, rows_max: u32, start: Nanos, cost: impl Fn(u32) -> Nanos) -> (u32, u32) {
    let ends = |rows| {
        let cost = cost(rows);
        Ends { first: start.saturating_add(cost), next: cost }
    };
    choose(line, rows_max, ends, 1.0)
}

/// When batches of one size end that follow each other on one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// From now to the end of the first.
    pub first: Nanos,
    /// From the end of each to the end of the next: what the slowest part of the way takes.
    pub next: Nanos,
}

/// A batch on a way of several parts is as large as it may be without being through later than this: on a link small ones
/// are always a little earlier, and each is work for two hosts.
const CLOSE: f64 = 1.0;

/// The same for a way of several parts that work at the same time.
pub fn choose_pipelined(line: &Line, rows_max: u32, ends: impl Fn(u32) -> Ends) -> (u32, u32) {
    choose(line, rows_max, ends, CLOSE)
}

/// A batch that takes longer must earn it: nothing is answered meanwhile, and nothing in it can go elsewhere.
const LONG: Nanos = 500_000_000;

/// What it must earn. Less is what tables are wrong by: of large batches most are not measured but scaled.
const EARNED: f64 = 1.05;

/// The largest batch that is `close` to the best; of those that take long, the smallest that is nearly as good.
fn choose(line: &Line, rows_max: u32, ends: impl Fn(u32) -> Ends, close: f64) -> (u32, u32) {
    let (mut best, mut tried) = ((u64::MAX, u64::MAX), [None; SIZES.len() + 1]);
    let mut last = 0;
    for (tried, size) in tried.iter_mut().zip(SIZES.into_iter().chain([rows_max])) {
        let (count, rows) = line.fit(size.min(rows_max));
        if count == last || count == 0 {
            continue;
        }
        last = count;
        let worth = judge(line, (count, rows), &ends);
        best = best.min(worth);
        *tried = Some((worth, (count, rows)));
    }
    // A tie goes to the larger batch: it leaves the device more time.
    let latest = (best.1 as f64 * close) as u64;
    let is_close = |worth: (u64, u64)| worth.0 == best.0 && worth.1 <= latest.max(best.1);
    let Some((_, largest)) = tried.into_iter().flatten().rev().find(|(worth, _)| is_close(*worth)) else {
        return line.fit(rows_max);
    };
    if ends(largest.1).next <= LONG {
        return largest;
    }
    let enough = (best.1 as f64 * EARNED) as u64;
    let is_enough = |worth: (u64, u64)| worth.0 == best.0 && worth.1 <= enough;
    tried.into_iter().flatten().find(|(worth, _)| is_enough(*worth)).map_or(largest, |(_, smallest)| smallest)
}

/// (deadlines missed, when all is done) if batches of this size follow each other, the last one with what is left.
fn judge(line: &Line, batch: (u32, u32), ends: &impl Fn(u32) -> Ends) -> (u64, u64) {
    let (count, rows) = (batch.0 as usize, batch.1);
    let looked_at = (line.budgets.len() + line.unseen as usize).min(LOOK_AHEAD);
    let whole = ends(rows);
    let part = |size: usize| match size == count {
        true => whole,
        false => ends(((u64::from(rows) * size as u64 / u64::from(batch.0)) as u32).max(1)),
    };
    if line.budgets.iter().all(|budget| *budget == Nanos::MAX) {
        return (0, drained(&part, count, looked_at));
    }
    let (mut missed, mut done, mut at) = (0, 0, 0);
    while at < looked_at {
        let size = count.min(looked_at - at);
        let part = part(size);
        done = if at == 0 { part.first } else { Nanos::saturating_add(done, part.next) };
        for request in at..at + size {
            let budget = line.budgets.get(request).or(line.budgets.last()).copied().unwrap_or(Nanos::MAX);
            missed += u64::from(done > budget);
        }
        at += size;
    }
    (missed, done)
}

/// When batches of `count` requests are through with `looked_at` of them.
fn drained(part: &impl Fn(usize) -> Ends, count: usize, looked_at: usize) -> Nanos {
    let (full, rest) = (looked_at / count, looked_at % count);
    if full == 0 {
        return part(rest).first;
    }
    let whole = part(count);
    let done = whole.first.saturating_add(whole.next.saturating_mul(full as u64 - 1));
    if rest == 0 { done } else { done.saturating_add(part(rest).next) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    /// Batch 32 costs five times batch 1, as the models here do.
    fn cost(rows: u32) -> Nanos {
        10 * MS + Nanos::from(rows - 1) * 40 * MS / 31
    }

    fn line(count: usize, budget: Nanos, unseen: u32) -> Line {
        Line { rows: vec![1; count], budgets: vec![budget; count], unseen }
    }

    #[test]
    fn batches_for_lines() {
        // (waiting, budget of each in ms (0: none), unseen, expected requests)
        let cases = [
            (1, 0, 0, 1),
            (5, 0, 0, 5),
            (32, 0, 0, 32),
            (32, 0, 500, 32),
            (32, 60, 0, 32), // all in one batch are in time
            (32, 30, 0, 16), // 16 of 32 can be in time, with 32 none, with 8 at a time 8
            (32, 5, 0, 32),  // all are late whatever is done: drain
        ];
        for (waiting, budget_ms, unseen, expected) in cases {
            let budget = if budget_ms == 0 { Nanos::MAX } else { budget_ms * MS };
            let (count, rows) = choose_batch(&line(waiting, budget, unseen), 32, 0, cost);
            assert_eq!((count, rows), (expected, expected), "{waiting} waiting, {budget_ms} ms");
        }
    }

    #[test]
    fn one_late_request_does_not_shrink_the_batch() {
        let mut late = line(32, 200 * MS, 100);
        late.budgets[0] = 0;
        assert_eq!(choose_batch(&late, 32, 0, cost).0, 32);
    }

    #[test]
    fn a_batch_that_takes_long_must_earn_it() {
        let line = line(32, Nanos::MAX, 0);
        // A row takes 300 ms whatever the batch, as on a slow processor; then with a fifth saved from two rows on.
        assert_eq!(choose_batch(&line, 32, 0, |rows| Nanos::from(rows) * 300 * MS), (1, 1));
        let saved = |rows: u32| Nanos::from(rows) * if rows == 1 { 300 * MS } else { 240 * MS };
        assert_eq!(choose_batch(&line, 32, 0, saved), (2, 2));
        assert_eq!(choose_batch(&line, 32, 0, |rows| 30 * cost(rows)), (32, 32), "six times as many answers");
        assert_eq!(choose_batch(&line, 32, 0, |rows| Nanos::from(rows) * 3 * MS), (32, 32), "not long");
    }

    #[test]
    fn rows_are_counted_and_a_giant_goes_alone() {
        let mixed = Line { rows: vec![3, 30, 40, 1], budgets: vec![Nanos::MAX; 4], unseen: 0 };
        assert_eq!(mixed.fit(32), (1, 3));
        assert_eq!(Line { rows: vec![40, 1], ..mixed }.fit(32), (1, 40));
    }
}
