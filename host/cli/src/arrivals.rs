//! When requests come: seeded schedules made before the clock starts, so that a slow answer cannot thin out the load.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::time::Duration;

/// A stretch of load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Load {
    /// Independent arrivals at this mean rate per second.
    Poisson {
        /// Requests per second.
        rate: f64,
    },
    /// This many requests at once, again and again.
    Bursts {
        /// Requests per burst.
        size: u32,
        /// From one burst to the next.
        every: Duration,
    },
}

/// Arrival times within `span`, ascending, from the start of the stretch.
pub(crate) fn schedule(load: Load, span: Duration, seed: u64) -> Vec<Duration> {
    match load {
        Load::Poisson { rate } => poisson(rate, span, seed),
        Load::Bursts { size, every } => bursts(size, every, span),
    }
}

fn poisson(rate: f64, span: Duration, seed: u64) -> Vec<Duration> {
    if !(rate > 0.0 && rate.is_finite()) {
        return Vec::new();
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut times = Vec::new();
    let mut at = 0.0;
    loop {
        // 53 random bits, moved off zero so that the logarithm is finite.
        let uniform = ((random.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
        at += -uniform.ln() / rate;
        if at >= span.as_secs_f64() {
            return times;
        }
        times.push(Duration::from_secs_f64(at));
    }
}

fn bursts(size: u32, every: Duration, span: Duration) -> Vec<Duration> {
    if every.is_zero() {
        return Vec::new();
    }
    let starts = (0u32..).map(|i| every * i).take_while(|&at| at < span);
    starts.flat_map(|at| std::iter::repeat_n(at, size as usize)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poisson_is_seeded_and_has_its_rate() {
        let span = Duration::from_secs(50);
        let times = schedule(Load::Poisson { rate: 200.0 }, span, 7);
        assert_eq!(times, schedule(Load::Poisson { rate: 200.0 }, span, 7));
        assert_ne!(times, schedule(Load::Poisson { rate: 200.0 }, span, 8));
        assert!(times.is_sorted() && times.iter().all(|t| *t < span));
        // 10,000 expected, standard deviation 100.
        assert!((9_500..10_500).contains(&times.len()), "{}", times.len());
    }

    #[test]
    fn bursts_come_together() {
        let load = Load::Bursts { size: 3, every: Duration::from_millis(400) };
        let millis: Vec<u128> = schedule(load, Duration::from_secs(1), 0).iter().map(Duration::as_millis).collect();
        assert_eq!(millis, [0, 0, 0, 400, 400, 400, 800, 800, 800]);
    }

    #[test]
    fn senseless_rates_give_no_load() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(schedule(Load::Poisson { rate }, Duration::from_secs(1), 0).is_empty());
        }
        let load = Load::Bursts { size: 3, every: Duration::ZERO };
        assert!(schedule(load, Duration::from_secs(1), 0).is_empty());
    }
}
