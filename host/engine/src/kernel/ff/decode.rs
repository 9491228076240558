//! Frames of FF to a tensor.

use super::plan::{Details, Plan};
use super::{BLOCK, GROUP, PAIR};
use crate::JobError;
use crate::device::OpenDevice;
use crate::host::{Tensor, device_shape};
use crate::kernel::shader::Shader;
use crate::kernel::{WORKGROUP, count, launch, le_bytes, tensor, upload_words};
use bps_codec::ff::{FrameReader, Package, ReadChunk, Scope, Symbols};
use bps_codec::{CodecError, Opened};
use burn::cubecl::client::Client;
use burn::cubecl::server::Handle;

/// Words of an entry of the starts of groups.
const START_WORDS: usize = 3;

/// A frame that the processor has read and checked, in the form that kernels take.
pub(crate) struct Arrived {
    plan: Plan,
    symbols: Arriving,
    /// Steps and offsets, two words a plane.
    table: Vec<u32>,
    /// Row, chunk, band, channel, in planes.
    table_strides: [usize; 4],
    /// Place among all elements of the frame, and bits.
    exceptions: Vec<(u32, u32)>,
}

enum Arriving {
    Packed {
        /// Widths, four bits a block with room for every block; bitmaps; values.
        bytes: Vec<u8>,
        /// Three words a group.
        starts: Vec<u32>,
    },
    /// 16 bits a symbol, with room as the plan has it.
    Plain(Vec<u8>),
}

/// Reads a frame. None where a device must not: the processor can. Errors with what is wrong in it.
pub(crate) fn open(
    opened: &Opened,
    shape: &[usize],
    calibrated: Option<&Package>,
) -> Result<Option<Arrived>, CodecError> {
    let reader = opened.frame(shape, calibrated)?;
    let Some(plan) = Plan::new(reader.geometry()) else { return Ok(None) };
    let chunks = reader.chunks(GROUP).map_err(|e| e.named("ff"))?;
    let Some(symbols) = arriving(&plan, &chunks) else { return Ok(None) };
    let (table, table_strides) = table(&plan, &reader, &chunks);
    let row_chunks = plan.geometry.row_chunks();
    let plane = plan.geometry.height * plan.geometry.width;
    let exceptions = chunks.iter().enumerate().flat_map(|(index, chunk)| {
        let first_channel = index % row_chunks * plan.geometry.chunk_channels;
        let start = (index / row_chunks * plan.row_elements() + first_channel * plane) as u32;
        chunk.exceptions.iter().map(move |(place, bits)| (start + place, *bits))
    });
    let exceptions = exceptions.collect();
    Ok(Some(Arrived { plan, symbols, table, table_strides, exceptions }))
}

