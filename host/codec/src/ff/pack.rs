//! Symbols without a coder: blocks of 32 as a zero bitmap and as many bits a value as the largest one needs.
//!
//! ```text
//! +----------------------+-------------------------+---------------------------+
//! | widths               | bitmaps                 | values                    |
//! | 4 bits a block, the  | 32 bits a block that is | of all blocks without     |
//! | first one low        | not empty, LSB first    | gaps, LSB first           |
//! +----------------------+-------------------------+---------------------------+
//! ```
//!
//! Width 0 is a block of zeros, width `n` stands for `n - 1` bits a value. Bit `i` of a bitmap says that symbol `i` of the
//! block is not zero; only those have a value: `s - 1`, in signed sequences `2s - 2` for positive and `-2s - 1` for
//! negative ones. Each of the three parts ends with a whole byte; unused bits are zero, and so are bits beyond the last
//! symbol.

use super::quant::SYMBOL_MAX;

/// Symbols of a block.
pub(super) const BLOCK: usize = 32;

/// Most bytes of a sequence of so many symbols.
pub(super) fn bytes_max(symbols: usize) -> usize {
    let blocks = symbols.div_ceil(BLOCK);
    blocks.div_ceil(2) + 4 * blocks + 2 * BLOCK * blocks
}

/// The values of a block that are there, and room for zeros behind them.
type Kept = [u16; BLOCK + QUAD];
/// Values that are written and read together: four times 14 bits and seven that are left of a byte fit in 64.
const QUAD: usize = 4;

/// Collects bits, the first ones lowest.
struct Bits {
    bytes: Vec<u8>,
    /// Whole bytes; behind them is room for eight more.
    used: usize,
    /// What is left of a byte.
    pending: u64,
    count: u32,
}

impl Bits {
    /// The first `count` values, behind which are zeros, of so many bits each.
    #[inline(always)]
    fn push(&mut self, values: &Kept, count: usize, bits: u32) {
        // Whole blocks may follow, each of less than 64 bytes.
        if self.bytes.len() < self.used + 2 * BLOCK + 8 {
            self.bytes.resize(2 * self.used + 64 * BLOCK, 0);
        }
        let mut left = count as u32 * bits;
        for [a, b, c, d] in &values.as_chunks().0[..count.div_ceil(QUAD)] {
            let [low, high] = [[a, b], [c, d]].map(|[a, b]| u64::from(*a) | u64::from(*b) << bits);
            self.pending |= (low | high << (2 * bits)) << self.count;
            if let Some(bytes) = self.bytes.get_mut(self.used..self.used + 8) {
                bytes.copy_from_slice(&self.pending.to_le_bytes());
            }
            let some = left.min(QUAD as u32 * bits);
            left -= some;
            let all = self.count + some;
            self.used += (all / 8) as usize;
            self.pending >>= all / 8 * 8;
            self.count = all % 8;
        }
    }

    fn finish(&self) -> &[u8] {
        &self.bytes[..self.used + self.count.div_ceil(8) as usize]
    }
}

/// Packs a sequence behind what is in `out`. Without `signed` no symbol may be below zero.
pub(super) fn pack(symbols: &[i16], signed: bool, out: &mut Vec<u8>) {
    let blocks = symbols.len().div_ceil(BLOCK);
    let widths_at = out.len();
    out.resize(widths_at + blocks.div_ceil(2), 0);
    let mut bits = Bits { bytes: vec![0; symbols.len() / 4 + 4 * BLOCK], used: 0, pending: 0, count: 0 };
    let (mut kept, mut tile): (Kept, _) = ([0; _], Tile { values: [0; _], there: [0; _] });
    for (first, symbols) in symbols.chunks(TILE).enumerate() {
        if signed {
            tile.fill(symbols, |symbol| 2 * symbol.unsigned_abs() - u16::from(symbol > 0) - u16::from(symbol != 0));
        } else {
            tile.fill(symbols, |symbol| symbol as u16 - u16::from(symbol != 0));
        }
        let of_tile = tile.values.as_chunks().0.iter().zip(tile.there.as_chunks().0);
        for (block, (values, there)) in of_tile.enumerate().take(symbols.len().div_ceil(BLOCK)) {
            let bitmap = bitmap(there);
            if bitmap == 0 {
                continue;
            }
            let width = u16::BITS - values.iter().fold(0, |all, value| all | value).leading_zeros();
            let index = first * (TILE / BLOCK) + block;
            out[widths_at + index / 2] |= ((width + 1) as u8) << (4 * (index % 2));
            out.extend(bitmap.to_le_bytes());
            if width > 0 {
                let count = sift(values, there, &mut kept);
                bits.push(&kept, count, width);
            }
        }
    }
    out.extend_from_slice(bits.finish());
}

