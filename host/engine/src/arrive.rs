//! What came from other hosts becomes a batch. Nothing about it is trusted: counts, shapes, types and lengths are
//! compared with what the model has at the cut before anything is decoded.

use crate::batch::{Staged, join, network_shape, same_rows};
use crate::device::OpenDevice;
use crate::executor::{Worker, batch_shapes};
use crate::host::Tensor;
use crate::{JobError, Model, kernel};
use bps_codec::ff::Package;
use bps_codec::{Layout, Opened, decode, open};
use bps_types::{DataType, Packed, TensorSpec, element_count};
use bytes::{Bytes, BytesMut};
use std::sync::Arc;

/// One value of one arrival, and the shape that it must have.
struct Part<'a> {
    packed: &'a Packed,
    shape: Vec<usize>,
}

/// Joins arrivals at a cut, value by value. Values of one packed layout stay packed for a device with kernels; unlike
/// ones meet as floats.
pub(crate) fn stage(
    worker: &mut Worker,
    model: &Model,
    cut: usize,
    arrivals: &[Vec<Packed>],
) -> Result<Vec<Staged>, JobError> {
    let graph = model.graph().clone();
    let ids = graph.entering(cut);
    if arrivals.is_empty() {
        return Err(JobError::failed("a batch without arrivals"));
    }
    if let Some((index, wrong)) = arrivals.iter().enumerate().find(|(_, a)| a.len() != ids.len()) {
        let (got, wanted) = (wrong.len(), ids.len());
        return Err(JobError::failed(format!("arrival {index}: cut {cut} has {wanted} values, got {got}")));
    }
    if arrivals.len() > 1 && !graph.batchable {
        return Err(JobError::failed("rows of different arrivals cannot be joined for this model"));
    }
    if cut == 0 {
        let staged = (0..ids.len()).map(|i| input(worker, model, i, arrivals)).collect::<Result<_, _>>()?;
        return same_rows(staged);
    }
    let rows: Vec<usize> = arrivals.iter().map(|a| a.first().map_or(1, Packed::rows)).collect();
    let total = rows.iter().try_fold(0usize, |sum, rows| sum.checked_add(*rows));
    let total = total.ok_or_else(|| JobError::failed("too many rows"))?;
    let shapes = worker.shapes(model, batch_shapes(model, total)?)?;
    let mut staged = Vec::with_capacity(ids.len());
    for (index, id) in ids.iter().enumerate() {
        let wanted = shapes.of(*id);
        let mut parts = Vec::with_capacity(arrivals.len());
        for (arrival, rows) in arrivals.iter().zip(&rows) {
            let mut shape = wanted.to_vec();
            // Alone, an arrival is the whole value, whatever its first extent counts.
            if let Some(first) = shape.first_mut().filter(|_| arrivals.len() > 1) {
                *first = *rows;
            }
            parts.push(Part { packed: &arrival[index], shape });
        }
        let name = &graph.values[id.index()].name;
        let calibration = model.calibration().map(Arc::as_ref);
        let joined = join_parts(&parts, wanted.to_vec(), !worker.device.is_cpu(), calibration);
        staged.push(joined.map_err(|message| JobError::failed(format!("value `{name}` of cut {cut}: {message}")))?);
    }
    Ok(staged)
}

/// Joins what arrived for one of the model's inputs.
fn input(worker: &Worker, model: &Model, index: usize, arrivals: &[Vec<Packed>]) -> Result<Staged, JobError> {
    let spec = &model.graph().inputs[index];
    let pixels = model.pixels().filter(|p| p.input == index);
    let has_kernel = !worker.device.is_cpu();
    let calibration = model.calibration().map(Arc::as_ref);
    let joined = || {
        let mut parts = Vec::with_capacity(arrivals.len());
        let mut joined_shape: Option<Vec<usize>> = None;
        for (arrival, values) in arrivals.iter().enumerate() {
            let packed = &values[index];
            let at = |message: String| format!("arrival {arrival}: {message}");
            let shape = network_shape(packed.data_type, &packed.shape, pixels).map_err(at)?;
            fits(spec, &shape).map_err(at)?;
            let joined = joined_shape.get_or_insert_with(|| [&[0], &shape[1..]].concat());
            if joined[1..] != shape[1..] {
                return Err(at(format!("rows of shape {:?} beside {:?}", &shape[1..], &joined[1..])));
            }
            joined[0] = joined[0].checked_add(shape[0]).ok_or("too many rows")?;
            parts.push(Part { packed, shape: packed.shape.clone() });
        }
        let shape = joined_shape.unwrap_or_default();
        if parts.iter().all(|p| p.packed.data_type == DataType::Fp32) {
            return join_parts(&parts, shape, has_kernel, calibration);
        }
        let decoded = parts.iter().map(|p| decode(p.packed, &p.shape)).collect::<Result<Vec<_>, _>>();
        let decoded = decoded.map_err(|e| e.to_string())?;
        join(&decoded.iter().collect::<Vec<_>>(), pixels, has_kernel)
    };
    joined().map_err(|message| JobError::failed(format!("input `{}`: {message}", spec.name)))
}

