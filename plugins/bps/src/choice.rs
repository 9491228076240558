//! Lanes that are looked at for one batch, and the time by which all of them together answer a line.

use bps_policy_planner::{PlannedLane, Way};

/// Steps of the search for the time at which all waiting rows are answered: to a thousandth of the span it lies in.
const POUR_STEPS: u32 = 10;

/// Arrivals count for more than they are: a device that is busy for most of its time has a line by chance, and what
/// its host does besides is in no table.
const BY_CHANCE: f64 = 1.4;

/// Most batch sizes that are looked at.
pub(crate) const SIZES_MAX: usize = 3;

/// A lane that is looked at, and when it answers how many rows: the delay of those behind included.
pub(crate) struct Choice<'a> {
    /// Place in the plan.
    pub(crate) at: usize,
    pub(crate) planned: &'a PlannedLane,
    /// The best to its device; the others share that device with it.
    pub(crate) is_best: bool,
    pub(crate) way: Way<'a>,
    /// By batch size; never falling.
    pub(crate) scores: [f64; SIZES_MAX],
    /// Nanoseconds of each row beyond the largest batch.
    pub(crate) slope: f64,
}

impl Choice<'_> {
    /// Whether both end on the same device.
    pub(crate) fn shares(&self, other: &Self) -> bool {
        let end = |choice: &Self| choice.planned.lane.tail.or(choice.planned.lane.head);
        end(self) == end(other)
    }

    /// Rows answered by a time.
    pub(crate) fn rows_by(&self, time: f64, sizes: &[u32]) -> f64 {
        let Some(last) = sizes.len().checked_sub(1).filter(|_| time >= self.scores[0]) else { return 0.0 };
        if time >= self.scores[last] {
            return f64::from(sizes[last]) + (time - self.scores[last]) / self.slope.max(1.0);
        }
        let above = (1..=last).find(|at| self.scores[*at] > time).unwrap_or(last);
        let (low, high) = (self.scores[above - 1], self.scores[above]);
        let share = if high > low { (time - low) / (high - low) } else { 1.0 };
        f64::from(sizes[above - 1]) + share * f64::from(sizes[above] - sizes[above - 1])
    }
}

/// The lane with the best score to each device: device, score, place.
#[derive(Default)]
pub(crate) struct Bests(Vec<(u32, f64, usize)>);

impl Bests {
    pub(crate) fn take(&mut self, device: u32, score: f64, place: usize) {
        match self.0.iter_mut().find(|known| known.0 == device) {
            Some(known) if score < known.1 => *known = (device, score, place),
            Some(_) => {}
            None => self.0.push((device, score, place)),
        }
    }

    pub(crate) fn has(&self, place: usize) -> bool {
        self.0.iter().any(|known| known.2 == place)
    }
}

pub(crate) fn is_unknown(planned: &PlannedLane, way: &Way<'_>) -> bool {
    !planned.lane.measured && way.tail.is_some_and(|(device, _)| device.slowdown == 1.0)
}

/// A device of another host whose times nobody has measured gets one batch and no more until it has answered.
pub(crate) fn is_uncertain(choice: &Choice<'_>) -> bool {
    is_unknown(choice.planned, &choice.way) && choice.way.tail.is_some_and(|(device, _)| device.running > 0)
}

/// Batch sizes to look at, the largest last. Between them times are nearly straight lines.
pub(crate) fn sizes(rows_max: u32) -> Vec<u32> {
    [1, 8].into_iter().filter(|rows| *rows < rows_max).chain([rows_max]).collect()
}

/// The time by which all waiting rows, and those that come until then, are answered if each lane takes what it can by then; and
/// what part of them waits now. `coming` is in rows a nanosecond: where a device is spoken for by rows that will come, what
/// waits goes further, and does not hold them up.
pub(crate) fn pour(choices: &[Choice<'_>], (waiting, coming): (u32, f64), sizes: &[u32]) -> (f64, f64) {
    let waiting = f64::from(waiting.max(1));
    let bests = || choices.iter().filter(|choice| choice.is_best);
    let by = |time: f64| bests().map(|choice| choice.rows_by(time, sizes)).sum::<f64>();
    let first = bests().map(|choice| choice.scores[0]).fold(f64::MAX, f64::min);
    // Who waits for an answer asks no sooner.
    let wanted = |time: f64| waiting + BY_CHANCE * coming * (time - first).max(0.0);
    let last = sizes.len() - 1;
    let alone = |choice: &Choice<'_>| choice.scores[last] + choice.slope.max(1.0) * waiting;
    let all_waiting = bests().map(alone).fold(f64::MAX, f64::min).max(first);
    // As many may come as the quickest devices answer: then it is when the last one has helped as it can.
    let (mut early, mut late) = (first, bests().map(|choice| choice.scores[last]).fold(all_waiting, f64::max));
    for _ in 0..POUR_STEPS {
        let middle = early + (late - early) / 2.0;
        if by(middle) < wanted(middle) { early = middle } else { late = middle }
    }
    (late, waiting / wanted(late))
}
