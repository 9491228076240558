//! From a tensor to its packed form and back.

use crate::registry::{CodecSpec, Layout, spec};
use crate::squeeze::{squeeze, stretch};
use crate::{CodecError, f16, ff, int8, jpeg};
use bps_types::{DataType, HostTensor, Packed, element_count};
use bytes::Bytes;

/// Most bytes of one decoded tensor (or of its laid-out form): what a hostile frame can make a receiver allocate, whatever
/// shape it talks the receiver into.
pub const VALUE_BYTES_MAX: usize = 1 << 30;

/// Elements that are turned into bytes at a time.
const BLOCK: usize = 1_024;

/// A packed tensor after zstd, its length checked: what a device unpacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// How the bytes are laid out.
    pub layout: Layout,
    /// As many as layout, type and shape say; for [`Layout::Jpeg`] and [`Layout::Ff`] nothing is checked yet.
    pub bytes: Bytes,
}

/// Encodes a tensor. The rate is 0 where the codec has none. Errors where the codec does not take the tensor's type (see
/// [`CodecSpec::takes`]) or shape. Raw shares the tensor's bytes.
pub fn encode(codec: u8, rate: u8, tensor: &HostTensor) -> Result<Packed, CodecError> {
    encode_with(codec, rate, tensor, None)
}

/// The same with what was calibrated for the tensor, which FF uses where it holds something for the rate. Whoever decodes
/// must have it too.
pub fn encode_with(
    codec: u8,
    rate: u8,
    tensor: &HostTensor,
    calibrated: Option<&ff::CutPackage>,
) -> Result<Packed, CodecError> {
    let spec = of(codec, rate)?;
    let (data_type, shape) = (tensor.data_type(), tensor.shape());
    if !spec.takes(data_type) {
        return Err(CodecError::Type { codec: spec.name, data_type });
    }
    let laid_out: Bytes = match spec.layout {
        Layout::Plain => tensor.data().clone(),
        Layout::F16 => f16::pack_bytes(tensor.data()).into(),
        Layout::Int8 => pack_rows(tensor)?.into(),
        Layout::Jpeg => jpeg::encode(rate, tensor)?.into(),
        Layout::Ff => encode_ff(spec, rate, tensor, calibrated)?,
    };
    seal(spec, rate, data_type, shape, laid_out)
}

/// Packs bytes that are laid out already, as a device leaves them. Errors where they are not as long as type and shape
/// say.
pub fn seal(
    spec: &CodecSpec,
    rate: u8,
    data_type: DataType,
    shape: &[usize],
    laid_out: Bytes,
) -> Result<Packed, CodecError> {
    if let Some(expected) = layout_bytes(spec, data_type, shape)? {
        exact(spec, expected, laid_out.len())?;
    }
    let data = if spec.squeezed {
        squeeze(&laid_out).map_err(|message| corrupt(spec, "zstd", message))?.into()
    } else {
        laid_out
    };
    Ok(Packed { codec: spec.id, rate, data_type, shape: shape.to_vec(), data })
}

/// Decodes a tensor that must have this shape; its type is for the caller to compare. Raw shares the bytes.
pub fn decode(packed: &Packed, expected_shape: &[usize]) -> Result<HostTensor, CodecError> {
    decode_with(packed, expected_shape, None)
}

/// The same with a model's calibration, for frames that were made with it.
pub fn decode_with(
    packed: &Packed,
    expected_shape: &[usize],
    calibrated: Option<&ff::Package>,
) -> Result<HostTensor, CodecError> {
    let Opened { layout, bytes } = open(packed, expected_shape)?;
    let spec = of(packed.codec, packed.rate)?;
    let data: Bytes = match layout {
        Layout::Plain => bytes,
        Layout::Jpeg => return jpeg::decode(packed, value_bytes(packed.data_type, expected_shape)?.unwrap_or(0)),
        Layout::Ff => decode_ff(&bytes, expected_shape, calibrated)?.data().clone(),
        Layout::F16 | Layout::Int8 => {
            let mut data = Vec::with_capacity(value_bytes(packed.data_type, expected_shape)?.unwrap_or(0));
            unpack(layout, &bytes, expected_shape, |values| push_values(values, &mut data))?;
            data.into()
        }
    };
    HostTensor::new(packed.data_type, expected_shape.to_vec(), data).map_err(|e| corrupt(spec, "tensor", e.to_string()))
}

/// Decodes an FP32 tensor of this shape behind what is in `values`, which keeps its length on an error.
pub fn decode_f32_into(packed: &Packed, expected_shape: &[usize], values: &mut Vec<f32>) -> Result<(), CodecError> {
    let spec = of(packed.codec, packed.rate)?;
    if packed.data_type != DataType::Fp32 {
        return Err(CodecError::Type { codec: spec.name, data_type: packed.data_type });
    }
    open(packed, expected_shape)?.unpack_f32_into(expected_shape, None, values)
}

