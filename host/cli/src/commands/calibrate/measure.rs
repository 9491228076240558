//! One value of the model: its package, and what each mode and rate does to the model's answers.

use super::loss::{Answer, Judge, output_error};
use super::net::{Net, Place, Row};
use super::probe;
use anyhow::{Context, Result};
use bps_codec::ff::{self, Curve, CutPackage, Loss, Mode, Order, RATE_LIST, Settings, Weights};
use bps_types::HostTensor;
use std::collections::BTreeMap;
use std::time::Instant;

/// With fewer rows nothing can be said of a loss.
const ROWS_MIN: usize = 16;
/// A mode that surely loses more is not measured at coarser rates.
const HOPELESS: f32 = 0.2;
/// The rate at which flat and weighted steps are compared.
const COMPARED: u8 = 14;
/// int8-zstd, which needs no calibration.
const INT8_ZSTD: u8 = 5;

/// What values are measured with.
pub(super) struct Bench<'a> {
    pub(super) net: &'a Net,
    pub(super) judge: &'a Judge,
    /// Inputs for tables and weights.
    pub(super) tables: Vec<&'a Row>,
    /// Inputs for errors and losses: none of the others.
    pub(super) tests: Vec<&'a Row>,
    /// Their numbers, for the judge.
    pub(super) test_rows: Vec<usize>,
    /// Their answers without a codec.
    pub(super) clean: Vec<Answer>,
    /// Whether inputs are made up.
    pub(super) made_up: bool,
    /// Tail runs, a mode, that weights may take; 0: all steps are equal.
    pub(super) probes: usize,
    /// What may be spent on one value.
    pub(super) seconds: f64,
}

/// What a codec does to a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Effect {
    /// Of an element.
    pub(super) bits: f32,
    /// Relative squared error of the outputs.
    pub(super) output_nmse: f32,
    /// Accuracy lost.
    pub(super) loss: Option<Loss>,
}

/// A value with its package.
pub(super) struct Calibrated {
    pub(super) place: Place,
    pub(super) package: CutPackage,
    /// Whether steps follow the model's sensitivity.
    pub(super) weighted: bool,
    /// The rival.
    pub(super) int8: Effect,
}

impl Bench<'_> {
    /// Calibrates one value and measures it.
    pub(super) fn value(&self, place: &Place) -> Result<Calibrated> {
        let tables = self.net.head(&self.tables, place.cut)?;
        let tests = self.net.head(&self.tests, place.cut)?;
        let samples = tables.iter().map(|row| shaped(&row[place.at], place)).collect::<Result<Vec<_>>>()?;
        let begun = Instant::now();
        let few = tests.len().min(ROWS_MIN);
        let int8_few = self.effect(place, &tests[..few], int8)?;
        let row_seconds = begun.elapsed().as_secs_f64() / few.max(1) as f64;
        let (rows, stride) = affordable(self.seconds / row_seconds.max(1e-9), tests.len());
        let tests = &tests[..rows];
        let int8 = if rows > few { self.effect(place, tests, int8)? } else { int8_few };
        let flat = self.package(place, &samples, Weights::default())?;
        let (package, weighted) = match self.weighted(place, &samples, &tables)? {
            Some(weighted) if self.worth(place, &weighted, tests)? < self.worth(place, &flat, tests)? => {
                (weighted, true)
            }
            _ => (flat, false),
        };
        let mut found: BTreeMap<(usize, u8), Effect> = BTreeMap::new();
        for (number, mode) in Mode::ALL.into_iter().enumerate() {
            for q in RATE_LIST.iter().copied().step_by(stride) {
                let effect = self.effect(place, tests, ff_coder(&package, mode, q))?;
                found.insert((number, q), effect);
                if effect.loss.is_some_and(|loss| loss.low > HOPELESS) {
                    break;
                }
            }
        }
        let package = entered(&package, &found)?;
        let package = if self.made_up { package.made_up()? } else { package };
        Ok(Calibrated { place: place.clone(), package, weighted, int8 })
    }

    fn package(&self, place: &Place, samples: &[HostTensor], weights: Weights) -> Result<CutPackage> {
        let model = self.net.graph().digest;
        let (name, order, rates) = (place.name.as_str(), Order::Nchw, &RATE_LIST[..]);
        let what = ff::Calibration { name, model, samples, order, modes: &Mode::ALL, rates, weights: &weights };
        ff::calibrate(&what).with_context(|| format!("value {name} cannot be calibrated"))
    }

    fn weighted(&self, place: &Place, samples: &[HostTensor], tables: &[Row]) -> Result<Option<CutPackage>> {
        if self.probes == 0 {
            return Ok(None);
        }
        let mut weights = Vec::new();
        for mode in Mode::ALL {
            weights.push((mode, probe::weights(self.net, place, mode, tables, self.probes)?));
        }
        self.package(place, samples, Weights(weights)).map(Some)
    }

    /// Bits of an element, an output error of one being worth none: half a bit for each halving of it. Of FF-H.
    fn worth(&self, place: &Place, package: &CutPackage, tests: &[Row]) -> Result<f32> {
        let effect = self.effect(place, tests, ff_coder(package, Mode::Haar1, COMPARED))?;
        Ok(worth(effect.bits, effect.output_nmse))
    }

    /// Sends a value of some test rows through a codec, and the rows on through the rest of the model.
    fn effect(
        &self,
        place: &Place,
        rows: &[Row],
        code: impl Fn(&HostTensor) -> Result<(HostTensor, usize)>,
    ) -> Result<Effect> {
        let (mut bytes, mut coded) = (0, Vec::with_capacity(rows.len()));
        for row in rows {
            let (value, size) = code(&shaped(&row[place.at], place)?)?;
            let mut row = row.clone();
            row[place.at] = HostTensor::new(value.data_type(), row[place.at].shape().to_vec(), value.data().clone())?;
            bytes += size;
            coded.push(row);
        }
        let answers = answers(&self.net.tail(place.cut, &coded.iter().collect::<Vec<_>>())?)?;
        let clean: Vec<&Answer> = self.clean.iter().take(rows.len()).collect();
        let (loss, _) = self.judge.loss(&self.test_rows[..rows.len()], &clean, &answers);
        let bits = 8.0 * bytes as f32 / (rows.len() * place.elements()).max(1) as f32;
        Ok(Effect { bits, output_nmse: output_error(&clean, &answers), loss })
    }
}