/// Compares a shape with what the file says of an input.
fn fits(spec: &TensorSpec, shape: &[usize]) -> Result<(), String> {
    let same = |(wanted, got): (&Option<usize>, &usize)| wanted.is_none_or(|w| w == *got);
    if shape.is_empty() || spec.shape.len() != shape.len() || !spec.shape.iter().zip(shape).all(same) {
        return Err(format!("shape {shape:?} does not fit {:?}", spec.shape));
    }
    Ok(())
}

/// Joins FP32 parts into a value of `shape`, row after row.
fn join_parts(
    parts: &[Part<'_>],
    shape: Vec<usize>,
    has_kernel: bool,
    calibration: Option<&Package>,
) -> Result<Staged, String> {
    let mut opened = Vec::with_capacity(parts.len());
    for (arrival, Part { packed, shape }) in parts.iter().enumerate() {
        if packed.data_type != DataType::Fp32 {
            return Err(format!("arrival {arrival}: FP32 expected, got {}", packed.data_type));
        }
        opened.push(open(packed, shape).map_err(|e| format!("arrival {arrival}: {e}"))?);
    }
    let packed_as = |layout| has_kernel && opened.iter().all(|o: &Opened| o.layout == layout);
    if let Some(layout) = [Layout::F16, Layout::Int8].into_iter().find(|layout| packed_as(*layout)) {
        return Ok(Staged::packed(shape, layout, joined_bytes(opened)));
    }
    if packed_as(Layout::Ff)
        && let Some(frames) = frames(&opened, parts, calibration)?
    {
        return Ok(Staged::frames(shape, frames));
    }
    let mut values = Vec::with_capacity(element_count(&shape).ok_or("too many elements")?);
    for (opened, part) in opened.iter().zip(parts) {
        opened.unpack_f32_into(&part.shape, calibration, &mut values).map_err(|e| e.to_string())?;
    }
    Ok(Staged::floats(shape, values))
}

/// Reads the frames of all parts for a device; none where one of them is not for devices.
fn frames(
    opened: &[Opened],
    parts: &[Part<'_>],
    calibration: Option<&Package>,
) -> Result<Option<Vec<kernel::ff::Arrived>>, String> {
    let frames = opened.iter().zip(parts).map(|(opened, part)| kernel::ff::open(opened, &part.shape, calibration));
    frames.collect::<Result<_, _>>().map_err(|e| e.to_string())
}

/// One value alone on a device, as [`stage`] would put it there; its shape is taken as it is.
pub(crate) fn arrived(packed: &Packed, device: &OpenDevice, calibration: Option<&Package>) -> Result<Tensor, String> {
    let part = Part { packed, shape: packed.shape.clone() };
    let staged = join_parts(&[part], packed.shape.clone(), !device.is_cpu(), calibration)?;
    staged.upload(None, device).map_err(|e| e.to_string())
}

/// Rows after rows; without a copy where there is one part.
fn joined_bytes(mut opened: Vec<Opened>) -> Bytes {
    if opened.len() == 1 {
        return opened.swap_remove(0).bytes;
    }
    let mut joined = BytesMut::with_capacity(opened.iter().map(|o| o.bytes.len()).sum());
    opened.iter().for_each(|o| joined.extend_from_slice(&o.bytes));
    joined.freeze()
}
