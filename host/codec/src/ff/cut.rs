//! What calibration knows of one cut: the model that both ends of a frame share.

use super::bounded::at_most;
use super::cancel::Aim;
use super::directions::Directions;
use super::quant::{Offsets, STEP_MAX, STEP_MIN};
use super::rans::Table;
use super::rival::{self, Rival};
use super::tables::{CLASSES, Kind, tables};
use super::{FfError, Mode, Order, RATES};
use crate::ff::geometry::{Bands, Dims};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::sync::{Arc, OnceLock};

/// Step multipliers are at most this and at least its reciprocal.
pub(super) const MULTIPLIER_MAX: f32 = 16.0;
/// Bits of an element: a row of one is all head.
const BITS_MAX: f32 = 65_536.0;
/// Each mode once.
const MODES_MAX: usize = Mode::ALL.len();
/// Longest name of a cut, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// Where a package comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// From made-up maps: no data, no model. Steps and classes travel in each frame.
    DataFree,
    /// From this many rows of activations.
    Calibrated {
        /// Rows.
        rows: u32,
    },
    /// From the model alone: activations of made-up inputs.
    MadeUp {
        /// Rows.
        rows: u32,
    },
}

/// Accuracy lost, as fractions of one: what was measured and its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Loss {
    /// Measured.
    pub mean: f32,
    /// Lower end.
    pub low: f32,
    /// Upper end.
    pub high: f32,
}

/// What a mode costs at a rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Bits an element with rANS, frame included: mean over calibration rows, small ones in a frame with others.
    pub bits_mean: f32,
    /// The 95th percentile of the same.
    pub bits_p95: f32,
    /// Relative squared error of the activations on calibration rows.
    pub nmse: f32,
    /// The same of the model's outputs, where somebody measured it.
    pub output_nmse: Option<f32>,
    /// Accuracy lost, where somebody measured it.
    pub loss: Option<Loss>,
}

impl Curve {
    /// Whether plans can be made with it: sizes and errors are numbers that are not negative, a loss lies in its interval.
    pub(super) fn is_sound(&self) -> bool {
        let size = |value: f32| (0.0..=BITS_MAX).contains(&value);
        let error = |value: f32| value.is_finite() && value >= 0.0;
        size(self.bits_mean)
            && size(self.bits_p95)
            && error(self.nmse)
            && self.output_nmse.is_none_or(error)
            && self.loss.is_none_or(|loss| {
                loss.low.is_finite() && loss.high.is_finite() && loss.low <= loss.mean && loss.mean <= loss.high
            })
    }
}

/// One mode at one rate. Lists are band after band, channels inside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RateData {
    pub(super) q: u8,
    pub(super) classes: Vec<u8>,
    pub(super) offsets: Vec<Offsets>,
    pub(super) curve: Curve,
}

/// One mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ModeData {
    pub(super) mode: Mode,
    /// Steps relative to the rate's; band after band, channels inside.
    pub(super) multipliers: Vec<f32>,
    #[serde(deserialize_with = "at_most::<_, _, RATES>")]
    pub(super) rates: Vec<RateData>,
}

/// Everything that is hashed and stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct CutData {
    pub(super) name: String,
    pub(super) model: [u8; 32],
    pub(super) origin: Origin,
    /// Channels, height, width; none for any.
    pub(super) shape: Option<[u32; 3]>,
    /// The step of rate 0; for any shape relative to the root mean square of a row.
    pub(super) base_step: f32,
    /// Of all tables, see [`Kind::first_table`].
    pub(super) frequencies: Vec<u16>,
    /// By kind and class, for frames whose classes travel.
    pub(super) offsets: Vec<Offsets>,
    #[serde(deserialize_with = "at_most::<_, _, MODES_MAX>")]
    pub(super) modes: Vec<ModeData>,
    /// The mode to use at each rate.
    pub(super) best: Vec<Option<Mode>>,
}

