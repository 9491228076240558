//! What a host learns of others, what it fetches from them, and what it keeps to itself.

use crate::stand::{digits, image, until};
use bps_node::{
    Host, HostConfig, InferCall, NamedTensor, PeerView, PeersConfig, ProfileChoice, ServeError, SharedModel,
};
use bps_transport::{CarrierChoice, Identity, Peer, PeerStore, Quotas, Rights};
use std::path::Path;
use tempfile::TempDir;

const EVERYTHING: Rights = Rights { execute: true, fetch_models: true };

/// Two paired hosts; the second dials the first.
struct Pair {
    folders: [TempDir; 2],
    origin: Host,
    helper: Host,
}

impl Pair {
    async fn start(manifest: &str, rights: Rights, disk_bytes_max: u64) -> Self {
        let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
        let keys = [0, 1].map(|i: usize| Identity::load_or_make(folders[i].path()).unwrap().key());
        let keep = |index: usize, name: &str, key, address, rights| {
            let peer = Peer { key, name: name.into(), address, rights, quotas: Quotas::default() };
            PeerStore::open(folders[index].path()).unwrap().put(peer).unwrap();
        };
        keep(0, "helper", keys[1], None, rights);
        let mut config = config("origin", folders[0].path());
        config.builtin_models = vec![digits("digits", manifest)];
        config.peers.as_mut().unwrap().listen = Some("127.0.0.1:0".parse().unwrap());
        let origin = Host::start(config).await.unwrap();
        keep(1, "origin", keys[0], origin.own_peer().unwrap().listening, EVERYTHING);
        let helper = start_helper(folders[1].path(), disk_bytes_max).await;
        Self { folders, origin, helper }
    }

    /// What the helper knows of the origin.
    fn seen(&self) -> PeerView {
        self.helper.peers().remove(0)
    }

    async fn linked(&self) {
        until("both know each other", || {
            self.origin.peers()[0].usable && self.helper.peers()[0].usable && self.seen().grants.is_some()
        })
        .await;
    }
}

fn config(name: &str, folder: &Path) -> HostConfig {
    HostConfig {
        devices: vec!["cpu".parse().unwrap()],
        state_dir: Some(folder.to_owned()),
        profile: ProfileChoice::Off,
        peers: Some(PeersConfig { name: name.into(), carrier: CarrierChoice::Tcp, ..PeersConfig::default() }),
        ..HostConfig::default()
    }
}

async fn start_helper(folder: &Path, disk_bytes_max: u64) -> Host {
    let mut config = config("helper", folder);
    config.peers.as_mut().unwrap().disk_bytes_max = disk_bytes_max;
    Host::start(config).await.unwrap()
}

fn kept(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder.join("fetched"));
    entries.into_iter().flatten().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

async fn end(hosts: [&Host; 2]) {
    for host in hosts {
        host.drain().await;
        assert!(host.ledger().holds());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_fetched_kept_and_not_shown_to_clients() {
    let pair = Pair::start("batch_max = 7", EVERYTHING, 1 << 30).await;
    let fetched = |host: &Host| host.peers()[0].models.iter().any(|m| m.shared == SharedModel::Fetched);
    until("the helper has it", || fetched(&pair.helper)).await;
    until("the origin may use the helper", || pair.origin.peers()[0].models_shared == ["digits"]).await;
    let digest = pair.origin.model("digits", None).unwrap().digest;
    assert_eq!(kept(pair.folders[1].path()), std::slice::from_ref(&digest));
    let manifest = pair.folders[1].path().join("fetched").join(&digest).join("model.toml");
    assert!(std::fs::read_to_string(manifest).unwrap().contains("batch_max = 7"), "with its owner's settings");

    assert_eq!(pair.helper.index(), []);
    let tensor = NamedTensor { name: "x".into(), tensor: image(1, 1) };
    let call = InferCall { model: "digits".into(), inputs: vec![tensor], ..InferCall::default() };
    assert!(matches!(pair.helper.infer(call).await, Err(ServeError::NotFound(_))));
    let devices: Vec<u32> = pair.origin.peers()[0].devices.iter().filter_map(|d| d.id).collect();
    assert_eq!(devices, [1], "after the origin's own one");
    let metrics = pair.origin.render_metrics();
    assert!(metrics.contains("bps_peer_up{peer=\"helper\""), "{metrics}");

    let file_bytes = pair.seen().models[0].file_bytes;
    pair.helper.drain().await;
    until("the origin has noticed", || !pair.origin.peers()[0].up).await;
    assert!(pair.origin.peers()[0].reason.is_some());
    let again = start_helper(pair.folders[1].path(), 1 << 30).await;
    until("it is served again", || fetched(&again)).await;
    assert!(again.peers()[0].received_bytes < file_bytes, "it was not fetched again");
    end([&pair.origin, &again]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_fetched_is_not() {
    let cases = [
        ("exportable = false", EVERYTHING, 1 << 30),
        ("[placement]\nlocal_only = true", EVERYTHING, 1 << 30),
        ("", Rights { execute: true, fetch_models: false }, 1 << 30),
        ("", EVERYTHING, 1_000),
    ];
    for (manifest, rights, disk_bytes_max) in cases {
        let pair = Pair::start(manifest, rights, disk_bytes_max).await;
        pair.linked().await;
        tokio::time::sleep(std::time::Duration::from_millis(600)).await; // it looks four times a second
        let seen = pair.seen();
        assert_eq!(seen.models[0].shared, SharedModel::Absent, "{manifest:?} {rights}");
        assert_eq!(seen.models[0].exportable, disk_bytes_max == 1_000, "{manifest:?} {rights}");
        assert!(kept(pair.folders[1].path()).is_empty(), "{manifest:?} {rights}");
        end([&pair.origin, &pair.helper]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_are_taken_back_are_gone_at_once() {
    let pair = Pair::start("", EVERYTHING, 1 << 30).await;
    pair.linked().await;
    let window = |pair: &Pair| pair.helper.peers().first().and_then(|p| p.grants.map(|g| g.window));
    assert_eq!(window(&pair), Some(4));
    let store = PeerStore::open(pair.folders[0].path()).unwrap();
    let mut peer = store.list().remove(0);
    peer.rights = Rights { execute: false, fetch_models: true };
    store.put(peer).unwrap();
    until("the helper hears of it", || window(&pair) == Some(0)).await;
    assert!(pair.seen().devices.is_empty() && !pair.origin.peers()[0].may.execute);
    store.remove("helper").unwrap();
    until("the origin has forgotten it", || pair.origin.peers().is_empty()).await;
    until("the session is over", || !pair.seen().up).await;
    end([&pair.origin, &pair.helper]).await;
}
