//! One value of the model, from its activations to its package.
//!
//! 1. Half of the rows give activations for tables, and by [`probe`] weights for steps.
//!    Where a run for each element of a few rows can be paid for, [`slopes`] gives the directions along which errors cancel:
//!    then all that follows is done twice, for FF-H and for FF-C.
//! 2. Each mode has equal or weighted steps, whichever needs fewer bits at equal output error; seen on the same half.
//! 3. The other half goes through every mode at the rates on offer, from the middle to the coarse ones and then to the fine
//!    ones. A mode is not followed where it loses more than 20 points (or, where nothing is judged, more than half of the
//!    outputs' squares), nor to rates finer than one at which no row changes and the error is below int8's.
//! 4. At each rate the mode is best that has the fewest bits too many: over what the best of all needs for the same output
//!    error. FF-S is kept at all rates.
//!
//! 5. Codecs that need no calibration are measured on the same rows, see [`rivals`](super::rivals).
//!
//! A rate that was not measured has no output error, and the loss of the next coarser one that was; the coarsest ones have
//! that of the last one that was. So no rate claims to lose less than was seen. The upper ends of losses are those that all
//! rates together allow, see [`pooled`](super::pooled).

use super::choose;
use super::data::even;
use super::loss::{Answer, Judge};
use super::measure::{Effect, Trial, answers, shaped};
use super::net::{Net, Place, Row};
use super::plan::{self, COMPARED, Plan, Task};
use super::pooled::Pooled;
use super::{probe, rivals, slopes};
use anyhow::{Context, Result};
use bps_codec::ff::{self, Curve, CutPackage, Directions, Loss, Mode, Order, RATE_LIST, Weights};
use bps_engine::PixelInput;
use bps_types::HostTensor;
use std::collections::BTreeMap;

/// int8-zstd: the rival that every table shows.
const INT8_ZSTD: u8 = 5;

/// A mode that loses more, as a share of one, is not followed.
const HOPELESS_LOSS: f32 = 0.2;
/// Where nothing is judged: one with a larger output error.
const HOPELESS_ERROR: f32 = 0.5;

/// What values are measured with.
pub(in crate::commands) struct Bench<'a> {
    pub(super) net: &'a Net,
    pub(super) judge: &'a Judge,
    /// Inputs for tables and weights.
    pub(super) tables: Vec<&'a Row>,
    /// Inputs for errors and losses: none of the others.
    pub(super) tests: Vec<&'a Row>,
    /// Their numbers, for the judge.
    pub(super) test_numbers: Vec<usize>,
    /// Their answers without a codec.
    pub(super) clean: Vec<Answer>,
    /// Whether inputs are made up.
    pub(super) made_up: bool,
    /// Tail runs that weights may take; 0: all steps are equal.
    pub(super) probes: usize,
    /// What may be spent on one value.
    pub(super) seconds: f64,
}

/// A value with its package.
pub(in crate::commands) struct Calibrated {
    pub(super) place: Place,
    /// With the one for FF-C beside it, where there is one.
    pub(in crate::commands) package: CutPackage,
    /// What was found of FF-H, and of FF-C where there is that.
    pub(super) found: Vec<Found>,
    /// Rows behind errors and losses.
    pub(super) rows: usize,
    /// int8-zstd.
    pub(super) int8: Effect,
}

/// What was found of one of FF's codecs.
pub(super) struct Found {
    /// Modes whose steps follow the model's sensitivity.
    pub(super) weighted: Vec<Mode>,
    /// Bits with which it has the rival's output error; true: beyond its finest rate, so guessed.
    pub(super) at_int8: Option<(f32, bool)>,
    /// What all modes and rates together say of losses.
    pooled: Option<Pooled>,
}

/// What a value's tables are made from.
struct Samples<'a> {
    place: &'a Place,
    tensors: &'a [HostTensor],
    /// Their rows as they cross the cut.
    rows: &'a [Row],
    /// As probing found them.
    weights: Option<Weights>,
}

/// Effects by mode and rate.
type Effects = BTreeMap<(Mode, u8), Effect>;

