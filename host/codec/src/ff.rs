//! FF, the activation codec (our realisation): few bits for what a network's next layers need of a feature map.
//!
//! Two families of modes. **FF-S** quantises elements as they are: the least latency. **FF-H** takes one or two levels of
//! 2x2 [`haar`] first: fewer bits where maps are smooth. Both reconstruct the zero bin at its mean and round with less
//! than a half, since what follows sums up neighbours: bias costs more than variance. Symbols then go through one of three
//! [`Entropy`] stages. **FF-C** is FF-H with symbols whose errors cancel at the model's end: fewer bits again for more of the
//! encoder's time. Its frames are FF-H's, and whoever decodes need not know of it.
//!
//! # How a row becomes bytes
//!
//! 1. Elements that are no numbers, or larger than 2,048 steps, are replaced by 0 and travel apart ([`exceptions`]).
//! 2. Channels are transformed ([`haar`]) into bands ([`geometry`]): `LL LH HL HH`, or with two levels `LL2 LH2 HL2
//!    HH2 LH1 HL1 HH1`. A map of one element has no levels, one of at most 2x2 no second.
//! 3. `s = sign(y) floor(|y| * (1 / step) + r)` in FP32, each operation rounded, `r` 0.45 for the coarsest band, 0.40 for
//!    details, 0.5 if bounded; magnitudes end at 8,192 ([`quant`]).
//!    With rANS and a package that has [`Directions`], symbols are then chosen anew so that their errors cancel where the
//!    model's outputs look (`cancel.rs`): decoders need not know of it.
//! 4. Symbols go through [`pack`], the same and zstd, or contexts and rANS ([`coder`], [`token`], [`tables`], [`rans`]).
//! 5. Chunks are framed ([`mod@format`], [`chunk`]); small rows share a range coder.
//!
//! Back: `y = sign(s) (|s| + offset) * step`, `offset` by magnitude (0, 1, 2, more; the zero bin's has its own sign), then
//! the inverse transform. Nothing is clamped.
//!
//! # Steps
//!
//! The step of a plane is `base * 2^(q/4) * multiplier(band, channel)`. Base and multipliers are the package's. With the
//! [data-free](CutPackage::data_free) package, and in bounded frames, multipliers are 1 and each chunk states its step:
//! the row's root mean square times `2^(q/4) / 32` there, a share of the bound here.
//!
//! # Bounded frames
//!
//! No finite element differs by more than the bound, infinities and not-a-number keep their bits. The step is twice the
//! bound (FF-S), the bound (one level) or 0.8 times it (two), less 1/64 for the rounding of the arithmetic on other
//! devices; the encoder decodes what it wrote and sends whatever misses the bound as an exception.
//!
//! # Calibration
//!
//! [`calibrate`] makes a package from activations of one value: the base step from their root mean square, multipliers
//! from [`Weights`], classes, bin means and tables by counting, sizes by encoding. What needs the model is measured by
//! `bps calibrate` and entered afterwards: weights of bands (with [`disturb`]), errors of the outputs and losses with
//! their intervals ([`CutPackage::with_curves`]), the best mode of each rate ([`CutPackage::with_best_and`]). A weight is
//! `E[(T J^T r)^2]`, the mean square of a band's row of the outputs' Jacobian, and a step goes with its inverse root. The
//! directions along which errors cancel are the first eigenvectors of `E[J^T J]` by element; with them tables are counted
//! from the symbols that an encoder chooses, so that a value has two packages: one for rounding and, where there are
//! directions, one beside it for FF-C ([`CutPackage::cancelling`]). The packages of all values are one [`Package`] bound to
//! the model's digest; one from made-up inputs says so ([`Origin::MadeUp`]).
//!
//! # Devices
//!
//! A device with kernels goes from elements to packed symbols, and back from symbols, by itself. What it must know and what
//! it leaves to the processor is in [`FrameWriter`] and [`FrameReader`]. Where it states its steps it may sum up a row's
//! squares in another order, so that a step differs in its last bits; all else is the same bytes. Symbols whose errors cancel
//! are chosen by the processor everywhere.
//!
//! The public modules hold no functions: they are the description of the wire, each beside the code that does it.
//!
//! **Invariants.** What becomes of a row depends on nothing but the row, the settings and the package. Decoders check
//! every length against the shape that the caller expects before they allocate, and refuse with the byte and the name of
//! the fault. Decoded values are the same bits on every machine and with any number of threads.

