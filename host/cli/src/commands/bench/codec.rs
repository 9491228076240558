//! FF and the field: what every codec needs for the same answers of a model, and how long it takes.

mod compare;
mod line;
mod measure;
mod plots;
mod report;
mod rival;
mod speed;
mod verdict;

use crate::exit::EXIT_CODES;
use crate::output::Output;
use anyhow::{Context, Result};
use std::path::PathBuf;

const TEACH: &str = "\
What it does
  Half of the rows calibrate: FF (half of them for its tables, half to choose its modes) and every rival (all of them). The
  other half goes through every codec at all of its settings, and on through the rest of the model. Shown are bits at equal
  error of the model's outputs, accuracy lost at equal bits, and times beside quality; every cell that FF loses is named.

Rivals
  Without --rivals FF stands against the other codecs of bps. A program that is named there speaks the protocol of
  tests/rivals/README.md over its stdin and stdout, so that you can measure FF with your own. The one that comes with bps:

  python3 -m venv rivals && rivals/bin/pip install -r tests/rivals/requirements.txt
  bps bench codec models/digits --data digits --rivals \"rivals/bin/python tests/rivals/rivals.py\" --plots plots/

Speed
  bps bench codec --speed --rivals \"rivals/bin/python tests/rivals/rivals.py\"
  encodes and decodes a made-up activation of 64 x 112 x 112 elements (3.2 MB, smooth, half zeros) with one thread, in
  rounds in which all codecs take turns. That is minutes with everything of rivals.py; --only names a few.";

/// Compare FF with other codecs: bits, accuracy and time at the cuts of a model.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = format!("{TEACH}\n\n{EXIT_CODES}"))]
pub(super) struct CodecBenchArgs {
    /// The .onnx file, or a folder with model.onnx and model.toml.
    #[arg(required_unless_present = "speed")]
    model: Option<PathBuf>,
    /// As in `bps calibrate` [default: what model.toml says, else made up].
    #[arg(long, value_name = "DIR|FILE")]
    data: Option<PathBuf>,
    /// The classes of a .npy file's rows, whole numbers [default: agreement with the model itself counts].
    #[arg(long, value_name = "FILE.npy")]
    labels: Option<PathBuf>,
    /// Only these values; repeat for more [default: all that may cross a link but for the model's input].
    #[arg(long, value_name = "VALUE")]
    at: Vec<String>,
    /// A program with codecs, its command line split at blanks; repeat for more.
    #[arg(long, value_name = "COMMAND")]
    rivals: Vec<String>,
    /// Only these codecs of rivals; repeat for more.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Rows that are used, chosen evenly.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(16..=100_000))]
    rows: u32,
    /// Of the rows that calibrate, use so few, chosen evenly [default: all: half of --rows].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(8..=50_000))]
    calibration_rows: Option<u32>,
    /// Rows of a message, which share its headers: more favour codecs with large ones.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    batch: u32,
    /// How much FF's calibration measures, as in `bps calibrate`.
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    seconds: u32,
    /// Runs through the rest of the model that sensitivities may take, for each value.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(0..=4_096))]
    probes: u32,
    /// Use this calibration of FF instead of a new one. Its rows may be among those that are measured here.
    #[arg(long, value_name = "FILE.ff")]
    ff: Option<PathBuf>,
    /// Where the model runs, as in `bps serve`.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: String,
    /// Also draw the curves of each value, into this folder.
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// Time codecs on a made-up activation instead.
    #[arg(long, conflicts_with_all = ["model", "data", "labels", "at", "ff", "plots", "calibration_rows"])]
    speed: bool,
    /// Rounds of --speed.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
}

/// Compares, or times.
pub(super) fn run(args: &CodecBenchArgs, out: Output) -> Result<()> {
    if args.speed {
        return speed::run(args, out);
    }
    let model = args.model.as_deref().context("no model was named")?;
    let report = compare::run(args, model)?;
    if let Some(folder) = &args.plots {
        plots::write(&report, folder)?;
    }
    out.emit(&report, report::Report::text)
}

/// One thread for FF, as rivals have.
fn one_thread() -> Result<rayon::ThreadPool> {
    rayon::ThreadPoolBuilder::new().num_threads(1).build().context("no thread for codecs")
}
