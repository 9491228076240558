//! What frames weigh: against the ideal of their model, and against INT8 with zstd.

use super::*;
use crate::ff::coder::{Classes, Model, pick_tables};
use crate::ff::tables::Kind;
use crate::ff::token::ESCAPE;

/// Bits of a chunk's symbols in an ideal coder with the same tables.
fn ideal_bits(model: &Model<'_>, classes: &[u8], symbols: &[i16]) -> f64 {
    let mut bits = 0.0;
    let (mut parents, mut tables, mut lines) = (Vec::new(), Vec::new(), Vec::new());
    for channel in 0..model.channels {
        for (band, shape) in model.bands.all().iter().enumerate() {
            let plane = &symbols[model.bands.start(band, model.channels) + channel * shape.plane()..][..shape.plane()];
            model.parents(band, channel, 1, symbols, &mut parents);
            tables.resize(plane.len(), 0);
            let kind = Kind::of(model.bands.levels, band, model.signed);
            let scale = kind.scale(classes[band * model.channels + channel]);
            let below = if band > 0 { &parents[..] } else { &[] };
            pick_tables(plane, shape.width, scale, below, (&mut lines, &mut tables));
            for (symbol, table) in plane.iter().zip(&tables) {
                let (token, table) = (kind.alphabet().token(*symbol), &model.tables[usize::from(*table)]);
                let token = if table.span(token).1 == 0 { ESCAPE } else { token };
                bits += table.cost(token) + f64::from(kind.alphabet().open_bits(token));
            }
        }
    }
    bits
}

#[test]
fn frames_weigh_what_their_model_says() {
    // 200,704 elements.
    let shape = [1, 64, 56, 56];
    let samples = [maps_of(50, shape)];
    let calibration = Calibration {
        name: "block2",
        model: [1; 32],
        samples: &samples,
        order: Order::Nchw,
        modes: &Mode::ALL,
        rates: &[10, 16, 21],
        weights: &Weights::default(),
        directions: None,
    };
    let package = calibrate(&calibration).unwrap();
    let given = maps_of(1, shape);
    for mode in Mode::ALL {
        for q in [10, 16, 21] {
            let settings = Settings { package: Some(&package), ..Settings::new(mode, q) };
            let real = encode(&settings, &given).unwrap().len();
            let dims = Dims::of(&shape, Order::Nchw).unwrap();
            let choice =
                Choice { mode, entropy: Entropy::Rans, order: Order::Nchw, q, bounded: false, plane_classes: true };
            let recipe = Recipe::new(choice, dims, &package).unwrap();
            let (mut ideal, mut coded) = (0.0, 0);
            let chunks = given.data().as_chunks::<4>().0.chunks(dims.chunk_elements());
            for (chunk, bytes) in chunks.enumerate() {
                let (first, channels) = dims.chunk_range(chunk);
                let mut symbols = vec![0; recipe.bands.symbols * channels];
                assert!(chunk::quantise(&recipe, first, bytes, recipe.step, None, &mut symbols).is_empty());
                let classes = recipe.known_classes(first, channels).unwrap();
                let ratios = recipe.ratios.get(first..).unwrap_or_default();
                let model = Model { bands: recipe.bands, channels, signed: false, tables: &package.tables, ratios };
                ideal += ideal_bits(&model, &classes, &symbols) / 8.0;
                let (mut writer, mut out) = (rans::Writer::new(), Vec::new());
                coder::write(&model, &Classes::Known(&classes), &classes, &symbols, &mut writer);
                writer.finish(geometry::LANES, &mut out);
                coded += out.len();
            }
            let bits = 8.0 * real as f64 / dims.elements() as f64;
            eprintln!("{} q {q:2}: {bits:.3} bits/element, {real} bytes, ideal {ideal:.0}", mode.name());
            assert!((real as f64) < 1.03 * ideal, "{mode:?} {q}: {real} bytes, ideal {ideal:.0}");
            // 68 bytes are one per cent of 0.27 bits an element.
            assert!(bits < 0.27 || (real - coded) as f64 <= 0.01 * real as f64, "{mode:?} {q}: {real} {coded}");
        }
    }
}

