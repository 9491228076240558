//! What `bps serve` says when it is ready: where it is, what it has, and a line to try.

use super::start::Addresses;
use crate::admin::DEFAULT_ADMIN;
use crate::config::Settings;
use crate::state;
use crate::table::{bytes, clean, short};
use bps_node::{Host, IndexEntry, ModelState, ModelView, OwnPeerView, PeerView};
use std::path::Path;

/// An input with more elements makes no command line.
const CURL_ELEMENTS_MAX: usize = 64;

/// The page.
pub(super) fn text(
    host: &Host,
    settings: &Settings,
    addresses: &Addresses,
    config_file: Option<&Path>,
    token_file: &Path,
) -> String {
    let scheme = if settings.tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}", addresses.client);
    let status = host.policy_status();
    let mut lines = vec![format!("bps {} is serving", env!("CARGO_PKG_VERSION"))];
    let mut line = |word: &str, rest: String| lines.push(format!("  {word:<9}{rest}"));
    let guard = if settings.token_file.is_some() { ", token required" } else { "" };
    line("clients", format!("{url}  (Open Inference Protocol v2{guard})"));
    line("admin", format!("{}  (token in {})", addresses.admin, token_file.display()));
    if let Some(path) = config_file {
        line("config", path.display().to_string());
    }
    let active = &status.active;
    line("policy", clean(&format!("{} {} ({})", active.name, active.version, short(&active.digest))));
    if let Some(folder) = &settings.policies_dir {
        let use_it = if settings.activate_on_drop { "active at once" } else { "available for `bps policy swap`" };
        line("watching", format!("{} (a component dropped there becomes {use_it})", folder.display()));
    }
    for device in host.devices() {
        let memory = device.memory_bytes.map(|b| format!(", {}", bytes(b))).unwrap_or_default();
        let slowdown = if device.slowdown == 1.0 { String::new() } else { format!(", slowed {}x", device.slowdown) };
        line(
            "device",
            clean(&format!("{} ({}{memory}{slowdown}) {}", device.name, device.kind.name(), device.fingerprint)),
        );
    }
    let index = host.index();
    index.iter().for_each(|entry| line("model", model_line(host, entry)));
    if let Some(own) = host.own_peer() {
        line("hosts", clean(&others_line(&own, &host.peers())));
    }
    let ready: Vec<ModelView> = index.iter().filter_map(|e| host.model(&e.name, Some(&e.version)).ok()).collect();
    lines.push("try".into());
    let curl = match &settings.tls {
        Some((cert, _)) => format!("curl --cacert {}", cert.display()),
        None => "curl".into(),
    };
    lines.extend(ready.first().map_or_else(|| vec![format!("  {curl} {url}/v2")], |model| tries(model, &url, &curl)));
    lines.push(format!("  bps policy list{}", admin_options(&addresses.admin.to_string(), token_file)));
    lines.join("\n")
}

/// What commands need to be told to find this host's admin interface and to be let in.
fn admin_options(admin: &str, token_file: &Path) -> String {
    let mut options = String::new();
    if admin != format!("http://{DEFAULT_ADMIN}") {
        options.push_str(&format!(" --admin {admin}"));
    }
    if state::default_token_file().as_deref() != Some(token_file) {
        options.push_str(&format!(" --admin-token-file {}", token_file.display()));
    }
    options
}

/// Who this host is to others, and who they are.
fn others_line(own: &OwnPeerView, peers: &[PeerView]) -> String {
    let place = match &own.listening {
        Some(address) => format!("met at {address}"),
        None if peers.is_empty() => "waits for the first pairing".into(),
        None => "meets others where they listen".into(),
    };
    let names: Vec<&str> = peers.iter().map(|p| p.name.as_str()).collect();
    let paired = if names.is_empty() { "none, see bps help pair".into() } else { names.join(", ") };
    format!("{} {} ({place}); paired: {paired}", own.name, own.fingerprint.get(..16).unwrap_or_default())
}

