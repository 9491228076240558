//! What may be said of a few runs: intervals, and whether one side is worse than the other. Pure.
//!
//! Runs are interleaved, so that run `i` of all policies met the same machine: sides are compared by the ratios within
//! runs, on a logarithmic scale, where twice and half are equally far from equal.

use crate::latency::median;
use serde::Serialize;

/// Two-sided 95 % points of Student's t for 1 to 30 degrees of freedom.
const T_95: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];
/// Beyond the table the difference to the normal distribution is below 4 %.
const NORMAL_95: f64 = 1.96;

/// A mean and where the true one lies with 95 % probability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Interval {
    /// Measurements.
    pub(super) count: usize,
    /// Their mean.
    pub(super) mean: f64,
    /// Half the width of the interval; none for a single measurement, which says nothing of its spread.
    pub(super) half: Option<f64>,
    /// Smallest.
    pub(super) min: f64,
    /// Median.
    pub(super) median: f64,
    /// Largest.
    pub(super) max: f64,
}

/// The interval of some measurements; none where there are none.
pub(super) fn interval(values: &[f64]) -> Option<Interval> {
    let count = values.len();
    let median = median(values)?;
    let mean = values.iter().sum::<f64>() / count as f64;
    let half = (count > 1).then(|| {
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (count - 1) as f64;
        t_95(count - 1) * (variance / count as f64).sqrt()
    });
    let (min, max) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
    Some(Interval { count, mean, half, min, median, max })
}

fn t_95(degrees: usize) -> f64 {
    degrees.checked_sub(1).and_then(|i| T_95.get(i)).copied().unwrap_or(NORMAL_95)
}

/// What a comparison comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// More, beyond the interval.
    Better,
    /// The interval holds "equal".
    Same,
    /// Less, beyond the interval.
    Worse,
    /// A single run has no interval.
    Unknown,
}

/// One side over another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Comparison {
    /// Median of the ratios within runs.
    pub(super) ratio: f64,
    /// Bounds of the mean ratio (geometric) with 95 % probability; none for a single run.
    pub(super) bounds: Option<(f64, f64)>,
    /// What that means.
    pub(super) verdict: Verdict,
}

/// Compares run by run; more is better. What is below `floor` counts as `floor`, so that a run without any answer has a
/// logarithm. None where there are no pairs.
pub(super) fn compare(subject: &[f64], rival: &[f64], floor: f64) -> Option<Comparison> {
    let ratios: Vec<f64> = subject.iter().zip(rival).map(|(s, r)| s.max(floor) / r.max(floor)).collect();
    let ratio = median(&ratios)?;
    let logarithms: Vec<f64> = ratios.iter().map(|r| r.ln()).collect();
    let spread = interval(&logarithms)?;
    let bounds = spread.half.map(|half| ((spread.mean - half).exp(), (spread.mean + half).exp()));
    let verdict = match bounds {
        Some((low, _)) if low > 1.0 => Verdict::Better,
        Some((_, high)) if high < 1.0 => Verdict::Worse,
        Some(_) => Verdict::Same,
        None => Verdict::Unknown,
    };
    Some(Comparison { ratio, bounds, verdict })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_interval() {
        // Student's example: mean 3, standard deviation 1.5811, t 2.776 for 4 degrees.
        let i = interval(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        assert_eq!((i.count, i.mean, i.min, i.median, i.max), (5, 3.0, 1.0, 3.0, 5.0));
        assert!((i.half.unwrap() - 1.963).abs() < 1e-3, "{i:?}");
        assert_eq!(interval(&[7.0]).unwrap().half, None);
        assert_eq!(interval(&[]), None);
        assert_eq!((t_95(1), t_95(30), t_95(31)), (12.706, 2.042, NORMAL_95));
    }

    #[test]
    fn a_machine_that_changes_its_speed_does_not_hide_a_difference() {
        // The machine slows down to a third; the first is always a tenth faster.
        let rival = [300.0, 250.0, 180.0, 120.0, 100.0];
        let subject: Vec<f64> = rival.iter().zip([1.11, 1.09, 1.1, 1.1, 1.1]).map(|(r, f)| r * f).collect();
        let better = compare(&subject, &rival, 0.1).unwrap();
        assert_eq!(better.verdict, Verdict::Better);
        assert!((better.ratio - 1.1).abs() < 1e-9);
        assert_eq!(compare(&rival, &subject, 0.1).unwrap().verdict, Verdict::Worse);
    }

    #[test]
    fn noise_is_not_a_difference() {
        let same = compare(&[100.0, 90.0, 110.0], &[95.0, 100.0, 98.0], 0.1).unwrap();
        assert_eq!(same.verdict, Verdict::Same);
        let (low, high) = same.bounds.unwrap();
        assert!(low < 1.0 && 1.0 < high);
        assert_eq!(compare(&[100.0], &[50.0], 0.1).unwrap().verdict, Verdict::Unknown);
        assert_eq!(compare(&[], &[50.0], 0.1), None);
    }

    #[test]
    fn runs_without_an_answer_can_be_compared() {
        let none = compare(&[0.0, 0.0, 0.0], &[10.0, 11.0, 10.0], 0.5).unwrap();
        assert_eq!((none.ratio, none.verdict), (0.05, Verdict::Worse));
    }
}
