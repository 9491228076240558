//! Runs of chunks, a chunk being some channels of one row, in both directions.
//!
//! ```text
//! heads of all chunks, one behind another:                | the run's body
//! +-------+--------------+--------------------------------+------------------------------+
//! | flags | exceptions   | only where steps travel:       | two packed sequences, the    |
//! | u8    | see there    | step f32, a class u8 for each  | same in zstd behind a length |
//! |       |              | band                           | u32, or rANS                 |
//! +-------+--------------+--------------------------------+------------------------------+
//! ```
//!
//! Flag 1 says that the coarsest band (without transform: the only one) has symbols below zero, flag 2 that there are
//! exceptions; else their part is left out. The first packed sequence is the coarsest band, the second all others; where
//! the map has no details there is no second. With rANS the symbols of all chunks go through the same states.

use super::cancel::Aim;
use super::coder::{self, Classes, Model};
use super::error::fault;
use super::exceptions::{self, Exception};
use super::geometry::{Bands, LANES, tile};
use super::quant::{STEP_MAX, STEP_MIN, STEPS_MAX, any_negative, load, magnitude_sum};
use super::rans::{Reader, Writer};
use super::recipe::Recipe;
use super::tables::{CLASSES, class_of, class_table};
use super::transform::Workspace;
use super::{Entropy, FfError, Mode, Order, pack};
use crate::squeeze::{squeeze, stretch};
use std::borrow::Cow;
use std::ops::Range;

/// The coarsest band has symbols below zero.
const SIGNED: u8 = 1;
/// There are exceptions.
const EXCEPTIONS: u8 = 2;

/// What a run says of a chunk before its symbols.
pub(super) struct Head<'a> {
    /// Whether the coarsest band has symbols below zero.
    pub(super) signed: bool,
    /// By ascending position.
    pub(super) exceptions: Cow<'a, [Exception]>,
    /// The row's step.
    pub(super) step: f32,
    /// The class of each band; read only where steps travel.
    pub(super) classes: Vec<u8>,
}

impl Head<'_> {
    fn write(&self, recipe: &Recipe<'_>, out: &mut Vec<u8>) {
        let listed = !self.exceptions.is_empty();
        out.push(u8::from(self.signed) * SIGNED + u8::from(listed) * EXCEPTIONS);
        if listed {
            exceptions::write(&self.exceptions, out);
        }
        if recipe.in_band {
            out.extend(self.step.to_le_bytes());
            out.extend(&self.classes);
        }
    }
}

/// Makes symbols of the channels of a chunk, which lie one after another: band after band, channels inside. `step` is the
/// row's, `bound` the error that no finite element may exceed. With an aim, whose package the recipe is of, errors cancel
/// along its directions; a row with exceptions is left as it is.
pub(super) fn symbols(
    recipe: &Recipe<'_>,
    chunk: usize,
    bytes: &[[u8; 4]],
    step: f32,
    bound: Option<f32>,
    aim: Option<&Aim>,
) -> (Head<'static>, Vec<i16>) {
    let (first, channels) = recipe.dims.chunk_range(chunk);
    let mut symbols = vec![0i16; recipe.bands.symbols * channels];
    let exceptions: Cow<'_, [Exception]> = quantise(recipe, first, bytes, step, bound, &mut symbols).into();
    let is_signed = |symbols: &[i16]| any_negative(&symbols[..recipe.bands.all()[0].plane() * channels]);
    let mut signed = is_signed(&symbols);
    if let Some(aim) = aim.filter(|_| exceptions.is_empty()) {
        aim.choose(recipe, bytes, signed, &mut symbols);
        signed = is_signed(&symbols);
    }
    let classes = if recipe.in_band { measured(recipe, channels, &symbols, true) } else { Vec::new() };
    (Head { signed, exceptions, step, classes }, symbols)
}

/// Encodes the run that begins with chunk `first`.
pub(super) fn encode(recipe: &Recipe<'_>, first: usize, run: Vec<(Head<'_>, Vec<i16>)>) -> Result<Vec<u8>, FfError> {
    let symbol_count: usize = run.iter().map(|(_, symbols)| symbols.len()).sum();
    if recipe.entropy == Entropy::Rans {
        let mut out = Vec::with_capacity(symbol_count / 4 + 64);
        run.iter().for_each(|(head, _)| head.write(recipe, &mut out));
        code(recipe, first, &run, &mut out);
        return Ok(out);
    }
    let mut out = Vec::with_capacity(symbol_count / 4 + 64);
    for (chunk, (head, symbols)) in (first..).zip(run) {
        let (_, channels) = recipe.dims.chunk_range(chunk);
        let mut body = Vec::with_capacity(symbols.len() / 4);
        pack_body(recipe, channels, head.signed, symbols, &mut body);
        encode_packed(recipe, &head, &[&body], &mut out)?;
    }
    Ok(out)
}

