//! `bps calibrate`: what FF needs to know of a model, measured with the model.

mod data;
mod loss;
mod made_up;
mod measure;
mod net;
mod probe;
mod show;
mod svg;

use crate::exit::{EXIT_CODES, usage};
use crate::model_file;
use crate::output::Output;
use crate::progress;
use crate::table::{self, Table};
use anyhow::{Context, Result, bail};
use bps_codec::ff::{CutPackage, PACKAGE_BYTES_MAX, Package};
use bps_engine::PixelInput;
use bps_graph::manifest::{self, ModelManifest};
use loss::Judge;
use measure::{Bench, Calibrated};
use net::{Net, Row};
use serde::Serialize;
use show::Shown;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const TEACH: &str = "\
What it does
  Runs the model on your data and writes MODEL.ff beside it: for every value that may cross a link the steps, bin means and
  tables of FF, what each rate costs in bits and in accuracy, and which mode is best where. Half of the rows make tables, the
  other half say what is lost. Hosts use the file when all of them have the same one; copy it along with the model.
  Steps follow the model's sensitivity (forward differences through the rest of the model) where that saves bits.
  Without --data inputs are made up: sizes and errors are then rough, losses are not measured, and the file says so.

How to read the table
  bits at 0.1, 0.5, 1: the fewest bits of an element, and the rate, at which the measured loss is at most so many points.
  int8-zstd: its bits and the error of the outputs, which needs no calibration, beside FF's error at about those points.

Examples
  bps calibrate models/digits --data digits
  bps calibrate net.onnx --data photos/ --rows 1024        # photos/CLASS/*.jpg, or without sub-folders
  bps calibrate net.onnx --data inputs.npy --labels labels.npy
  bps calibrate --show net.ff --svg net.svg";

