//! Which bands and channels matter at the model's end.
//!
//! The weight of a plane is `E[(T J^T r)^2]`: what an error in one of its coefficients adds to the squared error of the
//! outputs. `J` is the Jacobian of the outputs by the value, `T` the transform and `r` a random direction of the outputs.
//! Backwards differentiation would give it, but the library's does not reach the convolutions that hosts execute on the
//! processor, and what a host does not execute is not measured here. So it is taken with forward differences: all
//! coefficients of a plane are moved by `+-a`, each with a sign of its own, the rest of the model runs, and
//!
//! ```text
//! weight = squared change of the outputs, relative to their squares / (a^2 * coefficients), mean over rows
//! ```
//!
//! With independent signs the cross terms vanish in the mean. `a` is a twentieth of the value's root mean square: small
//! against the value, large against rounding.
//!
//! Each band is moved in groups of channels, as many as the tail runs allow: channels of like energy share a group, and a
//! weight. Only the bands of two levels are moved. A coarse band of one level is made of the four bands of the next, with as
//! many coefficients each, so that its weight is their mean; so is that of untransformed elements.

use super::loss::{Answer, output_error};
use super::measure::{answers, replaced, shaped};
use super::net::{Net, Place, Row};
use anyhow::Result;
use bps_codec::ff::{self, Mode, Weights};
use bps_types::HostTensor;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// How far, as a share of the root mean square.
const SHARE: f32 = 0.05;
/// What signs are drawn from, together with the place.
const SEED: u64 = 0x7072_6f62;

/// The weights of a value's planes in each mode, band after band, channels inside, from at most `runs` tail runs over these
/// rows. None where no band and channel seems to matter.
pub(in crate::commands) fn weights(net: &Net, place: &Place, rows: &[&Row], runs: usize) -> Result<Option<Weights>> {
    let clean = answers(&net.tail(place.cut, rows)?)?;
    let clean: Vec<&Answer> = clean.iter().collect();
    let values = rows.iter().map(|row| shaped(&row[place.at], place)).collect::<Result<Vec<HostTensor>>>()?;
    let (bands, channels) = ff::planes(Mode::Haar2, &place.shape)?;
    let energies = energies(&values, channels)?;
    let elements = values.len() * place.elements();
    let square = energies.iter().sum::<f64>() / elements.max(1) as f64;
    let amount = SHARE * square.sqrt() as f32;
    if !(amount.is_normal() && amount > 0.0) {
        return Ok(None);
    }
    let mut random = ChaCha8Rng::seed_from_u64(SEED + 8 * place.cut as u64 + place.at as u64);
    let mut weights = vec![0.0f32; bands * channels];
    let groups = groups(&energies, runs / bands.max(1));
    for band in 0..bands {
        for group in &groups {
            let mut chosen = vec![false; bands * channels];
            group.iter().for_each(|channel| chosen[band * channels + channel] = true);
            let (mut moved, mut coefficients) = (Vec::with_capacity(rows.len()), 0);
            for (row, value) in rows.iter().zip(&values) {
                let mut sign = || random.next_u32() & 1 == 1;
                let (value, count) = ff::disturb(value, Mode::Haar2, amount, &chosen, &mut sign)?;
                moved.push(replaced(row, place, &value)?);
                coefficients = count;
            }
            let moved = answers(&net.tail(place.cut, &moved.iter().collect::<Vec<_>>())?)?;
            let weight = output_error(&clean, &moved) / (amount * amount * coefficients.max(1) as f32);
            let weight = if weight.is_finite() { weight } else { 0.0 };
            group.iter().for_each(|channel| weights[band * channels + channel] = weight);
        }
    }
    if weights.iter().all(|weight| *weight == 0.0) {
        return Ok(None);
    }
    Ok(Some(Weights(Mode::ALL.into_iter().map(|mode| (mode, of_mode(mode, &weights, channels))).collect())))
}

/// The weights of a mode from those of two levels (of fewer, where the map has no more).
fn of_mode(mode: Mode, weights: &[f32], channels: usize) -> Vec<f32> {
    let bands: Vec<&[f32]> = weights.chunks_exact(channels.max(1)).collect();
    let joined = |four: &[Vec<f32>]| -> Vec<f32> {
        (0..channels).map(|channel| four.iter().map(|band| band[channel]).sum::<f32>() / 4.0).collect()
    };
    let mut levels: Vec<Vec<f32>> = bands.iter().map(|band| band.to_vec()).collect();
    let wanted = match mode {
        Mode::Haar2 => 7,
        Mode::Haar1 => 4,
        Mode::Scalar => 1,
    };
    while levels.len() > wanted {
        let coarse = joined(&levels[..4]);
        levels.splice(..4, [coarse]);
    }
    levels.concat()
}