/// Puts the symbols of a run through rANS.
fn code(recipe: &Recipe<'_>, first: usize, run: &[(Head<'_>, Vec<i16>)], out: &mut Vec<u8>) {
    let (mut writer, mut lanes) = (Writer::new(), 0);
    let (first_channel, channels) = recipe.dims.chunk_range(first);
    let known = recipe.known_classes(first_channel, channels);
    for (chunk, (head, symbols)) in (first..first + run.len()).zip(run).rev() {
        let (first, channels) = recipe.dims.chunk_range(chunk);
        let (tables, ratios) = (&recipe.cut.tables[..], recipe.ratios.get(first..).unwrap_or_default());
        let model = Model { bands: recipe.bands, channels, signed: head.signed, tables, ratios };
        lanes = LANES.min(channels);
        match (&known, class_table()) {
            (Some(known), _) => coder::write(&model, &Classes::Known(known), known, symbols, &mut writer),
            (None, Some(table)) if recipe.plane_classes => {
                let classes = measured(recipe, channels, symbols, false);
                coder::write(&model, &Classes::InBand(&head.classes, table), &classes, symbols, &mut writer);
            }
            _ => {
                let all = spread(&head.classes, channels);
                coder::write(&model, &Classes::Known(&all), &all, symbols, &mut writer);
            }
        }
    }
    writer.finish(lanes, out);
}

/// Encodes a run of one chunk whose symbols are packed already, in parts that are one body behind one another.
pub(super) fn encode_packed(
    recipe: &Recipe<'_>,
    head: &Head<'_>,
    body: &[&[u8]],
    out: &mut Vec<u8>,
) -> Result<(), FfError> {
    let body_bytes: usize = body.iter().map(|part| part.len()).sum();
    head.write(recipe, out);
    if recipe.entropy == Entropy::Zstd {
        out.extend((body_bytes as u32).to_le_bytes());
        out.extend(squeeze(&body.concat()).map_err(|message| fault(0, "zstd", message))?);
    } else {
        out.reserve(body_bytes);
        body.iter().for_each(|part| out.extend_from_slice(part));
    }
    Ok(())
}

/// The classes that the symbols of each band have, or those of each plane.
pub(super) fn measured(recipe: &Recipe<'_>, channels: usize, symbols: &[i16], per_band: bool) -> Vec<u8> {
    let planes = recipe.bands.all().iter().flat_map(|band| {
        let count = if per_band { band.plane() * channels } else { band.plane() };
        std::iter::repeat_n(count, if per_band { 1 } else { channels })
    });
    let mut at = 0;
    let class = |count: usize| {
        at += count;
        class_of(magnitude_sum(&symbols[at - count..at]), count)
    };
    planes.map(class).collect()
}

/// A class for each plane where there is one for each band.
fn spread(heads: &[u8], channels: usize) -> Vec<u8> {
    let mut all = Vec::with_capacity(heads.len() * channels);
    heads.iter().for_each(|class| all.extend(std::iter::repeat_n(*class, channels)));
    all
}

