//! `bps model train`: a model from data that comes with bps.

use crate::exit::usage;
use crate::model_file;
use crate::output::Output;
use crate::progress;
use crate::table;
use anyhow::{Context, Result};
use bps_data::{CLASSES, Lessons, SIDES, Set, Split};
use bps_engine::train::{Accuracy, Course, Pixels, train_digits};
use bps_graph::topology::small::{Pictures, Small};
use serde::Serialize;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Instant;

/// Passes that reach what the network for scans of digits can.
const SCAN_EPOCHS: u32 = 40;
/// Epochs of the small networks, and the new pictures in each.
const EPOCHS: u32 = 24;
const PICTURES: usize = 4_096;
/// Pictures of a step, and the greatest rate.
const BATCH_ROWS: usize = 32;
const RATE: f64 = 2e-3;
/// Share of the steps until then.
const WARM_UP: f64 = 0.05;
/// Pictures that each of the two accuracies is measured on.
const JUDGED: usize = 10_000;
/// Bytes are taken to -1 to 1.
const MIDDLE: f32 = 127.5;

/// What can be trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Network {
    /// Residual network for scans of digits, 8 x 8: the model of the demo.
    Digits,
    /// Plain: convolutions, pools, full layers.
    VggSmall,
    /// Residual blocks.
    ResnetSmall,
    /// Inverted residual blocks: depthwise convolutions, ReLU6.
    MobilenetSmall,
}

/// What it is trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Data {
    /// Handwritten digits in gray, enlarged, turned and bent; all splits are from different scans.
    Digits,
    /// Ten coloured forms before clutter, drawn as needed.
    Shapes,
}

/// Train a model on data that comes with bps, and measure it on pictures it has not seen.
///
/// `digits` learns 8 x 8 scans in seconds. The others learn 32 or 64 pixels in minutes on one core, from pictures that are
/// drawn once and never again; they are measured on 10,000 others, and on 10,000 that were taken in other light, blurred
/// and with more noise. No two splits share a picture, nor digits of two splits a scan. Intervals are of 95 %, and count
/// pictures of one scan as what they are worth together.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TrainArgs {
    /// What to train.
    #[arg(value_enum)]
    network: Network,
    /// What it is trained on, apart from `digits` [default: shapes].
    #[arg(long, value_enum)]
    data: Option<Data>,
    /// Lines, and pixels of a line: 32 or 64 [default: 32].
    #[arg(long, value_name = "PIXELS")]
    size: Option<usize>,
    /// What initial weights and pictures are drawn from.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Passes over the scans, or so many times 4,096 pictures [default: 40 for digits, else 24].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    epochs: Option<u32>,
    /// Where to write it: a folder gets model.onnx and model.toml, a name that ends in .onnx is the model alone.
    #[arg(short, long, value_name = "DIR|FILE.onnx")]
    output: PathBuf,
}