impl Opened {
    /// Appends the values of an FP32 tensor, whose shape is the one it was opened with; `calibrated` as for
    /// [`decode_with`].
    pub fn unpack_f32_into(
        &self,
        shape: &[usize],
        calibrated: Option<&ff::Package>,
        values: &mut Vec<f32>,
    ) -> Result<(), CodecError> {
        match self.layout {
            Layout::Plain => values.extend(self.bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b))),
            Layout::F16 | Layout::Int8 => {
                unpack(self.layout, &self.bytes, shape, |block| values.extend_from_slice(block))?;
            }
            Layout::Jpeg => return Err(CodecError::Type { codec: "jpeg", data_type: DataType::Fp32 }),
            Layout::Ff => {
                let decoded = decode_ff(&self.bytes, shape, calibrated)?;
                values.extend(decoded.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)));
            }
        }
        Ok(())
    }

    /// The frame of FF in it, for a device; shape and `calibrated` as for [`decode_with`]. Errors where it is none.
    pub fn frame<'a>(
        &'a self,
        shape: &[usize],
        calibrated: Option<&'a ff::Package>,
    ) -> Result<ff::FrameReader<'a>, CodecError> {
        let named = |e: ff::FfError| e.named("ff");
        let package = ff::package_of(&self.bytes).map_err(named)?;
        let cut = calibrated.and_then(|calibrated| calibrated.cut_by_id(package));
        ff::FrameReader::new(&self.bytes, &ff_shape(shape)?, cut).map_err(named)
    }
}

/// Checks a packed tensor against the shape it must have, and undoes zstd: the length of what comes out is right.
pub fn open(packed: &Packed, expected_shape: &[usize]) -> Result<Opened, CodecError> {
    let spec = of(packed.codec, packed.rate)?;
    if !spec.takes(packed.data_type) {
        return Err(CodecError::Type { codec: spec.name, data_type: packed.data_type });
    }
    if packed.shape != expected_shape {
        let (got, expected) = (packed.shape.clone(), format!("{expected_shape:?}"));
        return Err(CodecError::Shape { codec: spec.name, got, expected });
    }
    value_bytes(packed.data_type, expected_shape)?;
    let bytes = match layout_bytes(spec, packed.data_type, expected_shape)? {
        Some(expected) if spec.squeezed => {
            stretch(&packed.data, expected).map_err(|message| corrupt(spec, "zstd", message))?.into()
        }
        Some(expected) => {
            exact(spec, expected, packed.data.len())?;
            packed.data.clone()
        }
        None => packed.data.clone(),
    };
    if spec.layout == Layout::Int8
        && let Some(row) = int8::broken_row(&bytes, rows_of(expected_shape)?.1)
    {
        return Err(corrupt(spec, &format!("row {row}"), "scale or zero is not a number".to_owned()));
    }
    Ok(Opened { layout: spec.layout, bytes })
}

fn of(codec: u8, rate: u8) -> Result<&'static CodecSpec, CodecError> {
    let spec = spec(codec).ok_or(CodecError::Unknown(codec))?;
    if spec.offers(rate) { Ok(spec) } else { Err(CodecError::Rate { codec: spec.name, rate }) }
}

fn corrupt(spec: &CodecSpec, place: &str, message: String) -> CodecError {
    CodecError::Corrupt { codec: spec.name, place: place.to_owned(), message }
}

fn exact(spec: &CodecSpec, expected: usize, got: usize) -> Result<(), CodecError> {
    if got == expected {
        return Ok(());
    }
    Err(corrupt(spec, "data", format!("{expected} bytes expected, got {got}")))
}

/// At most [`VALUE_BYTES_MAX`].
fn bounded(bytes: Option<usize>) -> Result<usize, CodecError> {
    bytes.filter(|b| *b <= VALUE_BYTES_MAX).ok_or(CodecError::TooLarge { what: "tensor" })
}

/// Bytes of the decoded tensor; none where elements vary in size.
fn value_bytes(data_type: DataType, shape: &[usize]) -> Result<Option<usize>, CodecError> {
    let Some(size) = data_type.size_bytes() else { return Ok(None) };
    bounded(element_count(shape).and_then(|n| n.checked_mul(size))).map(Some)
}

/// Rows, and elements of a row. A scalar is one row.
fn rows_of(shape: &[usize]) -> Result<(usize, usize), CodecError> {
    let [rows, rest @ ..] = shape else { return Ok((1, 1)) };
    Ok((*rows, element_count(rest).ok_or(CodecError::TooLarge { what: "row" })?))
}

