//! The admin interface: policies, devices, peers, receipts and the ledger of a running host.
//!
//! It has its own listener and is never part of the client port. A caller must show the token. Over TCP it must also come
//! as a program of this machine: `guard` checks `Host` and `Origin`, so that no web page can reach it by a name that
//! resolves to loopback. Over a unix socket the file's mode says so.

mod guard;
mod policies;
mod status;

use crate::Secret;
use crate::body::BodyLimits;
use crate::problem::{errors_as_json, no_such_path, wrong_method};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state, map_response};
use axum::routing::{get, post};
use bps_node::Host;
use std::time::Duration;

/// Most bytes of a policy component. Real ones have less than one.
const UPLOAD_BYTES_MAX: usize = 16 << 20;

/// What every handler has.
#[derive(Clone)]
struct AdminApi {
    host: Host,
    bodies: BodyLimits,
}

/// The admin interface for a TCP listener on loopback.
pub fn admin_router(host: Host, token: Secret) -> Router {
    let router = routes(host).layer(from_fn_with_state(token, guard::check_token));
    router.layer(from_fn(guard::check_local)).layer(map_response(errors_as_json))
}

/// The admin interface for a unix socket: no web page reaches it, so that only the token is asked for.
pub fn admin_unix_router(host: Host, token: Secret) -> Router {
    routes(host).layer(from_fn_with_state(token, guard::check_token)).layer(map_response(errors_as_json))
}

fn routes(host: Host) -> Router {
    // Room for two uploads at once; further ones are told to come again.
    let bodies =
        BodyLimits::new(UPLOAD_BYTES_MAX, 2 * UPLOAD_BYTES_MAX, Duration::from_secs(30), Duration::from_secs(300));
    Router::new()
        .route("/v1/status", get(status::status))
        .route("/v1/devices", get(status::devices))
        .route("/v1/peers", get(status::peers))
        .route("/v1/ledger", get(status::ledger))
        .route("/v1/receipts", get(status::receipts))
        .route("/v1/policies", get(policies::list).post(policies::upload))
        .route("/v1/policy/swap", post(policies::swap))
        .route("/v1/policy/rollback", post(policies::rollback))
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::disable()) // `BodyLimits` counts
        .layer(from_fn_with_state(bodies.clone(), BodyLimits::check_declared))
        .with_state(AdminApi { host, bodies })
}
