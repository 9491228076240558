//! A model's calibration file, which comes with a model from elsewhere. What is read must be what is written, and what is
//! taken can be used.

#![no_main]

use bps_codec::ff::{
    Calibration, Curve, CutPackage, Directions, Loss, Mode, Order, Package, Rival, Settings, Weights, calibrate,
    decode, encode,
};
use bps_fuzz::{Input, seed, within};
use bps_types::HostTensor;
use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

#[path = "../../../host/codec/src/ff/tests/maps.rs"]
#[expect(dead_code, reason = "only the maps are used")]
mod maps;

/// Leaves length and checksum as they are.
const AS_IT_IS: u8 = 1;
/// Stands in an input for a cut's tables, which are most of a file and rarely what is wrong with it.
const TABLES: &[u8] = b"tables";
const HEAD_BYTES: usize = 12;
/// Larger rows would only make the fuzzer slow.
const ROW_ELEMENTS_MAX: usize = 1 << 12;

fuzz_target!(init: seed(seeds(), &["tables"]), |data: &[u8]| {
    let mut input = Input::new(data);
    let flags = input.byte();
    let mut file = swapped(input.rest(), TABLES, &file_and_tables().1);
    if flags & AS_IT_IS == 0 {
        mend(&mut file);
    }
    // A cut is kept as it is read, its 1,200 tables are made ready, and its stored form is hashed.
    within((8 << 20) + 64 * file.len(), || {
        let Ok(package) = Package::from_bytes(&file) else { return };
        let again = package.to_bytes().expect("what was read can be written");
        let back = Package::from_bytes(&again).expect("what was written can be read");
        assert_eq!(back.to_bytes().as_ref(), Ok(&again));
        assert_eq!(back.id(), package.id());
        package.cuts().iter().flat_map(|cut| [Some(cut), cut.cancelling()]).flatten().take(4).for_each(try_out);
    });
});

/// Codes a map with everything that a cut has, and reads it again.
fn try_out(cut: &CutPackage) {
    let shape = cut.row_shape().unwrap_or([2, 5, 5]);
    let elements = shape.iter().try_fold(1usize, |n, extent| n.checked_mul(*extent));
    let Some(elements) = elements.filter(|n| *n <= ROW_ELEMENTS_MAX) else { return };
    let values: Vec<f32> = (0..elements).map(|i| (i % 13) as f32 - 4.0).collect();
    let shape = [1, shape[0], shape[1], shape[2]];
    let tensor = HostTensor::from_f32(shape.to_vec(), &values).expect("as long as it says");
    let listed = cut.curves().map(|(mode, q, _)| (mode, q)).take(4);
    for (mode, q) in listed.chain(cut.best_mode(9).map(|mode| (mode, 9))).chain([(Mode::Haar2, 12)]) {
        for bound in [None, Some(0.25)] {
            let settings = Settings { package: Some(cut), bound, ..Settings::new(mode, q) };
            // A shape may be one that no frame has, and the last of these modes is not in every package.
            let Ok(frame) = encode(&settings, &tensor) else { continue };
            let back = decode(&frame, &shape, Order::Nchw, Some(cut)).expect("what was encoded can be decoded");
            let back = back.to_f32().expect("it is FP32");
            let far = |(a, b): (&f32, &f32)| {
                bound.is_some_and(|most| (f64::from(*a) - f64::from(*b)).abs() > f64::from(most))
            };
            assert!(!values.iter().zip(&back).any(far), "the bound is kept");
        }
    }
}

/// Puts the length of the body and the checksum right.
fn mend(file: &mut Vec<u8>) {
    file.resize(file.len().max(HEAD_BYTES + 4), 0);
    let end = file.len() - 4;
    let body = (end - HEAD_BYTES) as u32;
    file[8..HEAD_BYTES].copy_from_slice(&body.to_le_bytes());
    let crc = crc32c::crc32c(&file[..end]);
    file[end..].copy_from_slice(&crc.to_le_bytes());
}

/// The bytes with `from` replaced, at most four times.
fn swapped(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes;
    for _ in 0..4 {
        let Some(at) = rest.windows(from.len()).position(|w| w == from) else { break };
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}

fn cut(name: &str, shape: [usize; 4], modes: &[Mode], rates: &[u8]) -> CutPackage {
    let sample = HostTensor::from_f32(shape.to_vec(), &maps::spots(5, shape)).expect("as long as it says");
    let slopes = [maps::spots(6, shape), maps::spots(7, shape)].concat();
    let directions = Directions::of(&slopes, &shape).expect("slopes fit the shape");
    let what = Calibration {
        name,
        model: [7; 32],
        samples: &[sample],
        order: Order::Nchw,
        modes,
        rates,
        weights: &Weights::default(),
        directions: None,
    };
    let plain = calibrate(&what).expect("samples fit together");
    let aimed = calibrate(&Calibration { directions: directions.as_ref(), ..what }).expect("and so do directions");
    if directions.is_some() { plain.with_cancelling(aimed).expect("of the same cut") } else { plain }
}

fn file(cuts: Vec<CutPackage>) -> Vec<u8> {
    Package::new([7; 32], cuts).and_then(|package| package.to_bytes()).expect("it is small")
}

/// A file of one cut and the tables in it: 1,200 of 16 frequencies, a count before them.
fn file_and_tables() -> &'static (Vec<u8>, Vec<u8>) {
    static SLOT: OnceLock<(Vec<u8>, Vec<u8>)> = OnceLock::new();
    SLOT.get_or_init(|| {
        let file = file(vec![cut("block1", [1, 3, 6, 6], &Mode::ALL, &[8, 16])]);
        let tables = tables_of(&file).to_vec();
        (file, tables)
    })
}

/// 19,200 numbers of seven bits a byte.
fn tables_of(file: &[u8]) -> &[u8] {
    let count = [0x80, 0x96, 0x01];
    let at = file.windows(count.len()).position(|w| w == count).expect("the tables' count is there");
    let is_last = |(_, byte): &(usize, &u8)| **byte < 0x80;
    let end = file[at..].iter().enumerate().filter(is_last).nth(19_200).expect("all tables are there").0;
    &file[at..=at + end]
}

fn seeds() -> Vec<Vec<u8>> {
    let (one, _) = file_and_tables();
    let flat = file(vec![cut("head", [2, 10, 1, 1], &[Mode::Scalar], &[0, 12, 31])]);
    let curve = Curve { bits_mean: 7.3, bits_p95: 7.5, nmse: 1e-4, output_nmse: Some(1e-3), loss: None };
    let lossy = Curve { loss: Some(Loss::around(0.01, 0.004)), ..curve };
    let rivals = vec![Rival { codec: 5, rate: 0, curve }, Rival { codec: 6, rate: 90, curve: lossy }];
    let with_rivals = cut("c", [1, 2, 4, 4], &[Mode::Haar1], &[8]).with_rivals(rivals).expect("they are codecs");
    let three = file(vec![with_rivals]);
    let two = file(vec![cut("a", [1, 2, 3, 5], &[Mode::Haar1], &[4]), cut("b", [1, 1, 4, 4], &[Mode::Haar2], &[])]);
    let short = |file: &[u8]| {
        let mut file = file.to_vec();
        while let Some(at) = file.windows(3).position(|w| w == [0x80, 0x96, 0x01]) {
            let length = tables_of(&file).len();
            file.splice(at..at + length, TABLES.iter().copied());
        }
        [&[0], &file[..]].concat()
    };
    vec![short(one), short(&flat), short(&two), short(&three), [&[AS_IT_IS], &one[..]].concat(), vec![0]]
}
