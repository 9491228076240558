//! Activations as one byte per element. The reference of `shaders/int8_range.wgsl`, `int8_pack.wgsl` and
//! `int8_unpack.wgsl`.
//!
//! Per row and affine: `value = zero + code * scale` with `zero` the least finite element and
//! `scale = (greatest - least) / 254`. Codes 0..=254 are values, 255 is not-a-number. A tensor is its rows one after
//! another, each as drawn: what becomes of a row does not depend on its neighbours.
//!
//! ```text
//! word      0        1       2 ..
//!        +--------+--------+----------------------------+
//!        | scale  | zero   | four codes a word, the     |
//!        | f32    | f32    | first in the lowest byte   |
//!        +--------+--------+----------------------------+
//! ```
//!
//! All words are little-endian; unused bytes of a row's last word are zero. Rows and elements travel outside.
//!
//! **Error.** At most `scale / 2` plus rounding of the arithmetic (4 units in the last place of the greatest
//! magnitude). Infinities become the greatest and least finite element, not-a-number stays one. A row whose range is so
//! narrow that `scale` would be subnormal (or zero) gets `scale = 0` and decodes to `zero`.

use crate::{CodecError, check_length};

/// Words before the codes.
pub const HEADER_WORDS: usize = 2;
/// The code of not-a-number.
pub const CODE_NAN: u32 = 255;
/// The greatest code of a value.
pub const CODE_MAX: f32 = 254.0;

/// Words of a packed row with this many elements.
pub const fn word_count(element_count: usize) -> usize {
    HEADER_WORDS + element_count.div_ceil(4)
}

/// Bytes of packed rows with so many elements each; none where they do not fit in memory.
pub fn byte_count(rows: usize, row_elements: usize) -> Option<usize> {
    word_count(row_elements).checked_mul(4)?.checked_mul(rows)
}

/// The affine map between codes and values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// Distance of neighbouring codes; 0 where all values are (nearly) the same.
    pub scale: f32,
    /// Value of code 0.
    pub zero: f32,
}

/// Exponent bits: all of them are set where a float is infinite or not a number.
const EXPONENT: u32 = 0x7f80_0000;

/// Orders like the numbers; a minimum over integers becomes vector instructions, one over floats does not.
fn key(bits: u32) -> i32 {
    bits as i32 ^ ((bits as i32 >> 31) as u32 >> 1) as i32
}

/// The number behind a key.
fn number(key: i32) -> f32 {
    f32::from_bits((key ^ ((key >> 31) as u32 >> 1) as i32) as u32)
}

impl Affine {
    /// The map that covers the finite elements of `values`.
    pub fn fit(values: &[f32]) -> Self {
        let (least, greatest) = values.iter().fold((i32::MAX, i32::MIN), |(lo, hi), value| {
            let bits = value.to_bits();
            let (finite, key) = (bits & EXPONENT != EXPONENT, key(bits));
            (lo.min(if finite { key } else { i32::MAX }), hi.max(if finite { key } else { i32::MIN }))
        });
        if least > greatest {
            return Self { scale: 0.0, zero: 0.0 };
        }
        let (least, greatest) = (number(least), number(greatest));
        // Halved first: the whole range of f32 is twice its maximum.
        let scale = (greatest * 0.5 - least * 0.5) / (CODE_MAX * 0.5);
        Self { scale: if scale < f32::MIN_POSITIVE { 0.0 } else { scale }, zero: least }
    }

    /// The codes of values, written over `codes`; as many as the shorter of the two has.
    fn encode(&self, values: &[f32], codes: &mut [u8]) {
        let zero = self.zero * 0.5;
        // Without a scale every step is 0.
        let steps_per_half = if self.scale == 0.0 { 0.0 } else { 2.0 / self.scale };
        for (code, value) in codes.iter_mut().zip(values) {
            let steps = ((value * 0.5 - zero) * steps_per_half + 0.5).clamp(0.0, CODE_MAX) as u8;
            *code = if value.is_nan() { CODE_NAN as u8 } else { steps };
        }
    }

    /// The values of codes, written over `values`; as many as the shorter of the two has.
    fn decode(&self, codes: &[u8], values: &mut [f32]) {
        let (zero, scale) = (self.zero * 0.5, self.scale * 0.5);
        for (value, &code) in values.iter_mut().zip(codes) {
            let half = zero + f32::from(code) * scale;
            *value = if u32::from(code) == CODE_NAN { f32::NAN } else { (half * 2.0).clamp(f32::MIN, f32::MAX) };
        }
    }

