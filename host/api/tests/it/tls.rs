//! TLS: a certificate from files, and handshakes that hold up nobody.

use crate::harness::{Running, exchange, host, json_request};
use bps_api::{ApiConfig, ServerLimits, TlsFiles, client_router};
use bytes::Bytes;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

fn connector(certificate: CertificateDer<'static>, alpn: &[u8]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    TlsConnector::from(Arc::new(config))
}

#[tokio::test]
async fn tls() {
    let dir = tempfile::tempdir().unwrap();
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = TlsFiles { cert: dir.path().join("cert.pem"), key: dir.path().join("key.pem") };
    std::fs::write(&files.cert, pair.cert.pem()).unwrap();
    std::fs::write(&files.key, pair.signing_key.serialize_pem()).unwrap();
    let host = host().await;
    let router = client_router(host.clone(), ApiConfig::default());
    let limits = ServerLimits { handshake_timeout: Duration::from_millis(500), ..ServerLimits::default() };
    let server = Running::of(host, router, Some(files), limits).await;

    // Someone who never begins the handshake, and someone who does not speak TLS.
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    plain.write_all(b"GET /v2 HTTP/1.1\r\n\r\n").await.unwrap();

    let name = ServerName::try_from("localhost").unwrap();
    let certificate = pair.cert.der().clone();
    let connect = async |alpn: &[u8]| {
        let stream = TcpStream::connect(server.address).await.unwrap();
        connector(certificate.clone(), alpn).connect(name.clone(), stream).await.unwrap()
    };
    let body = Bytes::from(json_request(1, ""));
    let answer = exchange(connect(b"http/1.1").await, "POST", "/v2/models/digits/infer", &[], body).await;
    assert_eq!(answer.status, 200, "{answer:?}");

    let h2 = connect(b"h2").await;
    assert_eq!(h2.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));

    let mut rest = Vec::new();
    silent.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "the silent one was told {rest:?}");
    let _ = plain.read_to_end(&mut rest).await; // an alert, or a reset
    assert!(!rest.starts_with(b"HTTP"), "answered without TLS");
    server.stop().await;
}

#[tokio::test]
async fn a_server_with_bad_files_does_not_start() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let files = TlsFiles { cert: "/nonexistent/cert.pem".into(), key: "/nonexistent/key.pem".into() };
    let error = bps_api::serve(listener, Some(files), axum::Router::new(), std::future::pending()).await.unwrap_err();
    assert!(error.to_string().starts_with("/nonexistent/cert.pem: "), "{error}");
}
