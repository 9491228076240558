//! Between what a symbol is chosen.

use super::super::Offsets;
use super::super::quant::{SYMBOL_MAX, dequantise, floor};
use super::super::tables::Kind;
use super::blocks::{BLOCK, Wide};

/// Magnitudes up to this may become 0: no coefficient is moved by three steps or more.
const NEAR: i16 = 2;
/// A symbol may be the one below its value, the one above, or none.
pub(super) const CANDIDATES: usize = 3;

/// What the symbols of a block are, and what else they may be.
#[derive(Clone, Copy)]
pub(super) struct Choice {
    /// What each would come back as, less the value: in steps.
    pub(super) errors: [Wide; CANDIDATES],
    pub(super) tokens: [[u8; BLOCK]; CANDIDATES],
    orders: [u8; BLOCK],
}

/// Which of the [`candidates`] come first, second and third where a symbol is the one below, above and none.
const LOW: u8 = order(0, 1, 2);
const HIGH: u8 = order(1, 0, 2);
const NONE: u8 = order(2, 1, 0);

const fn order(first: u8, second: u8, third: u8) -> u8 {
    first | second << 2 | third << 4
}

impl Choice {
    /// Which of the candidates stands at a place.
    #[inline(always)]
    pub(super) fn rank(&self, lane: usize, place: usize) -> usize {
        usize::from(self.orders[lane % BLOCK] >> (2 * place)) % 4 % CANDIDATES
    }

    /// Makes a symbol what stands at another place.
    #[inline(always)]
    pub(super) fn swap(&mut self, lane: usize, place: usize) {
        let lane = lane % BLOCK;
        let Self { errors, tokens, orders } = self;
        (errors[0][lane], errors[place][lane]) = (errors[place][lane], errors[0][lane]);
        (tokens[0][lane], tokens[place][lane]) = (tokens[place][lane], tokens[0][lane]);
        let changed = (orders[lane] ^ orders[lane] >> (2 * place)) % 4;
        orders[lane] ^= changed | changed << (2 * place);
    }
}

/// Puts the choices of symbols behind those that are there; `offsets` are one for all of them, or one for each. A block
/// that their end leaves short is filled up with what has no choice. Symbols are among the candidates of their values, as
/// rounding gives them.
pub(super) fn choices(kind: Kind, offsets: &[Offsets], values: &[f32], symbols: &[i16], out: &mut Vec<Choice>) {
    if symbols.len() <= 4 * BLOCK {
        choices_by::<{ 4 * BLOCK }>(kind, offsets, values, symbols, out);
    } else {
        choices_by::<{ 16 * BLOCK }>(kind, offsets, values, symbols, out);
    }
}

/// The same, so many at a time.
fn choices_by<const PART: usize>(
    kind: Kind,
    offsets: &[Offsets],
    values: &[f32],
    symbols: &[i16],
    out: &mut Vec<Choice>,
) {
    let stride = if offsets.len() == 1 { PART } else { 1 };
    let alphabet = kind.alphabet();
    for (part, (values, symbols)) in values.chunks(PART).zip(symbols.chunks(PART)).enumerate() {
        let (mut lists, mut orders) = ([[0i16; PART]; CANDIDATES], [0u8; PART]);
        let [firsts, seconds, thirds] = &mut lists;
        let places = firsts.iter_mut().zip(seconds).zip(thirds.iter_mut().zip(&mut orders));
        for (((first, second), (third, order)), (value, symbol)) in places.zip(values.iter().zip(symbols)) {
            let [low, high, none] = candidates(*value, kind.signed());
            // What it is comes first.
            let is_high = -i16::from((*symbol == high) & (high != low));
            let is_none = -i16::from((*symbol == none) & (none != low) & (none != high));
            let (low_or_high, low_or_none) = ((low ^ high) & is_high, (low ^ none) & is_none);
            *first = low ^ low_or_high ^ low_or_none;
            *second = high ^ low_or_high;
            *third = none ^ low_or_none;
            *order = LOW ^ ((LOW ^ HIGH) & is_high as u8) ^ ((LOW ^ NONE) & is_none as u8);
        }
        let count = symbols.len().next_multiple_of(BLOCK);
        let (mut errors, mut tokens) = ([[0.0f32; PART]; CANDIDATES], [[0u8; PART]; CANDIDATES]);
        for ((list, errors), tokens) in lists.iter().zip(&mut errors).zip(&mut tokens) {
            let offsets = &offsets[if stride == 1 { part * PART } else { 0 }..];
            let runs = list[..count].chunks(stride).zip(errors.chunks_mut(stride));
            runs.zip(offsets).for_each(|((list, errors), offsets)| dequantise(list, 1.0, *offsets, errors));
            errors.iter_mut().zip(values).for_each(|(error, value)| *error -= value);
            alphabet.tokens(&list[..count], tokens);
        }
        out.extend((0..count / BLOCK).map(|block| Choice {
            errors: std::array::from_fn(|i| errors[i].as_chunks().0[block]),
            tokens: std::array::from_fn(|i| tokens[i].as_chunks().0[block]),
            orders: orders.as_chunks().0[block],
        }));
    }
}

