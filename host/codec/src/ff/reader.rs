//! Frames whose elements a device makes of the symbols.

use super::chunk::{self, Body, Head, PackedBody};
use super::format::{self, Header};
use super::geometry::{Dims, Geometry};
use super::pack::{Parts, survey};
use super::quant::{Offsets, any_negative};
use super::recipe::{Choice, Recipe};
use super::writer::Sequence;
use super::{CutPackage, Entropy, FfError, Order, each, package_or_default};

/// A frame that is read: what a device must know to make the elements.
pub struct FrameReader<'a> {
    recipe: Recipe<'a>,
    choice: Choice,
    runs: Vec<(usize, &'a [u8])>,
}

/// What steps and offsets depend on besides the band.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The chunk.
    Chunk,
    /// The channel, whatever the row.
    Channel,
    /// The channel and the row.
    RowAndChannel,
}

/// A chunk up to its symbols.
pub struct ReadChunk<'a> {
    /// Position in the chunk (channels one after another) and bits of elements that symbols cannot say.
    pub exceptions: Vec<(u32, u32)>,
    /// The symbols of all bands.
    pub symbols: Symbols<'a>,
    signed: bool,
    step: f32,
    /// Of all planes, band after band.
    classes: Vec<u8>,
    /// The first channel, and how many there are.
    range: (usize, usize),
}

/// Symbols as they arrived.
pub enum Symbols<'a> {
    /// Packed, in the order that the geometry says, and checked: every index that follows from them is there.
    Packed(PackedSymbols<'a>),
    /// Band after band, channels inside, each channel line by line.
    Plain(Vec<i16>),
}

/// The packed sequences of a chunk.
pub struct PackedSymbols<'a> {
    body: PackedBody<'a>,
    parts: Vec<Parts>,
    signed: bool,
}

impl PackedSymbols<'_> {
    /// The coarsest band and all others, where there are any: each with whether it has symbols below zero, and how many
    /// bitmaps and bits of values stand before every so many blocks.
    pub fn sequences(&self) -> impl Iterator<Item = (Sequence<'_>, bool, &[[u32; 2]])> {
        let mut rest = &self.body.bytes[..];
        self.parts.iter().enumerate().map(move |(index, parts)| {
            let [widths, bitmaps, values] = parts.bytes.map(|bytes| {
                let (part, after) = rest.split_at(bytes);
                rest = after;
                part
            });
            (Sequence { widths, bitmaps, values }, index > 0 || self.signed, &parts.before[..])
        })
    }
}

impl<'a> FrameReader<'a> {
    /// Reads the frame of a tensor of this shape, rows and channels first; `package` as for [`decode`](super::decode).
    /// Errors as there, except for what is wrong inside chunks.
    pub fn new(bytes: &'a [u8], expected_shape: &[usize], package: Option<&'a CutPackage>) -> Result<Self, FfError> {
        let dims = Dims::of(expected_shape, Order::Nchw)?;
        let header = Header::read(bytes)?;
        let cut = package_or_default(package)?;
        if header.package != cut.id() {
            return Err(FfError::Package { expected: cut.id(), got: header.package });
        }
        let runs = header.runs(bytes, dims)?;
        Ok(Self { recipe: Recipe::new(header.choice, dims, cut)?, choice: header.choice, runs })
    }

    /// Chunks, bands and the order of symbols.
    pub fn geometry(&self) -> Geometry {
        let order = if self.recipe.entropy == Entropy::Rans { Order::Nchw } else { self.recipe.order };
        Geometry::new(self.recipe.dims, &self.recipe.bands, order)
    }

    /// What steps and offsets depend on.
    pub fn scope(&self) -> Scope {
        match self.recipe.entropy {
            _ if !self.recipe.in_band => Scope::Channel,
            Entropy::Rans if self.recipe.plane_classes => Scope::RowAndChannel,
            _ => Scope::Chunk,
        }
    }

