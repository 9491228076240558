//! Symbols as tokens of an alphabet of 16, and the bits that a token leaves open.
//!
//! | token | signed planes | open bits | planes without negatives | open bits |
//! |---|---|---|---|---|
//! | 0 | 0 | | 0 | |
//! | 1, 2 | +1, -1 | | 1, 2 | |
//! | 3, 4 | +2, -2 | | 3, 4 | |
//! | 5, 6 | +3, -3 | | 5, 6 | |
//! | 7 | 4..5 | 1 + sign | 7 | |
//! | 8 | 6..7 | 1 + sign | 8..11 | 2 |
//! | 9 | 8..11 | 2 + sign | 12..15 | 2 |
//! | 10 | 12..15 | 2 + sign | 16..23 | 3 |
//! | 11 | 16..31 | 4 + sign | 24..31 | 3 |
//! | 12 | 32..63 | 5 + sign | 32..63 | 5 |
//! | 13 | 64..127 | 6 + sign | 64..127 | 6 |
//! | 14 | 128..383 | 8 + sign | 128..383 | 8 |
//! | 15 | any | 16 | any | 16 |
//!
//! Open bits are the distance from the least magnitude of the token, times two plus one if negative in signed planes.
//! Those of token 15 are the symbol in two's complement.

/// Tokens of an alphabet.
pub(super) const TOKENS: usize = 16;
/// The token for everything.
pub(super) const ESCAPE: u8 = 15;

/// Least magnitude and bits of the distance of the tokens that are ranges, from `first` on.
struct Ranges {
    first: usize,
    list: &'static [(u16, u32)],
}

const SIGNED: Ranges =
    Ranges { first: 7, list: &[(4, 1), (6, 1), (8, 2), (12, 2), (16, 4), (32, 5), (64, 6), (128, 8)] };
const UNSIGNED: Ranges = Ranges { first: 8, list: &[(8, 2), (12, 2), (16, 3), (24, 3), (32, 5), (64, 6), (128, 8)] };

impl Ranges {
    /// Where each begins, and what is behind the last.
    const fn least<const N: usize>(&self) -> [i16; N] {
        let mut all = [0; N];
        let mut range = 0;
        while range + 1 < N {
            let (least, bits) = self.list[range];
            all[range] = least as i16;
            all[range + 1] = (least + (1 << bits)) as i16;
            range += 1;
        }
        all
    }
}

/// Magnitudes below this are looked up.
const LOOKED_UP: usize = 512;

/// One of the two alphabets.
pub(super) struct Alphabet {
    /// Whether it holds negative symbols outside the escape.
    pub(super) signed: bool,
    /// The first token that leaves bits open.
    pub(super) open: u8,
    /// By magnitude; in the signed alphabet of the positive one.
    by_magnitude: [u8; LOOKED_UP],
    /// By token, if it leaves nothing open.
    symbols: [i16; TOKENS],
    ranges: Ranges,
}

pub(super) static SIGNED_ALPHABET: Alphabet = Alphabet::of(true, SIGNED);
pub(super) static UNSIGNED_ALPHABET: Alphabet = Alphabet::of(false, UNSIGNED);

impl Alphabet {
    const fn of(signed: bool, ranges: Ranges) -> Self {
        let (mut by_magnitude, mut symbols) = ([ESCAPE; LOOKED_UP], [0; TOKENS]);
        let mut token = 0;
        while token < ranges.first {
            let magnitude = if signed { token.div_ceil(2) } else { token };
            symbols[token] = if signed && token % 2 == 0 { -(magnitude as i16) } else { magnitude as i16 };
            if by_magnitude[magnitude] == ESCAPE {
                by_magnitude[magnitude] = token as u8;
            }
            token += 1;
        }
        let mut range = 0;
        while range < ranges.list.len() {
            let (least, bits) = ranges.list[range];
            let mut magnitude = least as usize;
            while magnitude < least as usize + (1 << bits) {
                by_magnitude[magnitude] = (ranges.first + range) as u8;
                magnitude += 1;
            }
            range += 1;
        }
        Self { signed, open: ranges.first as u8, by_magnitude, symbols, ranges }
    }

