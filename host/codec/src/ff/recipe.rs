//! What both ends of a frame agree on before its first chunk.

use super::cut::{CutPackage, MULTIPLIER_MAX, RateData};
use super::geometry::{Bands, Dims};
use super::quant::{Offsets, rate_factor};
use super::tables::{CLASSES, Kind};
use super::{Entropy, FfError, Mode, Order};

/// The settled parts of a frame.
pub(super) struct Recipe<'a> {
    pub(super) dims: Dims,
    pub(super) bands: Bands,
    pub(super) entropy: Entropy,
    pub(super) order: Order,
    pub(super) bounded: bool,
    /// Steps and classes travel with each chunk.
    pub(super) in_band: bool,
    /// With rANS, classes travel for every plane.
    pub(super) plane_classes: bool,
    pub(super) cut: &'a CutPackage,
    rate: Option<&'a RateData>,
    multipliers: Option<&'a [f32]>,
    /// The rate's step; a fraction of a row's root mean square where the package is for any shape.
    pub(super) step: f32,
    /// By channel; for two levels.
    pub(super) ratios: Vec<[i32; 4]>,
}

/// The choices that a frame states.
#[derive(Clone, Copy)]
pub(super) struct Choice {
    pub(super) mode: Mode,
    pub(super) entropy: Entropy,
    pub(super) order: Order,
    pub(super) q: u8,
    pub(super) bounded: bool,
    pub(super) plane_classes: bool,
}

impl<'a> Recipe<'a> {
    pub(super) fn new(choice: Choice, dims: Dims, cut: &'a CutPackage) -> Result<Self, FfError> {
        let Choice { mode, entropy, order, q, bounded, plane_classes } = choice;
        if usize::from(q) >= super::RATES {
            return Err(FfError::Rate(q));
        }
        if let Some(expected) = cut.row_shape()
            && expected != dims.row_shape()
        {
            return Err(FfError::Cut { cut: cut.name().to_owned(), expected, got: dims.row_shape() });
        }
        let bands = Bands::of(mode, dims.height, dims.width);
        let in_band = bounded || cut.row_shape().is_none();
        let data = if in_band { None } else { cut.mode(mode) };
        let rate = data.and_then(|data| data.rates.iter().find(|rate| rate.q == q));
        if !in_band && rate.is_none() {
            return Err(FfError::NotCalibrated { cut: cut.name().to_owned(), mode: mode.name(), q });
        }
        let multipliers = data.map(|data| &data.multipliers[..]);
        let step = cut.data.base_step * rate_factor(q);
        let multiplier = |band: usize, channel: usize| multipliers.map_or(1.0, |m| m[band * dims.channels + channel]);
        Ok(Self {
            dims,
            bands,
            entropy,
            order,
            bounded,
            in_band,
            plane_classes,
            cut,
            rate,
            multipliers,
            step,
            ratios: ratios(bands, dims.channels, multiplier),
        })
    }

    fn multiplier(&self, band: usize, channel: usize) -> f32 {
        self.multipliers.map_or(1.0, |m| m[band * self.dims.channels + channel])
    }

    /// Whether all channels are treated alike and without regard to place: a chunk is then as good as one plane.
    pub(super) fn alike(&self) -> bool {
        self.bands.levels == 0 && self.in_band && !(self.plane_classes && self.entropy == Entropy::Rans)
    }

    /// The step of a plane where the row's is `step`.
    pub(super) fn plane_step(&self, step: f32, band: usize, channel: usize) -> f32 {
        step * self.multiplier(band, channel)
    }

    /// The least step of a channel.
    pub(super) fn least_step(&self, step: f32, channel: usize) -> f32 {
        (0..self.bands.count()).map(|band| self.plane_step(step, band, channel)).fold(f32::MAX, f32::min)
    }

    /// Where the bins of a plane are reconstructed.
    pub(super) fn offsets(&self, band: usize, channel: usize, class: u8, signed: bool) -> Offsets {
        match self.rate {
            _ if self.bounded => [0; 4],
            Some(rate) => rate.offsets[band * self.dims.channels + channel],
            None => {
                let kind = Kind::of(self.bands.levels, band, signed);
                self.cut.data.offsets[kind as usize * CLASSES + usize::from(class)]
            }
        }
    }

    /// The classes of a chunk's planes, band after band, where both ends have them.
    pub(super) fn known_classes(&self, first: usize, channels: usize) -> Option<Vec<u8>> {
        let rate = self.rate?;
        let band = |band: usize| &rate.classes[band * self.dims.channels + first..][..channels];
        Some((0..self.bands.count()).map(band).collect::<Vec<_>>().concat())
    }
}

/// Steps of the first four bands relative to the first one's, by channel, in 1/256; none without a second level.
pub(super) fn ratios(bands: Bands, channels: usize, multiplier: impl Fn(usize, usize) -> f32) -> Vec<[i32; 4]> {
    if bands.levels < 2 {
        return Vec::new();
    }
    let ratio = |channel: usize, band: usize| {
        let ratio = multiplier(band, channel) / multiplier(0, channel);
        (ratio.clamp(1.0 / MULTIPLIER_MAX, MULTIPLIER_MAX) * 256.0 + 0.5) as i32
    };
    (0..channels).map(|channel| std::array::from_fn(|band| ratio(channel, band))).collect()
}
