//! `bps peers`: the hosts paired with a running one, how the links to them do, and what they have.

use crate::admin::AdminArgs;
use crate::output::Output;
use crate::table::{self, Table, clean};
use anyhow::Result;
use hyper::Method;
use serde::Deserialize;
use serde_json::Value;

const TEACH: &str = "\
One line a host. `may here` is what it was granted when it was paired, `lets us` what it grants this host: to execute stages
(how many dispatches at once on each of its devices) and to fetch models, while it has any that may be fetched. A model that is `same` can be split with that host;
`fetched` came from it and serves its stages; `other cuts, whole only` means that the two hosts run versions of bps which
number the model's layers differently: splits are refused, whole models are sent. `calibrations differ`: FF uses none
anywhere while two hosts differ; the model's .ff file of one copied beside the model of the other brings it back.
`clock offset` is that host's own clock less this host's. Each counts from about when its process began, so it says which of the
two was started earlier (+: that host), not that one is wrong; with it times in receipts of both are laid on one line.

The second table lists its devices under the numbers that policies and receipts use. `bps pair` adds a host, `bps unpair`
removes one; both take effect in a running host within a second.";

/// Show the hosts that a running host is paired with.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = format!("{TEACH}\n\n{}", crate::exit::EXIT_CODES))]
pub(crate) struct PeersArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

/// What the tables show of a peer; the JSON shows all of it.
#[derive(Debug, Deserialize)]
struct PeerRow {
    name: String,
    fingerprint: String,
    up: bool,
    usable: bool,
    since_seconds: Option<f64>,
    reason: Option<String>,
    carrier: Option<String>,
    rtt_ns: Option<u64>,
    bytes_per_second: Option<f32>,
    backlog_bytes: Option<u64>,
    clock_offset_ns: Option<i64>,
    may: May,
    grants: Option<Grants>,
    devices: Vec<DeviceRow>,
    models: Vec<ModelRow>,
}

#[derive(Debug, Deserialize)]
struct May {
    execute: bool,
    fetch_models: bool,
    window: u32,
}

#[derive(Debug, Deserialize)]
struct Grants {
    window: u32,
    exportable_models: usize,
}

