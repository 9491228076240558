//! What a model is calibrated with: images, an array, a set that comes with bps, or, where there is nothing, noise.

mod sets;

use super::made_up;
use super::net::Row;
use crate::commands::codec::read_file;
use crate::exit::usage;
use crate::npy;
use anyhow::{Context, Result, bail};
use bps_data::Set;
use bps_engine::PixelInput;
use bps_graph::Graph;
use bps_types::{DataType, HostTensor};
use image::imageops::FilterType;
use image::{DynamicImage, ImageFormat, ImageReader, Limits};
use std::collections::BTreeSet;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// Fewer rows cannot be halved into something to count and something to measure.
pub(super) const ROWS_MIN: usize = 8;
/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 8 << 30;
/// Largest image file.
const IMAGE_BYTES_MAX: u64 = 64 << 20;
/// Longest side of an image, and the memory that decoding one may take.
const SIDE_MAX: u32 = 16_384;
const DECODE_BYTES_MAX: u64 = 256 << 20;
/// Files of a folder that are looked at.
const ENTRIES_MAX: usize = 1_000_000;

/// What the data must fit.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    /// The model.
    pub(super) graph: &'a Graph,
    /// Its image input, if it has one.
    pub(super) pixels: Option<&'a PixelInput>,
    /// Its classes, if its output is scores of classes.
    pub(super) classes: Option<usize>,
}

/// Inputs, one row each.
#[derive(Debug)]
pub(super) struct Samples {
    /// Per row one tensor for each of the model's inputs.
    pub(super) inputs: Vec<Row>,
    /// The right class of each row, where it is known.
    pub(super) labels: Option<Vec<usize>>,
    /// Nobody gave data.
    pub(super) made_up: bool,
    /// Where they are from, for people.
    pub(super) source: String,
}

/// Reads at most so many rows, chosen evenly. Without a source they are made up.
pub(super) fn load(source: Option<&Path>, labels: Option<&Path>, rows: usize, target: Target<'_>) -> Result<Samples> {
    let Some(source) = source else {
        if labels.is_some() {
            return Err(usage("--labels without --data: made-up inputs have no labels"));
        }
        let inputs = made_up::rows(target.graph, target.pixels, rows)?;
        return Ok(Samples { inputs, labels: None, made_up: true, source: "made-up inputs".into() });
    };
    let [input] = &target.graph.inputs[..] else {
        let count = target.graph.inputs.len();
        return Err(usage(format!("the model has {count} inputs: calibrate it without --data")));
    };
    let set = sets::named(source);
    let is_array = set.is_none() && !source.is_dir();
    if labels.is_some() && !is_array {
        return Err(usage("--labels goes with a .npy file: images have the names of their sub-folders"));
    }
    let (inputs, labels): Found = if is_array {
        let array = array(source)?;
        check_row(&array, target).with_context(|| format!("{} does not fit input {}", source.display(), input.name))?;
        let chosen: Vec<usize> = even(array.rows(), rows).collect();
        let labels = labels.map(|path| label_file(path, array.rows(), &chosen)).transpose()?;
        let inputs: Vec<Row> = chosen.iter().map(|row| vec![array.slice_rows(*row..row + 1)]).collect();
        if let Some(at) = inputs.iter().position(|row| is_broken(&row[0])) {
            bail!("{}: row {} holds NaN or infinity: nothing can be measured with it", source.display(), chosen[at]);
        }
        (inputs, labels)
    } else if let Some(set) = set {
        sets::rows(set, rows, target)?
    } else {
        images(source, rows, target)?
    };
    let (got, classes) = (inputs.len(), target.classes);
    if got < ROWS_MIN {
        bail!("{} has {got} rows; calibration needs {ROWS_MIN} or more", source.display());
    }
    let stranger = |label: &&usize| classes.is_some_and(|classes| **label >= classes);
    if let Some(label) = labels.iter().flatten().find(stranger) {
        bail!("label {label} is none of the model's {} classes, 0 and up", classes.unwrap_or(0));
    }
    Ok(Samples { inputs, labels, made_up: false, source: source.display().to_string() })
}

