use super::*;
use maps::{Dice, nmse, spots};
use proptest::prelude::*;

mod bounded;
mod devices;
mod hostile;
#[expect(unreachable_pub, reason = "the benchmark includes the file as well")]
pub(super) mod maps;
mod sizes;

const SHAPES: [[usize; 4]; 11] = [
    [1, 1, 1, 1],
    [3, 10, 1, 1],
    [2, 3, 1, 7],
    [2, 5, 7, 1],
    [1, 4, 2, 2],
    [2, 9, 3, 5],
    [1, 16, 8, 8],
    [2, 6, 13, 34],
    [1, 7, 29, 31],
    [1, 3, 150, 151],
    [1, 70_000, 1, 1],
];

fn tensor(shape: &[usize], values: &[f32]) -> HostTensor {
    HostTensor::from_f32(shape.to_vec(), values).unwrap()
}

fn maps_of(seed: u64, shape: [usize; 4]) -> HostTensor {
    tensor(&shape, &spots(seed, shape))
}

/// The same tensor with channels inside.
fn nhwc(given: &HostTensor) -> HostTensor {
    let [n, c, h, w] = given.shape().try_into().unwrap();
    let turned = turned(given.data().as_chunks::<4>().0, c, h * w).into_flattened();
    HostTensor::new(DataType::Fp32, vec![n, h, w, c], turned.into()).unwrap()
}

fn back(bytes: &[u8], shape: &[usize], package: Option<&CutPackage>) -> HostTensor {
    decode(bytes, shape, Order::Nchw, package).unwrap()
}

/// A package for maps of this shape, at a few rates.
fn calibrated(shape: [usize; 4], weights: &Weights) -> CutPackage {
    let samples: Vec<_> = (0..4).map(|seed| maps_of(100 + seed, shape)).collect();
    let (samples, order) = (&samples[..], Order::Nchw);
    calibrate(&Calibration {
        name: "block1",
        model: [7; 32],
        samples,
        order,
        modes: &Mode::ALL,
        rates: &[8, 16, 24],
        weights,
        directions: None,
    })
    .unwrap()
}

fn every_setting() -> impl Iterator<Item = Settings<'static>> {
    Mode::ALL
        .into_iter()
        .flat_map(|mode| Entropy::ALL.into_iter().map(move |entropy| Settings { entropy, ..Settings::new(mode, 12) }))
}

#[test]
fn the_data_free_package_is_what_its_maps_make() {
    let made = postcard::to_stdvec(&prior::make()).unwrap();
    if include_bytes!("data_free.bin")[..] != made[..] {
        let path = std::env::temp_dir().join("data_free.bin");
        std::fs::write(&path, &made).unwrap();
        panic!("data_free.bin is not what prior.rs makes; the latter is in {}", path.display());
    }
    let package = CutPackage::data_free().unwrap();
    assert_eq!((package.origin(), package.row_shape(), package.name()), (Origin::DataFree, None, "data-free"));
    // Frames name it: it is part of the wire protocol.
    assert_eq!(format!("{:016x}", package.id()), "190fffc6894d4427");
}

#[test]
fn frames_are_pinned() {
    let shape = [2, 5, 9, 11];
    let values: Vec<f32> =
        (0..990u32).map(|i| (i * i % 97) as f32 / 8.0 - if i % 3 == 0 { 6.0 } else { 0.0 }).collect();
    let given = tensor(&shape, &values);
    // A frame's last word is its checksum.
    let sums = every_setting().map(|settings| *encode(&settings, &given).unwrap().last_chunk::<4>().unwrap());
    // Packed, zstd (whose bytes are its own affair) and rANS of each mode.
    let seen: Vec<_> = sums
        .enumerate()
        .filter(|(i, _)| i % 3 != 1)
        .map(|(_, sum)| format!("{:08x}", u32::from_le_bytes(sum)))
        .collect();
    assert_eq!(seen, ["f0fb835e", "f00879ca", "7122e79a", "fabf9b87", "0e553b7b", "d86251fb"]);
}

