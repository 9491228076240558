//! From sample activations of a cut to its package: the statistical part of calibration. What a mode loses in accuracy,
//! and which weights bands have, the caller measures with the model.

use super::cut::{Curve, CutData, CutPackage, MULTIPLIER_MAX, ModeData, Origin, RateData};
use super::directions::Directions;
use super::geometry::{Bands, Dims};
use super::quant::{STEP_MAX, STEP_MIN, rate_factor, root_mean_square};
use super::rans::TOTAL;
use super::recipe::{Choice, Recipe};
use super::survey::{Counts, Survey};
use super::token::TOKENS;
use super::{Entropy, FfError, Mode, Order, RATES, Settings, chunk, encode, turned};
use bps_types::{DataType, HostTensor};
use std::borrow::Cow;

/// Keeps planes of no weight from steps without end, as a share of the mean weight.
const WEIGHT_FLOOR: f32 = 0.03;
/// As many symbols the data-free tables count for in each table.
const PRIOR_SYMBOLS: f64 = 8.0;
/// The step of rate 0, as a share of the activations' root mean square. Errors that cancel may be larger: four rates.
const FINEST: f32 = 1.0 / 32.0;
const FINEST_CANCELLING: f32 = 1.0 / 16.0;
/// Frames that are made to see their sizes.
const SIZED_FRAMES_MAX: usize = 32;
/// So many elements make a frame whose head does not count, and no more rows travel together where they are few.
const FRAME_ELEMENTS: usize = 4_096;
const FRAME_ROWS_MAX: usize = 8;

/// How much an error in each band costs at the network's end: for some modes a list, band after band, channels inside.
/// Modes without one get the same step everywhere.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights(pub Vec<(Mode, Vec<f32>)>);

/// What to calibrate.
#[derive(Clone, Copy, Debug)]
pub struct Calibration<'a> {
    /// The cut's name in the package.
    pub name: &'a str,
    /// SHA-256 of the model file.
    pub model: [u8; 32],
    /// FP32 activations, all of the same row shape; any number of rows each.
    pub samples: &'a [HostTensor],
    /// Order of their memory.
    pub order: Order,
    /// Modes to have.
    pub modes: &'a [Mode],
    /// Rates to have.
    pub rates: &'a [u8],
    /// Weights of bands.
    pub weights: &'a Weights,
    /// Along which errors are to cancel.
    pub directions: Option<&'a Directions>,
}

/// Calibrates a cut: steps, classes, bin means, tables and sizes. The best mode at each rate is the one with the least
/// `bits + log2(error) / 2`, until the caller knows better. Errors where samples do not fit together or a list does not fit
/// the shape.
pub fn calibrate(what: &Calibration<'_>) -> Result<CutPackage, FfError> {
    let no = |what, message: &str| Err(FfError::Calibration { what, message: message.to_owned() });
    let mut dims: Option<Dims> = None;
    for sample in what.samples {
        if sample.data_type() != DataType::Fp32 {
            return Err(FfError::Type(sample.data_type()));
        }
        let this = Dims::of(sample.shape(), what.order)?;
        if dims.is_some_and(|dims| dims.row_shape() != this.row_shape()) {
            return no("samples", "they have rows of different shapes");
        }
        dims = Some(this);
    }
    let Some(dims) = dims.filter(|dims| dims.row_elements() > 0) else { return no("samples", "there are none") };
    if let Some(q) = what.rates.iter().find(|q| usize::from(**q) >= RATES) {
        return Err(FfError::Rate(*q));
    }
    let planar: Vec<Cow<'_, [[u8; 4]]>> = what.samples.iter().map(|sample| planar(sample, what.order, dims)).collect();
    let rows: Vec<&[[u8; 4]]> = planar.iter().flat_map(|sample| sample.chunks_exact(dims.row_elements())).collect();
    let squares = rows.iter().map(|row| f64::from(root_mean_square(row)).powi(2)).sum::<f64>();
    let spread = (squares / rows.len().max(1) as f64).sqrt() as f32;
    let finest = if what.directions.is_some() { FINEST_CANCELLING } else { FINEST };
    let base_step = (spread * finest).clamp(STEP_MIN * 32.0, STEP_MAX / 32.0 / 256.0);

    let counted = |chooser: Option<&CutPackage>| counted(what, dims, base_step, &rows, chooser);
    let cut = counted(None)?;
    let Some(directions) = what.directions else { return with_sizes(cut, dims, &rows) };
    // Symbols that are chosen to cancel are others than those that rounding gives: the tables are for them.
    let chooser = cut.with_directions(directions.clone())?;
    let cut = counted(Some(&chooser))?.with_directions(directions.clone())?;
    with_sizes(cut, dims, &rows)
}