mod assumed;
mod bounded;
mod calibrate;
mod cancel;
pub mod chunk;
pub mod coder;
mod cut;
mod directions;
mod disturb;
mod error;
pub mod exceptions;
pub mod format;
mod frame;
pub mod geometry;
pub mod haar;
pub mod pack;
mod package;
#[cfg(test)]
mod prior;
pub mod quant;
pub mod rans;
mod reader;
mod recipe;
mod rival;
mod survey;
pub mod tables;
pub mod token;
mod transform;
mod writer;

pub use assumed::{ASSUMED_HAAR, ASSUMED_SCALAR, RATE_LIST, curve_for, mode_for, package_for, settings_of};
pub use calibrate::{Calibration, Weights, calibrate, rows_together};
pub use cut::{Curve, CutPackage, Loss, Origin};
pub use directions::Directions;
pub use disturb::{disturb, planes};
pub use error::FfError;
pub use frame::Frame;
pub use geometry::Geometry;
pub use package::{PACKAGE_BYTES_MAX, Package};
pub use quant::Offsets;
pub use reader::{FrameReader, PackedSymbols, ReadChunk, Scope, Symbols};
pub use rival::Rival;
pub use writer::{DeviceChunk, FrameWriter, Sequence, Steps};

use bps_types::{DataType, HostTensor};
use cancel::Aim;
use format::Header;
use geometry::Dims;
use rayon::prelude::*;
use recipe::{Choice, Recipe};
use serde::{Deserialize, Serialize};

/// Rates: 0 is the finest, each step is 2^(1/4) times the one before.
pub const RATES: usize = 32;
/// The codec number of FF-S on the wire.
pub const ID_SCALAR: u8 = 16;
/// The codec number of FF-H on the wire.
pub const ID_HAAR: u8 = 17;
/// The codec number of FF-C on the wire: FF-H with symbols whose errors cancel. Its frames are FF-H's.
pub const ID_CANCELLING: u8 = 18;

/// Tensors with fewer elements are not worth a second thread.
const PARALLEL_ELEMENTS: usize = 1 << 17;
/// With classes for every plane, maps of fewer elements would pay more for them than they gain.
const PLANE_CLASS_ELEMENTS: usize = 400;
/// How much of a bound a step uses; the rest is for the rounding of the arithmetic.
const BOUND_SHARE: f32 = 1.0 - 1.0 / 64.0;

/// What is done before quantising.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Mode {
    /// FF-S: nothing.
    Scalar,
    /// FF-H with one level.
    Haar1,
    /// FF-H with two levels.
    Haar2,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Scalar, Self::Haar1, Self::Haar2];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "ff-s",
            Self::Haar1 => "ff-h1",
            Self::Haar2 => "ff-h2",
        }
    }

    const fn levels(self) -> usize {
        self as usize
    }

    const fn number(self) -> u8 {
        self as u8 + 2
    }

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.number() == number)
    }

    /// The step of a bounded frame.
    fn bounded_step(self, bound: f32) -> f32 {
        BOUND_SHARE
            * match self {
                Self::Scalar => 2.0 * bound,
                Self::Haar1 => bound,
                Self::Haar2 => 0.8 * bound,
            }
    }
}

/// What is done to symbols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entropy {
    /// Zero bitmaps and fixed widths: fast.
    Pack,
    /// The same, then zstd.
    Zstd,
    /// Contexts and range coding with the package's tables: small.
    Rans,
}

impl Entropy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pack, Self::Zstd, Self::Rans];

    const fn number(self) -> u8 {
        self as u8
    }

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|entropy| entropy.number() == number)
    }
}

