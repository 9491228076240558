//! Assembles the batch: the rows of all requests one after another, per input.

use crate::device::OpenDevice;
use crate::host::{Tensor, upload};
use crate::model::{Model, PixelInput};
use crate::{JobError, kernel};
use bps_codec::Layout;
use bps_types::{DataType, HostTensor};
use bytes::{Bytes, BytesMut};
use std::ops::Range;

/// One input of the model for the whole batch, still in host memory.
pub(crate) struct Staged {
    /// As the network sees it (NCHW for images).
    pub(crate) shape: Vec<usize>,
    data: StagedData,
}

enum StagedData {
    Floats(Vec<f32>),
    /// Image bytes for the kernel on the device.
    Pixels(Vec<u8>),
    /// Packed rows for the kernel on the device.
    Packed(Layout, Bytes),
    /// Frames of FF for the kernels on the device.
    Frames(Vec<kernel::ff::Arrived>),
}

/// Joins the requests' rows; `requests[r][i]` is input `i` of request `r`.
pub(crate) fn assemble(
    model: &Model,
    requests: &[Vec<HostTensor>],
    device: &OpenDevice,
) -> Result<Vec<Staged>, JobError> {
    let inputs = &model.graph().inputs;
    if requests.is_empty() {
        return Err(JobError::failed("a batch without requests"));
    }
    if let Some(wrong) = requests.iter().find(|r| r.len() != inputs.len()) {
        let (got, wanted) = (wrong.len(), inputs.len());
        return Err(JobError::failed(format!("a request has {got} tensors, the model has {wanted} inputs")));
    }
    let staged: Vec<Staged> = (0..inputs.len())
        .map(|i| {
            let pixels = model.pixels().filter(|p| p.input == i);
            let parts: Vec<&HostTensor> = requests.iter().map(|r| &r[i]).collect();
            join(&parts, pixels, !device.is_cpu())
                .map_err(|message| JobError::failed(format!("input `{}`: {message}", inputs[i].name)))
        })
        .collect::<Result<_, _>>()?;
    same_rows(staged)
}

/// Errors unless all inputs have as many rows.
pub(crate) fn same_rows(staged: Vec<Staged>) -> Result<Vec<Staged>, JobError> {
    let rows = staged.first().map_or(1, Staged::row_count);
    match staged.iter().map(Staged::row_count).find(|other| *other != rows) {
        Some(other) => Err(JobError::failed(format!("inputs of {rows} and {other} rows in one batch"))),
        None => Ok(staged),
    }
}

/// Joins the rows of one input's tensors. Image bytes stay bytes if all of them are and the device has a kernel.
pub(crate) fn join(parts: &[&HostTensor], pixels: Option<&PixelInput>, has_kernel: bool) -> Result<Staged, String> {
    let mut rows = 0;
    let mut row_shape: Option<Vec<usize>> = None;
    for part in parts {
        let shape = network_shape(part.data_type(), part.shape(), pixels)?;
        let [n, rest @ ..] = &shape[..] else { return Err("a tensor without a batch dimension".into()) };
        if row_shape.get_or_insert_with(|| rest.to_vec()) != rest {
            return Err(format!("rows of different shapes in one batch: {row_shape:?} and {rest:?}"));
        }
        rows += n;
    }
    if rows == 0 {
        return Err("no rows".into());
    }
    let mut shape = vec![rows];
    shape.extend(row_shape.unwrap_or_default());
    let bytes = parts.iter().map(|p| p.data().len()).sum();
    let data = if has_kernel && parts.iter().all(|p| p.data_type() == DataType::Uint8) {
        let mut joined = Vec::with_capacity(bytes);
        parts.iter().for_each(|p| joined.extend_from_slice(p.data()));
        StagedData::Pixels(joined)
    } else {
        let mut joined = Vec::with_capacity(shape.iter().product());
        for part in parts {
            match (part.data_type(), pixels) {
                (DataType::Uint8, Some(p)) => joined.extend(
                    bps_codec::normalize_u8(part.data(), p.shape(part.rows()), &p.mean, &p.scale)
                        .map_err(|e| e.to_string())?,
                ),
                _ => joined.extend(part.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b))),
            }
        }
        StagedData::Floats(joined)
    };
    Ok(Staged { shape, data })
}

