//! Frames whose symbols a device made.

use super::chunk::{Head, encode, encode_packed, unpack_body};
use super::geometry::{Band, Dims, Geometry};
use super::quant::{ROUND_COARSE, ROUND_DETAIL, STEP_MAX, STEP_MIN, STEPS_MAX};
use super::recipe::{Choice, Recipe};
use super::tables::class_of;
use super::{Entropy, FfError, Order, PLANE_CLASS_ELEMENTS, Settings};
use super::{each, encode_rows, error, format, package_or_default};
use bps_types::{DataType, HostTensor};

/// A frame to be written: what a device must know to make the symbols, and what is done with them.
pub struct FrameWriter<'a> {
    recipe: Recipe<'a>,
    choice: Choice,
}

/// The steps that a device quantises with.
#[derive(Clone, Debug, PartialEq)]
pub enum Steps {
    /// One for each row: its root mean square over finite elements times `factor`, then at least `least`, at most
    /// `greatest`. The frame states it.
    OfRows {
        /// Of the rate.
        factor: f32,
        /// Least step.
        least: f32,
        /// Greatest step.
        greatest: f32,
    },
    /// One for each plane, the same in all rows.
    OfPlanes {
        /// Band after band, channels inside.
        steps: Vec<f32>,
        /// By channel: elements that are farther from zero, or no numbers, are exceptions.
        limits: Vec<f32>,
    },
}

/// What a device made of a chunk.
#[derive(Clone, Debug)]
pub struct DeviceChunk<'a> {
    /// The row's step; read only where the frame states it.
    pub step: f32,
    /// Whether the coarsest band has symbols below zero.
    pub signed: bool,
    /// The sum of magnitudes of each band; read only where the frame states steps.
    pub magnitudes: Vec<u64>,
    /// Position in the chunk (channels one after another) and bits of elements that symbols cannot say, by ascending
    /// position.
    pub exceptions: Vec<(u32, u32)>,
    /// The coarsest band; and all others, where there are any. In the order that the [`Geometry`] says.
    pub sequences: Vec<Sequence<'a>>,
}

/// A sequence of symbols as [`pack`](super::pack) describes it; only whole bytes that belong to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sequence<'a> {
    /// Widths of blocks.
    pub widths: &'a [u8],
    /// Bitmaps of blocks that are not empty.
    pub bitmaps: &'a [u8],
    /// Values.
    pub values: &'a [u8],
}

impl<'a> FrameWriter<'a> {
    /// A frame of an FP32 tensor of this shape, rows and channels first whatever its order in memory. None where the
    /// processor must do everything: for bounded frames, which need their own decoded values, and for no elements.
    /// Errors where rate, shape or package do not fit.
    pub fn new(settings: &Settings<'a>, shape: &[usize]) -> Result<Option<Self>, FfError> {
        let dims = Dims::of(shape, Order::Nchw)?;
        let cut = package_or_default(settings.package)?;
        let Settings { mode, q, entropy, order, .. } = *settings;
        let plane_classes = dims.plane() >= PLANE_CLASS_ELEMENTS;
        let choice = Choice { mode, entropy, order, q, bounded: false, plane_classes };
        let recipe = Recipe::new(choice, dims, cut)?;
        Ok((settings.bound.is_none() && dims.elements() > 0).then_some(Self { recipe, choice }))
    }

    /// Chunks, bands and the order of symbols.
    pub fn geometry(&self) -> Geometry {
        Geometry::new(self.recipe.dims, &self.recipe.bands, self.recipe.order)
    }

    /// What to quantise with.
    pub fn steps(&self) -> Steps {
        let recipe = &self.recipe;
        if recipe.in_band {
            return Steps::OfRows { factor: recipe.step, least: STEP_MIN, greatest: STEP_MAX };
        }
        let channels = 0..recipe.dims.channels;
        let planes = (0..recipe.bands.count()).flat_map(|band| channels.clone().map(move |channel| (band, channel)));
        let steps = planes.map(|(band, channel)| recipe.plane_step(recipe.step, band, channel)).collect();
        let limits = channels.map(|channel| STEPS_MAX * recipe.least_step(recipe.step, channel)).collect();
        Steps::OfPlanes { steps, limits }
    }

