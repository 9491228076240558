//! Stored tensors: every element type a CNN's file may hold becomes FP32 or INT64, every length is checked.

use crate::content::Content;
use crate::error::GraphError;
use crate::external::External;
use crate::limits::Limits;
use crate::proto::{DATA_LOCATION_EXTERNAL, TensorProto, data_type};
use bps_types::{DataType, HostTensor, element_count};
use bytes::Bytes;
use half::{bf16, f16};
use std::sync::Arc;

/// The tensor's elements. Types that nothing computes with are noted, not refused: they may be unused.
pub(crate) fn content(
    tensor: &TensorProto,
    limits: &Limits,
    external: Option<&mut External>,
) -> Result<Content, GraphError> {
    let fail = |message: String| GraphError::Tensor { tensor: tensor.name.clone(), message };
    let shape = shape(tensor, limits.rank).map_err(fail)?;
    let count = element_count(&shape).filter(|n| n.checked_mul(8).is_some());
    let count = count.ok_or_else(|| fail(format!("shape {shape:?} has too many elements")))?;
    let Some(size) = stored_size(tensor.data_type) else {
        return Ok(Content::Opaque { code: tensor.data_type, shape });
    };
    let (stored, limit) = (count as u64 * size as u64, limits.tensor_bytes);
    if stored > limit {
        return Err(GraphError::Limit { what: format!("tensor `{}` (bytes)", tensor.name), got: stored, limit });
    }
    let raw = if tensor.data_location == DATA_LOCATION_EXTERNAL {
        let external = external.ok_or_else(|| fail("has external data, which needs the model's folder".to_owned()))?;
        Some(external.read(tensor, stored)?)
    } else {
        tensor.raw_data.clone()
    };
    let (data_type, data) = match raw {
        Some(raw) if raw.len() as u64 != stored => {
            let kind = data_type::name(tensor.data_type);
            return Err(fail(format!("{kind} of shape {shape:?} needs {stored} bytes, there are {}", raw.len())));
        }
        Some(raw) => from_raw(tensor.data_type, raw),
        None => from_fields(tensor, count).map_err(fail)?,
    };
    let made = HostTensor::new(data_type, shape, data).map_err(|e| fail(e.to_string()))?;
    Ok(Content::Tensor(Arc::new(made)))
}

fn shape(tensor: &TensorProto, rank_limit: usize) -> Result<Vec<usize>, String> {
    if tensor.dims.len() > rank_limit {
        return Err(format!("has {} dimensions, the limit is {rank_limit}", tensor.dims.len()));
    }
    let extent = |d: &i64| usize::try_from(*d).map_err(|_| format!("has an extent of {d}"));
    tensor.dims.iter().map(extent).collect()
}

/// Bytes of one element in raw data, for the types that are taken.
fn stored_size(code: i32) -> Option<usize> {
    match code {
        data_type::BOOL => Some(1),
        data_type::FLOAT16 | data_type::BFLOAT16 => Some(2),
        data_type::FLOAT | data_type::INT32 => Some(4),
        data_type::DOUBLE | data_type::INT64 => Some(8),
        _ => None,
    }
}

/// Converts raw little-endian data; what is FP32 or INT64 already is shared, not copied.
fn from_raw(code: i32, raw: Bytes) -> (DataType, Bytes) {
    match code {
        data_type::FLOAT => (DataType::Fp32, raw),
        data_type::FLOAT16 => floats(raw.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32())),
        data_type::BFLOAT16 => floats(raw.as_chunks::<2>().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32())),
        data_type::DOUBLE => floats(raw.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b) as f32)),
        data_type::INT32 => integers(raw.as_chunks::<4>().0.iter().map(|b| i64::from(i32::from_le_bytes(*b)))),
        data_type::BOOL => integers(raw.iter().map(|b| i64::from(*b != 0))),
        _ => (DataType::Int64, raw),
    }
}

/// Converts the typed fields, which must hold exactly `count` elements.
fn from_fields(tensor: &TensorProto, count: usize) -> Result<(DataType, Bytes), String> {
    let code = tensor.data_type;
    let exact = |length: usize| {
        let message = || format!("{} of {count} elements holds {length}", data_type::name(code));
        if length == count { Ok(()) } else { Err(message()) }
    };
    // half-precision bits and truth values are stored one per 32-bit integer
    let half_bits = || tensor.int32_data.iter().map(|v| *v as u16);
    match code {
        data_type::FLOAT => exact(tensor.float_data.len()).map(|()| floats(tensor.float_data.iter().copied())),
        data_type::DOUBLE => {
            exact(tensor.double_data.len()).map(|()| floats(tensor.double_data.iter().map(|v| *v as f32)))
        }
        data_type::INT64 => exact(tensor.int64_data.len()).map(|()| integers(tensor.int64_data.iter().copied())),
        _ => exact(tensor.int32_data.len()).map(|()| match code {
            data_type::FLOAT16 => floats(half_bits().map(|b| f16::from_bits(b).to_f32())),
            data_type::BFLOAT16 => floats(half_bits().map(|b| bf16::from_bits(b).to_f32())),
            data_type::BOOL => integers(tensor.int32_data.iter().map(|v| i64::from(*v != 0))),
            _ => integers(tensor.int32_data.iter().map(|v| i64::from(*v))),
        }),
    }
}