/// The shape that a tensor has for the network; an error if it cannot be this input.
pub(crate) fn network_shape(
    data_type: DataType,
    shape: &[usize],
    pixels: Option<&PixelInput>,
) -> Result<Vec<usize>, String> {
    match (data_type, pixels) {
        (DataType::Fp32, _) => Ok(shape.to_vec()),
        (DataType::Uint8, Some(p)) => match *shape {
            [n, h, w, c] if (h, w, c) == (p.height, p.width, p.channels) => Ok(vec![n, c, h, w]),
            _ => {
                let (height, width, channels) = (p.height, p.width, p.channels);
                Err(format!("UINT8 images have shape [rows, {height}, {width}, {channels}], got {shape:?}"))
            }
        },
        (DataType::Uint8, None) => Err("UINT8 needs a preprocessing description in the model's model.toml".into()),
        (other, _) => Err(format!("FP32 expected, got {other}")),
    }
}

impl Staged {
    /// Values for the network as they are; as many as `shape` says.
    pub(crate) fn floats(shape: Vec<usize>, values: Vec<f32>) -> Self {
        Self { shape, data: StagedData::Floats(values) }
    }

    /// Packed rows for a device that has a kernel for the layout.
    pub(crate) fn packed(shape: Vec<usize>, layout: Layout, bytes: Bytes) -> Self {
        Self { shape, data: StagedData::Packed(layout, bytes) }
    }

    /// Frames of FF, their rows one after another, for a device with kernels.
    pub(crate) fn frames(shape: Vec<usize>, frames: Vec<kernel::ff::Arrived>) -> Self {
        Self { shape, data: StagedData::Frames(frames) }
    }

    /// Extent of the batch dimension.
    pub(crate) fn row_count(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Deals the rows of all inputs out to `lane_count` lanes as evenly as they go. Frames stay whole: only a device that
    /// shares rows out itself has any.
    pub(crate) fn split(staged: Vec<Self>, lane_count: usize) -> Vec<Vec<Self>> {
        let lane = |index: usize| -> Option<Vec<Self>> {
            let rows = |input: &Self| {
                let rows = input.row_count();
                input.rows(rows * index / lane_count..rows * (index + 1) / lane_count)
            };
            staged.iter().map(rows).collect()
        };
        let lanes = if lane_count > 1 { (0..lane_count).map(lane).collect() } else { None };
        lanes.unwrap_or_else(|| vec![staged])
    }

    /// Some rows; none of frames.
    fn rows(&self, range: Range<usize>) -> Option<Self> {
        let mut shape = self.shape.clone();
        shape[0] = range.len();
        let cut = |length: usize| {
            let row = length / self.row_count().max(1);
            range.start * row..range.end * row
        };
        let data = match &self.data {
            StagedData::Floats(values) => StagedData::Floats(values[cut(values.len())].to_vec()),
            StagedData::Pixels(bytes) => StagedData::Pixels(bytes[cut(bytes.len())].to_vec()),
            // In both layouts all rows have the same length.
            StagedData::Packed(layout, bytes) => StagedData::Packed(*layout, bytes.slice(cut(bytes.len()))),
            StagedData::Frames(_) => return None,
        };
        Some(Self { shape, data })
    }

    /// Moves the input to the device; image bytes are normalised and packed rows unpacked there.
    pub(crate) fn upload(self, pixels: Option<&PixelInput>, device: &OpenDevice) -> Result<Tensor, JobError> {
        match (self.data, pixels) {
            (StagedData::Pixels(bytes), Some(pixels)) => kernel::normalize(device, bytes, pixels, self.shape[0]),
            (StagedData::Pixels(_), None) => Err(JobError::failed("image bytes without a description")),
            (StagedData::Packed(layout, bytes), _) => kernel::unpack(device, layout, &bytes, &self.shape),
            (StagedData::Frames(frames), _) => kernel::ff::restore(device, frames, &self.shape),
            (StagedData::Floats(values), _) => Ok(upload(values, &self.shape, device.burn())),
        }
    }
}

/// Puts the lanes' results together again, row after row.
pub(crate) fn join_rows(lanes: Vec<Vec<HostTensor>>) -> Result<Vec<HostTensor>, JobError> {
    let count = lanes.first().map_or(0, Vec::len);
    let join = |index: usize| {
        let parts: Vec<&HostTensor> = lanes.iter().map(|lane| &lane[index]).collect();
        let mut shape = parts[0].shape().to_vec();
        shape[0] = parts.iter().map(|p| p.rows()).sum();
        let mut data = BytesMut::with_capacity(parts.iter().map(|p| p.data().len()).sum());
        parts.iter().for_each(|p| data.extend_from_slice(p.data()));
        HostTensor::new(parts[0].data_type(), shape, data.freeze()).map_err(|e| JobError::failed(e.to_string()))
    };
    (0..count).map(join).collect()
}