/// The calibration package of one cut, checked. Cloning shares the tables.
#[derive(Clone, Debug)]
pub struct CutPackage {
    pub(super) data: Arc<CutData>,
    pub(super) tables: Arc<Vec<Table>>,
    id: u64,
    aiming: Option<Arc<Aiming>>,
    cancelling: Option<Arc<CutPackage>>,
    rivals: Arc<[Rival]>,
}

/// What only encoders use.
#[derive(Debug)]
struct Aiming {
    directions: Directions,
    /// By mode, made when they are first asked for.
    aims: [OnceLock<Option<Aim>>; Mode::ALL.len()],
}

impl PartialEq for CutPackage {
    fn eq(&self, other: &Self) -> bool {
        let parts = |of: &Self| (of.directions().cloned(), of.cancelling().cloned(), of.rivals.clone());
        self.data == other.data && parts(self) == parts(other)
    }
}

/// What `calibrate` made from the made-up maps of `prior.rs`; a test makes it again and compares.
static DATA_FREE: &[u8] = include_bytes!("data_free.bin");

impl CutPackage {
    /// Checks everything that encoding and decoding rely on.
    pub(super) fn new(data: CutData) -> Result<Self, FfError> {
        let no = |what, message: String| Err(FfError::Calibration { what, message });
        if data.name.len() > NAME_BYTES_MAX {
            return no("name", format!("at most {NAME_BYTES_MAX} bytes"));
        }
        let Some(tables) = tables(&data.frequencies) else {
            return no("frequencies", "they are no tables that add up to 4096".to_owned());
        };
        if data.offsets.len() != Kind::ALL.len() * CLASSES {
            return no("offsets", "not one for each kind and class".to_owned());
        }
        if data.best.len() != RATES {
            return no("best modes", format!("not {RATES}"));
        }
        // With the coarsest rate and the greatest multiplier a step must still be one.
        if !(STEP_MIN * 32.0..=STEP_MAX / 32.0 / 256.0).contains(&data.base_step) {
            return no("step", format!("{} is out of range", data.base_step));
        }
        if data.shape.is_none() && !data.modes.is_empty() {
            return no("modes", "a package for any shape cannot hold any".to_owned());
        }
        if let Some([channels, height, width]) = data.shape {
            if [channels, height, width].contains(&0) {
                return no("shape", "an extent is none".to_owned());
            }
            let shape = [1, channels, height, width].map(|extent| extent as usize);
            Dims::of(&shape, Order::Nchw)
                .map_err(|e| FfError::Calibration { what: "shape", message: e.to_string() })?;
        }
        for (at, mode) in data.modes.iter().enumerate() {
            if data.modes[..at].iter().any(|other| other.mode == mode.mode) {
                return no("modes", format!("{} is there twice", mode.mode.name()));
            }
            check_mode(mode, data.shape.unwrap_or_default())?;
        }
        let bytes = stored(&data)?;
        let hash: [u8; 32] = Sha256::digest(&bytes).into();
        let id = hash.first_chunk().map_or(0, |first| u64::from_le_bytes(*first));
        Ok(Self {
            data: Arc::new(data),
            tables: Arc::new(tables),
            id,
            aiming: None,
            cancelling: None,
            rivals: [].into(),
        })
    }

    /// The same with other data; directions, rivals, and the package beside it for errors that cancel, stay.
    pub(super) fn with_data(&self, data: CutData) -> Result<Self, FfError> {
        let (cancelling, rivals) = (self.cancelling.clone(), self.rivals.clone());
        let new = Self { cancelling, rivals, ..Self::new(data)? };
        match self.directions() {
            Some(directions) => new.with_directions(directions.clone()),
            None => Ok(new),
        }
    }

