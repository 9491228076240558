//! How little may be lost at fine rates, where few rows have anything to lose. Pure.
//!
//! Of one rate alone, `n` rows of which none is lost say no more than "at most `z^2 / (n + z^2)`": 0.75 points for 512. All
//! rates together say more. A row's class changes where the error of its scores reaches their margin, and no small margin is
//! likelier than any other, so that the share of rows that change grows in proportion to the error's size:
//!
//! ```text
//! share(e) <= slope * sqrt(e)      e: relative squared error of the outputs
//! ```
//!
//! `slope` is the greatest that any mode and rate shows, the upper end of its share over its root, of those with which enough
//! rows change for a share to be known and no more than a tenth: further up small margins are used up. The law is left alone
//! where the rows are few, where nothing changed enough to know the slope, and where a finer rate contradicts it. What is lost is
//! no more than what changes.

use super::loss::changed_between;
use super::measure::Effect;
use bps_codec::ff::Loss;

/// The law holds up to here, as a share of the rows: one of so many.
const ONE_OF: usize = 10;
/// With fewer rows that change a share says little.
const CHANGED_MIN: usize = 8;
/// Fewer rows have too few small margins to speak of their density.
const ROWS_MIN: usize = 128;

/// What is known of all rates together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pooled {
    /// The greatest error that it was seen with.
    error: f32,
    slope: f32,
}

impl Pooled {
    /// From what so many rows showed of any modes and rates; none where they say nothing, or contradict the law.
    pub(super) fn of(effects: &[&Effect], rows: usize) -> Option<Self> {
        let tells = |effect: &&&Effect| {
            (CHANGED_MIN..=rows / ONE_OF).contains(&effect.changed) && effect.output_nmse > 0.0 && rows >= ROWS_MIN
        };
        let (mut error, mut slope) = (0.0f32, 0.0f32);
        for effect in effects.iter().filter(tells) {
            let (_, most) = changed_between(effect.changed, rows);
            error = error.max(effect.output_nmse);
            slope = slope.max(most / effect.output_nmse.sqrt());
        }
        let law = Self { error, slope };
        let contradicts = |effect: &&Effect| {
            let (least, _) = changed_between(effect.changed, rows);
            effect.output_nmse <= error && least > law.most(effect.output_nmse)
        };
        (slope > 0.0 && !effects.iter().any(contradicts)).then_some(law)
    }

    fn most(&self, error: f32) -> f32 {
        self.slope * error.max(0.0).sqrt()
    }

    /// The same loss with an upper end that is no further away than the law allows for an error; where more than that was
    /// seen, the loss as it is.
    pub(super) fn tightened(&self, loss: Loss, error: f32) -> Loss {
        let most = self.most(error);
        let holds = error <= self.error && most >= loss.mean;
        Loss { high: if holds { loss.high.min(most) } else { loss.high }, ..loss }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(output_nmse: f32, changed: usize) -> Effect {
        Effect { bits: 1.0, bits_p95: 1.0, output_nmse, loss: None, changed }
    }

    fn of(effects: &[Effect], rows: usize) -> Option<Pooled> {
        Pooled::of(&effects.iter().collect::<Vec<_>>(), rows)
    }

    #[test]
    fn what_changes_a_few_rows_speaks_for_what_changes_fewer() {
        let effects = [effect(1e-4, 0), effect(1e-2, 20), effect(4e-2, 45), effect(0.3, 200)];
        let law = of(&effects, 512).unwrap();
        let own = |lost: f32, high: f32| Loss { mean: lost, low: -high, high };
        // 20 of 512 are 3.9 points, 5.7 at most; an error of a hundredth has a tenth of that. 45 are no steeper: 11.3.
        let tight = law.tightened(own(0.0, 0.02), 1e-4);
        assert!((tight.high - 0.0057).abs() < 1e-4 && tight.mean == 0.0 && tight.low == -0.02, "{tight:?}");
        assert_eq!(law.tightened(own(0.0, 0.003), 1e-4).high, 0.003, "what a rate says itself may be less");
        assert_eq!(law.tightened(own(0.008, 0.02), 1e-4).high, 0.02, "what was seen was seen");
        assert_eq!(law.tightened(own(0.1, 0.2), 0.3).high, 0.2, "further up there is no law");
    }

    #[test]
    fn little_evidence_is_none() {
        assert_eq!(of(&[effect(0.1, 52)], 512), None, "too many");
        assert_eq!(of(&[effect(0.1, 7)], 512), None, "too few");
        assert_eq!(of(&[effect(0.1, 9)], 100), None, "of too few");
        assert_eq!(of(&[effect(0.0, 20)], 512), None, "without an error");
        // All that can change has changed at an error of 0.05 already: the slope is that from there.
        let rare = [effect(0.05, 10), effect(1.0, 10)];
        assert_eq!(of(&rare, 512), of(&rare[..1], 512).map(|law| Pooled { error: 1.0, ..law }));
        assert_eq!(of(&[effect(1e-6, 200), effect(0.1, 20)], 512), None, "a finer one that changes more");
    }

    /// Scores of two classes whose differences have an even density around zero, or one that falls off or rises from there.
    #[test]
    fn what_is_promised_holds_for_margins_of_many_kinds() {
        let mut seed = 7u64;
        let mut dice = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        let rows = 20_000;
        let kinds: [(f32, f32); 3] = [(1.0, 4.0), (1.3, 4.0), (0.8, 4.0)];
        for (power, width) in kinds {
            let margins: Vec<f32> = (0..rows)
                .map(|_| {
                    let even = 2.0 * dice();
                    even.signum() * even.abs().powf(power) * width / 2.0
                })
                .collect();
            let mut changed = |size: f32| {
                let crosses = |margin: &&f32| {
                    let noise = size * (dice() + dice() + dice() + dice());
                    (**margin + noise).signum() != margin.signum()
                };
                margins.iter().filter(crosses).count()
            };
            let effects: Vec<Effect> = [0.1, 0.2, 0.3, 0.5].map(|size: f32| effect(size * size, changed(size))).into();
            let law = of(&effects, rows).expect("enough changed");
            for size in [0.02f32, 0.05, 0.1] {
                let seen = changed(size) as f32 / rows as f32;
                let most = law.tightened(Loss { mean: 0.0, low: 0.0, high: 1.0 }, size * size).high;
                let fair = if power > 1.0 { 1.6 } else { 1.0 };
                assert!(seen <= fair * most && most < 4.0 * seen, "{power}, size {size}: {seen} seen, {most} promised");
            }
        }
    }
}
