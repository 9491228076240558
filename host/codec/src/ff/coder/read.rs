//! Decoding.

use super::super::geometry::LANES;
use super::super::quant::SYMBOL_MAX;
use super::super::rans::{Reader, Table, Words};
use super::super::tables::{CLASSES, NEIGHBOURS, SHIFTS, Scale};
use super::super::token::{Alphabet, SIGNED_ALPHABET, UNSIGNED_ALPHABET};
use super::{Classes, Model};

/// Tokens that leave nothing open.
const CLOSED_SIGNED: usize = SIGNED_ALPHABET.open as usize;
const CLOSED_UNSIGNED: usize = UNSIGNED_ALPHABET.open as usize;
/// What closed tokens stand for and count as neighbours, by shift.
type Known<const CLOSED: usize> = [[(i16, u16); CLOSED]; SHIFTS];
static KNOWN_SIGNED: Known<CLOSED_SIGNED> = known(&SIGNED_ALPHABET);
static KNOWN_UNSIGNED: Known<CLOSED_UNSIGNED> = known(&UNSIGNED_ALPHABET);

const fn known<const CLOSED: usize>(alphabet: &Alphabet) -> Known<CLOSED> {
    let mut known = [[(0, 0); CLOSED]; SHIFTS];
    let mut at = 0;
    while at < SHIFTS * CLOSED {
        let (shift, token) = (at / CLOSED, at % CLOSED);
        let symbol = alphabet.symbol(token as u8);
        known[shift][token] = (symbol, Scale::of_shift(0, shift).magnitude(symbol));
        at += 1;
    }
    known
}

/// Planes of classes below this are taken for mostly zeros, see [`Words::get_common`]: where it was seen to be quicker.
const SPARSE_SIGNED: usize = 9;
/// The same without negatives: zeros behind a ReLU come in swaths, which processors foresee better.
const SPARSE_UNSIGNED: usize = 14;

/// Decodes the symbols of the reader's next chunk, and the classes of its planes where they travel. Errors with what is
/// wrong.
pub(in crate::ff) fn read(
    model: &Model<'_>,
    travel: &Classes<'_>,
    reader: &mut Reader<'_>,
    classes: &mut [u8],
    symbols: &mut [i16],
) -> Result<(), &'static str> {
    let (mut parents, mut room) = (Vec::new(), Room::default());
    if let Classes::Known(known) = travel {
        classes.copy_from_slice(known);
    }
    if let (Classes::Known(known), Some(kind)) = (travel, model.flat()) {
        let Reader { mut states, mut words } = *reader;
        for (symbols, classes) in symbols.chunks_mut(LANES).zip(known.chunks(LANES)) {
            words.look();
            for (lane, (symbol, class)) in symbols.iter_mut().zip(classes).enumerate() {
                let table = &model.tables[kind.first_table(*class)];
                let state = &mut states[lane % LANES];
                // Of either alphabet at least so many are closed.
                match words.get_common::<CLOSED_SIGNED, false>(state, table) {
                    Some(token) => *symbol = kind.alphabet().symbol(token as u8),
                    None => (*symbol, *state, words) = get_any(words, *state, table, kind.alphabet()),
                }
            }
        }
        *reader = Reader { states, words };
        return checked(symbols);
    }
    for (first, lanes) in model.groups() {
        for (band, shape) in model.bands.all().iter().enumerate() {
            let plane = shape.plane();
            if let Classes::InBand(heads, table) = travel {
                for lane in 0..lanes {
                    let at = band * model.channels + first + lane;
                    let before = if first == 0 { heads[band] } else { classes[at - LANES] };
                    let Reader { states, words } = &mut *reader;
                    let difference;
                    (difference, states[lane], *words) = get_any(*words, states[lane], table, &SIGNED_ALPHABET);
                    let class = i32::from(before) + i32::from(difference);
                    if !(0..CLASSES as i32).contains(&class) {
                        return Err("a class is out of range");
                    }
                    classes[at] = class as u8;
                }
            }
            model.parents(band, first, lanes, symbols, &mut parents);
            let kind = model.kind(band);
            let known = &classes[band * model.channels + first..][..lanes];
            let from = model.bands.start(band, model.channels) + first * plane;
            let group = &mut symbols[from..from + lanes * plane];
            let mut scales = [Scale::default(); LANES];
            scales.iter_mut().zip(known).for_each(|(scale, class)| *scale = kind.scale(*class));
            let parents = if band > 0 { &parents[..] } else { &[] };
            let alphabet = kind.alphabet();
            let class_sum = known.iter().map(|class| usize::from(*class)).sum::<usize>();
            let sparse = class_sum < lanes * if alphabet.signed { SPARSE_SIGNED } else { SPARSE_UNSIGNED };
            let group_of = Group { tables: model.tables, scales, alphabet, sparse };
            room.begin(scales, shape.width, plane, parents);
            match lanes {
                4 => group_of.get::<4>(reader, &mut room),
                3 => group_of.get::<3>(reader, &mut room),
                2 => group_of.get::<2>(reader, &mut room),
                _ => group_of.get::<1>(reader, &mut room),
            }
            room.end(group, lanes);
        }
    }
    checked(symbols)
}

