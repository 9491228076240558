//! Bounded frames: the stated error holds for every element, and what is no number survives.

use super::*;

const TRICKY: [f32; 16] = [
    0.0,
    -0.0,
    1.0,
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::MAX,
    f32::MIN,
    f32::MIN_POSITIVE,
    1e-42,
    -1e-45,
    3.0e38,
    -7.25,
    1e10,
    -1e-10,
    255.5,
];

fn holds(values: &[f32], got: &[f32], bound: f32) -> Result<(), String> {
    for (i, (value, got)) in values.iter().zip(got).enumerate() {
        let kept = if value.is_finite() {
            (f64::from(*value) - f64::from(*got)).abs() <= f64::from(bound)
        } else {
            value.to_bits() == got.to_bits()
        };
        if !kept {
            return Err(format!("element {i}: {value:e} became {got:e}, bound {bound:e}"));
        }
    }
    Ok(())
}

fn check(shape: [usize; 4], values: &[f32], bound: f32) {
    let given = tensor(&shape, values);
    for settings in every_setting() {
        let settings = Settings { bound: Some(bound), ..settings };
        let got = back(&encode(&settings, &given).unwrap(), &shape, None).to_f32().unwrap();
        if let Err(message) = holds(values, &got, bound) {
            panic!("{settings:?} {shape:?}: {message}");
        }
    }
}

#[test]
fn every_finite_element_is_within_the_bound() {
    for shape in SHAPES {
        for bound in [1e-4, 0.01, 0.3] {
            check(shape, &spots(2, shape), bound);
        }
    }
}

#[test]
fn tricky_elements_are_kept() {
    let shape = [2, 5, 8, 10];
    let values: Vec<f32> = (0..800).map(|i| TRICKY[(i * i + i / 3) % 16]).collect();
    for bound in [1e-30, 1e-3, 1.0, 1e20, 1e30] {
        check(shape, &values, bound);
    }
    check([1, 3, 5, 5], &[f32::NAN; 75], 0.1);
    check([1, 3, 5, 5], &[1e-44; 75], 1e-30);
}

#[test]
fn what_is_no_number_survives_without_a_bound_too() {
    let shape = [1, 4, 9, 9];
    let mut values = spots(3, shape);
    let odd = [f32::from_bits(0x7fc0_1234), f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -1e30];
    odd.iter().enumerate().for_each(|(i, v)| values[i * 61] = *v);
    let given = tensor(&shape, &values);
    let package = calibrated(shape, &Weights::default());
    for settings in every_setting() {
        let settings = Settings { package: Some(&package), q: 8, ..settings };
        let got = back(&encode(&settings, &given).unwrap(), &shape, Some(&package)).to_f32().unwrap();
        for (i, value) in odd.iter().enumerate() {
            assert_eq!(got[i * 61].to_bits(), value.to_bits(), "{settings:?}");
        }
        // Only their own places are touched.
        let others =
            |all: &[f32]| all.iter().enumerate().filter(|(i, _)| i % 61 != 0).map(|(_, v)| *v).collect::<Vec<_>>();
        assert!(nmse(&others(&values), &others(&got)) < 0.1, "{settings:?}");
    }
}

#[test]
fn a_bounded_frame_takes_a_calibrated_package() {
    let shape = [1, 8, 30, 30];
    let package = calibrated(shape, &Weights::default());
    let given = maps_of(8, shape);
    for settings in every_setting() {
        let bounded = |package| Settings { bound: Some(0.05), package, ..settings };
        let bytes = encode(&bounded(Some(&package)), &given).unwrap();
        let got = back(&bytes, &shape, Some(&package)).to_f32().unwrap();
        holds(&given.to_f32().unwrap(), &got, 0.05).unwrap();
        if settings.entropy == Entropy::Rans {
            let free = encode(&bounded(None), &given).unwrap().len();
            assert!(bytes.len() < free + free / 20, "its tables fit: {settings:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn any_element_is_within_any_bound(
        shape in (1usize..3, 1usize..6, 1usize..9, 1usize..9),
        bits in proptest::collection::vec(any::<u32>(), 800),
        modest in any::<bool>(),
        exponent in -90i32..90,
        mode in 0usize..3,
        entropy in 0usize..3,
    ) {
        let shape = [shape.0, shape.1, shape.2, shape.3];
        let bound = 2f32.powi(exponent);
        // Any bits at all, or such as are coded rather than listed.
        let value = |bits: &u32| if modest { (*bits as f32 / 4e6 - 500.0) * bound } else { f32::from_bits(*bits) };
        let values: Vec<f32> = bits.iter().cycle().take(shape.iter().product()).map(value).collect();
        let entropy = Entropy::ALL[entropy];
        let settings = Settings { bound: Some(bound), entropy, ..Settings::new(Mode::ALL[mode], 0) };
        let bytes = encode(&settings, &tensor(&shape, &values)).unwrap();
        let got = back(&bytes, &shape, None).to_f32().unwrap();
        prop_assert_eq!(holds(&values, &got, bound), Ok(()), "{:?}", settings);
    }
}
