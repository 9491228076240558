//! Symbols whose errors cancel where the model's outputs look: an encoder's choice that decoders need not know of.
//!
//! Rounding each coefficient to its nearest symbol makes each error small. What an error costs at the model's end is mostly
//! its sum along a few [`directions`](super::directions), and of thousands of errors a few dozen of either sign can bring
//! these sums down to almost nothing. So after quantising the symbols are gone through once more: each becomes the one of its
//! two neighbouring values, or nothing where that is near, that makes the least of
//!
//! ```text
//! sum over k of (d_k . e)^2  +  rest_p e^2  +  PRICE * bits
//! ```
//!
//! in steps, with the errors of all others as they are, and the bits that the package's tables take for it behind the
//! symbols left of, above and below it. Both ends read the same frames as without it.
//!
//! It is done to frames with rANS, of calibrated packages that have directions, where a row is one chunk: not to bounded
//! ones, whose guarantee rests on rounding to the nearest, nor to rows with exceptions, nor to those that a device made.

mod blocks;
mod choice;

use super::coder::{Model, pick_tables};
use super::cut::CutData;
use super::directions::Directions;
use super::geometry::{Bands, Dims};
use super::rans::Table;
use super::recipe::Recipe;
use super::tables::{Kind, Scale};
use super::token::{ESCAPE, TOKENS};
use super::transform::Workspace;
use super::{Mode, Offsets};
use blocks::{Along, BLOCK, Sums, Wide};
use choice::{CANDIDATES, Choice, candidates, choices};
use std::ops::Range;

/// What a bit may cost in squared steps of a coefficient of mean weight. Where steps are fine, 2 ln 2 / 12 = 0.115 would be
/// what a bit saves; with more, coarse rates gain and fine ones lose nothing.
const PRICE: f32 = 0.23;
/// Times that all symbols are gone through.
const ROUNDS: usize = 2;

/// The directions of a value in the coefficients of one mode, in steps of their planes. Lists are by block: plane after
/// plane, band after band, channels inside.
#[derive(Debug)]
pub(super) struct Aim {
    along: Vec<Along>,
    /// The square of what each coefficient has along the directions.
    own: Vec<Wide>,
    /// The same with the rest of its plane.
    squares: Vec<Wide>,
    /// What bits cost by table and token, open bits counted in.
    prices: Vec<[f32; TOKENS]>,
}

impl Aim {
    /// None where the package has nothing for the mode.
    pub(super) fn new(data: &CutData, tables: &[Table], directions: &Directions, mode: Mode) -> Option<Self> {
        let [channels, height, width] = data.shape?.map(|extent| extent as usize);
        let dims = Dims { rows: 1, channels, height, width };
        let bands = Bands::of(mode, height, width);
        let multipliers = &data.modes.iter().find(|of| of.mode == mode)?.multipliers;
        let directions_of = directions.coefficients(dims, bands);
        let rest = directions.rest(channels, bands);
        let (mut along, mut own, mut squares) = (Vec::new(), Vec::new(), Vec::new());
        for part in parts(bands, channels) {
            for first in part.symbols.clone().step_by(BLOCK) {
                let (mut block, mut rests) = (Along::default(), Wide::default());
                for (lane, symbol) in (first..part.symbols.end).take(BLOCK).enumerate() {
                    // One plane, or one for each symbol.
                    let plane = if part.planes.len() == 1 { part.planes.start } else { symbol };
                    let multiplier = multipliers[plane];
                    for (along, direction) in block.0.iter_mut().zip(&directions_of) {
                        along[lane] = direction[symbol] * multiplier;
                    }
                    rests[lane] = rest[plane] * multiplier * multiplier;
                }
                let square = block.square();
                along.push(block);
                own.push(square);
                squares.push(std::array::from_fn(|lane| square[lane] + rests[lane]));
            }
        }
        Some(Self { along, own, squares, prices: prices(tables) })
    }