/// Symbols that are looked at together: what is the same for all becomes vector instructions.
const TILE: usize = 8 * BLOCK;

struct Tile {
    /// As they are packed; 0 where there is none.
    values: [u16; TILE],
    /// 1 where there is one.
    there: [u8; TILE],
}

impl Tile {
    /// Behind the last symbol there are no values.
    #[inline(always)]
    fn fill(&mut self, symbols: &[i16], value: impl Fn(i16) -> u16) {
        let (values, values_rest) = self.values.split_at_mut(symbols.len());
        let (there, there_rest) = self.there.split_at_mut(symbols.len());
        values.iter_mut().zip(symbols).for_each(|(out, symbol)| *out = value(*symbol));
        there.iter_mut().zip(symbols).for_each(|(out, symbol)| *out = u8::from(*symbol != 0));
        values_rest.fill(0);
        there_rest.fill(0);
    }
}

/// Puts the values that are there first in `kept`, zeros behind them, and says how many they are.
#[inline(always)]
fn sift(values: &[u16; BLOCK], there: &[u8; BLOCK], kept: &mut Kept) -> usize {
    let mut count = 0;
    for (value, there) in values.iter().zip(there) {
        kept[count % BLOCK] = *value;
        count += usize::from(*there);
    }
    let count = count.min(BLOCK);
    kept[count..count + QUAD].fill(0);
    count
}

/// One bit of each of the bytes, which are 0 or 1.
#[inline(always)]
fn bitmap(bytes: &[u8; BLOCK]) -> u32 {
    // Multiplied by this, the lowest bits of eight bytes come to stand side by side in the highest byte.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let eights = bytes.as_chunks::<8>().0.iter();
    let byte = |eight: &[u8; 8]| u64::from_le_bytes(*eight).wrapping_mul(GATHER) >> 56;
    eights.rev().fold(0, |all, eight| all << 8 | byte(eight) as u32)
}

/// Unpacks a sequence over `symbols` and says how many bytes it took. Errors with what is wrong and where.
pub(super) fn unpack(bytes: &[u8], signed: bool, symbols: &mut [i16]) -> Result<usize, (usize, &'static str)> {
    let blocks = symbols.len().div_ceil(BLOCK);
    let Some((widths, rest)) = bytes.split_at_checked(blocks.div_ceil(2)) else {
        return Err((0, "no room for widths"));
    };
    let width = |index: usize| u32::from(widths[index / 2] >> (4 * (index % 2)) & 15);
    let there = (0..blocks).filter(|index| width(*index) > 0).count();
    let Some((bitmaps, packed)) = rest.split_at_checked(4 * there) else {
        return Err((widths.len(), "no room for bitmaps"));
    };
    let mut bitmaps = bitmaps.as_chunks::<4>().0.iter();
    let mut at_bit = 0usize;
    for (index, block) in symbols.chunks_mut(BLOCK).enumerate() {
        let Some(bits) = width(index).checked_sub(1) else {
            block.fill(0);
            continue;
        };
        let bitmap = bitmaps.next().map_or(0, |bitmap| u32::from_le_bytes(*bitmap));
        if block.len() < BLOCK && bitmap >> block.len() != 0 {
            return Err((widths.len(), "a bitmap has more bits than symbols"));
        }
        let mut kept = [0u16; BLOCK];
        let count = bitmap.count_ones() as usize;
        if bits == 0 {
            kept = [1; BLOCK];
        } else if !take(packed, &mut at_bit, bits, &mut kept[..count]) {
            return Err((widths.len() + 4 * there, "no room for values"));
        }
        spread(bitmap, &mut kept, signed, block);
        if bits > 13 && block.iter().any(|s| s.unsigned_abs() > SYMBOL_MAX.unsigned_abs()) {
            return Err((widths.len() + 4 * there, "a value is out of range"));
        }
    }
    Ok(widths.len() + 4 * there + at_bit.div_ceil(8))
}

/// Where the parts of a packed sequence are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    /// Bytes of each part: widths, bitmaps, values.
    pub(super) bytes: [usize; 3],
    /// Before every so many blocks: bitmaps and bits of values.
    pub(super) before: Vec<[u32; 2]>,
}

