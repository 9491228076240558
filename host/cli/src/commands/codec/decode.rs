//! `bps codec decode`: a tensor of a codec's bytes again.

use super::choice::{self, PackageArgs, order_name};
use super::container;
use super::place::{Place, repeated};
use super::{keep_input, read_file};
use crate::exit::usage;
use crate::latency::micros_text;
use crate::model_file;
use crate::npy;
use crate::table;
use anyhow::{Context, Result, bail};
use bps_codec::ff::{self, CutPackage, Frame, Mode, Order};
use bps_codec::{CodecSpec, Layout, VALUE_BYTES_MAX, spec};
use bps_types::{DataType, Packed};
use bytes::Bytes;
use serde::Serialize;
use std::path::PathBuf;

/// What a codec makes of the largest tensor may be larger than the tensor.
const FILE_BYTES_MAX: usize = VALUE_BYTES_MAX + VALUE_BYTES_MAX / 2;

/// Decode what `bps codec encode` or a program of your own encoded.
///
/// Nothing in the file is trusted: lengths, checksum, codec, rate, type and shape are compared before anything is decoded,
/// and what is wrong is named with its place.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = "\
Examples
  bps codec decode act.bpsc -o back.npy
  bps codec decode act.bpsc -o back.npy --package net.ff
  bps codec decode frame.bin -o back.npy --codec ff-h --shape 1,64,56,56")]
pub(super) struct DecodeArgs {
    /// The file.
    pub(super) file: PathBuf,
    /// Where to write the tensor.
    #[arg(short, long, value_name = "OUT.npy")]
    pub(super) output: PathBuf,
    /// Where it is decoded: cpu, software or gpu:N.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(super) device: String,
    /// Times that count, of which the median is shown.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) repeat: u32,
    #[command(flatten)]
    pub(super) package: PackageArgs,
    /// The file holds a codec's bytes alone, of this codec.
    #[arg(long, value_name = "NAME", requires = "shape", help_heading = "Frames of --raw-frame")]
    pub(super) codec: Option<String>,
    /// Its rate [default: what an FF frame says, else as encode].
    #[arg(long, value_name = "N", requires = "codec", help_heading = "Frames of --raw-frame")]
    pub(super) rate: Option<u8>,
    /// Extents of the tensor, in the order of its memory.
    #[arg(
        long,
        value_name = "N,N,...",
        value_delimiter = ',',
        requires = "codec",
        help_heading = "Frames of --raw-frame"
    )]
    pub(super) shape: Vec<usize>,
    /// Its type, as FP32 or INT64 [default: FP32, UINT8 for jpeg].
    #[arg(long, value_name = "TYPE", requires = "codec", value_parser = data_type, help_heading = "Frames of --raw-frame")]
    pub(super) data_type: Option<DataType>,
}

fn data_type(text: &str) -> Result<DataType, String> {
    let found = DataType::from_name(&text.to_ascii_uppercase()).filter(|found| npy::holds(*found));
    found.ok_or_else(|| "expected a type that .npy files hold, as FP32, UINT8 or INT64".to_owned())
}

/// What there is to say.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    codec: &'static str,
    number: u8,
    pub(super) rate: u8,
    pub(super) mode: Option<&'static str>,
    order: Option<&'static str>,
    bounded: Option<bool>,
    data_type: DataType,
    shape: Vec<usize>,
    elements: usize,
    bytes_in: usize,
    bytes_out: usize,
    decode_us: f64,
    repeat: u32,
    /// Where it ran.
    device: String,
    note: Option<String>,
    file: PathBuf,
}

