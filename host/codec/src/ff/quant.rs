//! Values to symbols and back. Loops without branches, so that they become vector instructions.

/// The greatest magnitude of a symbol.
pub(super) const SYMBOL_MAX: i16 = 8_192;

/// A value may be so many steps large; larger ones travel as exceptions. Two Haar levels make four times that at most.
pub(super) const STEPS_MAX: f32 = 2_048.0;

/// Steps are not smaller: their reciprocals must be numbers.
pub(super) const STEP_MIN: f32 = f32::from_bits((127 - 110) << 23);
/// Steps are not greater: the greatest symbol times this must be a number.
pub(super) const STEP_MAX: f32 = f32::from_bits((127 + 110) << 23);

/// What is added before rounding down: less than a half, since a value too many costs more than one too few.
pub(super) const ROUND_COARSE: f32 = 0.45;
/// The same for details.
pub(super) const ROUND_DETAIL: f32 = 0.40;
/// Rounding to the nearest, for bounded frames.
pub(super) const ROUND_NEAREST: f32 = 0.5;

/// Fractions of offsets in packages.
const OFFSET_UNIT: f32 = 128.0;

/// Where the bins of symbols 0, 1, 2 and all greater ones are reconstructed, relative to their middle: in 1/128 steps,
/// away from zero for the last three.
pub type Offsets = [i8; 4];

/// Offset in steps as a package stores it.
pub(super) fn offset(steps: f64) -> i8 {
    (steps * f64::from(OFFSET_UNIT)).round().clamp(-127.0, 127.0) as i8
}

/// `sign(v) * floor(|v| / step + round)`, for as many values as the shorter of the two has.
pub(super) fn quantise(values: &[f32], step: f32, round: f32, symbols: &mut [i16]) {
    let per_step = 1.0 / step;
    for (symbol, value) in symbols.iter_mut().zip(values) {
        let magnitude = floor((value.abs() * per_step + round).min(f32::from(SYMBOL_MAX)));
        let sign = value.to_bits() as i32 >> 31;
        *symbol = ((magnitude ^ sign) - sign) as i16;
    }
}

/// The whole part of a number from 0 to 2^22. A cast would do the same, but one number at a time.
#[inline(always)]
pub(super) fn floor(number: f32) -> i32 {
    // From 2^23 on, floats are whole numbers, which stand in their low bits.
    const WHOLE: f32 = 8_388_608.0;
    let shifted = number + WHOLE;
    let rounded_up = i32::from(shifted - WHOLE > number);
    (shifted.to_bits() & 0x7f_ffff) as i32 - rounded_up
}

/// `step * (s + offset)`, for as many as the shorter of the two has.
pub(super) fn dequantise(symbols: &[i16], step: f32, offsets: Offsets, values: &mut [f32]) {
    let [zero, one, two, more] = offsets.map(|o| (f32::from(o) / OFFSET_UNIT).to_bits());
    // What has to change in the bits of the last offset to get the others: choosing by masks becomes vector instructions.
    let (zero, one, two) = (zero ^ more, one ^ more, two ^ more);
    for (value, &symbol) in values.iter_mut().zip(symbols) {
        let symbol = i32::from(symbol);
        let magnitude = symbol.abs();
        let only = |at: i32, bits: u32| u32::from(magnitude == at).wrapping_neg() & bits;
        let offset = f32::from_bits(more ^ only(0, zero) ^ only(1, one) ^ only(2, two));
        let sign = symbol as u32 & 0x8000_0000;
        *value = f32::from_bits((magnitude as f32 + offset).to_bits() ^ sign) * step;
    }
}

/// Sum of magnitudes.
pub(super) fn magnitude_sum(symbols: &[i16]) -> u64 {
    // Of 4,096 symbols the sum fits in 32 bits.
    symbols.chunks(4_096).map(|part| u64::from(part.iter().map(|s| u32::from(s.unsigned_abs())).sum::<u32>())).sum()
}

/// Whether any is below zero.
pub(super) fn any_negative(symbols: &[i16]) -> bool {
    symbols.iter().fold(0, |all, s| all | *s) < 0
}

/// Copies a plane; false where a value is farther from zero than `limit`, or no number.
pub(super) fn load(bytes: &[[u8; 4]], limit: f32, values: &mut [f32]) -> bool {
    // Without its sign a float's bits order like the numbers, and what is no number comes behind all of them.
    let limit = limit.to_bits() as i32;
    let mut most = 0i32;
    for (value, bytes) in values.iter_mut().zip(bytes) {
        let bits = u32::from_le_bytes(*bytes);
        *value = f32::from_bits(bits);
        let magnitude = (bits & 0x7fff_ffff) as i32;
        most = if magnitude > most { magnitude } else { most };
    }
    most <= limit
}