impl Bench<'_> {
    /// Calibrates one value and measures it. `done` hears the share of the work that is behind.
    pub(in crate::commands) fn value(&self, place: &Place, done: &dyn Fn(f32)) -> Result<Calibrated> {
        let modes = modes(place)?;
        let plan = Plan::of(&self.task(place, modes.len())?);
        let tables = self.net.head(&some(&self.tables, plan.tables), place.cut)?;
        let chosen: Vec<usize> = even(self.tests.len(), plan.tests).collect();
        let tests = self.net.head(&some(&self.tests, plan.tests), place.cut)?;
        let samples = tables.iter().map(|row| shaped(&row[place.at], place)).collect::<Result<Vec<_>>>()?;
        done(0.1);
        let weights = match plan.probes {
            0 => None,
            runs => {
                let rows: Vec<&Row> = even(tables.len(), plan.probe_rows).map(|at| &tables[at]).collect();
                probe::weights(self.net, place, &rows, runs)?
            }
        };
        done(0.3);
        let slope_rows: Vec<&Row> = even(tables.len(), plan.slope_rows).map(|at| &tables[at]).collect();
        let directions = slopes::directions(self.net, place, &slope_rows)?;
        done(0.4);
        let samples = Samples { place, tensors: &samples, rows: &tables, weights };
        let trial = Trial {
            net: self.net,
            place,
            rows: tests.iter().collect(),
            numbers: chosen.iter().map(|at| self.test_numbers[*at]).collect(),
            clean: chosen.iter().map(|at| &self.clean[*at]).collect(),
            judge: self.judge,
        };
        let rivals = rivals::measure(&trial, self.pixels_of(place))?;
        let int8 = rivals.iter().find(|rival| rival.codec == INT8_ZSTD).map(|rival| rival.effect);
        let int8 = int8.context("int8-zstd is no codec")?;
        let course = Course { plan: &plan, modes: &modes, trial: &trial, int8: &int8 };
        let half = if directions.is_some() { 0.3 } else { 0.6 };
        let (package, plain) = self.codec(&course, &samples, None, &|share| done(0.4 + half * share))?;
        let mut package = package.with_rivals(rivals.iter().map(|rival| rival.rival(plain.pooled)).collect())?;
        let mut found = vec![plain];
        if directions.is_some() {
            let (beside, cancelling) =
                self.codec(&course, &samples, directions.as_ref(), &|share| done(0.7 + 0.3 * share))?;
            package = package.with_cancelling(beside)?;
            found.push(cancelling);
        }
        Ok(Calibrated { place: place.clone(), package, found, rows: trial.rows.len(), int8 })
    }

    /// Calibrates one of FF's codecs: without directions FF-H (and FF-S), with them FF-C.
    fn codec(
        &self,
        course: &Course<'_>,
        samples: &Samples<'_>,
        directions: Option<&Directions>,
        done: &dyn Fn(f32),
    ) -> Result<(CutPackage, Found)> {
        let &Course { plan, modes, trial, int8 } = course;
        let weights = match &samples.weights {
            Some(weights) => self.worthwhile(samples, directions, modes, plan.choose_rows, weights)?,
            None => Weights::default(),
        };
        done(0.2);
        let package = self.package(samples, directions, modes, &RATE_LIST, &weights)?;
        let mut effects = Effects::new();
        for (number, mode) in modes.iter().enumerate() {
            let rates: Vec<u8> = RATE_LIST.iter().copied().step_by(plan.stride).collect();
            let measured = walk(&rates, |q| trial.ff(&package, *mode, q), hopeless, |effect| clear(effect, int8))?;
            effects.extend(measured.into_iter().map(|(q, effect)| ((*mode, q), effect)));
            done(0.3 + 0.7 * (number + 1) as f32 / modes.len() as f32);
        }
        // FF-S is packed, and packed symbols do not cancel.
        let kept: &[Mode] = if directions.is_some() { &[] } else { &[Mode::Scalar] };
        let pooled = Pooled::of(&effects.values().collect::<Vec<_>>(), trial.rows.len());
        let package = entered(&package, modes, &effects, pooled, kept)?;
        let package = if self.made_up { package.made_up()? } else { package };
        let points: Vec<choose::Point> = effects.values().map(|e| (e.bits, e.output_nmse)).collect();
        let weighted = weights.0.iter().map(|(mode, _)| *mode).collect();
        Ok((package, Found { weighted, at_int8: choose::bits_at_or_beyond(&points, int8.output_nmse), pooled }))
    }

    /// What of so many seconds goes to each value.
    pub(super) fn shares(&self, places: &[Place], seconds: f64) -> Result<Vec<f64>> {
        let tasks: Result<Vec<Task>> = places.iter().map(|place| self.task(place, modes(place)?.len())).collect();
        Ok(plan::shares(&tasks?, seconds))
    }

    /// The image that this value is, if it is the model's.
    fn pixels_of(&self, place: &Place) -> Option<&PixelInput> {
        self.net.pixels().filter(|pixels| place.cut == 0 && place.at == pixels.input)
    }

    fn task(&self, place: &Place, modes: usize) -> Result<Task> {
        let (bands, channels) = ff::planes(Mode::Haar2, &place.shape)?;
        let crossing = &self.net.graph().cuts[place.cut].values;
        let elements = |value| self.net.shapes.of(value).iter().product::<usize>();
        Ok(Task {
            elements: place.elements(),
            cut_elements: crossing.iter().map(|value| elements(*value)).sum(),
            flops: place.flops,
            rows: (self.tables.len(), self.tests.len()),
            planes: (bands, bands * channels),
            modes,
            rates: RATE_LIST.len(),
            probes: self.probes,
            rivals: rivals::runs(self.pixels_of(place)),
            seconds: self.seconds,
        })
    }

    fn package(
        &self,
        samples: &Samples<'_>,
        directions: Option<&Directions>,
        modes: &[Mode],
        rates: &[u8],
        weights: &Weights,
    ) -> Result<CutPackage> {
        let &Samples { place, tensors: samples, .. } = samples;
        let (model, name, order) = (self.net.graph().digest, place.name.as_str(), Order::Nchw);
        let what = ff::Calibration { name, model, samples, order, modes, rates, weights, directions };
        ff::calibrate(&what).with_context(|| format!("value {name} cannot be calibrated"))
    }

    /// The weights of those modes that need fewer bits with them.
    fn worthwhile(
        &self,
        samples: &Samples<'_>,
        directions: Option<&Directions>,
        modes: &[Mode],
        rows: usize,
        weights: &Weights,
    ) -> Result<Weights> {
        let place = samples.place;
        let rows: Vec<&Row> = even(samples.rows.len(), rows).map(|at| &samples.rows[at]).collect();
        let clean = answers(&self.net.tail(place.cut, &rows)?)?;
        let (net, clean) = (self.net, clean.iter().collect());
        let trial = Trial { net, place, rows, numbers: Vec::new(), clean, judge: &Judge::Nothing };
        let flat = self.package(samples, directions, modes, &COMPARED, &Weights::default())?;
        let weighted = self.package(samples, directions, modes, &COMPARED, weights)?;
        let points = |package: &CutPackage, mode| -> Result<Vec<choose::Point>> {
            COMPARED.iter().map(|q| trial.ff(package, mode, *q).map(|e| (e.bits, e.output_nmse))).collect()
        };
        let mut kept = Vec::new();
        for (mode, list) in &weights.0 {
            if modes.contains(mode) && choose::saves(&points(&weighted, *mode)?, &points(&flat, *mode)?) > 0.0 {
                kept.push((*mode, list.clone()));
            }
        }
        Ok(Weights(kept))
    }
}