/// Order of a tensor's memory; shapes state their extents in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Order {
    /// Channels outside: `[rows, channels, height, width]`, `[rows, channels, width]`, `[rows, features]`.
    #[default]
    Nchw,
    /// Channels inside: `[rows, height, width, channels]`, `[rows, width, channels]`, `[rows, features]`.
    Nhwc,
}

/// How to encode.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// The transform.
    pub mode: Mode,
    /// The rate, 0 (finest) to 31; in a bounded frame only a label.
    pub q: u8,
    /// The greatest absolute error of a finite element; none for frames that are not bounded.
    pub bound: Option<f32>,
    /// The last stage.
    pub entropy: Entropy,
    /// Order of the tensor's memory.
    pub order: Order,
    /// What was calibrated for this cut; none for the data-free package.
    pub package: Option<&'a CutPackage>,
}

impl Settings<'_> {
    /// A mode at a rate with rANS, NCHW, data-free and not bounded.
    pub const fn new(mode: Mode, q: u8) -> Self {
        Self { mode, q, bound: None, entropy: Entropy::Rans, order: Order::Nchw, package: None }
    }
}

/// Encodes an FP32 tensor. Uses the current thread pool for large ones. Errors where type, shape, rate, bound or package
/// do not fit; see [`FfError`].
pub fn encode(settings: &Settings<'_>, tensor: &HostTensor) -> Result<Vec<u8>, FfError> {
    if tensor.data_type() != DataType::Fp32 {
        return Err(FfError::Type(tensor.data_type()));
    }
    let dims = Dims::of(tensor.shape(), settings.order)?;
    let bounded_step = match settings.bound {
        Some(bound) if (2f32.powi(-100)..=2f32.powi(100)).contains(&bound) => Some(settings.mode.bounded_step(bound)),
        Some(bound) => return Err(FfError::Bound(bound)),
        None => None,
    };
    let cut = package_or_default(settings.package)?;
    let choice = Choice {
        mode: settings.mode,
        entropy: settings.entropy,
        order: settings.order,
        q: settings.q,
        bounded: bounded_step.is_some(),
        plane_classes: dims.plane() >= PLANE_CLASS_ELEMENTS,
    };
    let recipe = Recipe::new(choice, dims, cut)?;
    let (given, _) = tensor.data().as_chunks::<4>();
    let planar;
    let elements = if settings.order == Order::Nhwc && dims.plane() > 1 {
        planar = turned(given, dims.plane(), dims.channels);
        &planar[..]
    } else {
        given
    };
    let row_step = |_: usize, row: &[[u8; 4]]| match bounded_step {
        Some(step) => step,
        None if recipe.in_band => {
            let step = recipe.step * quant::root_mean_square(row);
            step.clamp(quant::STEP_MIN, quant::STEP_MAX)
        }
        None => recipe.step,
    };
    let aim = if settings.entropy == Entropy::Rans && !recipe.in_band { cut.aim(settings.mode) } else { None };
    encode_rows(&recipe, choice, elements, row_step, settings.bound, aim)
}

/// The elements of a chunk, with their row's step.
type Part<'a> = (f32, &'a [[u8; 4]]);

