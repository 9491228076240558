use super::loss::Judge;
use super::net::{Net, Row};
use super::*;
use bps_codec::ff::{self, Mode};
use clap::Parser;
use std::sync::Arc;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: CalibrateArgs,
}

/// The model that comes with the program, in a folder of its own.
fn digits() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let model = crate::local::digits_model();
    std::fs::write(folder.path().join("model.onnx"), &model.onnx).unwrap();
    std::fs::write(folder.path().join("model.toml"), &model.manifest).unwrap();
    folder
}

fn calibrated(folder: &Path, line: &[&str]) -> (Report, Package) {
    let model = folder.to_str().unwrap();
    let args = Line::try_parse_from([&["calibrate", model], line].concat()).expect("a good line").args;
    let report = calibrate(&args, folder).unwrap();
    let package = Package::from_bytes(&std::fs::read(&report.file).unwrap()).unwrap();
    (report, package)
}

/// A mode's bits, fine to coarse.
fn bits(cut: &CutPackage, mode: Mode) -> Vec<f32> {
    cut.curves().filter(|(m, ..)| *m == mode).map(|(_, _, curve)| curve.bits_mean).collect()
}

#[test]
fn the_digits_model_is_calibrated_and_bound_to_its_file() {
    let folder = digits();
    let line = ["--data", "digits", "--rows", "160", "--probes", "28", "--seconds", "60"];
    let (report, package) = calibrated(folder.path(), &line);
    assert_eq!((report.loss_by, report.rows, report.left_out.len()), ("labels", 160, 0));
    assert_eq!(report.file, folder.path().join("model.ff"));
    let graph = model_file::load(&folder.path().join("model.onnx")).unwrap();
    assert_eq!((*package.model(), package.cuts().len()), (graph.digest, report.values.len()));
    let shown = Shown::of(&package);
    assert!(shown.text().contains("calibrated with data") && shown.svg().contains("polyline"));
    for (cut, value) in package.cuts().iter().zip(&report.values) {
        assert_eq!((cut.name(), cut.origin(), value.rows), (&value.name[..], Origin::Calibrated { rows: 80 }, 80));
        let scalar = bits(cut, Mode::Scalar);
        // Of a few elements most is the frame's head, which states more or less.
        assert!(scalar.len() == 16 && scalar.windows(2).all(|w| 1.01 * w[0] >= w[1]), "{}: {scalar:?}", cut.name());
        let named: Vec<&str> = value.codecs.iter().map(|codec| codec.codec).collect();
        assert_eq!(named, ["ff-h", "ff-c"], "{}", cut.name());
        for (codec, package) in report::codecs(cut) {
            let best = report::curves(package);
            let whole = best.len() == 16 && best.iter().all(|(_, _, curve)| curve.loss.is_some());
            assert!(whole && package.directions().is_some() == (codec == "ff-c"), "{codec} of {}", cut.name());
        }
    }
    // Deep in the net two bits are enough, and behind a ReLU FF needs fewer bits than int8-zstd for the same answers.
    let deep = report.values.iter().zip(package.cuts()).filter(|(value, _)| value.elements == 512);
    let (mut behind_relu, mut cancelling_needs_fewer) = (0, 0);
    for (value, cut) in deep {
        let curves = report::curves(cut);
        let (_, _, about_two) = curves.iter().find(|(_, _, curve)| curve.bits_mean < 2.25).unwrap();
        assert!(about_two.loss.is_some_and(|loss| loss.mean <= 0.05), "{}: {about_two:?}", value.name);
        let rival = &value.int8_zstd;
        if value.name.to_lowercase().contains("relu") {
            behind_relu += 1;
            let [rounded, cancelling] = &value.codecs[..] else { panic!("{value:?}") };
            assert!(rounded.at_int8.is_some_and(|bits| bits < rival.bits), "{value:?}");
            let needs_fewer = cancelling.at_int8.zip(rounded.at_int8).is_some_and(|(fewer, bits)| fewer < bits);
            cancelling_needs_fewer += usize::from(needs_fewer);
        }
    }
    // That error is finer than errors that cancel are for: at the net's end alone they reach it.
    assert!(behind_relu == 3 && cancelling_needs_fewer > 0, "{behind_relu}, {cancelling_needs_fewer}");
    // What hosts need to know of codecs that need no calibration: 40 rows of which none changed say nothing against what is
    // assumed of them.
    for cut in package.cuts() {
        let of = |codec| ff::curve_for(codec, 0, cut).unwrap();
        let (f16, int8) = (of(2), of(4));
        assert!((16.0..17.0).contains(&f16.bits_mean) && (8.0..10.0).contains(&int8.bits_mean), "{f16:?} {int8:?}");
        assert!(of(5).bits_mean < int8.bits_mean && of(0).output_nmse == Some(0.0) && of(0).loss.is_none());
        assert!(f16.nmse < 1e-6 && int8.nmse < 1e-3 && f16.output_nmse < int8.output_nmse, "{f16:?} {int8:?}");
    }
    assert!(Shown::of(&package).text().contains("int8-zstd"));
    let (_, again) = calibrated(folder.path(), &line);
    assert_eq!(package, again, "the same call gives the same file");
    assert_eq!((data_rows(&package, &graph.digest), data_rows(&package, &[0; 32])), (80, 0));
    let hint = format!("`bps calibrate --show {}`", report.file.display());
    assert!(report.text().contains(&hint), "{}", report.text());
}

#[test]
fn without_data_the_file_says_so_and_is_still_better_than_int8_zstd() {
    let folder = digits();
    let (report, package) = calibrated(folder.path(), &["--rows", "64", "--probes", "0", "--seconds", "20"]);
    assert_eq!((report.loss_by, report.source.as_str()), ("none", "made-up inputs"));
    assert!(package.cuts().iter().all(|cut| cut.origin() == Origin::MadeUp { rows: 32 }));
    assert!(package.cuts().iter().flat_map(CutPackage::curves).all(|(_, _, curve)| curve.loss.is_none()));
    assert_eq!(data_rows(&package, package.model()), 0, "nobody's data");
    assert!(Shown::of(&package).text().contains("made-up inputs") && report.text().contains("MADE UP"));
    // Seen on real digits.
    let graph = Arc::new(model_file::load(&folder.path().join("model.onnx")).unwrap());
    let net = Net::load(graph.clone(), None, "cpu").unwrap();
    let target = data::Target { graph: &graph, pixels: None, classes: Some(10) };
    let samples = data::load(Some(Path::new("digits")), None, 48, target).unwrap();
    let inputs: Vec<&Row> = samples.inputs.iter().collect();
    let clean = measure::answers(&net.whole(&inputs).unwrap()).unwrap();
    for place in net.places().0.iter().filter(|place| place.name.to_lowercase().contains("relu")) {
        let rows = net.head(&inputs, place.cut).unwrap();
        let trial = measure::Trial {
            net: &net,
            place,
            rows: rows.iter().collect(),
            numbers: Vec::new(),
            clean: clean.iter().collect(),
            judge: &Judge::Nothing,
        };
        let cut = package.cut(&place.name).unwrap();
        // Four fifths of the bits give the same classes.
        let rivals = rivals::measure(&trial, None).unwrap();
        let int8 = rivals.iter().find(|rival| rival.codec == 5).map(|rival| rival.effect).unwrap();
        let ff = trial.ff(cut, Mode::Scalar, 8).unwrap();
        assert!(ff.bits < 0.8 * int8.bits && ff.changed <= 1, "{}: {ff:?} {int8:?}", place.name);
    }
}