#[test]
fn every_shape_mode_and_stage_comes_back() {
    for shape in SHAPES {
        let given = maps_of(5, shape);
        let values = given.to_f32().unwrap();
        for settings in every_setting() {
            let bytes = encode(&settings, &given).unwrap();
            let got = back(&bytes, &shape, None);
            assert_eq!(got.shape(), shape);
            let error = nmse(&values, &got.to_f32().unwrap());
            assert!(error < 0.01, "{shape:?} {settings:?}: {error}");
            // At the same bytes twice.
            assert_eq!(encode(&settings, &given).unwrap(), bytes);
        }
    }
}

#[test]
fn shapes_of_other_ranks_come_back() {
    for shape in [&[][..], &[5], &[2, 9], &[2, 3, 8], &[0, 4, 3, 3], &[2, 0, 3, 3], &[1, 2, 0, 3]] {
        let count = shape.iter().product::<usize>();
        let given = tensor(shape, &(0..count).map(|i| i as f32 + 1.0).collect::<Vec<_>>());
        for settings in every_setting() {
            let got = back(&encode(&settings, &given).unwrap(), shape, None);
            assert_eq!(got.shape(), shape);
            assert!(nmse(&given.to_f32().unwrap(), &got.to_f32().unwrap()) < 0.01, "{shape:?} {settings:?}");
        }
    }
}

#[test]
fn finer_rates_cost_more_and_lose_less() {
    let shape = [1, 8, 28, 28];
    let given = maps_of(1, shape);
    let values = given.to_f32().unwrap();
    for mode in Mode::ALL {
        let seen: Vec<_> = (0..RATES as u8)
            .step_by(4)
            .map(|q| {
                let bytes = encode(&Settings::new(mode, q), &given).unwrap();
                (bytes.len(), nmse(&values, &back(&bytes, &shape, None).to_f32().unwrap()))
            })
            .collect();
        assert!(seen.windows(2).all(|w| w[0].0 > w[1].0 && w[0].1 < w[1].1), "{mode:?} {seen:?}");
    }
}

#[test]
fn memory_order_changes_nothing() {
    for shape in [[2, 5, 6, 7], [1, 16, 1, 1], [1, 20, 9, 4]] {
        let given = maps_of(3, shape);
        let turned = nhwc(&given);
        for settings in every_setting() {
            let inside = Settings { order: Order::Nhwc, ..settings };
            let (planar, inside) = (encode(&settings, &given).unwrap(), encode(&inside, &turned).unwrap());
            let wanted = back(&planar, &shape, None);
            assert_eq!(back(&inside, &shape, None), wanted, "{settings:?}");
            assert_eq!(decode(&inside, turned.shape(), Order::Nhwc, None).unwrap(), nhwc(&wanted));
            assert_eq!(decode(&planar, turned.shape(), Order::Nhwc, None).unwrap(), nhwc(&wanted));
        }
    }
}

#[test]
fn a_row_does_not_depend_on_its_neighbours() {
    let shape = [3, 6, 20, 21];
    let mut values = spots(9, shape);
    let row = values.len() / 3;
    values[row..2 * row].iter_mut().for_each(|v| *v *= 1e6);
    values[row + 5] = f32::NAN;
    let given = tensor(&shape, &values);
    for settings in every_setting() {
        let all = back(&encode(&settings, &given).unwrap(), &shape, None);
        for r in 0..3 {
            let alone = given.slice_rows(r..r + 1);
            let alone = back(&encode(&settings, &alone).unwrap(), alone.shape(), None);
            assert_eq!(all.slice_rows(r..r + 1).data(), alone.data(), "{settings:?}");
        }
    }
}

#[test]
fn threads_change_nothing() {
    let shape = [2, 64, 40, 40];
    let given = maps_of(4, shape);
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    for settings in every_setting() {
        let both = |threads| {
            pool(threads).install(|| {
                let bytes = encode(&settings, &given).unwrap();
                let got = back(&bytes, &shape, None);
                (bytes, got)
            })
        };
        assert_eq!(both(1), both(3));
    }
}

