//! What the codec registry needs of FF before anything was measured with a model.

use super::{Curve, CutPackage, Entropy, ID_CANCELLING, ID_HAAR, ID_SCALAR, Mode, RATES, Settings};

/// Rates that the registry offers: every second one.
const OFFERED: usize = RATES / 2;

/// The rates as the registry lists them.
pub static RATE_LIST: [u8; OFFERED] = {
    let mut list = [0; OFFERED];
    let mut at = 0;
    while at < OFFERED {
        list[at] = 2 * at as u8;
        at += 1;
    }
    list
};

/// FF-S by rate as it travels, without calibration, on made-up maps: bits per element, and the relative squared error of the
/// activations in parts per million, which stands for the loss until that is measured.
pub static ASSUMED_SCALAR: [(f32, u32); OFFERED] = [
    (4.75, 44),
    (4.46, 86),
    (4.18, 170),
    (3.88, 340),
    (3.6, 690),
    (3.28, 1_400),
    (2.98, 2_800),
    (2.65, 5_600),
    (2.32, 11_000),
    (1.98, 22_000),
    (1.64, 45_000),
    (1.34, 85_000),
    (1.12, 150_000),
    (0.96, 270_000),
    (0.69, 430_000),
    (0.39, 590_000),
];

/// The same for FF-H with one level.
pub static ASSUMED_HAAR: [(f32, u32); OFFERED] = [
    (4.43, 55),
    (4.01, 110),
    (3.66, 220),
    (3.3, 450),
    (2.95, 910),
    (2.6, 1_800),
    (2.26, 3_600),
    (1.92, 7_200),
    (1.6, 14_000),
    (1.29, 27_000),
    (1.0, 49_000),
    (0.74, 87_000),
    (0.52, 140_000),
    (0.36, 230_000),
    (0.23, 340_000),
    (0.14, 440_000),
];

/// What a codec of the registry uses of a cut's package: FF-C what is beside it for errors that cancel, where that is there.
pub fn package_for(codec: u8, package: Option<&CutPackage>) -> Option<&CutPackage> {
    let beside = package.filter(|_| codec == ID_CANCELLING).and_then(CutPackage::cancelling);
    beside.or(package)
}

/// The mode that a codec of the registry uses at a rate: FF-H and FF-C the one that calibration chose (without any levels,
/// where that is best), else one level. None for codecs that are not FF.
pub fn mode_for(codec: u8, q: u8, package: Option<&CutPackage>) -> Option<Mode> {
    let best = || package_for(codec, package).and_then(|package| package.best_mode(q));
    match codec {
        ID_SCALAR => Some(Mode::Scalar),
        ID_HAAR | ID_CANCELLING => Some(best().unwrap_or(Mode::Haar1)),
        _ => None,
    }
}

/// What calibration found of a codec of the registry at a rate, one of FF's or a rival.
pub fn curve_for(codec: u8, q: u8, package: &CutPackage) -> Option<Curve> {
    match mode_for(codec, q, Some(package)) {
        Some(mode) => package_for(codec, Some(package))?.curve(mode, q),
        None => package.rivals().iter().find(|rival| (rival.codec, rival.rate) == (codec, q)).map(|rival| rival.curve),
    }
}

/// How a codec of the registry encodes at a rate: with the package where that has something for it, else without
/// calibration; FF-C does what FF-H does where it has no directions. FF-S is there for speed, so it is packed; the others for size, so they go
/// through contexts and rANS. None for codecs that are not FF.
pub fn settings_of(codec: u8, q: u8, package: Option<&CutPackage>) -> Option<Settings<'_>> {
    let mode = mode_for(codec, q, package)?;
    let entropy = if codec == ID_SCALAR { Entropy::Pack } else { Entropy::Rans };
    let package = package_for(codec, package).filter(|package| package.curve(mode, q).is_some());
    let mode = if package.is_some() { mode } else { mode_for(codec, q, None)? };
    Some(Settings { entropy, package, ..Settings::new(mode, q) })
}
