//! Planes of symbols through contexts and [`rans`](super::rans).
//!
//! Channels are coded in groups of four lanes. Of a group first comes its coarsest band, then the next, and of a band
//! its places line by line, all lanes of a place before the next place. A lane therefore sees what is left of, above and
//! in the coarser band below it, and four chains of dependent steps run side by side. The chunks of a run go on where the one
//! before ended.

use super::geometry::{Bands, LANES};
use super::rans::{Table, Writer};
use super::tables::{Kind, NEIGHBOURS, PARENTS, Scale};
use super::token::{Alphabet, ESCAPE, SIGNED_ALPHABET};

mod read;

pub(super) use read::read;

/// What is known of a chunk before its symbols.
pub(super) struct Model<'a> {
    pub(super) bands: Bands,
    /// Channels of the chunk.
    pub(super) channels: usize,
    /// Whether the coarsest band may be below zero.
    pub(super) signed: bool,
    pub(super) tables: &'a [Table],
    /// Steps of the first four bands of a channel relative to the first, in 1/256; only for two levels.
    pub(super) ratios: &'a [[i32; 4]],
}

impl Model<'_> {
    fn kind(&self, band: usize) -> Kind {
        Kind::of(self.bands.levels, band, self.signed)
    }

    /// The kind of all planes where each is one symbol: nothing is around any of them, so that groups, bands and lines come
    /// down to channel after channel.
    fn flat(&self) -> Option<Kind> {
        (self.bands.symbols == 1).then(|| self.kind(0))
    }

    /// First channels of the groups, and their sizes.
    fn groups(&self) -> impl DoubleEndedIterator<Item = (usize, usize)> + use<> {
        let channels = self.channels;
        (0..channels.div_ceil(LANES)).map(move |g| (g * LANES, LANES.min(channels - g * LANES)))
    }

    /// Levels of the coarser band at every place of a detail, one plane a lane. `parents` keeps them from band to band.
    pub(super) fn parents(&self, band: usize, first: usize, lanes: usize, symbols: &[i16], parents: &mut Vec<u8>) {
        let plane = self.bands.all()[band].plane();
        match band {
            0 => {}
            1 => {
                let from = self.bands.start(0, self.channels) + first * plane;
                parents.clear();
                parents.extend(symbols[from..from + lanes * plane].iter().map(|s| level(i32::from(*s))));
            }
            4 => {
                let fine = self.bands.all()[band];
                parents.clear();
                parents.resize(lanes * plane, 0);
                for (lane, out) in parents.chunks_exact_mut(plane).enumerate() {
                    self.finer_parents(first + lane, symbols, fine.width, out);
                }
            }
            _ => {}
        }
    }

    /// The finer map that the first four bands of a channel make, in integers alone: the same on every device.
    fn finer_parents(&self, channel: usize, symbols: &[i16], width: usize, out: &mut [u8]) {
        let coarse = self.bands.all()[0];
        let of = |band: usize| &symbols[self.bands.start(band, self.channels) + channel * coarse.plane()..];
        let quads = [of(0), of(1), of(2), of(3)];
        let [r0, r1, r2, r3] = self.ratios.get(channel).copied().unwrap_or([256; 4]);
        for (y, lines) in out.chunks_mut(2 * width).enumerate() {
            for x in 0..coarse.width {
                let place = y * coarse.width + x;
                let [ll, lh, hl, hh] = quads.map(|q| i32::from(q[place]));
                let (ll, lh, hl, hh) = (ll * r0, lh * r1, hl * r2, hh * r3);
                let values = [ll + lh + hl + hh, ll - lh + hl - hh, ll + lh - hl - hh, ll - lh - hl + hh];
                for (i, value) in values.into_iter().enumerate() {
                    let (line, column) = (i / 2, 2 * x + i % 2);
                    if column < width
                        && let Some(out) = lines.get_mut(line * width + column)
                    {
                        *out = level((value.abs() + 256) >> 9);
                    }
                }
            }
        }
    }
}

/// The level of a parent.
fn level(symbol: i32) -> u8 {
    symbol.abs().min(PARENTS as i32 - 1) as u8
}

/// How classes of planes travel.
pub(super) enum Classes<'a> {
    /// Both ends have them: band after band, channels inside.
    Known(&'a [u8]),
    /// In front of every plane, as differences; these are what the first of each band differ from.
    InBand(&'a [u8], &'a Table),
}

