//! The handwritten digits that bps trains and shows itself with: 1,797 scans of 8 x 8 pixels.
//!
//! Source and licence stand in `models/digits/README.md`. The split is fixed: row `i` is held out where `i % 18 < 5`. Where
//! scans become larger pictures, those held out are for the two test splits (`i % 18` of 0 to 2 and of 3 to 4), and of the
//! others those of 14 and 15 are for calibration, of 16 and 17 for validation.

use crate::set::Split;
use std::sync::LazyLock;

/// Lines, and pixels of a line.
pub const SIDE: usize = 8;
/// Classes.
pub const CLASSES: usize = 10;

/// Pixels, then the label.
const ROW_BYTES: usize = SIDE * SIDE + 1;
/// The greatest pixel of the data set.
const INK_MAX: u8 = 16;
static ROWS: &[u8] = include_bytes!("../../../models/digits/digits.bin");

/// A scan and what it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digit {
    /// Gray values 0 (paper) ..= 255 (ink), line by line.
    pub pixels: [u8; SIDE * SIDE],
    /// 0 ..= 9.
    pub label: u8,
}

/// What training sees: 1,297 digits.
pub fn train() -> Vec<Digit> {
    rows(|i| i % 18 >= 5)
}

/// What it never sees: 500 digits.
pub fn held_out() -> Vec<Digit> {
    rows(|i| i % 18 < 5)
}

/// Numbers of the scans that pictures of a split are made from: 900, 199, 198, 300 and 200 of them, in the splits' order.
pub(crate) fn of(split: Split) -> &'static [usize] {
    static PARTS: LazyLock<[Vec<usize>; 5]> = LazyLock::new(|| {
        let rows = 0..ROWS.len() / ROW_BYTES;
        [5..14, 14..16, 16..18, 0..3, 3..5].map(|wanted| rows.clone().filter(|i| wanted.contains(&(i % 18))).collect())
    });
    &PARTS[split as usize]
}

/// Scan `i`; there are 1,797.
pub(crate) fn row(i: usize) -> Digit {
    Digit::new(&ROWS[i * ROW_BYTES..(i + 1) * ROW_BYTES])
}

fn rows(wanted: impl Fn(usize) -> bool) -> Vec<Digit> {
    ROWS.chunks_exact(ROW_BYTES).enumerate().filter(|(i, _)| wanted(*i)).map(|(_, row)| Digit::new(row)).collect()
}

impl Digit {
    fn new(row: &[u8]) -> Self {
        let (ink, label) = row.split_at(SIDE * SIDE);
        // 0 ..= 16 to 0 ..= 255, rounded.
        let gray = |p: u8| ((u16::from(p) * 255 + u16::from(INK_MAX) / 2) / u16::from(INK_MAX)) as u8;
        let mut pixels = [0; SIDE * SIDE];
        pixels.iter_mut().zip(ink).for_each(|(gray_value, ink)| *gray_value = gray(*ink));
        Self { pixels, label: label[0] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_is_whole() {
        assert_eq!(ROWS.len(), 1_797 * ROW_BYTES);
        let (train, held_out) = (train(), held_out());
        assert_eq!((train.len(), held_out.len()), (1_297, 500));
        for digit in train.iter().chain(&held_out) {
            assert!(usize::from(digit.label) < CLASSES);
            assert!(digit.pixels.iter().any(|p| *p > 200), "a digit without ink");
        }
        assert_eq!((0..CLASSES).map(|c| held_out.iter().filter(|d| usize::from(d.label) == c).count()).min(), Some(36));
    }
}
