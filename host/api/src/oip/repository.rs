//! The model repository extension: what is there, and, where it is allowed, loading and unloading.

use super::model::ModelPath;
use crate::client::ClientApi;
use crate::problem::Problem;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use bps_node::{IndexEntry, ModelControl, ModelState};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use std::collections::BTreeMap;

#[derive(Default, Deserialize)]
#[serde(expecting = "a JSON object")]
struct IndexRequest {
    #[serde(default)]
    ready: bool,
}

#[derive(Default, Deserialize)]
#[serde(expecting = "a JSON object")]
struct ControlRequest {
    #[serde(default)]
    parameters: BTreeMap<String, IgnoredAny>,
}

/// The answer is a bare array: that is how the protocol has it.
pub(super) async fn index(State(api): State<ClientApi>, body: Body) -> Result<Json<Vec<IndexEntry>>, Problem> {
    let request: IndexRequest = optional_json(&api, body).await?;
    let mut entries = api.host.index();
    entries.retain(|e| !request.ready || e.state == ModelState::Ready);
    Ok(Json(entries))
}

pub(super) async fn load(
    State(api): State<ClientApi>,
    Path(path): Path<ModelPath>,
    body: Body,
) -> Result<StatusCode, Problem> {
    check_control(&api)?;
    let request: ControlRequest = optional_json(&api, body).await?;
    if let Some(name) = request.parameters.keys().find(|k| *k == "config" || k.starts_with("file:")) {
        let words = format!("parameter {name}: models are loaded from the repository only, as they are");
        return Err(Problem::new(StatusCode::NOT_IMPLEMENTED, words));
    }
    api.host.load_model(&path.model).await?;
    Ok(StatusCode::OK)
}

pub(super) async fn unload(
    State(api): State<ClientApi>,
    Path(path): Path<ModelPath>,
    body: Body,
) -> Result<StatusCode, Problem> {
    check_control(&api)?;
    // `unload_dependents` may stand there; no model depends on another.
    let _: ControlRequest = optional_json(&api, body).await?;
    api.host.unload_model(&path.model).await?;
    Ok(StatusCode::OK)
}

fn check_control(api: &ClientApi) -> Result<(), Problem> {
    match api.config.model_control {
        ModelControl::Explicit => Ok(()),
        ModelControl::None => {
            let words = "loading and unloading is off: the server was not started with --model-control explicit";
            Err(Problem::new(StatusCode::FORBIDDEN, words))
        }
    }
}

async fn optional_json<T: Default + DeserializeOwned>(api: &ClientApi, body: Body) -> Result<T, Problem> {
    let received = api.bodies.read(body).await?;
    if received.bytes.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&received.bytes).map_err(|e| Problem::bad_request(format!("malformed JSON: {e}")))
}
