//! Activations in half precision (IEEE binary16). The reference of `shaders/f16_pack.wgsl` and `f16_unpack.wgsl`.
//!
//! Two little-endian bytes an element, no header. Rounds to nearest, ties to even; what is beyond 65,519 becomes
//! infinite, what is below half the least subnormal zero; infinities stay, and a not-a-number stays one (quiet, the top
//! bits of its payload kept). Unpacking is exact.
//!
//! **Error.** At most 2^-11 of the value between 2^-14 and 65,504, at most 2^-25 below.

use crate::{CodecError, check_length};
use half::f16;
use half::slice::HalfFloatSliceExt;

/// Elements converted at a time: both sides stay in the first-level cache.
const BLOCK: usize = 1_024;

/// Bytes of a packed tensor with this many elements.
pub const fn byte_count(element_count: usize) -> usize {
    element_count.saturating_mul(2)
}

/// Packs values.
pub fn pack(values: &[f32]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(byte_count(values.len()));
    values.chunks(BLOCK).for_each(|block| pack_block(block, &mut packed));
    packed
}

/// Packs the little-endian bytes of FP32 values.
pub(crate) fn pack_bytes(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(bytes.len() / 2);
    let mut values = [0.0; BLOCK];
    for block in bytes.as_chunks::<4>().0.chunks(BLOCK) {
        let values = &mut values[..block.len()];
        values.iter_mut().zip(block).for_each(|(v, b)| *v = f32::from_le_bytes(*b));
        pack_block(values, &mut packed);
    }
    packed
}

/// At most [`BLOCK`] values.
fn pack_block(values: &[f32], packed: &mut Vec<u8>) {
    let mut halves = [f16::ZERO; BLOCK];
    let halves = &mut halves[..values.len()];
    halves.convert_from_f32_slice(values);
    let start = packed.len();
    packed.resize(start + byte_count(halves.len()), 0);
    let places = packed[start..].as_chunks_mut::<2>().0;
    places.iter_mut().zip(halves).for_each(|(place, half)| *place = half.to_le_bytes());
}

/// Unpacks `element_count` elements.
pub fn unpack(packed: &[u8], element_count: usize) -> Result<Vec<f32>, CodecError> {
    check_length("packed tensor", "bytes", byte_count(element_count), packed.len())?;
    let mut values = Vec::with_capacity(element_count);
    unpack_blocks(packed, |block| values.extend_from_slice(block));
    Ok(values)
}

/// Hands the values over block by block.
pub(crate) fn unpack_blocks(packed: &[u8], mut take: impl FnMut(&[f32])) {
    let mut halves = [f16::ZERO; BLOCK];
    let mut values = [0.0; BLOCK];
    for block in packed.as_chunks::<2>().0.chunks(BLOCK) {
        let (halves, values) = (&mut halves[..block.len()], &mut values[..block.len()]);
        halves.iter_mut().zip(block).for_each(|(h, b)| *h = f16::from_le_bytes(*b));
        halves.convert_to_f32_slice(values);
        take(values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn layout_and_edges_are_as_documented() {
        let cases: [(f32, u16); 16] = [
            (0.0, 0x0000),
            (-0.0, 0x8000),
            (1.0, 0x3c00),
            (-2.5, 0xc100),
            (65_504.0, 0x7bff),
            (65_519.0, 0x7bff),
            (65_520.0, 0x7c00),
            (f32::MAX, 0x7c00),
            (f32::INFINITY, 0x7c00),
            (f32::NEG_INFINITY, 0xfc00),
            (6.103_515_6e-5, 0x0400),    // the least normal
            (5.960_464_5e-8, 0x0001),    // the least subnormal
            (2.980_232_2e-8, 0x0000),    // half of it: the tie goes to even
            (2.980_232_6e-8, 0x0001),    // a little more
            (1.000_488_3, 0x3c00),       // a tie between 1 and its neighbour
            (f32::from_bits(1), 0x0000), // a subnormal of single precision
        ];
        for (value, half) in cases {
            assert_eq!(pack(&[value]), half.to_le_bytes(), "{value:e}");
        }
        for bits in [0x7fc0_0000, 0x7f80_0001, 0xffff_ffff] {
            let back = unpack(&pack(&[f32::from_bits(bits)]), 1).unwrap()[0];
            assert!(back.is_nan(), "{bits:08x}");
            assert_eq!(back.is_sign_negative(), bits >> 31 == 1);
        }
    }

    #[test]
    fn every_half_survives() {
        let packed: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let values = unpack(&packed, 1 << 16).unwrap();
        for (i, (again, value)) in pack(&values).as_chunks::<2>().0.iter().zip(&values).enumerate() {
            // A signalling not-a-number comes back quiet.
            let quiet = if value.is_nan() { 0x0200 } else { 0 };
            assert_eq!(u16::from_le_bytes(*again), i as u16 | quiet, "{i:04x}");
        }
    }

    #[test]
    fn lengths_are_checked() {
        assert_eq!(unpack(&[0; 5], 3).unwrap_err().to_string(), "packed tensor should have 6 bytes, got 5");
        assert!(unpack(&[], usize::MAX).is_err());
        assert!(unpack(&[], 0).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn error_is_bounded(bits in prop::collection::vec(any::<u32>(), 0..3_000)) {
            let values: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            let packed = pack(&values);
            prop_assert_eq!(&packed, &pack_bytes(&bytes));
            for (&x, &y) in values.iter().zip(&unpack(&packed, values.len()).unwrap()) {
                match x.abs() {
                    _ if x.is_nan() => prop_assert!(y.is_nan()),
                    m if m <= 65_504.0 => {
                        let bound = (m * 2.0f32.powi(-11)).max(2.0f32.powi(-25));
                        prop_assert!((x - y).abs() <= bound, "{x:e} became {y:e}");
                    }
                    m if m >= 65_520.0 => prop_assert_eq!(y, f32::INFINITY.copysign(x)),
                    _ => prop_assert_eq!(y, 65_504.0f32.copysign(x)),
                }
            }
        }
    }
}
