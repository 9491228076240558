//! Answers of inferences: JSON, or a JSON head and raw tensors.

use super::request::WantedOutput;
use super::tensor_json::Elements;
use super::{HEAD_BYTES_HEADER, classification};
use crate::problem::Problem;
use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::Response;
use bps_node::{InferReply, NamedTensor, Timings};
use bps_types::DataType;
use serde::Serialize;

/// How the client wants its answer.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) id: Option<String>,
    pub(super) binary_default: bool,
    pub(super) outputs: Vec<WantedOutput>,
}

#[derive(Serialize)]
struct Head<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    outputs: Vec<OutputHead<'a>>,
}

#[derive(Serialize)]
struct OutputHead<'a> {
    name: &'a str,
    datatype: DataType,
    shape: &'a [usize],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<OutputParameters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Elements<'a>>,
}

#[derive(Serialize)]
struct OutputParameters {
    binary_data_size: usize,
}

/// Writes the answer.
pub(super) fn write(reply: InferReply, form: &Form) -> Result<Response, Problem> {
    let mut outputs = Vec::with_capacity(reply.outputs.len());
    for output in reply.outputs {
        outputs.push(shaped(output, form)?);
    }
    let heads = outputs.iter().map(|(output, binary)| OutputHead {
        name: &output.name,
        datatype: output.tensor.data_type(),
        shape: output.tensor.shape(),
        parameters: binary.then(|| OutputParameters { binary_data_size: output.tensor.data().len() }),
        data: (!binary).then_some(Elements(&output.tensor)),
    });
    let head = Head {
        model_name: &reply.model,
        model_version: &reply.version,
        id: form.id.as_deref(),
        outputs: heads.collect(),
    };
    let mut body = serde_json::to_vec(&head).map_err(|e| Problem::bad_request(format!("the result: {e}")))?;

    let mut response = Response::builder().header("server-timing", server_timing(&reply.timings));
    if outputs.iter().any(|(_, binary)| *binary) {
        response = response.header(HEAD_BYTES_HEADER, body.len());
        response = response.header(header::CONTENT_TYPE, "application/octet-stream");
        for (output, _) in outputs.iter().filter(|(_, binary)| *binary) {
            body.extend_from_slice(output.tensor.data());
        }
    } else {
        response = response.header(header::CONTENT_TYPE, "application/json");
    }
    let failed = |e| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the answer's headers: {e}"));
    response.body(Body::from(body)).map_err(failed)
}

/// The output as the client wants it, and whether in binary.
fn shaped(output: NamedTensor, form: &Form) -> Result<(NamedTensor, bool), Problem> {
    let wanted = form.outputs.iter().find(|w| w.name == output.name);
    let binary = wanted.map_or(form.binary_default, |w| w.binary);
    let named = |words: String| Problem::bad_request(format!("output {:?}: {words}", output.name));
    if let Some(count) = wanted.and_then(|w| w.class_count) {
        let tensor = classification::greatest(&output.tensor, count).map_err(|e| named(e.to_string()))?;
        return Ok((NamedTensor { tensor, ..output }, binary));
    }
    if !binary && matches!(output.tensor.data_type(), DataType::Fp16 | DataType::Bf16) {
        return Err(named(format!("{} travels only as binary: ask for binary_data", output.tensor.data_type())));
    }
    Ok((output, binary))
}

/// Where the time went, in the header that browsers and proxies know. Milliseconds.
fn server_timing(timings: &Timings) -> String {
    format!(
        "queue;dur={:.3}, compute;dur={:.3}, total;dur={:.3}",
        timings.wait.as_millis_f64(),
        timings.compute.as_millis_f64(),
        timings.total.as_millis_f64()
    )
}
