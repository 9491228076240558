//! What the host is doing.

use super::AdminApi;
use crate::problem::Problem;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use bps_node::{DeviceView, IndexEntry, Ledger, OwnPeerView, PeerView, PolicyStatusView, Receipt};
use bps_types::Nanos;
use serde::{Deserialize, Serialize};

/// Receipts in an answer that names no number.
const RECEIPTS_DEFAULT: usize = 100;

#[derive(Serialize)]
pub(super) struct Status {
    version: &'static str,
    ready: bool,
    /// What time it is on the clock of its receipts.
    clock: Nanos,
    policy: PolicyStatusView,
    devices: Vec<DeviceView>,
    models: Vec<IndexEntry>,
    /// This host as others know it; none where it meets no others.
    own_peer: Option<OwnPeerView>,
}

pub(super) async fn status(State(api): State<AdminApi>) -> Json<Status> {
    Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        ready: api.host.is_ready(),
        clock: api.host.clock(),
        policy: api.host.policy_status(),
        devices: api.host.devices(),
        models: api.host.index(),
        own_peer: api.host.own_peer(),
    })
}

pub(super) async fn devices(State(api): State<AdminApi>) -> Json<Vec<DeviceView>> {
    Json(api.host.devices())
}

pub(super) async fn peers(State(api): State<AdminApi>) -> Json<Vec<PeerView>> {
    Json(api.host.peers())
}

/// The ledger, and whether its law holds.
#[derive(Serialize)]
pub(super) struct LedgerView {
    #[serde(flatten)]
    ledger: Ledger,
    holds: bool,
}

pub(super) async fn ledger(State(api): State<AdminApi>) -> Json<LedgerView> {
    let ledger = api.host.ledger();
    Json(LedgerView { ledger, holds: ledger.holds() })
}

#[derive(Deserialize)]
pub(super) struct ReceiptsQuery {
    last: Option<usize>,
}

pub(super) async fn receipts(
    State(api): State<AdminApi>,
    query: Result<Query<ReceiptsQuery>, QueryRejection>,
) -> Result<Json<Vec<Receipt>>, Problem> {
    let Query(query) = query.map_err(|e| Problem::bad_request(e.body_text()))?;
    Ok(Json(api.host.receipts(query.last.unwrap_or(RECEIPTS_DEFAULT))))
}
