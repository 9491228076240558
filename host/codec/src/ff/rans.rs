//! Interleaved range coding with fixed tables (rANS): one state a lane, one stream of words for all.
//!
//! States are below 2^31 and at least 2^15; a step that would leave that range moves 16 bits to or from the stream.
//! Coding goes backwards, so that decoding goes forwards. After the last symbol every state is 2^15 again and no word is
//! left: a decoder that finds it otherwise has read something that no encoder wrote.

use super::geometry::LANES;
use super::token::TOKENS;
use std::hint::select_unpredictable;

/// Frequencies of a table add up to two to this.
pub(super) const PRECISION: u32 = 12;
/// The same as a number.
pub(super) const TOTAL: u16 = 1 << PRECISION;
/// The least state, with which coding begins and decoding ends.
const LEAST: u32 = 1 << 15;
/// Most bits that are put without a table at a time.
const PLAIN_BITS_MAX: u32 = 12;

/// Places of a table that are looked up as one.
const BUCKET: usize = 64;

/// Where each token begins in 0..4096; it ends where the next one begins. A token without room is never used.
// Two lines of a cache: one to look the token up, one for where it begins.
#[repr(align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Table {
    /// The token at the first of every 64 places.
    first: [u8; TOTAL as usize / BUCKET],
    starts: [u16; TOKENS + 1],
}

impl Table {
    /// Of frequencies; none where they do not add up, or where the escape has none.
    pub(super) fn of(frequencies: &[u16; TOKENS]) -> Option<Self> {
        let mut starts = [0u16; TOKENS + 1];
        let mut end = 0u16;
        for (start, frequency) in starts[1..].iter_mut().zip(frequencies) {
            end = end.checked_add(*frequency).filter(|end| *end <= TOTAL)?;
            *start = end;
        }
        if end < TOTAL || frequencies[TOKENS - 1] == 0 {
            return None;
        }
        let mut token = 0;
        let first = std::array::from_fn(|bucket| {
            while usize::from(starts[token + 1]) <= BUCKET * bucket {
                token += 1;
            }
            token as u8
        });
        Some(Self { first, starts })
    }

    /// Where a token begins, and its frequency.
    #[inline(always)]
    pub(super) fn span(&self, token: u8) -> (u32, u32) {
        let token = usize::from(token) % TOKENS;
        let start = u32::from(self.starts[token]);
        (start, u32::from(self.starts[token + 1]) - start)
    }

    /// The same of a token that leaves nothing open, if it is one of the first `closed`.
    #[inline(always)]
    pub(super) fn closed_span(&self, token: u8, closed: u8) -> Span {
        let (start, frequency) = self.span(token);
        // Without a branch: nobody foresees it.
        Span { start: start as u16, frequency: frequency as u16 & u16::from(token < closed).wrapping_neg() }
    }

    /// The token at a place below 4096.
    fn find(&self, place: u32) -> u8 {
        let first = self.first[place as usize / BUCKET];
        first + self.starts[usize::from(first) + 1..].iter().take_while(|end| u32::from(**end) <= place).count() as u8
    }

    /// Bits that a token costs; without end where it has no room.
    pub(super) fn cost(&self, token: u8) -> f64 {
        f64::from(PRECISION) - f64::from(self.span(token).1).log2()
    }
}

/// Puts tokens, the last one first.
pub(super) struct Writer {
    states: [u32; LANES],
    words: Vec<u16>,
    used: usize,
}

impl Writer {
    pub(super) fn new() -> Self {
        Self { states: [LEAST; LANES], words: Vec::new(), used: 0 }
    }

    /// Makes room for so many symbols: each is a token and at most two times eight bits.
    pub(super) fn reserve(&mut self, symbols: usize) {
        self.words.resize(self.used + 2 * symbols + 4 * LANES, 0);
    }

    /// A token at its place in a table.
    pub(super) fn put(&mut self, lane: usize, span: (u32, u32)) {
        (self.states[lane], self.used) = put(self.states[lane], span, &mut self.words, self.used);
    }

