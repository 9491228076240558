//! TLS from PEM files.

use crate::ApiError;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// Where certificate and key are. Both are read once, when the server starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM file of the certificate chain, the server's own first.
    pub cert: PathBuf,
    /// PEM file of the private key: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

impl TlsFiles {
    /// Whether the files can be read and fit together; what [`crate::serve`] would say.
    pub fn check(&self) -> Result<(), ApiError> {
        self.acceptor().map(drop)
    }

    pub(super) fn acceptor(&self) -> Result<TlsAcceptor, ApiError> {
        let chain = self.chain()?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|e| pem_error(&self.key, e))?;
        let refused = |source| ApiError::Tls { cert: self.cert.clone(), key: self.key.clone(), source };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = versions.map_err(refused)?.with_no_client_auth().with_single_cert(chain, key);
        let mut config = config.map_err(refused)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, ApiError> {
        let certificates = CertificateDer::pem_file_iter(&self.cert).map_err(|e| pem_error(&self.cert, e))?;
        let chain: Vec<_> = certificates.collect::<Result<_, _>>().map_err(|e| pem_error(&self.cert, e))?;
        if chain.is_empty() {
            return Err(pem_error(&self.cert, "it holds no certificate"));
        }
        Ok(chain)
    }
}

fn pem_error(path: &Path, message: impl ToString) -> ApiError {
    ApiError::Pem { path: path.into(), message: message.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(path("cert"), pair.cert.pem()).unwrap();
        std::fs::write(path("key"), pair.signing_key.serialize_pem()).unwrap();
        std::fs::write(path("other"), other.signing_key.serialize_pem()).unwrap();
        std::fs::write(path("empty"), "").unwrap();
        let table = [
            ("cert", "key", ""),
            ("none", "key", "none: "),
            ("cert", "none", "none: "),
            ("empty", "key", "it holds no certificate"),
            ("key", "key", "it holds no certificate"),
            ("cert", "empty", "empty: "),
            ("cert", "other", "TLS certificate"),
        ];
        for (cert, key, words) in table {
            let said = TlsFiles { cert: path(cert), key: path(key) }.check().err().map(|e| e.to_string());
            match said {
                None => assert!(words.is_empty(), "{cert} {key} was taken"),
                Some(said) => assert!(!words.is_empty() && said.contains(words), "{cert} {key}: {said}"),
            }
        }
    }
}