/// None where a buffer would have more bits than kernels count.
fn arriving(plan: &Plan, chunks: &[ReadChunk<'_>]) -> Option<Arriving> {
    let packed = chunks.iter().map(|chunk| match &chunk.symbols {
        Symbols::Packed(packed) => Some(packed),
        Symbols::Plain(_) => None,
    });
    let Some(packed) = packed.collect::<Option<Vec<_>>>() else {
        return Some(Arriving::Plain(plain(plan, chunks)));
    };
    let (mut widths, mut bitmaps, mut values) = (vec![0; 4 * plan.width_words()], Vec::new(), Vec::new());
    let mut starts = vec![0; START_WORDS * plan.group_count()];
    for (chunk, symbols) in packed.iter().enumerate() {
        let counts = plan.geometry.sequences(plan.geometry.channels_of(chunk));
        for (index, ((sequence, signed, before), count)) in symbols.sequences().zip(counts).enumerate() {
            let place = &mut widths[plan.block_at(chunk, index) / 2..][..sequence.widths.len()];
            place.copy_from_slice(sequence.widths);
            // Four bits behind the last block may say anything; to the kernel they are a block.
            if count.div_ceil(BLOCK) % 2 == 1
                && let Some(last) = place.last_mut()
            {
                *last &= 0x0f;
            }
            let group = plan.group_at(chunk, index);
            let places = starts[START_WORDS * group..].chunks_exact_mut(START_WORDS);
            for (place, [bitmaps_before, bits_before]) in places.zip(before) {
                let bit = u32::try_from(8 * values.len()).ok()?.checked_add(*bits_before)?;
                place.copy_from_slice(&[(bitmaps.len() / 4) as u32 + bitmaps_before, bit, u32::from(signed)]);
            }
            bitmaps.extend_from_slice(sequence.bitmaps);
            values.extend_from_slice(sequence.values);
        }
    }
    // From here on places count from the first word.
    let bitmaps_at = widths.len() / 4;
    let values_at = u32::try_from(8 * (widths.len() + bitmaps.len())).ok()?;
    u32::try_from(8 * (widths.len() + bitmaps.len() + values.len())).ok()?;
    for place in starts.chunks_exact_mut(START_WORDS) {
        place[0] += bitmaps_at as u32;
        place[1] += values_at;
    }
    widths.extend_from_slice(&bitmaps);
    widths.extend_from_slice(&values);
    Some(Arriving::Packed { bytes: widths, starts })
}

/// Symbols of all chunks, each where the plan has it.
fn plain(plan: &Plan, chunks: &[ReadChunk<'_>]) -> Vec<u8> {
    let mut bytes = vec![0; 4 * plan.symbol_words()];
    for (chunk, read) in chunks.iter().enumerate() {
        let Symbols::Plain(symbols) = &read.symbols else { continue };
        let mut rest = &symbols[..];
        for (index, count) in plan.geometry.sequences(plan.geometry.channels_of(chunk)).into_iter().enumerate() {
            let (sequence, after) = rest.split_at(count.min(rest.len()));
            let places = bytes[plan.block_at(chunk, index) * BLOCK * (4 / PAIR)..].as_chunks_mut::<2>().0;
            places.iter_mut().zip(sequence).for_each(|(place, symbol)| *place = symbol.to_le_bytes());
            rest = after;
        }
    }
    bytes
}

/// Steps and offsets of planes: no more of them than differ.
fn table(plan: &Plan, reader: &FrameReader<'_>, chunks: &[ReadChunk<'_>]) -> (Vec<u32>, [usize; 4]) {
    let geometry = &plan.geometry;
    let (row_chunks, bands, channels) = (geometry.row_chunks(), geometry.bands.len(), geometry.channels);
    let entry = |chunk: &ReadChunk<'_>, band: usize, channel: usize| {
        let (step, offsets) = reader.plane(chunk, band, channel);
        [step.to_bits(), u32::from_le_bytes(offsets.map(|offset| offset as u8))]
    };
    let rows = match reader.scope() {
        Scope::Chunk => {
            let entries = chunks.iter().flat_map(|chunk| (0..bands).flat_map(move |band| entry(chunk, band, 0)));
            return (entries.collect(), [row_chunks * bands, bands, 1, 0]);
        }
        Scope::Channel => 1,
        Scope::RowAndChannel => geometry.rows,
    };
    let mut table = Vec::with_capacity(2 * rows * bands * channels);
    for row in chunks.chunks(row_chunks.max(1)).take(rows) {
        for band in 0..bands {
            for (part, chunk) in row.iter().enumerate() {
                table.extend((0..geometry.channels_of(part)).flat_map(|channel| entry(chunk, band, channel)));
            }
        }
    }
    (table, [if rows == 1 { 0 } else { bands * channels }, 0, channels, 1])
}

/// Makes one tensor of frames: their rows one after another.
pub(crate) fn restore(device: &OpenDevice, frames: Vec<Arrived>, shape: &[usize]) -> Result<Tensor, JobError> {
    let (cube, client) = device.client().ok_or_else(|| JobError::failed("this device has no kernels"))?;
    let elements = bps_types::element_count(shape).ok_or_else(|| JobError::failed("too many elements"))?;
    let arrived: usize = frames.iter().map(|frame| frame.plan.elements()).sum();
    if arrived != elements {
        return Err(JobError::failed(format!("{arrived} elements arrived for shape {shape:?}")));
    }
    count(elements)?;
    let values = client.empty(4 * elements);
    let mut first_row = 0;
    for frame in frames {
        let rows = frame.plan.geometry.rows;
        frame.restore(&client, &values, first_row)?;
        first_row += rows;
    }
    tensor(client, cube, values, device_shape(shape))
}

impl Arrived {
    /// Queues the kernels that fill some rows of `values`.
    fn restore(self, client: &Client, values: &Handle, first_row: usize) -> Result<(), JobError> {
        let plan = &self.plan;
        let exceptions = self.exceptions.len();
        let info = plan.words(&Details { table: self.table_strides, exceptions, first_row, ..Details::default() })?;
        let symbols = match self.symbols {
            Arriving::Plain(bytes) => upload_words(client, bytes),
            Arriving::Packed { bytes, starts } => {
                let (packed, starts) = (upload_words(client, bytes), le_bytes(starts));
                let (starts, symbols) = (upload_words(client, starts), client.empty(4 * plan.symbol_words()));
                let blocks = plan.group_count() * WORKGROUP;
                launch(client, Shader::FfUnpack, &[&packed, &starts, &symbols], info, blocks);
                symbols
            }
        };
        let table = upload_words(client, le_bytes(self.table));
        let reach = plan.geometry.levels.min(1);
        let halved = |extent: usize| extent.div_ceil(1 << reach);
        let places = halved(plan.geometry.height) * halved(plan.geometry.width);
        let places = plan.geometry.rows * plan.geometry.channels * places;
        launch(client, Shader::FfDequantise, &[&symbols, &table, values], info, places);
        if exceptions > 0 {
            let start = count(first_row * plan.row_elements())?;
            let list = self.exceptions.iter().flat_map(|(place, bits)| [start + place, *bits]);
            let list = upload_words(client, le_bytes(list));
            launch(client, Shader::FfRestore, &[&list, values], info, exceptions);
        }
        Ok(())
    }
}