    /// How many steps an element may be large.
    pub fn steps_max(&self) -> f32 {
        STEPS_MAX
    }

    /// What is added before rounding down, in steps: for the coarsest band and for all others.
    pub fn rounding(&self) -> [f32; 2] {
        [ROUND_COARSE, ROUND_DETAIL]
    }

    /// Puts the frame together; with rANS, symbols are unpacked and coded here. Uses the current thread pool for large
    /// tensors. Errors where chunks are not what the geometry says.
    pub fn write(&self, chunks: &[DeviceChunk<'_>]) -> Result<Vec<u8>, FfError> {
        let dims = self.recipe.dims;
        if chunks.len() != dims.chunk_count() {
            let message = format!("{} expected, got {}", dims.chunk_count(), chunks.len());
            return Err(error::fault(0, "chunks", message));
        }
        let run_chunks = dims.run_chunks(self.recipe.entropy);
        let jobs = chunks.chunks(run_chunks).enumerate().collect();
        let runs = each(dims, jobs, |(run, chunks)| self.write_run(run * run_chunks, chunks))?;
        format::write(self.choice, self.recipe.cut.id(), dims, &runs)
    }

    fn write_run(&self, first: usize, chunks: &[DeviceChunk<'_>]) -> Result<Vec<u8>, FfError> {
        let recipe = &self.recipe;
        let mut out = Vec::new();
        let mut run = Vec::with_capacity(chunks.len());
        for (index, chunk) in (first..).zip(chunks) {
            let (_, channels) = recipe.dims.chunk_range(index);
            let head = self.head(index, chunk)?;
            let body: Vec<&[u8]> = chunk.sequences.iter().flat_map(|s| [s.widths, s.bitmaps, s.values]).collect();
            if recipe.entropy != Entropy::Rans {
                encode_packed(recipe, &head, &body, &mut out)?;
                continue;
            }
            let mut symbols = vec![0i16; recipe.bands.symbols * channels];
            unpack_body(recipe, channels, chunk.signed, &body.concat(), &mut symbols)
                .map_err(|(at, message)| error::fault(at, "chunks", format!("chunk {index}: {message}")))?;
            run.push((head, symbols));
        }
        if recipe.entropy == Entropy::Rans { encode(recipe, first, run) } else { Ok(out) }
    }

    fn head<'c>(&self, index: usize, chunk: &'c DeviceChunk<'_>) -> Result<Head<'c>, FfError> {
        let bands = self.recipe.bands.all();
        let (_, channels) = self.recipe.dims.chunk_range(index);
        let class = |(sum, band): (&u64, &Band)| class_of(*sum, band.plane() * channels);
        let classes: Vec<u8> = chunk.magnitudes.iter().zip(bands).map(class).collect();
        if self.recipe.in_band && classes.len() != bands.len() {
            let message = format!("chunk {index}: {} sums of magnitudes, {} bands", classes.len(), bands.len());
            return Err(error::fault(0, "chunks", message));
        }
        let DeviceChunk { step, signed, ref exceptions, .. } = *chunk;
        Ok(Head { signed, exceptions: (&exceptions[..]).into(), step, classes })
    }

    /// The frame that the processor makes of the same tensor (rows and channels first) with these steps, one a row; they
    /// are read only where the frame states them. What a device's frame is compared with. Errors as
    /// [`encode`](super::encode).
    pub fn reference(&self, tensor: &HostTensor, row_steps: &[f32]) -> Result<Vec<u8>, FfError> {
        if tensor.data_type() != DataType::Fp32 {
            return Err(FfError::Type(tensor.data_type()));
        }
        let recipe = &self.recipe;
        if Dims::of(tensor.shape(), Order::Nchw)? != recipe.dims {
            return Err(FfError::Shape { got: tensor.shape().to_vec(), why: "it is not the frame's" });
        }
        let row_step = |row: usize, _: &[[u8; 4]]| match row_steps.get(row) {
            Some(step) if recipe.in_band => *step,
            _ => recipe.step,
        };
        encode_rows(recipe, self.choice, tensor.data().as_chunks::<4>().0, row_step, None, None)
    }
}
