//! The probability model: which table codes a symbol.
//!
//! A table is picked by the kind of the plane, its **class** (how large its symbols are on average, both ends know it
//! before) and the **context** (what was decoded around the symbol). Of class `c` magnitudes of neighbours are halved
//! `(c - 14) / 2` times, rounded, before they are counted.

use super::rans::{PRECISION, TOTAL, Table};
use super::token::{Alphabet, ESCAPE, TOKENS};
use std::sync::OnceLock;

/// Classes of planes: class `c` has a mean magnitude of about `2^((c - 14) / 2)`.
pub(super) const CLASSES: usize = 24;
/// Contexts of neighbours: magnitudes left and above, each halved as often as the class says and
/// counted up to two, added.
pub(super) const NEIGHBOURS: usize = 5;
/// Levels of the coarser band at the same place: its magnitude up to five.
pub(super) const PARENTS: usize = 6;

/// What kind of plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Without transform, no symbol below zero.
    Scalar,
    /// Without transform.
    SignedScalar,
    /// The coarsest band, no symbol below zero.
    Coarse,
    /// The coarsest band.
    SignedCoarse,
    /// Any other band.
    Detail,
}

impl Kind {
    pub(super) const ALL: [Self; 5] =
        [Self::Scalar, Self::SignedScalar, Self::Coarse, Self::SignedCoarse, Self::Detail];

    pub(super) fn of(levels: usize, band: usize, signed: bool) -> Self {
        match (levels, band, signed) {
            (_, 1.., _) => Self::Detail,
            (0, 0, false) => Self::Scalar,
            (0, 0, true) => Self::SignedScalar,
            (_, 0, false) => Self::Coarse,
            (_, 0, true) => Self::SignedCoarse,
        }
    }

    pub(super) fn signed(self) -> bool {
        !matches!(self, Self::Scalar | Self::Coarse)
    }

    pub(super) fn alphabet(self) -> &'static Alphabet {
        Alphabet::pick(self.signed())
    }

    pub(super) fn contexts(self) -> usize {
        if self == Self::Detail { NEIGHBOURS * PARENTS } else { NEIGHBOURS }
    }

    /// Indices of the tables of all classes.
    pub(super) fn all_tables(self) -> std::ops::Range<usize> {
        let first = self.first_table(0);
        first..first + CLASSES * self.contexts()
    }

    /// Index of the first table of a class.
    pub(super) fn first_table(self, class: u8) -> usize {
        CLASSES * NEIGHBOURS * self as usize + self.contexts() * usize::from(class)
    }
}

/// How a plane's contexts are counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scale {
    /// Index of the class's first table.
    pub(super) base: u16,
    /// By how many bits magnitudes are shifted: in planes of large symbols small ones say as little as none.
    shift: u32,
    half: u16,
}

impl Scale {
    /// The least magnitude of a neighbour that counts so much.
    pub(super) fn least(&self, count: u16) -> i16 {
        (count << self.shift) as i16 - self.half as i16
    }

    /// What a neighbour counts: 0, 1 or 2.
    #[inline(always)]
    pub(super) const fn magnitude(&self, symbol: i16) -> u16 {
        let count = (symbol.unsigned_abs() + self.half) >> self.shift;
        if count < 2 { count } else { 2 }
    }

    /// One with this shift, below [`SHIFTS`].
    pub(super) const fn of_shift(base: u16, shift: usize) -> Self {
        Self { base, shift: shift as u32, half: (1 << shift) / 2 }
    }

    /// By how many bits it shifts.
    #[inline(always)]
    pub(super) fn shift(&self) -> usize {
        self.shift as usize % SHIFTS
    }
}

/// Shifts that scales have.
pub(super) const SHIFTS: usize = (CLASSES - 1 - 14) / 2 + 1;

/// Tables of all kinds, classes and contexts.
pub(super) const TABLES: usize = CLASSES * NEIGHBOURS * (4 + PARENTS);

impl Kind {
    /// Of a class of planes.
    pub(super) fn scale(self, class: u8) -> Scale {
        // Of class 16 symbols are 2 on average.
        let shift = usize::from(class.saturating_sub(14)) / 2;
        Scale::of_shift(self.first_table(class) as u16, shift)
    }
}

/// The class of a plane whose magnitudes add up to this.
pub(super) fn class_of(magnitude_sum: u64, symbols: usize) -> u8 {
    // Squared, the borders between classes are powers of two: 2^(c - 13.5), times the root of two 2^(c - 13).
    let mean = magnitude_sum as f64 / symbols.max(1) as f64;
    let squared = mean * mean * std::f64::consts::SQRT_2;
    let mut border = 1.0 / f64::from(1u32 << 13);
    let mut class = 0;
    while class + 1 < CLASSES as u8 && squared >= border {
        class += 1;
        border *= 2.0;
    }
    class
}

