//! Frames and package files that no encoder writes.

use super::*;
use crate::ff::cut::CutData;

/// Puts the checksum right, so that what lies behind it is reached.
pub(super) fn seal(bytes: &mut [u8]) {
    let at = bytes.len() - 4;
    let crc = crc32c::crc32c(&bytes[..at]);
    bytes[at..].copy_from_slice(&crc.to_le_bytes());
}

fn frames() -> Vec<(Vec<u8>, [usize; 4], Option<CutPackage>)> {
    let shape = [2, 5, 9, 10];
    let package = calibrated(shape, &Weights::default());
    let mut values = spots(1, shape);
    values[77] = f32::NAN;
    values[500] = f32::INFINITY;
    let large = [1, 3, 21, 22];
    let mut frames = Vec::new();
    for settings in every_setting() {
        let given = tensor(&shape, &values);
        let with = Settings { package: Some(&package), q: 16, ..settings };
        frames.push((encode(&with, &given).unwrap(), shape, Some(package.clone())));
        frames.push((encode(&settings, &given).unwrap(), shape, None));
        let bounded = Settings { bound: Some(0.1), order: Order::Nhwc, ..settings };
        frames.push((encode(&bounded, &nhwc(&given)).unwrap(), shape, None));
        frames.push((encode(&settings, &maps_of(2, large)).unwrap(), large, None));
    }
    frames
}

