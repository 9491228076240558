//! Activations as one byte per element. The reference of `shaders/int8_range.wgsl`, `int8_pack.wgsl` and
//! `int8_unpack.wgsl`.
//!
//! Per tensor and affine: `value = zero + code * scale` with `zero` the least finite element and
//! `scale = (greatest - least) / 254`. Codes 0..=254 are values, 255 is not-a-number.
//!
//! ```text
//! word      0        1       2 ..
//!        +--------+--------+----------------------------+
//!        | scale  | zero   | four codes a word, the     |
//!        | f32    | f32    | first in the lowest byte   |
//!        +--------+--------+----------------------------+
//! ```
//!
//! All words are little-endian; unused bytes of the last word are zero. The element count travels outside.
//!
//! **Error.** At most `scale / 2` plus rounding of the arithmetic (4 units in the last place of the greatest
//! magnitude). Infinities become the greatest and least finite element, not-a-number stays one. A tensor whose range is
//! so narrow that `scale` would be subnormal (or zero) gets `scale = 0` and decodes to `zero`.

use crate::{CodecError, check_length};

/// Words before the codes.
pub const HEADER_WORDS: usize = 2;
/// The code of not-a-number.
pub const CODE_NAN: u32 = 255;
/// The greatest code of a value.
pub const CODE_MAX: f32 = 254.0;

/// Words of a packed tensor with this many elements.
pub const fn word_count(element_count: usize) -> usize {
    HEADER_WORDS + element_count.div_ceil(4)
}

/// The affine map between codes and values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// Distance of neighbouring codes; 0 where all values are (nearly) the same.
    pub scale: f32,
    /// Value of code 0.
    pub zero: f32,
}

impl Affine {
    /// The map that covers the finite elements of `values`.
    pub fn fit(values: &[f32]) -> Self {
        let finite = values.iter().copied().filter(|v| v.is_finite());
        let (least, greatest) = finite.fold((f32::INFINITY, f32::NEG_INFINITY), |(lo, hi), v| (v.min(lo), v.max(hi)));
        if least > greatest {
            return Self { scale: 0.0, zero: 0.0 };
        }
        // Halved first: the whole range of f32 is twice its maximum.
        let scale = (greatest * 0.5 - least * 0.5) / (CODE_MAX * 0.5);
        Self { scale: if scale < f32::MIN_POSITIVE { 0.0 } else { scale }, zero: least }
    }

    /// The code of a value.
    pub fn encode(&self, value: f32) -> u32 {
        if value.is_nan() {
            return CODE_NAN;
        }
        if self.scale == 0.0 {
            return 0;
        }
        let steps = (value * 0.5 - self.zero * 0.5) * (2.0 / self.scale);
        (steps + 0.5).floor().clamp(0.0, CODE_MAX) as u32
    }

    /// The value of a code.
    pub fn decode(&self, code: u32) -> f32 {
        if code == CODE_NAN {
            return f32::NAN;
        }
        let half = self.zero * 0.5 + code as f32 * (self.scale * 0.5);
        (half * 2.0).clamp(f32::MIN, f32::MAX)
    }
}

/// Packs a tensor into the layout above.
pub fn quantize(values: &[f32]) -> Vec<u32> {
    let affine = Affine::fit(values);
    let mut words = Vec::with_capacity(word_count(values.len()));
    words.extend([affine.scale.to_bits(), affine.zero.to_bits()]);
    words.extend(
        values
            .chunks(4)
            .map(|four| four.iter().enumerate().fold(0, |word, (k, &value)| word | affine.encode(value) << (8 * k))),
    );
    words
}

/// Unpacks `element_count` elements.
pub fn dequantize(words: &[u32], element_count: usize) -> Result<Vec<f32>, CodecError> {
    check_length("packed tensor", "words", word_count(element_count), words.len())?;
    let affine = Affine { scale: f32::from_bits(words[0]), zero: f32::from_bits(words[1]) };
    let code = |i: usize| words[HEADER_WORDS + i / 4] >> (8 * (i % 4)) & 0xff;
    Ok((0..element_count).map(|i| affine.decode(code(i))).collect())
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

    proptest! {
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
