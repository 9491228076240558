//! Questions about the server: what it is, and whether it serves.

use crate::client::ClientApi;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

#[derive(Serialize)]
pub(super) struct ServerMetadata {
    name: &'static str,
    version: &'static str,
    extensions: &'static [&'static str],
}

pub(super) async fn metadata() -> Json<ServerMetadata> {
    let extensions = &[
        "binary_tensor_data",
        "classification",
        "model_configuration",
        "model_repository",
        "parameters",
        "schedule_policy",
        "statistics",
    ];
    Json(ServerMetadata { name: "bps", version: env!("CARGO_PKG_VERSION"), extensions })
}

/// One body for both questions: clients of the one family read `live`, of the other `ready`, some both.
#[derive(Serialize)]
struct Health {
    live: bool,
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
}

pub(super) async fn live(State(api): State<ClientApi>) -> Response {
    Json(Health { live: true, ready: api.host.is_ready(), error: None }).into_response()
}

pub(super) async fn ready(State(api): State<ClientApi>) -> Response {
    if api.host.is_ready() {
        return Json(Health { live: true, ready: true, error: None }).into_response();
    }
    let health = Health { live: true, ready: false, error: Some("not ready: stopping, or no device is up") };
    (StatusCode::SERVICE_UNAVAILABLE, Json(health)).into_response()
}