/// `2^(q/4)`.
pub(super) fn rate_factor(q: u8) -> f32 {
    const QUARTERS: [f32; 4] = [1.0, 1.189_207_1, std::f32::consts::SQRT_2, 1.681_792_9];
    QUARTERS[usize::from(q % 4)] * (1u32 << (q / 4).min(31)) as f32
}

/// Root of the mean square of the finite values; 0 where there is none.
pub(super) fn root_mean_square(bytes: &[[u8; 4]]) -> f32 {
    const WIDE: usize = 16;
    let mut total = 0.0f64;
    for part in bytes.chunks(4_096) {
        let (wide, rest) = part.as_chunks::<WIDE>();
        let mut sums = [0.0f32; WIDE];
        for values in wide {
            for (sum, value) in sums.iter_mut().zip(values) {
                let value = f32::from_le_bytes(*value);
                *sum += value * value;
            }
        }
        let tail = rest.iter().map(|v| f32::from_le_bytes(*v)).fold(0.0, |sum, v| sum + v * v);
        total += f64::from(sums.iter().sum::<f32>() + tail);
    }
    if total.is_finite() && total > 1e-20 {
        return (total / bytes.len() as f64).sqrt() as f32;
    }
    // Something that is not a number, very large or very small: slowly and in double precision.
    let finite = bytes.iter().map(|v| f64::from(f32::from_le_bytes(*v))).filter(|v| v.is_finite());
    let (sum, count) = finite.fold((0.0, 0u32), |(sum, count), v| (sum + v * v, count + 1));
    (sum / f64::from(count.max(1))).sqrt() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_into_their_bins() {
        let values = [0.0, -0.0, 1.19, 1.21, -1.21, 3.19, 3.21, 1e9, -1e9, f32::MIN_POSITIVE / 4.0];
        let mut symbols = [0; 10];
        quantise(&values, 2.0, 0.4, &mut symbols);
        assert_eq!(symbols, [0, 0, 0, 1, -1, 1, 2, 8_192, -8_192, 0]);
        let mut back = [0.0; 10];
        dequantise(&symbols, 2.0, [16, -32, 0, 64], &mut back);
        assert_eq!(back[..7], [0.25, 0.25, 0.25, 1.5, -1.5, 1.5, 4.0]);
        assert_eq!(back[7..9], [16_385.0, -16_385.0]);
    }

    #[test]
    fn floors_are_those_of_a_cast() {
        for whole in [0.0f32, 1.0, 2.0, 3.0, 255.0, 8_191.0, 8_192.0] {
            for number in [whole, whole + 0.5, whole.next_up(), whole.next_down().max(0.0), whole + 0.499_99] {
                assert_eq!(floor(number), number as i32, "{number}");
            }
        }
    }

    #[test]
    fn reciprocals_of_extreme_steps_are_numbers() {
        assert!((1.0 / STEP_MIN).is_normal() && (1.0 / STEP_MAX).is_normal());
        assert!((f32::from(SYMBOL_MAX) * STEP_MAX).is_finite());
    }

    #[test]
    fn the_mean_square_leaves_out_what_is_no_number() {
        let bytes = |values: &[f32]| values.iter().map(|v| v.to_le_bytes()).collect::<Vec<_>>();
        assert_eq!(root_mean_square(&bytes(&[3.0, -3.0, f32::NAN, f32::INFINITY])), 3.0);
        assert_eq!(root_mean_square(&bytes(&[1e38; 40])), 1e38);
        assert!((root_mean_square(&bytes(&[1e-40; 40])) - 1e-40).abs() < 1e-44);
        assert_eq!(root_mean_square(&[]), 0.0);
    }

    #[test]
    fn four_rates_double_the_step() {
        assert_eq!((0..=8).step_by(4).map(rate_factor).collect::<Vec<_>>(), [1.0, 2.0, 4.0]);
        assert!((0..31).all(|q| (rate_factor(q + 1) / rate_factor(q) - 1.189_207_1).abs() < 1e-6));
    }

    #[test]
    fn what_is_beyond_the_limit_is_seen() {
        let mut out = [0.0; 1];
        for (value, within) in [(1.0, true), (-2.0, true), (2.1, false), (f32::NAN, false), (f32::INFINITY, false)] {
            assert_eq!(load(&[f32::to_le_bytes(value)], 2.0, &mut out), within, "{value}");
        }
    }
}
