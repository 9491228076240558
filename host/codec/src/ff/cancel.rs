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

use super::coder::Model;
use super::cut::CutData;
use super::directions::{DIRECTIONS_MAX, Directions};
use super::geometry::{Bands, Dims};
use super::quant::{SYMBOL_MAX, dequantise};
use super::rans::Table;
use super::recipe::Recipe;
use super::tables::{Kind, Scale};
use super::token::{ESCAPE, TOKENS};
use super::transform::Workspace;
use super::{Mode, Offsets};

/// What a bit may cost in squared steps of a coefficient of mean weight. Where steps are fine, 2 ln 2 / 12 = 0.115 would be
/// what a bit saves; with more, coarse rates gain and fine ones lose nothing.
const PRICE: f32 = 0.23;
/// Times that all symbols are gone through.
const ROUNDS: usize = 2;

/// Magnitudes up to this may become 0: no coefficient is moved by three steps or more.
const NEAR: i16 = 2;

/// A number for each direction; those that are not there are 0.
type Along = [f32; DIRECTIONS_MAX];

/// The directions of a value in the coefficients of one mode, in steps of their planes.
#[derive(Debug)]
pub(super) struct Aim {
    /// By coefficient: band after band, channels inside.
    along: Vec<Along>,
    /// By plane: what is left.
    rest: Vec<f32>,
    /// Bits by table and token, open bits counted in.
    bits: Vec<[f32; TOKENS]>,
}

impl Aim {
    /// None where the package has nothing for the mode.
    pub(super) fn new(data: &CutData, tables: &[Table], directions: &Directions, mode: Mode) -> Option<Self> {
        let [channels, height, width] = data.shape?.map(|extent| extent as usize);
        let dims = Dims { rows: 1, channels, height, width };
        let bands = Bands::of(mode, height, width);
        let multipliers = &data.modes.iter().find(|of| of.mode == mode)?.multipliers;
        let mut along = vec![[0.0; DIRECTIONS_MAX]; bands.symbols * channels];
        for (k, direction) in directions.coefficients(dims, bands).iter().enumerate() {
            along.iter_mut().zip(direction).for_each(|(along, part)| along[k] = *part);
        }
        let mut at = 0;
        for (band, shape) in bands.all().iter().enumerate() {
            for multiplier in &multipliers[band * channels..][..channels] {
                let plane = &mut along[at..at + shape.plane()];
                plane.as_flattened_mut().iter_mut().for_each(|part| *part *= multiplier);
                at += shape.plane();
            }
        }
        let rest = directions.rest(channels, bands);
        let rest = rest.iter().zip(multipliers).map(|(rest, multiplier)| rest * multiplier * multiplier).collect();
        Some(Self { along, rest, bits: bits(tables) })
    }

    /// Chooses the symbols of a row anew, which its elements gave; `signed` says whether the coarsest band may be below
    /// zero. None of the elements may be an exception.
    pub(super) fn choose(&self, recipe: &Recipe<'_>, row: &[[u8; 4]], signed: bool, symbols: &mut [i16]) {
        let (dims, bands) = (recipe.dims, recipe.bands);
        let Some(classes) = recipe.known_classes(0, dims.channels) else { return };
        let coefficients = coefficients(recipe, row);
        let plane_of = |band: usize, channel: usize| {
            let index = band * dims.channels + channel;
            let offsets = recipe.offsets(band, channel, classes[index], signed);
            (index, Values::of(offsets))
        };
        let mut sums: Along = [0.0; DIRECTIONS_MAX];
        for (band, shape) in bands.all().iter().enumerate() {
            for channel in 0..dims.channels {
                let (_, values) = plane_of(band, channel);
                let from = bands.start(band, dims.channels) + channel * shape.plane();
                for at in from..from + shape.plane() {
                    add(&mut sums, values.of_symbol(symbols[at]) - coefficients[at], &self.along[at]);
                }
            }
        }
        let model = Model { bands, channels: dims.channels, signed, tables: &[], ratios: &recipe.ratios };
        let (mut parents, mut above) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            for channel in 0..dims.channels {
                for (band, shape) in bands.all().iter().enumerate() {
                    model.parents(band, channel, 1, symbols, &mut parents);
                    let (index, values) = plane_of(band, channel);
                    let kind = Kind::of(bands.levels, band, signed);
                    let from = bands.start(band, dims.channels) + channel * shape.plane();
                    let part = from..from + shape.plane();
                    let plane = Plane {
                        values,
                        scale: kind.scale(classes[index]),
                        kind,
                        rest: self.rest[index],
                        bits: &self.bits,
                        parents: if band > 0 { &parents } else { &[] },
                        width: shape.width,
                    };
                    let (coefficients, along) = (&coefficients[part.clone()], &self.along[part.clone()]);
                    plane.choose(coefficients, along, &mut symbols[part], &mut sums, &mut above);
                }
            }
        }
    }
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

