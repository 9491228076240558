use super::*;
use crate::ff::tests::maps::{Dice, spots};
use crate::ff::{Calibration, CutPackage, Entropy, Order, Settings, Weights, calibrate, decode, encode};
use bps_types::HostTensor;
use proptest::prelude::*;

const SHAPE: [usize; 4] = [1, 6, 10, 9];
const ELEMENTS: usize = 6 * 10 * 9;

/// Rows of a Jacobian: some that all rows of activations share, with a little of their own.
fn jacobian(shared: usize) -> Vec<f32> {
    let mut dice = Dice(5);
    let common: Vec<f32> = (0..shared * ELEMENTS).map(|_| dice.roll() - 0.5).collect();
    let mut rows = Vec::new();
    for _ in 0..8 {
        rows.extend(common.iter().map(|slope| slope + 0.2 * (dice.roll() - 0.5)));
    }
    rows
}

fn package(directions: Option<&Directions>, rates: &[u8]) -> CutPackage {
    let samples: Vec<_> = (0..8).map(|seed| map(100 + seed)).collect();
    let (samples, order, weights) = (&samples[..], Order::Nchw, &Weights::default());
    let modes = &Mode::ALL;
    calibrate(&Calibration { name: "c", model: [1; 32], samples, order, modes, rates, weights, directions }).unwrap()
}

fn map(seed: u64) -> HostTensor {
    HostTensor::from_f32(SHAPE.to_vec(), &spots(seed, SHAPE)).unwrap()
}

/// Bytes of the frames of some maps, and the sum of `(slope . error)^2` over maps and slopes.
fn cost(package: &CutPackage, mode: Mode, q: u8, slopes: &[f32]) -> (usize, f64) {
    let settings = Settings { package: Some(package), ..Settings::new(mode, q) };
    let (mut bytes, mut squares) = (0, 0.0);
    for seed in 0..12 {
        let given = map(seed);
        let frame = encode(&settings, &given).unwrap();
        bytes += frame.len();
        let got = decode(&frame, &SHAPE, Order::Nchw, Some(package)).unwrap().to_f32().unwrap();
        let errors: Vec<f64> =
            got.iter().zip(given.to_f32().unwrap()).map(|(got, given)| f64::from(*got) - f64::from(given)).collect();
        for slope in slopes.chunks_exact(ELEMENTS) {
            squares += slope.iter().zip(&errors).map(|(slope, error)| f64::from(*slope) * error).sum::<f64>().powi(2);
        }
    }
    (bytes, squares)
}

#[test]
fn errors_cancel_along_directions_and_frames_grow_little() {
    let slopes = jacobian(4);
    let directions = Directions::of(&slopes, &SHAPE).unwrap().unwrap();
    // With directions each rate has the step of the fourth next without.
    let (plain, aimed) = (package(None, &[8, 16]), package(Some(&directions), &[4, 12]));
    assert!(plain.directions().is_none() && aimed.directions() == Some(&directions));
    for mode in Mode::ALL {
        // Where steps are coarse, bits are saved as well.
        for (q, bytes_most, error_most) in [(8, 1.02, 0.2), (16, 0.95, 0.6)] {
            let (bytes, squares) = cost(&plain, mode, q, &slopes);
            let (aimed_bytes, aimed_squares) = cost(&aimed, mode, q - 4, &slopes);
            let (more, left) = (aimed_bytes as f64 / bytes as f64, aimed_squares / squares);
            assert!(more < bytes_most && left < error_most, "{mode:?} {q}: {more} of the bytes, {left} of the error");
        }
    }
}

#[test]
fn only_frames_with_rans_and_without_bounds_and_exceptions_are_changed() {
    let directions = Directions::of(&jacobian(4), &SHAPE).unwrap().unwrap();
    let aimed = package(Some(&directions), &[12]);
    let plain = CutPackage::new(CutData::clone(&aimed.data)).unwrap();
    assert_eq!(plain.id(), aimed.id(), "decoders need not know");
    let given = map(3);
    let mut odd = given.to_f32().unwrap();
    odd[100] = f32::NAN;
    odd[200] = f32::NEG_INFINITY;
    let odd = HostTensor::from_f32(SHAPE.to_vec(), &odd).unwrap();
    let both = |settings: Settings<'_>, given: &HostTensor| {
        let of = |package| encode(&Settings { package: Some(package), ..settings }, given).unwrap();
        (of(&plain), of(&aimed))
    };
    for mode in Mode::ALL {
        let settings = Settings::new(mode, 12);
        let (without, with) = both(settings, &given);
        assert_ne!(without, with);
        let decoded = |package| decode(&with, &SHAPE, Order::Nchw, Some(package)).unwrap();
        assert_eq!(decoded(&plain), decoded(&aimed));
        for entropy in [Entropy::Pack, Entropy::Zstd] {
            let (without, with) = both(Settings { entropy, ..settings }, &given);
            assert_eq!(without, with, "{mode:?} {entropy:?}");
        }
        let (without, with) = both(Settings { bound: Some(0.05), ..settings }, &given);
        assert_eq!(without, with, "{mode:?}, bounded");
        let (without, with) = both(settings, &odd);
        assert_eq!(without, with, "{mode:?}, with exceptions");
    }
}

#[test]
fn a_row_of_several_chunks_has_no_directions() {
    assert!(Directions::fit(&[1, 64, 32, 32]) && !Directions::fit(&[1, 65, 32, 32]) && !Directions::fit(&[1; 5]));
    let refused = Directions::of(&[0.0; 4], &[1, 65, 32, 32]).unwrap_err();
    assert_eq!(refused.to_string(), "package, directions: a row is more than one chunk");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_values_and_directions_come_back(
        seed in any::<u64>(),
        scale in -30i32..30,
        slope_scale in -30i32..30,
        signed in any::<bool>(),
        mode in 0usize..3,
    ) {
        let mut dice = Dice(seed);
        let slopes: Vec<f32> = (0..3 * ELEMENTS).map(|_| (dice.roll() - 0.5) * 2f32.powi(slope_scale)).collect();
        let directions = Directions::of(&slopes, &SHAPE).unwrap().unwrap();
        let package = package(Some(&directions), &[8]);
        let floor = if signed { 0.5 } else { 0.0 };
        let values: Vec<f32> = (0..ELEMENTS).map(|_| (dice.roll() - floor) * 2f32.powi(scale)).collect();
        let given = HostTensor::from_f32(SHAPE.to_vec(), &values).unwrap();
        let settings = Settings { package: Some(&package), ..Settings::new(Mode::ALL[mode], 8) };
        let step = package.data.base_step * 4.0;
        let frame = encode(&settings, &given).unwrap();
        let got = decode(&frame, &SHAPE, Order::Nchw, Some(&package)).unwrap().to_f32().unwrap();
        // Less than three steps and what bins are reconstructed beside their middle, of ten coefficients, halved each level.
        for (got, given) in got.iter().zip(&values) {
            prop_assert!((got - given).abs() <= 10.0 * step + given.abs() * 1e-3, "{} for {}, step {}", got, given, step);
        }
    }
}