    /// Opens all chunks, row after row; of packed symbols, what stands before every `stride` blocks is noted. Uses the
    /// current thread pool for large tensors. Errors with the byte and the name of what is wrong.
    pub fn chunks(&self, stride: usize) -> Result<Vec<ReadChunk<'a>>, FfError> {
        let jobs = self.runs.iter().copied().enumerate().collect();
        let runs = each(self.recipe.dims, jobs, |(run, from)| self.run(run, from, stride))?;
        Ok(runs.into_iter().flatten().collect())
    }

    fn run(&self, run: usize, from: (usize, &'a [u8]), stride: usize) -> Result<Vec<ReadChunk<'a>>, FfError> {
        let chunks = self.recipe.dims.run(run, self.recipe.entropy);
        let read = |(chunk, opened): (usize, chunk::Opened<'a>)| {
            let range = self.recipe.dims.chunk_range(chunk);
            let chunk::Opened { signed, exceptions, step, classes, body } = opened;
            let symbols = match body {
                Body::Symbols(symbols) => Symbols::Plain(symbols),
                Body::Packed(body) => Symbols::Packed(self.packed(body, range.1, signed, stride)?),
            };
            Ok(ReadChunk { exceptions, symbols, signed, step, classes, range })
        };
        chunks.clone().zip(chunk::open(&self.recipe, chunks, from)?).map(read).collect()
    }

    fn packed(
        &self,
        body: PackedBody<'a>,
        channels: usize,
        signed: bool,
        stride: usize,
    ) -> Result<PackedSymbols<'a>, FfError> {
        let coarse = self.recipe.bands.all()[0].plane() * channels;
        let details = self.recipe.bands.symbols * channels - coarse;
        let mut used = 0;
        let mut parts = Vec::with_capacity(2);
        for (symbols, signed) in [(coarse, signed), (details, true)] {
            if symbols > 0 {
                let found = survey(&body.bytes[used..], signed, symbols, stride);
                let found = found.map_err(|(at, message)| body.fault(used + at, message))?;
                used += found.bytes.iter().sum::<usize>();
                parts.push(found);
            }
        }
        if used != body.bytes.len() {
            return Err(body.fault(used, "bytes behind the last value"));
        }
        Ok(PackedSymbols { body, parts, signed })
    }

    /// Step and offsets of a plane of a chunk; the channel counts from the chunk's first.
    pub fn plane(&self, chunk: &ReadChunk<'_>, band: usize, channel: usize) -> (f32, Offsets) {
        let (first, channels) = chunk.range;
        let class = chunk.classes.get(band * channels + channel).copied().unwrap_or(0);
        let offsets = self.recipe.offsets(band, first + channel, class, chunk.signed);
        (self.recipe.plane_step(chunk.step, band, first + channel), offsets)
    }

    /// The symbols of all chunks, one behind another: band after band, channels inside, each channel line by line.
    pub fn symbols(&self) -> Result<Vec<i16>, FfError> {
        let chunks = self.chunks(usize::MAX)?;
        let symbols = chunks.iter().enumerate().map(|(index, chunk)| self.symbols_of(index, chunk));
        symbols.collect::<Result<Vec<_>, _>>().map(|chunks| chunks.concat())
    }

    fn symbols_of(&self, index: usize, chunk: &ReadChunk<'_>) -> Result<Vec<i16>, FfError> {
        match &chunk.symbols {
            Symbols::Plain(symbols) => Ok(symbols.clone()),
            Symbols::Packed(PackedSymbols { body, signed, .. }) => {
                let (_, channels) = self.recipe.dims.chunk_range(index);
                let mut symbols = vec![0; self.recipe.bands.symbols * channels];
                chunk::unpack_body(&self.recipe, channels, *signed, &body.bytes, &mut symbols)
                    .map_err(|(at, message)| body.fault(at, message))?;
                Ok(symbols)
            }
        }
    }

    /// The frame that the processor makes of the same symbols, steps and exceptions: where this one is another, whoever
    /// packed it did it wrong.
    pub fn rewritten(&self) -> Result<Vec<u8>, FfError> {
        let chunks = self.chunks(usize::MAX)?;
        let mut parts = Vec::with_capacity(chunks.len());
        for (index, read) in chunks.iter().enumerate() {
            let (_, channels) = read.range;
            let symbols = self.symbols_of(index, read)?;
            let coarse = self.recipe.bands.all()[0].plane() * channels;
            let classes = chunk::measured(&self.recipe, channels, &symbols, true);
            let signed = any_negative(&symbols[..coarse]);
            let exceptions = (&read.exceptions[..]).into();
            parts.push((Head { signed, exceptions, step: read.step, classes }, symbols));
        }
        let dims = self.recipe.dims;
        let mut runs = Vec::with_capacity(dims.run_count(self.recipe.entropy));
        let mut parts = parts.into_iter();
        for run in 0..dims.run_count(self.recipe.entropy) {
            let chunks = dims.run(run, self.recipe.entropy);
            runs.push(chunk::encode(&self.recipe, chunks.start, parts.by_ref().take(chunks.len()).collect())?);
        }
        format::write(self.choice, self.recipe.cut.id(), dims, &runs)
    }
}
