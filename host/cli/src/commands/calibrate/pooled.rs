//! How little may be lost at fine rates, where few rows have anything to lose. Pure.
//!
//! Of one rate alone, `n` rows of which none is lost say no more than "at most `z^2 / (n + z^2)`": 0.75 points for 512. All
//! rates together say more. A row's class changes where the error of its scores reaches their margin, and no small margin is
//! likelier than any other, so that the share of rows that change grows in proportion to the error's size:
//!
//! ```text
//! share(e) <= share(e0) * sqrt(e / e0)      e: relative squared error of the outputs
//! ```
//!
//! `e0` is the greatest error with which no more than a tenth of the rows change, and its share counts with the upper end of its
//! interval. Further up many small margins are used up, and the law would promise too much. Nets that were trained well have
//! fewer small margins than even ones; then it promises too little. What is lost is no more than what changes.

use super::loss::changed_at_most;
use super::measure::Effect;
use bps_codec::ff::Loss;

/// The law holds up to here, as a share of the rows: one of so many.
const ONE_OF: usize = 10;

/// What is known of all rates together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pooled {
    error: f32,
    /// Most rows that change with it, as a share of one.
    share: f32,
}

impl Pooled {
    /// From what so many rows showed of any modes and rates; none where all of them change too many.
    pub(super) fn of<'a>(effects: impl Iterator<Item = &'a Effect>, rows: usize) -> Option<Self> {
        let few = effects.filter(|effect| effect.changed * ONE_OF <= rows && effect.output_nmse > 0.0);
        let coarsest = few.max_by(|a, b| a.output_nmse.total_cmp(&b.output_nmse))?;
        Some(Self { error: coarsest.output_nmse, share: changed_at_most(coarsest.changed, rows) })
    }

    /// The same loss with an upper end that is no further away than the law allows for an error, and no lower than the mean.
    pub(super) fn tightened(self, loss: Loss, error: f32) -> Loss {
        let most = if error <= self.error { self.share * (error / self.error).sqrt() } else { f32::INFINITY };
        Loss { high: loss.high.min(most.max(loss.mean)), ..loss }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(output_nmse: f32, changed: usize) -> Effect {
        Effect { bits: 1.0, bits_p95: 1.0, output_nmse, loss: None, changed }
    }

    #[test]
    fn the_coarsest_that_changes_few_rows_speaks_for_the_finer_ones() {
        let effects = [effect(1e-4, 0), effect(1e-2, 20), effect(4e-2, 45), effect(0.3, 200)];
        let pooled = Pooled::of(effects.iter(), 512).unwrap();
        assert_eq!(pooled.error, 4e-2);
        let own = |lost: f32, high: f32| Loss { mean: lost, low: -high, high };
        // 45 of 512 are 8.8 points, 11.3 at most; an error of a hundredth has a tenth of that.
        let tight = pooled.tightened(own(0.0, 0.02), 4e-4);
        assert!((tight.high - 0.0113).abs() < 1e-4 && tight.mean == 0.0 && tight.low == -0.02, "{tight:?}");
        assert_eq!(pooled.tightened(own(0.0, 0.0075), 4e-4).high, 0.0075, "what a rate says itself may be less");
        assert_eq!(pooled.tightened(own(0.001, 0.01), 1e-8).high, 0.001, "what was seen was seen");
        assert_eq!(pooled.tightened(own(0.1, 0.2), 0.3).high, 0.2, "further up there is no law");
        assert_eq!(Pooled::of([effect(0.1, 52)].iter(), 512), None);
        assert_eq!(Pooled::of([effect(0.0, 0)].iter(), 512), None);
    }

    /// Scores of two classes whose differences have an even density around zero, and errors of several sizes.
    #[test]
    fn the_law_holds_for_margins_that_are_evenly_spread() {
        let mut seed = 7u64;
        let mut dice = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        let rows = 20_000;
        let margins: Vec<f32> = (0..rows).map(|_| 4.0 * dice()).collect();
        let changed = |size: f32, dice: &mut dyn FnMut() -> f32| {
            let noise = |dice: &mut dyn FnMut() -> f32| size * (dice() + dice() + dice() + dice());
            margins.iter().filter(|margin| (**margin + noise(dice)).signum() != margin.signum()).count()
        };
        let coarse = effect(0.25, changed(0.5, &mut dice));
        let pooled = Pooled::of([coarse].iter(), rows).unwrap();
        for size in [0.05f32, 0.1, 0.2] {
            let seen = changed(size, &mut dice) as f32 / rows as f32;
            let most = pooled.tightened(Loss { mean: 0.0, low: 0.0, high: 1.0 }, size * size).high;
            assert!(seen <= 1.1 * most && most < 2.0 * seen, "size {size}: {seen} seen, at most {most} promised");
        }
    }
}
