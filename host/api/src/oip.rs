//! The Open Inference Protocol v2 over HTTP, with the extensions binary tensors, classification, model configuration,
//! model repository, parameters, schedule policy and statistics.
//!
//! `request` and what stands under it parse without knowing a socket or a host; `infer` is the way of one inference;
//! `server`, `model` and `repository` answer questions.

mod answer;
mod binary;
mod classification;
mod envelope;
mod infer;
mod model;
mod repository;
mod request;
mod server;
mod tensor_json;

pub(crate) use request::RequestError;

use crate::client::ClientApi;
use axum::Router;
use axum::routing::{get, post};

/// Name of the header that says how long the JSON head of a binary request or answer is.
const HEAD_BYTES_HEADER: &str = "inference-header-content-length";

/// Name of the header that says which trace a request is part of: W3C trace context.
const TRACE_HEADER: &str = "traceparent";

/// The protocol's endpoints.
pub(crate) fn routes() -> Router<ClientApi> {
    let mut router = Router::new()
        .route("/v2", get(server::metadata))
        .route("/v2/", get(server::metadata))
        .route("/v2/health/live", get(server::live))
        .route("/v2/health/ready", get(server::ready))
        .route("/v2/models/stats", get(model::all_stats))
        .route("/v2/repository/index", post(repository::index))
        .route("/v2/repository/models/{model}/load", post(repository::load))
        .route("/v2/repository/models/{model}/unload", post(repository::unload));
    for model in ["/v2/models/{model}", "/v2/models/{model}/versions/{version}"] {
        router = router
            .route(model, get(model::metadata))
            .route(&format!("{model}/ready"), get(model::ready))
            .route(&format!("{model}/config"), get(model::config))
            .route(&format!("{model}/stats"), get(model::stats))
            .route(&format!("{model}/infer"), post(infer::infer));
    }
    router
}
