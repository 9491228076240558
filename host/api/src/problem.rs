//! Answers that are not results: a status, and words in JSON.

use crate::oip::RequestError;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bps_node::{PolicyRejected, ServeError, SwapError};
use serde::Serialize;

/// Longest text of a library's refusal that is passed on.
const TEXT_BYTES_MAX: usize = 4096;

/// Why a request gets no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) error: String,
    /// Admin only: the stage that a policy did not reach.
    pub(crate) stage: Option<String>,
}

#[derive(Serialize)]
struct ProblemBody<'a> {
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<&'a str>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), stage: None }
    }

    pub(crate) fn bad_request(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    fn from_parts(status: u16, error: String, stage: Option<String>) -> Self {
        Self { status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), error, stage }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = axum::Json(ProblemBody { error: &self.error, stage: self.stage.as_deref() });
        let mut response = (self.status, body).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<ServeError> for Problem {
    fn from(error: ServeError) -> Self {
        Self::from_parts(error.status(), error.to_string(), None)
    }
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<PolicyRejected> for Problem {
    fn from(error: PolicyRejected) -> Self {
        SwapError::Rejected(error).into()
    }
}

impl From<SwapError> for Problem {
    fn from(error: SwapError) -> Self {
        Self::from_parts(error.status(), error.to_string(), error.stage().map(str::to_owned))
    }
}

/// Answers a path that does not exist.
pub(crate) async fn no_such_path(method: Method, uri: Uri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("no such endpoint: {method} {}", uri.path()))
}

/// Answers a method that a path does not take.
pub(crate) async fn wrong_method(method: Method, uri: Uri) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not allowed on {}", uri.path()))
}

/// Turns the refusals of libraries, which speak plain text or nothing, into the JSON that clients expect.
pub(crate) async fn errors_as_json(response: Response) -> Response {
    let status = response.status();
    let json = |v: &HeaderValue| v.as_bytes().starts_with(b"application/json");
    let is_error = status.is_client_error() || status.is_server_error();
    if !is_error || response.headers().get(header::CONTENT_TYPE).is_some_and(json) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let text = to_bytes(body, TEXT_BYTES_MAX).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let words = match status {
        StatusCode::UNSUPPORTED_MEDIA_TYPE if text.is_empty() => "Content-Encoding must be gzip, deflate or identity",
        _ if text.is_empty() => status.canonical_reason().unwrap_or("refused"),
        _ => &text,
    };
    let (json, body) = Problem::new(status, words).into_response().into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.extend(json.headers);
    Response::from_parts(parts, Body::new(body))
}