fn checked(symbols: &[i16]) -> Result<(), &'static str> {
    if symbols.iter().fold(0, |most, s| s.unsigned_abs().max(most)) > SYMBOL_MAX.unsigned_abs() {
        return Err("a symbol is out of range");
    }
    Ok(())
}

/// A symbol of one lane whatever it takes: three words at most. Looks ahead before and after.
#[inline(never)]
fn get_any<'a>(mut words: Words<'a>, mut state: u32, table: &Table, alphabet: &Alphabet) -> (i16, u32, Words<'a>) {
    words.look();
    let token = words.get(&mut state, table);
    let symbol = if token < alphabet.open {
        alphabet.symbol(token)
    } else {
        let rest = words.get_bits(&mut state, alphabet.open_bits(token));
        alphabet.with_rest(token, rest)
    };
    words.look();
    (symbol, state, words)
}

/// One band of some channels.
struct Group<'a> {
    tables: &'a [Table],
    scales: [Scale; LANES],
    alphabet: &'a Alphabet,
    /// Whether most symbols are 0.
    sparse: bool,
}

/// Room that is kept from group to group. All lanes of a place stand together: what is done to them outside of the one
/// loop that is a chain of steps then becomes vector instructions.
#[derive(Default)]
struct Room {
    width: usize,
    scales: Scales,
    /// Levels of parents; none in the coarsest band.
    parents: Vec<[u8; LANES]>,
    /// The tables of a line's symbols if nothing is left of them.
    tables: Vec<[u16; LANES]>,
    /// Behind a line of zeros, which is above the first one.
    symbols: Vec<[i16; LANES]>,
}

/// The [`Scale`] of each symbol of a line.
#[derive(Default)]
struct Scales {
    bases: Vec<[u16; LANES]>,
    /// Magnitudes from which on a neighbour counts one, and two.
    ones: Vec<[i16; LANES]>,
    twos: Vec<[i16; LANES]>,
}

impl Scales {
    fn set(&mut self, scales: [Scale; LANES], width: usize) {
        fn fill<T: Copy>(line: &mut Vec<T>, lanes: T, width: usize) {
            line.clear();
            line.resize(width, lanes);
        }
        fill(&mut self.bases, scales.map(|scale| scale.base), width);
        fill(&mut self.ones, scales.map(|scale| scale.least(1)), width);
        fill(&mut self.twos, scales.map(|scale| scale.least(2)), width);
    }