    /// Chooses the symbols of a row anew, which its elements gave; `signed` says whether the coarsest band may be below
    /// zero. None of the elements may be an exception.
    pub(super) fn choose(&self, recipe: &Recipe<'_>, row: &[[u8; 4]], signed: bool, symbols: &mut [i16]) {
        let (dims, bands) = (recipe.dims, recipe.bands);
        let Some(classes) = recipe.known_classes(0, dims.channels) else { return };
        let coefficients = coefficients(recipe, row);
        let mut row_choices = Vec::with_capacity(self.along.len());
        for part in parts(bands, dims.channels) {
            let kind = Kind::of(bands.levels, part.band, signed);
            let first = part.band * dims.channels;
            let offsets = part.planes.map(|plane| recipe.offsets(part.band, plane - first, classes[plane], signed));
            let offsets: Vec<Offsets> = offsets.collect();
            choices(kind, &offsets, &coefficients[part.symbols.clone()], &symbols[part.symbols], &mut row_choices);
        }
        let mut sums = Sums::of(row_choices.iter().map(|choice| &choice.errors[0]).zip(&self.along));
        let model = Model { bands, channels: dims.channels, signed, tables: &[], ratios: &recipe.ratios };
        let all: Vec<Part> = parts(bands, dims.channels).collect();
        let parts_of_band = all.len() / bands.count();
        let (mut parents, mut tables, mut lines) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            // Channel after channel.
            let by_channel = (0..parts_of_band).flat_map(|first| all.iter().skip(first).step_by(parts_of_band));
            for Part { band, planes, symbols: part, blocks } in by_channel.cloned() {
                let kind = Kind::of(bands.levels, band, signed);
                let scale = kind.scale(classes[planes.start]);
                tables.clear();
                let around = if planes.len() == 1 {
                    let width = bands.all()[band].width;
                    model.parents(band, planes.start % dims.channels, 1, symbols, &mut parents);
                    let parents = if band > 0 { &parents[..] } else { &[] };
                    tables.resize(part.len(), 0);
                    pick_tables(&symbols[part.clone()], width, scale, parents, (&mut lines, &mut tables));
                    Some((scale, width))
                } else {
                    tables.extend(classes[planes].iter().map(|class| kind.first_table(*class) as u16));
                    None
                };
                tables.resize(BLOCK * blocks.len(), 0);
                let plane = Plane {
                    around,
                    signed: kind.signed(),
                    coefficients: &coefficients[part.clone()],
                    along: &self.along[blocks.clone()],
                    own: &self.own[blocks.clone()],
                    squares: &self.squares[blocks.clone()],
                    prices: &self.prices,
                };
                plane.choose(&mut row_choices[blocks], &mut tables, &mut symbols[part], &mut sums);
            }
        }
    }
}

/// A plane among those of a row; or all of them, where each is one symbol and nothing is around any.
#[derive(Clone)]
struct Part {
    band: usize,
    planes: Range<usize>,
    symbols: Range<usize>,
    blocks: Range<usize>,
}

/// All parts of a row: band after band, channels inside.
fn parts(bands: Bands, channels: usize) -> impl Iterator<Item = Part> {
    let planes_of_part = if bands.symbols == 1 { channels.max(1) } else { 1 };
    let mut blocks_before = 0;
    (0..bands.count() * channels).step_by(planes_of_part).map(move |plane| {
        let (band, channel) = (plane / channels, plane % channels);
        let size = bands.all()[band].plane();
        let first = bands.start(band, channels) + channel * size;
        let symbols = first..first + size * planes_of_part;
        let blocks = blocks_before..blocks_before + symbols.len().div_ceil(BLOCK);
        blocks_before = blocks.end;
        Part { band, planes: plane..plane + planes_of_part, symbols, blocks }
    })
}

/// The coefficients of a row in steps of their planes.
fn coefficients(recipe: &Recipe<'_>, row: &[[u8; 4]]) -> Vec<f32> {
    let (dims, bands) = (recipe.dims, recipe.bands);
    let mut out = vec![0.0; bands.symbols * dims.channels];
    let mut space = Workspace::new(bands, dims.height, dims.width);
    for (channel, plane) in row.chunks_exact(dims.plane()).enumerate() {
        space.values.iter_mut().zip(plane).for_each(|(value, bytes)| *value = f32::from_le_bytes(*bytes));
        space.forward();
        for (band, shape) in bands.all().iter().enumerate() {
            let per_step = 1.0 / recipe.plane_step(recipe.step, band, channel);
            let from = bands.start(band, dims.channels) + channel * shape.plane();
            let to = &mut out[from..from + shape.plane()];
            to.iter_mut().zip(space.band(band)).for_each(|(to, value)| *to = value * per_step);
        }
    }
    out
}

/// One band of one channel, or what is treated as one.
struct Plane<'a> {
    /// How symbols count that are around others, and how wide lines are; none where nothing is around any.
    around: Option<(Scale, usize)>,
    signed: bool,
    coefficients: &'a [f32],
    along: &'a [Along],
    own: &'a [Wide],
    squares: &'a [Wide],
    prices: &'a [[f32; TOKENS]],
}

