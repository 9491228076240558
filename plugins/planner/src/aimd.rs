//! The baseline: a batch size per (model, device) that grows by one while full batches keep the latency aimed at, and
//! shrinks by a tenth when one does not (as in Clipper, NSDI 2017).

use bps_policy_sdk::{Nanos, Outcome};
use std::collections::BTreeMap;

const GROW: f64 = 1.0;
const SHRINK: f64 = 0.9;

/// The batch sizes, not yet rounded down.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Aimd {
    /// By model and device.
    pub sizes: BTreeMap<(u32, u32), f64>,
}

impl Aimd {
    /// Rows to run together now.
    pub fn rows(&self, model: u32, device: u32, rows_max: u32) -> u32 {
        (self.sizes.get(&(model, device)).copied().unwrap_or(1.0) as u32).clamp(1, rows_max.max(1))
    }

    /// Takes in one execution; `latency` is what is aimed at.
    pub fn learn(&mut self, outcome: &Outcome, latency: Nanos, rows_max: u32) {
        let (&[nanos], &[device]) = (&outcome.stage_nanos[..], &outcome.stage_devices[..]) else { return };
        if outcome.failed > 0 {
            return;
        }
        let size = self.sizes.entry((outcome.model, device)).or_insert(1.0);
        if nanos > latency {
            *size = (*size * SHRINK).max(1.0);
        } else if outcome.rows >= *size as u32 {
            *size = (*size + GROW).min(f64::from(rows_max.max(1)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bps_policy_sdk::testing::outcome;

    #[test]
    fn grows_by_one_and_shrinks_by_a_tenth() {
        let mut aimd = Aimd::default();
        // (rows, nanoseconds, batch size after it); 100 ns are aimed at
        let cases = [(1, 50, 2), (2, 60, 3), (1, 40, 3), (3, 70, 4), (4, 101, 3), (3, 90, 4), (4, 90, 5)];
        for (rows, nanos, expected) in cases {
            aimd.learn(&outcome(1, 1, rows, nanos), 100, 32);
            assert_eq!(aimd.rows(1, 1, 32), expected, "after {rows} rows in {nanos} ns");
        }
        assert_eq!(aimd.rows(1, 2, 32), 1, "another device starts at one");
    }

    #[test]
    fn stays_within_its_bounds() {
        let mut aimd = Aimd::default();
        (0..99).for_each(|_| aimd.learn(&outcome(1, 1, 32, 1), 100, 32));
        assert_eq!(aimd.rows(1, 1, 32), 32);
        (0..99).for_each(|_| aimd.learn(&outcome(1, 1, 32, 1_000), 100, 32));
        assert_eq!(aimd.rows(1, 1, 32), 1);
    }
}
