//! Two hosts pair over loopback, and those who should not, do not.

use bps_transport::pairing::{Code, Invitation, Paired, PairingError, Refusal, Terms, join};
use bps_transport::{Identity, Peer, PeerStore, Quotas, Rights};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const WAIT: Duration = Duration::from_secs(30);
const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const ALPN: &[u8] = b"bps-pair/1";

/// A host with a state folder of its own.
struct End {
    identity: Identity,
    store: PeerStore,
    terms: Terms,
    folder: TempDir,
}

impl End {
    fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let terms = Terms {
            name: name.into(),
            peer_port: Some(7860),
            rights: Rights { execute: true, fetch_models: true },
            quotas: Quotas::default(),
        };
        Self {
            identity: Identity::load_or_make(folder.path()).unwrap(),
            store: PeerStore::open(folder.path()).unwrap(),
            terms,
            folder,
        }
    }

    async fn invite(&self) -> Invitation {
        Invitation::open(self.identity.clone(), self.store.clone(), self.terms.clone(), ANY).await.unwrap()
    }

    async fn join(&self, at: SocketAddr, code: &Code) -> Result<Paired, PairingError> {
        let own = (self.identity.clone(), self.store.clone(), self.terms.clone());
        join(own.0, own.1, own.2, &at.ip().to_string(), at.port(), code.clone()).await
    }

    /// What a program started later would know.
    fn kept(&self) -> Vec<Peer> {
        PeerStore::open(self.folder.path()).unwrap().list()
    }
}

fn other_code(code: &Code) -> Code {
    let text = code.to_string();
    let last = if text.ends_with('0') { "1" } else { "0" };
    format!("{}{last}", &text[..text.len() - 1]).parse().unwrap()
}

#[tokio::test]
async fn two_hosts_know_each_other_afterwards() {
    let (mut host, mut guest) = (End::new("strong one"), End::new("edge"));
    host.terms.rights = Rights { execute: true, fetch_models: false };
    host.terms.quotas = Quotas { window: 3, bytes_max: 1 << 20 };
    guest.terms.peer_port = Some(9999);
    let invitation = host.invite().await;
    let (at, code) = (invitation.address(), invitation.code().clone());
    let (by_host, by_guest) = tokio::join!(invitation.wait(WAIT), guest.join(at, &code));
    let (by_host, by_guest) = (by_host.unwrap(), by_guest.unwrap());
    let guest_there = Peer {
        key: guest.identity.key(),
        name: "edge".into(),
        address: Some("127.0.0.1:9999".into()),
        rights: Rights { execute: true, fetch_models: false },
        quotas: Quotas { window: 3, bytes_max: 1 << 20 },
    };
    let host_there = Peer {
        key: host.identity.key(),
        name: "strong one".into(),
        address: Some("127.0.0.1:7860".into()),
        rights: guest.terms.rights,
        quotas: guest.terms.quotas,
    };
    assert_eq!(by_host, Paired { peer: guest_there.clone(), granted: guest.terms.rights });
    assert_eq!(by_guest, Paired { peer: host_there.clone(), granted: host.terms.rights });
    assert_eq!((host.kept(), guest.kept()), (vec![guest_there], vec![host_there]));
    assert!(matches!(guest.join(at, &code).await, Err(PairingError::Connect { .. })), "nobody waits any more");
}

#[tokio::test]
async fn whoever_listens_nowhere_has_no_address() {
    let (host, mut guest) = (End::new("a"), End::new("b"));
    guest.terms.peer_port = None;
    let invitation = host.invite().await;
    let (at, code) = (invitation.address(), invitation.code().clone());
    let (by_host, by_guest) = tokio::join!(invitation.wait(WAIT), guest.join(at, &code));
    assert_eq!(by_host.unwrap().peer.address, None);
    assert!(by_guest.unwrap().peer.address.is_some());
}

#[tokio::test]
async fn a_wrong_code_is_refused_and_the_right_one_still_works() {
    let (host, guest) = (End::new("a"), End::new("b"));
    let invitation = host.invite().await;
    let (at, code) = (invitation.address(), invitation.code().clone());
    let waiting = tokio::spawn(invitation.wait(WAIT));
    let error = guest.join(at, &other_code(&code)).await.unwrap_err();
    assert!(matches!(error, PairingError::Refused(Refusal::WrongCode { tries_left: 4 })), "{error}");
    assert!(guest.kept().is_empty() && host.kept().is_empty());
    guest.join(at, &code).await.unwrap();
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn five_wrong_codes_end_it() {
    let (host, guest) = (End::new("a"), End::new("b"));
    let invitation = host.invite().await;
    let (at, code) = (invitation.address(), invitation.code().clone());
    let waiting = tokio::spawn(invitation.wait(WAIT));
    for _ in 0..5 {
        assert!(guest.join(at, &other_code(&code)).await.is_err());
    }
    assert!(matches!(waiting.await.unwrap(), Err(PairingError::TooManyTries)));
    assert!(guest.join(at, &code).await.is_err());
    assert!(guest.kept().is_empty() && host.kept().is_empty());
}

#[tokio::test]
async fn a_host_that_dials_itself_is_told_so() {
    let host = End::new("a");
    let invitation = host.invite().await;
    let (at, code) = (invitation.address(), invitation.code().clone());
    let waiting = tokio::spawn(invitation.wait(WAIT));
    assert!(matches!(host.join(at, &code).await, Err(PairingError::Refused(Refusal::Itself))));
    waiting.abort();
}

#[tokio::test]
async fn it_waits_no_longer_than_it_was_told_to() {
    let error = End::new("a").invite().await.wait(Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, PairingError::NobodyCame { .. }));
}

