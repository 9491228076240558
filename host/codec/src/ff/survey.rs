//! What rows of activations look like in a mode at a rate: the counting under calibration.

use super::coder::{Model, pick_tables};
use super::geometry::{Bands, Dims};
use super::quant::{Offsets, STEPS_MAX, load, magnitude_sum, offset};
use super::tables::{CLASSES, Kind, TABLES, class_of, frequencies};
use super::token::TOKENS;
use super::transform::Workspace;

/// A bin with fewer values is reconstructed at its middle.
const BIN_VALUES_MIN: u64 = 20;

/// Values that fell into a bin, and the sum of their distances from its middle in steps.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bin {
    count: u64,
    rest: f64,
}

impl Bin {
    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.rest += other.rest;
    }
}

fn offsets_of(bins: &[Bin; 4]) -> Offsets {
    bins.map(|bin| if bin.count < BIN_VALUES_MIN { 0 } else { offset(bin.rest / bin.count as f64) })
}

/// One plane over all rows.
#[derive(Clone, Debug, Default)]
struct PlaneStats {
    symbols: usize,
    magnitudes: u64,
    bins: [Bin; 4],
}

/// Tokens by table and bins by kind and class, over everything that was surveyed.
pub(super) struct Counts {
    tokens: Vec<[f64; TOKENS]>,
    bins: Vec<[Bin; 4]>,
}

impl Counts {
    pub(super) fn new() -> Self {
        Self { tokens: vec![[0.0; TOKENS]; TABLES], bins: vec![[Bin::default(); 4]; Kind::ALL.len() * CLASSES] }
    }

    /// Frequencies of all tables; `prior` gives weights that add up to one for each, and counts as much as `trust` symbols.
    pub(super) fn frequencies(&self, trust: f64, prior: impl Fn(usize) -> [f64; TOKENS]) -> Vec<u16> {
        let table = |(index, tokens): (usize, &[f64; TOKENS])| {
            let before = prior(index);
            frequencies(&std::array::from_fn(|token| tokens[token] + trust * before[token]))
        };
        self.tokens.iter().enumerate().flat_map(table).collect()
    }

    /// Offsets by kind and class.
    pub(super) fn offsets(&self) -> Vec<Offsets> {
        self.bins.iter().map(offsets_of).collect()
    }
}

/// Rows in a mode. Steps are by band after band, channels inside.
pub(super) struct Survey<'a> {
    pub(super) dims: Dims,
    pub(super) bands: Bands,
    pub(super) steps: Vec<f32>,
    pub(super) ratios: Vec<[i32; 4]>,
    /// Each with its channels one after another.
    pub(super) rows: &'a [&'a [[u8; 4]]],
    /// The symbols of each, band after band and channels inside, where an encoder chose them; else coefficients are rounded.
    pub(super) chosen: Option<&'a [Vec<i16>]>,
}

/// What a survey found, band after band, channels inside.
pub(super) struct Found {
    pub(super) classes: Vec<u8>,
    pub(super) offsets: Vec<Offsets>,
    /// Sum of squared errors over sum of squares.
    pub(super) nmse: f32,
}

