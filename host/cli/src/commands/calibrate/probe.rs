//! Which bands and channels matter at the model's end.
//!
//! The weight of a plane is `E[(T J^T r)^2]`: what an error in one of its coefficients adds to the squared error of the
//! outputs. `J` is the Jacobian of the outputs by the value and `T` the transform. It is measured with forward differences:
//! all coefficients of the plane are moved by `+-a`, with signs of their own, the rest of the model runs, and
//!
//! ```text
//! weight = sum of squared changes of the outputs / (a^2 * coefficients * rows)
//! ```
//!
//! since with independent signs the cross terms vanish in the mean. That needs no derivative of any operator, so what is
//! measured is what a host executes. `a` is a twentieth of the value's root mean square: small against the value, large
//! against rounding. Planes are moved in groups where there are more of them than tail runs are allowed; those of a group
//! share its weight.

use super::loss::Answer;
use super::measure::answers;
use super::net::{Net, Place, Row};
use anyhow::Result;
use bps_codec::ff::{self, Mode};
use bps_types::HostTensor;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Rows that are moved.
const ROWS: usize = 16;
/// How far, as a share of the root mean square.
const SHARE: f32 = 0.05;

/// The weights of a value's planes in a mode, band after band, channels inside, from at most `runs` tail runs.
pub(super) fn weights(net: &Net, place: &Place, mode: Mode, rows: &[Row], runs: usize) -> Result<Vec<f32>> {
    let rows = &rows[..rows.len().min(ROWS)];
    let clean = answers(&net.tail(place.cut, &rows.iter().collect::<Vec<_>>())?)?;
    let (bands, channels) = ff::planes(mode, &place.shape)?;
    let planes = bands * channels;
    let amount = SHARE * root_mean_square(place, rows)?.max(1e-6);
    let mut random = ChaCha8Rng::seed_from_u64(place.cut as u64);
    let mut weights = vec![0.0; planes];
    for group in groups(planes, runs) {
        let chosen: Vec<bool> = (0..planes).map(|plane| group.contains(&plane)).collect();
        let (mut moved, mut coefficients) = (Vec::with_capacity(rows.len()), 0);
        for row in rows {
            let value = HostTensor::new(row[place.at].data_type(), place.shape.clone(), row[place.at].data().clone())?;
            let mut sign = || random.next_u32() & 1 == 1;
            let (value, count) = ff::disturb(&value, mode, amount, &chosen, &mut sign)?;
            let mut row = row.clone();
            row[place.at] = HostTensor::new(value.data_type(), row[place.at].shape().to_vec(), value.data().clone())?;
            coefficients += count;
            moved.push(row);
        }
        let answers = answers(&net.tail(place.cut, &moved.iter().collect::<Vec<_>>())?)?;
        let weight = change(&clean, &answers) / (f64::from(amount).powi(2) * coefficients.max(1) as f64);
        weights[group].fill(weight as f32);
    }
    // Something must matter; a model that does not look at the value at all gets equal steps.
    if weights.iter().all(|weight| *weight <= 0.0 || !weight.is_finite()) {
        weights.fill(1.0);
    }
    weights.iter_mut().filter(|weight| !weight.is_finite()).for_each(|weight| *weight = 0.0);
    Ok(weights)
}

/// Planes in at most `runs` groups of neighbours.
fn groups(planes: usize, runs: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let count = runs.clamp(1, planes.max(1));
    (0..count).map(move |i| i * planes / count..(i + 1) * planes / count)
}

fn change(clean: &[Answer], moved: &[Answer]) -> f64 {
    let numbers = |answers: &[Answer]| answers.iter().flatten().flatten().copied().map(f64::from).collect::<Vec<_>>();
    numbers(clean).iter().zip(numbers(moved)).map(|(a, b)| (a - b).powi(2)).sum()
}

fn root_mean_square(place: &Place, rows: &[Row]) -> Result<f32> {
    let (mut squares, mut count) = (0.0f64, 0);
    for row in rows {
        let values = row[place.at].to_f32()?;
        squares += values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
        count += values.len();
    }
    Ok((squares / count.max(1) as f64).sqrt() as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_cover_every_plane_once() {
        for (planes, runs) in [(1, 8), (7, 3), (64, 32), (5, 5), (10, 1)] {
            let all: Vec<usize> = groups(planes, runs).flatten().collect();
            assert_eq!(all, (0..planes).collect::<Vec<_>>(), "{planes} {runs}");
            assert!(groups(planes, runs).count() <= runs.max(1));
        }
    }
}
