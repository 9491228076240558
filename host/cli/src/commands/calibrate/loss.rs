//! What an error at a cut does to a model's answers, as figures with intervals. Pure.
//!
//! **Output error**: squared differences of an output over its squares, added over rows; of several outputs the mean.
//!
//! **Loss**, of models whose only output scores classes. With labels: the share of rows that are right without the codec
//! less the share that are right with it. Without: the share of rows whose first class is another one than without the codec.
//!
//! **Interval**, 95 %. Row `i` differs by `d`: 1 where it was lost, -1 where it was won, else 0. With `n` rows, the mean `m`
//! of `d`, its variance `v = (lost + won) / n - m^2` and `z = 1.96`
//!
//! ```text
//! m +- z * sqrt(n * v + z^2) / (n + z^2)
//! ```
//!
//! For many differences that is the normal approximation. For none it is Wilson's upper bound `z^2 / (n + z^2)`: 0 of 256
//! rows says "at most 1.5 points", not "nothing". What other rates say as well is in [`pooled`](super::pooled).

use bps_codec::ff::Loss;

/// 95 % of a normal distribution lie within so many deviations.
const Z: f64 = 1.96;
/// What stands for an error without end.
const ERROR_MAX: f64 = 1e9;

/// The outputs of one row.
pub(in crate::commands) type Answer = Vec<Vec<f32>>;

/// What is a good answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::commands) enum Judge {
    /// The right class of each row.
    Labels(Vec<usize>),
    /// The answer without a codec.
    Agreement,
    /// Nobody can tell: the output is no list of classes, or inputs are made up.
    Nothing,
}

impl Judge {
    /// Its name.
    pub(in crate::commands) fn name(&self) -> &'static str {
        match self {
            Self::Labels(_) => "labels",
            Self::Agreement => "agreement",
            Self::Nothing => "none",
        }
    }

    /// Compares these rows; none where there is no judging. Also counts rows whose first class is another one.
    pub(in crate::commands) fn loss(
        &self,
        rows: &[usize],
        clean: &[&Answer],
        coded: &[Answer],
    ) -> (Option<Loss>, usize) {
        let tops = || clean.iter().zip(coded).map(|(clean, coded)| (top(clean), top(coded)));
        let changed = tops().filter(|(clean, coded)| clean != coded).count();
        let loss = match self {
            Self::Nothing => None,
            Self::Agreement => {
                Some(interval(changed, 0, rows.len())).map(|loss| Loss { low: loss.low.max(0.0), ..loss })
            }
            Self::Labels(labels) => {
                let right = |class: Option<usize>, row: &usize| class.is_some() && labels.get(*row).copied() == class;
                let (mut lost, mut won) = (0, 0);
                for ((clean, coded), row) in tops().zip(rows) {
                    match (right(clean, row), right(coded, row)) {
                        (true, false) => lost += 1,
                        (false, true) => won += 1,
                        _ => {}
                    }
                }
                Some(interval(lost, won, rows.len()))
            }
        };
        (loss, changed)
    }
}

/// The class with the highest score, the first of equals; none where there is no score.
fn top(answer: &Answer) -> Option<usize> {
    let scores = answer.first()?;
    let better = |best: Option<usize>, at: usize| match best {
        Some(best) if scores[at] > scores[best] => Some(at),
        None if !scores[at].is_nan() => Some(at),
        kept => kept,
    };
    (0..scores.len()).fold(None, better)
}

/// The ends of the share of rows that change, where so many did.
pub(super) fn changed_between(changed: usize, rows: usize) -> (f32, f32) {
    let Loss { low, high, .. } = interval(changed, 0, rows);
    (low.max(0.0), high)
}

/// Accuracy lost and its interval: see the module.
fn interval(lost: usize, won: usize, rows: usize) -> Loss {
    let n = rows.max(1) as f64;
    let mean = (lost as f64 - won as f64) / n;
    let variance = ((lost + won) as f64 / n - mean * mean).max(0.0);
    let half = Z * (n * variance + Z * Z).sqrt() / (n + Z * Z);
    let Loss { mean, low, high } = Loss::around(mean as f32, half as f32);
    Loss { mean, low: low.max(-1.0), high: high.min(1.0) }
}