/// Counts the symbols of all modes and rates, as `chooser` chooses them or as rounding gives them.
fn counted(
    what: &Calibration<'_>,
    dims: Dims,
    base_step: f32,
    rows: &[&[[u8; 4]]],
    chooser: Option<&CutPackage>,
) -> Result<CutPackage, FfError> {
    let mut counts = Counts::new();
    let mut modes = Vec::new();
    for &mode in what.modes {
        modes.push(calibrate_mode(what, mode, dims, base_step, rows, chooser, &mut counts)?);
    }
    let prior = &CutPackage::data_free()?.data;
    let (before, _) = prior.frequencies.as_chunks::<TOKENS>();
    let data = CutData {
        name: what.name.to_owned(),
        model: what.model,
        origin: Origin::Calibrated { rows: rows.len() as u32 },
        shape: Some(dims.row_shape().map(|extent| extent as u32)),
        base_step,
        frequencies: counts.frequencies(PRIOR_SYMBOLS, |table| before[table].map(|f| f64::from(f) / f64::from(TOTAL))),
        offsets: counts.offsets(),
        modes,
        best: vec![None; RATES],
    };
    CutPackage::new(data)
}

/// One row after another, channels one after another.
fn planar(sample: &HostTensor, order: Order, dims: Dims) -> Cow<'_, [[u8; 4]]> {
    let (elements, _) = sample.data().as_chunks::<4>();
    match order {
        Order::Nchw => Cow::Borrowed(elements),
        Order::Nhwc => Cow::Owned(turned(elements, dims.plane(), dims.channels)),
    }
}

fn calibrate_mode(
    what: &Calibration<'_>,
    mode: Mode,
    dims: Dims,
    base_step: f32,
    rows: &[&[[u8; 4]]],
    chooser: Option<&CutPackage>,
    counts: &mut Counts,
) -> Result<ModeData, FfError> {
    let bands = Bands::of(mode, dims.height, dims.width);
    let given = what.weights.0.iter().find(|(of, _)| *of == mode).map(|(_, weights)| &weights[..]);
    let multipliers = multipliers(given, bands.count(), dims.channels)?;
    let mut data = ModeData { mode, multipliers, rates: Vec::new() };
    for &q in what.rates {
        let step = base_step * rate_factor(q);
        let steps = data.multipliers.iter().map(|m| m * step).collect();
        let ratios = super::recipe::ratios(bands, dims.channels, |band, channel| {
            data.multipliers[band * dims.channels + channel]
        });
        let chosen = chooser.map(|cut| chosen(cut, mode, q, dims, rows)).transpose()?;
        let found = Survey { dims, bands, steps, ratios, rows, chosen: chosen.as_deref() }.run(counts);
        let curve = Curve { nmse: found.nmse, ..Curve::default() };
        data.rates.push(RateData { q, classes: found.classes, offsets: found.offsets, curve });
    }
    Ok(data)
}

/// The symbols that an encoder with this package chooses for each row.
fn chosen(cut: &CutPackage, mode: Mode, q: u8, dims: Dims, rows: &[&[[u8; 4]]]) -> Result<Vec<Vec<i16>>, FfError> {
    let dims = Dims { rows: 1, ..dims };
    let (entropy, order) = (Entropy::Rans, Order::Nchw);
    let choice = Choice { mode, entropy, order, q, bounded: false, plane_classes: false };
    let recipe = Recipe::new(choice, dims, cut)?;
    let aim = cut.aim(mode);
    Ok(rows.iter().map(|row| chunk::symbols(&recipe, 0, row, recipe.step, None, aim).1).collect())
}

