//! The way of one inference through the API: body, tensors, [`bps_node::Host::infer`], answer.

use super::answer::{self, Form};
use super::model::ModelPath;
use super::request::{self, InferRequest};
use super::{HEAD_BYTES_HEADER, TRACE_HEADER, binary};
use crate::client::ClientApi;
use crate::problem::Problem;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bps_node::{InferCall, NamedTensor};
use bps_types::Trace;
use bytes::Bytes;

/// A longer body is parsed, and a longer answer written, where it holds up no other connection.
const INLINE_BYTES_MAX: usize = 128 << 10;

pub(super) async fn infer(
    State(api): State<ClientApi>,
    Path(path): Path<ModelPath>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let head_bytes = match headers.get(HEAD_BYTES_HEADER) {
        Some(value) => Some(binary::head_bytes(value.as_bytes()).map_err(|e| Problem::bad_request(e.to_string()))?),
        None => None,
    };
    // The body first: a client that still sends when it is answered may never see the answer.
    let received = api.bodies.read(body).await?;
    api.host.model(&path.model, path.version.as_deref())?;
    let _room = received.room; // until the answer is written
    let request = parse(received.bytes, head_bytes).await?;

    let (call, form) = divide(request, path, trace(&headers));
    let reply = api.host.infer(call).await?;

    let answer_bytes: usize = reply.outputs.iter().map(|o| o.tensor.data().len()).sum();
    off_thread_if(answer_bytes > INLINE_BYTES_MAX, move || answer::write(reply, &form)).await?
}

/// By what the client follows the request. As the W3C has it, what is malformed or sent twice is as good as not sent.
fn trace(headers: &HeaderMap) -> Option<Trace> {
    let mut sent = headers.get_all(TRACE_HEADER).iter();
    sent.next().filter(|_| sent.next().is_none()).and_then(|only| Trace::parse(only.as_bytes()))
}

async fn parse(body: Bytes, head_bytes: Option<usize>) -> Result<InferRequest, Problem> {
    let long = head_bytes.unwrap_or(body.len()) > INLINE_BYTES_MAX;
    Ok(off_thread_if(long, move || request::parse(&body, head_bytes)).await??)
}

async fn off_thread_if<T: Send + 'static>(long: bool, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    if !long {
        return Ok(work());
    }
    let failed = |e| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the request's worker ended: {e}"));
    tokio::task::spawn_blocking(work).await.map_err(failed)
}

/// What the host needs, and what the answer needs.
fn divide(request: InferRequest, path: ModelPath, trace: Option<Trace>) -> (InferCall, Form) {
    let call = InferCall {
        model: path.model,
        version: path.version,
        inputs: request.inputs.into_iter().map(|(name, tensor)| NamedTensor { name, tensor }).collect(),
        outputs: request.outputs.iter().map(|o| o.name.clone()).collect(),
        priority: request.priority,
        timeout: request.timeout,
        constraints: request.constraints,
        trace,
    };
    (call, Form { id: request.id, binary_default: request.binary_default, outputs: request.outputs })
}