/// A mean magnitude in the middle of a class.
#[cfg(test)]
pub(super) fn class_mean(class: u8) -> f64 {
    let half = if class.is_multiple_of(2) { 1.0 } else { std::f64::consts::SQRT_2 };
    half * f64::from(1u32 << (class / 2)) / 128.0
}

/// Tables from frequencies, 16 a table; none where there are too many or few or one is no table.
pub(super) fn tables(frequencies: &[u16]) -> Option<Vec<Table>> {
    let (lists, rest) = frequencies.as_chunks::<TOKENS>();
    if lists.len() != TABLES || !rest.is_empty() {
        return None;
    }
    lists.iter().map(Table::of).collect()
}

/// Frequencies that add up to 4096 in proportion to weights. Tokens that would get less than half a unit go to the escape,
/// which always has one.
pub(super) fn frequencies(weights: &[f64; TOKENS]) -> [u16; TOKENS] {
    let escape = usize::from(ESCAPE);
    let mut out = [0u16; TOKENS];
    let sum: f64 = weights.iter().sum();
    let share = |weight: f64| if sum > 0.0 { weight / sum * f64::from(TOTAL) } else { 0.0 };
    let dropped: f64 = weights[..escape].iter().filter(|w| share(**w) < 0.5).sum();
    for (frequency, weight) in out[..escape].iter_mut().zip(weights) {
        let units = share(*weight);
        *frequency = if units < 0.5 { 0 } else { (units + 0.5) as u16 };
    }
    out[escape] = ((share(dropped + weights[escape]) + 0.5) as u16).max(1);
    // What rounding left over goes to, or comes from, the most frequent.
    let given: i32 = out.iter().map(|f| i32::from(*f)).sum();
    let greatest = (0..TOKENS).max_by_key(|t| (out[*t], TOKENS - t)).unwrap_or(escape);
    out[greatest] = (i32::from(out[greatest]) + (1 << PRECISION) - given).max(1) as u16;
    out
}

/// The table of class differences, for signed tokens.
pub(super) fn class_table() -> Option<&'static Table> {
    static TABLE: OnceLock<Option<Table>> = OnceLock::new();
    let table = || Table::of(&[1_200, 700, 700, 380, 380, 200, 200, 150, 80, 60, 30, 12, 1, 1, 1, 1]);
    TABLE.get_or_init(table).as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_half_octaves() {
        for class in 0..CLASSES as u8 {
            let mean = class_mean(class);
            assert!((mean - 2f64.powf((f64::from(class) - 14.0) / 2.0)).abs() < 1e-9 * mean);
            assert_eq!(class_of((mean * 1e9) as u64, 1_000_000_000), class);
        }
        assert_eq!((class_of(0, 0), class_of(0, 9), class_of(u64::MAX, 1)), (0, 0, 23));
    }

    #[test]
    fn neighbours_count_from_their_least_magnitudes_on() {
        for class in 0..CLASSES as u8 {
            let scale = Kind::Detail.scale(class);
            for symbol in -100..=100i16 {
                let count = (1..=2).filter(|count| symbol.abs() >= scale.least(*count)).count();
                assert_eq!(scale.magnitude(symbol), count as u16, "{class} {symbol}");
            }
        }
    }

    #[test]
    fn every_table_has_one_place() {
        let mut seen = vec![false; TABLES];
        for kind in Kind::ALL {
            for class in 0..CLASSES as u8 {
                for context in 0..kind.contexts() {
                    assert!(!std::mem::replace(&mut seen[kind.first_table(class) + context], true));
                }
            }
        }
        assert!(seen.into_iter().all(|s| s));
    }

    #[test]
    fn frequencies_are_tables() {
        let mut skewed = [0.0; TOKENS];
        (skewed[0], skewed[1], skewed[2]) = (1e6, 30.0, 400.0);
        let rows = [[1.0; TOKENS], [0.0; TOKENS], skewed, std::array::from_fn(|t| 0.3f64.powi(t as i32))];
        for weights in rows {
            let frequencies = frequencies(&weights);
            assert!(Table::of(&frequencies).is_some(), "{weights:?} {frequencies:?}");
        }
        assert_eq!(frequencies(&skewed)[..3], [4_093, 0, 2]);
        assert!(class_table().is_some());
    }
}