    fn header(&self) -> [[u8; 4]; HEADER_WORDS] {
        [self.scale.to_le_bytes(), self.zero.to_le_bytes()]
    }

    /// Reads a row's header; none where there is not even that.
    fn of(row: &[u8]) -> Option<Self> {
        let [scale, zero, ..] = row.as_chunks::<4>().0 else { return None };
        Some(Self { scale: f32::from_le_bytes(*scale), zero: f32::from_le_bytes(*zero) })
    }
}

/// Packs a row behind what is in `packed`.
pub fn pack_row(values: &[f32], packed: &mut Vec<u8>) {
    let affine = Affine::fit(values);
    packed.extend(affine.header().as_flattened());
    let codes = packed.len();
    packed.resize(codes + values.len().next_multiple_of(4), 0);
    affine.encode(values, &mut packed[codes..codes + values.len()]);
}

/// Unpacks a row over `values`; as many elements as that has.
pub fn unpack_row(row: &[u8], values: &mut [f32]) -> Result<(), CodecError> {
    check_length("packed row", "bytes", word_count(values.len()).saturating_mul(4), row.len())?;
    let affine = Affine::of(row).unwrap_or(Affine { scale: 0.0, zero: 0.0 });
    affine.decode(&row[4 * HEADER_WORDS..], values);
    Ok(())
}

/// The first row whose header no encoder writes: a scale or zero that is not a number, or a scale below zero. `packed` is
/// whole rows of `row_elements` elements each.
pub(crate) fn broken_row(packed: &[u8], row_elements: usize) -> Option<usize> {
    let sound = |a: Affine| a.scale.is_finite() && a.scale >= 0.0 && a.zero.is_finite();
    let rows = packed.chunks_exact(word_count(row_elements).saturating_mul(4));
    rows.enumerate().find(|(_, row)| !Affine::of(row).is_some_and(sound)).map(|(index, _)| index)
}

/// Packs one row as words.
pub fn quantize(values: &[f32]) -> Vec<u32> {
    let mut packed = Vec::with_capacity(4 * word_count(values.len()));
    pack_row(values, &mut packed);
    packed.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect()
}