    /// The tokens of `N` lanes, of each place all lanes one after the other: from the last place to the first, as decoders
    /// take them. Of a token that has no span, `open` says what there is: its bits, as [`Writer::put_bits`] takes them, and
    /// where it is in its table.
    #[inline(always)]
    pub(super) fn put_all<const N: usize>(
        &mut self,
        spans: &[[Span; LANES]],
        open: impl Fn(usize, usize) -> ((u16, u32), (u32, u32)),
    ) {
        let (mut states, mut used, words) = (self.states, self.used, &mut self.words[..]);
        for (place, spans) in spans.iter().enumerate().rev() {
            for lane in (0..N).rev() {
                let Span { start, frequency } = spans[lane];
                let mut span = (u32::from(start), u32::from(frequency));
                if frequency == 0 {
                    let bits;
                    (bits, span) = open(place, lane);
                    (states[lane], used) = put_bits(states[lane], bits, words, used);
                }
                (states[lane], used) = put(states[lane], span, words, used);
            }
        }
        (self.states, self.used) = (states, used);
    }

    /// Up to 16 bits as they are.
    pub(super) fn put_bits(&mut self, lane: usize, value: u16, bits: u32) {
        (self.states[lane], self.used) = put_bits(self.states[lane], (value, bits), &mut self.words, self.used);
    }

    /// The states of the first `lanes`, then the words in reading order.
    pub(super) fn finish(self, lanes: usize, out: &mut Vec<u8>) {
        self.states[..lanes].iter().for_each(|state| out.extend(state.to_le_bytes()));
        out.extend(self.words[..self.used].iter().rev().flat_map(|word| word.to_le_bytes()));
    }
}

/// The state and the number of words behind a token.
#[inline(always)]
fn put(state: u32, (start, frequency): (u32, u32), words: &mut [u16], mut used: usize) -> (u32, usize) {
    let state = spill(state, frequency << (31 - PRECISION), words, &mut used);
    // Of states below 2^19 times the frequency this is their quotient.
    let quotient = ((u64::from(state) * RECIPROCALS[frequency as usize]) >> RECIPROCAL_BITS) as u32;
    (state + quotient * (u32::from(TOTAL) - frequency) + start, used)
}

/// The same behind up to 16 bits.
#[inline(never)]
fn put_bits(mut state: u32, (value, bits): (u16, u32), words: &mut [u16], mut used: usize) -> (u32, usize) {
    // The decoder reads the low ones first.
    let low = bits.min(PLAIN_BITS_MAX - 4);
    let value = u32::from(value);
    for (value, bits) in [(value >> low, bits - low), (value & ((1 << low) - 1), low)] {
        state = spill(state, 1 << (31 - bits), words, &mut used) << bits | value;
    }
    (state, used)
}

/// What is left of a state if it is below the limit.
#[inline(always)]
fn spill(state: u32, limit: u32, words: &mut [u16], used: &mut usize) -> u32 {
    let spills = state >= limit;
    if let Some(word) = words.get_mut(*used) {
        *word = state as u16;
    }
    *used += usize::from(spills);
    select_unpredictable(spills, state >> 16, state)
}

/// Multiplying by 2^43 over a frequency, rounded up, is quicker than dividing by it. The rounding adds less than 2^-43 times
/// the frequency to a reciprocal, and so less than 2^-12 to the quotient of a state below 2^31, which is not enough to
/// reach the next whole number: that is one over the frequency away at least.
const RECIPROCAL_BITS: u32 = 31 + PRECISION;
static RECIPROCALS: [u64; TOTAL as usize + 1] = {
    let mut all = [0; TOTAL as usize + 1];
    let mut frequency = 1;
    while frequency < all.len() {
        all[frequency] = (1u64 << RECIPROCAL_BITS).div_ceil(frequency as u64);
        frequency += 1;
    }
    all
};

/// Where a token begins in its table, and its frequency; 0 where it takes more than that.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    start: u16,
    frequency: u16,
}

/// Gets tokens, the first one first. Past the end it reads zeros; [`Reader::finish`] tells.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) states: [u32; LANES],
    pub(super) words: Words<'a>,
}

