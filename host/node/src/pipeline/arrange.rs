//! A client's tensors against what the model takes: names, types, extents, rows; put into the model's order.

use crate::models::ServedModel;
use crate::view::{spec_text, tensor_text};
use crate::{NamedTensor, ServeError};
use bps_types::{DataType, HostTensor, TensorSpec};
use half::f16;
use half::slice::HalfFloatSliceExt;
use std::hash::{DefaultHasher, Hash, Hasher};

/// How many times as large as the largest request an answer may be.
const ANSWER_OVER_REQUEST: u64 = 4;

/// Inputs in the model's order. A BYTES tensor among them still holds encoded images.
#[derive(Debug)]
pub(super) struct Arranged {
    pub(super) tensors: Vec<HostTensor>,
    /// The batch dimension that all inputs share.
    pub(super) rows: u32,
    /// Bytes of all of them.
    pub(super) bytes: usize,
}

impl Arranged {
    /// Equal for requests that can share a batch: same element types, same extents but for the rows.
    pub(super) fn shape_key(&self) -> u64 {
        let mut hasher = DefaultHasher::new(); // its keys are fixed: the same shapes give the same key in every run
        for tensor in &self.tensors {
            (tensor.data_type(), tensor.shape().get(1..)).hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// Checks everything that can be checked without decoding.
pub(super) fn check(model: &ServedModel, inputs: Vec<NamedTensor>, bytes_max: usize) -> Result<Arranged, ServeError> {
    let specs = &model.graph.inputs;
    let bytes = inputs.iter().try_fold(0usize, |sum, input| sum.checked_add(input.tensor.data().len()));
    let got = bytes.unwrap_or(usize::MAX);
    if got > bytes_max {
        return Err(ServeError::TooLarge { what: "the request".into(), got: got as u64, max: bytes_max as u64 });
    }
    let mut slots: Vec<Option<HostTensor>> = vec![None; specs.len()];
    for NamedTensor { name, tensor } in inputs {
        let index = specs.iter().position(|spec| spec.name == name);
        let index = index.ok_or_else(|| invalid(model, format!("has no input {name}; it takes {}", names(specs))))?;
        if slots[index].replace(tensor).is_some() {
            return Err(invalid(model, format!("got input {name} twice")));
        }
    }
    let mut tensors = Vec::with_capacity(specs.len());
    let mut rows = None;
    for (index, (spec, slot)) in specs.iter().zip(slots).enumerate() {
        let tensor = slot.ok_or_else(|| invalid(model, format!("needs input {}", spec.name)))?;
        let tensor = fit(model, index, spec, tensor)?;
        let count = tensor.rows();
        if *rows.get_or_insert(count) != count {
            return Err(invalid(model, format!("got {count} rows in input {} and another number before", spec.name)));
        }
        tensors.push(tensor);
    }
    let rows = check_rows(model, rows.unwrap_or(1))?;
    check_outputs(model, rows, bytes_max)?;
    check_shapes(model, &tensors, rows)?;
    Ok(Arranged { bytes: tensors.iter().map(|t| t.data().len()).sum(), tensors, rows })
}

fn check_rows(model: &ServedModel, rows: usize) -> Result<u32, ServeError> {
    let max = model.batch_max;
    match u32::try_from(rows) {
        Ok(0) => Err(invalid(model, "got no rows: the first extent is 0".into())),
        Ok(rows) if rows <= max => Ok(rows),
        _ => Err(invalid(model, format!("takes at most {max} rows in a request, got {rows}"))),
    }
}

/// An answer may be several times the request, but not any number of times.
fn check_outputs(model: &ServedModel, rows: u32, request_bytes_max: usize) -> Result<(), ServeError> {
    let got = model.output_bytes().saturating_mul(u64::from(rows));
    let max = (request_bytes_max as u64).saturating_mul(ANSWER_OVER_REQUEST);
    if got > max {
        return Err(ServeError::TooLarge { what: "the answer".into(), got, max });
    }
    Ok(())
}

/// Where the model leaves extents open, the layers and the device's memory decide whether these fit; said here, not by a
/// failed execution.
fn check_shapes(model: &ServedModel, tensors: &[HostTensor], rows: u32) -> Result<(), ServeError> {
    let inputs = tensors.iter().map(|tensor| (tensor.data_type(), tensor.shape()));
    model.check_inputs(inputs, rows).map_err(|message| invalid(model, message))
}

/// One tensor against its input: FP32 as it is, FP16 widened, pixels and encoded images where the model has them.
fn fit(model: &ServedModel, index: usize, spec: &TensorSpec, tensor: HostTensor) -> Result<HostTensor, ServeError> {
    let pixels = model.pixels.as_ref().filter(|p| p.input == index);
    let shape = tensor.shape();
    match (tensor.data_type(), pixels) {
        (DataType::Fp32, _) if fits(spec, shape) => Ok(tensor),
        (DataType::Fp16, _) if fits(spec, shape) => widen(model, &tensor),
        (DataType::Uint8, Some(p)) if shape.len() == 4 && shape[1..] == [p.height, p.width, p.channels] => Ok(tensor),
        (DataType::Bytes, Some(_)) if matches!(shape, [_] | [_, 1]) => Ok(tensor),
        (data_type, _) => {
            let images = pixels.map_or_else(String::new, |p| {
                format!(", or UINT8[-1, {}, {}, {}], or BYTES[-1] of PNG or JPEG", p.height, p.width, p.channels)
            });
            let (name, takes, got) = (&spec.name, spec_text(spec), tensor_text(data_type, shape));
            Err(invalid(model, format!("takes {takes}{images} as input {name}, got {got}")))
        }
    }
}

fn fits(spec: &TensorSpec, shape: &[usize]) -> bool {
    let extents = spec.shape.iter().zip(shape).skip(1);
    spec.shape.len() == shape.len() && extents.fold(true, |all, (s, d)| all && s.is_none_or(|s| s == *d) && *d > 0)
}

fn widen(model: &ServedModel, tensor: &HostTensor) -> Result<HostTensor, ServeError> {
    let halves: Vec<f16> = tensor.data().as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b)).collect();
    HostTensor::from_f32(tensor.shape().to_vec(), &halves.to_f32_vec()).map_err(|e| invalid(model, e.to_string()))
}

fn names(specs: &[TensorSpec]) -> String {
    specs.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>().join(", ")
}

pub(super) fn invalid(model: &ServedModel, message: String) -> ServeError {
    ServeError::Invalid(format!("model {} {message}", model.name))
}