/// Fills `symbols`, band after band; gives what symbols cannot say.
pub(super) fn quantise(
    recipe: &Recipe<'_>,
    first: usize,
    bytes: &[[u8; 4]],
    step: f32,
    bound: Option<f32>,
    symbols: &mut [i16],
) -> Vec<Exception> {
    let (bands, [height, width]) = planes(recipe, bytes.len());
    let plane = height * width;
    let channels = bytes.len() / plane.max(1);
    let mut space = Workspace::new(bands, height, width);
    let mut exceptions = Vec::new();
    for (channel, source) in bytes.chunks_exact(plane).enumerate() {
        let except = |i: usize| ((channel * plane + i) as u32, u32::from_le_bytes(source[i]));
        let limit = STEPS_MAX * recipe.least_step(step, first + channel);
        if !load(source, limit, &mut space.values) {
            for (i, value) in space.values.iter_mut().enumerate() {
                if value.is_nan() || value.abs() > limit {
                    exceptions.push(except(i));
                    *value = 0.0;
                }
            }
        }
        space.forward();
        for (band, shape) in bands.all().iter().enumerate() {
            let from = bands.start(band, channels) + channel * shape.plane();
            let plane_step = recipe.plane_step(step, band, first + channel);
            space.quantise(band, plane_step, recipe.bounded, &mut symbols[from..from + shape.plane()]);
        }
        if let Some(bound) = bound {
            restore(recipe, &bands, &mut space, [first, channel, channels], step, &|_| [0; 4], symbols);
            let bound = f64::from(bound);
            for (i, (value, source)) in space.values.iter().zip(source).enumerate() {
                let source = f32::from_le_bytes(*source);
                let missed = (f64::from(*value) - f64::from(source)).abs() > bound;
                if missed && source.abs() <= limit {
                    exceptions.push(except(i));
                }
            }
        }
    }
    exceptions.sort_unstable_by_key(|(position, _)| *position);
    exceptions
}

/// Bands, lines and columns of the planes that a chunk of so many elements is quantised in: its channels, or whatever a
/// core's first cache holds.
fn planes(recipe: &Recipe<'_>, elements: usize) -> (Bands, [usize; 2]) {
    let dims = recipe.dims;
    if recipe.alike() {
        let tile = tile(elements);
        (Bands::of(Mode::Scalar, 1, tile), [1, tile])
    } else {
        (recipe.bands, [dims.height, dims.width])
    }
}

/// Makes a channel's values from its symbols.
fn restore(
    recipe: &Recipe<'_>,
    bands: &Bands,
    space: &mut Workspace,
    [first, channel, channels]: [usize; 3],
    step: f32,
    offsets: &dyn Fn(usize) -> super::Offsets,
    symbols: &[i16],
) {
    for (band, shape) in bands.all().iter().enumerate() {
        let from = bands.start(band, channels) + channel * shape.plane();
        let plane_step = recipe.plane_step(step, band, first + channel);
        space.dequantise(band, plane_step, offsets(band), &symbols[from..from + shape.plane()]);
    }
    space.inverse();
}

/// Swaps rows and columns: `from` has lines of this width.
fn turn(from: &[i16], width: usize) -> Vec<i16> {
    (0..width).flat_map(|column| from.iter().skip(column).step_by(width).copied()).collect()
}

fn pack_body(recipe: &Recipe<'_>, channels: usize, signed: bool, mut symbols: Vec<i16>, out: &mut Vec<u8>) {
    if recipe.order == Order::Nhwc {
        for (band, shape) in recipe.bands.all().iter().enumerate() {
            let part = &mut symbols[recipe.bands.start(band, channels)..][..shape.plane() * channels];
            let turned = turn(part, shape.plane());
            part.copy_from_slice(&turned);
        }
    }
    let (coarse, details) = symbols.split_at(recipe.bands.all()[0].plane() * channels);
    pack::pack(coarse, signed, out);
    if !details.is_empty() {
        pack::pack(details, true, out);
    }
}

/// Errors with where and what is wrong.
pub(super) fn unpack_body(
    recipe: &Recipe<'_>,
    channels: usize,
    signed: bool,
    body: &[u8],
    symbols: &mut [i16],
) -> Result<(), (usize, &'static str)> {
    let (coarse, details) = symbols.split_at_mut(recipe.bands.all()[0].plane() * channels);
    let mut used = pack::unpack(body, signed, coarse)?;
    if !details.is_empty() {
        used += pack::unpack(&body[used..], true, details).map_err(|(at, what)| (used + at, what))?;
    }
    if used != body.len() {
        return Err((used, "bytes behind the last value"));
    }
    if recipe.order == Order::Nhwc {
        for (band, shape) in recipe.bands.all().iter().enumerate() {
            let part = &mut symbols[recipe.bands.start(band, channels)..][..shape.plane() * channels];
            let turned = turn(part, channels);
            part.copy_from_slice(&turned);
        }
    }
    Ok(())
}

/// A chunk whose head is read.
pub(super) struct Opened<'a> {
    pub(super) signed: bool,
    pub(super) exceptions: Vec<Exception>,
    /// The row's step.
    pub(super) step: f32,
    /// Of all planes, band after band.
    pub(super) classes: Vec<u8>,
    pub(super) body: Body<'a>,
}

