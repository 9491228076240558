//! A tensor to a frame of FF.

use super::plan::{Details, Plan};
use super::{BLOCK, GROUP};
use crate::JobError;
use crate::host::{Tensor, device_shape};
use crate::kernel::pack::REDUCTION_GROUPS;
use crate::kernel::shader::Shader;
use crate::kernel::{WORKGROUP, launch, le_bytes, lying, upload_words};
use bps_codec::ff::{ASSUMED_SCALAR, DeviceChunk, FfError, FrameWriter, Order, Sequence, Settings, Steps};
use bps_codec::frame_writer;
use burn::backend::TensorMetadata;
use burn::backend::wgpu::{CubeTensor, into_contiguous};
use burn::cubecl::client::Client;
use burn::cubecl::server::Handle;
use burn::tensor::Bytes as Read;
use bytes::Bytes;

/// Words of the summary before those of chunks, of a chunk, and of a sequence.
const HEAD_WORDS: usize = 4;
const CHUNK_WORDS: usize = 16;
const SEQUENCE_WORDS: usize = 4;

/// Room for exceptions: one element in so many, but not less than so many in all. With more of them the processor encodes.
const EXCEPTION_SHARE: usize = 32;
const EXCEPTIONS_LEAST: usize = 1_024;

/// Encodes a tensor where it lies, in the order of its memory whatever the settings say of that. None where the processor
/// must: it finds out late only if there are very many exceptions. `shape` is what the tensor must have.
pub(crate) fn encode(values: Tensor, shape: &[usize], settings: &Settings<'_>) -> Result<Option<Bytes>, JobError> {
    let Some(Ready { values, writer, plan, strides }) = ready(values, shape, settings)? else { return Ok(None) };
    let run = Run::new(&values.client, &plan, &writer, strides);
    run.queue(&values.handle)?;
    let Some(results) = run.read(settings.q)? else { return Ok(None) };
    let chunks = chunks(&plan, &results)?;
    writer.write(&chunks).map(|frame| Some(frame.into())).map_err(failed)
}

/// Queues what [`encode`] queues and reads nothing back: for measurements.
pub(crate) fn queue(values: Tensor, shape: &[usize], settings: &Settings<'_>) -> Result<(), JobError> {
    let Some(Ready { values, writer, plan, strides }) = ready(values, shape, settings)? else { return Ok(()) };
    Run::new(&values.client, &plan, &writer, strides).queue(&values.handle)
}

fn failed(error: FfError) -> JobError {
    JobError::failed(error.to_string())
}

/// A tensor that a device can encode.
struct Ready<'a> {
    values: CubeTensor,
    writer: FrameWriter<'a>,
    plan: Plan,
    /// Row, channel, line, column.
    strides: [usize; 4],
}

/// None where the processor must encode.
fn ready<'a>(values: Tensor, shape: &[usize], settings: &Settings<'a>) -> Result<Option<Ready<'a>>, JobError> {
    let elements = bps_types::element_count(shape).ok_or_else(|| JobError::failed("too many elements"))?;
    let values = lying(values, shape, elements)?;
    let (values, strides) = match memory(&values, shape) {
        Some(strides) => (values, Some(strides)),
        None => (into_contiguous(values), None),
    };
    let order = if strides.is_some_and(|(_, inside)| inside) { Order::Nhwc } else { Order::Nchw };
    let Some(writer) = frame_writer(&Settings { order, ..*settings }, shape).map_err(failed)? else {
        return Ok(None);
    };
    let Some(plan) = Plan::new(writer.geometry()).filter(|plan| plan.fits(&values.client)) else {
        return Ok(None);
    };
    let strides = strides.map_or_else(|| packed_strides(&plan), |(strides, _)| strides);
    Ok(Some(Ready { values, writer, plan, strides }))
}

/// Distances between rows, channels, lines and columns, and whether channels are innermost, where a tensor can be read as
/// it lies.
fn memory(tensor: &CubeTensor, shape: &[usize]) -> Option<([usize; 4], bool)> {
    if tensor.meta.is_tiled() || tensor.qparams.is_some() || tensor.shape()[..] != device_shape(shape)[..] {
        return None;
    }
    let (extents, strides) = match (shape, &tensor.meta.strides()[..]) {
        (&[n], &[rows]) => ([n, 1, 1, 1], [rows, 0, 0, 0]),
        (&[n, c], &[rows, channels]) => ([n, c, 1, 1], [rows, channels, 0, 0]),
        (&[n, c, w], &[rows, channels, columns]) => ([n, c, 1, w], [rows, channels, 0, columns]),
        (&[n, c, h, w], &[rows, channels, lines, columns]) => ([n, c, h, w], [rows, channels, lines, columns]),
        _ => return None,
    };
    let reach = extents.iter().zip(strides).try_fold(0usize, |reach, (extent, stride)| {
        extent.saturating_sub(1).checked_mul(stride).and_then(|far| reach.checked_add(far))
    });
    // What leaves the buffer is Burn's affair to explain; it is not read.
    reach.filter(|reach| (*reach as u64) < tensor.handle.size_in_used() / 4)?;
    let [_, channels, height, width] = extents;
    Some((strides, channels > 1 && height * width > 1 && strides[1] == 1))
}

