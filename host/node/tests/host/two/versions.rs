//! A peer of another version: it is refused in words, and the host goes on without it.

use super::stand::{Wish, config, free_port};
use crate::stand::{chaos, device, image, infer, settled, swap, until, values};
use bps_node::Host;
use bps_transport::{Identity, Peer, PeerStore, Quotas, Rights, tls};
use bps_wire::{Hello, VERSIONS, encode_hello};
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Versions that this one does not know.
const LATER: (u16, u16) = (VERSIONS.1 + 6, VERSIONS.1 + 8);

/// Keeps a peer in the store of a folder.
fn pair(folder: &Path, name: &str, of: &Identity, address: Option<String>) {
    let rights = Rights { execute: true, fetch_models: true };
    let peer = Peer { key: of.key(), name: name.into(), address, rights, quotas: Quotas::default() };
    PeerStore::open(folder).expect("a store").put(peer).expect("a peer that can be kept");
}

/// Takes every connection of a paired host, says that it speaks later versions, and ends it.
async fn speak_later_versions(listener: TcpListener, acceptor: TlsAcceptor) {
    let hello = Hello { versions: LATER, name: "server".into(), software: "bps 9".into(), frame_bytes_max: 1 << 20 };
    let hello = encode_hello(&hello).expect("it fits");
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        // Whoever gives up during the handshake comes again.
        let Ok(mut stream) = acceptor.accept(stream).await else { continue };
        let mut theirs = [0; 1_024];
        if matches!(stream.read(&mut theirs).await, Ok(1..)) {
            let _ = stream.write_all(&hello).await;
            let _ = stream.shutdown().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_of_another_version_is_refused_in_words_and_done_without() {
    let folders = [TempDir::new().expect("a folder"), TempDir::new().expect("a folder")];
    let [own, later] = [0, 1].map(|i| Identity::load_or_make(folders[i].path()).expect("an identity"));
    let at = free_port();
    pair(folders[0].path(), "server", &later, Some(at.to_string()));
    pair(folders[1].path(), "edge", &own, None);
    let store = PeerStore::open(folders[1].path()).expect("a store");
    let acceptor = TlsAcceptor::from(Arc::new(tls::server_config(&later, &store).expect("it is sound")));
    let listener = TcpListener::bind(at).await.expect("the port is free");
    let server = tokio::spawn(speak_later_versions(listener, acceptor));

    let mut config = config(&Wish::default(), "edge", folders[0].path());
    config.devices = vec![device("cpu")];
    let edge = Host::start(config).await.expect("the edge starts");
    let whole = values(&infer(&edge, image(3, 5)).await.unwrap());
    let reason = || edge.peers()[0].reason.clone().unwrap_or_default();
    until("the reason is known", || reason().contains("no protocol version in common")).await;
    let versions = format!("speaks {} to {}", LATER.0, LATER.1);
    assert!(reason().contains(&versions) && reason().contains("\"server\""), "{}", reason());
    edge.load_policy(chaos(), "this test".into()).await.expect("chaos loads");
    swap(&edge, "chaos", r#"{"mode":"split","cut":0}"#).await;
    for _ in 0..10 {
        assert_eq!(values(&infer(&edge, image(3, 5)).await.unwrap()), whole);
    }
    let peer = edge.peers().remove(0);
    assert!(!peer.up && !peer.usable && peer.devices.is_empty(), "{peer:?}");
    let ledger = settled(&edge).await;
    assert_eq!((ledger.answered, ledger.failed, ledger.retried), (11, 0, 0), "{ledger:?}");
    server.abort();
}
