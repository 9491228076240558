//! How much is measured of a value: as many rows, tail runs and rates as its share of `--seconds` pays for. Pure.
//!
//! Costs follow from counted operations and elements at the speed of two cores of a current processor, never from a clock:
//! the same call makes the same plan, and so the same file, everywhere. A slower machine takes longer than `--seconds`.

use super::slopes::SLOPES_MAX;

/// One floating-point operation of a layer.
const FLOP_NANOS: f64 = 0.008;
/// What a row costs besides: layers, the hand-over.
const ROW_NANOS: f64 = 25_000.0;
/// To encode and decode an element.
const CODE_NANOS: f64 = 40.0;
/// To count an element into the tables of one mode at one rate, and to see the sizes.
const COUNT_NANOS: f64 = 45.0;
/// Memory for activations.
const BYTES_MAX: usize = 1 << 30;

/// More than anybody waits for one value.
const SECONDS_MAX: f64 = 1e7;

/// To copy an element of a row that is moved.
const MOVE_NANOS: f64 = 2.0;
/// Shares of the time: tables, tail runs for weights and for slopes, choosing steps. The rest is for errors and losses.
const TABLES: f64 = 0.3;
const WEIGHTS: f64 = 0.1;
const SLOPES: f64 = 0.2;
const CHOOSING: f64 = 0.1;

/// Rows for tail runs: more tell little more, and with fewer there are fewer runs first.
const PROBE_ROWS_MAX: usize = 16;
const PROBE_ROWS_WANTED: usize = 4;
/// Rows whose slopes are taken: with fewer they are those of these rows alone.
const SLOPE_ROWS: (usize, usize) = (8, 96);
/// Rows that steps are chosen with.
const CHOOSE_ROWS: (usize, usize) = (4, 64);
/// Rates at which they are compared.
pub(super) const COMPARED: [u8; 4] = [6, 12, 18, 24];
/// With fewer rows rates are left out first.
const TEST_ROWS_WANTED: usize = 128;
/// Fewer rows say little even of an error.
const TEST_ROWS_MIN: usize = 4;

/// What there is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task {
    /// Elements of a row of the value.
    pub(super) elements: usize,
    /// Elements of a row of all values of its cut.
    pub(super) cut_elements: usize,
    /// Operations before the cut and after it, one row.
    pub(super) flops: (u64, u64),
    /// Rows for tables, and for errors and losses.
    pub(super) rows: (usize, usize),
    /// Bands, and planes of all bands.
    pub(super) planes: (usize, usize),
    /// Modes that differ.
    pub(super) modes: usize,
    /// Rates on offer.
    pub(super) rates: usize,
    /// Tail runs that weights may take.
    pub(super) probes: usize,
    /// Tail runs for other codecs.
    pub(super) rivals: usize,
    /// What it may cost.
    pub(super) seconds: f64,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Rows that make tables.
    pub(super) tables: usize,
    /// Tail runs for weights; 0: steps are equal.
    pub(super) probes: usize,
    /// Rows of each of them.
    pub(super) probe_rows: usize,
    /// Rows whose slopes are taken, a run for each element; 0: errors do not cancel.
    pub(super) slope_rows: usize,
    /// Rows that steps are chosen with, from those for tables.
    pub(super) choose_rows: usize,
    /// Rows for errors and losses.
    pub(super) tests: usize,
    /// Every which rate on offer is measured.
    pub(super) stride: usize,
}

impl Plan {
    pub(super) fn of(task: &Task) -> Self {
        let nanos = task.seconds * 1e9;
        let (elements, modes) = (task.elements as f64, task.modes as f64);
        let layers = |flops: u64| flops as f64 * FLOP_NANOS + ROW_NANOS;
        let (head, tail) = (layers(task.flops.0), layers(task.flops.1));
        let coded = tail + elements * CODE_NANOS;
        let affordable = |share: f64, each: f64| (share * nanos / each.max(1.0)) as usize;
        let fitting = BYTES_MAX / 8 / task.cut_elements.max(1);

        let slope_rows = affordable(SLOPES, elements * (tail + elements * MOVE_NANOS)).min(SLOPE_ROWS.1);
        // They are held twice.
        let slope_rows = slope_rows.min(BYTES_MAX / 4 / (8 * SLOPES_MAX * task.elements).max(1)).min(task.rows.0);
        let slope_rows = if task.probes == 0 || slope_rows < SLOPE_ROWS.0 { 0 } else { slope_rows };
        // With them everything that follows is done for FF-H and for FF-C, which counts with rounding and with choosing.
        let (codecs, counts) = if slope_rows > 0 { (2.0, 3.0) } else { (1.0, 1.0) };

        // With weights everything is counted at the compared rates once more, twice.
        let counted = counts * modes * (task.rates + 2 * COMPARED.len()) as f64 * COUNT_NANOS;
        let tables = affordable(TABLES, head + elements * counted).min(fitting).clamp(2, task.rows.0.max(2));
        let (bands, planes) = task.planes;
        let mut probes = task.probes.min(planes);
        let run_rows = affordable(WEIGHTS, tail);
        if run_rows < PROBE_ROWS_WANTED * probes {
            probes = (run_rows / PROBE_ROWS_WANTED).max(2 * bands).min(planes);
        }
        // Two groups a band at least.
        if run_rows < probes || probes < (2 * bands).min(planes) || planes < 2 {
            probes = 0;
        }
        let probe_rows = (run_rows / probes.max(1)).clamp(1, PROBE_ROWS_MAX).min(tables);
        let slope_rows = slope_rows.min(tables);
        let compared = 2.0 * codecs * modes * COMPARED.len() as f64;
        let choose_rows = affordable(CHOOSING, compared * coded).clamp(CHOOSE_ROWS.0, CHOOSE_ROWS.1).min(tables);

        let rest = 1.0 - TABLES - WEIGHTS - SLOPES - CHOOSING;
        let most = task.rows.1.min(fitting.max(TEST_ROWS_MIN)).max(1);
        let rows = |stride: usize| {
            affordable(rest, (codecs * modes * task.rates.div_ceil(stride) as f64 + task.rivals as f64) * coded + head)
        };
        let stride = [1, 2].into_iter().find(|stride| rows(*stride) >= most.min(TEST_ROWS_WANTED)).unwrap_or(4);
        let tests = rows(stride).max(TEST_ROWS_MIN).min(most);
        Self { tables: tables.min(task.rows.0.max(1)), probes, probe_rows, slope_rows, choose_rows, tests, stride }
    }
}

