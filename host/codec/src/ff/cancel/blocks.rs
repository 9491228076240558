//! Some coefficients at a time: what they have along the directions, as vector instructions take it.

use super::super::directions::DIRECTIONS_MAX;

/// Coefficients of a block; the last one of a plane is filled up with zeros.
pub(super) const BLOCK: usize = 4;
/// A number for each.
pub(super) type Wide = [f32; BLOCK];

/// What each coefficient of a block has along each direction; those that are not there are 0.
#[repr(align(64))]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Along(pub(super) [Wide; DIRECTIONS_MAX]);

impl Along {
    /// The squares of the coefficients.
    pub(super) fn square(&self) -> Wide {
        products(&self.0, &self.0)
    }
}

/// The sums of all errors along each direction, each as often as a block has coefficients.
#[repr(align(64))]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums([Wide; DIRECTIONS_MAX]);

impl Sums {
    /// Of the errors of all coefficients, added one after the other.
    pub(super) fn of<'a>(blocks: impl Iterator<Item = (&'a Wide, &'a Along)>) -> Self {
        let mut sums = [[0.0; BLOCK]; DIRECTIONS_MAX / BLOCK];
        for (errors, along) in blocks {
            for (sums, along) in sums.iter_mut().zip(along.0.as_chunks::<BLOCK>().0) {
                let parts = along.map(|along| times(*errors, along));
                // Directions side by side.
                for lane in 0..BLOCK {
                    *sums = plus(*sums, parts.map(|part| part[lane]));
                }
            }
        }
        Self(std::array::from_fn(|k| [sums[k / BLOCK][k % BLOCK]; BLOCK]))
    }

    /// Adds the error of one coefficient of a block.
    pub(super) fn add(&mut self, error: f32, along: &Along, lane: usize) {
        for (sum, along) in self.0.iter_mut().zip(&along.0) {
            *sum = [sum[0] + error * along[lane % BLOCK]; BLOCK];
        }
    }

    /// `sums . along` of each coefficient.
    #[inline(always)]
    pub(super) fn dot(&self, along: &Along) -> Wide {
        products(&self.0, &along.0)
    }
}

/// Added up in pairs: a chain of sums would be what everything waits for.
#[inline(always)]
fn products(a: &[Wide; DIRECTIONS_MAX], b: &[Wide; DIRECTIONS_MAX]) -> Wide {
    const HALF: usize = DIRECTIONS_MAX / 2;
    let pair = |k: usize| plus(times(a[k], b[k]), times(a[k + HALF], b[k + HALF]));
    let four = |k: usize| plus(pair(k), pair(k + HALF / 2));
    plus(plus(four(0), four(2)), plus(four(1), four(3)))
}

#[inline(always)]
fn plus(a: Wide, b: Wide) -> Wide {
    std::array::from_fn(|i| a[i] + b[i])
}

#[inline(always)]
fn times(a: Wide, b: Wide) -> Wide {
    std::array::from_fn(|i| a[i] * b[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_all_errors() {
        let number = |i: usize| ((i * 7_919) % 31) as f32 - 15.0;
        let along: Vec<Along> = (0..3)
            .map(|b| Along(std::array::from_fn(|k| std::array::from_fn(|i| number(64 * b + 4 * k + i)))))
            .collect();
        let mut errors: Vec<Wide> = (0..3).map(|b| std::array::from_fn(|i| number(1_000 + 4 * b + i) / 8.0)).collect();
        let sums = Sums::of(errors.iter().zip(&along));
        for k in 0..DIRECTIONS_MAX {
            let sum: f32 = (0..12).map(|at| errors[at / 4][at % 4] * along[at / 4].0[k][at % 4]).sum();
            assert_eq!(sums.0[k], [sum; BLOCK]);
        }
        // Small eighths: every sum is exact.
        let mut changed = sums;
        changed.add(0.5, &along[1], 2);
        errors[1][2] += 0.5;
        assert_eq!(changed.0, Sums::of(errors.iter().zip(&along)).0);
        let wanted = |i: usize| (0..DIRECTIONS_MAX).map(|k| sums.0[k][0] * along[2].0[k][i]).sum::<f32>();
        assert_eq!(sums.dot(&along[2]), std::array::from_fn(wanted));
        let squares = |i: usize| (0..DIRECTIONS_MAX).map(|k| along[0].0[k][i].powi(2)).sum::<f32>();
        assert_eq!(along[0].square(), std::array::from_fn(squares));
    }
}
