//! What the codec registry needs of FF before anything was measured with a model.

use super::{CutPackage, ID_HAAR, ID_SCALAR, Mode, RATES};

/// The rates as the registry lists them.
pub static RATE_LIST: [u8; RATES] = {
    let mut list = [0; RATES];
    let mut q = 0;
    while q < RATES {
        list[q] = q as u8;
        q += 1;
    }
    list
};

/// FF-S by rate, with rANS and without calibration, on made-up maps: bits per element, and the relative squared error of
/// the activations in parts per million, which stands for the loss until that is measured.
pub static ASSUMED_SCALAR: [(f32, u32); RATES] = [
    (2.81, 30),
    (2.64, 42),
    (2.51, 59),
    (2.38, 85),
    (2.27, 120),
    (2.14, 170),
    (2.04, 240),
    (1.93, 340),
    (1.83, 490),
    (1.71, 680),
    (1.61, 970),
    (1.49, 1_400),
    (1.39, 2_000),
    (1.27, 2_800),
    (1.16, 3_900),
    (1.04, 5_400),
    (0.94, 7_600),
    (0.84, 11_000),
    (0.74, 14_000),
    (0.65, 19_000),
    (0.56, 27_000),
    (0.49, 37_000),
    (0.42, 49_000),
    (0.37, 66_000),
    (0.32, 87_000),
    (0.27, 110_000),
    (0.22, 150_000),
    (0.18, 190_000),
    (0.15, 250_000),
    (0.12, 320_000),
    (0.1, 420_000),
    (0.08, 550_000),
];

/// The same for FF-H with one level.
pub static ASSUMED_HAAR: [(f32, u32); RATES] = [
    (2.74, 39),
    (2.6, 56),
    (2.46, 79),
    (2.33, 110),
    (2.19, 160),
    (2.07, 230),
    (1.94, 320),
    (1.82, 470),
    (1.7, 650),
    (1.57, 920),
    (1.45, 1_300),
    (1.33, 1_800),
    (1.22, 2_500),
    (1.11, 3_400),
    (1.0, 4_600),
    (0.9, 6_200),
    (0.81, 8_300),
    (0.71, 11_000),
    (0.63, 15_000),
    (0.55, 19_000),
    (0.48, 25_000),
    (0.41, 32_000),
    (0.35, 40_000),
    (0.3, 51_000),
    (0.26, 63_000),
    (0.22, 81_000),
    (0.19, 100_000),
    (0.16, 130_000),
    (0.14, 160_000),
    (0.11, 190_000),
    (0.1, 240_000),
    (0.09, 290_000),
];

/// The mode that a codec of the registry uses at a rate: FF-H the one that calibration chose, if it is one with levels,
/// else one level. None for codecs that are not FF.
pub fn mode_for(codec: u8, q: u8, package: Option<&CutPackage>) -> Option<Mode> {
    match codec {
        ID_SCALAR => Some(Mode::Scalar),
        ID_HAAR => {
            let best = package.and_then(|package| package.best_mode(q)).filter(|mode| *mode != Mode::Scalar);
            Some(best.unwrap_or(Mode::Haar1))
        }
        _ => None,
    }
}