#[tokio::test]
async fn silent_and_noisy_strangers_do_not_keep_the_guest_out() {
    let (host, guest) = (End::new("a"), End::new("b"));
    let invitation = host.invite().await;
    let (at, code) = (invitation.address(), invitation.code().clone());
    let waiting = tokio::spawn(invitation.wait(WAIT));
    let mut strangers = Vec::new();
    for number in 0..8 {
        let mut stranger = TcpStream::connect(at).await.unwrap();
        if number % 2 == 0 {
            stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        }
        strangers.push(stranger);
    }
    guest.join(at, &code).await.unwrap();
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_port_that_does_not_pair_is_named() {
    let guest = End::new("b");
    let listener = TcpListener::bind(ANY).await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    });
    let error = guest.join(at, &"0000-0000-0000".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, PairingError::NoPairing { .. }) && error.to_string().contains(&at.to_string()), "{error}");
}

#[tokio::test]
async fn names_that_do_not_fit_are_refused_before_anything_is_opened() {
    let mut host = End::new("a");
    host.terms.name = "a\nb".into();
    let own = (host.identity.clone(), host.store.clone(), host.terms.clone());
    assert!(matches!(Invitation::open(own.0, own.1, own.2, ANY).await, Err(PairingError::Name { .. })));
    let error = host.join(ANY, &"0000-0000-0000".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, PairingError::Name { .. }));
}

/// A certificate of the one in between.
fn forged() -> (rustls::pki_types::CertificateDer<'static>, rustls::pki_types::PrivateKeyDer<'static>) {
    let pair = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["bps".into()]).unwrap().self_signed(&pair).unwrap();
    (certificate.der().clone(), rustls::pki_types::PrivateKeyDer::try_from(pair.serialize_der()).unwrap())
}

/// Believes everybody, as one in between does.
#[derive(Debug)]
struct Believer(rustls::crypto::WebPkiSupportedAlgorithms);

impl rustls::client::danger::ServerCertVerifier for Believer {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// Takes one guest's connection, opens one to the host, and passes on everything that is said, both ways, in the clear
/// to itself.
async fn one_in_between(listener: TcpListener, host: SocketAddr) -> usize {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let (certificate, key) = forged();
    let mut as_host = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.clone_key())
        .unwrap();
    as_host.alpn_protocols = vec![ALPN.to_vec()];
    let mut as_guest = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Believer(provider.signature_verification_algorithms)))
        .with_client_auth_cert(vec![certificate], key)
        .unwrap();
    as_guest.alpn_protocols = vec![ALPN.to_vec()];
    let (stream, _) = listener.accept().await.unwrap();
    let to_guest = tokio_rustls::TlsAcceptor::from(Arc::new(as_host)).accept(stream).await.unwrap();
    let stream = TcpStream::connect(host).await.unwrap();
    let to_host =
        tokio_rustls::TlsConnector::from(Arc::new(as_guest)).connect("bps".try_into().unwrap(), stream).await.unwrap();
    let (mut from_guest, mut say_guest) = tokio::io::split(to_guest);
    let (mut from_host, mut say_host) = tokio::io::split(to_host);
    let up = tokio::spawn(async move {
        // The guest hangs up without a word once it is refused.
        let _ = tokio::io::copy(&mut from_guest, &mut say_host).await;
    });
    let (mut heard, mut buffer) = (0, [0; 512]);
    while let Ok(bytes) = from_host.read(&mut buffer).await
        && bytes > 0
    {
        heard += bytes;
        say_guest.write_all(&buffer[..bytes]).await.unwrap();
    }
    up.abort();
    heard
}

#[tokio::test]
async fn one_in_between_is_refused() {
    let (host, guest) = (End::new("a"), End::new("b"));
    let invitation = host.invite().await;
    let (at, code) = (invitation.address(), invitation.code().clone());
    let waiting = tokio::spawn(invitation.wait(WAIT));
    let listener = TcpListener::bind(ANY).await.unwrap();
    let between = listener.local_addr().unwrap();
    let relay = tokio::spawn(one_in_between(listener, at));
    let error = guest.join(between, &code).await.unwrap_err();
    assert!(matches!(error, PairingError::Refused(Refusal::WrongCode { tries_left: 4 })), "{error}");
    assert!(guest.kept().is_empty() && host.kept().is_empty());
    assert!(relay.await.unwrap() > 34, "it did pass on a challenge and a refusal");
    guest.join(at, &code).await.unwrap();
    waiting.await.unwrap().unwrap();
}