fn model_line(host: &Host, entry: &IndexEntry) -> String {
    let place = clean(&format!("{} version {}", entry.name, entry.version));
    match host.model(&entry.name, Some(&entry.version)) {
        Ok(view) if entry.state == ModelState::Ready => {
            let costs = if view.measured { "costs measured" } else { "costs estimated" };
            format!(
                "{place}: {} layers, {} parameters, {costs}",
                view.layer_count,
                crate::table::count(view.parameter_count)
            )
        }
        _ => format!("{place}: NOT SERVED, {}", clean(&entry.reason)),
    }
}

/// Commands that work as they stand.
fn tries(model: &ModelView, url: &str, curl: &str) -> Vec<String> {
    let name = &model.name;
    let mut lines = Vec::new();
    // This program's own client speaks plain HTTP only.
    if model.image_input.is_some() && url.starts_with("http://") {
        lines.push(format!("  bps infer --url {url} --model {name} --input picture.png"));
    }
    match curl_body(model) {
        Some(body) => lines.push(format!("  {curl} {url}/v2/models/{name}/infer -d '{body}'")),
        None => lines.push(format!("  {curl} {url}/v2/models/{name}")),
    }
    lines
}

/// A request of one row of zeros, where that is short and the shape is known.
fn curl_body(model: &ModelView) -> Option<String> {
    let [input] = model.inputs.as_slice() else { return None };
    let mut shape = vec![1usize];
    for extent in input.shape.get(1..)? {
        shape.push((*extent)?);
    }
    let count = bps_types::element_count(&shape).filter(|n| *n <= CURL_ELEMENTS_MAX)?;
    let tensor = serde_json::json!({
        "name": input.name, "shape": shape, "datatype": input.data_type.name(), "data": vec![0; count],
    });
    let plain = !input.name.contains('\'');
    plain.then(|| serde_json::json!({ "inputs": [tensor] }).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bps_types::{DataType, TensorSpec};

    fn view(shape: Vec<Option<usize>>) -> ModelView {
        ModelView {
            name: "m".into(),
            version: "1".into(),
            versions: vec!["1".into()],
            inputs: vec![TensorSpec { name: "x".into(), data_type: DataType::Fp32, shape }],
            outputs: vec![],
            image_input: None,
            batch_max: 1,
            slo_ms: 0.0,
            priority: 0,
            digest: String::new(),
            layer_count: 1,
            cut_count: 2,
            parameter_count: 1,
            devices: vec![],
            measured: false,
        }
    }

    #[test]
    fn other_hosts_are_said_in_one_line() {
        let mut own =
            OwnPeerView { name: "edge".into(), fingerprint: "ab".repeat(32), listening: Some("0.0.0.0:7860".into()) };
        let said = others_line(&own, &[]);
        assert_eq!(said, "edge abababababababab (met at 0.0.0.0:7860); paired: none, see bps help pair");
        own.listening = None;
        assert!(others_line(&own, &[]).contains("(waits for the first pairing)"));
    }

    #[test]
    fn a_host_elsewhere_says_how_it_is_reached() {
        let said = admin_options("http://127.0.0.1:8011", Path::new("two/admin-token"));
        assert_eq!(said, " --admin http://127.0.0.1:8011 --admin-token-file two/admin-token");
        if let Some(home) = state::default_token_file() {
            assert_eq!(admin_options(&format!("http://{DEFAULT_ADMIN}"), &home), "");
        }
    }

    #[test]
    fn small_inputs_get_a_whole_command() {
        let lines = tries(&view(vec![None, Some(2)]), "http://a:1", "curl");
        assert!(lines[0].starts_with("  curl http://a:1/v2/models/m/infer -d '{"), "{lines:?}");
        assert!(lines[0].contains(r#""data":[0,0]"#) && lines[0].contains(r#""shape":[1,2]"#), "{lines:?}");
    }

    #[test]
    fn large_or_unknown_inputs_get_a_question() {
        for shape in [vec![None, Some(3), Some(224), Some(224)], vec![None, None]] {
            assert_eq!(tries(&view(shape), "http://a:1", "curl"), ["  curl http://a:1/v2/models/m"]);
        }
    }
}