/// The symbols of a chunk.
pub(super) enum Body<'a> {
    /// Not looked at yet.
    Packed(PackedBody<'a>),
    /// Band after band, channels inside.
    Symbols(Vec<i16>),
}

/// Symbols as [`pack`] leaves them.
pub(super) struct PackedBody<'a> {
    pub(super) bytes: Cow<'a, [u8]>,
    /// Where in the frame they stand, or what they were squeezed to.
    offset: usize,
}

impl PackedBody<'_> {
    /// What is wrong at a byte of them.
    pub(super) fn fault(&self, at: usize, message: &str) -> FfError {
        match self.bytes {
            Cow::Borrowed(_) => fault(self.offset + at, "packed symbols", message),
            Cow::Owned(_) => fault(self.offset, "packed symbols", format!("{message}, at unpacked byte {at}")),
        }
    }
}

/// A head that is read.
struct ReadHead<'a> {
    signed: bool,
    exceptions: Vec<Exception>,
    step: f32,
    /// The class of each band, where steps travel.
    classes: &'a [u8],
}

impl<'a> ReadHead<'a> {
    /// Reads one of a chunk of so many elements; `end` is where `bytes` end in the frame. Gives what comes behind it, too.
    fn read(recipe: &Recipe<'_>, elements: usize, end: usize, bytes: &'a [u8]) -> Result<(Self, &'a [u8]), FfError> {
        let at = |rest: &[u8]| end - rest.len();
        let (flags, mut rest) = bytes.split_first().ok_or_else(|| fault(at(bytes), "chunk", "it is empty"))?;
        if *flags & !(SIGNED | EXCEPTIONS) != 0 {
            return Err(fault(at(bytes), "chunk flags", format!("unknown flags {flags:#04x}")));
        }
        let mut head = Self { signed: *flags & SIGNED != 0, exceptions: vec![], step: recipe.step, classes: &[] };
        if *flags & EXCEPTIONS != 0 {
            let listed = exceptions::read(rest, elements);
            (head.exceptions, rest) = listed.map_err(|message| fault(at(rest), "exceptions", message))?;
        }
        if recipe.in_band {
            let short = || fault(at(rest), "steps", "cut off");
            let (bits, after) = rest.split_first_chunk::<4>().ok_or_else(short)?;
            head.step = f32::from_le_bytes(*bits);
            if !(STEP_MIN..=STEP_MAX).contains(&head.step) {
                return Err(fault(at(rest), "steps", format!("step {} is out of range", head.step)));
            }
            (head.classes, rest) = after.split_at_checked(recipe.bands.count()).ok_or_else(short)?;
            if let Some(class) = head.classes.iter().find(|class| usize::from(**class) >= CLASSES) {
                return Err(fault(at(after), "steps", format!("class {class} is out of range")));
            }
        }
        Ok((head, rest))
    }
}

/// Reads the chunks of a run, which begins at byte `offset` of its frame, up to their symbols.
pub(super) fn open<'a>(
    recipe: &Recipe<'_>,
    chunks: Range<usize>,
    (offset, bytes): (usize, &'a [u8]),
) -> Result<Vec<Opened<'a>>, FfError> {
    let (mut heads, mut rest) = (Vec::with_capacity(chunks.len()), bytes);
    for chunk in chunks.clone() {
        let elements = recipe.dims.chunk_range(chunk).1 * recipe.dims.plane();
        let head;
        (head, rest) = ReadHead::read(recipe, elements, offset + bytes.len(), rest)?;
        heads.push(head);
    }
    let (first, channels) = recipe.dims.chunk_range(chunks.start);
    let known = recipe.known_classes(first, channels);
    let opened = |head: ReadHead<'_>, classes: Vec<u8>, body: Body<'a>| Opened {
        signed: head.signed,
        exceptions: head.exceptions,
        step: head.step,
        classes,
        body,
    };
    let at = offset + bytes.len() - rest.len();
    if recipe.entropy == Entropy::Rans {
        let wrong = |message| fault(at, "coded symbols", message);
        let mut reader = Reader::new(rest, LANES.min(channels)).map_err(wrong)?;
        let mut run = Vec::with_capacity(heads.len());
        for (chunk, head) in chunks.zip(heads) {
            let (classes, symbols) = decoded(recipe, chunk, &head, known.as_deref(), &mut reader).map_err(wrong)?;
            run.push(opened(head, classes, Body::Symbols(symbols)));
        }
        reader.finish().map_err(wrong)?;
        return Ok(run);
    }
    let packed = if recipe.entropy == Entropy::Pack {
        PackedBody { bytes: rest.into(), offset: at }
    } else {
        let (length, frame) = rest.split_first_chunk::<4>().ok_or_else(|| fault(at, "zstd", "no room for a length"))?;
        let length = u32::from_le_bytes(*length) as usize;
        if length > pack::bytes_max(recipe.bands.symbols * channels) + 3 * pack::BLOCK {
            return Err(fault(at, "zstd", format!("{length} bytes are more than symbols can take")));
        }
        let body = stretch(frame, length).map_err(|message| fault(at + 4, "zstd", message))?;
        PackedBody { bytes: body.into(), offset: at + 4 }
    };
    let one = heads.into_iter().next().map(|head| {
        let classes = known.unwrap_or_else(|| spread(head.classes, channels));
        opened(head, classes, Body::Packed(packed))
    });
    Ok(one.into_iter().collect())
}

