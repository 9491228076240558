//! Values that are known while a model is loaded: weights, and integers that describe shapes.

use crate::dim::Dim;
use crate::proto::data_type;
use bps_types::{DataType, HostTensor};
use bytes::Bytes;
use std::sync::Arc;

/// Most integers that are computed with while loading. Shape arithmetic needs a handful.
pub(crate) const INTEGERS_MAX: usize = 65_536;

/// What is known of a value's elements.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// All of them; FP32 or INT64.
    Tensor(Arc<HostTensor>),
    /// Integers, of which some follow the batch.
    Integers(Integers),
    /// There are elements, but of a type that nothing here computes with.
    Opaque {
        /// ONNX's code of the type.
        code: i32,
        /// Extents.
        shape: Vec<usize>,
    },
}

/// Integers with at most one dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Integers {
    /// Empty for a single number, otherwise the length.
    pub(crate) shape: Vec<usize>,
    /// As many as the shape says.
    pub(crate) values: Vec<Scalar>,
}

/// One integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    /// A number.
    Known(i64),
    /// This many times the batch; not 0.
    Rows(i64),
    /// Follows from an input's open extent.
    Unknown,
}

impl From<Dim> for Scalar {
    fn from(dim: Dim) -> Self {
        match dim {
            Dim::Known(n) => i64::try_from(n).map_or(Self::Unknown, Self::Known),
            Dim::Rows(k) => i64::try_from(k).map_or(Self::Unknown, Self::Rows),
            Dim::Unknown => Self::Unknown,
        }
    }
}

impl Integers {
    /// A list.
    pub(crate) fn list(values: Vec<Scalar>) -> Self {
        Self { shape: vec![values.len()], values }
    }

    /// As a tensor, if every integer is known.
    fn tensor(&self) -> Option<HostTensor> {
        let known = |s: &Scalar| if let Scalar::Known(v) = s { Some(v.to_le_bytes()) } else { None };
        let bytes: Vec<[u8; 8]> = self.values.iter().map(known).collect::<Option<_>>()?;
        HostTensor::new(DataType::Int64, self.shape.clone(), Bytes::from(bytes.as_flattened().to_vec())).ok()
    }
}

impl From<Integers> for Content {
    fn from(integers: Integers) -> Self {
        integers.tensor().map_or(Self::Integers(integers), |t| Self::Tensor(Arc::new(t)))
    }
}

impl Content {
    /// Extents.
    pub(crate) fn shape(&self) -> &[usize] {
        match self {
            Self::Tensor(t) => t.shape(),
            Self::Integers(i) => &i.shape,
            Self::Opaque { shape, .. } => shape,
        }
    }

    /// The weights, if that is what it is.
    pub(crate) fn floats(&self) -> Result<&Arc<HostTensor>, String> {
        match self {
            Self::Tensor(t) if t.data_type() == DataType::Fp32 => Ok(t),
            Self::Tensor(_) | Self::Integers(_) => Err("has integers where floating-point numbers belong".to_owned()),
            Self::Opaque { code, .. } => {
                Err(format!("has element type {}, which is not supported", data_type::name(*code)))
            }
        }
    }

    /// The integers, if that is what it is.
    pub(crate) fn integers(&self) -> Result<Integers, String> {
        match self {
            Self::Integers(i) => Ok(i.clone()),
            Self::Tensor(t) if t.data_type() == DataType::Int64 => {
                let count = t.data().len() / 8;
                if count > INTEGERS_MAX || t.shape().len() > 1 {
                    return Err(format!("has {count} integers of shape {:?}, too many for a shape", t.shape()));
                }
                let values =
                    t.data().as_chunks::<8>().0.iter().map(|b| Scalar::Known(i64::from_le_bytes(*b))).collect();
                Ok(Integers { shape: t.shape().to_vec(), values })
            }
            Self::Tensor(_) => Err("has floating-point numbers where integers belong".to_owned()),
            Self::Opaque { code, .. } => {
                Err(format!("has element type {}, which is not supported", data_type::name(*code)))
            }
        }
    }
}