/// Relative squared error: see the module.
pub(in crate::commands) fn output_error(clean: &[&Answer], coded: &[Answer]) -> f32 {
    let outputs = clean.first().map_or(0, |answer| answer.len());
    let of = |output: usize| {
        let (mut error, mut energy) = (0.0f64, 0.0f64);
        for (clean, coded) in clean.iter().zip(coded) {
            for (clean, coded) in clean[output].iter().zip(&coded[output]) {
                let (clean, coded) = (f64::from(*clean), f64::from(*coded));
                if clean.is_finite() {
                    error += (coded - clean).powi(2);
                    energy += clean * clean;
                }
            }
        }
        match error {
            0.0 => 0.0,
            e if e.is_finite() && energy > 0.0 => (e / energy).min(ERROR_MAX),
            _ => ERROR_MAX,
        }
    };
    ((0..outputs).map(of).sum::<f64>() / outputs.max(1) as f64) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(classes: &[usize]) -> Vec<Answer> {
        let one = |class: &usize| vec![(0..4).map(|c| if c == *class { 2.0 } else { 1.0 }).collect()];
        classes.iter().map(one).collect()
    }

    #[test]
    fn none_of_many_is_not_nothing() {
        // Lost, won, rows: mean and interval in points.
        let table = [
            ((0, 0, 256), (0.0, -1.48, 1.48)),
            ((0, 0, 10_000), (0.0, -0.04, 0.04)),
            ((1, 0, 256), (0.39, -1.27, 2.05)),
            ((13, 3, 256), (3.91, 0.58, 7.23)),
            ((500, 0, 1_000), (50.0, 46.9, 53.1)),
            ((10, 0, 10), (100.0, 72.2, 100.0)),
            ((0, 0, 0), (0.0, -79.3, 79.3)),
        ];
        for ((lost, won, rows), (mean, low, high)) in table {
            let got = interval(lost, won, rows);
            let near = |a: f32, b: f32| (a * 100.0 - b).abs() < 0.06;
            assert!(near(got.mean, mean) && near(got.low, low) && near(got.high, high), "{lost} {won} {rows}: {got:?}");
        }
    }

    #[test]
    fn judges_count_what_they_know() {
        let clean = scores(&[0, 1, 2, 3]);
        let clean: Vec<&Answer> = clean.iter().collect();
        let coded = scores(&[0, 1, 3, 2]);
        let rows = [1, 3, 5, 7];
        let labels = Judge::Labels(vec![9, 0, 9, 1, 9, 2, 9, 2]);
        let (loss, changed) = labels.loss(&rows, &clean, &coded);
        assert_eq!((loss.unwrap().mean, changed), (0.0, 2), "one lost, one won");
        let (loss, _) = Judge::Agreement.loss(&rows, &clean, &coded);
        assert_eq!((loss.unwrap().mean, loss.unwrap().high.min(1.0)), (0.5, loss.unwrap().high));
        assert_eq!(Judge::Agreement.loss(&rows, &clean, &scores(&[0, 1, 2, 3])).0.unwrap().low, 0.0);
        assert_eq!(Judge::Nothing.loss(&rows, &clean, &coded), (None, 2));
    }

    #[test]
    fn the_first_of_equals_counts_and_no_number_does_not() {
        assert_eq!(top(&vec![vec![1.0, 3.0, 3.0]]), Some(1));
        assert_eq!(top(&vec![vec![f32::NAN, 1.0, 2.0]]), Some(2));
        assert_eq!(top(&vec![vec![f32::NAN]]), None);
        assert_eq!(top(&vec![]), None);
    }

    #[test]
    fn output_errors_are_relative_to_each_output() {
        let clean = vec![vec![3.0f32, 4.0], vec![100.0, 0.0]];
        let of = |coded: Answer| output_error(&[&clean], &[coded]);
        assert_eq!(of(clean.clone()), 0.0);
        assert!((of(vec![vec![3.0, 4.5], vec![110.0, 0.0]]) - 0.01).abs() < 1e-6);
        assert_eq!(of(vec![vec![f32::NAN, 4.0], vec![100.0, 0.0]]), 5e8);
        assert_eq!(output_error(&[], &[]), 0.0);
    }
}
