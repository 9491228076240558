//! Trains a classifier's weights by gradients through the same table of operators that executes it, and measures how good
//! it has become.

mod fit;
mod judge;
mod network;
mod normal;

pub use judge::{Accuracy, accuracy};

use crate::{EngineError, JobError};
use bps_data::{Lessons, Picture, digits};
use bps_graph::{Graph, Limits, build, topology};
use std::sync::Arc;

/// Rows of a training step of [`train_digits`].
const DIGITS_BATCH_ROWS: usize = 64;
/// The rate that its first step learns with.
const DIGITS_RATE: f64 = 4e-3;

/// What is learned, and how.
pub struct Course<'a> {
    /// The network as an ONNX file, with the weights that learning starts from.
    pub start: &'a [u8],
    /// What it learns from.
    pub lessons: Lessons,
    /// How bytes become inputs.
    pub pixels: Pixels,
    /// Passes over the lessons.
    pub epochs: u32,
    /// Pictures of a step.
    pub batch_rows: usize,
    /// The greatest rate; it falls to nothing along a cosine.
    pub rate: f64,
    /// Share of the steps over which the rate rises to its greatest: full layers without normalisation can be lost to a
    /// first step that is too long.
    pub warm_up: f64,
    /// Normalises what every convolution gives over its batch while learning (Ioffe and Szegedy, 2015), and folds it into
    /// the convolution's weights at the end: quicker, and the deeper the network the more so. Only convolutions whose
    /// channels all mix, or do not mix at all.
    pub normalised: bool,
}

/// `(byte - mean) / divisor` is an input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pixels {
    /// Channels of a pixel.
    pub channels: usize,
    /// What becomes 0.
    pub mean: f32,
    /// What becomes 1, less the mean.
    pub divisor: f32,
}

/// How far training has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Epochs done.
    pub epoch: u32,
    /// Epochs in all.
    pub epoch_count: u32,
    /// Mean cross-entropy over the epoch, in nats.
    pub loss: f32,
}

/// A trained classifier.
#[derive(Clone, Debug)]
pub struct TrainedDigits {
    /// The model as an ONNX file.
    pub onnx: Vec<u8>,
    /// Share of held-out digits that it tells right.
    pub accuracy: f32,
    /// How many were held out.
    pub held_out_count: usize,
}

/// Takes a course; the result is the model as an ONNX file. The same course gives the same bytes on the same kind of
/// processor.
pub fn train(course: Course<'_>, progress: &mut dyn FnMut(Progress)) -> Result<Vec<u8>, EngineError> {
    let graph = Arc::new(Graph::parse(course.start, &Limits::default())?);
    let start = course.start;
    let lessons = |source: JobError| EngineError::Execution { device: "cpu".into(), source };
    let weights = alone(|report| fit::fit(&graph, course, report), progress).map_err(lessons)?;
    Ok(build::with_weights(start, &weights)?)
}

/// Trains bps' network for handwritten digits of 8 x 8 pixels. The same seed and epochs give the same model on the same kind
/// of processor.
pub fn train_digits(seed: u64, epochs: u32, progress: &mut dyn FnMut(Progress)) -> Result<TrainedDigits, EngineError> {
    let start = topology::make(topology::Topology::DigitsNet, seed);
    let pixels = Pixels { channels: 1, mean: 0.0, divisor: 255.0 };
    let course = Course {
        start: &start,
        lessons: Lessons::scans(seed),
        pixels,
        epochs,
        batch_rows: DIGITS_BATCH_ROWS,
        rate: DIGITS_RATE,
        warm_up: 0.0,
        normalised: false,
    };
    let onnx = train(course, progress)?;
    let held_out = digits::held_out().into_iter().zip(0..);
    let held_out =
        held_out.map(|(digit, origin)| Picture { pixels: digit.pixels.to_vec(), label: digit.label, origin });
    let found = accuracy(&onnx, pixels, held_out)?;
    Ok(TrainedDigits { onnx, accuracy: found.share(), held_out_count: found.count })
}

/// Runs `work` on a thread of its own in a pool of one. The layers are too small to gain from more, sums come out the
/// same on every number of cores, and a busy machine does not make threads wait for each other.
fn alone<T: Send, R: Send>(
    work: impl FnOnce(&mut dyn FnMut(R)) -> Result<T, JobError> + Send,
    progress: &mut dyn FnMut(R),
) -> Result<T, JobError> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().map_err(|e| JobError::failed(e.to_string()))?;
    let (reports, reported) = crossbeam_channel::unbounded();
    std::thread::scope(|scope| {
        let working = scope.spawn(move || {
            pool.install(|| {
                work(&mut |report| {
                    let _no_listener = reports.send(report);
                })
            })
        });
        reported.iter().for_each(progress);
        working.join().unwrap_or_else(|_| Err(JobError::failed("training panicked")))
    })
}