/// Classes and symbols of a run's next chunk.
fn decoded(
    recipe: &Recipe<'_>,
    chunk: usize,
    head: &ReadHead<'_>,
    known: Option<&[u8]>,
    reader: &mut Reader<'_>,
) -> Result<(Vec<u8>, Vec<i16>), &'static str> {
    let (first, channels) = recipe.dims.chunk_range(chunk);
    let (tables, ratios) = (&recipe.cut.tables[..], recipe.ratios.get(first..).unwrap_or_default());
    let model = Model { bands: recipe.bands, channels, signed: head.signed, tables, ratios };
    let mut symbols = vec![0i16; recipe.bands.symbols * channels];
    let known = known.map_or_else(|| spread(head.classes, channels).into(), Cow::Borrowed);
    let mut classes = known.to_vec();
    let table = class_table().filter(|_| recipe.in_band && recipe.plane_classes);
    let travel = match table {
        Some(table) => Classes::InBand(head.classes, table),
        None => Classes::Known(&known),
    };
    coder::read(&model, &travel, reader, &mut classes, &mut symbols)?;
    Ok((classes, symbols))
}

/// Decodes the chunks of a run, which begins at byte `offset` of its frame, over `values`: channels one after another.
pub(super) fn decode(
    recipe: &Recipe<'_>,
    chunks: Range<usize>,
    from: (usize, &[u8]),
    mut values: &mut [[u8; 4]],
) -> Result<(), FfError> {
    for (chunk, opened) in chunks.clone().zip(open(recipe, chunks, from)?) {
        let (first, channels) = recipe.dims.chunk_range(chunk);
        let (part, rest) = values.split_at_mut(channels * recipe.dims.plane());
        opened.restore(recipe, first, channels, part)?;
        values = rest;
    }
    Ok(())
}

impl Opened<'_> {
    /// Makes the values of its channels, which lie one after another.
    fn restore(
        self,
        recipe: &Recipe<'_>,
        first: usize,
        channels: usize,
        values: &mut [[u8; 4]],
    ) -> Result<(), FfError> {
        let Self { signed, exceptions, step, classes, body } = self;
        let symbols = match body {
            Body::Symbols(symbols) => symbols,
            Body::Packed(packed) => {
                let mut symbols = vec![0i16; recipe.bands.symbols * channels];
                unpack_body(recipe, channels, signed, &packed.bytes, &mut symbols)
                    .map_err(|(at, message)| packed.fault(at, message))?;
                symbols
            }
        };
        let (bands, [height, width]) = planes(recipe, values.len());
        let channels = values.len() / (height * width).max(1);
        let mut space = Workspace::new(bands, height, width);
        for (channel, out) in values.chunks_exact_mut(height * width).enumerate() {
            // Of planes that are alike all classes are.
            let class = |band: usize| classes[if recipe.alike() { 0 } else { band * channels + channel }];
            let offsets = |band: usize| recipe.offsets(band, first + channel, class(band), signed);
            restore(recipe, &bands, &mut space, [first, channel, channels], step, &offsets, &symbols);
            out.iter_mut().zip(&space.values).for_each(|(out, value)| *out = value.to_le_bytes());
        }
        for (position, bits) in exceptions {
            values[position as usize] = bits.to_le_bytes();
        }
        Ok(())
    }
}