/// Encodes rows, each with channels one after another, in steps by row. With an aim errors cancel along its directions.
fn encode_rows(
    recipe: &Recipe<'_>,
    choice: Choice,
    elements: &[[u8; 4]],
    row_step: impl Fn(usize, &[[u8; 4]]) -> f32,
    bound: Option<f32>,
    aim: Option<&Aim>,
) -> Result<Vec<u8>, FfError> {
    let dims = recipe.dims;
    let rows = elements.chunks(dims.row_elements().max(1)).enumerate().map(|(index, row)| (row_step(index, row), row));
    let parts = rows.flat_map(|(step, row)| row.chunks(dims.chunk_elements().max(1)).map(move |part| (step, part)));
    let parts: Vec<Part<'_>> = parts.collect();
    let run_chunks = dims.run_chunks(recipe.entropy);
    let encode_run = |(run, parts): (usize, &[Part<'_>])| {
        let first = run * run_chunks;
        let symbols =
            |(chunk, (step, part)): (usize, &(f32, &[[u8; 4]]))| chunk::symbols(recipe, chunk, part, *step, bound, aim);
        chunk::encode(recipe, first, (first..).zip(parts).map(symbols).collect())
    };
    let runs = each(dims, parts.chunks(run_chunks).enumerate().collect(), encode_run)?;
    format::write(choice, recipe.cut.id(), dims, &runs)
}

/// Does the same with all runs of a tensor, in the current thread pool where that pays.
fn each<J: Send, T: Send>(
    dims: Dims,
    jobs: Vec<J>,
    one: impl Fn(J) -> Result<T, FfError> + Send + Sync,
) -> Result<Vec<T>, FfError> {
    if jobs.len() > 1 && dims.elements() >= PARALLEL_ELEMENTS {
        jobs.into_par_iter().map(one).collect()
    } else {
        jobs.into_iter().map(one).collect()
    }
}

/// Decodes a frame of a tensor of this shape, which stands in memory as `order` says, whatever the sender's order.
/// `package` is the one that the frame was made with, none for the data-free one. Uses the current thread pool for large
/// tensors. Errors with the byte and the name of what is wrong.
pub fn decode(
    bytes: &[u8],
    expected_shape: &[usize],
    order: Order,
    package: Option<&CutPackage>,
) -> Result<HostTensor, FfError> {
    let dims = Dims::of(expected_shape, order)?;
    let header = Header::read(bytes)?;
    let cut = package_or_default(package)?;
    if header.package != cut.id() {
        return Err(FfError::Package { expected: cut.id(), got: header.package });
    }
    let runs = header.runs(bytes, dims)?;
    let recipe = Recipe::new(header.choice, dims, cut)?;
    let mut data = vec![0u8; 4 * dims.elements()];
    let (elements, _) = data.as_chunks_mut::<4>();
    let entropy = header.choice.entropy;
    let run_elements = dims.run_elements(entropy).max(1);
    let rows = elements.chunks_mut(dims.row_elements().max(run_elements));
    let parts = rows.flat_map(|rows| rows.chunks_mut(run_elements));
    let job = |(run, (to, from))| Job { chunks: dims.run(run, entropy), from, to };
    let jobs: Vec<_> = parts.zip(runs).enumerate().map(job).collect();
    each(dims, jobs, |job: Job<'_>| chunk::decode(&recipe, job.chunks, job.from, job.to))?;
    if order == Order::Nhwc && dims.plane() > 1 {
        let (elements, _) = data.as_chunks::<4>();
        data = turned(elements, dims.channels, dims.plane()).into_flattened();
    }
    HostTensor::new(DataType::Fp32, expected_shape.to_vec(), data.into())
        .map_err(|e| error::fault(0, "tensor", e.to_string()))
}

/// The chunks of a run, where it stands in the frame, and the elements it becomes.
struct Job<'a> {
    chunks: std::ops::Range<usize>,
    from: (usize, &'a [u8]),
    to: &'a mut [[u8; 4]],
}

/// The package that a frame was made with. Errors where the bytes do not begin as a frame.
pub fn package_of(bytes: &[u8]) -> Result<u64, FfError> {
    Header::read(bytes).map(|header| header.package)
}

fn package_or_default(package: Option<&CutPackage>) -> Result<&CutPackage, FfError> {
    match package {
        Some(package) => Ok(package),
        None => CutPackage::data_free(),
    }
}

/// Rows of `lines` lines with `columns` elements each, with lines and columns swapped.
fn turned(from: &[[u8; 4]], lines: usize, columns: usize) -> Vec<[u8; 4]> {
    /// Lines and columns that are turned at a time: as many as a cache line has elements.
    const TILE: usize = 16;
    let mut out = vec![[0; 4]; from.len()];
    let size = (lines * columns).max(1);
    for (from, out) in from.chunks_exact(size).zip(out.chunks_exact_mut(size)) {
        for first_line in (0..lines).step_by(TILE) {
            let some = TILE.min(lines - first_line);
            for (column, out) in out.chunks_exact_mut(lines).enumerate() {
                for (line, out) in out[first_line..first_line + some].iter_mut().enumerate() {
                    *out = from[(first_line + line) * columns + column];
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;
