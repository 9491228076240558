//! Who asks when.

use bps_types::{ModelId, Nanos};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

/// One request to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When.
    pub at: Nanos,
    /// For which model.
    pub model: ModelId,
    /// Its batch dimension.
    pub rows: u32,
    /// How long its answer is of use, from its arrival.
    pub patience: Option<Nanos>,
}

/// A stretch of arrivals for one model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Workload {
    /// Independent arrivals at a mean rate.
    Poisson {
        /// Mean requests per second.
        per_second: f64,
        /// Length of the stretch.
        span: Nanos,
    },
    /// At equal distances.
    Constant {
        /// Requests per second.
        per_second: f64,
        /// Length of the stretch.
        span: Nanos,
    },
    /// All at once, again and again.
    Burst {
        /// Requests in each burst.
        size: u32,
        /// From one burst to the next.
        every: Nanos,
        /// How many bursts.
        count: u32,
    },
}

impl Workload {
    /// The times of its arrivals, beginning at `start`; the same seed gives the same times.
    pub fn times(&self, start: Nanos, seed: u64) -> Vec<Nanos> {
        match *self {
            Self::Poisson { per_second, span } => {
                let mut rng = ChaCha12Rng::seed_from_u64(seed);
                let mut at = 0.0;
                let gaps = std::iter::from_fn(|| {
                    let uniform: f64 = rng.random();
                    at -= libm::log(1.0 - uniform) / per_second.max(1e-9);
                    (at < span.as_secs_f64()).then(|| start + Nanos::from_secs_f64(at))
                });
                gaps.collect()
            }
            Self::Constant { per_second, span } => {
                let count = (span.as_secs_f64() * per_second) as u64;
                (0..count).map(|i| start + Nanos::from_secs_f64(i as f64 / per_second)).collect()
            }
            Self::Burst { size, every, count } => (0..count)
                .flat_map(|burst| {
                    let at = start + Nanos(every.0.saturating_mul(u64::from(burst)));
                    std::iter::repeat_n(at, size as usize)
                })
                .collect(),
        }
    }

    /// Arrivals of single-row requests for a model.
    pub fn arrivals(&self, model: ModelId, start: Nanos, seed: u64) -> Vec<Arrival> {
        self.times(start, seed).into_iter().map(|at| Arrival { at, model, rows: 1, patience: None }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_sequence_and_the_mean_holds() {
        let load = Workload::Poisson { per_second: 1_000.0, span: Nanos::from_secs(20) };
        let times = load.times(Nanos::ZERO, 7);
        assert_eq!(times, load.times(Nanos::ZERO, 7));
        assert_ne!(times, load.times(Nanos::ZERO, 8));
        assert!((19_400..20_600).contains(&times.len()), "{}", times.len());
        assert!(times.is_sorted());
    }

    #[test]
    fn bursts_come_together() {
        let load = Workload::Burst { size: 3, every: Nanos(10), count: 2 };
        assert_eq!(load.times(Nanos(5), 0), [5, 5, 5, 15, 15, 15].map(Nanos));
    }
}
