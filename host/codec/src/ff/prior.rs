//! The made-up maps behind the data-free package: smooth noise, cut off as a ReLU does or not at all.
//!
//! Integers and single-precision sums and products only, so that every machine makes the same maps.

use super::cut::{CutData, Origin};
use super::geometry::{Bands, Dims};
use super::quant::{rate_factor, root_mean_square};
use super::survey::{Counts, Survey};
use super::tables::{CLASSES, Kind, NEIGHBOURS, class_mean};
use super::token::TOKENS;
use super::{Mode, RATES};

/// Lines and columns of a map.
const SIDE: usize = 40;
/// How far noise is smeared, in elements to each side; twice over.
const REACH: [usize; 4] = [0, 1, 2, 4];
/// What is cut off, in standard deviations; the last one stands for no ReLU.
pub(super) const THRESHOLDS: [f32; 6] = [-0.8, -0.2, 0.2, 0.7, 1.3, f32::NEG_INFINITY];

/// Noise of one seed: a sum of four uniform numbers each.
fn noise(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(97);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as f32 / 16_777_216.0 - 0.5
    };
    (0..count).map(|_| next() + next() + next() + next()).collect()
}

/// Mean over `reach` elements to each side, along lines and then along columns.
fn smear(map: &[f32], side: usize, reach: usize) -> Vec<f32> {
    let along = |map: &[f32], stride: usize, other: usize| -> Vec<f32> {
        let at = |line: usize, i: usize| map[line * other + i.min(side - 1) * stride];
        let mut out = vec![0.0; map.len()];
        for line in 0..side {
            for i in 0..side {
                let sum: f32 = (0..=2 * reach).map(|d| at(line, (i + d).saturating_sub(reach))).sum();
                out[line * other + i * stride] = sum / (2 * reach + 1) as f32;
            }
        }
        out
    };
    along(&along(map, 1, side), side, 1)
}

/// Channels of one row: all reaches with two shares of unsmeared noise, cut off at a threshold.
pub(super) fn row(seed: u32, side: usize, threshold: f32) -> Vec<f32> {
    let mut row = Vec::new();
    for (i, reach) in REACH.into_iter().enumerate() {
        for (j, share) in [0.1f32, 0.4].into_iter().enumerate() {
            let seed = seed * 64 + (i * 4 + j * 2) as u32;
            let mut map = smear(&smear(&noise(seed, side * side), side, reach), side, reach);
            let bytes: Vec<_> = map.iter().map(|v| v.to_le_bytes()).collect();
            let scale = root_mean_square(&bytes).max(1e-6);
            // The grains have a deviation of 0.577.
            let grains = noise(seed + 1, side * side);
            for (value, grain) in map.iter_mut().zip(grains) {
                let value_here = *value / scale + grain * share;
                *value = if threshold.is_finite() { (value_here - threshold).max(0.0) } else { value_here };
            }
            row.extend(map);
        }
    }
    row
}

/// Weights before anything was counted: magnitudes fall off geometrically, with the mean of the class, less or more by what
/// is around.
fn guess(table: usize) -> [f64; TOKENS] {
    let wide = 4 * CLASSES * NEIGHBOURS;
    let kind = Kind::ALL[if table < wide { table / (CLASSES * NEIGHBOURS) } else { 4 }];
    let in_kind = table - kind.first_table(0);
    let (class, context) = (in_kind / kind.contexts(), in_kind % kind.contexts());
    let around = [0.4, 1.0, 1.4, 1.8, 2.2][context % NEIGHBOURS];
    let below = if kind == Kind::Detail { [0.1, 0.5, 1.0, 1.5, 1.8, 2.2][context / NEIGHBOURS] } else { 1.0 };
    let mean = class_mean(class as u8) * around * below;
    let stay = mean / (1.0 + mean);
    let mut weights = [0.0; TOKENS];
    let mut share = 1.0 - stay;
    for symbol in 0..512i16 {
        for symbol in if symbol > 0 && kind.signed() { vec![symbol, -symbol] } else { vec![symbol] } {
            let half = if symbol != 0 && kind.signed() { 0.5 } else { 1.0 };
            weights[usize::from(kind.alphabet().token(symbol))] += share * half;
        }
        share *= stay;
    }
    weights
}

/// Makes the data-free package.
pub(super) fn make() -> CutData {
    let mut counts = Counts::new();
    for (seed, threshold) in THRESHOLDS.into_iter().enumerate() {
        let bytes: Vec<_> = row(seed as u32 + 1, SIDE, threshold).iter().map(|v| v.to_le_bytes()).collect();
        let dims = Dims { rows: 1, channels: bytes.len() / (SIDE * SIDE), height: SIDE, width: SIDE };
        let base = root_mean_square(&bytes) / 32.0;
        for mode in Mode::ALL {
            let bands = Bands::of(mode, SIDE, SIDE);
            let ratios = super::recipe::ratios(bands, dims.channels, |_, _| 1.0);
            for q in (2..RATES as u8).step_by(2) {
                let steps = vec![base * rate_factor(q); bands.count() * dims.channels];
                let rows = [&bytes[..]];
                Survey { dims, bands, steps, ratios: ratios.clone(), chosen: None, rows: &rows }.run(&mut counts);
            }
        }
    }
    CutData {
        name: "data-free".to_owned(),
        model: [0; 32],
        origin: Origin::DataFree,
        shape: None,
        base_step: 1.0 / 32.0,
        frequencies: counts.frequencies(16.0, guess),
        offsets: counts.offsets(),
        modes: Vec::new(),
        best: vec![None; RATES],
    }
}
