//! Coding, backwards.

use super::super::geometry::LANES;
use super::super::rans::{Span, Table, Writer};
use super::super::token::{Alphabet, ESCAPE, SIGNED_ALPHABET};
use super::{Classes, Model, pick_tables};

/// Codes the symbols of a chunk, in front of those that the writer has. `classes` are those of all planes, band after band.
pub(in crate::ff) fn write(
    model: &Model<'_>,
    travel: &Classes<'_>,
    classes: &[u8],
    symbols: &[i16],
    writer: &mut Writer,
) {
    let (mut tables, mut tokens, mut spans) = (Vec::new(), Vec::new(), Vec::new());
    if let (Classes::Known(_), Some(kind)) = (travel, model.flat()) {
        let alphabet = kind.alphabet();
        tables.extend(classes.iter().map(|class| kind.first_table(*class) as u16));
        tokens.resize(symbols.len(), 0);
        alphabet.closed_tokens(symbols, &mut tokens);
        writer.reserve(symbols.len());
        let table = |channel: usize| &model.tables[usize::from(tables[channel])];
        let whole = symbols.len() / LANES;
        for channel in (LANES * whole..symbols.len()).rev() {
            put_any(writer, channel % LANES, table(channel), alphabet, symbols[channel]);
        }
        spans.resize(whole, [Span::default(); LANES]);
        for (span, (table, token)) in spans.as_flattened_mut().iter_mut().zip(tables.iter().zip(&tokens)) {
            *span = model.tables[usize::from(*table)].closed_span(*token, alphabet.open);
        }
        writer.put_all::<LANES>(&spans, |place, lane| {
            let channel = LANES * place + lane;
            rest(table(channel), alphabet, symbols[channel])
        });
        return;
    }
    let (mut parents, mut around) = (Vec::new(), Vec::new());
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
                pick_tables(&group[lane * plane..][..plane], shape.width, scale, parents, (&mut around, tables));
            }
            tokens.resize(lanes * plane, 0);
            kind.alphabet().closed_tokens(group, &mut tokens);
            let of_group = Group { tables: model.tables, alphabet: kind.alphabet(), symbols: group, picked: &tables };
            writer.reserve(lanes * (plane + 1));
            match lanes {
                4 => of_group.put::<4>(&tokens, &mut spans, writer),
                3 => of_group.put::<3>(&tokens, &mut spans, writer),
                2 => of_group.put::<2>(&tokens, &mut spans, writer),
                _ => of_group.put::<1>(&tokens, &mut spans, writer),
            }
            if let Classes::InBand(heads, table) = travel {
                for lane in (0..lanes).rev() {
                    let channel = first + lane;
                    let before = channel.checked_sub(LANES).map_or(heads[band], |c| classes[band * model.channels + c]);
                    put_any(writer, lane, table, &SIGNED_ALPHABET, i16::from(known[lane]) - i16::from(before));
                }
            }
        }
    }
}

/// One band of some channels: one plane a lane.
struct Group<'a> {
    tables: &'a [Table],
    alphabet: &'a Alphabet,
    symbols: &'a [i16],
    /// The table of each symbol.
    picked: &'a [u16],
}

impl Group<'_> {
    fn put<const N: usize>(&self, tokens: &[u8], spans: &mut Vec<[Span; LANES]>, writer: &mut Writer) {
        // What does not wait for the symbol before is done apart from what does.
        let plane = self.symbols.len() / N;
        spans.resize(plane, Default::default());
        for lane in 0..N {
            let part = lane * plane..(lane + 1) * plane;
            for (spans, (table, token)) in spans.iter_mut().zip(self.picked[part.clone()].iter().zip(&tokens[part])) {
                spans[lane] = self.tables[usize::from(*table)].closed_span(*token, self.alphabet.open);
            }
        }
        writer.put_all::<N>(spans, |place, lane| {
            let at = lane * plane + place;
            rest(&self.tables[usize::from(self.picked[at])], self.alphabet, self.symbols[at])
        });
    }
}

/// A symbol of one lane whatever it takes.
fn put_any(writer: &mut Writer, lane: usize, table: &Table, alphabet: &Alphabet, symbol: i16) {
    let ((value, bits), span) = rest(table, alphabet, symbol);
    writer.put_bits(lane, value, bits);
    writer.put(lane, span);
}

/// The bits that a symbol takes, and where its token is in its table.
#[inline(never)]
fn rest(table: &Table, alphabet: &Alphabet, symbol: i16) -> ((u16, u32), (u32, u32)) {
    let token = alphabet.token(symbol);
    let token = if table.span(token).1 > 0 { token } else { ESCAPE };
    let bits = alphabet.open_bits(token);
    let value = if bits > 0 { alphabet.rest(token, symbol) } else { 0 };
    ((value, bits), table.span(token))
}