/// Codes the symbols of a chunk, in front of those that the writer has. `classes` are those of all planes, band after band.
pub(super) fn write(model: &Model<'_>, travel: &Classes<'_>, classes: &[u8], symbols: &[i16], writer: &mut Writer) {
    if let (Classes::Known(_), Some(kind)) = (travel, model.flat()) {
        writer.reserve(symbols.len());
        for (channel, (symbol, class)) in symbols.iter().zip(classes).enumerate().rev() {
            put(writer, channel % LANES, &model.tables[kind.first_table(*class)], kind.alphabet(), *symbol);
        }
        return;
    }
    let (mut tables, mut parents, mut lines) = (Vec::new(), Vec::new(), Vec::new());
    for (first, lanes) in model.groups().rev() {
        // Levels are those of the band before; going backwards they are made anew for both sets of details.
        for (band, shape) in model.bands.all().iter().enumerate().rev() {
            let plane = shape.plane();
            let kind = model.kind(band);
            if band > 0 && (band == model.bands.count() - 1 || band == 3) {
                model.parents(if band > 3 { 4 } else { 1 }, first, lanes, symbols, &mut parents);
            }
            let from = model.bands.start(band, model.channels) + first * plane;
            let group = &symbols[from..from + lanes * plane];
            let known = &classes[band * model.channels + first..][..lanes];
            tables.resize(lanes * plane, 0);
            for (lane, tables) in tables.chunks_exact_mut(plane.max(1)).enumerate() {
                let scale = kind.scale(known[lane]);
                let parents = if band > 0 { &parents[lane * plane..][..plane] } else { &[] };
                pick_tables(&group[lane * plane..][..plane], shape.width, scale, parents, (&mut lines, tables));
            }
            writer.reserve(lanes * (plane + 1));
            let alphabet = kind.alphabet();
            if lanes == LANES {
                put_lanes::<LANES>(writer, model.tables, alphabet, group, &tables);
            } else {
                for place in (0..plane).rev() {
                    for lane in (0..lanes).rev() {
                        let at = lane * plane + place;
                        put(writer, lane, &model.tables[usize::from(tables[at])], alphabet, group[at]);
                    }
                }
            }
            if let Classes::InBand(heads, table) = travel {
                for lane in (0..lanes).rev() {
                    let channel = first + lane;
                    let before = channel.checked_sub(LANES).map_or(heads[band], |c| classes[band * model.channels + c]);
                    put(writer, lane, table, &SIGNED_ALPHABET, i16::from(known[lane]) - i16::from(before));
                }
            }
        }
    }
}

/// The table of every symbol of a plane. `lines` is room that is used again and again.
pub(super) fn pick_tables(
    plane: &[i16],
    width: usize,
    scale: Scale,
    parents: &[u8],
    (lines, tables): (&mut Vec<u16>, &mut [u16]),
) {
    // One more in front of each: nothing is left of the first.
    lines.clear();
    lines.resize(2 * (width + 1), 0);
    let (mut line, mut above) = lines.split_at_mut(width + 1);
    for (y, (symbols, tables)) in plane.chunks_exact(width).zip(tables.chunks_exact_mut(width)).enumerate() {
        line[1..].iter_mut().zip(symbols).for_each(|(m, s)| *m = scale.magnitude(*s));
        let around = line[..width].iter().zip(&above[1..]);
        if parents.is_empty() {
            tables.iter_mut().zip(around).for_each(|(t, (left, above))| *t = scale.base + left + above);
        } else {
            let parents = &parents[y * width..][..width];
            for ((table, (left, above)), parent) in tables.iter_mut().zip(around).zip(parents) {
                *table = scale.base + left + above + NEIGHBOURS as u16 * u16::from(*parent);
            }
        }
        std::mem::swap(&mut line, &mut above);
    }
}

#[inline(always)]
fn put(writer: &mut Writer, lane: usize, table: &Table, alphabet: &Alphabet, symbol: i16) {
    let token = alphabet.token(symbol);
    let span = table.span(token);
    if token < alphabet.open && span.1 > 0 {
        writer.put(lane, span);
    } else {
        put_open(writer, lane, table, alphabet, symbol);
    }
}

#[cold]
#[inline(never)]
fn put_open(writer: &mut Writer, lane: usize, table: &Table, alphabet: &Alphabet, symbol: i16) {
    let token = alphabet.token(symbol);
    let token = if table.span(token).1 > 0 { token } else { ESCAPE };
    writer.put_bits(lane, alphabet.rest(token, symbol), alphabet.open_bits(token));
    writer.put(lane, table.span(token));
}

fn put_lanes<const N: usize>(
    writer: &mut Writer,
    tables: &[Table],
    alphabet: &Alphabet,
    symbols: &[i16],
    picked: &[u16],
) {
    let plane = symbols.len() / N;
    let symbols: [&[i16]; N] = std::array::from_fn(|lane| &symbols[lane * plane..][..plane]);
    let picked: [&[u16]; N] = std::array::from_fn(|lane| &picked[lane * plane..][..plane]);
    for place in (0..plane).rev() {
        for lane in (0..N).rev() {
            put(writer, lane, &tables[usize::from(picked[lane][place])], alphabet, symbols[lane][place]);
        }
    }
}
