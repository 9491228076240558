//! The client port: Open Inference Protocol, and metrics. Nothing here administers the host.

use crate::body::BodyLimits;
use crate::problem::{Problem, errors_as_json, no_such_path, wrong_method};
use crate::{Secret, oip};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bps_node::{Host, ModelControl};
use std::sync::Arc;
use std::time::Duration;
use tower_http::decompression::RequestDecompressionLayer;
use tower_http::limit::RequestBodyLimitLayer;

/// What the client port allows.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// The token that clients must show; none: any client is served. Health endpoints never ask for it.
    pub token: Option<Secret>,
    /// Whether clients may load and unload models.
    pub model_control: ModelControl,
    /// Whether `/metrics` is there.
    pub metrics: bool,
    /// Most bytes of a request's body, as sent and decompressed.
    pub body_bytes_max: usize,
    /// Most bytes of all bodies that are being read or executed. Parsed tensors come on top: at most four times as much,
    /// for FP64 in JSON.
    pub all_bodies_bytes_max: usize,
    /// A body that pauses longer is given up.
    pub body_idle_timeout: Duration,
    /// A body that takes longer in all is given up.
    pub body_timeout: Duration,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            token: None,
            model_control: ModelControl::None,
            metrics: true,
            body_bytes_max: 64 << 20,
            all_bodies_bytes_max: 512 << 20,
            body_idle_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(300),
        }
    }
}

/// What every handler of the client port has.
#[derive(Clone)]
pub(crate) struct ClientApi {
    pub(crate) host: Host,
    pub(crate) config: Arc<ApiConfig>,
    pub(crate) bodies: BodyLimits,
}

/// All routes of the client port.
pub fn client_router(host: Host, config: ApiConfig) -> Router {
    let bodies = BodyLimits::new(
        config.body_bytes_max,
        config.all_bodies_bytes_max,
        config.body_idle_timeout,
        config.body_timeout,
    );
    let body_bytes_max = config.body_bytes_max;
    let with_metrics = config.metrics;
    let api = ClientApi { host, config: Arc::new(config), bodies };
    let mut router = oip::routes();
    if with_metrics {
        router = router.route("/metrics", get(metrics));
    }
    // The last layer is the outermost: it sees a request first and an answer last.
    router
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::disable()) // `BodyLimits` counts what is left after decompression
        .layer(RequestDecompressionLayer::new())
        .layer(RequestBodyLimitLayer::new(body_bytes_max)) // compressed bytes of undeclared length
        .layer(from_fn_with_state(api.bodies.clone(), BodyLimits::check_declared))
        .layer(from_fn_with_state(api.clone(), check_token))
        .layer(map_response(errors_as_json))
        .with_state(api)
}

async fn check_token(State(api): State<ClientApi>, request: Request, next: Next) -> Response {
    let open = request.uri().path().starts_with("/v2/health/");
    match &api.config.token {
        Some(token) if !open && !token.is_in(request.headers()) => {
            Problem::new(StatusCode::UNAUTHORIZED, "this server wants a bearer token").into_response()
        }
        _ => next.run(request).await,
    }
}

async fn metrics(State(api): State<ClientApi>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], api.host.render_metrics())
}

/// Extensions of the protocol that clients know and this server has not get 501, anything else 404.
async fn unknown_path(method: Method, uri: Uri) -> Problem {
    let path = uri.path();
    let extension = ["/v2/systemsharedmemory/", "/v2/cudasharedmemory/", "/v2/trace/", "/v2/logging"];
    if extension.iter().any(|e| path.starts_with(e)) || path.ends_with("/trace/setting") {
        return Problem::new(StatusCode::NOT_IMPLEMENTED, format!("{path}: this extension is not supported"));
    }
    no_such_path(method, uri).await
}