impl Plane<'_> {
    /// `tables` are those of the symbols, whole blocks; `sums` those of all errors along the directions.
    fn choose(&self, choices: &mut [Choice], tables: &mut [u16], symbols: &mut [i16], sums: &mut Sums) {
        for (at, choice) in choices.iter_mut().enumerate() {
            let costs = self.costs(at, choice, tables, sums);
            // Mostly all are best as they are.
            if are_less(&costs) {
                self.settle(at, costs, choice, tables, symbols, sums);
            }
        }
    }

    /// What the candidates of a block cost.
    #[inline(always)]
    fn costs(&self, at: usize, choice: &Choice, tables: &[u16], sums: &Sums) -> [Wide; CANDIDATES] {
        let (along, own, square) = (sums.dot(&self.along[at]), &self.own[at], &self.squares[at]);
        // With the errors of all others alone.
        let pull: Wide = std::array::from_fn(|i| 2.0 * (along[i] - choice.errors[0][i] * own[i]));
        let tables = &tables[BLOCK * at..][..BLOCK];
        let prices: [&[f32; TOKENS]; BLOCK] = std::array::from_fn(|i| &self.prices[usize::from(tables[i])]);
        std::array::from_fn(|candidate| {
            let (errors, tokens) = (&choice.errors[candidate], &choice.tokens[candidate]);
            let price: Wide = std::array::from_fn(|i| prices[i][usize::from(tokens[i]) % TOKENS]);
            std::array::from_fn(|i| errors[i] * (pull[i] + errors[i] * square[i]) + price[i])
        })
    }

    /// Chooses the symbols of a block one after the other; these are their first costs.
    #[inline(never)]
    fn settle(
        &self,
        at: usize,
        mut costs: [Wide; CANDIDATES],
        choice: &mut Choice,
        tables: &mut [u16],
        symbols: &mut [i16],
        sums: &mut Sums,
    ) {
        let mut lane = next_less(&costs, 0);
        while lane < BLOCK {
            // What is no number is never less.
            let one_first = choice.rank(lane, 1) < choice.rank(lane, 2);
            let best = [1, 2, 1][usize::from(!one_first)..][..2]
                .iter()
                .fold(0, |best, place| if costs[*place][lane] < costs[best][lane] { *place } else { best });
            sums.add(choice.errors[best][lane] - choice.errors[0][lane], &self.along[at], lane);
            choice.swap(lane, best);
            let place = BLOCK * at + lane;
            let candidates = candidates(self.coefficients[place], self.signed);
            self.replace(place, candidates[choice.rank(lane, 0)], symbols, tables);
            if lane + 1 == BLOCK {
                return;
            }
            // What a symbol becomes changes the costs of all others.
            costs = self.costs(at, choice, tables, sums);
            lane = next_less(&costs, lane + 1);
        }
    }

    /// Replaces a symbol and changes the tables of those that it is around.
    fn replace(&self, at: usize, symbol: i16, symbols: &mut [i16], tables: &mut [u16]) {
        let before = std::mem::replace(&mut symbols[at], symbol);
        let Some((scale, width)) = self.around else { return };
        let (before, after) = (scale.magnitude(before), scale.magnitude(symbol));
        let right = if (at + 1).is_multiple_of(width) { None } else { Some(at + 1) };
        for table in right.into_iter().chain([at + width]).filter(|at| *at < symbols.len()) {
            tables[table] = tables[table] + after - before;
        }
    }
}

/// Whether anything else is less than what symbols are.
#[inline(always)]
fn are_less(costs: &[Wide; CANDIDATES]) -> bool {
    less(costs).iter().fold(0, |all, less| all | less) != 0
}

/// The first lane from `first` on where that is so; [`BLOCK`] where there is none. Without branches: nobody foresees it.
#[inline(always)]
fn next_less(costs: &[Wide; CANDIDATES], first: usize) -> usize {
    let bits = less(costs).iter().enumerate().fold(1 << BLOCK, |bits, (lane, less)| bits | less << lane);
    (bits >> first << first).trailing_zeros() as usize
}

#[inline(always)]
fn less([is, one, other]: &[Wide; CANDIDATES]) -> [u32; BLOCK] {
    std::array::from_fn(|i| u32::from(one[i] < is[i]) | u32::from(other[i] < is[i]))
}

/// What bits cost by table and token. A token that a table does not have goes through the escape.
fn prices(tables: &[Table]) -> Vec<[f32; TOKENS]> {
    let mut out = vec![[0.0; TOKENS]; tables.len()];
    for kind in Kind::ALL {
        let alphabet = kind.alphabet();
        for index in kind.all_tables() {
            let table = &tables[index];
            let of = |token: u8| table.cost(token) as f32 + alphabet.open_bits(token) as f32;
            let one = |token: u8| if table.span(token).1 > 0 { of(token) } else { of(ESCAPE) };
            out[index] = std::array::from_fn(|token| PRICE * one(token as u8));
        }
    }
    out
}

#[cfg(test)]
mod tests;