/// The symbols below and above a value in steps, and none at all where that is near.
#[inline(always)]
pub(super) fn candidates(value: f32, signed: bool) -> [i16; CANDIDATES] {
    let (magnitude, most) = (value.abs(), f32::from(SYMBOL_MAX));
    let low = floor(if magnitude < most { magnitude } else { most }) as i16;
    let high = (low + 1).min(SYMBOL_MAX);
    let none = if low <= NEAR { 0 } else { low };
    // Nothing below zero where there are no signs, all ones in front of what is.
    let (there, sign) = if value < 0.0 { (-i16::from(signed), -1) } else { (-1, 0) };
    [low, high, none].map(|symbol| ((symbol ^ sign) - sign) & there)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_around_their_value() {
        for (value, signed, wanted) in [
            (0.0, true, [0, 1, 0]),
            (-0.0, true, [0, 1, 0]),
            (0.9, false, [0, 1, 0]),
            (-0.9, true, [0, -1, 0]),
            (-0.3, false, [0, 0, 0]),
            (2.5, true, [2, 3, 0]),
            (-2.5, true, [-2, -3, 0]),
            (3.0, false, [3, 4, 3]),
            (-9e9, true, [-8_192, -8_192, -8_192]),
        ] {
            assert_eq!(candidates(value, signed), wanted, "{value}");
        }
    }

    /// Errors and tokens of a block's symbol in the order of its candidates.
    fn in_order(choice: &Choice, lane: usize) -> [(f32, u8); CANDIDATES] {
        std::array::from_fn(|candidate| {
            let place = (0..CANDIDATES).find(|place| choice.rank(lane, *place) == candidate).unwrap();
            (choice.errors[place][lane], choice.tokens[place][lane])
        })
    }

    #[test]
    fn what_a_symbol_is_comes_first_however_often_that_changes() {
        // 1.75 may be 1, 2 and 0; 5.5 only 5 and 6; what follows has no choice.
        let (kind, offsets) = (Kind::Detail, [[0; 4]]);
        let values = [1.75, 1.75, 1.75, -5.5, -5.5];
        let mut blocks = Vec::new();
        choices(kind, &offsets, &values, &[1, 2, 0, -5, -6], &mut blocks);
        assert_eq!(blocks.len(), 2);
        assert_eq!(blocks[0].errors[0], [-0.75, 0.25, -1.75, 0.5]);
        assert_eq!(blocks[0].tokens[0], [1, 3, 0, 7]);
        assert_eq!(blocks[1].errors[0][0], -0.5);
        for lane in 1..BLOCK {
            assert!(blocks[1].errors.iter().all(|errors| errors[lane] == blocks[1].errors[0][lane]));
            assert!(blocks[1].tokens.iter().all(|tokens| tokens[lane] == 0));
        }
        let wanted = [(-0.75, 1), (0.25, 3), (-1.75, 0)];
        for lane in 0..3 {
            for place in [1, 2, 2, 1, 1, 2] {
                let before = (blocks[0].errors[place][lane], blocks[0].tokens[place][lane]);
                blocks[0].swap(lane, place);
                assert_eq!((blocks[0].errors[0][lane], blocks[0].tokens[0][lane]), before);
                assert_eq!(in_order(&blocks[0], lane), wanted);
            }
        }
    }

    #[test]
    fn each_symbol_may_have_its_own_offsets() {
        let offsets: Vec<Offsets> = (0..20).map(|i| [i, 2 * i, 0, 0]).collect();
        let mut blocks = Vec::new();
        choices(Kind::Scalar, &offsets, &[0.0; 20], &[0; 20], &mut blocks);
        for (i, offsets) in offsets.iter().enumerate() {
            let [zero, one, _] = in_order(&blocks[i / BLOCK], i % BLOCK).map(|(error, _)| error);
            assert_eq!([zero, one - 1.0], [offsets[0], offsets[1]].map(|o| f32::from(o) / 128.0));
        }
    }
}