fn floats(values: impl ExactSizeIterator<Item = f32>) -> (DataType, Bytes) {
    let mut data = Vec::with_capacity(values.len() * 4);
    values.for_each(|v| data.extend_from_slice(&v.to_le_bytes()));
    (DataType::Fp32, data.into())
}

fn integers(values: impl ExactSizeIterator<Item = i64>) -> (DataType, Bytes) {
    let mut data = Vec::with_capacity(values.len() * 8);
    values.for_each(|v| data.extend_from_slice(&v.to_le_bytes()));
    (DataType::Int64, data.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(code: i32, dims: &[i64]) -> TensorProto {
        TensorProto { name: "w".to_owned(), data_type: code, dims: dims.to_vec(), ..Default::default() }
    }

    fn read(tensor: &TensorProto) -> Result<Content, String> {
        content(tensor, &Limits::default(), None).map_err(|e| e.to_string())
    }

    #[test]
    fn every_float_type_becomes_fp32() {
        let raw = |code, bytes: &[u8]| TensorProto { raw_data: Some(bytes.to_vec().into()), ..tensor(code, &[2]) };
        let table = [
            raw(data_type::FLOAT, [1.5f32.to_le_bytes(), (-2.0f32).to_le_bytes()].as_flattened()),
            raw(data_type::DOUBLE, [1.5f64.to_le_bytes(), (-2.0f64).to_le_bytes()].as_flattened()),
            raw(
                data_type::FLOAT16,
                [f16::from_f32(1.5).to_le_bytes(), f16::from_f32(-2.0).to_le_bytes()].as_flattened(),
            ),
            raw(
                data_type::BFLOAT16,
                [bf16::from_f32(1.5).to_le_bytes(), bf16::from_f32(-2.0).to_le_bytes()].as_flattened(),
            ),
            TensorProto { float_data: vec![1.5, -2.0], ..tensor(data_type::FLOAT, &[2]) },
            TensorProto { double_data: vec![1.5, -2.0], ..tensor(data_type::DOUBLE, &[2]) },
            TensorProto {
                int32_data: vec![i32::from(f16::from_f32(1.5).to_bits()), i32::from(f16::from_f32(-2.0).to_bits())],
                ..tensor(data_type::FLOAT16, &[2])
            },
        ];
        for t in table {
            assert_eq!(read(&t).unwrap().floats().unwrap().to_f32().unwrap(), [1.5, -2.0], "{t:?}");
        }
    }

    #[test]
    fn wrong_lengths_and_shapes_are_named() {
        let raw = |n: usize, dims: &[i64]| TensorProto {
            raw_data: Some(vec![0; n].into()),
            ..tensor(data_type::FLOAT, dims)
        };
        let table = [
            (raw(20, &[2, 3]), "tensor `w`: FLOAT of shape [2, 3] needs 24 bytes, there are 20"),
            (raw(0, &[-1]), "tensor `w`: has an extent of -1"),
            (raw(0, &[i64::MAX, 4]), "tensor `w`: shape [9223372036854775807, 4] has too many elements"),
            (raw(0, &[1 << 40]), "tensor `w` (bytes) is 4398046511104, the limit is 1073741824"),
            (raw(4, &[1; 9]), "tensor `w`: has 9 dimensions, the limit is 8"),
            (tensor(data_type::FLOAT, &[3]), "tensor `w`: FLOAT of 3 elements holds 0"),
            (tensor(data_type::INT64, &[1 << 20]), "tensor `w`: INT64 of 1048576 elements holds 0"),
            (
                TensorProto { data_location: DATA_LOCATION_EXTERNAL, ..tensor(data_type::FLOAT, &[1]) },
                "tensor `w`: has external data, which needs the model's folder",
            ),
        ];
        for (t, expected) in table {
            assert_eq!(read(&t).unwrap_err(), expected);
        }
    }

    #[test]
    fn other_types_are_refused_where_they_are_used() {
        let quantised = read(&tensor(3, &[2])).unwrap();
        assert_eq!(quantised.floats().unwrap_err(), "has element type INT8, which is not supported");
    }
}