/// What of so many seconds goes to each value: as much as it has a use for, and the rest in equal parts to those that have a
/// use for more. The ends of a net are cheap to measure, its input is a whole run for each row.
pub(super) fn shares(tasks: &[Task], seconds: f64) -> Vec<f64> {
    let mut order: Vec<(f64, usize)> = tasks.iter().map(enough).zip(0..).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut left, mut shares) = (seconds, vec![0.0; tasks.len()]);
    for (number, (enough, at)) in order.iter().enumerate() {
        shares[*at] = enough.min(left / (order.len() - number) as f64);
        left -= shares[*at];
    }
    shares
}

/// Seconds from which on more would change nothing, to a quarter.
fn enough(task: &Task) -> f64 {
    let plan = |seconds| Plan::of(&Task { seconds, ..*task });
    let (whole, mut seconds) = (plan(SECONDS_MAX), 0.1);
    while seconds < SECONDS_MAX && plan(seconds) != whole {
        seconds *= 1.25;
    }
    seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A map of the digits net, and one of ResNet-18 behind its stem.
    fn task(large: bool, seconds: f64) -> Task {
        let elements = if large { 802_816 } else { 1_024 };
        Task {
            elements,
            cut_elements: elements,
            flops: if large { (236_000_000, 3_400_000_000) } else { (1_000_000, 1_500_000) },
            rows: (256, 256),
            planes: if large { (7, 448) } else { (7, 112) },
            modes: 3,
            rates: 16,
            probes: 64,
            rivals: 2,
            seconds,
        }
    }

    #[test]
    fn a_small_net_is_measured_whole() {
        let plan = Plan::of(&task(false, 20.0));
        let whole =
            Plan { tables: 256, probes: 64, probe_rows: 16, slope_rows: 96, choose_rows: 64, tests: 256, stride: 1 };
        assert_eq!(plan, whole);
        assert_eq!(Plan::of(&Task { probes: 0, ..task(false, 20.0) }).probes, 0);
        assert_eq!(Plan::of(&Task { planes: (1, 10), ..task(false, 20.0) }).probes, 10);
    }

    #[test]
    fn a_large_net_is_measured_as_far_as_time_goes() {
        let (little, more) = (Plan::of(&task(true, 7.0)), Plan::of(&task(true, 700.0)));
        assert_eq!((little.tests, little.stride, little.tables), (4, 4, 2));
        assert!(little.probes == 0 || little.probes * little.probe_rows < 60, "{little:?}");
        assert!(more.tests > 64 && more.tables > 64 && more.probes == 64, "{more:?}");
        assert!(more.tests <= BYTES_MAX / 8 / 802_816 && more.tables <= BYTES_MAX / 8 / 802_816, "{more:?}");
        assert_eq!(Plan::of(&Task { rows: (4, 4), ..task(true, 700.0) }).tests, 4);
    }

    #[test]
    fn what_one_value_has_no_use_for_others_get() {
        let tasks = [task(false, 0.0), task(true, 0.0), task(true, 0.0)];
        let [small, large, other] = shares(&tasks, 300.0)[..] else { panic!("three") };
        assert!(small < 60.0 && large == other && (small + large + other - 300.0).abs() < 1e-6, "{small} {large}");
        assert_eq!(Plan::of(&Task { seconds: small, ..tasks[0] }), Plan::of(&task(false, 1e6)));
        let scarce = shares(&tasks, 3.0);
        assert!(scarce.iter().all(|share| (share - 1.0).abs() < 1e-6), "{scarce:?}");
        let plenty = shares(&tasks, 1e9);
        assert_eq!(Plan::of(&Task { seconds: plenty[1], ..tasks[1] }), Plan::of(&task(true, 1e7)));
        assert_eq!(shares(&[], 10.0), [0.0; 0]);
    }

    #[test]
    fn more_time_never_means_less() {
        let plans: Vec<Plan> = (0..12).map(|i| Plan::of(&task(true, f64::from(1 << i)))).collect();
        assert!(plans.windows(2).all(|w| w[0].tables <= w[1].tables && w[0].stride >= w[1].stride), "{plans:?}");
        assert!(plans.windows(2).all(|w| w[0].probes * w[0].probe_rows <= w[1].probes * w[1].probe_rows), "{plans:?}");
    }
}