/// Finds the parts of a sequence without unpacking it, with a note every `stride` blocks. Refuses what [`unpack`]
/// refuses: whoever unpacks what passed need not check anything.
pub(super) fn survey(
    bytes: &[u8],
    signed: bool,
    symbols: usize,
    stride: usize,
) -> Result<Parts, (usize, &'static str)> {
    let blocks = symbols.div_ceil(BLOCK);
    let Some((widths, rest)) = bytes.split_at_checked(blocks.div_ceil(2)) else {
        return Err((0, "no room for widths"));
    };
    let width = |index: usize| u32::from(widths[index / 2] >> (4 * (index % 2)) & 15);
    let there = (0..blocks).filter(|index| width(*index) > 0).count();
    let Some((bitmaps, packed)) = rest.split_at_checked(4 * there) else {
        return Err((widths.len(), "no room for bitmaps"));
    };
    let mut left = bitmaps.as_chunks::<4>().0.iter();
    let mut before = Vec::with_capacity(blocks.div_ceil(stride.max(1)));
    let mut at_bit = 0usize;
    for index in 0..blocks {
        if index % stride.max(1) == 0 {
            before.push([(there - left.len()) as u32, at_bit as u32]);
        }
        let Some(bits) = width(index).checked_sub(1) else { continue };
        let bitmap = left.next().map_or(0, |bitmap| u32::from_le_bytes(*bitmap));
        let room = BLOCK.min(symbols - index * BLOCK);
        if room < BLOCK && bitmap >> room != 0 {
            return Err((widths.len(), "a bitmap has more bits than symbols"));
        }
        let count = bitmap.count_ones() as usize;
        let mut kept = [0u16; BLOCK];
        // Only the widest values can be too large, and with a sign not even they.
        if bits > 13 && !signed {
            let mut from = at_bit;
            if take(packed, &mut from, bits, &mut kept[..count]) && kept.iter().any(|k| *k > SYMBOL_MAX as u16) {
                return Err((widths.len() + 4 * there, "a value is out of range"));
            }
        }
        at_bit += bits as usize * count;
        if at_bit > 8 * packed.len() {
            return Err((widths.len() + 4 * there, "no room for values"));
        }
    }
    Ok(Parts { bytes: [widths.len(), 4 * there, at_bit.div_ceil(8)], before })
}

/// Reads values, plus one; false where the bytes end before.
#[inline(always)]
fn take(packed: &[u8], at_bit: &mut usize, bits: u32, values: &mut [u16]) -> bool {
    let end = *at_bit + bits as usize * values.len();
    if end > 8 * packed.len() {
        return false;
    }
    let mask = (1u64 << bits) - 1;
    for quad in values.chunks_mut(4) {
        // Four times 14 bits and a shift below 8 fit.
        let from = *at_bit / 8;
        let window = match packed.get(from..from + 8) {
            Some(window) => window.try_into().map_or(0, u64::from_le_bytes),
            None => packed[from..].iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte)),
        };
        let mut window = window >> (*at_bit % 8);
        *at_bit += bits as usize * quad.len();
        for value in quad {
            *value = (window & mask) as u16 + 1;
            window >>= bits;
        }
    }
    true
}

