//! `bps calibrate`: what FF needs to know of a model, measured with the model.

pub(super) mod choose;
pub(super) mod data;
pub(super) mod loss;
mod made_up;
pub(super) mod measure;
pub(super) mod net;
mod plan;
mod pooled;
pub(super) mod probe;
mod report;
mod rivals;
mod show;
mod slopes;
pub(super) mod subject;
pub(super) mod svg;
pub(super) mod value;

use super::codec::read_file;
use crate::exit::{EXIT_CODES, usage};
use crate::model_file;
use crate::output::Output;
use crate::progress::{self, say};
use crate::table;
use anyhow::{Context, Result};
use bps_codec::ff::{CutPackage, Origin, PACKAGE_BYTES_MAX, Package};
use report::{Report, ValueReport};
use show::Shown;
use std::path::{Path, PathBuf};
use subject::{Named, Subject};

const TEACH: &str = "\
What it does
  Runs the model on your data and writes MODEL.ff beside it: for its input and every value that may cross a link the steps, bin
  means and tables of FF, what each rate costs in bits and in accuracy, and which mode is best where. Half of the rows make tables, the
  other half say what is lost. Hosts use the file when all of them have the same one. Those that fetched the model fetch
  it, too; copy it to one that has the model as its own.
  Steps follow the model's sensitivity (forward differences through the rest of the model) where that saves bits.
  The file is bound to the model's bytes: after the model has changed, calibrate again.

Data
  DIR         PNG and JPEG images, for models whose model.toml has [preprocess]; names of sub-folders are the classes: numbers,
              or as many names as there are classes, in alphabetical order
  FILE.npy    inputs, a row each: FP32 as the network takes them, or UINT8 images [rows, height, width, channels]
  digits      pictures that come with bps (a folder of this name is ./digits), at the model's size. At 32 and 64 pixels, tables
              and losses are from parts that share no scan with each other, with training, or with tests. At 8 pixels, tables
              are from the scans that its net was trained with, losses from the 500 held out
  shapes      the same of coloured forms, at 32 and 64 pixels: as `bps model train` draws them
  nothing     inputs are made up from smoothed noise: the file says so, and no loss is in it. Better than no calibration,
              worse than yours: a few dozen real inputs do.
  Without labels, what counts is whether the first class stays the same. Calibrate with other data than you test with.

How to read the table
  bits at 0.1, 0.5, 1: of an element, at the coarsest rate up to which at most so many points are lost. What is measured with
  few rows is not exact: 0 lost of 256 rows means at most 1.5 points, less where coarser rates lose little, too. `--show` has the
  intervals; hosts go by their upper ends.
  int8-zstd needs no calibration: its bits, loss and error of the outputs, and the bits of FF at that error.

Examples
  bps calibrate models/digits --data digits --rows 1000
  bps model train resnet-small -o shapes-net && bps calibrate shapes-net --data shapes --rows 2048
  bps calibrate net.onnx --data photos/ --rows 2048 --seconds 3600
  bps calibrate net.onnx --data inputs.npy --labels labels.npy
  bps calibrate --show net.ff --svg net.svg";

/// Measure what FF needs to know of a model, and write it beside the model.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = format!("{TEACH}\n\n{EXIT_CODES}"))]
pub(crate) struct CalibrateArgs {
    /// The .onnx file, or a folder with model.onnx and model.toml.
    #[arg(required_unless_present = "show")]
    model: Option<PathBuf>,
    /// A folder of images, a .npy file of inputs, or one of the words `digits` and `shapes` [default: what model.toml says, else made up].
    #[arg(long, value_name = "DIR|FILE")]
    data: Option<PathBuf>,
    /// The classes of a .npy file's rows, whole numbers [default: agreement with the model itself counts].
    #[arg(long, value_name = "FILE.npy")]
    labels: Option<PathBuf>,
    /// Rows that are used, chosen evenly.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(8..=100_000))]
    rows: u32,
    /// How much is measured: what so many seconds of two current cores are good for. Reckoned, not timed, so that the same
    /// call writes the same file.
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    seconds: u32,
    /// Runs through the rest of the model that sensitivities may take, for each value; 0: equal steps.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(0..=4_096))]
    probes: u32,
    /// Where it runs, as in `bps serve`.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: String,
    /// The file to write [default: the model's, with the extension ff].
    #[arg(short, long, visible_alias = "output", value_name = "FILE.ff")]
    out: Option<PathBuf>,
    /// Show a file instead of making one.
    #[arg(long, value_name = "FILE.ff", conflicts_with_all = ["model", "data", "labels", "out"])]
    show: Option<PathBuf>,
    /// Also draw the curves: bits over the error of the outputs.
    #[arg(long, value_name = "FILE.svg")]
    svg: Option<PathBuf>,
}

/// Measures and writes, or shows.
pub(crate) fn run(args: &CalibrateArgs, out: Output) -> Result<()> {
    if let Some(file) = &args.show {
        return show(file, args.svg.as_deref(), out);
    }
    let model = args.model.as_deref().context("no model was named")?;
    let report = calibrate(args, model)?;
    out.emit(&report, Report::text)
}

