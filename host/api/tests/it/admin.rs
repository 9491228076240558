//! The admin interface: who may call it, and what it does.

use crate::harness::{Running, TOKEN, exchange, host, json_request};
use bps_api::{ApiConfig, Secret, admin_unix_router, serve_unix};
use bytes::Bytes;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

const BEARER: (&str, &str) = ("authorization", "Bearer 0123456789abcdef");

#[tokio::test]
async fn only_local_programs_with_the_token() {
    let admin = Running::admin_port(host().await).await;
    let own = format!("http://{}", admin.address);
    let address = admin.address.to_string();
    #[rustfmt::skip]
    let table: &[(&[(&str, &str)], u16)] = &[
        (&[BEARER], 200),
        (&[BEARER, ("host", &address)], 200),
        (&[BEARER, ("host", &address), ("origin", &own)], 200),
        (&[], 401),
        (&[("authorization", "Bearer 0123456789abcdeF")], 401),
        (&[("authorization", TOKEN)], 401),
        (&[BEARER, ("host", "evil.example")], 403),
        (&[BEARER, ("host", "")], 403),
        (&[BEARER, ("origin", "http://evil.example")], 403),
        (&[BEARER, ("origin", "null")], 403),
        (&[("host", "evil.example")], 403),
    ];
    for (headers, status) in table {
        for path in ["/v1/status", "/v1/policies", "/v1/peers"] {
            let answer = admin.call("GET", path, headers, b"").await;
            assert_eq!(answer.status, *status, "{headers:?}: {answer:?}");
            assert!(*status == 200 || !answer.error().is_empty());
        }
    }
    assert_eq!(admin.get("/v1/nothing").await.status, 401);
    admin.stop().await;
}

#[tokio::test]
async fn what_the_host_does() {
    let admin = Running::admin_port(host().await).await;
    let client = Running::client_port(admin.host.clone(), ApiConfig::default()).await;
    assert_eq!(client.post("/v2/models/digits/infer", &json_request(2, "")).await.status, 200);

    let status = admin.call("GET", "/v1/status", &[BEARER], b"").await.json();
    assert_eq!((&status["ready"], &status["policy"]["active"]["name"]), (&json!(true), &json!("bps")));
    assert_eq!(status["models"][0]["state"], json!("READY"));
    let devices = admin.call("GET", "/v1/devices", &[BEARER], b"").await.json();
    assert_eq!((&devices[0]["name"], &devices[0]["kind"]), (&json!("cpu"), &json!("cpu")));
    assert_eq!(admin.call("GET", "/v1/peers", &[BEARER], b"").await.json(), json!([]));
    let ledger = admin.call("GET", "/v1/ledger", &[BEARER], b"").await.json();
    assert_eq!((&ledger["answered"], &ledger["holds"]), (&json!(1), &json!(true)));
    let receipts = admin.call("GET", "/v1/receipts?last=5", &[BEARER], b"").await.json();
    assert_eq!((&receipts[0]["model"], &receipts[0]["rows"]), (&json!("digits"), &json!(2)));
    assert_eq!(admin.call("GET", "/v1/receipts?last=0", &[BEARER], b"").await.json(), json!([]));
    let answer = admin.call("GET", "/v1/receipts?last=many", &[BEARER], b"").await;
    assert_eq!(answer.status, 400);
    assert!(answer.error().contains("invalid digit"), "{answer:?}");
    client.stop().await;
    admin.stop().await;
}

#[tokio::test]
async fn policies_are_listed_uploaded_swapped_and_rolled_back() {
    let admin = Running::admin_port(host().await).await;
    let policies = admin.call("GET", "/v1/policies", &[BEARER], b"").await.json();
    let names: Vec<_> = policies.as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"batching") && names.contains(&"local-only"), "{names:?}");

    let answer = admin.call("POST", "/v1/policies?name=junk", &[BEARER], b"\0asm junk").await;
    assert_eq!(answer.status, 422, "{answer:?}");
    assert!(!answer.error().is_empty() && answer.json()["stage"].is_string());
    let answer = admin.call("POST", "/v1/policies", &[BEARER], b"").await;
    assert_eq!(answer.status, 400);
    let answer = admin.call("POST", "/v1/policies", &[BEARER], &vec![0; (16 << 20) + 1]).await;
    assert_eq!(answer.status, 413);
    let wasm = bps_plugin::prebuilt::find("round-robin").unwrap().wasm;
    let answer = admin.call("POST", "/v1/policies?name=mine", &[BEARER], wasm).await;
    assert_eq!((answer.status, &answer.json()["name"]), (201, &json!("round-robin")), "{answer:?}");

    let swap = async |body: &str| admin.call("POST", "/v1/policy/swap", &[BEARER], body.as_bytes()).await;
    assert_eq!(swap("").await.status, 400);
    assert_eq!(swap(r#"{"policy":"nobody"}"#).await.status, 404);
    let answer = swap(r#"{"policy":"local-only"}"#).await;
    assert_eq!((answer.status, &answer.json()["to"]["name"]), (200, &json!("local-only")), "{answer:?}");
    let answer = admin.call("POST", "/v1/policy/rollback", &[BEARER], b"").await;
    assert_eq!((answer.status, &answer.json()["to"]["name"]), (200, &json!("bps")), "{answer:?}");
    assert_eq!(admin.call("GET", "/v1/policy/swap", &[BEARER], b"").await.status, 405);
    admin.stop().await;
}

#[tokio::test]
async fn unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bps.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap()); // left behind by a server that died
    let host = host().await;
    let (stop, stopped) = oneshot::channel::<()>();
    let router = admin_unix_router(host.clone(), Secret::new(TOKEN).unwrap());
    let task = tokio::spawn({
        let path = path.clone();
        async move { serve_unix(&path, router, async { drop(stopped.await) }).await }
    });
    crate::harness::until("the socket answers", || std::os::unix::net::UnixStream::connect(&path).is_ok()).await;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "only the socket is there");
    let call = async |headers: &'static [(&str, &str)]| {
        let stream = UnixStream::connect(&path).await.unwrap();
        exchange(stream, "GET", "/v1/ledger", headers, Bytes::new()).await.status
    };
    assert_eq!((call(&[BEARER]).await, call(&[]).await), (200, 401));

    let second = serve_unix(&path, axum::Router::new(), std::future::pending()).await.unwrap_err();
    assert!(second.to_string().contains("unix socket"), "{second}");
    drop(stop);
    task.await.unwrap().unwrap();
    assert!(!path.exists());
}