#[derive(Serialize)]
struct Trained {
    file: PathBuf,
    bytes: usize,
    network: &'static str,
    data: &'static str,
    size: usize,
    epochs: u32,
    seed: u64,
    seconds: f64,
    /// Mean cross-entropy over the last epoch, in nats.
    loss: f32,
    #[serde(flatten)]
    accuracy: Accuracies,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Accuracies {
    HeldOut { held_out_accuracy: f32, held_out_count: usize },
    Tested { test: Tested, shifted: Tested },
}

#[derive(Serialize)]
struct Tested {
    accuracy: f32,
    low: f32,
    high: f32,
    right: usize,
    count: usize,
    origins: usize,
}

/// Trains, writes the files, and says how good the model is.
pub(super) fn run(args: &TrainArgs, out: Output) -> Result<()> {
    let alone = args.output.extension() == Some(OsStr::new("onnx"));
    let onnx = if alone { args.output.clone() } else { args.output.join("model.onnx") };
    model_file::target(&onnx)?; // said before minutes of training, not after
    let net = match args.network {
        Network::Digits => None,
        Network::VggSmall => Some(Small::Vgg),
        Network::ResnetSmall => Some(Small::Resnet),
        Network::MobilenetSmall => Some(Small::Mobilenet),
    };
    let (bytes, manifest, trained) = match net {
        None => scans(args)?,
        Some(net) => pictures(net, args)?,
    };
    model_file::write(&onnx, &bytes)?;
    if !alone {
        model_file::write(&onnx.with_extension("toml"), manifest.as_bytes())?;
    }
    out.emit(&Trained { file: onnx, ..trained }, Trained::text)
}

type Model = (Vec<u8>, String, Trained);

/// The network of the demo.
fn scans(args: &TrainArgs) -> Result<Model> {
    if args.data == Some(Data::Shapes) || args.size.is_some_and(|size| size != bps_data::digits::SIDE) {
        return Err(usage("the network `digits` learns scans of digits of 8 pixels and nothing else"));
    }
    let epochs = args.epochs.unwrap_or(SCAN_EPOCHS);
    let start = Instant::now();
    let (trained, loss) = watched(epochs, |progress| train_digits(args.seed, epochs, progress))?;
    let seconds = start.elapsed().as_secs_f64();
    let side = bps_data::digits::SIDE;
    let manifest = manifest(Pixels { channels: 1, mean: 0.0, divisor: 255.0 }, side);
    let accuracy = Accuracies::HeldOut { held_out_accuracy: trained.accuracy, held_out_count: trained.held_out_count };
    let report = Trained {
        file: PathBuf::new(),
        bytes: trained.onnx.len(),
        network: "digits",
        data: Set::Digits.name(),
        size: side,
        epochs,
        seed: args.seed,
        seconds,
        loss,
        accuracy,
    };
    Ok((trained.onnx, manifest, report))
}

/// One of the small networks.
fn pictures(net: Small, args: &TrainArgs) -> Result<Model> {
    let set = match args.data.unwrap_or(Data::Shapes) {
        Data::Digits => Set::Digits,
        Data::Shapes => Set::Shapes,
    };
    let side = args.size.unwrap_or(SIDES[0]);
    if !SIDES.contains(&side) {
        return Err(usage(format!("--size {side}: pictures have {} or {} pixels", SIDES[0], SIDES[1])));
    }
    let epochs = args.epochs.unwrap_or(EPOCHS);
    let pixels = Pixels { channels: set.channels(), mean: MIDDLE, divisor: MIDDLE };
    let seen = Pictures { channels: set.channels(), side, classes: CLASSES };
    let start = net.describe(seen).write(args.seed);
    let lessons = Lessons::fresh(set, side, args.seed, PICTURES);
    let course = Course {
        start: &start,
        lessons,
        pixels,
        epochs,
        batch_rows: BATCH_ROWS,
        rate: RATE,
        warm_up: WARM_UP,
        normalised: true,
    };
    let began = Instant::now();
    let (onnx, loss) = watched(epochs, |progress| bps_engine::train::train(course, progress))?;
    let seconds = began.elapsed().as_secs_f64();
    let tested = |split| -> Result<Tested> {
        let bar = progress::bar(JUDGED as u64, &format!("measuring, {split} pictures"));
        let judged = bps_data::rows(set, split, side, JUDGED).inspect(|_| bar.inc(1));
        let found = bps_engine::train::accuracy(&onnx, pixels, judged).context("the trained model cannot be run")?;
        bar.finish_and_clear();
        Ok(Tested::of(&found))
    };
    let accuracy = Accuracies::Tested { test: tested(Split::Test)?, shifted: tested(Split::Shifted)? };
    let report = Trained {
        file: PathBuf::new(),
        bytes: onnx.len(),
        network: net.name(),
        data: set.name(),
        size: side,
        epochs,
        seed: args.seed,
        seconds,
        loss,
        accuracy,
    };
    Ok((onnx, manifest(pixels, side), report))
}

/// Trains under a bar. Also gives the loss of the last epoch.
fn watched<T>(
    epochs: u32,
    train: impl FnOnce(&mut dyn FnMut(bps_engine::train::Progress)) -> Result<T, bps_engine::EngineError>,
) -> Result<(T, f32)> {
    let bar = progress::bar(epochs.into(), "training");
    let mut loss = f32::NAN;
    let trained = train(&mut |p| {
        loss = p.loss;
        bar.set_position(p.epoch.into());
        bar.set_message(format!("training, loss {:.4}", p.loss));
    });
    bar.finish_and_clear();
    Ok((trained.context("the training failed")?, loss))
}

/// What the ONNX file cannot say.
fn manifest(pixels: Pixels, side: usize) -> String {
    // Of numbers, `{:?}` always writes a fraction, as TOML wants it.
    let list = |value: f64| vec![format!("{value:?}"); pixels.channels].join(", ");
    let (channels, mean, scale) = (pixels.channels, list(pixels.mean.into()), list(1.0 / f64::from(pixels.divisor)));
    format!(
        "# Written by `bps model train`.\n[preprocess]\nwidth = {side}\nheight = {side}\nchannels = {channels}\n\
         mean = [{mean}]\nscale = [{scale}] # 1 / {}\n",
        pixels.divisor
    )
}

impl Tested {
    fn of(found: &Accuracy) -> Self {
        let (low, high) = found.interval();
        let (right, count, origins) = (found.right, found.count, found.origin_count());
        Self { accuracy: found.share(), low, high, right, count, origins }
    }

    fn text(&self, of: &str) -> String {
        let [accuracy, low, high] = [self.accuracy, self.low, self.high].map(|share| table::percent(share.into()));
        let from = if self.origins < self.count { format!(", from {} scans", self.origins) } else { String::new() };
        format!("{accuracy} ({low} to {high}) of {} {of}{from}", table::count(self.count as u64))
    }
}

impl Trained {
    fn text(&self) -> String {
        let head =
            format!("{}  {}, trained for {:.0} s", self.file.display(), table::bytes(self.bytes as u64), self.seconds);
        match &self.accuracy {
            Accuracies::HeldOut { held_out_accuracy, held_out_count } => {
                let share = table::percent((*held_out_accuracy).into());
                format!("{head}\naccuracy  {share} of {held_out_count} digits that training did not see")
            }
            Accuracies::Tested { test, shifted } => format!(
                "{head}\naccuracy  {}\nshifted   {}",
                test.text("pictures that training did not see"),
                shifted.text("in other light, with blur and noise")
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_beside_a_model_is_what_it_learned_with() {
        for pixels in
            [Pixels { channels: 3, mean: MIDDLE, divisor: MIDDLE }, Pixels { channels: 1, mean: 0.0, divisor: 255.0 }]
        {
            let read = bps_graph::manifest::parse(&manifest(pixels, 32)).unwrap().preprocess.unwrap();
            assert_eq!((read.width, read.height, read.channels as usize), (Some(32), Some(32), pixels.channels));
            for (mean, scale) in read.mean.iter().zip(&read.scale) {
                assert_eq!(*mean, pixels.mean);
                assert!((scale * pixels.divisor - 1.0).abs() < 1e-6);
            }
        }
    }
}
