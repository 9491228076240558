//! Tensors in host memory: a type, a shape and little-endian bytes in row-major order.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Element types, by their Open Inference Protocol names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum DataType {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Fp32,
    Fp64,
    Bf16,
    /// Byte strings of any length, each preceded by its length as u32.
    Bytes,
}

impl DataType {
    /// Every type, in the protocol's order.
    pub const ALL: [Self; 14] = [
        Self::Bool,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Fp16,
        Self::Fp32,
        Self::Fp64,
        Self::Bf16,
        Self::Bytes,
    ];

    /// Bytes of one element; none for [`DataType::Bytes`], whose elements vary.
    pub const fn size_bytes(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => Some(1),
            Self::Uint16 | Self::Int16 | Self::Fp16 | Self::Bf16 => Some(2),
            Self::Uint32 | Self::Int32 | Self::Fp32 => Some(4),
            Self::Uint64 | Self::Int64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }

    /// The protocol's name, for example `FP32`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bf16 => "BF16",
            Self::Bytes => "BYTES",
        }
    }

    /// The type with this protocol name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.name() == name)
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Name, type and shape of a model's input or output. `None` is an extent known only at run time; the first one is
/// the batch dimension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorSpec {
    /// As the model file calls it.
    pub name: String,
    /// Element type.
    pub data_type: DataType,
    /// Extents, outermost first.
    pub shape: Vec<Option<usize>>,
}

/// A tensor in host memory. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct HostTensor {
    data_type: DataType,
    shape: Vec<usize>,
    data: Bytes,
}

/// Shape, type and bytes that do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The product of the extents does not fit in memory.
    #[error("shape {0:?} has too many elements")]
    TooLarge(Vec<usize>),
    /// The data is not as long as type and shape say.
    #[error("{data_type} tensor of shape {shape:?} needs {needed} bytes, got {got}")]
    Length {
        /// Element type.
        data_type: DataType,
        /// Extents.
        shape: Vec<usize>,
        /// Bytes that shape and type need.
        needed: usize,
        /// Bytes there are.
        got: usize,
    },
    /// A tensor of another element type was expected.
    #[error("expected a {expected} tensor, got {got}")]
    Type {
        /// Wanted.
        expected: DataType,
        /// Found.
        got: DataType,
    },
}

/// Product of the extents; none when it overflows.
pub fn element_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
}

impl HostTensor {
    /// Checks that the length fits type and shape. BYTES tensors carry their own lengths and are taken as they are.
    pub fn new(data_type: DataType, shape: Vec<usize>, data: Bytes) -> Result<Self, TensorError> {
        let Some(count) = element_count(&shape) else { return Err(TensorError::TooLarge(shape)) };
        if let Some(size) = data_type.size_bytes() {
            let Some(needed) = count.checked_mul(size) else { return Err(TensorError::TooLarge(shape)) };
            if needed != data.len() {
                return Err(TensorError::Length { data_type, shape, needed, got: data.len() });
            }
        }
        Ok(Self { data_type, shape, data })
    }

    /// An FP32 tensor from values.
    pub fn from_f32(shape: Vec<usize>, values: &[f32]) -> Result<Self, TensorError> {
        let mut data = Vec::with_capacity(values.len() * 4);
        values.iter().for_each(|v| data.extend_from_slice(&v.to_le_bytes()));
        Self::new(DataType::Fp32, shape, data.into())
    }

    /// The values of an FP32 tensor.
    pub fn to_f32(&self) -> Result<Vec<f32>, TensorError> {
        if self.data_type != DataType::Fp32 {
            return Err(TensorError::Type { expected: DataType::Fp32, got: self.data_type });
        }
        Ok(self.data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }

    /// Element type.
    pub fn data_type(&self) -> DataType {
        self.data_type
    }

    /// Extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Little-endian, row-major.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// Extent of the batch dimension; 1 for a scalar.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Rows `range` as a tensor that shares the bytes. Panics if the range exceeds the rows (a caller's bug) or the
    /// elements vary in size.
    pub fn slice_rows(&self, range: std::ops::Range<usize>) -> Self {
        let rows = self.rows();
        assert!(range.start <= range.end && range.end <= rows, "rows {range:?} of {rows}");
        assert!(self.data_type != DataType::Bytes, "BYTES tensors have no fixed row size");
        let row_bytes = self.data.len().checked_div(rows).unwrap_or(0);
        let mut shape = self.shape.clone();
        if let Some(first) = shape.first_mut() {
            *first = range.len();
        }
        let data = self.data.slice(range.start * row_bytes..range.end * row_bytes);
        Self { data_type: self.data_type, shape, data }
    }
}

impl fmt::Debug for HostTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?} ({} bytes)", self.data_type, self.shape, self.data.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_must_fit_shape() {
        let err = HostTensor::new(DataType::Fp32, vec![2, 3], Bytes::from_static(&[0; 20])).unwrap_err();
        assert_eq!(err.to_string(), "FP32 tensor of shape [2, 3] needs 24 bytes, got 20");
        let err = HostTensor::new(DataType::Fp32, vec![usize::MAX, 2], Bytes::new()).unwrap_err();
        assert!(matches!(err, TensorError::TooLarge(_)));
    }

    #[test]
    fn rows_share_bytes() {
        let t = HostTensor::from_f32(vec![3, 2], &[0., 1., 2., 3., 4., 5.]).unwrap();
        let middle = t.slice_rows(1..2);
        assert_eq!((middle.shape(), middle.to_f32().unwrap()), (&[1, 2][..], vec![2., 3.]));
    }

    #[test]
    fn names_round_trip() {
        for t in DataType::ALL {
            assert_eq!(DataType::from_name(t.name()), Some(t));
        }
    }
}