#[test]
fn no_change_of_bytes_makes_the_decoder_fall() {
    let mut dice = Dice(11);
    let (mut refused, mut taken) = (0, 0);
    for (frame, shape, package) in frames() {
        for _ in 0..200 {
            let mut bytes = frame.clone();
            for _ in 0..1 + (dice.roll() * 3.0) as usize {
                let at = (dice.roll() * bytes.len() as f32) as usize;
                bytes[at] = (dice.roll() * 256.0) as u8;
            }
            seal(&mut bytes);
            match decode(&bytes, &shape, Order::Nchw, package.as_ref()) {
                Ok(tensor) => {
                    assert_eq!(tensor.shape(), shape);
                    taken += 1;
                }
                Err(FfError::Frame { offset, .. }) => {
                    assert!(offset <= bytes.len());
                    refused += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    // Many changes of coded symbols are other symbols; many are not.
    assert!(refused > 500 && taken > 50, "{refused} refused, {taken} taken");
}

#[test]
fn every_change_is_seen_by_the_checksum() {
    for (frame, shape, package) in frames() {
        for at in (0..frame.len()).step_by(7) {
            let mut bytes = frame.clone();
            bytes[at] ^= 0x10;
            assert!(decode(&bytes, &shape, Order::Nchw, package.as_ref()).is_err(), "byte {at}");
        }
    }
}

#[test]
fn every_cut_off_frame_is_refused() {
    for (frame, shape, package) in frames() {
        for length in (0..frame.len()).step_by(3) {
            let bytes = &frame[..length];
            assert!(decode(bytes, &shape, Order::Nchw, package.as_ref()).is_err(), "{length}");
            if length > format::HEADER_BYTES + 4 {
                // The same with length and checksum put right.
                let mut bytes = bytes.to_vec();
                let entropy = Entropy::ALL[usize::from(bytes[5])];
                let runs = Dims::of(&shape, Order::Nchw).unwrap().run_count(entropy);
                let payload = length.saturating_sub(44 + 4 * runs) as u32;
                bytes[36..40].copy_from_slice(&payload.to_le_bytes());
                seal(&mut bytes);
                assert!(decode(&bytes, &shape, Order::Nchw, package.as_ref()).is_err(), "{length} sealed");
            }
        }
    }
}

#[test]
fn faults_are_named_with_their_place() {
    let shape = [1, 4, 30, 30];
    let frame = encode(&Settings::new(Mode::Haar1, 12), &maps_of(1, shape)).unwrap();
    let table: [(usize, u8, &str); 10] = [
        (0, b'G', "byte 0, magic: not an FF frame of version 1"),
        (4, 5, "byte 4, mode: there is no 5"),
        (5, 9, "byte 5, entropy: there is no 9"),
        (6, 32, "byte 6, rate: there is no 32"),
        (7, 0x80, "byte 7, flags: unknown flags 0x80"),
        (20, 1, "byte 16, stream: streams are not part of this version"),
        (30, 5, "byte 28, shape: [1, 5, 30, 30] (rows, channels, lines, columns), expected [1, 4, 30, 30]"),
        (40, 0xff, "byte 40, run sizes: more than the payload"),
        (44, 4, "byte 44, chunk flags: unknown flags 0x04"),
        (49, 99, "byte 49, steps: class 99 is out of range"),
    ];
    for (at, byte, wanted) in table {
        let mut bytes = frame.clone();
        if at == 40 {
            bytes[41] = 0xff;
        }
        bytes[at] = byte;
        seal(&mut bytes);
        let error = decode(&bytes, &shape, Order::Nchw, None).unwrap_err().to_string();
        assert_eq!(error, wanted);
    }
    let error = decode(&frame, &[1, 1 << 14, 1 << 8, 1 << 8], Order::Nchw, None).unwrap_err();
    assert!(error.to_string().contains("too large"), "{error}");
}

proptest! {
    #[test]
    fn noise_behind_a_good_header_is_refused_or_read(
        noise in proptest::collection::vec(any::<u8>(), 0..300),
        mode in 2u8..5,
        entropy in 0u8..3,
        flags in 0u8..8,
    ) {
        let shape = [1, 3, 6, 7];
        let mut bytes = encode(&Settings::new(Mode::Scalar, 3), &maps_of(1, shape)).unwrap()[..40].to_vec();
        (bytes[4], bytes[5], bytes[7]) = (mode, entropy, flags);
        bytes[36..40].copy_from_slice(&(noise.len() as u32).to_le_bytes());
        bytes.extend((noise.len() as u32).to_le_bytes());
        bytes.extend(noise);
        bytes.extend([0; 4]);
        seal(&mut bytes);
        if let Ok(tensor) = decode(&bytes, &shape, Order::Nchw, None) {
            prop_assert_eq!(tensor.shape(), shape);
        }
    }

    #[test]
    fn noise_is_no_package(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Package::from_bytes(&noise).is_err());
        prop_assert!(CutPackage::read(&noise).is_err());
    }
}

#[test]
fn package_files_come_back_and_changed_ones_do_not() {
    let cut = calibrated([1, 3, 6, 6], &Weights::default());
    let cut = cut.with_losses(|_, q| Some(Loss::around(f32::from(q) / 1_000.0, 0.002))).unwrap();
    let package = Package::new([7; 32], vec![cut.clone()]).unwrap();
    let file = package.to_bytes().unwrap();
    let again = Package::from_bytes(&file).unwrap();
    assert_eq!(again, package);
    assert_eq!((again.id().unwrap(), again.cuts()[0].id()), (package.id().unwrap(), cut.id()));
    assert_eq!(again.cut("block1").map(CutPackage::id), again.cut_by_id(cut.id()).map(CutPackage::id));
    assert!(Package::new([8; 32], vec![cut.clone()]).is_err(), "another model");
    assert!(Package::new([7; 32], vec![cut.clone(), cut]).is_err(), "twice the same name");
    let mut dice = Dice(3);
    for _ in 0..1_000 {
        let mut bytes = file.clone();
        let at = (dice.roll() * bytes.len() as f32) as usize;
        bytes[at] = (dice.roll() * 256.0) as u8;
        seal(&mut bytes);
        if let Ok(read) = Package::from_bytes(&bytes) {
            // What is taken can be used.
            let given = maps_of(1, [1, 3, 6, 6]);
            let first = read.cuts().first().and_then(|cut| cut.curves().next().map(|curve| (cut, curve)));
            if let Some((cut, (mode, q, _))) = first {
                let settings = Settings { package: Some(cut), ..Settings::new(mode, q) };
                if let Ok(frame) = encode(&settings, &given) {
                    back(&frame, given.shape(), Some(cut));
                }
            }
        }
    }
    for length in (0..file.len()).step_by(97) {
        assert!(Package::from_bytes(&file[..length]).is_err());
    }
}

/// Version 2 of the file.
#[test]
fn files_with_directions_come_back_and_changed_ones_do_not() {
    let plain = calibrated([1, 3, 6, 6], &Weights::default());
    let slopes: Vec<f32> = spots(9, [5, 3, 6, 6]).iter().map(|v| v - 0.3).collect();
    let directions = Directions::of(&slopes, &[1, 3, 6, 6]).unwrap().unwrap();
    let aimed = plain.clone().with_directions(directions.clone()).unwrap();
    let cut = plain.clone().with_cancelling(aimed.clone()).unwrap();
    for (cut, beside) in [(&plain, &plain), (&aimed, &aimed), (&plain, &cut)] {
        assert!(cut.clone().with_cancelling(beside.clone()).is_err());
    }
    let other = CutPackage::new(CutData { name: "x".into(), ..CutData::clone(&aimed.data) }).unwrap();
    let other = other.with_directions(directions.clone()).unwrap();
    assert!(plain.clone().with_cancelling(other).unwrap_err().to_string().contains("of another cut"));
    let of = |cut: &CutPackage| Package::new([7; 32], vec![cut.clone()]).unwrap();
    let (before, file) = (of(&plain).to_bytes().unwrap(), of(&cut).to_bytes().unwrap());
    assert_eq!((&before[..8], &file[..8]), (&b"BPSFFPK1"[..], &b"BPSFFPK2"[..]));
    let again = Package::from_bytes(&file).unwrap();
    assert_eq!(again, of(&cut));
    assert_ne!(again, of(&plain));
    let read = &again.cuts()[0];
    assert_eq!((read.directions(), read.id()), (None, plain.id()));
    assert_eq!(read.cancelling().and_then(CutPackage::directions), Some(&directions));
    // What was measured is entered later.
    let later = |cut: &CutPackage| cut.with_losses(|_, _| None).unwrap().with_best(|_| Some(Mode::Haar1)).unwrap();
    assert_eq!((later(&cut).cancelling(), later(&aimed).directions()), (Some(&aimed), Some(&directions)));
    let (id, beside) = (later(&aimed).id(), later(&aimed));
    let found = of(&plain.clone().with_cancelling(beside).unwrap());
    assert_eq!(found.cut_by_id(id).map(CutPackage::directions), Some(Some(&directions)), "frames name it");
    let renamed = |version: u8, file: &[u8]| {
        let mut file = file.to_vec();
        file[7] = version;
        seal(&mut file);
        Package::from_bytes(&file).unwrap_err().to_string()
    };
    assert!(renamed(b'1', &file).contains("behind the last cut"));
    assert!(renamed(b'2', &before).starts_with("package, directions"));
    assert!(renamed(b'3', &file).starts_with("package, rivals"));
    assert_eq!(renamed(b'4', &file), "package, head: not an FF package of version 1 to 3");
    let mut dice = Dice(4);
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..1_000 {
        let mut bytes = file.clone();
        // Mostly among the directions, which stand at the end.
        let at = bytes.len() - 1 - (dice.roll() * 600.0) as usize;
        bytes[at] = (dice.roll() * 256.0) as u8;
        seal(&mut bytes);
        match Package::from_bytes(&bytes) {
            Err(_) => refused += 1,
            Ok(read) => {
                taken += 1;
                let settings = Settings { package: read.cuts()[0].cancelling(), ..Settings::new(Mode::Haar2, 16) };
                let given = maps_of(1, [1, 3, 6, 6]);
                back(&encode(&settings, &given).unwrap(), given.shape(), settings.package);
            }
        }
    }
    assert!(taken > 100 && refused > 5, "{taken} taken, {refused} refused");
    for length in (0..file.len()).step_by(97) {
        assert!(Package::from_bytes(&file[..length]).is_err());
    }
}

/// Version 3 of the file.
#[test]
fn files_with_rivals_come_back_and_wrong_ones_do_not() {
    let plain = calibrated([1, 3, 6, 6], &Weights::default());
    let curve = Curve { bits_mean: 7.3, bits_p95: 7.5, nmse: 1e-4, output_nmse: None, loss: None };
    let lossy = Curve { loss: Some(Loss::around(0.01, 0.004)), ..curve };
    let (int8, jpeg) = (Rival { codec: 5, rate: 0, curve }, Rival { codec: 6, rate: 90, curve: lossy });
    let cut = plain.clone().with_rivals(vec![int8, jpeg]).unwrap();
    assert_eq!(cut.id(), plain.id(), "frames are as before");
    let of = |cut: &CutPackage| Package::new([7; 32], vec![cut.clone()]).unwrap();
    let file = of(&cut).to_bytes().unwrap();
    assert_eq!(&file[..8], b"BPSFFPK3");
    let again = Package::from_bytes(&file).unwrap();
    assert_eq!(again, of(&cut));
    assert_ne!(again, of(&plain));
    let read = &again.cuts()[0];
    assert_eq!(
        (curve_for(5, 0, read), curve_for(6, 90, read), curve_for(6, 50, read)),
        (Some(curve), Some(lossy), None)
    );
    assert_eq!(curve_for(ID_HAAR, 16, read), curve_for(ID_HAAR, 16, &plain), "FF has its own");
    let later = cut.with_best(|_| Some(Mode::Haar1)).unwrap();
    assert_eq!(later.rivals(), cut.rivals(), "what is entered later takes nothing away");
    let broken = Curve { loss: Some(Loss { mean: 0.1, low: 0.2, high: 0.3 }), ..curve };
    let wrong = [
        (vec![int8, int8], "is there twice"),
        (vec![Rival { codec: ID_HAAR, rate: 16, curve }], "is none"),
        (vec![Rival { codec: 6, rate: 51, curve }], "is none"),
        (vec![Rival { codec: 200, rate: 0, curve }], "is none"),
        (vec![Rival { curve: broken, ..int8 }], "out of range"),
    ];
    for (rivals, message) in wrong {
        let error = plain.clone().with_rivals(rivals).unwrap_err().to_string();
        assert!(error.starts_with("package, rivals") && error.contains(message), "{error}");
    }
    let mut dice = Dice(5);
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..1_000 {
        let mut bytes = file.clone();
        let at = bytes.len() - 5 - (dice.roll() * 60.0) as usize;
        bytes[at] = (dice.roll() * 256.0) as u8;
        seal(&mut bytes);
        match Package::from_bytes(&bytes) {
            Ok(read) => {
                taken += 1;
                assert!(read.to_bytes().is_ok(), "what is read can be written");
            }
            Err(_) => refused += 1,
        }
    }
    assert!(taken > 100 && refused > 100, "{taken} taken, {refused} refused");
    for length in (0..file.len()).step_by(97) {
        assert!(Package::from_bytes(&file[..length]).is_err());
    }
}

#[test]
fn packages_are_checked() {
    let good = calibrated([1, 2, 4, 4], &Weights::default());
    let data = || CutData::clone(&good.data);
    let table: [(&str, CutData); 8] = [
        ("frequencies", CutData { frequencies: vec![256; 16], ..data() }),
        ("offsets", CutData { offsets: Vec::new(), ..data() }),
        ("step", CutData { base_step: f32::NAN, ..data() }),
        ("step", CutData { base_step: 1e38, ..data() }),
        ("modes", CutData { shape: None, ..data() }),
        ("shape", CutData { shape: Some([1, u32::MAX, u32::MAX]), ..data() }),
        ("multipliers", CutData { shape: Some([3, 4, 4]), ..data() }),
        ("name", CutData { name: "x".repeat(300), ..data() }),
    ];
    for (what, data) in table {
        match CutPackage::new(data) {
            Err(FfError::Calibration { what: got, .. }) => assert_eq!(got, what),
            other => panic!("{what}: {other:?}"),
        }
    }
    let mut wrong = data();
    wrong.modes[0].rates[0].classes[0] = 24;
    assert!(CutPackage::new(wrong).is_err());
    assert!(CutPackage::new(data()).is_ok());
}