/// Unpacks one row of `element_count` elements.
pub fn dequantize(words: &[u32], element_count: usize) -> Result<Vec<f32>, CodecError> {
    check_length("packed tensor", "words", word_count(element_count), words.len())?;
    let packed: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    let mut values = vec![0.0; element_count];
    unpack_row(&packed, &mut values)?;
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Largest admissible error for an element of this tensor.
    fn error_bound(values: &[f32], affine: Affine) -> f32 {
        let magnitude = values.iter().filter(|v| v.is_finite()).fold(0.0f32, |m, v| m.max(v.abs()));
        let rounding = 4.0 * f32::EPSILON * magnitude;
        // A subnormal scale is taken as zero: the whole range is lost, and it is tiny.
        let narrow = if affine.scale == 0.0 { CODE_MAX * f32::MIN_POSITIVE } else { 0.0 };
        affine.scale * 0.5 + rounding + narrow
    }

    fn check(values: &[f32]) -> Result<(), TestCaseError> {
        let affine = Affine::fit(values);
        let back = dequantize(&quantize(values), values.len()).unwrap();
        let bound = error_bound(values, affine);
        for (&x, &y) in values.iter().zip(&back) {
            if x.is_nan() {
                prop_assert!(y.is_nan());
            } else if x.is_finite() {
                prop_assert!((x * 0.5 - y * 0.5).abs() <= bound * 0.5, "{} became {}, bound {}", x, y, bound);
            } else {
                prop_assert!(y.is_finite());
            }
        }
        Ok(())
    }

    #[test]
    fn layout_is_as_documented() {
        let words = quantize(&[-127.0, 127.0, 0.0, f32::NAN, -126.0]);
        assert_eq!(words, [1.0f32.to_bits(), (-127.0f32).to_bits(), 0xff_7f_fe_00, 0x01]);
        assert_eq!(word_count(5), words.len());
    }

    #[test]
    fn edges() {
        let cases: [&[f32]; 7] = [
            &[],
            &[f32::NAN],
            &[3.5; 9],
            &[f32::MAX, f32::MIN, 0.0, f32::MAX / 2.0],
            &[f32::INFINITY, 1.0, f32::NEG_INFINITY, -1.0],
            &[1e-45, 0.0],
            &[-0.0, 0.0],
        ];
        for values in cases {
            check(values).unwrap();
        }
        let infinite = dequantize(&quantize(cases[4]), 4).unwrap();
        assert_eq!((infinite[0], infinite[2]), (1.0, -1.0));
        assert_eq!(dequantize(&quantize(&[3.5; 9]), 9).unwrap(), [3.5; 9]);
    }

    #[test]
    fn word_count_is_checked() {
        let error = dequantize(&[0; 3], 5).unwrap_err();
        assert_eq!(error.to_string(), "packed tensor should have 4 words, got 3");
        assert!(dequantize(&[], 0).is_err());
    }

    #[test]
    fn a_row_does_not_depend_on_its_neighbours() {
        let (small, large) = ([0.5f32, -0.25, 0.125], [1e6f32, -3e5, f32::NAN]);
        let mut both = vec![];
        pack_row(&small, &mut both);
        let alone = both.clone();
        pack_row(&large, &mut both);
        assert_eq!(both.len(), byte_count(2, 3).unwrap());
        assert_eq!(both[..alone.len()], alone);
        let mut back = [0.0; 3];
        unpack_row(&both[..alone.len()], &mut back).unwrap();
        assert!(back.iter().zip(small).all(|(a, b)| (a - b).abs() < 0.002), "{back:?}");
        assert_eq!(broken_row(&both, 3), None);
        both[alone.len() + 3] = 0xff;
        assert_eq!(broken_row(&both, 3), Some(1), "a scale below zero");
        assert_eq!((byte_count(usize::MAX, 1), byte_count(0, 9), byte_count(3, 0)), (None, Some(0), Some(24)));
    }

    /// As the head of this file describes it, element by element.
    fn plainly(values: &[f32]) -> Vec<u32> {
        let finite = || values.iter().copied().filter(|v| v.is_finite());
        let (least, greatest) = (finite().fold(f32::INFINITY, f32::min), finite().fold(f32::NEG_INFINITY, f32::max));
        let mut affine = Affine { scale: 0.0, zero: 0.0 };
        if least <= greatest {
            let scale = (greatest * 0.5 - least * 0.5) / 127.0;
            affine = Affine { scale: if scale < f32::MIN_POSITIVE { 0.0 } else { scale }, zero: least };
        }
        let code = |v: f32| match () {
            () if v.is_nan() => CODE_NAN,
            () if affine.scale == 0.0 => 0,
            () => {
                let steps = (v * 0.5 - affine.zero * 0.5) * (2.0 / affine.scale);
                (steps + 0.5).floor().clamp(0.0, CODE_MAX) as u32
            }
        };
        let mut words = vec![affine.scale.to_bits(), affine.zero.to_bits()];
        words.extend(values.chunks(4).map(|four| (0..four.len()).fold(0, |w, k| w | code(four[k]) << (8 * k))));
        words
    }

    proptest! {
        #[test]
        fn the_quick_way_is_the_plain_one(bits in prop::collection::vec(any::<u32>(), 0..80), narrow: bool) {
            // Any bits at all, or numbers of like size as activations have.
            let value = |b: u32| if narrow { (b as f32 - 2e9).max(0.0) / 1e9 } else { f32::from_bits(b) };
            let values: Vec<f32> = bits.into_iter().map(value).collect();
            let (quick, plain) = (quantize(&values), plainly(&values));
            // Of two zeros the sign may differ: they are equal.
            prop_assert_eq!(f32::from_bits(quick[1]), f32::from_bits(plain[1]));
            prop_assert_eq!((quick[0], &quick[2..]), (plain[0], &plain[2..]));
        }

        #[test]
        fn error_is_bounded(values in prop::collection::vec(-1e3f32..1e3, 0..200)) {
            check(&values)?;
        }

        #[test]
        fn error_is_bounded_for_any_bits(bits in prop::collection::vec(any::<u32>(), 0..50)) {
            check(&bits.into_iter().map(f32::from_bits).collect::<Vec<_>>())?;
        }

        #[test]
        fn packing_again_changes_little(values in prop::collection::vec(-10f32..10.0, 2..50)) {
            let once = dequantize(&quantize(&values), values.len()).unwrap();
            let twice = dequantize(&quantize(&once), values.len()).unwrap();
            let scale = Affine::fit(&values).scale;
            for (a, b) in once.iter().zip(&twice) {
                prop_assert!((a - b).abs() <= scale * 0.01 + 1e-5);
            }
        }
    }
}