    pub(super) fn pick(signed: bool) -> &'static Self {
        if signed { &SIGNED_ALPHABET } else { &UNSIGNED_ALPHABET }
    }

    /// The token that stands for a symbol if its table has it.
    #[inline(always)]
    pub(super) fn token(&self, symbol: i16) -> u8 {
        let magnitude = usize::from(symbol.unsigned_abs()).min(LOOKED_UP - 1);
        let token = self.by_magnitude[magnitude];
        let negative = symbol < 0;
        if self.signed {
            token + u8::from(negative && token < self.open)
        } else if negative {
            ESCAPE
        } else {
            token
        }
    }

    /// The tokens of as many symbols as the shorter of the two has.
    pub(super) fn tokens(&self, symbols: &[i16], tokens: &mut [u8]) {
        const PART: usize = 16;
        let count = symbols.len().min(tokens.len());
        let (parts, rest) = symbols[..count].as_chunks::<PART>();
        let (out, out_rest) = tokens[..count].as_chunks_mut::<PART>();
        parts.iter().zip(out).for_each(|(symbols, tokens)| self.some_tokens(symbols, tokens));
        self.some_tokens(rest, out_rest);
    }

    #[inline(always)]
    fn some_tokens(&self, symbols: &[i16], tokens: &mut [u8]) {
        self.closed_tokens(symbols, tokens);
        if tokens.iter().fold(0, |most, token| most.max(*token)) >= self.open {
            self.any_tokens(symbols, tokens);
        }
    }

    /// Counts the ranges that begin at or below a magnitude, instead of looking the token up.
    #[inline(always)]
    fn any_tokens(&self, symbols: &[i16], tokens: &mut [u8]) {
        const SIGNED_LEAST: [i16; SIGNED.list.len() + 1] = SIGNED.least();
        const UNSIGNED_LEAST: [i16; UNSIGNED.list.len() + 1] = UNSIGNED.least();
        let pairs = tokens.iter_mut().zip(symbols);
        if self.signed {
            pairs.for_each(|(token, symbol)| {
                let magnitude = (*symbol).max(symbol.saturating_neg());
                let is_closed = magnitude < SIGNED_LEAST[0];
                let closed = 2 * magnitude.min(SIGNED_LEAST[0] - 1) - i16::from(is_closed & (*symbol > 0));
                let ranges: i16 = SIGNED_LEAST.iter().map(|least| i16::from(magnitude >= *least)).sum();
                *token = (closed + ranges) as u8;
            });
        } else {
            pairs.for_each(|(token, symbol)| {
                let closed = (*symbol).min(UNSIGNED_LEAST[0] - 1);
                let ranges: i16 = UNSIGNED_LEAST.iter().map(|least| i16::from(*symbol >= *least)).sum();
                // All ones below zero.
                *token = ((closed + ranges) | (*symbol >> 15)) as u8 & ESCAPE;
            });
        }
    }

    /// The same of those that leave nothing open, in place of all others any that does.
    #[inline(always)]
    pub(super) fn closed_tokens(&self, symbols: &[i16], tokens: &mut [u8]) {
        // Without looking up: that becomes vector instructions.
        let pairs = tokens.iter_mut().zip(symbols);
        let most = i16::from(ESCAPE);
        if self.signed {
            pairs.for_each(|(token, symbol)| {
                let magnitude = (*symbol).max(symbol.saturating_neg()).min(most);
                *token = (2 * magnitude - i16::from(*symbol > 0)) as u8;
            });
        } else {
            pairs.for_each(|(token, symbol)| *token = (*symbol as u16).min(most as u16) as u8);
        }
    }

    /// The symbol of a token that leaves nothing open.
    #[inline(always)]
    pub(super) const fn symbol(&self, token: u8) -> i16 {
        self.symbols[token as usize % TOKENS]
    }

    /// Bits that a token leaves open.
    pub(super) fn open_bits(&self, token: u8) -> u32 {
        match usize::from(token).checked_sub(self.ranges.first) {
            None => 0,
            Some(range) => self.ranges.list.get(range).map_or(16, |(_, bits)| bits + u32::from(self.signed)),
        }
    }

    /// What a symbol puts there.
    pub(super) fn rest(&self, token: u8, symbol: i16) -> u16 {
        match self.range(token) {
            None => symbol as u16,
            Some((least, _)) if self.signed => (symbol.unsigned_abs() - least) << 1 | u16::from(symbol < 0),
            Some((least, _)) => symbol.unsigned_abs() - least,
        }
    }

    /// The symbol of a token with its open bits.
    pub(super) fn with_rest(&self, token: u8, rest: u16) -> i16 {
        match self.range(token) {
            None => rest as i16,
            Some((least, _)) if self.signed => {
                let magnitude = (least + (rest >> 1)) as i16;
                if rest & 1 == 1 { -magnitude } else { magnitude }
            }
            Some((least, _)) => (least + rest) as i16,
        }
    }

    fn range(&self, token: u8) -> Option<(u16, u32)> {
        self.ranges.list.get(usize::from(token).wrapping_sub(self.ranges.first)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_symbol_comes_back() {
        for alphabet in [&SIGNED_ALPHABET, &UNSIGNED_ALPHABET] {
            for symbol in -8_192..=8_192i16 {
                let token = alphabet.token(symbol);
                let back = if token < alphabet.open {
                    alphabet.symbol(token)
                } else {
                    let rest = alphabet.rest(token, symbol);
                    assert!(u32::from(rest) < 1 << alphabet.open_bits(token), "{symbol}");
                    alphabet.with_rest(token, rest)
                };
                assert_eq!(back, symbol);
                assert_eq!(alphabet.with_rest(ESCAPE, alphabet.rest(ESCAPE, symbol)), symbol);
            }
        }
    }

    #[test]
    fn many_tokens_are_those_of_each() {
        for alphabet in [&SIGNED_ALPHABET, &UNSIGNED_ALPHABET] {
            for (least, most) in [(-3, 3), (0, 7), (-4, 3), (-3, 4), (-1, 7), (0, 8), (-500, 500), (-8_192, 8_192)] {
                let symbols: Vec<i16> = (least..=most).collect();
                let mut tokens = vec![99; symbols.len() + 40];
                alphabet.tokens(&symbols, &mut tokens);
                assert!(tokens[symbols.len()..].iter().all(|token| *token == 99));
                assert!(symbols.iter().zip(&tokens).all(|(s, t)| alphabet.token(*s) == *t), "{least} {most}");
            }
        }
    }

    #[test]
    fn the_table_above_is_true() {
        let tokens =
            |signed, symbols: &[i16]| -> Vec<u8> { symbols.iter().map(|s| Alphabet::pick(signed).token(*s)).collect() };
        assert_eq!(
            tokens(true, &[0, 1, -1, 2, -2, 3, -3, -4, 7, 8, -15, 31, 63, 127, 383, 384]),
            [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]
        );
        assert_eq!(
            tokens(false, &[0, 6, 7, 8, 12, 23, 24, 63, 64, 383, 384, -1]),
            [0, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 15]
        );
    }
}