/// Bytes of the laid-out tensor; none where they do not follow from type and shape.
fn layout_bytes(spec: &CodecSpec, data_type: DataType, shape: &[usize]) -> Result<Option<usize>, CodecError> {
    match spec.layout {
        Layout::Plain => value_bytes(data_type, shape),
        Layout::F16 => bounded(element_count(shape).and_then(|n| n.checked_mul(2))).map(Some),
        Layout::Int8 => {
            let (rows, row_elements) = rows_of(shape)?;
            bounded(int8::byte_count(rows, row_elements)).map(Some)
        }
        Layout::Jpeg | Layout::Ff => Ok(None),
    }
}

/// FF takes maps of at most four extents; of anything else a row is a line of features.
fn ff_shape(shape: &[usize]) -> Result<Vec<usize>, CodecError> {
    if (1..=4).contains(&shape.len()) {
        return Ok(shape.to_vec());
    }
    rows_of(shape).map(|(rows, row_elements)| vec![rows, row_elements])
}

fn encode_ff(
    spec: &CodecSpec,
    rate: u8,
    tensor: &HostTensor,
    calibrated: Option<&ff::CutPackage>,
) -> Result<Bytes, CodecError> {
    let shaped = HostTensor::new(DataType::Fp32, ff_shape(tensor.shape())?, tensor.data().clone())
        .map_err(|e| corrupt(spec, "tensor", e.to_string()))?;
    let settings = ff::settings_of(spec.id, rate, calibrated).ok_or(CodecError::Rate { codec: spec.name, rate })?;
    ff::encode(&settings, &shaped).map(Bytes::from).map_err(|e| e.named(spec.name))
}

/// The frame that a device makes of an FP32 tensor, see [`ff::FrameWriter::new`], of any rank.
pub fn frame_writer<'a>(
    settings: &ff::Settings<'a>,
    shape: &[usize],
) -> Result<Option<ff::FrameWriter<'a>>, ff::FfError> {
    let no = |_| ff::FfError::Shape { got: shape.to_vec(), why: "it is too large" };
    ff::FrameWriter::new(settings, &ff_shape(shape).map_err(no)?)
}

/// A frame says itself which of FF's modes it is in, and which package it was made with.
fn decode_ff(frame: &[u8], shape: &[usize], calibrated: Option<&ff::Package>) -> Result<HostTensor, CodecError> {
    let named = |e: ff::FfError| e.named("ff");
    let package = ff::package_of(frame).map_err(named)?;
    let cut = calibrated.and_then(|calibrated| calibrated.cut_by_id(package));
    ff::decode(frame, &ff_shape(shape)?, ff::Order::Nchw, cut).map_err(named)
}

/// FP32 values as bytes behind what is in `data`.
fn push_values(values: &[f32], data: &mut Vec<u8>) {
    let start = data.len();
    data.resize(start + 4 * values.len(), 0);
    let places = data[start..].as_chunks_mut::<4>().0;
    places.iter_mut().zip(values).for_each(|(place, value)| *place = value.to_le_bytes());
}

/// Row by row behind headers of their own.
fn pack_rows(tensor: &HostTensor) -> Result<Vec<u8>, CodecError> {
    let (rows, row_elements) = rows_of(tensor.shape())?;
    if rows == 0 {
        return Ok(Vec::new()); // nothing bounds a row that is not there
    }
    let mut packed = Vec::with_capacity(bounded(int8::byte_count(rows, row_elements))?);
    let mut values = vec![0.0; row_elements];
    for row in 0..rows {
        let bytes = tensor.data()[4 * row * row_elements..][..4 * row_elements].as_chunks::<4>().0;
        values.iter_mut().zip(bytes).for_each(|(v, b)| *v = f32::from_le_bytes(*b));
        int8::pack_row(&values, &mut packed);
    }
    Ok(packed)
}

/// Hands the values of opened bytes over, block by block.
fn unpack(layout: Layout, bytes: &[u8], shape: &[usize], mut take: impl FnMut(&[f32])) -> Result<(), CodecError> {
    if layout == Layout::F16 {
        f16::unpack_blocks(bytes, take);
        return Ok(());
    }
    let (rows, row_elements) = rows_of(shape)?;
    if rows == 0 {
        return Ok(()); // nothing bounds a row that is not there
    }
    let mut values = vec![0.0; row_elements];
    for row in bytes.chunks_exact(int8::word_count(row_elements).saturating_mul(4)) {
        int8::unpack_row(row, &mut values)?;
        values.chunks(BLOCK).for_each(&mut take);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
