//! TLS between hosts: 1.3 only, mutual, and trust by fingerprint alone.
//!
//! **Invariants.** No name and no authority is believed: who a peer is, is the SHA-256 of the certificate it shows, and
//! its signature in the handshake proves that it holds the key. No session is resumed, because a resumed one would not be
//! asked for its certificate again, and a host that was unpaired meanwhile would come back in.

use crate::identity::{Identity, key_of};
use crate::peers::PeerStore;
use bps_wire::HostKey;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, ServerConfig,
    SignatureScheme, version,
};
use std::sync::Arc;

/// What sessions between paired hosts agree on.
pub const ALPN: &[u8] = b"bps/1";
/// What pairing agrees on; never what a session does, so neither can be taken for the other.
pub(crate) const ALPN_PAIR: &[u8] = b"bps-pair/1";
/// What a dialler puts where TLS wants a name. It means nothing and is not sent.
pub(crate) const ANY_NAME: &str = "bps";
/// Largest certificate that is looked at; ours has about 300 bytes.
const CERTIFICATE_BYTES_MAX: usize = 16 << 10;

/// For the side that is dialled: lets in whoever is in the store at that moment.
///
/// # Errors
/// Where the cryptography refuses the settings; it does not with those this crate is built with.
pub fn server_config(identity: &Identity, store: &PeerStore) -> Result<ServerConfig, Error> {
    server(identity, Trust::Stored(store.clone()), ALPN)
}

/// For the side that dials: accepts the one host it means to reach.
///
/// # Errors
/// As [`server_config`].
pub fn client_config(identity: &Identity, expected: HostKey) -> Result<ClientConfig, Error> {
    client(identity, Trust::Exactly(expected), ALPN)
}

/// Who is on the other side, by the certificates the carrier gives.
pub fn peer_key(certificates: &[CertificateDer<'_>]) -> Option<HostKey> {
    certificates.first().map(key_of)
}

/// For pairing: anybody may come; who it is must be proven by the code.
pub(crate) fn pairing_server_config(identity: &Identity) -> Result<ServerConfig, Error> {
    server(identity, Trust::Anyone, ALPN_PAIR)
}

/// For pairing: whoever answers; who it is must be proven by the code.
pub(crate) fn pairing_client_config(identity: &Identity) -> Result<ClientConfig, Error> {
    client(identity, Trust::Anyone, ALPN_PAIR)
}

fn server(identity: &Identity, trust: Trust, alpn: &[u8]) -> Result<ServerConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(Verifier::new(trust, &provider));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(own(identity)));
    config.alpn_protocols = vec![alpn.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client(identity: &Identity, trust: Trust, alpn: &[u8]) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(Verifier::new(trust, &provider));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(own(identity)));
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}

fn own(identity: &Identity) -> SingleCertAndKey {
    let certified = identity.certified();
    SingleCertAndKey::from(CertifiedKey::new(certified.cert.clone(), certified.key.clone()))
}

/// Whom a verifier lets through.
#[derive(Debug)]
enum Trust {
    /// Whoever holds the key of the certificate it shows.
    Anyone,
    /// Every host in the store at that moment.
    Stored(PeerStore),
    /// One host.
    Exactly(HostKey),
}

#[derive(Debug)]
struct Verifier {
    trust: Trust,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn new(trust: Trust, provider: &CryptoProvider) -> Self {
        Self { trust, algorithms: provider.signature_verification_algorithms }
    }

    fn judge(&self, certificate: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Result<(), Error> {
        if certificate.len() > CERTIFICATE_BYTES_MAX || !intermediates.is_empty() {
            return Err(CertificateError::BadEncoding.into());
        }
        let key = key_of(certificate);
        let trusted = match &self.trust {
            Trust::Anyone => true,
            Trust::Exactly(expected) => key == *expected,
            Trust::Stored(store) => {
                // A file that became unreadable must not cut off the hosts that were paired before.
                if let Err(error) = store.refresh() {
                    tracing::warn!(%error, "the paired hosts known so far stay");
                }
                store.get(&key).is_some()
            }
        };
        if trusted { Ok(()) } else { Err(CertificateError::ApplicationVerificationFailure.into()) }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge(end_entity, intermediates).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge(end_entity, intermediates).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