#[derive(Debug, Deserialize)]
struct DeviceRow {
    id: Option<u32>,
    name: String,
    kind: String,
    up: Option<bool>,
    backlog_ns: Option<u64>,
    running: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct ModelRow {
    name: String,
    shared: String,
    #[serde(default)]
    same_calibration: Option<bool>,
    file_bytes: u64,
    fetching_bytes: Option<u64>,
}

/// Asks and shows.
pub(crate) async fn run(args: PeersArgs, out: Output) -> Result<()> {
    let client = args.admin.client()?;
    let answer = client.json(Method::GET, "/v1/peers", None).await?;
    out.emit(&answer, text)
}

fn text(list: &Value) -> String {
    let peers: Vec<PeerRow> = match Vec::deserialize(list) {
        Ok(peers) => peers,
        // A newer host may say it differently; what it says is still better than nothing.
        Err(_) => return list.to_string(),
    };
    if peers.is_empty() {
        return "no host is paired with this one: see `bps help pair`".into();
    }
    let mut hosts = Table::new(&[
        "peer",
        "fingerprint",
        "link",
        ">rtt",
        ">goodput",
        ">backlog",
        ">clock offset",
        "may here",
        "lets us",
        "models",
    ]);
    let mut devices = Table::new(&["peer", ">device", "name", "kind", "state", ">backlog", ">running"]);
    for peer in &peers {
        hosts.row(host(peer));
        for found in &peer.devices {
            devices.row(device(peer, found));
        }
    }
    let mut text = hosts.to_string();
    if peers.iter().any(|p| !p.devices.is_empty()) {
        text.push('\n');
        text.push_str(&devices.to_string());
    }
    for peer in &peers {
        if let Some(reason) = peer.reason.as_ref().filter(|_| !peer.up) {
            text.push_str(&format!("\n{}: {}", clean(&peer.name), clean(reason)));
        }
    }
    text
}

fn host(peer: &PeerRow) -> [String; 10] {
    let dash = || "-".to_owned();
    [
        peer.name.clone(),
        peer.fingerprint.get(..16).unwrap_or_default().to_owned(),
        link(peer),
        peer.rtt_ns.map_or_else(dash, table::nanos),
        peer.bytes_per_second.map_or_else(dash, |rate| format!("{:.1} Mbit/s", f64::from(rate) * 8.0 / 1e6)),
        peer.backlog_bytes.map_or_else(dash, table::bytes),
        peer.clock_offset_ns.map_or_else(dash, |offset| {
            format!("{}{}", if offset < 0 { '-' } else { '+' }, table::nanos(offset.unsigned_abs()))
        }),
        rights(peer.may.execute.then_some(peer.may.window), peer.may.fetch_models),
        peer.grants.as_ref().map_or_else(dash, |g| rights((g.window > 0).then_some(g.window), g.exportable_models > 0)),
        models(&peer.models),
    ]
}

fn link(peer: &PeerRow) -> String {
    let since = peer.since_seconds.map(|s| format!(" for {s:.0} s")).unwrap_or_default();
    match (&peer.carrier, peer.up, peer.usable) {
        (Some(carrier), true, true) => format!("{carrier}{since}"),
        (Some(carrier), true, false) => format!("{carrier}, getting to know it"),
        (None, true, _) => format!("up{since}"),
        (_, false, _) if peer.since_seconds.is_some() => format!("DOWN{since}"),
        (_, false, _) => "never up".into(),
    }
}

fn rights(window: Option<u32>, fetch: bool) -> String {
    match (window, fetch) {
        (Some(window), true) => format!("execute {window}, models"),
        (Some(window), false) => format!("execute {window}"),
        (None, true) => "models".into(),
        (None, false) => "nothing".into(),
    }
}

fn models(models: &[ModelRow]) -> String {
    let one = |m: &ModelRow| {
        let state = match (m.shared.as_str(), m.fetching_bytes) {
            (_, Some(bytes)) => format!("fetching {}", table::percent(bytes as f64 / m.file_bytes.max(1) as f64)),
            ("own", None) => "same".into(),
            ("fetched", None) => "fetched".into(),
            ("other-cuts", None) => "other cuts, whole only".into(),
            (_, None) => "not here".into(),
        };
        let differ = if m.same_calibration == Some(false) { ", calibrations differ" } else { "" };
        format!("{} ({state}{differ})", m.name)
    };
    if models.is_empty() { "-".into() } else { models.iter().map(one).collect::<Vec<_>>().join(", ") }
}

fn device(peer: &PeerRow, device: &DeviceRow) -> [String; 7] {
    let dash = || "-".to_owned();
    [
        peer.name.clone(),
        device.id.map_or_else(dash, |id| id.to_string()),
        device.name.clone(),
        device.kind.clone(),
        device.up.map_or_else(dash, |up| if up { "up" } else { "down" }.to_owned()),
        device.backlog_ns.map_or_else(dash, table::nanos),
        device.running.map_or_else(dash, |n| n.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use bps_node::{PeerDeviceView, PeerGrants, PeerModelView, PeerRights, PeerView, SharedModel};
    use bps_types::policy::DeviceKind;

    fn view() -> PeerView {
        let device = PeerDeviceView {
            id: Some(3),
            name: "gpu:0".into(),
            kind: DeviceKind::Gpu,
            up: Some(true),
            backlog_ns: Some(2_000_000),
            running: Some(1),
        };
        let model = |name: &str, shared, fetching_bytes| PeerModelView {
            name: name.into(),
            digest: "ab".repeat(32),
            shared,
            same_calibration: Some(name != "c"),
            exportable: true,
            file_bytes: 200,
            fetching_bytes,
        };
        PeerView {
            name: "strong".into(),
            fingerprint: "0123456789abcdef".repeat(4),
            host: Some(1),
            up: true,
            usable: true,
            since_seconds: Some(12.3),
            reason: None,
            carrier: Some("quic".into()),
            address: None,
            rtt_ns: Some(1_500_000),
            bytes_per_second: Some(1.25e7),
            backlog_bytes: Some(2048),
            clock_offset_ns: Some(-1_500),
            sent_bytes: 1,
            received_bytes: 2,
            may: PeerRights { execute: false, fetch_models: true, window: 4, bytes_max: 1 },
            grants: Some(PeerGrants { window: 4, exportable_models: 0 }),
            devices: vec![device],
            models: vec![
                model("a", SharedModel::Own, None),
                model("b", SharedModel::Absent, Some(50)),
                model("c", SharedModel::OtherCuts, None),
            ],
            models_shared: vec!["a".into()],
        }
    }

    #[test]
    fn a_peer_of_this_host_is_shown() {
        let text = text(&serde_json::to_value([view()]).unwrap());
        for part in [
            "strong",
            "0123456789abcdef",
            "quic for 12 s",
            "1.50 ms",
            "100.0 Mbit/s",
            "2.0 KiB",
            "-1.5 µs",
            "models",
            "execute 4",
            "a (same), b (fetching 25.0 %), c (other cuts, whole only, calibrations differ)",
            "gpu:0",
            "2.00 ms",
        ] {
            assert!(text.contains(part), "{text} lacks {part:?}");
        }
    }

    #[test]
    fn one_that_is_away_says_why() {
        let away = PeerView {
            up: false,
            usable: false,
            carrier: None,
            reason: Some("connection refused\u{1b}[2J".into()),
            rtt_ns: None,
            grants: None,
            ..view()
        };
        let text = text(&serde_json::to_value([away]).unwrap());
        assert!(text.contains("DOWN for 12 s") && text.contains("strong: connection refused\\u{1b}[2J"), "{text}");
    }

    #[test]
    fn no_peers_and_strange_peers() {
        assert!(text(&serde_json::json!([])).contains("bps help pair"));
        assert_eq!(text(&serde_json::json!([{"new": 1}])), r#"[{"new":1}]"#);
    }
}