/// At most `wanted` of `count` places, evenly spread.
pub(in crate::commands) fn even(count: usize, wanted: usize) -> impl Iterator<Item = usize> {
    let taken = wanted.min(count);
    (0..taken).map(move |i| i * count / taken.max(1))
}

/// The two halves: for tables and weights, and for accuracy. They share no row.
pub(super) fn halves(rows: usize) -> (Vec<usize>, Vec<usize>) {
    (0..rows).partition(|row| row % 2 == 0)
}

type Found = (Vec<Row>, Option<Vec<usize>>);

fn array(path: &Path) -> Result<HostTensor> {
    if !path.exists() {
        return Err(usage(format!("{} does not exist", path.display())));
    }
    if path.extension().and_then(|e| e.to_str()).is_none_or(|e| !e.eq_ignore_ascii_case("npy")) {
        let shown = path.display();
        return Err(usage(format!(
            "--data {shown}: neither a folder of images, nor a .npy file, nor one of the words {}",
            Set::ALL.map(Set::name).join(" and ")
        )));
    }
    let bytes = read(path, FILE_BYTES_MAX)?;
    npy::parse(bytes.into()).with_context(|| path.display().to_string())
}

/// FP32 as the network takes it, or image bytes.
fn check_row(rows: &HostTensor, target: Target<'_>) -> Result<()> {
    let shape: Vec<usize> = std::iter::once(1).chain(rows.shape().iter().skip(1).copied()).collect();
    match (rows.data_type(), target.pixels) {
        (DataType::Fp32, _) => target.graph.infer(&[shape]).map(drop).context("as FP32"),
        (DataType::Uint8, Some(p)) if shape == [1, p.height, p.width, p.channels] => Ok(()),
        (DataType::Uint8, Some(p)) => {
            bail!("UINT8 must be [rows, {}, {}, {}], got {:?}", p.height, p.width, p.channels, rows.shape())
        }
        (DataType::Uint8, None) => bail!("UINT8 is for models whose model.toml has [preprocess]"),
        (other, _) => bail!("it holds {other}; FP32 is taken, and UINT8 for images"),
    }
}

/// Whether something is no finite number; of bytes all are.
fn is_broken(row: &HostTensor) -> bool {
    row.to_f32().is_ok_and(|values| values.iter().any(|value| !value.is_finite()))
}

/// The labels of the rows that were chosen of an array of so many.
fn label_file(path: &Path, rows: usize, chosen: &[usize]) -> Result<Vec<usize>> {
    let tensor = array(path)?;
    let size = tensor.data_type().size_bytes().unwrap_or(0);
    let is_signed = matches!(tensor.data_type(), DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64);
    let is_plain =
        matches!(tensor.data_type(), DataType::Uint8 | DataType::Uint16 | DataType::Uint32 | DataType::Uint64);
    if !(is_signed || is_plain) {
        bail!("{}: labels are whole numbers, not {}", path.display(), tensor.data_type());
    }
    let one = |bytes: &[u8]| {
        let value = bytes.iter().rev().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
        let is_negative = is_signed && bytes.last().is_some_and(|byte| *byte >= 128);
        usize::try_from(value).ok().filter(|_| !is_negative)
    };
    let all: Option<Vec<usize>> = tensor.data().chunks_exact(size.max(1)).map(one).collect();
    let all = all.with_context(|| format!("{}: a label is negative", path.display()))?;
    if all.len() != rows {
        bail!("{} has {} labels for {rows} rows", path.display(), all.len());
    }
    Ok(chosen.iter().map(|at| all[*at]).collect())
}