/// Those of a tensor without gaps, NCHW.
fn packed_strides(plan: &Plan) -> [usize; 4] {
    let width = plan.geometry.width;
    [plan.row_elements(), plan.geometry.height * width, width, 1]
}

/// The buffers of one encoding.
struct Run<'a> {
    client: &'a Client,
    plan: &'a Plan,
    details: Details,
    steps: Steps,
    table: Handle,
    symbols: Handle,
    summary: Handle,
    exceptions: Handle,
    packed: Handle,
}

/// What is read back.
struct Results {
    summary: Vec<u32>,
    /// By row; empty where the package has the steps.
    steps: Vec<f32>,
    /// Place among all elements and bits, by ascending place.
    exceptions: Vec<(u32, u32)>,
    /// Widths, bitmaps, values; and what stood behind them.
    packed: Read,
}

impl<'a> Run<'a> {
    fn new(client: &'a Client, plan: &'a Plan, writer: &FrameWriter<'_>, strides: [usize; 4]) -> Self {
        let steps = writer.steps();
        let (rows, channels) = (plan.geometry.rows, plan.geometry.channels);
        let mut details = Details {
            strides,
            rounding: writer.rounding(),
            steps_max: writer.steps_max(),
            exceptions: (plan.elements() / EXCEPTION_SHARE).max(EXCEPTIONS_LEAST).min(plan.elements()),
            ..Details::default()
        };
        let table = match &steps {
            Steps::OfRows { factor, least, greatest } => {
                details.step = [*factor, *least, *greatest];
                details.table = [1, 0, 0, 0];
                let share = (REDUCTION_GROUPS / rows).max(1);
                details.power_groups = plan.row_elements().div_ceil(WORKGROUP).min(share);
                client.empty(8 * rows)
            }
            Steps::OfPlanes { steps, limits } => {
                details.table = [0, 0, channels, 1];
                let entry = |(step, limit): (&f32, &f32)| [(1.0 / step).to_bits(), limit.to_bits()];
                upload_words(client, le_bytes(steps.iter().zip(limits.iter().cycle()).flat_map(entry)))
            }
        };
        let summary_words = HEAD_WORDS + plan.chunk_count() * (CHUNK_WORDS + SEQUENCE_WORDS * plan.chunk_sequences());
        Self {
            client,
            plan,
            details,
            steps,
            table,
            symbols: client.empty(4 * plan.symbol_words()),
            summary: upload_words(client, vec![0; 4 * summary_words]),
            exceptions: client.empty(8 * details.exceptions),
            packed: client.empty(4 * plan.packed_words_max()),
        }
    }

    /// Queues all kernels; failures show when a buffer is read.
    fn queue(&self, values: &Handle) -> Result<(), JobError> {
        let Self { client, plan, details, table, symbols, summary, exceptions, packed, .. } = self;
        let info = plan.words(details)?;
        if let Steps::OfRows { .. } = self.steps {
            let groups = plan.geometry.rows * details.power_groups;
            let shares = client.empty(16 * groups);
            launch(client, Shader::FfPower, &[values, &shares], info, groups * WORKGROUP);
            launch(client, Shader::FfStep, &[&shares, table], info, plan.geometry.rows * WORKGROUP);
        }
        let words = plan.chunk_count() * plan.chunk_words().next_multiple_of(WORKGROUP);
        launch(client, Shader::FfQuantise, &[values, table, symbols, summary, exceptions], info, words);
        let blocks = plan.group_count() * WORKGROUP;
        let (before, totals) = (client.empty(4 * plan.block_count()), client.empty(8 * plan.group_count()));
        launch(client, Shader::FfWidths, &[symbols, summary, packed, &before, &totals], info, blocks);
        launch(client, Shader::FfScan, &[&totals, summary], info, WORKGROUP);
        launch(client, Shader::FfClear, &[&before, &totals, summary, packed], info, blocks);
        launch(client, Shader::FfPack, &[symbols, &before, &totals, summary, packed], info, blocks);
        Ok(())
    }

    /// Waits for what the kernels leave, at rate `q`. None where there are more exceptions than there is room for.
    fn read(&self, q: u8) -> Result<Option<Results>, JobError> {
        let expected = self.expected_words(q);
        let mut wanted = vec![self.summary.clone(), part_of(&self.packed, expected)?];
        if let Steps::OfRows { .. } = self.steps {
            wanted.push(self.table.clone());
        }
        let read = self.client.read(wanted).map_err(|e| JobError::classify(None, e.to_string()))?;
        let mut read = read.into_iter();
        let summary = words_of(&read.next().unwrap_or_else(|| Read::from_bytes_vec(vec![])));
        let packed = read.next();
        // The greatest magnitude of an element is a power of two times the step.
        let limits = read.next().map(|table| words_of(&table)).unwrap_or_default();
        let limits = limits.as_chunks::<2>().0.iter().map(|[_, limit]| f32::from_bits(*limit));
        let steps = limits.map(|limit| limit / self.details.steps_max).collect();
        let word = |at: usize| summary.get(at).map_or(0, |word| *word as usize);
        let (exception_count, packed_words) = (word(0), self.plan.width_words() + word(1) + word(2));
        if exception_count > self.details.exceptions {
            return Ok(None);
        }
        let mut exceptions = Vec::new();
        if exception_count > 0 {
            let read = words_of(&self.read_part(&self.exceptions, 2 * exception_count)?);
            exceptions.extend(read.as_chunks::<2>().0.iter().map(|[place, bits]| (*place, *bits)));
            exceptions.sort_unstable();
        }
        let packed = match packed.filter(|_| packed_words <= expected) {
            Some(packed) => packed,
            None => self.read_part(&self.packed, packed_words)?,
        };
        Ok(Some(Results { summary, steps, exceptions, packed }))
    }