/// Measure what FF needs to know of a model, and write it beside the model.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = format!("{TEACH}\n\n{EXIT_CODES}"))]
pub(crate) struct CalibrateArgs {
    /// The .onnx file, or a folder with model.onnx and model.toml.
    #[arg(required_unless_present = "show")]
    model: Option<PathBuf>,
    /// A folder of images, a .npy file of inputs, or the word `digits` [default: what model.toml says, else made up].
    #[arg(long, value_name = "DIR|FILE")]
    data: Option<PathBuf>,
    /// The classes of a .npy file's rows, whole numbers [default: agreement with the model itself counts].
    #[arg(long, value_name = "FILE.npy")]
    labels: Option<PathBuf>,
    /// Rows that are used, chosen evenly.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(8..=100_000))]
    rows: u32,
    /// About how long it may take; with less time fewer rows and rates are measured.
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    seconds: u32,
    /// Runs through the rest of the model that sensitivities may take, for each value and mode; 0: equal steps.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(0..=4_096))]
    probes: u32,
    /// Where it runs, as in `bps serve`.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: String,
    /// The file to write [default: the model's, with the extension ff].
    #[arg(short, long, value_name = "FILE.ff")]
    out: Option<PathBuf>,
    /// Show a file instead of making one.
    #[arg(long, value_name = "FILE.ff", conflicts_with_all = ["model", "data", "labels", "out"])]
    show: Option<PathBuf>,
    /// Also draw it.
    #[arg(long, value_name = "FILE.svg", requires = "show")]
    svg: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Report {
    file: PathBuf,
    bytes: usize,
    source: String,
    rows: usize,
    /// `labels`, `agreement` or `none`.
    loss_by: &'static str,
    values: Vec<ReportValue>,
    /// Values that FF does not take.
    left_out: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ReportValue {
    name: String,
    cut: usize,
    elements: usize,
    /// Steps follow sensitivity.
    weighted: bool,
    /// At 0.1, 0.5 and 1 point: bits of an element, rate, error of the outputs.
    at_loss: [Option<(f32, u8, f32)>; 3],
    int8_zstd_bits: f32,
    int8_zstd_output_nmse: f32,
    int8_zstd_loss: Option<f32>,
}

/// Points of accuracy at which the table looks.
const POINTS: [f32; 3] = [0.001, 0.005, 0.01];

/// Measures and writes, or shows.
pub(crate) fn run(args: &CalibrateArgs, out: Output) -> Result<()> {
    if let Some(file) = &args.show {
        return show(file, args.svg.as_deref(), out);
    }
    let model = args.model.as_deref().context("no model was named")?;
    let report = calibrate(args, model)?;
    out.emit(&report, text)
}

fn show(file: &Path, svg: Option<&Path>, out: Output) -> Result<()> {
    let length = std::fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len();
    if length > PACKAGE_BYTES_MAX as u64 {
        bail!("{} has {length} bytes, at most {PACKAGE_BYTES_MAX} are read", file.display());
    }
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let package = Package::from_bytes(&bytes).with_context(|| format!("{} is no calibration", file.display()))?;
    let shown = Shown::of(&package);
    if let Some(svg) = svg {
        model_file::write(svg, shown.svg().as_bytes())?;
    }
    out.emit(&shown, Shown::text)
}

fn calibrate(args: &CalibrateArgs, model: &Path) -> Result<Report> {
    let onnx = if model.is_dir() { model.join("model.onnx") } else { model.to_owned() };
    let graph = Arc::new(model_file::load(&onnx)?);
    let manifest = read_manifest(&onnx)?;
    let pixels = manifest.preprocess.as_ref().map(|p| PixelInput::of(&graph, p)).transpose();
    let pixels = pixels.map_err(|e| usage(format!("{}: {e}", onnx.with_extension("toml").display())))?;
    let target = args.out.clone().unwrap_or_else(|| onnx.with_extension("ff"));
    // Known before minutes of measuring rather than after.
    model_file::target(&target)?;
    let own = manifest.calibration.data.as_ref().map(|inner| onnx.parent().unwrap_or(Path::new("")).join(inner));
    let source = args.data.clone().or(own);
    let net = Net::load(graph.clone(), pixels.clone(), &args.device)?;
    let fitting = data::Target { graph: &graph, pixels: pixels.as_ref(), classes: net.classes() };
    let samples = data::load(source.as_deref(), args.labels.as_deref(), args.rows as usize, fitting)?;
    let judge = match (&samples.labels, net.classes()) {
        _ if samples.made_up => Judge::Nothing,
        (Some(labels), Some(_)) => Judge::Labels(labels.clone()),
        (None, Some(_)) => Judge::Agreement,
        (_, None) => Judge::Nothing,
    };
    let (table_rows, test_rows) = data::halves(samples.inputs.len());
    let of = |rows: &[usize]| rows.iter().map(|row| &samples.inputs[*row]).collect::<Vec<&Row>>();
    let (places, left_out) = net.places();
    let (tables, tests) = (of(&table_rows), of(&test_rows));
    let clean = measure::answers(&net.whole(&tests)?)?;
    let bench = Bench {
        net: &net,
        judge: &judge,
        tables,
        tests,
        test_rows,
        clean,
        made_up: samples.made_up,
        probes: args.probes as usize,
        seconds: f64::from(args.seconds) / places.len().max(1) as f64,
    };
    let bar = progress::bar(places.len() as u64, "calibrating");
    let mut found = Vec::with_capacity(places.len());
    for place in &places {
        bar.set_message(table::clean(&place.name));
        found.push(bench.value(place).with_context(|| format!("value {}", place.name))?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let package = Package::new(graph.digest, found.iter().map(|f| f.package.clone()).collect())?;
    let bytes = package.to_bytes()?;
    model_file::write(&target, &bytes)?;
    Ok(Report {
        file: target,
        bytes: bytes.len(),
        source: samples.source.clone(),
        rows: samples.inputs.len(),
        loss_by: judge.name(),
        values: found.iter().map(value).collect(),
        left_out,
    })
}

/// `model.toml` beside `model.onnx`, or NAME.toml beside NAME.onnx; the defaults where there is none.
fn read_manifest(onnx: &Path) -> Result<ModelManifest> {
    const BYTES_MAX: u64 = 64 << 10;
    let path = onnx.with_extension("toml");
    match std::fs::metadata(&path) {
        Err(_) => Ok(ModelManifest::default()),
        Ok(found) if found.len() > BYTES_MAX => bail!("{} has more than {BYTES_MAX} bytes", path.display()),
        Ok(_) => {
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            manifest::parse(&text).with_context(|| path.display().to_string())
        }
    }
}

fn value(found: &Calibrated) -> ReportValue {
    ReportValue {
        name: found.place.name.clone(),
        cut: found.place.cut,
        elements: found.place.elements(),
        weighted: found.weighted,
        at_loss: POINTS.map(|points| cheapest(&found.package, points)),
        int8_zstd_bits: found.int8.bits,
        int8_zstd_output_nmse: found.int8.output_nmse,
        int8_zstd_loss: found.int8.loss.map(|loss| loss.mean),
    }
}

/// The fewest bits at which the measured loss is at most so much.
fn cheapest(package: &CutPackage, share: f32) -> Option<(f32, u8, f32)> {
    let fits = package.curves().filter(|(mode, q, curve)| {
        package.best_mode(*q) == Some(*mode) && curve.loss.is_some_and(|loss| loss.mean <= share)
    });
    let of = fits.map(|(_, q, curve)| (curve.bits_mean, q, curve.output_nmse.unwrap_or(curve.nmse)));
    of.min_by(|a, b| a.0.total_cmp(&b.0))
}

fn text(report: &Report) -> String {
    let headings = [
        ">cut",
        "value",
        ">elements",
        "steps",
        ">bits at 0.1",
        ">0.5",
        ">1",
        ">its error",
        ">int8-zstd bits",
        ">error",
    ];
    let mut table = Table::new(&headings);
    for value in &report.values {
        let at = |found: Option<(f32, u8, f32)>| found.map_or_else(|| "-".into(), |(b, q, _)| format!("{b:.2} (q{q})"));
        let [a, b, c] = value.at_loss;
        table.row([
            value.cut.to_string(),
            value.name.clone(),
            table::count(value.elements as u64),
            if value.weighted { "weighted" } else { "equal" }.to_owned(),
            at(a),
            at(b),
            at(c),
            c.map_or_else(|| "-".into(), |(_, _, error)| format!("{error:.1e}")),
            format!("{:.2}", value.int8_zstd_bits),
            format!("{:.1e}", value.int8_zstd_output_nmse),
        ]);
    }
    let left_out = match report.left_out.as_slice() {
        [] => String::new(),
        names => format!("FF does not take: {}\n", names.join(", ")),
    };
    format!(
        "{table}\n{} rows of {}, half of them for tables and half for errors; loss by {}\n{left_out}{} bytes in {}; `bps \
         calibrate --show` has the curves\n",
        report.rows,
        table::clean(&report.source),
        report.loss_by,
        table::count(report.bytes as u64),
        report.file.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: CalibrateArgs,
    }

    fn args(line: &[&str]) -> CalibrateArgs {
        Line::try_parse_from([&["calibrate"], line].concat()).map(|line| line.args).expect("a good line")
    }

    /// The model that comes with the program, in a folder of its own.
    fn digits() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let model = crate::local::digits_model();
        std::fs::write(folder.path().join("model.onnx"), &model.onnx).unwrap();
        std::fs::write(folder.path().join("model.toml"), &model.manifest).unwrap();
        folder
    }

    #[test]
    fn the_digits_model_is_calibrated_and_bound_to_its_file() {
        let folder = digits();
        let model = folder.path().to_str().unwrap();
        let args = args(&[model, "--data", "digits", "--rows", "96", "--probes", "4", "--seconds", "20"]);
        let report = calibrate(&args, folder.path()).unwrap();
        assert_eq!((report.loss_by, report.rows, report.left_out.len()), ("labels", 96, 0));
        let package = Package::from_bytes(&std::fs::read(folder.path().join("model.ff")).unwrap()).unwrap();
        let graph = model_file::load(&folder.path().join("model.onnx")).unwrap();
        assert_eq!((*package.model(), package.cuts().len()), (graph.digest, report.values.len()));
        for cut in package.cuts() {
            let shown = Shown::of(&Package::new(graph.digest, vec![cut.clone()]).unwrap());
            assert!(shown.text().contains("calibrated with data") && shown.svg().contains("polyline"));
            let best: Vec<f32> =
                (0..32).filter_map(|q| cut.curve(cut.best_mode(q)?, q)).map(|curve| curve.bits_mean).collect();
            assert!(best.len() >= 8 && best.first() > best.last(), "{}: {best:?}", cut.name());
        }
        // FF is there to send less than int8 with zstd where an image has become features.
        let inner = report.values.iter().filter(|value| value.elements >= 128);
        let wins = inner.clone().filter(|v| v.at_loss[2].is_some_and(|(bits, ..)| bits < v.int8_zstd_bits)).count();
        assert!(2 * wins > inner.count(), "{:?}", report.values);
    }

    #[test]
    fn without_data_the_file_says_so() {
        let folder = digits();
        let args = args(&[folder.path().to_str().unwrap(), "--rows", "32", "--probes", "0", "--seconds", "5"]);
        let report = calibrate(&args, folder.path()).unwrap();
        assert_eq!((report.loss_by, report.source.as_str()), ("none", "made-up inputs"));
        let package = Package::from_bytes(&std::fs::read(folder.path().join("model.ff")).unwrap()).unwrap();
        assert!(Shown::of(&package).text().contains("made-up inputs"));
    }
}