    /// The same with another package of this cut beside it: one with directions, whose tables are for the symbols that an
    /// encoder chooses with them. The id stays. Errors where it is none, or of another cut.
    pub fn with_cancelling(self, other: Self) -> Result<Self, FfError> {
        let no = |message: &str| Err(FfError::Calibration { what: "cancelling", message: message.to_owned() });
        let same = |of: &Self| (of.data.name.clone(), of.data.model, of.data.shape, of.data.origin);
        if other.directions().is_none() || other.cancelling.is_some() {
            return no("no package with directions alone");
        }
        if self.directions().is_some() || same(&self) != same(&other) {
            return no("of another cut");
        }
        Ok(Self { cancelling: Some(Arc::new(other)), ..self })
    }

    /// The package for frames whose errors cancel, where calibration found directions.
    pub fn cancelling(&self) -> Option<&Self> {
        self.cancelling.as_deref()
    }

    /// The same with what other codecs cost here. The id stays. Errors where one of them is FF, there twice, or unknown.
    pub fn with_rivals(self, rivals: Vec<Rival>) -> Result<Self, FfError> {
        rival::check(&rivals)?;
        Ok(Self { rivals: rivals.into(), ..self })
    }

    /// What other codecs cost here, where that was measured.
    pub fn rivals(&self) -> &[Rival] {
        &self.rivals
    }

    /// The same with directions along which an encoder makes errors cancel. The id stays: who decodes need not know of
    /// them. Errors where they are not for this cut's rows.
    pub(super) fn with_directions(self, directions: Directions) -> Result<Self, FfError> {
        directions.check(self.data.shape)?;
        let aiming = Aiming { directions, aims: Default::default() };
        Ok(Self { aiming: Some(Arc::new(aiming)), ..self })
    }

    /// The directions along which an encoder with this package makes errors cancel.
    pub fn directions(&self) -> Option<&Directions> {
        self.aiming.as_ref().map(|aiming| &aiming.directions)
    }

    /// The directions in the coefficients of a mode.
    pub(super) fn aim(&self, mode: Mode) -> Option<&Aim> {
        let aiming = self.aiming.as_ref()?;
        let aim = || Aim::new(&self.data, &self.tables, &aiming.directions, mode);
        aiming.aims[mode as usize].get_or_init(aim).as_ref()
    }