/// Fewest bytes over all modes and rates with at most this error.
fn fewest(package: Option<&CutPackage>, entropy: Entropy, given: &HostTensor, error: f64) -> (f64, Mode, u8) {
    let values = given.to_f32().unwrap();
    let all = Mode::ALL.into_iter().flat_map(|mode| (0..RATES as u8).map(move |q| (mode, q)));
    all.filter_map(|(mode, q)| {
        let bytes = encode(&Settings { entropy, package, ..Settings::new(mode, q) }, given).unwrap();
        let seen = nmse(&values, &back(&bytes, given.shape(), package).to_f32().unwrap());
        (seen <= error).then_some((bytes.len() as f64, mode, q))
    })
    .min_by(|a, b| a.0.total_cmp(&b.0))
    .unwrap()
}

/// The same for codes of 2 to 255 equal steps from least to greatest, one byte each and zstd over them: what INT8 becomes
/// when it may be coarser.
fn fewest_int(values: &[f32], error: f64) -> f64 {
    let most = values.iter().copied().fold(0.0, f32::max);
    let sizes = (2..=255u8).filter_map(|levels| {
        let step = most / f32::from(levels - 1);
        let codes: Vec<u8> = values.iter().map(|v| (v / step).round() as u8).collect();
        let got: Vec<f32> = codes.iter().map(|c| f32::from(*c) * step).collect();
        (nmse(values, &got) <= error).then(|| crate::squeeze::squeeze(&codes).unwrap().len())
    });
    sizes.min().unwrap() as f64
}

#[test]
fn at_equal_error_ff_is_smaller_than_integers_with_zstd() {
    let shape = [1, 32, 28, 28];
    let rates: Vec<u8> = (0..RATES as u8).collect();
    let samples: Vec<_> = (0..4).map(|seed| maps_of(60 + seed, shape)).collect();
    let (samples, order, weights) = (&samples[..], Order::Nchw, &Weights::default());
    let calibration = Calibration {
        name: "c",
        model: [0; 32],
        samples,
        order,
        modes: &Mode::ALL,
        rates: &rates,
        weights,
        directions: None,
    };
    let package = calibrate(&calibration).unwrap();
    let given = maps_of(1, shape);
    let values = given.to_f32().unwrap();
    let packed = crate::encode(5, 0, &given).unwrap();
    let int8_error = nmse(&values, &crate::decode(&packed, &shape).unwrap().to_f32().unwrap());
    let bits = |bytes: f64| 8.0 * bytes / values.len() as f64;
    eprintln!("int8-zstd: {:.3} bits/element, NMSE {int8_error:.1e}", bits(packed.data.len() as f64));
    // By error: the most that calibrated rANS, data-free rANS, data-free zstd and data-free packing may take of the rival.
    let table = [(int8_error, [0.85, 0.96, 1.1, 1.4]), (1e-3, [0.75, 0.8, 1.0, 1.2]), (1e-2, [0.75, 0.8, 1.0, 1.2])];
    for (error, limits) in table {
        let int = if error == int8_error { packed.data.len() as f64 } else { fewest_int(&values, error) };
        let kinds =
            [(Some(&package), Entropy::Rans), (None, Entropy::Rans), (None, Entropy::Zstd), (None, Entropy::Pack)];
        for ((package, entropy), limit) in kinds.into_iter().zip(limits) {
            let (bytes, mode, q) = fewest(package, entropy, &given, error);
            let origin = if package.is_some() { "calibrated" } else { "data-free" };
            eprintln!(
                "NMSE {error:.1e}: int-zstd {:.3} bits/element, {origin} {entropy:?} {} q {q} {:.3}, ratio {:.3}",
                bits(int),
                mode.name(),
                bits(bytes),
                bytes / int
            );
            assert!(bytes < limit * int, "{origin} {entropy:?} at {error:.1e}: {bytes} of {int} bytes");
        }
    }
}
