//! Along which directions errors of a value reach the model's outputs: the Jacobian, element by element.
//!
//! [`probe`](super::probe) moves whole planes and sees what they weigh; which errors cancel each other only the Jacobian
//! itself tells. It is taken with forward differences, one run through the rest of the model for each element of a row: dear,
//! so it is done with few rows, and only where the plan says that even these can be paid for. Rows of many outputs are
//! projected on [`SLOPES_MAX`] sums of them with signs as good as random, which keeps `J^T J` in the mean.
//!
//! Every output counts relative to the squares of its answers, as in the output error.

use super::loss::Answer;
use super::measure::{answers, replaced, shaped};
use super::net::{Net, Place, Row};
use anyhow::Result;
use bps_codec::ff::Directions;
use bps_types::HostTensor;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// How far an element is moved, as a share of the value's root mean square.
const SHARE: f32 = 0.1;
/// Most slopes of a row.
pub(super) const SLOPES_MAX: usize = 16;
/// Changed rows that are held at a time.
const HELD_ROWS: usize = 256;
/// What signs are drawn from, together with the place.
const SEED: u64 = 0x736c_6f70;

/// The directions of a value, from these rows. None where its shape is not for directions, or nothing seems to matter.
pub(super) fn directions(net: &Net, place: &Place, rows: &[&Row]) -> Result<Option<Directions>> {
    if rows.is_empty() || !Directions::fit(&place.shape) {
        return Ok(None);
    }
    let clean = answers(&net.tail(place.cut, rows)?)?;
    let values =
        rows.iter().map(|row| Ok(shaped(&row[place.at], place)?.to_f32()?)).collect::<Result<Vec<Vec<f32>>>>()?;
    let elements = place.elements();
    let finite = |values: &[f32]| values.iter().filter(|v| v.is_finite()).map(|v| f64::from(*v).powi(2)).sum::<f64>();
    let square = values.iter().map(|row| finite(row)).sum::<f64>() / (rows.len() * elements) as f64;
    let amount = SHARE * square.sqrt() as f32;
    if !(amount.is_normal() && amount > 0.0) {
        return Ok(None);
    }
    let outputs = clean.first().map_or(0, Vec::len);
    let size = |output: usize| clean.iter().map(|answer| finite(&answer[output])).sum::<f64>().sqrt();
    let per_output: Vec<f32> = (0..outputs).map(|output| reciprocal(size(output)) / amount).collect();
    let mixer = Mixer::new(clean.first(), SEED + 8 * place.cut as u64 + place.at as u64);
    let mut slopes = vec![0.0f32; rows.len() * mixer.slopes * elements];
    let targets = slopes.chunks_exact_mut((mixer.slopes * elements).max(1));
    for (((row, value), clean), slopes) in rows.iter().zip(&values).zip(&clean).zip(targets) {
        for first in (0..elements).step_by(HELD_ROWS) {
            let some = first..(first + HELD_ROWS).min(elements);
            let moved = some.clone().map(|at| {
                let mut value = value.clone();
                value[at] += amount;
                replaced(row, place, &HostTensor::from_f32(place.shape.clone(), &value)?)
            });
            let moved = moved.collect::<Result<Vec<Row>>>()?;
            let moved = answers(&net.tail(place.cut, &moved.iter().collect::<Vec<_>>())?)?;
            for (at, moved) in some.zip(&moved) {
                mixer.mix(clean, moved, &per_output, |slope, share| slopes[slope * elements + at] += share);
            }
        }
    }
    slopes.iter_mut().filter(|slope| !slope.is_finite()).for_each(|slope| *slope = 0.0);
    Ok(Directions::of(&slopes, &place.shape)?)
}

fn reciprocal(size: f64) -> f32 {
    if size > 0.0 && size.is_finite() { (1.0 / size) as f32 } else { 0.0 }
}

/// From the numbers of all outputs to slopes.
struct Mixer {
    slopes: usize,
    /// By number and slope; none where each number is a slope of its own.
    signs: Option<Vec<f32>>,
}

impl Mixer {
    fn new(answer: Option<&Answer>, seed: u64) -> Self {
        let numbers = answer.map_or(0, |answer| answer.iter().map(Vec::len).sum());
        if numbers <= SLOPES_MAX {
            return Self { slopes: numbers, signs: None };
        }
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let size = 1.0 / (SLOPES_MAX as f32).sqrt();
        let mut sign = || if random.next_u32() & 1 == 1 { -size } else { size };
        Self { slopes: SLOPES_MAX, signs: Some((0..numbers * SLOPES_MAX).map(|_| sign()).collect()) }
    }

    /// Hands over what each slope gets of a change of the outputs.
    fn mix(&self, clean: &Answer, moved: &Answer, per_output: &[f32], mut add: impl FnMut(usize, f32)) {
        let changes = clean.iter().zip(moved).zip(per_output);
        let changes =
            changes.flat_map(|((clean, moved), scale)| clean.iter().zip(moved).map(move |(c, m)| (m - c) * scale));
        for (number, change) in changes.enumerate() {
            match &self.signs {
                None => add(number, change),
                Some(signs) => {
                    let signs = &signs[number * SLOPES_MAX..][..SLOPES_MAX];
                    signs.iter().enumerate().for_each(|(slope, sign)| add(slope, sign * change));
                }
            }
        }
    }
}