/// What was measured goes into the curves; at each rate the mode with the least [`worth`] is the best. FF-S keeps all.
fn entered(package: &CutPackage, found: &BTreeMap<(usize, u8), Effect>) -> Result<CutPackage> {
    let of = |mode: Mode, q: u8| found.get(&(Mode::ALL.iter().position(|m| *m == mode)?, q));
    let with = package.with_curves(|mode, q, curve| match of(mode, q) {
        Some(effect) => Curve { output_nmse: Some(effect.output_nmse), loss: effect.loss, ..curve },
        None => curve,
    })?;
    let best = |q: u8| {
        let of = |mode: Mode| with.curve(mode, q).map(|c| (worth(c.bits_mean, c.output_nmse.unwrap_or(c.nmse)), mode));
        Mode::ALL.into_iter().filter_map(of).min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, mode)| mode)
    };
    Ok(with.with_best_and(best, &[Mode::Scalar])?)
}

fn worth(bits: f32, error: f32) -> f32 {
    bits + 0.5 * error.max(1e-12).log2()
}

/// Rows and the step between rates that so many coded rows pay for.
fn affordable(coded_rows: f64, rows: usize) -> (usize, usize) {
    let modes = Mode::ALL.len() as f64;
    for stride in [1, 2, 4] {
        let each = coded_rows / (modes * RATE_LIST.len().div_ceil(stride) as f64);
        if each >= rows as f64 || stride == 4 || each >= 128.0 {
            return (rows.min((each as usize).max(ROWS_MIN)), stride);
        }
    }
    (rows.min(ROWS_MIN), 4)
}

/// As FF takes it.
fn shaped(value: &HostTensor, place: &Place) -> Result<HostTensor> {
    Ok(HostTensor::new(value.data_type(), place.shape.clone(), value.data().clone())?)
}

fn ff_coder(package: &CutPackage, mode: Mode, q: u8) -> impl Fn(&HostTensor) -> Result<(HostTensor, usize)> {
    move |value| {
        let settings = Settings { package: Some(package), ..Settings::new(mode, q) };
        let frame = ff::encode(&settings, value)?;
        Ok((ff::decode(&frame, value.shape(), Order::Nchw, Some(package))?, frame.len()))
    }
}

fn int8(value: &HostTensor) -> Result<(HostTensor, usize)> {
    let packed = bps_codec::encode(INT8_ZSTD, 0, value)?;
    Ok((bps_codec::decode(&packed, value.shape())?, packed.data.len()))
}

/// Outputs as numbers.
pub(super) fn answers(rows: &[Row]) -> Result<Vec<Answer>> {
    let one = |row: &Row| row.iter().map(|tensor| Ok(tensor.to_f32()?)).collect::<Result<Answer>>();
    rows.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_time_means_fewer_rows_and_rates() {
        assert_eq!(affordable(1e9, 256), (256, 1));
        assert_eq!(affordable(48.0 * 130.0, 256), (130, 1));
        assert_eq!(affordable(48.0 * 70.0, 256), (140, 2));
        assert_eq!(affordable(1.0, 256), (16, 4));
        assert_eq!(affordable(1.0, 4), (4, 4));
    }

    #[test]
    fn a_halved_error_is_worth_half_a_bit() {
        assert_eq!(worth(2.0, 0.25) - worth(2.0, 0.125), 0.5);
        assert!(worth(1.0, 0.0).is_finite());
    }
}
