//! Questions about models: what they take and give, whether they serve, how they are set up, how they did.

use crate::client::ClientApi;
use crate::problem::Problem;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bps_node::{ModelStats, ModelView};
use bps_types::{DataType, TensorSpec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What this server is called where the protocol names format and framework.
const PLATFORM: &str = "onnx_onnxv1";

/// Which model a path names.
#[derive(Deserialize)]
pub(super) struct ModelPath {
    pub(super) model: String,
    #[serde(default)]
    pub(super) version: Option<String>,
}

#[derive(Serialize)]
pub(super) struct ModelMetadata {
    name: String,
    versions: Vec<String>,
    platform: &'static str,
    inputs: Vec<TensorMetadata>,
    outputs: Vec<TensorMetadata>,
}

#[derive(Serialize)]
struct TensorMetadata {
    name: String,
    datatype: DataType,
    shape: Vec<i64>,
}

impl From<TensorSpec> for TensorMetadata {
    fn from(spec: TensorSpec) -> Self {
        Self { name: spec.name, datatype: spec.data_type, shape: extents(&spec.shape) }
    }
}

/// Extents in the protocol's way: -1 where any is taken.
fn extents(shape: &[Option<usize>]) -> Vec<i64> {
    shape.iter().map(|d| d.map_or(-1, |n| i64::try_from(n).unwrap_or(i64::MAX))).collect()
}

pub(super) async fn metadata(
    State(api): State<ClientApi>,
    Path(path): Path<ModelPath>,
) -> Result<Json<ModelMetadata>, Problem> {
    let view = api.host.model(&path.model, path.version.as_deref())?;
    Ok(Json(ModelMetadata {
        name: view.name,
        versions: view.versions,
        platform: PLATFORM,
        inputs: view.inputs.into_iter().map(Into::into).collect(),
        outputs: view.outputs.into_iter().map(Into::into).collect(),
    }))
}

#[derive(Serialize)]
struct ModelReady {
    name: String,
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(super) async fn ready(State(api): State<ClientApi>, Path(path): Path<ModelPath>) -> Result<Response, Problem> {
    let error = match api.host.model(&path.model, path.version.as_deref()) {
        Ok(_) if api.host.is_ready() => None,
        Ok(_) => Some("the server is not ready".to_owned()),
        // A model that is known but cannot serve now is "not ready", not "not found".
        Err(error) => match api.host.index().into_iter().find(|e| e.name == path.model) {
            Some(entry) if path.version.as_ref().is_none_or(|v| *v == entry.version) => Some(error.to_string()),
            _ => return Err(error.into()),
        },
    };
    let status = if error.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, Json(ModelReady { name: path.model, ready: error.is_none(), error })).into_response())
}

#[derive(Serialize)]
pub(super) struct ModelConfig {
    name: String,
    platform: &'static str,
    backend: &'static str,
    max_batch_size: u32,
    input: Vec<TensorConfig>,
    output: Vec<TensorConfig>,
    instance_group: Vec<InstanceGroup>,
    dynamic_batching: DynamicBatching,
    parameters: BTreeMap<&'static str, Parameter>,
}

#[derive(Serialize)]
struct TensorConfig {
    name: String,
    data_type: String,
    dims: Vec<i64>,
}

#[derive(Serialize)]
struct InstanceGroup {
    name: String,
    count: u32,
}

/// There, with nothing to set: policies decide what is batched.
#[derive(Serialize)]
struct DynamicBatching {}

#[derive(Serialize)]
struct Parameter {
    string_value: String,
}

impl From<TensorSpec> for TensorConfig {
    fn from(spec: TensorSpec) -> Self {
        let data_type = match spec.data_type {
            DataType::Bytes => "TYPE_STRING".to_owned(),
            other => format!("TYPE_{other}"),
        };
        // The batch dimension is `max_batch_size`'s business.
        Self { name: spec.name, data_type, dims: extents(spec.shape.get(1..).unwrap_or(&[])) }
    }
}

pub(super) async fn config(
    State(api): State<ClientApi>,
    Path(path): Path<ModelPath>,
) -> Result<Json<ModelConfig>, Problem> {
    let view = api.host.model(&path.model, path.version.as_deref())?;
    let parameters = parameters(&view);
    Ok(Json(ModelConfig {
        name: view.name,
        platform: PLATFORM,
        backend: "bps",
        max_batch_size: view.batch_max,
        input: view.inputs.into_iter().map(Into::into).collect(),
        output: view.outputs.into_iter().map(Into::into).collect(),
        instance_group: view.devices.into_iter().map(|name| InstanceGroup { name, count: 1 }).collect(),
        dynamic_batching: DynamicBatching {},
        parameters,
    }))
}

/// What the protocol has no field for.
fn parameters(view: &ModelView) -> BTreeMap<&'static str, Parameter> {
    let mut values = BTreeMap::from([
        ("digest", view.digest.clone()),
        ("slo_ms", view.slo_ms.to_string()),
        ("priority", view.priority.to_string()),
        ("layer_count", view.layer_count.to_string()),
        ("cut_count", view.cut_count.to_string()),
        ("parameter_count", view.parameter_count.to_string()),
        ("costs", if view.measured { "measured" } else { "estimated" }.to_owned()),
    ]);
    if let Some(image) = &view.image_input {
        let size = format!("{} {}x{}x{}", image.name, image.width, image.height, image.channels);
        values.insert("image_input", size);
    }
    values.into_iter().map(|(name, string_value)| (name, Parameter { string_value })).collect()
}

#[derive(Serialize)]
pub(super) struct Statistics {
    model_stats: Vec<ModelStats>,
}

pub(super) async fn stats(
    State(api): State<ClientApi>,
    Path(path): Path<ModelPath>,
) -> Result<Json<Statistics>, Problem> {
    let model_stats = api.host.model_stats(Some(&path.model), path.version.as_deref())?;
    Ok(Json(Statistics { model_stats }))
}

pub(super) async fn all_stats(State(api): State<ClientApi>) -> Result<Json<Statistics>, Problem> {
    Ok(Json(Statistics { model_stats: api.host.model_stats(None, None)? }))
}