    /// The table of each symbol of a line if nothing is left of it.
    fn pick_tables(&self, above: &[[i16; LANES]], parents: &[[u8; LANES]], tables: &mut [[u16; LANES]]) {
        let tables = tables.as_flattened_mut();
        let (ones, twos) = (self.ones.as_flattened(), self.twos.as_flattened());
        let scales = self.bases.as_flattened().iter().zip(ones.iter().zip(twos));
        for ((table, symbol), (base, (one, two))) in tables.iter_mut().zip(above.as_flattened()).zip(scales) {
            let magnitude = (*symbol).max(symbol.saturating_neg());
            *table = base + u16::from(magnitude >= *one) + u16::from(magnitude >= *two);
        }
        for (table, parent) in tables.iter_mut().zip(parents.as_flattened()) {
            *table += NEIGHBOURS as u16 * u16::from(*parent);
        }
    }
}

impl Room {
    fn begin(&mut self, scales: [Scale; LANES], width: usize, plane: usize, parents: &[u8]) {
        self.width = width;
        self.scales.set(scales, width);
        self.tables.resize(width, [0; LANES]);
        self.symbols.resize(width + plane, [0; LANES]);
        self.symbols[..width].fill([0; LANES]);
        self.parents.clear();
        if !parents.is_empty() {
            self.parents.resize(plane, [0; LANES]);
            for (lane, parents) in parents.chunks_exact(plane).enumerate() {
                self.parents.iter_mut().zip(parents).for_each(|(all, parent)| all[lane] = *parent);
            }
        }
    }

    fn end(&self, group: &mut [i16], lanes: usize) {
        let symbols = &self.symbols[self.width..];
        for (lane, plane) in group.chunks_exact_mut(symbols.len().max(1)).enumerate().take(lanes) {
            plane.iter_mut().zip(symbols).for_each(|(out, symbols)| *out = symbols[lane % LANES]);
        }
    }
}

impl Group<'_> {
    fn get<const N: usize>(&self, reader: &mut Reader<'_>, room: &mut Room) {
        match (self.alphabet.signed, self.sparse) {
            (false, false) => self.get_closed::<N, CLOSED_UNSIGNED, false>(&KNOWN_UNSIGNED, reader, room),
            (false, true) => self.get_closed::<N, CLOSED_UNSIGNED, true>(&KNOWN_UNSIGNED, reader, room),
            (true, false) => self.get_closed::<N, CLOSED_SIGNED, false>(&KNOWN_SIGNED, reader, room),
            (true, true) => self.get_closed::<N, CLOSED_SIGNED, true>(&KNOWN_SIGNED, reader, room),
        }
    }

    /// The first `CLOSED` tokens leave nothing open.
    fn get_closed<const N: usize, const CLOSED: usize, const SPARSE: bool>(
        &self,
        known: &Known<CLOSED>,
        reader: &mut Reader<'_>,
        room: &mut Room,
    ) {
        let known: [[(i16, u16); CLOSED]; LANES] = self.scales.map(|scale| known[scale.shift()]);
        let width = room.width;
        let (mut states, mut words) = (reader.states, reader.words);
        for y in 0..room.symbols.len().checked_div(width).unwrap_or(0).saturating_sub(1) {
            let (above, line) = room.symbols[y * width..][..2 * width].split_at_mut(width);
            let parents = if room.parents.is_empty() { &[] } else { &room.parents[y * width..][..width] };
            room.scales.pick_tables(above, parents, &mut room.tables);
            let mut left = [0u16; LANES];
            for (symbols, tables) in line.iter_mut().zip(&room.tables) {
                words.look();
                for lane in 0..N {
                    // Kinds, classes and contexts are checked, so that every table is there.
                    let table = &self.tables[usize::from(tables[lane]) + usize::from(left[lane])];
                    (symbols[lane], left[lane]) = match words.get_common::<CLOSED, SPARSE>(&mut states[lane], table) {
                        Some(token) => known[lane][token],
                        None => {
                            let symbol;
                            (symbol, states[lane], words) = get_any(words, states[lane], table, self.alphabet);
                            (symbol, self.scales[lane].magnitude(symbol))
                        }
                    };
                }
            }
        }
        (reader.states, reader.words) = (states, words);
    }
}