fn images(folder: &Path, rows: usize, target: Target<'_>) -> Result<Found> {
    let shown = folder.display();
    let Some(to) = target.pixels else {
        return Err(usage(format!("{shown}: the model takes no images: its model.toml has no [preprocess]")));
    };
    let files = image_files(folder)?;
    let chosen: Vec<&(PathBuf, Option<String>)> = even(files.len(), rows).map(|at| &files[at]).collect();
    let decode = |path: &Path| -> Result<Row> {
        let pixels = one_image(&read(path, IMAGE_BYTES_MAX)?, to).with_context(|| path.display().to_string())?;
        Ok(vec![HostTensor::new(DataType::Uint8, vec![1, to.height, to.width, to.channels], pixels.into())?])
    };
    let inputs = chosen.iter().map(|(path, _)| decode(path)).collect::<Result<_>>()?;
    let names: BTreeSet<&str> = files.iter().filter_map(|(_, name)| name.as_deref()).collect();
    let labelled = files.iter().all(|(_, name)| name.is_some());
    let class = labelled.then(|| classes_of(&names, target.classes)).flatten();
    let labels = class.map(|class| chosen.iter().filter_map(|(_, name)| class(name.as_deref()?)).collect());
    Ok((inputs, labels))
}

/// What a sub-folder's name says: itself where all are numbers, else its place among all names, provided there are as many
/// as the model has classes. None where neither holds.
fn classes_of(names: &BTreeSet<&str>, classes: Option<usize>) -> Option<impl Fn(&str) -> Option<usize>> {
    let are_numbers = names.iter().all(|name| name.parse::<usize>().is_ok());
    if !are_numbers && classes != Some(names.len()) {
        tracing::warn!("{} folder names for {classes:?} classes: they are not used as labels", names.len());
        return None;
    }
    Some(move |name: &str| if are_numbers { name.parse().ok() } else { names.iter().position(|n| *n == name) })
}

/// PNG and JPEG files in a folder and in its sub-folders, by name, each with the sub-folder's.
fn image_files(folder: &Path) -> Result<Vec<(PathBuf, Option<String>)>> {
    let mut files = Vec::new();
    for path in entries(folder)? {
        if path.is_dir() {
            let name = path.file_name().and_then(|n| n.to_str()).map(str::to_owned);
            files.extend(entries(&path)?.into_iter().filter(|p| is_image(p)).map(|p| (p, name.clone())));
        } else if is_image(&path) {
            files.push((path, None));
        }
    }
    Ok(files)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = || format!("cannot read {}", folder.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(failed)?.take(ENTRIES_MAX) {
        paths.push(entry.with_context(failed)?.path());
    }
    paths.retain(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(|n| !n.starts_with('.')));
    paths.sort();
    Ok(paths)
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    matches!(extension.as_str(), "png" | "jpg" | "jpeg")
}

fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>> {
    let known = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    // A device has no end, and what is read is held whole.
    if !known.is_file() {
        bail!("{} is not a plain file", path.display());
    }
    if known.len() > bytes_max {
        bail!("{} has {} bytes, at most {bytes_max} are read", path.display(), known.len());
    }
    read_file(path, usize::try_from(bytes_max)?)
}

/// As a host does it: decoded, resized to the input's extents, in its channels.
fn one_image(encoded: &[u8], to: &PixelInput) -> Result<Vec<u8>> {
    let mut reader = ImageReader::new(Cursor::new(encoded)).with_guessed_format()?;
    if !matches!(reader.format(), Some(ImageFormat::Png | ImageFormat::Jpeg)) {
        bail!("neither PNG nor JPEG");
    }
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(SIDE_MAX), Some(SIDE_MAX));
    limits.max_alloc = Some(DECODE_BYTES_MAX);
    reader.limits(limits);
    let image = reader.decode()?;
    let (width, height) = (u32::try_from(to.width)?, u32::try_from(to.height)?);
    let image = match to.channels {
        1 => DynamicImage::ImageLuma8(image.into_luma8()),
        _ => DynamicImage::ImageRgb8(image.into_rgb8()),
    };
    let same = (image.width(), image.height()) == (width, height);
    Ok(if same { image } else { image.resize_exact(width, height, FilterType::Triangle) }.into_bytes())
}

#[cfg(test)]
mod tests;
