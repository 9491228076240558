//! The model's inputs and outputs as the file declares them.

use crate::dim::{Dim, Dims};
use crate::error::GraphError;
use crate::limits::Limits;
use crate::proto::{DimensionValue, ValueInfoProto, data_type};
use bps_types::{DataType, TensorSpec};

/// Extents of an input, the first of which is the batch whatever the file says.
pub(super) fn input_dims(info: &ValueInfoProto, limits: &Limits) -> Result<Dims, GraphError> {
    let fail = |message: String| GraphError::Port { direction: "input", name: info.name.clone(), message };
    let tensor = info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let tensor = tensor.ok_or_else(|| fail("is not a tensor".to_owned()))?;
    if tensor.elem_type != data_type::FLOAT {
        let message = "; only FLOAT is supported, convert the model";
        return Err(fail(format!("has element type {}{message}", data_type::name(tensor.elem_type))));
    }
    let shape = tensor.shape.as_ref().ok_or_else(|| fail("declares no shape".to_owned()))?;
    if shape.dim.is_empty() || shape.dim.len() > limits.rank {
        return Err(fail(format!("has {} dimensions, needs 1 to {}", shape.dim.len(), limits.rank)));
    }
    // exporters write 0 or -1 for what they leave open
    let extent = |value: &Option<DimensionValue>| match value {
        Some(DimensionValue::Value(v)) if *v > 0 => usize::try_from(*v).map_or(Dim::Unknown, Dim::Known),
        _ => Dim::Unknown,
    };
    let mut dims: Dims = shape.dim.iter().map(|d| extent(&d.value)).collect();
    dims[0] = Dim::Rows(1);
    crate::shapes::check(&dims).map_err(fail)?;
    Ok(dims)
}

/// The public description of an input or output.
pub(super) fn spec(name: &str, dims: &[Dim]) -> TensorSpec {
    let shape = dims.iter().map(|d| d.known()).collect();
    TensorSpec { name: name.to_owned(), data_type: DataType::Fp32, shape }
}