/// Checks, decodes, writes.
pub(super) fn run(args: &DecodeArgs) -> Result<Report> {
    keep_input(&args.file, &args.output)?;
    args.package.keep(&args.output)?;
    let raw = args.codec.as_deref().map(choice::by_name).transpose()?;
    let place = Place::open(&args.device)?;
    let file: Bytes = read_file(&args.file, FILE_BYTES_MAX)?.into();
    let wrong = || format!("{} cannot be decoded", args.file.display());
    let packed = match raw {
        Some((spec, _)) => bare(args, spec, file).with_context(wrong)?,
        None if container::is_ours(&file) => container::read(&file).with_context(wrong)?,
        None => {
            let message = "it is no file of `bps codec encode`; a frame alone needs --codec and --shape";
            bail!("{}: byte 0, magic: {message}", wrong());
        }
    };
    let spec = spec(packed.codec).with_context(|| format!("there is no codec {}", packed.codec))?;
    choice::only_ff(spec, &[args.package.option()])?;
    let mut frame = None;
    let mut cut = None;
    if spec.layout == Layout::Ff {
        let said = frame_of(spec, &packed).with_context(wrong)?;
        cut = args.package.for_decoding(&said)?;
        frame = Some(said);
    }
    let ff = frame.map(|frame| (frame.order, cut.as_ref()));
    let (tensor, decode_us) = repeated(args.repeat, || place.decode(&packed, ff)).with_context(|| {
        match (frame.filter(|frame| missed(frame, cut.as_ref())), &args.package.package) {
            (None, _) => wrong(),
            (Some(_), None) => format!("{}: it was made with a package; give it, --package MODEL.ff", wrong()),
            (Some(_), Some(path)) => format!("{}: it was not made with this cut of {}", wrong(), path.display()),
        }
    })?;
    model_file::write(&args.output, &npy::encode(&tensor)?)?;
    let usual = frame.is_none_or(|frame| frame.order == Order::Nchw && spec.offers(packed.rate));
    let (device, note) = place.ran(spec, packed.data_type, usual);
    Ok(Report {
        codec: spec.name,
        number: spec.id,
        rate: packed.rate,
        mode: frame.map(|frame| frame.mode.name()),
        order: frame.map(|frame| order_name(frame.order)),
        bounded: frame.map(|frame| frame.bounded),
        data_type: packed.data_type,
        elements: packed.shape.iter().product(),
        bytes_in: packed.data.len(),
        bytes_out: tensor.data().len(),
        decode_us,
        repeat: args.repeat,
        device,
        note,
        shape: packed.shape,
        file: args.output.clone(),
    })
}

/// A frame alone, with what the command line says of it.
fn bare(args: &DecodeArgs, spec: &'static CodecSpec, data: Bytes) -> Result<Packed> {
    if container::is_ours(&data) {
        return Err(usage("it is a file of `bps codec encode` without --raw-frame: leave out --codec and --shape"));
    }
    let said = if spec.layout == Layout::Ff { Some(Frame::read(&data)?.q) } else { None };
    let rate = choice::rate(spec, args.rate.or(said))?;
    let usual = if spec.takes(DataType::Fp32) { DataType::Fp32 } else { DataType::Uint8 };
    let data_type = args.data_type.unwrap_or(usual);
    if !spec.takes(data_type) {
        return Err(usage(format!("--data-type {data_type}: {} does not take it", spec.name)));
    }
    let shape = args.shape.clone();
    if shape.len() > npy::RANK_MAX || !container::fits(&shape, data_type) {
        let (rank, bytes) = (npy::RANK_MAX, VALUE_BYTES_MAX);
        return Err(usage(format!("--shape: at most {rank} extents and {bytes} bytes of tensor")));
    }
    Ok(Packed { codec: spec.id, rate, data_type, shape, data })
}

/// What an FF frame says of itself, which must be what is said of it. Of ff-h and ff-c any mode may be the best.
fn frame_of(spec: &CodecSpec, packed: &Packed) -> Result<Frame> {
    let frame = Frame::read(&packed.data)?;
    if spec.id == ff::ID_SCALAR && frame.mode != Mode::Scalar {
        bail!("byte 4 of the frame, mode: it is {}, but said to be {}", frame.mode.name(), spec.name);
    }
    if frame.q != packed.rate {
        bail!("byte 6 of the frame, rate: it is {}, but said to be {}", frame.q, packed.rate);
    }
    Ok(frame)
}

/// Whether a frame was made with another package than the one at hand.
fn missed(frame: &Frame, cut: Option<&CutPackage>) -> bool {
    let id = cut.map_or_else(|| CutPackage::data_free().map(CutPackage::id).ok(), |cut| Some(cut.id()));
    id != Some(frame.package)
}

/// For people.
pub(super) fn text(report: &Report) -> String {
    let mode = report.mode.map(|mode| format!(": mode {mode}")).unwrap_or_default();
    let order = report.order.map(|order| format!(", {order}")).unwrap_or_default();
    let bounded = if report.bounded == Some(true) { ", bounded" } else { "" };
    let rate =
        if report.rate == 0 && report.mode.is_none() { String::new() } else { format!(" at rate {}", report.rate) };
    let mut text = format!(
        "codec     {}{rate}{mode}{order}{bounded}\ntensor    {}{:?}, {} elements\nbytes     {} in, {} out\ndecoding  {} on \
         {}, median of {}\nfile      {}\n",
        report.codec,
        report.data_type,
        report.shape,
        table::count(report.elements as u64),
        table::count(report.bytes_in as u64),
        table::count(report.bytes_out as u64),
        micros_text(report.decode_us),
        report.device,
        report.repeat,
        table::clean(&report.file.display().to_string()),
    );
    if let Some(note) = &report.note {
        text.push_str(&format!("note      {note}\n"));
    }
    text
}