/// How a value's codecs are measured.
struct Course<'a> {
    plan: &'a Plan,
    modes: &'a [Mode],
    trial: &'a Trial<'a>,
    int8: &'a Effect,
}

/// At most so many, evenly chosen.
fn some<'a>(rows: &[&'a Row], count: usize) -> Vec<&'a Row> {
    even(rows.len(), count).map(|at| rows[at]).collect()
}

/// Modes that differ: a map of one element has no levels, one of at most 2x2 no second.
fn modes(place: &Place) -> Result<Vec<Mode>> {
    let mut modes: Vec<Mode> = Vec::new();
    for mode in Mode::ALL {
        let (bands, _) = ff::planes(mode, &place.shape)?;
        let last = modes.last().map(|last| ff::planes(*last, &place.shape)).transpose()?;
        if last.is_none_or(|(known, _)| known < bands) {
            modes.push(mode);
        }
    }
    Ok(modes)
}

fn hopeless(effect: &Effect) -> bool {
    effect.loss.map_or(effect.output_nmse > HOPELESS_ERROR, |loss| loss.mean > HOPELESS_LOSS)
}

fn clear(effect: &Effect, int8: &Effect) -> bool {
    effect.changed == 0 && effect.output_nmse <= int8.output_nmse
}

/// Measures from the middle of a list, fine to coarse, to its coarse end, then from there to its fine end; each way stops
/// behind the first that says so.
fn walk<E>(
    rates: &[u8],
    measure: impl Fn(u8) -> Result<E>,
    hopeless: impl Fn(&E) -> bool,
    clear: impl Fn(&E) -> bool,
) -> Result<Vec<(u8, E)>> {
    let (fine, coarse) = rates.split_at(rates.len() / 2);
    let mut found = Vec::new();
    for q in coarse {
        found.push((*q, measure(*q)?));
        if found.last().is_some_and(|(_, effect)| hopeless(effect)) {
            break;
        }
    }
    let mut enough = found.first().is_some_and(|(_, effect)| clear(effect));
    for q in fine.iter().rev() {
        if enough {
            break;
        }
        let effect = measure(*q)?;
        enough = clear(&effect);
        found.push((*q, effect));
    }
    Ok(found)
}

