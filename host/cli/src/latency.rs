//! Latencies, counted in a histogram of three significant digits.

use hdrhistogram::Histogram;
use serde::Serialize;
use std::time::Duration;

/// Latencies of many requests.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    nanos: Histogram<u64>,
}

/// What people ask of latencies. All in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct LatencySummary {
    /// How many.
    pub(crate) count: u64,
    /// Median.
    pub(crate) p50_us: f64,
    /// 99th percentile.
    pub(crate) p99_us: f64,
    /// Longest.
    pub(crate) max_us: f64,
}

impl Latencies {
    /// None yet.
    pub(crate) fn new() -> Self {
        // An auto-resizing histogram accepts any value; three digits are within hdrhistogram's 0 to 5.
        Self { nanos: Histogram::new(3).expect("3 significant digits are allowed") }
    }

    /// One more.
    pub(crate) fn record(&mut self, latency: Duration) {
        // Three digits of 64 bits fit the largest histogram; only a latency of centuries would not.
        let _ = self.nanos.record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// All of another's.
    pub(crate) fn merge(&mut self, other: &Self) {
        // Both resize by themselves and count to the same precision, so that nothing can be out of range.
        self.nanos.add(&other.nanos).expect("histograms of one kind");
    }

    /// The latency that this share of all do not exceed, milliseconds; 0 where there are none.
    pub(crate) fn quantile_ms(&self, share: f64) -> f64 {
        self.nanos.value_at_quantile(share) as f64 / 1e6
    }

    /// The figures people ask for.
    pub(crate) fn summary(&self) -> LatencySummary {
        let micros = |nanos: u64| nanos as f64 / 1e3;
        LatencySummary {
            count: self.nanos.len(),
            p50_us: micros(self.nanos.value_at_quantile(0.5)),
            p99_us: micros(self.nanos.value_at_quantile(0.99)),
            max_us: micros(self.nanos.max()),
        }
    }
}

/// Middle value of a few measurements; the mean of the middle two. None when there are none.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.len().checked_sub(1)? / 2, sorted.len() / 2);
    Some(f64::midpoint(sorted[low], sorted[high]))
}

/// Microseconds for people.
pub(crate) fn micros_text(micros: f64) -> String {
    crate::table::nanos((micros * 1e3) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_known_values() {
        let mut latencies = Latencies::new();
        (1..=100).for_each(|ms| latencies.record(Duration::from_millis(ms)));
        let summary = latencies.summary();
        assert_eq!(summary.count, 100);
        let near = |got: f64, want: f64| (got - want).abs() / want < 0.002;
        assert!(near(summary.p50_us, 50_000.0) && near(summary.p99_us, 99_000.0) && near(summary.max_us, 100_000.0));
        assert_eq!(Latencies::new().summary(), LatencySummary::default());
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[f64::NAN]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[2.0, 1.0]), Some(1.5));
        assert_eq!(median(&[9.0, 1.0, 3.0, 2.0]), Some(2.5));
    }
}