#[test]
fn a_calibrated_package_makes_all_stages_agree() {
    let shape = [2, 12, 17, 18];
    // Details of channel 3 weigh nothing, the coarse band a lot.
    let mut weights = vec![1.0; 7 * 12];
    weights[..12].fill(9.0);
    weights[3 * 12 + 3] = 0.0;
    let package = calibrated(shape, &Weights(vec![(Mode::Haar2, weights)]));
    assert_eq!(package.curves().count(), 9);
    let given = maps_of(1, shape);
    for mode in Mode::ALL {
        for q in [8, 16, 24] {
            let settings = Settings { package: Some(&package), ..Settings::new(mode, q) };
            let all = Entropy::ALL.map(|entropy| {
                let bytes = encode(&Settings { entropy, ..settings }, &given).unwrap();
                (bytes.len(), back(&bytes, &shape, Some(&package)))
            });
            assert!(all[0].1 == all[1].1 && all[0].1 == all[2].1, "{settings:?}");
            assert!(all[2].0 < all[1].0 && all[2].0 < all[0].0, "rANS is not the smallest: {mode:?} {q}");
            let seen = nmse(&given.to_f32().unwrap(), &all[2].1.to_f32().unwrap());
            let (_, _, said) = package.curves().find(|(m, r, _)| (*m, *r) == (mode, q)).unwrap();
            assert!((seen / f64::from(said.nmse)).log2().abs() < 0.7, "{mode:?} {q}: {seen} {said:?}");
            let bits = 8.0 * all[2].0 as f32 / given.to_f32().unwrap().len() as f32;
            assert!((bits / said.bits_mean - 1.0).abs() < 0.2, "{mode:?} {q}: {bits} {said:?}");
            assert!(said.bits_p95 >= said.bits_mean * 0.99 && said.loss.is_none());
        }
    }
}

#[test]
fn the_registry_finds_modes_and_assumptions() {
    assert_eq!(mode_for(ID_SCALAR, 3, None), Some(Mode::Scalar));
    assert_eq!(mode_for(ID_HAAR, 3, None), Some(Mode::Haar1));
    assert_eq!(mode_for(5, 3, None), None);
    let package = calibrated([1, 4, 6, 6], &Weights::default());
    let two = package.with_best(|q| (q == 16).then_some(Mode::Haar2)).unwrap();
    assert_eq!((two.curves().count(), mode_for(ID_HAAR, 16, Some(&two))), (1, Some(Mode::Haar2)));
    assert_ne!(two.id(), package.id());
    let settings = |codec, q| settings_of(codec, q, Some(&two)).map(|s| (s.mode, s.entropy, s.package.is_some()));
    assert_eq!(settings(ID_HAAR, 16), Some((Mode::Haar2, Entropy::Rans, true)));
    assert_eq!(settings(ID_HAAR, 18), Some((Mode::Haar1, Entropy::Rans, false)), "not calibrated: without the package");
    assert_eq!(settings(ID_SCALAR, 16), Some((Mode::Scalar, Entropy::Pack, false)));
    assert_eq!(settings(4, 0), None);
}