/// The loss of a rate: its own, that of the next coarser one, or of the coarsest that was measured.
fn loss_of(effects: &Effects, pooled: Option<Pooled>, mode: Mode, q: u8) -> Option<Loss> {
    let measured = || effects.range((mode, 0)..=(mode, u8::MAX)).map(|((_, q), effect)| (*q, effect));
    let Some((_, effect)) = measured().find(|(other, _)| *other >= q) else {
        return measured().next_back().and_then(|(_, effect)| effect.loss);
    };
    let loss = effect.loss?;
    Some(pooled.map_or(loss, |pooled| pooled.tightened(loss, effect.output_nmse)))
}

/// What was measured goes into the curves, and the best mode of each rate is entered; `kept` ones stay at all rates.
fn entered(
    package: &CutPackage,
    modes: &[Mode],
    effects: &Effects,
    pooled: Option<Pooled>,
    kept: &[Mode],
) -> Result<CutPackage> {
    let with = package.with_curves(|mode, q, curve| {
        let curve = Curve { loss: loss_of(effects, pooled, mode, q), ..curve };
        match effects.get(&(mode, q)) {
            None => curve,
            Some(e) => Curve { bits_mean: e.bits, bits_p95: e.bits_p95, output_nmse: Some(e.output_nmse), ..curve },
        }
    })?;
    let points = |mode: &Mode| -> Vec<choose::Point> {
        effects.range((*mode, 0)..=(*mode, u8::MAX)).map(|(_, e)| (e.bits, e.output_nmse)).collect()
    };
    let curves: Vec<Vec<choose::Point>> = modes.iter().map(points).collect();
    let curves: Vec<&[choose::Point]> = curves.iter().map(Vec::as_slice).collect();
    let best = |q: u8| {
        let of =
            |mode: &Mode| effects.get(&(*mode, q)).map(|e| (choose::excess((e.bits, e.output_nmse), &curves), *mode));
        let judged: Option<Vec<(f32, Mode)>> = modes.iter().map(of).collect();
        // Where a mode was not measured, what calibration thinks from the activations alone has to do.
        let judged = judged.and_then(|all| all.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)));
        judged.map_or_else(|| package.best_mode(q), |(_, mode)| Some(mode))
    };
    Ok(with.with_best_and(best, kept)?)
}

#[cfg(test)]
mod tests;