/// Channels in at most `count` groups of like energy.
fn groups(energies: &[f64], count: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..energies.len()).collect();
    order.sort_by(|a, b| energies[*a].total_cmp(&energies[*b]).then(a.cmp(b)));
    let count = count.clamp(1, energies.len().max(1));
    (0..count).map(|i| order[i * order.len() / count..(i + 1) * order.len() / count].to_vec()).collect()
}

/// Sums of squares by channel.
fn energies(values: &[HostTensor], channels: usize) -> Result<Vec<f64>> {
    let mut sums = vec![0.0f64; channels];
    for value in values {
        let value = value.to_f32()?;
        for (sum, plane) in sums.iter_mut().zip(value.chunks_exact((value.len() / channels.max(1)).max(1))) {
            *sum += plane.iter().filter(|v| v.is_finite()).map(|v| f64::from(*v).powi(2)).sum::<f64>();
        }
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bps_graph::build::{Attribute, Fill, ModelBuilder};
    use bps_graph::{Graph, Limits};
    use std::sync::Arc;

    #[test]
    fn channels_of_like_energy_share_a_group() {
        assert_eq!(groups(&[5.0, 1.0, 4.0, 2.0, 3.0], 2), [vec![1, 3], vec![4, 2, 0]]);
        assert_eq!(groups(&[1.0, 1.0], 9), [vec![0], vec![1]]);
        assert_eq!(groups(&[1.0, 1.0], 0), [vec![0, 1]]);
        for (channels, count) in [(1usize, 1usize), (7, 3), (64, 9), (10, 10)] {
            let groups = groups(&vec![1.0; channels], count);
            let mut all = groups.concat();
            all.sort_unstable();
            assert_eq!((all, groups.len()), ((0..channels).collect::<Vec<_>>(), count));
        }
    }

    #[test]
    fn coarser_transforms_have_the_mean_of_what_they_are_made_of() {
        // Two channels, seven bands.
        let weights: Vec<f32> = (0..14).map(|i| i as f32).collect();
        assert_eq!(of_mode(Mode::Haar2, &weights, 2), weights);
        assert_eq!(of_mode(Mode::Haar1, &weights, 2), [3.0, 4.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0]);
        assert_eq!(of_mode(Mode::Scalar, &weights, 2), [8.25, 9.25]);
        assert_eq!(of_mode(Mode::Scalar, &[2.0, 3.0], 2), [2.0, 3.0], "a map of one element");
        assert_eq!(of_mode(Mode::Haar2, &weights[..8], 2), weights[..8]);
    }

    #[test]
    fn what_a_mean_looks_at_is_found() {
        // relu, then the mean over the map, then twice the first channel and the second one: only the coarsest band of
        // each channel counts, the first one four times as much.
        let mut b = ModelBuilder::new("mean");
        let x = b.input("x", &[2, 4, 4]);
        let x = b.node("Relu", "relu", &[&x], &[]);
        let x = b.node("GlobalAveragePool", "pool", &[&x], &[]);
        let x = b.node("Flatten", "flat", &[&x], &[("axis", Attribute::Int(1))]);
        let w = b.weight("w", &[2, 2], Fill::Constant(1.0));
        let y = b.node("Gemm", "fc", &[&x, &w], &[]);
        b.output(&y, "y", &[2]);
        let weights = std::collections::BTreeMap::from([("w".to_owned(), vec![2.0, 0.0, 0.0, 1.0])]);
        let onnx = bps_graph::build::with_weights(&b.write(0), &weights).unwrap();
        let graph = Arc::new(Graph::parse(&onnx, &Limits::default()).unwrap());
        let net = Net::load(graph, None, "cpu").unwrap();
        let place = net.places().0[1].clone();
        assert_eq!(place.shape, [1, 2, 4, 4]);
        let rows: Vec<Row> =
            (0..8).map(|row| vec![HostTensor::from_f32(vec![1, 2, 4, 4], &[3.0 + row as f32; 32]).unwrap()]).collect();
        let found = weights_of(&net, &place, &rows);
        let two = &found.0[2].1;
        assert!((two[0] / two[1] - 4.0).abs() < 0.2, "{two:?}");
        assert!(two[2..].iter().all(|weight| *weight < 1e-3 * two[1]), "{two:?}");
    }

    fn weights_of(net: &Net, place: &Place, rows: &[Row]) -> Weights {
        weights(net, place, &rows.iter().collect::<Vec<_>>(), 14).unwrap().unwrap()
    }
}