/// Puts values where the bitmap says.
#[inline(always)]
fn spread(mut bitmap: u32, kept: &mut [u16; BLOCK], signed: bool, block: &mut [i16]) {
    if signed {
        // 1, 2, 3, 4 are 1, -1, 2, -2.
        for value in kept.iter_mut() {
            let magnitude = value.wrapping_add(1) >> 1;
            let negative = (*value & 1) ^ 1;
            *value = (magnitude ^ negative.wrapping_neg()).wrapping_add(negative);
        }
    }
    block.fill(0);
    for value in kept {
        if bitmap == 0 {
            break;
        }
        if let Some(symbol) = block.get_mut(bitmap.trailing_zeros() as usize) {
            *symbol = *value as i16;
        }
        bitmap &= bitmap - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(symbols: &[i16], signed: bool) -> Vec<u8> {
        let mut bytes = vec![0xaa];
        pack(symbols, signed, &mut bytes);
        let bytes = bytes.split_off(1);
        let mut back = vec![-1; symbols.len()];
        assert_eq!(unpack(&bytes, signed, &mut back), Ok(bytes.len()));
        assert_eq!(back, symbols);
        assert!(bytes.len() <= bytes_max(symbols.len()));
        let parts = survey(&bytes, signed, symbols.len(), 3).unwrap();
        assert_eq!(parts.bytes.iter().sum::<usize>(), bytes.len());
        bytes
    }

    #[test]
    fn a_short_sequence_is_packed_as_drawn() {
        assert_eq!(round_trip(&[0, 1, 0, 4, 2], false), [3, 0b11010, 0, 0, 0, 0b01_11_00]);
        assert_eq!(round_trip(&[1, -1, 0, 2, -2], true), [3, 0b11011, 0, 0, 0, 0b11_10_01_00]);
        assert_eq!(round_trip(&[0; 70], false), [0, 0]);
        assert_eq!(round_trip(&[1; 32], false), [1, 255, 255, 255, 255]);
        assert_eq!(round_trip(&[], true), []);
    }

    #[test]
    fn every_width_comes_back() {
        for top in [1i16, 2, 3, 7, 30, 100, 1_000, 4_000, 8_192] {
            for length in [1usize, 31, 32, 33, 64, 1_000] {
                let value = |i: usize| (i.wrapping_mul(2_654_435_761) >> 7) as i16 & 0x7fff;
                let unsigned: Vec<i16> =
                    (0..length).map(|i| if i % 3 == 0 { 0 } else { value(i) % (top + 1) }).collect();
                round_trip(&unsigned, false);
                let signed: Vec<i16> =
                    unsigned.iter().enumerate().map(|(i, s)| if i % 2 == 0 { -s } else { *s }).collect();
                round_trip(&signed, true);
            }
        }
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let symbols: Vec<i16> = (0..100).map(|i| i % 9 - 4).collect();
        let bytes = round_trip(&symbols, true);
        let mut back = vec![0; symbols.len()];
        for length in 0..bytes.len() {
            let refused = unpack(&bytes[..length], true, &mut back).unwrap_err();
            assert_eq!(survey(&bytes[..length], true, symbols.len(), 1), Err(refused), "{length}");
        }
        let mut beyond = bytes.clone();
        beyond[2 + 4 * 3 + 3] = 0x80;
        let refused = unpack(&beyond, true, &mut back).unwrap_err();
        assert_eq!(refused.1, "a bitmap has more bits than symbols");
        assert_eq!(survey(&beyond, true, symbols.len(), 1), Err(refused));
    }

    #[test]
    fn a_survey_refuses_what_unpacking_refuses() {
        let mut state = 7u32;
        let mut roll = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 16
        };
        let mut taken = [0; 2];
        for _ in 0..20_000 {
            let symbols = roll() as usize % 100;
            let mut bytes: Vec<u8> = (0..roll() % 300).map(|_| roll() as u8).collect();
            // Whole widths and few bits are rarer than noise.
            bytes.iter_mut().take(2).for_each(|width| *width &= roll() as u8 | 0x10);
            let signed = roll() % 2 == 0;
            let unpacked = unpack(&bytes, signed, &mut vec![0; symbols]);
            let surveyed = survey(&bytes, signed, symbols, 1).map(|parts| parts.bytes.iter().sum::<usize>());
            assert_eq!(surveyed, unpacked, "{symbols} of {bytes:02x?}");
            taken[usize::from(unpacked.is_ok())] += 1;
        }
        assert!(taken.iter().all(|count| *count > 1_000), "{taken:?}");
        // 14 bits without a sign may be too large.
        for (top, fits) in [(8_191u32, true), (8_192, false)] {
            let value = top.to_le_bytes();
            let bytes = [15, 1, 0, 0, 0, value[0], value[1]];
            assert_eq!(unpack(&bytes, false, &mut [0; 5]).is_ok(), fits);
            assert_eq!(survey(&bytes, false, 5, 1).is_ok(), fits);
            assert!(unpack(&bytes, true, &mut [0; 5]).is_ok() && survey(&bytes, true, 5, 1).is_ok());
        }
    }

    #[test]
    fn a_survey_notes_what_stands_before() {
        let mut symbols = vec![0i16; 5 * BLOCK];
        (symbols[0], symbols[1]) = (3, 2);
        symbols[2 * BLOCK] = 9;
        (symbols[4 * BLOCK], symbols[4 * BLOCK + 1]) = (1, 1);
        let bytes = round_trip(&symbols, false);
        let parts = survey(&bytes, false, symbols.len(), 2).unwrap();
        // Two values of two bits, one of four, two of none.
        assert_eq!(parts, Parts { bytes: [3, 12, 1], before: vec![[0, 0], [1, 4], [2, 8]] });
    }
}
