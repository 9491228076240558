//! Every endpoint of the client port that is not an inference.

use crate::harness::{Running, host, json_request};
use bps_api::ApiConfig;
use bps_node::ModelControl;
use serde_json::json;

async fn server() -> Running {
    Running::client_port(host().await, ApiConfig::default()).await
}

#[tokio::test]
async fn server_and_health() {
    let server = server().await;
    for path in ["/v2", "/v2/"] {
        let metadata = server.get(path).await.json();
        assert_eq!((&metadata["name"], &metadata["version"]), (&json!("bps"), &json!(env!("CARGO_PKG_VERSION"))));
        assert!(metadata["extensions"].as_array().unwrap().contains(&json!("binary_tensor_data")));
    }
    for path in ["/v2/health/live", "/v2/health/ready"] {
        let answer = server.get(path).await;
        assert_eq!((answer.status, answer.json()), (200, json!({"live": true, "ready": true})));
    }
    server.host.drain().await;
    assert_eq!(server.get("/v2/health/live").await.status, 200);
    let answer = server.get("/v2/health/ready").await;
    assert_eq!((answer.status, &answer.json()["ready"]), (503, &json!(false)));
    assert_eq!(server.get("/v2/models/digits/ready").await.status, 503);
    server.stop().await;
}

#[tokio::test]
async fn model_questions() {
    let server = server().await;
    for base in ["/v2/models/digits", "/v2/models/digits/versions/1", "/v2/models/d%69gits"] {
        let metadata = server.get(base).await.json();
        let expected = json!({
            "name": "digits", "versions": ["1"], "platform": "onnx_onnxv1",
            "inputs": [{"name": "pixels", "datatype": "FP32", "shape": [-1, 1, 8, 8]}],
            "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, 10]}],
        });
        assert_eq!(metadata, expected);
        let ready = server.get(&format!("{base}/ready")).await;
        assert_eq!((ready.status, ready.json()), (200, json!({"name": "digits", "ready": true})));
        let config = server.get(&format!("{base}/config")).await.json();
        assert_eq!((&config["name"], &config["max_batch_size"]), (&json!("digits"), &json!(8)));
        assert_eq!(config["input"], json!([{"name": "pixels", "data_type": "TYPE_FP32", "dims": [1, 8, 8]}]));
        assert_eq!(config["output"], json!([{"name": "logits", "data_type": "TYPE_FP32", "dims": [10]}]));
        assert_eq!(config["parameters"]["image_input"]["string_value"], json!("pixels 8x8x1"));
        let stats = server.get(&format!("{base}/stats")).await.json();
        assert_eq!(stats["model_stats"][0]["name"], json!("digits"));
    }
    server.stop().await;
}

#[tokio::test]
async fn statistics_and_metrics_count() {
    let server = server().await;
    assert_eq!(server.post("/v2/models/digits/infer", &json_request(3, "")).await.status, 200);
    let stats = server.get("/v2/models/stats").await.json();
    let stats = &stats["model_stats"][0];
    assert_eq!((&stats["inference_count"], &stats["execution_count"]), (&json!(3), &json!(1)));
    assert_eq!(stats["inference_stats"]["success"]["count"], json!(1));
    let metrics = server.get("/metrics").await;
    assert_eq!(metrics.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert!(str::from_utf8(&metrics.body).unwrap().contains("nv_inference_request_success"), "{metrics:?}");
    server.stop().await;

    let without = ApiConfig { metrics: false, ..ApiConfig::default() };
    let server = Running::client_port(host().await, without).await;
    let answer = server.get("/metrics").await;
    assert_eq!((answer.status, answer.error().as_str()), (404, "no such endpoint: GET /metrics"));
    server.stop().await;
}

#[tokio::test]
async fn repository_index() {
    let server = server().await;
    for body in ["", "{}", r#"{"ready": true}"#] {
        let index = server.post("/v2/repository/index", body).await.json();
        assert_eq!(index, json!([{"name": "digits", "version": "1", "state": "READY", "reason": ""}]));
    }
    server.stop().await;
}

#[tokio::test]
async fn models_are_loaded_and_unloaded_only_where_allowed() {
    let locked = server().await;
    for path in ["/v2/repository/models/digits/unload", "/v2/repository/models/digits/load"] {
        let answer = locked.post(path, "").await;
        assert_eq!(answer.status, 403);
        assert!(answer.error().contains("--model-control explicit"), "{answer:?}");
    }
    assert_eq!(locked.get("/v2/models/digits/ready").await.status, 200);
    locked.stop().await;

    let open = ApiConfig { model_control: ModelControl::Explicit, ..ApiConfig::default() };
    let server = Running::client_port(host().await, open).await;
    let unload = r#"{"parameters": {"unload_dependents": false}}"#;
    let answer = server.post("/v2/repository/models/digits/unload", unload).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = server.post("/v2/models/digits/infer", &json_request(1, "")).await;
    assert!(matches!(answer.status, 404 | 503), "{answer:?}");
    assert_ne!(server.get("/v2/models/digits/ready").await.status, 200);
    let ready = server.post("/v2/repository/index", r#"{"ready": true}"#).await.json();
    assert_eq!(ready, json!([]));
    assert_eq!(server.post("/v2/repository/models/digits/load", "").await.status, 200);
    assert_eq!(server.post("/v2/models/digits/infer", &json_request(1, "")).await.status, 200);

    let answer = server.post("/v2/repository/models/none/load", "{}").await;
    assert!(matches!(answer.status, 400 | 404), "{answer:?}");
    let answer = server.post("/v2/repository/models/digits/load", r#"{"parameters":{"config":"{}"}}"#).await;
    let words = "parameter config: models are loaded from the repository only, as they are";
    assert_eq!((answer.status, answer.error().as_str()), (501, words));
    server.stop().await;
}
