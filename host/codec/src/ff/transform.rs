//! One channel of one row: from values to symbols of all bands and back.

use super::geometry::Bands;
use super::haar;
use super::quant::{Offsets, ROUND_COARSE, ROUND_DETAIL, ROUND_NEAREST, dequantise, quantise};

/// Buffers that are used for channel after channel.
pub(super) struct Workspace {
    bands: Bands,
    width: usize,
    /// The channel's elements.
    pub(super) values: Vec<f32>,
    /// The four bands of the first level, and of the second.
    levels: [Vec<f32>; 2],
}

impl Workspace {
    pub(super) fn new(bands: Bands, height: usize, width: usize) -> Self {
        let level = |at: usize| match bands.levels.checked_sub(at) {
            Some(1..) => vec![0.0; 4 * bands.all()[if at == 0 { bands.count() - 1 } else { 0 }].plane()],
            _ => Vec::new(),
        };
        Self { bands, width, values: vec![0.0; height * width], levels: [level(0), level(1)] }
    }

    /// Transforms what is in `values`.
    pub(super) fn forward(&mut self) {
        let [first, second] = &mut self.levels;
        if self.bands.levels > 0 {
            haar::forward(&self.values, self.width, first);
        }
        if self.bands.levels > 1 {
            haar::forward(&first[..first.len() / 4], self.width.div_ceil(2), second);
        }
    }

    /// The coefficients of a band after [`Workspace::forward`].
    pub(super) fn band(&self, band: usize) -> &[f32] {
        match (self.bands.levels, band) {
            (0, _) => &self.values,
            (1, _) => quarter(&self.levels[0], band),
            (_, 0..4) => quarter(&self.levels[1], band),
            (_, _) => quarter(&self.levels[0], band - 3),
        }
    }

    /// The symbols of a band after [`Workspace::forward`].
    pub(super) fn quantise(&self, band: usize, step: f32, bounded: bool, symbols: &mut [i16]) {
        let round = match band {
            _ if bounded => ROUND_NEAREST,
            0 => ROUND_COARSE,
            _ => ROUND_DETAIL,
        };
        quantise(self.band(band), step, round, symbols);
    }

    /// Takes the symbols of a band; after those of all bands [`Workspace::inverse`] makes `values`.
    pub(super) fn dequantise(&mut self, band: usize, step: f32, offsets: Offsets, symbols: &[i16]) {
        let coefficients = match (self.bands.levels, band) {
            (0, _) => &mut self.values[..],
            (1, _) => quarter_mut(&mut self.levels[0], band),
            (_, 0..4) => quarter_mut(&mut self.levels[1], band),
            (_, _) => quarter_mut(&mut self.levels[0], band - 3),
        };
        dequantise(symbols, step, offsets, coefficients);
    }

    /// Undoes [`Workspace::forward`].
    pub(super) fn inverse(&mut self) {
        let [first, second] = &mut self.levels;
        if self.bands.levels > 1 {
            let coarse = first.len() / 4;
            haar::inverse(second, self.width.div_ceil(2), &mut first[..coarse]);
        }
        if self.bands.levels > 0 {
            haar::inverse(first, self.width, &mut self.values);
        }
    }
}

fn quarter(bands: &[f32], band: usize) -> &[f32] {
    &bands[band * (bands.len() / 4)..][..bands.len() / 4]
}

fn quarter_mut(bands: &mut [f32], band: usize) -> &mut [f32] {
    let size = bands.len() / 4;
    &mut bands[band * size..][..size]
}