/// Steps go with the inverse root of weights; their geometric mean is one. Weights are noisy, so half of each is its
/// band's mean.
fn multipliers(weights: Option<&[f32]>, bands: usize, channels: usize) -> Result<Vec<f32>, FfError> {
    let no = |message: &str| Err(FfError::Calibration { what: "weights", message: message.to_owned() });
    let Some(weights) = weights else { return Ok(vec![1.0; bands * channels]) };
    if weights.len() != bands * channels {
        return no("not one for each plane");
    }
    if !weights.iter().all(|w| w.is_finite() && *w >= 0.0) {
        return no("one is negative or not finite");
    }
    let band_means = weights.chunks_exact(channels).map(|band| band.iter().sum::<f32>() / channels as f32);
    let smoothed = weights.chunks_exact(channels).zip(band_means);
    let smoothed: Vec<f32> = smoothed.flat_map(|(band, mean)| band.iter().map(move |w| 0.5 * w + 0.5 * mean)).collect();
    let mean = smoothed.iter().sum::<f32>() / smoothed.len() as f32;
    if !(mean.is_normal() && mean > 0.0) {
        return Ok(vec![1.0; bands * channels]);
    }
    let raw: Vec<f32> = smoothed.iter().map(|w| 1.0 / (w / mean + WEIGHT_FLOOR).sqrt()).collect();
    let scale = (raw.iter().map(|m| f64::from(*m).ln()).sum::<f64>() / raw.len() as f64).exp() as f32;
    Ok(raw.iter().map(|m| (m / scale).clamp(1.0 / MULTIPLIER_MAX, MULTIPLIER_MAX)).collect())
}

/// Rows of so many elements that share a frame where sizes are measured: small ones travel together between hosts.
pub fn rows_together(elements: usize) -> usize {
    (FRAME_ELEMENTS / elements.max(1)).clamp(1, FRAME_ROWS_MAX)
}

/// Enters the sizes of real frames and the best modes.
fn with_sizes(cut: CutPackage, dims: Dims, rows: &[&[[u8; 4]]]) -> Result<CutPackage, FfError> {
    let frames: Vec<_> = rows.chunks(rows_together(dims.row_elements())).collect();
    let stride = frames.len().div_ceil(SIZED_FRAMES_MAX).max(1);
    let mut data = CutData::clone(&cut.data);
    let mut least = [f64::INFINITY; RATES];
    for mode in &mut data.modes {
        for rate in &mut mode.rates {
            let settings = Settings { package: Some(&cut), ..Settings::new(mode.mode, rate.q) };
            let mut sizes = Vec::new();
            for rows in frames.iter().step_by(stride) {
                let shape = vec![rows.len(), dims.channels, dims.height, dims.width];
                let rows = HostTensor::new(DataType::Fp32, shape, rows.concat().as_flattened().to_vec().into())
                    .map_err(|e| FfError::Calibration { what: "samples", message: e.to_string() })?;
                let elements = rows.rows() * dims.row_elements();
                sizes.push(8.0 * encode(&settings, &rows)?.len() as f32 / elements as f32);
            }
            sizes.sort_by(f32::total_cmp);
            rate.curve.bits_mean = sizes.iter().sum::<f32>() / sizes.len() as f32;
            rate.curve.bits_p95 = sizes[(sizes.len() * 95).div_ceil(100).saturating_sub(1)];
            let cost = f64::from(rate.curve.bits_mean) + f64::from(rate.curve.nmse).max(1e-30).log2() / 2.0;
            let q = usize::from(rate.q);
            if cost < least[q] {
                least[q] = cost;
                data.best[q] = Some(mode.mode);
            }
        }
    }
    cut.with_data(data)
}