/// The stream of words and how far it was read. Small, and handed on by value: so it stays in registers.
#[derive(Clone, Copy)]
pub(super) struct Words<'a> {
    bytes: &'a [u8],
    /// Bytes that were read, or would have been if there were more.
    used: usize,
    /// The next words, the first one lowest.
    next: u64,
}

impl Words<'_> {
    /// Looks ahead: must come before every four words that are read.
    #[inline(always)]
    pub(super) fn look(&mut self) {
        let rest = self.bytes.get(self.used..).unwrap_or_default();
        self.next = match rest.first_chunk() {
            Some(next) => u64::from_le_bytes(*next),
            None => rest.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte)),
        };
    }

    #[inline(always)]
    fn fill(&mut self, state: u32) -> u32 {
        let fills = state < LEAST;
        let filled = state << 16 | self.next as u32 & 0xffff;
        self.next = select_unpredictable(fills, self.next >> 16, self.next);
        self.used += 2 * usize::from(fills);
        select_unpredictable(fills, filled, state)
    }

    /// Takes a token from a state, reading one word at most, if one look tells that it is among the first `CLOSED`. With
    /// `SPARSE` it guesses that the token is 0 and that no word is read, which is quicker where that is mostly so.
    #[inline(always)]
    pub(super) fn get_common<const CLOSED: usize, const SPARSE: bool>(
        &mut self,
        state: &mut u32,
        table: &Table,
    ) -> Option<usize> {
        let place = *state % u32::from(TOTAL);
        if SPARSE && place < u32::from(table.starts[1]) {
            let next = u32::from(table.starts[1]) * (*state >> PRECISION) + place;
            *state = if next < LEAST { self.fill(next) } else { next };
            return Some(0);
        }
        let token = usize::from(table.first[place as usize / BUCKET]);
        // Both are seldom so, and known long before the state is: guessing that is quicker than searching.
        if token >= CLOSED || place >= u32::from(table.starts[token + 1]) {
            return None;
        }
        let start = u32::from(table.starts[token]);
        let frequency = u32::from(table.starts[token + 1]) - start;
        *state = self.fill(frequency * (*state >> PRECISION) + place - start);
        Some(token)
    }

    /// Takes any token from a state, reading one word at most.
    pub(super) fn get(&mut self, state: &mut u32, table: &Table) -> u8 {
        let place = *state % u32::from(TOTAL);
        let token = table.find(place);
        let (start, frequency) = table.span(token);
        *state = self.fill(frequency * (*state >> PRECISION) + place - start);
        token
    }

    /// Takes up to 16 bits from a state, reading two words at most.
    pub(super) fn get_bits(&mut self, state: &mut u32, bits: u32) -> u16 {
        let low = bits.min(PLAIN_BITS_MAX - 4);
        let mut value = 0;
        for (at, some) in [(0, low), (low, bits - low)] {
            value |= (*state & ((1 << some) - 1)) << at;
            *state = self.fill(*state >> some);
        }
        value as u16
    }
}