    /// Words of the packed form that are read with the summary, so that there is nothing to wait for twice: those that
    /// made-up maps need at the rate, and a quarter more.
    fn expected_words(&self, q: u8) -> usize {
        let bits = ASSUMED_SCALAR.get(usize::from(q / 2)).map_or(0.0, |(bits, _)| *bits);
        let words = (self.plan.elements() as f32 * bits * 1.25 / 32.0) as usize;
        (self.plan.width_words() + words).min(self.plan.packed_words_max())
    }

    fn read_part(&self, buffer: &Handle, words: usize) -> Result<Read, JobError> {
        self.client.read_one(part_of(buffer, words)?).map_err(|e| JobError::classify(None, e.to_string()))
    }
}

/// The first words of a buffer.
fn part_of(buffer: &Handle, words: usize) -> Result<Handle, JobError> {
    let unused = buffer.size_in_used().checked_sub(4 * words as u64);
    let unused = unused.ok_or_else(|| JobError::failed("a kernel's result does not fit its buffer"))?;
    Ok(buffer.clone().offset_end(unused))
}

fn words_of(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect()
}

/// What the device left, chunk by chunk. Errors where that contradicts itself: a device that failed may leave anything.
fn chunks<'a>(plan: &Plan, results: &'a Results) -> Result<Vec<DeviceChunk<'a>>, JobError> {
    let broken = || JobError::failed("a kernel's result contradicts itself");
    let words = |at: usize, count: usize| results.summary.get(at..at + count).ok_or_else(broken);
    let bytes = |at: usize, count: usize| results.packed.get(at..at.saturating_add(count)).ok_or_else(broken);
    let [_, bitmaps, _, _] = *words(0, HEAD_WORDS)? else { return Err(broken()) };
    let bitmaps_at = 4 * plan.width_words();
    let values_at = bitmaps_at + 4 * bitmaps as usize;
    let geometry = &plan.geometry;
    let (row_chunks, plane) = (geometry.row_chunks(), geometry.height * geometry.width);
    let sequences_at = HEAD_WORDS + CHUNK_WORDS * plan.chunk_count();
    let mut exceptions = &results.exceptions[..];
    let mut chunks = Vec::with_capacity(plan.chunk_count());
    for chunk in 0..plan.chunk_count() {
        let (row, channels) = (chunk / row_chunks, geometry.channels_of(chunk));
        let head = words(HEAD_WORDS + CHUNK_WORDS * chunk, CHUNK_WORDS)?;
        let (sums, _) = head[2..].as_chunks::<2>();
        let sums = sums.iter().map(|[low, high]| u64::from(*low) | u64::from(*high) << 32);
        let mut sequences = Vec::with_capacity(plan.chunk_sequences());
        for (sequence, symbols) in geometry.sequences(channels).into_iter().enumerate().take(plan.chunk_sequences()) {
            let index = chunk * plan.chunk_sequences() + sequence;
            let place = words(sequences_at + SEQUENCE_WORDS * index, SEQUENCE_WORDS)?;
            let [first_bitmap, bitmaps, first_word, bits] = [0, 1, 2, 3].map(|i| place[i] as usize);
            sequences.push(Sequence {
                widths: bytes(plan.block_at(chunk, sequence) / 2, symbols.div_ceil(BLOCK).div_ceil(2))?,
                bitmaps: bytes(bitmaps_at + 4 * first_bitmap, 4 * bitmaps)?,
                values: bytes(values_at + 4 * first_word, bits.div_ceil(8))?,
            });
        }
        let start = row * plan.row_elements() + chunk % row_chunks * geometry.chunk_channels * plane;
        let mine = exceptions.partition_point(|(place, _)| (*place as usize) < start + channels * plane);
        let (mine, others) = exceptions.split_at(mine);
        exceptions = others;
        let relative = |(place, bits): &(u32, u32)| (*place as usize).checked_sub(start).map(|at| (at as u32, *bits));
        chunks.push(DeviceChunk {
            step: results.steps.get(row).copied().unwrap_or(0.0),
            signed: head[0] != 0,
            magnitudes: sums.take(geometry.bands.len()).collect(),
            exceptions: mine.iter().map(relative).collect::<Option<_>>().ok_or_else(broken)?,
            sequences,
        });
    }
    Ok(chunks)
}

// A group is the share of a workgroup.
const _: () = assert!(GROUP == WORKGROUP);
