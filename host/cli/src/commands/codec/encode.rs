//! `bps codec encode`: a codec's bytes of an activation, and what they cost.

use super::choice::{self, EntropyName, OrderName, PackageArgs, entropy_name, order_name};
use super::container;
use super::difference::{Difference, difference};
use super::place::{Place, repeated};
use super::{keep_input, read_file};
use crate::latency::micros_text;
use crate::model_file;
use crate::npy;
use crate::table;
use anyhow::{Context, Result, bail};
use bps_codec::ff::{self, CutPackage, Settings};
use bps_codec::{CodecSpec, VALUE_BYTES_MAX};
use bps_types::{DataType, HostTensor, Packed};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The largest tensor and its header.
const FILE_BYTES_MAX: usize = VALUE_BYTES_MAX + (64 << 10);

/// Encode an activation, and say what that costs: bits, time, error.
///
/// The error is that of the activation decoded again; what it does to a network's answers, the network has to say.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = "\
Examples
  bps codec encode act.npy -o act.bpsc
  bps codec encode act.npy -o act.bpsc --codec ff-h --rate 20 --entropy zstd
  bps codec encode act.npy -o act.bpsc --codec ff-s --bound 0.01
  bps codec encode act.npy -o act.bpsc --codec ff-c --package net.ff --cut block3
  bps codec encode act.npy -o act.bpsc --codec int8 --device gpu:0 --format json")]
pub(super) struct EncodeArgs {
    /// A .npy file as numpy.save writes it, rows first.
    #[arg(value_name = "ACTIVATION.npy")]
    pub(super) activation: PathBuf,
    /// Where to write what comes out.
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: PathBuf,
    /// A codec of `bps codec list`, or ff-h1 or ff-h2.
    #[arg(long, value_name = "NAME", default_value = "ff-h")]
    pub(super) codec: String,
    /// Its rate [default: the middle one, 16 for FF, 90 for jpeg].
    #[arg(long, value_name = "N")]
    pub(super) rate: Option<u8>,
    /// Where it runs: cpu, software or gpu:N.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(super) device: String,
    /// Times that count, of which the median is shown.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) repeat: u32,
    /// Write the codec's bytes alone.
    #[arg(long)]
    pub(super) raw_frame: bool,
    #[command(flatten)]
    pub(super) package: PackageArgs,
    /// For FF: the last stage [default: pack for ff-s, rans for the others].
    #[arg(long, value_enum, help_heading = "FF only")]
    pub(super) entropy: Option<EntropyName>,
    /// For FF: no element is to be off by more than this.
    #[arg(long, value_name = "ABS", value_parser = bound, allow_negative_numbers = true, help_heading = "FF only")]
    pub(super) bound: Option<f32>,
    /// For FF: the order of the activation's memory [default: nchw].
    #[arg(long, value_enum, help_heading = "FF only")]
    pub(super) order: Option<OrderName>,
}

fn bound(text: &str) -> Result<f32, String> {
    let bound = text.parse().ok().filter(|bound: &f32| bound.is_finite() && *bound > 0.0);
    bound.ok_or_else(|| "expected a number above 0, as 0.01".to_owned())
}

/// What there is to say.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) codec: &'static str,
    number: u8,
    pub(super) rate: u8,
    pub(super) ff: Option<FfReport>,
    data_type: DataType,
    shape: Vec<usize>,
    elements: usize,
    bytes_in: usize,
    /// What a host would send.
    pub(super) bytes_out: usize,
    bits_per_element: Option<f64>,
    encode_us: f64,
    decode_us: f64,
    repeat: u32,
    #[serde(flatten)]
    pub(super) difference: Difference,
    /// Where it ran.
    device: String,
    note: Option<String>,
    file: PathBuf,
    file_bytes: usize,
    raw_frame: bool,
}

/// How FF encoded.
#[derive(Debug, Serialize)]
pub(super) struct FfReport {
    pub(super) mode: &'static str,
    entropy: &'static str,
    order: &'static str,
    bound: Option<f32>,
    cut: String,
    package: String,
}