/// What symbols of a plane come back as, in steps: by magnitude 0, 1, 2, and what is added to greater ones.
#[derive(Clone, Copy)]
struct Values([f32; 4]);

impl Values {
    fn of(offsets: Offsets) -> Self {
        let (mut values, mut more) = ([0.0; 3], [0.0]);
        dequantise(&[0, 1, 2], 1.0, offsets, &mut values);
        dequantise(&[3], 1.0, offsets, &mut more);
        Self([values[0], values[1], values[2], more[0] - 3.0])
    }

    #[inline(always)]
    fn of_symbol(&self, symbol: i16) -> f32 {
        let magnitude = symbol.unsigned_abs();
        let value = match magnitude {
            0..3 => self.0[usize::from(magnitude)],
            _ => f32::from(magnitude) + self.0[3],
        };
        // The zero bin's value has its own sign.
        if symbol < 0 { -value } else { value }
    }
}

/// One band of one channel.
struct Plane<'a> {
    values: Values,
    scale: Scale,
    kind: Kind,
    rest: f32,
    bits: &'a [[f32; TOKENS]],
    parents: &'a [u8],
    width: usize,
}

impl Plane<'_> {
    /// `sums` are those of all errors along the directions; `above` is room that is used again and again.
    fn choose(
        &self,
        coefficients: &[f32],
        along: &[Along],
        symbols: &mut [i16],
        sums: &mut Along,
        above: &mut Vec<u16>,
    ) {
        let alphabet = self.kind.alphabet();
        above.clear();
        above.resize(self.width, 0);
        let mut left = 0;
        for (at, (symbol, (value, along))) in symbols.iter_mut().zip(coefficients.iter().zip(along)).enumerate() {
            let column = at % self.width;
            if column == 0 {
                left = 0;
            }
            let table = self.scale.table(left + above[column], self.parents.get(at).copied().unwrap_or(0));
            let bits = &self.bits[table];
            let before = self.values.of_symbol(*symbol) - value;
            let own = dot(along, along);
            // With the errors of all others alone.
            let pull = 2.0 * (dot(sums, along) - before * own);
            let square = own + self.rest;
            let cost = |candidate: i16| {
                let error = self.values.of_symbol(candidate) - value;
                let bits = bits[usize::from(alphabet.token(candidate)) % TOKENS];
                error * (pull + error * square) + PRICE * bits
            };
            let (mut best, mut least) = (*symbol, cost(*symbol));
            for candidate in self.neighbours(*value) {
                let cost = cost(candidate);
                // What is no number is never less.
                if cost < least {
                    (best, least) = (candidate, cost);
                }
            }
            if best != *symbol {
                *symbol = best;
                add(sums, self.values.of_symbol(best) - value - before, along);
            }
            left = self.scale.magnitude(*symbol);
            above[column] = left;
        }
    }

    /// The symbols below and above a value in steps, and none at all where that is near.
    fn neighbours(&self, value: f32) -> [i16; 3] {
        let low = (value.abs() as i16).clamp(0, SYMBOL_MAX);
        let high = (low + 1).min(SYMBOL_MAX);
        let none = if low <= NEAR { 0 } else { low };
        match value < 0.0 {
            false => [low, high, none],
            true if self.kind.signed() => [-low, -high, -none],
            true => [0; 3],
        }
    }
}

#[inline(always)]
fn add(sums: &mut Along, error: f32, along: &Along) {
    sums.iter_mut().zip(along).for_each(|(sum, part)| *sum += error * part);
}

/// `a . b`, added up in pairs: a chain of sums would be what everything waits for.
#[inline(always)]
fn dot(a: &Along, b: &Along) -> f32 {
    const HALF: usize = DIRECTIONS_MAX / 2;
    let eight: [f32; HALF] = std::array::from_fn(|i| a[i] * b[i] + a[i + HALF] * b[i + HALF]);
    let four: [f32; HALF / 2] = std::array::from_fn(|i| eight[i] + eight[i + HALF / 2]);
    (four[0] + four[2]) + (four[1] + four[3])
}

/// Bits by table and token. A token that a table does not have goes through the escape.
fn bits(tables: &[Table]) -> Vec<[f32; TOKENS]> {
    let mut out = vec![[0.0; TOKENS]; tables.len()];
    for kind in Kind::ALL {
        let alphabet = kind.alphabet();
        for index in kind.all_tables() {
            let table = &tables[index];
            let of = |token: u8| table.cost(token) as f32 + alphabet.open_bits(token) as f32;
            let one = |token: u8| if table.span(token).1 > 0 { of(token) } else { of(ESCAPE) };
            out[index] = std::array::from_fn(|token| one(token as u8));
        }
    }
    out
}

#[cfg(test)]
mod tests;
