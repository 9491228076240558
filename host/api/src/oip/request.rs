//! From the bytes of an inference request to typed tensors: pure, and safe with any input.
//!
//! **Invariants.** Memory is taken in proportion to the bytes received, never to a length or shape they declare. Every
//! refusal names its place: the position in the JSON, the tensor, the element, the offset.

use super::binary::{self, BinaryError, Sections};
use super::envelope::{Envelope, Input, Output, RequestParameters};
use super::tensor_json::{self, ElementError};
use bps_types::policy::constraint;
use bps_types::{DataType, HostTensor, TensorError, element_count};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::time::Duration;

/// A request's `id` is echoed in its answer; a longer one is refused.
const ID_BYTES_MAX: usize = 1024;

/// An inference request, checked as far as that goes without the model.
#[derive(Debug)]
pub(crate) struct InferRequest {
    pub(crate) id: Option<String>,
    pub(crate) inputs: Vec<(String, HostTensor)>,
    /// Empty: all outputs, in the default form.
    pub(crate) outputs: Vec<WantedOutput>,
    /// Form of the outputs that do not say.
    pub(crate) binary_default: bool,
    pub(crate) priority: Option<u8>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) constraints: u8,
}

/// An output that the client named.
#[derive(Debug)]
pub(crate) struct WantedOutput {
    pub(crate) name: String,
    pub(crate) binary: bool,
    /// Instead of the tensor, its so many greatest elements.
    pub(crate) class_count: Option<usize>,
}

/// What is wrong with a request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// The head is not the JSON that it should be. The parser's words hold line and column.
    #[error("malformed JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Head and raw sections do not fit together.
    #[error(transparent)]
    Binary(#[from] BinaryError),
    /// One of the request's parameters.
    #[error("parameter {name}: {problem}")]
    Parameter { name: &'static str, problem: String },
    /// One of the inputs.
    #[error("input {name:?}: {problem}")]
    Input { name: String, problem: InputError },
    /// One of the outputs.
    #[error("output {name:?}: {problem}")]
    Output { name: String, problem: &'static str },
}

/// What is wrong with one input.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    #[error("unknown datatype {0:?}")]
    DataType(String),
    #[error(transparent)]
    Elements(#[from] ElementError),
    #[error(transparent)]
    Binary(#[from] BinaryError),
    #[error(transparent)]
    Tensor(#[from] TensorError),
    #[error("neither data nor binary_data_size")]
    NoData,
    #[error("both data and binary_data_size")]
    TwiceData,
    #[error("named twice")]
    Twice,
    #[error("shared memory is not supported: send the tensor")]
    SharedMemory,
}

/// Parses a body. `head_bytes` is the value of `Inference-Header-Content-Length`, where there is one.
pub(crate) fn parse(body: &Bytes, head_bytes: Option<usize>) -> Result<InferRequest, RequestError> {
    let (head, mut sections) = Sections::split(body, head_bytes)?;
    let envelope: Envelope<'_> = serde_json::from_slice(&head)?;
    if envelope.id.as_ref().is_some_and(|id| id.len() > ID_BYTES_MAX) {
        return Err(RequestError::Parameter { name: "id", problem: format!("longer than {ID_BYTES_MAX} bytes") });
    }
    let binary_default = envelope.parameters.binary_data_output.unwrap_or(false);
    let (priority, timeout, constraints) = scheduling(&envelope.parameters)?;

    let mut inputs = Vec::with_capacity(envelope.inputs.0.len());
    let mut names = BTreeSet::new();
    for input in &envelope.inputs.0 {
        let named = |problem| RequestError::Input { name: input.name.clone(), problem };
        if !names.insert(&input.name) {
            return Err(named(InputError::Twice));
        }
        let tensor = tensor(input, &mut sections).map_err(named)?;
        inputs.push((input.name.clone(), tensor));
    }
    sections.finish()?;

    let outputs = wanted_outputs(envelope.outputs.0, binary_default)?;
    Ok(InferRequest { id: envelope.id, inputs, outputs, binary_default, priority, timeout, constraints })
}

fn scheduling(parameters: &RequestParameters) -> Result<(Option<u8>, Option<Duration>, u8), RequestError> {
    // Zero means "not said" for both, as it does for the protocol's other servers.
    let priority = match parameters.priority.filter(|&p| p > 0) {
        None => None,
        Some(p) => Some(u8::try_from(p).map_err(|_| {
            let problem = format!("{p} is not in 0..=255");
            RequestError::Parameter { name: "priority", problem }
        })?),
    };
    let timeout = parameters.timeout.filter(|&t| t > 0).map(Duration::from_micros);
    let bit = |set: Option<bool>, bit: u8| if set == Some(true) { bit } else { 0 };
    let constraints =
        bit(parameters.local_only, constraint::LOCAL_ONLY) | bit(parameters.lossless_only, constraint::LOSSLESS_ONLY);
    Ok((priority, timeout, constraints))
}

fn tensor(input: &Input<'_>, sections: &mut Sections) -> Result<HostTensor, InputError> {
    if input.parameters.shared_memory_region.is_some() {
        return Err(InputError::SharedMemory);
    }
    let data_type = DataType::from_name(&input.datatype).ok_or_else(|| InputError::DataType(input.datatype.clone()))?;
    // An extent that does not fit is as good as the greatest: the product is refused.
    let shape: Vec<usize> = input.shape.0.iter().map(|&d| usize::try_from(d).unwrap_or(usize::MAX)).collect();
    let count = element_count(&shape).ok_or_else(|| TensorError::TooLarge(shape.clone()))?;
    let data = match (input.data, input.parameters.binary_data_size) {
        (None, None) => return Err(InputError::NoData),
        (Some(_), Some(_)) => return Err(InputError::TwiceData),
        (Some(json), None) => Bytes::from(tensor_json::decode(data_type, count, json.get())?),
        (None, Some(size)) => {
            let section = sections.take(size)?;
            if data_type == DataType::Bytes {
                binary::check_bytes(&section, count)?;
            }
            section
        }
    };
    Ok(HostTensor::new(data_type, shape, data)?)
}

fn wanted_outputs(outputs: Vec<Output>, binary_default: bool) -> Result<Vec<WantedOutput>, RequestError> {
    let mut names = BTreeSet::new();
    let mut wanted = Vec::with_capacity(outputs.len());
    for output in outputs {
        let Output { name, parameters } = output;
        let problem = if parameters.shared_memory_region.is_some() {
            Some("shared memory is not supported")
        } else if names.insert(name.clone()) {
            None
        } else {
            Some("named twice")
        };
        if let Some(problem) = problem {
            return Err(RequestError::Output { name, problem });
        }
        let binary = parameters.binary_data.unwrap_or(binary_default);
        let class_count =
            parameters.classification.filter(|&n| n > 0).map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        wanted.push(WantedOutput { name, binary, class_count });
    }
    Ok(wanted)
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
