//! Whom TLS lets in: exactly the hosts that are paired, at that moment.

use bps_transport::{Identity, Peer, PeerStore, Quotas, Rights, tls};
use rustls::pki_types::ServerName;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

fn host(folder: &Path, name: &str) -> Identity {
    Identity::load_or_make(&folder.join(name)).unwrap()
}

fn pair(store: &PeerStore, with: &Identity, name: &str) {
    let (rights, quotas) = (Rights::default(), Quotas::default());
    store.put(Peer { key: with.key(), name: name.into(), address: None, rights, quotas }).unwrap();
}

/// Connects, and has a byte go each way: in TLS 1.3 a dialler learns only from the first one whether it was let in.
async fn meet(client: &Arc<rustls::ClientConfig>, server: &Arc<rustls::ServerConfig>) -> bool {
    let (near, far) = tokio::io::duplex(1 << 16);
    let server = server.clone();
    let dialled = tokio::spawn(async move {
        let mut carrier = TlsAcceptor::from(server).accept(far).await.ok()?;
        let key = tls::peer_key(carrier.get_ref().1.peer_certificates()?)?;
        let byte = carrier.read_u8().await.ok()?;
        carrier.write_u8(byte).await.ok()?;
        Some(key)
    });
    let near = async {
        let name = ServerName::try_from("anything.at.all").unwrap();
        let mut carrier = TlsConnector::from(client.clone()).connect(name, near).await.ok()?;
        carrier.write_u8(7).await.ok()?;
        carrier.read_u8().await.ok()
    };
    let (near, far) = (near.await, dialled.await.unwrap());
    assert_eq!(near.is_some(), far.is_some(), "both sides see it alike");
    near.is_some()
}

#[tokio::test]
async fn paired_hosts_meet_and_others_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let (own, friend, stranger) = (host(dir.path(), "a"), host(dir.path(), "b"), host(dir.path(), "c"));
    let store = PeerStore::open(&dir.path().join("a")).unwrap();
    pair(&store, &friend, "friend");
    let server = Arc::new(tls::server_config(&own, &store).unwrap());
    for (who, expecting, meets) in
        [(&friend, &own, true), (&stranger, &own, false), (&friend, &stranger, false), (&own, &own, false)]
    {
        let client = Arc::new(tls::client_config(who, expecting.key()).unwrap());
        assert_eq!(meet(&client, &server).await, meets, "{who:?} expecting {expecting:?}");
    }
}

#[tokio::test]
async fn pairing_and_unpairing_count_from_the_next_connection_on() {
    let dir = tempfile::tempdir().unwrap();
    let (own, friend) = (host(dir.path(), "a"), host(dir.path(), "b"));
    let server = tls::server_config(&own, &PeerStore::open(&dir.path().join("a")).unwrap()).unwrap();
    let server = Arc::new(server);
    let mut client = tls::client_config(&friend, own.key()).unwrap();
    // A dialler that would resume a session if it were given a ticket, and so come in without being looked at.
    client.resumption = rustls::client::Resumption::in_memory_sessions(8);
    let client = Arc::new(client);
    // What `bps pair` and `bps unpair` do, in another process.
    let command = PeerStore::open(&dir.path().join("a")).unwrap();
    assert!(!meet(&client, &server).await);
    pair(&command, &friend, "friend");
    assert!(meet(&client, &server).await);
    assert!(meet(&client, &server).await);
    command.remove("friend").unwrap();
    assert!(!meet(&client, &server).await);
}

#[tokio::test]
async fn a_certificate_without_its_key_is_worth_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (own, friend, thief) = (host(dir.path(), "a"), host(dir.path(), "b"), host(dir.path(), "c"));
    let store = PeerStore::open(&dir.path().join("a")).unwrap();
    pair(&store, &friend, "friend");
    let server = Arc::new(tls::server_config(&own, &store).unwrap());
    // Shows the friend's certificate, signs with its own key.
    let mut client = tls::client_config(&thief, own.key()).unwrap();
    let stolen = client_certificate(&dir.path().join("b"));
    let signing = client_certificate(&dir.path().join("c"));
    let shown = rustls::sign::CertifiedKey::new(stolen.cert.clone(), signing.key.clone());
    client.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(shown));
    assert!(!meet(&Arc::new(client), &server).await);
}

fn client_certificate(folder: &Path) -> rustls::sign::CertifiedKey {
    use rustls::pki_types::pem::PemObject;
    let pem = std::fs::read(folder.join(bps_transport::IDENTITY_FILE)).unwrap();
    let certificate = rustls::pki_types::CertificateDer::from_pem_slice(&pem).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(&pem).unwrap();
    rustls::sign::CertifiedKey::from_der(vec![certificate], key, &rustls::crypto::ring::default_provider()).unwrap()
}

#[tokio::test]
async fn only_tls_1_3_of_this_protocol_is_spoken() {
    let dir = tempfile::tempdir().unwrap();
    let (own, friend) = (host(dir.path(), "a"), host(dir.path(), "b"));
    let store = PeerStore::open(&dir.path().join("a")).unwrap();
    pair(&store, &friend, "friend");
    let server = Arc::new(tls::server_config(&own, &store).unwrap());
    let mut other_protocol = tls::client_config(&friend, own.key()).unwrap();
    other_protocol.alpn_protocols = vec![b"bps-pair/1".to_vec()];
    assert!(!meet(&Arc::new(other_protocol), &server).await);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let old = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    assert!(!meet(&Arc::new(old), &server).await);
}