/// What the registry says before anything was measured is what the made-up maps behind the data-free package come to.
#[test]
fn assumptions_are_what_made_up_maps_need() {
    let maps: Vec<HostTensor> = (0..6)
        .map(|seed| tensor(&[1, 8, 40, 40], &prior::row(seed + 1, 40, prior::THRESHOLDS[seed as usize])))
        .collect();
    for (codec, assumed) in [(ID_SCALAR, ASSUMED_SCALAR), (ID_HAAR, ASSUMED_HAAR)] {
        assert!(assumed.windows(2).all(|w| w[0].0 > w[1].0 && w[0].1 < w[1].1), "{assumed:?}");
        let seen: Vec<(f32, u32)> = RATE_LIST
            .iter()
            .map(|q| {
                let (mut bits, mut error) = (0.0, 0.0);
                for map in &maps {
                    let frame = encode(&settings_of(codec, *q, None).unwrap(), map).unwrap();
                    let values = map.to_f32().unwrap();
                    bits += 8.0 * frame.len() as f32 / values.len() as f32;
                    error += nmse(&values, &back(&frame, map.shape(), None).to_f32().unwrap());
                }
                (bits / 6.0, (error / 6.0 * 1e6) as u32)
            })
            .collect();
        let near = |a: f32, b: f32| (a / b).log2().abs() < 0.3;
        let is_near = seen.iter().zip(assumed).all(|(s, a)| near(s.0, a.0) && near(s.1 as f32, a.1 as f32));
        assert!(is_near, "codec {codec}: {seen:?}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let shape = [1, 4, 6, 6];
    let given = maps_of(1, shape);
    let package = calibrated(shape, &Weights::default());
    let of = |settings: Settings<'_>, given: &HostTensor| encode(&settings, given).unwrap_err().to_string();
    let with = Settings { package: Some(&package), ..Settings::new(Mode::Haar1, 16) };
    let table = [
        (of(Settings::new(Mode::Scalar, 32), &given), "FF has no rate 32: 0 is the finest, 31 the coarsest"),
        (of(Settings { q: 9, ..with }, &given), "the package of block1 has nothing for ff-h1 at rate 9"),
        (of(with, &maps_of(1, [1, 4, 6, 7])), "the package of block1 is for rows of [4, 6, 6], not [4, 6, 7]"),
        (
            of(Settings { bound: Some(0.0), ..with }, &given),
            "an absolute error of 0 cannot be kept: it must be a number from 2^-100 to 2^100",
        ),
        (of(with, &HostTensor::new(DataType::Uint8, vec![1], vec![0].into()).unwrap()), "FF does not take UINT8"),
        (of(with, &tensor(&[1, 1, 1, 1, 1], &[0.0])), "FF does not take shape [1, 1, 1, 1, 1]: at most four extents"),
    ];
    for (got, wanted) in table {
        assert_eq!(got, wanted);
    }
    assert!(encode(&Settings { bound: Some(f32::NAN), ..with }, &given).is_err());
    let bytes = encode(&with, &given).unwrap();
    assert_eq!(package_of(&bytes), Ok(package.id()));
    let other = decode(&bytes, &shape, Order::Nchw, None).unwrap_err();
    assert!(matches!(other, FfError::Package { got, .. } if got == package.id()), "{other}");
    let named = decode(&bytes[..50], &shape, Order::Nchw, Some(&package)).unwrap_err().named("ff-h");
    assert_eq!(named.to_string().split(": frame").next(), Some("codec ff-h, byte 36, payload bytes"), "{named}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_values_come_back(
        shape in (1usize..3, 1usize..10, 1usize..12, 1usize..12),
        seed in any::<u64>(),
        signed in any::<bool>(),
        scale in -60i32..60,
        q in 0u8..14,
        mode in 0usize..3,
        entropy in 0usize..3,
    ) {
        let shape = [shape.0, shape.1, shape.2, shape.3];
        let mut dice = Dice(seed);
        let count = shape.iter().product::<usize>();
        let values: Vec<f32> = (0..count)
            .map(|_| {
                let value = (dice.roll() - if signed { 0.5 } else { 0.0 }) * 2f32.powi(scale);
                if dice.roll() < 0.4 { 0.0 } else { value }
            })
            .collect();
        let entropy = Entropy::ALL[entropy];
        let settings = Settings { entropy, ..Settings::new(Mode::ALL[mode], q) };
        let got = back(&encode(&settings, &tensor(&shape, &values)).unwrap(), &shape, None);
        let error = nmse(&values, &got.to_f32().unwrap());
        prop_assert!(error < 0.04, "{:?}: {}", settings, error);
    }
}