impl<'a> Reader<'a> {
    /// Errors with what is wrong.
    pub(super) fn new(bytes: &'a [u8], lanes: usize) -> Result<Self, &'static str> {
        let Some((heads, words)) = bytes.split_at_checked(4 * lanes) else { return Err("no room for the states") };
        if !words.len().is_multiple_of(2) {
            return Err("half a word at the end");
        }
        let mut states = [LEAST; LANES];
        for (state, bytes) in states.iter_mut().zip(heads.as_chunks::<4>().0) {
            *state = u32::from_le_bytes(*bytes);
            if !(LEAST..LEAST << 16).contains(state) {
                return Err("a state is out of range");
            }
        }
        Ok(Self { states, words: Words { bytes: words, used: 0, next: 0 } })
    }

    /// Whether everything was read and nothing more.
    pub(super) fn finish(&self) -> Result<(), &'static str> {
        if self.words.used != self.words.bytes.len() {
            return Err("the words do not end where the symbols do");
        }
        if self.states != [LEAST; LANES] {
            return Err("the states do not end as they began");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skewed() -> Table {
        Table::of(&[3_000, 700, 200, 100, 50, 20, 10, 5, 4, 2, 2, 1, 1, 0, 0, 1]).unwrap()
    }

    #[test]
    fn tables_are_whole() {
        assert!(Table::of(&[256; 16]).is_some());
        assert!(Table::of(&[255; 16]).is_none());
        let mut without_escape = [0; 16];
        without_escape[0] = 4_096;
        assert!(Table::of(&without_escape).is_none());
        let table = skewed();
        for token in 0..16 {
            let (start, frequency) = table.span(token);
            assert!((start..start + frequency).all(|place| table.find(place) == token), "{token}");
        }
        assert_eq!(Table::of(&[256; 16]).unwrap().cost(3), 4.0);
    }

    #[test]
    fn reciprocals_divide() {
        for frequency in 1..=u32::from(TOTAL) {
            let limit = frequency << (31 - PRECISION);
            for multiple in [1, 2, 3, limit / frequency / 2, limit / frequency - 1, limit / frequency] {
                for state in [multiple * frequency - 1, multiple * frequency, multiple * frequency + 1] {
                    let state = state.min(limit - 1);
                    let divided = ((state / frequency) << PRECISION) + state % frequency + 7;
                    assert_eq!(put(state, (7, frequency), &mut [], 0), (divided, 0), "{state} {frequency}");
                }
            }
        }
    }

    #[test]
    fn what_is_put_is_got() {
        let table = skewed();
        let tokens: Vec<u8> = (0..10_007u32).map(|i| table.find(i.wrapping_mul(2_654_435_761) >> 20)).collect();
        let bits = |i: usize| (i % 17) as u32;
        let value = |i: usize| (i.wrapping_mul(40_503) & ((1 << bits(i)) - 1)) as u16;
        let mut writer = Writer::new();
        writer.reserve(tokens.len() * 2);
        for (i, token) in tokens.iter().enumerate().rev() {
            if i % 5 == 0 {
                writer.put_bits(i % LANES, value(i), bits(i));
            }
            writer.put(i % LANES, table.span(*token));
        }
        let mut bytes = Vec::new();
        writer.finish(LANES, &mut bytes);
        let mut reader = Reader::new(&bytes, LANES).unwrap();
        let mut common_count = 0;
        for (i, token) in tokens.iter().enumerate() {
            let state = &mut reader.states[i % LANES];
            reader.words.look();
            let common = match i % 2 {
                0 => reader.words.get_common::<7, false>(state, &table),
                _ => reader.words.get_common::<7, true>(state, &table),
            };
            common_count += usize::from(common.is_some());
            let got = common.map_or_else(|| reader.words.get(state, &table), |token| token as u8);
            assert_eq!(got, *token);
            if i % 5 == 0 {
                assert_eq!(reader.words.get_bits(state, bits(i)), value(i), "{i}");
            }
        }
        reader.finish().unwrap();
        assert!(common_count > tokens.len() * 9 / 10, "{common_count}");
        let plain: u32 = (0..tokens.len()).step_by(5).map(bits).sum();
        let ideal = tokens.iter().map(|t| table.cost(*t)).sum::<f64>() + f64::from(plain);
        let real = 8.0 * bytes.len() as f64;
        assert!(real < ideal * 1.002 + 128.0, "{real} bits for {ideal:.0}");
    }

    #[test]
    fn what_was_not_written_is_refused() {
        assert_eq!(Reader::new(&[0; 7], 2).err(), Some("no room for the states"));
        assert_eq!(Reader::new(&[0; 9], 2).err(), Some("half a word at the end"));
        assert_eq!(Reader::new(&[0; 8], 2).err(), Some("a state is out of range"));
        let mut bytes = Vec::new();
        Writer::new().finish(2, &mut bytes);
        Reader::new(&bytes, 2).unwrap().finish().unwrap();
        bytes.extend([0, 0]);
        assert!(Reader::new(&bytes, 2).unwrap().finish().is_err());
        let mut reader = Reader::new(&bytes, 2).unwrap();
        reader.words.get(&mut reader.states[0], &skewed());
        assert!(reader.finish().is_err());
    }
}