/// Encodes, decodes again, compares, writes.
pub(super) fn run(args: &EncodeArgs) -> Result<Report> {
    keep_input(&args.activation, &args.output)?;
    args.package.keep(&args.output)?;
    let (spec, mode) = choice::by_name(&args.codec)?;
    let rate = choice::rate(spec, args.rate)?;
    choice::only_ff(
        spec,
        &[
            args.package.option(),
            ("--entropy", args.entropy.is_some()),
            ("--bound", args.bound.is_some()),
            ("--order", args.order.is_some()),
        ],
    )?;
    let place = Place::open(&args.device)?;
    let cut = args.package.for_encoding()?;
    // Symbols that are packed, or that keep a bound, are not chosen: what is for chosen ones is not for them.
    let chosen = args.bound.is_none() && matches!(args.entropy, None | Some(EntropyName::Rans));
    let spoken = if chosen { spec } else { choice::rounded(spec) };
    let settings = choice::settings(spoken, rate, mode, cut.as_ref()).map(|usual| Settings {
        entropy: args.entropy.map_or(usual.entropy, EntropyName::entropy),
        order: args.order.map_or(usual.order, OrderName::order),
        bound: args.bound,
        ..usual
    });
    // As hosts use it: what a device has kernels for.
    let usual = mode.is_none()
        && args.entropy.is_none()
        && args.order.is_none()
        && args.bound.is_none()
        && spec.offers(rate)
        && cut.as_ref().is_none_or(|cut| ff::curve_for(spec.id, rate, cut).is_some());
    let coding = settings.as_ref().map(|settings| (settings, usual));
    let tensor = activation(&args.activation, spec)?;
    let shown = args.activation.display();
    let (packed, encode_us) = repeated(args.repeat, || place.encode(spec, rate, coding, &tensor))
        .with_context(|| format!("{shown} cannot be encoded"))?;
    let ff = settings.as_ref().map(|settings| (settings.order, settings.package));
    let (back, decode_us) = repeated(args.repeat, || place.decode(&packed, ff))
        .with_context(|| format!("{} does not decode what it made of {shown}", spec.name))?;
    let difference = difference(&tensor, &back)?;
    let file = if args.raw_frame { packed.data.to_vec() } else { container::write(&packed)? };
    model_file::write(&args.output, &file)?;
    let Packed { data_type, shape, data, .. } = packed;
    let elements: usize = shape.iter().product();
    let (device, note) = place.ran(spec, data_type, usual);
    let note = note.or_else(|| {
        let cancel = settings.as_ref().is_some_and(|s| s.package.is_some_and(|package| package.directions().is_some()));
        let nothing = spec.id == ff::ID_CANCELLING && !cancel;
        nothing.then(|| "no errors cancel: that takes a --package with directions for the cut, and no --bound or other --entropy; this is ff-h".to_owned())
    });
    Ok(Report {
        codec: spec.name,
        number: spec.id,
        rate,
        ff: settings.as_ref().map(ff_report).transpose()?,
        data_type,
        shape,
        elements,
        bytes_in: tensor.data().len(),
        bytes_out: data.len(),
        bits_per_element: Some(8.0 * data.len() as f64 / elements as f64).filter(|bits| bits.is_finite()),
        encode_us,
        decode_us,
        repeat: args.repeat,
        difference,
        device,
        note,
        file: args.output.clone(),
        file_bytes: file.len(),
        raw_frame: args.raw_frame,
    })
}

/// The tensor of a file, which the codec must take.
fn activation(path: &Path, spec: &CodecSpec) -> Result<HostTensor> {
    let file = read_file(path, FILE_BYTES_MAX)?;
    let tensor = npy::parse(file.into()).with_context(|| format!("{} is no activation", path.display()))?;
    if spec.takes(tensor.data_type()) {
        return Ok(tensor);
    }
    let wanted = DataType::ALL.into_iter().find(|t| spec.takes(*t));
    let hint = match wanted {
        Some(DataType::Fp32) => "FP32: save x.astype(numpy.float32)",
        Some(DataType::Uint8) => "UINT8 images: save x.astype(numpy.uint8)",
        _ => "other types",
    };
    bail!("{} holds {}; codec {} takes {hint}", path.display(), tensor.data_type(), spec.name)
}

fn ff_report(settings: &Settings<'_>) -> Result<FfReport> {
    let package = match settings.package {
        Some(package) => package,
        None => CutPackage::data_free()?,
    };
    Ok(FfReport {
        mode: settings.mode.name(),
        entropy: entropy_name(settings.entropy),
        order: order_name(settings.order),
        bound: settings.bound,
        cut: package.name().to_owned(),
        package: format!("{:016x}", package.id()),
    })
}

/// For people.
pub(super) fn text(report: &Report) -> String {
    let Difference { nmse, largest, not_finite_changed } = report.difference;
    let times = report.bytes_in as f64 / report.bytes_out.max(1) as f64;
    let mut text = format!(
        "codec     {}\ntensor    {}{:?}, {} elements\nbytes     {} in, {} out ({times:.2} to 1): {}\nencoding  {} on \
         {}, median of {}\ndecoding  {}\nerror     NMSE {}, largest {largest:.3e}\n",
        how(report),
        report.data_type,
        report.shape,
        table::count(report.elements as u64),
        table::count(report.bytes_in as u64),
        table::count(report.bytes_out as u64),
        report.bits_per_element.map_or_else(|| "no elements".into(), |bits| format!("{bits:.3} bits per element")),
        micros_text(report.encode_us),
        report.device,
        report.repeat,
        micros_text(report.decode_us),
        nmse.map_or_else(|| "-".into(), |nmse| format!("{nmse:.3e}")),
    );
    if not_finite_changed > 0 {
        text.push_str(&format!("          of elements that are not finite, changed: {not_finite_changed}\n"));
    }
    let file = table::clean(&report.file.display().to_string());
    text.push_str(&format!("file      {file}, {} bytes\n", table::count(report.file_bytes as u64)));
    if report.raw_frame {
        let shape: Vec<String> = report.shape.iter().map(usize::to_string).collect();
        let (codec, rate, shape) = (report.codec, report.rate, shape.join(","));
        let data_type = match report.data_type {
            DataType::Fp32 => String::new(),
            other => format!(" --data-type {other}"),
        };
        text.push_str(&format!("          decode with --codec {codec} --rate {rate} --shape {shape}{data_type}\n"));
    }
    if let Some(note) = &report.note {
        text.push_str(&format!("note      {note}\n"));
    }
    text
}

/// The codec in words.
fn how(report: &Report) -> String {
    let Report { codec, rate, ff, .. } = report;
    let Some(ff) = ff else { return if *rate == 0 { (*codec).to_owned() } else { format!("{codec} at rate {rate}") } };
    let bound = ff.bound.map(|bound| format!(", bound {bound}")).unwrap_or_default();
    let (mode, entropy, order, cut) = (ff.mode, ff.entropy, ff.order, table::clean(&ff.cut));
    format!("{codec} at rate {rate}: mode {mode}, {entropy}, {order}{bound}, package {cut} ({})", ff.package)
}