fn read(file: &Path) -> Result<Package> {
    let bytes = read_file(file, PACKAGE_BYTES_MAX)?;
    Package::from_bytes(&bytes).with_context(|| format!("{} is no calibration", file.display()))
}

/// Errors where an output would take the place of an input, or of another output.
fn keep(inputs: &[&Path], output: Option<&Path>) -> Result<()> {
    let Some(output) = output else { return Ok(()) };
    match inputs.iter().find(|input| model_file::is_same(input, output) || **input == output) {
        Some(_) => Err(usage(format!("{} would be written over: choose another file", output.display()))),
        None => Ok(()),
    }
}

fn show(file: &Path, svg: Option<&Path>, out: Output) -> Result<()> {
    let package = read(file)?;
    keep(&[file], svg)?;
    let shown = Shown::of(&package);
    if let Some(svg) = svg {
        model_file::write(svg, shown.svg().as_bytes())?;
    }
    out.emit(&shown, Shown::text)
}

fn calibrate(args: &CalibrateArgs, model: &Path) -> Result<Report> {
    let onnx = model_file::onnx_of(model);
    let target = args.out.clone().unwrap_or_else(|| onnx.with_extension("ff"));
    // Known before minutes of measuring rather than after.
    let inputs: Vec<&Path> =
        [Some(&*onnx), args.data.as_deref(), args.labels.as_deref()].into_iter().flatten().collect();
    keep(&inputs, Some(&target))?;
    keep(&[&inputs[..], &[&*target]].concat(), args.svg.as_deref())?;
    model_file::target(&target)?;
    args.svg.as_deref().map(model_file::target).transpose()?;
    let subject = Subject::load(&Named {
        onnx: &onnx,
        data: args.data.as_deref(),
        labels: args.labels.as_deref(),
        rows: args.rows as usize,
        device: &args.device,
    })?;
    // What is there and cannot be read, or is of another model, is no loss.
    let old_rows = read(&target).map_or(0, |old| data_rows(&old, &subject.net.graph().digest));
    let poorer = |rows: usize, more: &str| {
        let is_poorer = old_rows > rows;
        if is_poorer {
            let file = target.display();
            say(&format!(
                "{file} was made of {old_rows} rows of data: one of {rows} takes its place ({more} takes more)"
            ));
        }
        is_poorer
    };
    // Said before minutes of measuring where it is known by then: there is time to stop.
    let said = poorer(if subject.made_up { 0 } else { subject.calibration.len() }, "--data or --rows");
    let (places, left_out) = subject.net.places();
    let mut bench = subject.bench(&subject.calibration, &subject.tests, args.probes as usize, 0.0)?;
    let shares = bench.shares(&places, f64::from(args.seconds))?;
    let bar = progress::bar(100 * places.len() as u64, "calibrating");
    let mut found = Vec::with_capacity(places.len());
    for (number, place) in places.iter().enumerate() {
        bar.set_message(table::clean(&place.name));
        bench.seconds = shares[number];
        let done = |share: f32| bar.set_position(100 * number as u64 + (100.0 * share) as u64);
        found.push(bench.value(place, &done).with_context(|| format!("value {}", place.name))?);
    }
    bar.finish_and_clear();
    let package = Package::new(subject.net.graph().digest, found.iter().map(|f| f.package.clone()).collect())?;
    let bytes = package.to_bytes()?;
    if !said {
        poorer(data_rows(&package, package.model()), "--seconds");
    }
    model_file::write(&target, &bytes)?;
    if let Some(svg) = &args.svg {
        model_file::write(svg, Shown::of(&package).svg().as_bytes())?;
    }
    Ok(Report {
        file: target,
        bytes: bytes.len(),
        source: subject.source.clone(),
        rows: subject.inputs.len(),
        loss_by: subject.judge.name(),
        made_up: subject.made_up,
        values: found.iter().map(ValueReport::of).collect(),
        left_out,
        least_loss: least_loss(&package),
    })
}

/// The least upper end of what is lost, over all values and rates.
fn least_loss(package: &Package) -> Option<f32> {
    let parts = package.cuts().iter().flat_map(|cut| [Some(cut), cut.cancelling()]).flatten();
    let losses = parts.flat_map(CutPackage::curves).filter_map(|(_, _, curve)| curve.loss);
    losses.map(|loss| loss.high).min_by(f32::total_cmp)
}

/// Rows of data behind a calibration of this model; none behind one of another model.
fn data_rows(package: &Package, model: &[u8; 32]) -> usize {
    let rows = |cut: &CutPackage| match cut.origin() {
        Origin::Calibrated { rows } => rows as usize,
        Origin::DataFree | Origin::MadeUp { .. } => 0,
    };
    if package.model() == model { package.cuts().iter().map(rows).max().unwrap_or(0) } else { 0 }
}

#[cfg(test)]
mod tests;
