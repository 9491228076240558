//! What the client port refuses, as a table of request, status and words.

use crate::harness::{Running, TOKEN, host, json_request};
use bps_api::{ApiConfig, Secret};

const PATH: &str = "/v2/models/digits/infer";

#[tokio::test]
async fn table_of_refusals() {
    let server = Running::client_port(host().await, ApiConfig { body_bytes_max: 4096, ..ApiConfig::default() }).await;
    let input = |fields: &str| format!(r#"{{"inputs":[{{"name":"pixels",{fields}}}]}}"#);
    let large = "x".repeat(5000);
    let head_9: &[(&str, &str)] = &[("inference-header-content-length", "9")];
    let head_x: &[(&str, &str)] = &[("inference-header-content-length", "x")];
    let none: &[(&str, &str)] = &[];
    #[rustfmt::skip]
    let table = [
        ("GET", "/", none, String::new(), 404, "no such endpoint: GET /"),
        ("GET", "/v2/nothing", none, String::new(), 404, "no such endpoint: GET /v2/nothing"),
        ("GET", "/v1/status", none, String::new(), 404, "no such endpoint: GET /v1/status"),
        ("GET", "/v2/models/digits/generate", none, String::new(), 404, "no such endpoint"),
        ("GET", "/v2/models/none", none, String::new(), 404, "none"),
        ("GET", "/v2/models/none/ready", none, String::new(), 404, "none"),
        ("GET", "/v2/models/none/config", none, String::new(), 404, "none"),
        ("GET", "/v2/models/none/stats", none, String::new(), 404, "none"),
        ("GET", "/v2/models/digits/versions/9", none, String::new(), 404, "9"),
        ("GET", "/v2/models/digits/versions/9/ready", none, String::new(), 404, "9"),
        ("GET", "/v2/models/%FF", none, String::new(), 400, "UTF-8"),
        ("POST", "/v2/models/none/infer", none, "{}".into(), 404, "none"),
        ("GET", PATH, none, String::new(), 405, "GET is not allowed on /v2/models/digits/infer"),
        ("DELETE", "/v2", none, String::new(), 405, "DELETE is not allowed on /v2"),
        ("GET", "/v2/repository/index", none, String::new(), 405, "GET is not allowed"),
        ("GET", "/v2/systemsharedmemory/status", none, String::new(), 501, "not supported"),
        ("POST", "/v2/trace/setting", none, "{}".into(), 501, "not supported"),
        ("GET", "/v2/logging", none, String::new(), 501, "not supported"),
        ("POST", PATH, none, String::new(), 400, "malformed JSON: EOF while parsing a value at line 1 column 0"),
        ("POST", PATH, none, "{\"inputs\":\n [,]}".into(), 400, "malformed JSON: expected value at line 2 column 3"),
        ("POST", PATH, none, "{}".into(), 400, "missing field `inputs`"),
        ("POST", PATH, none, r#"{"inputs":[]}"#.into(), 400, "needs input pixels"),
        ("POST", PATH, none, input(r#""shape":[1,1,8,8],"datatype":"FP32","data":[1]"#), 400, "data holds 1 elements, shape needs 64"),
        ("POST", PATH, none, input(r#""shape":[1],"datatype":"FP32","data":[1]"#), 400, "takes FP32[-1, 1, 8, 8]"),
        ("POST", PATH, none, input(r#""shape":[0,1,8,8],"datatype":"FP32","data":[]"#), 400, "no rows"),
        ("POST", PATH, none, input(r#""shape":[1],"datatype":"FP9","data":[1]"#), 400, "unknown datatype \"FP9\""),
        ("POST", PATH, none, input(r#""shape":[1],"datatype":"INT8","data":[200]"#), 400, "200 does not fit INT8"),
        ("POST", PATH, none, json_request(1, r#","outputs":[{"name":"nothing"}]"#), 400, "no output nothing"),
        ("POST", PATH, none, json_request(1, r#","parameters":{"priority":999}"#), 400, "parameter priority: 999 is not in 0..=255"),
        ("POST", PATH, head_9, "{}".into(), 400, "Inference-Header-Content-Length says 9, the body has 2 bytes"),
        ("POST", PATH, head_x, "{}".into(), 400, "Inference-Header-Content-Length must be a number of bytes, got \"x\""),
        ("POST", PATH, &[("content-encoding", "br")], "{}".into(), 415, "Content-Encoding must be gzip, deflate or identity"),
        ("POST", PATH, &[("content-encoding", "gzip")], "no gzip".into(), 400, "the body cannot be read: "),
        ("POST", PATH, none, large.clone(), 413, ""),
        ("POST", "/v2/repository/index", none, "[1".into(), 400, "malformed JSON"),
        ("POST", "/v2/repository/index", none, large, 413, ""),
    ];
    for (method, path, headers, body, status, words) in table {
        let answer = server.call(method, path, headers, body.as_bytes()).await;
        assert_eq!(answer.status, status, "{method} {path} {body}: {answer:?}");
        let error = answer.error();
        assert!(error.contains(words) && !error.is_empty(), "{method} {path} {body}: {error:?} lacks {words:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn more_rows_than_a_request_may_have() {
    let server = Running::client_port(host().await, ApiConfig::default()).await;
    let answer = server.post(PATH, &json_request(9, "")).await;
    assert_eq!(answer.status, 400);
    assert!(answer.error().contains("at most 8 rows"), "{answer:?}");
    server.stop().await;
}

#[tokio::test]
async fn token() {
    let config = ApiConfig { token: Some(Secret::new(TOKEN).unwrap()), ..ApiConfig::default() };
    let server = Running::client_port(host().await, config).await;
    let right = format!("Bearer {TOKEN}");
    for path in ["/v2", "/v2/models/digits", "/metrics", "/nothing", "/v2/healthy"] {
        for wrong in [vec![], vec![("authorization", "Bearer 0123456789abcdee")], vec![("authorization", TOKEN)]] {
            let answer = server.call("GET", path, &wrong, b"").await;
            assert_eq!((answer.status, answer.header("www-authenticate")), (401, "Bearer"), "{path}");
            assert_eq!(answer.error(), "this server wants a bearer token");
        }
        assert_ne!(server.call("GET", path, &[("authorization", &right)], b"").await.status, 401);
    }
    assert_eq!(server.get("/v2/health/ready").await.status, 200);
    server.stop().await;
}