impl Survey<'_> {
    /// Counts tokens into `counts` and gives what is particular to these planes.
    pub(super) fn run(&self, counts: &mut Counts) -> Found {
        let (dims, bands) = (self.dims, self.bands);
        let mut stats = vec![PlaneStats::default(); bands.count() * dims.channels];
        self.each_channel(|_, channel, space, symbols| {
            for (band, shape) in bands.all().iter().enumerate() {
                let plane = band * dims.channels + channel;
                stats[plane].add(space.band(band), self.steps[plane], &symbols[shape.before..][..shape.plane()]);
            }
        });
        let classes: Vec<u8> = stats.iter().map(|s| class_of(s.magnitudes, s.symbols)).collect();
        let offsets: Vec<Offsets> = stats.iter().map(|s| offsets_of(&s.bins)).collect();
        let (mut error, mut energy) = (0.0f64, 0.0f64);
        self.each_channel(|source, channel, space, symbols| {
            self.count(channel, &classes, &stats, symbols, counts);
            for (band, shape) in bands.all().iter().enumerate() {
                let plane = band * dims.channels + channel;
                space.dequantise(band, self.steps[plane], offsets[plane], &symbols[shape.before..][..shape.plane()]);
            }
            space.inverse();
            for (value, source) in space.values.iter().zip(source) {
                let source = f64::from(f32::from_le_bytes(*source));
                if source.is_finite() {
                    error += (f64::from(*value) - source).powi(2);
                    energy += source * source;
                }
            }
        });
        Found { classes, offsets, nmse: if energy > 0.0 { (error / energy) as f32 } else { 0.0 } }
    }

    /// Hands every channel of every row over: its elements, its coefficients and its symbols.
    fn each_channel(&self, mut take: impl FnMut(&[[u8; 4]], usize, &mut Workspace, &[i16])) {
        let (dims, bands) = (self.dims, self.bands);
        let mut space = Workspace::new(bands, dims.height, dims.width);
        let mut symbols = vec![0i16; bands.symbols];
        for (number, row) in self.rows.iter().enumerate() {
            let chosen = self.chosen.and_then(|chosen| chosen.get(number));
            for (channel, source) in row.chunks_exact(dims.plane().max(1)).enumerate() {
                let plane_step = |band: usize| self.steps[band * dims.channels + channel];
                let limit = STEPS_MAX * (0..bands.count()).map(plane_step).fold(f32::MAX, f32::min);
                if !load(source, limit, &mut space.values) {
                    let beyond = |value: &&mut f32| value.is_nan() || value.abs() > limit;
                    space.values.iter_mut().filter(beyond).for_each(|value| *value = 0.0);
                }
                space.forward();
                for (band, shape) in bands.all().iter().enumerate() {
                    let symbols = &mut symbols[shape.before..][..shape.plane()];
                    match chosen {
                        Some(chosen) => {
                            let from = bands.start(band, dims.channels) + channel * shape.plane();
                            symbols.copy_from_slice(&chosen[from..from + shape.plane()]);
                        }
                        None => space.quantise(band, plane_step(band), false, symbols),
                    }
                }
                take(source, channel, &mut space, &symbols);
            }
        }
    }

    fn count(&self, channel: usize, classes: &[u8], stats: &[PlaneStats], symbols: &[i16], counts: &mut Counts) {
        let ratios = self.ratios.get(channel..).unwrap_or_default();
        let model = Model { bands: self.bands, channels: 1, signed: true, tables: &[], ratios };
        let (mut parents, mut tables, mut lines) = (Vec::new(), Vec::new(), Vec::new());
        for (band, shape) in self.bands.all().iter().enumerate() {
            let plane = &symbols[shape.before..][..shape.plane()];
            let place = band * self.dims.channels + channel;
            model.parents(band, 0, 1, symbols, &mut parents);
            let parents = if band > 0 { &parents[..] } else { &[] };
            tables.resize(plane.len(), 0);
            // Planes without negatives may stand in a chunk of either kind.
            for signed in [false, true] {
                let kind = Kind::of(self.bands.levels, band, signed);
                if kind.signed() != signed || (!signed && plane.iter().any(|s| *s < 0)) {
                    continue;
                }
                let scale = kind.scale(classes[place]);
                pick_tables(plane, shape.width, scale, parents, (&mut lines, &mut tables));
                for (symbol, table) in plane.iter().zip(&tables) {
                    counts.tokens[usize::from(*table)][usize::from(kind.alphabet().token(*symbol))] += 1.0;
                }
                let bins = &mut counts.bins[kind as usize * CLASSES + usize::from(classes[place])];
                bins.iter_mut().zip(&stats[place].bins).for_each(|(all, bin)| all.merge(bin));
            }
        }
    }
}

impl PlaneStats {
    fn add(&mut self, coefficients: &[f32], step: f32, symbols: &[i16]) {
        self.symbols += symbols.len();
        self.magnitudes += magnitude_sum(symbols);
        for (coefficient, symbol) in coefficients.iter().zip(symbols) {
            let magnitude = symbol.unsigned_abs();
            let steps = f64::from(*coefficient) / f64::from(step);
            let bin = &mut self.bins[usize::from(magnitude.min(3))];
            bin.count += 1;
            bin.rest += if magnitude == 0 { steps } else { steps.abs() - f64::from(magnitude) };
        }
    }
}