    /// The package that needs no calibration: frames carry their steps and classes. Errors only if this program was
    /// built wrong.
    pub fn data_free() -> Result<&'static Self, FfError> {
        static SLOT: OnceLock<Result<CutPackage, FfError>> = OnceLock::new();
        SLOT.get_or_init(|| Self::read(DATA_FREE)).as_ref().map_err(FfError::clone)
    }

    /// Reads one cut's stored form.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, FfError> {
        let data = postcard::take_from_bytes(bytes).map(|(data, _)| data);
        Self::new(data.map_err(|e| FfError::Calibration { what: "cut", message: e.to_string() })?)
    }

    /// The first eight bytes of the SHA-256 of its stored form: what frames name.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The cut's name.
    pub fn name(&self) -> &str {
        &self.data.name
    }

    /// The model's digest; zeros in the data-free package.
    pub fn model(&self) -> &[u8; 32] {
        &self.data.model
    }

    /// Where it comes from.
    pub fn origin(&self) -> Origin {
        self.data.origin
    }

    /// Channels, height and width it is for; none for any.
    pub fn row_shape(&self) -> Option<[usize; 3]> {
        self.data.shape.map(|shape| shape.map(|extent| extent as usize))
    }

    /// Modes and rates it holds, with what they cost.
    pub fn curves(&self) -> impl Iterator<Item = (Mode, u8, Curve)> {
        self.data.modes.iter().flat_map(|mode| mode.rates.iter().map(|rate| (mode.mode, rate.q, rate.curve)))
    }

    /// What a mode costs at a rate; none where it was not calibrated.
    pub fn curve(&self, mode: Mode, q: u8) -> Option<Curve> {
        self.curves().find(|(m, r, _)| (*m, *r) == (mode, q)).map(|(_, _, curve)| curve)
    }

    /// The mode to use at a rate, where calibration chose one.
    pub fn best_mode(&self, q: u8) -> Option<Mode> {
        self.data.best.get(usize::from(q)).copied().flatten()
    }

    /// The same with measured losses entered, by mode and rate. The id changes.
    pub fn with_losses(&self, loss: impl Fn(Mode, u8) -> Option<Loss>) -> Result<Self, FfError> {
        self.with_curves(|mode, q, curve| Curve { loss: loss(mode, q), ..curve })
    }

    /// The same with what was measured elsewhere entered, by mode and rate. The id changes.
    pub fn with_curves(&self, measured: impl Fn(Mode, u8, Curve) -> Curve) -> Result<Self, FfError> {
        let mut data = CutData::clone(&self.data);
        for mode in &mut data.modes {
            mode.rates.iter_mut().for_each(|rate| rate.curve = measured(mode.mode, rate.q, rate.curve));
        }
        self.with_data(data)
    }

    /// The same, said to be from activations of made-up inputs. The id changes.
    pub fn made_up(&self) -> Result<Self, FfError> {
        let mut data = CutData::clone(&self.data);
        if let Origin::Calibrated { rows } = data.origin {
            data.origin = Origin::MadeUp { rows };
        }
        self.with_data(data)
    }

    /// The same with these modes as the best, by rate, and without what is not among them. The id changes.
    pub fn with_best(&self, best: impl Fn(u8) -> Option<Mode>) -> Result<Self, FfError> {
        self.with_best_and(best, &[])
    }

    /// As [`CutPackage::with_best`], and with some modes at all rates, whether they are the best or not.
    pub fn with_best_and(&self, best: impl Fn(u8) -> Option<Mode>, kept: &[Mode]) -> Result<Self, FfError> {
        let mut data = CutData::clone(&self.data);
        data.best = (0..RATES as u8).map(&best).collect();
        for mode in &mut data.modes {
            mode.rates.retain(|rate| best(rate.q) == Some(mode.mode) || kept.contains(&mode.mode));
        }
        data.modes.retain(|mode| !mode.rates.is_empty());
        self.with_data(data)
    }

    pub(super) fn mode(&self, mode: Mode) -> Option<&ModeData> {
        self.data.modes.iter().find(|m| m.mode == mode)
    }
}

fn stored(data: &CutData) -> Result<Vec<u8>, FfError> {
    postcard::to_stdvec(data).map_err(|e| FfError::Calibration { what: "cut", message: e.to_string() })
}

fn check_mode(mode: &ModeData, [channels, height, width]: [u32; 3]) -> Result<(), FfError> {
    let no = |what, message: &str| {
        Err(FfError::Calibration { what, message: format!("{} of {}", message, mode.mode.name()) })
    };
    let planes = Bands::of(mode.mode, height as usize, width as usize).count() * channels as usize;
    if mode.multipliers.len() != planes {
        return no("multipliers", "not one for each plane");
    }
    if !mode.multipliers.iter().all(|m| (1.0 / MULTIPLIER_MAX..=MULTIPLIER_MAX).contains(m)) {
        return no("multipliers", "one is out of range");
    }
    if mode.rates.iter().any(|rate| usize::from(rate.q) >= RATES) {
        return no("rates", "there are others than 0 to 31");
    }
    for (at, rate) in mode.rates.iter().enumerate() {
        if mode.rates[..at].iter().any(|other| other.q == rate.q) {
            return no("rates", "one is there twice");
        }
        if !rate.curve.is_sound() {
            return no("curves", "a size, an error or a loss is no number or out of range");
        }
        if rate.classes.len() != planes || rate.offsets.len() != planes {
            return no("classes", "not one for each plane");
        }
        if rate.classes.iter().any(|class| usize::from(*class) >= CLASSES) {
            return no("classes", "one is out of range");
        }
    }
    Ok(())
}

impl Loss {
    /// A mean with the half width of its interval.
    pub fn around(mean: f32, half_width: f32) -> Self {
        Self { mean, low: mean - half_width, high: mean + half_width }
    }
}
