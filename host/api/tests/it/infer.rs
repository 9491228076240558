//! Inferences in every form give the same bits.

use crate::harness::{Answer, Running, host, json_request, pixels};
use bps_api::ApiConfig;
use bps_node::{InferCall, NamedTensor};
use bps_types::HostTensor;
use serde_json::{Value, json};

const PATH: &str = "/v2/models/digits/infer";

async fn server() -> Running {
    Running::client_port(host().await, ApiConfig::default()).await
}

/// What the host itself says.
async fn logits(server: &Running, row_count: usize) -> Vec<f32> {
    let tensor = HostTensor::from_f32(vec![row_count, 1, 8, 8], &pixels(row_count)).unwrap();
    let inputs = vec![NamedTensor { name: "pixels".into(), tensor }];
    let call = InferCall { model: "digits".into(), inputs, ..InferCall::default() };
    server.host.infer(call).await.unwrap().outputs[0].tensor.to_f32().unwrap()
}

fn floats(values: &Value) -> Vec<f32> {
    values.as_array().unwrap().iter().map(|v| v.to_string().parse().unwrap()).collect()
}

fn raw_pixels(row_count: usize) -> Vec<u8> {
    pixels(row_count).iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// A request with a raw input.
async fn send_binary(server: &Running, input: &str, raw: &[u8], more: &str) -> Answer {
    let head = format!(
        r#"{{"inputs":[{{"name":"pixels",{input},"parameters":{{"binary_data_size":{}}}}}]{more}}}"#,
        raw.len()
    );
    let head_bytes = head.len().to_string();
    let headers = [("inference-header-content-length", head_bytes.as_str())];
    server.call("POST", PATH, &headers, &[head.as_bytes(), raw].concat()).await
}

/// The JSON head and the raw rest.
fn divided(answer: &Answer) -> (Value, &[u8]) {
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/octet-stream"), "{answer:?}");
    let head_bytes = answer.header("inference-header-content-length").parse().unwrap();
    let (head, raw) = answer.body.split_at(head_bytes);
    (serde_json::from_slice(head).unwrap(), raw)
}

#[tokio::test]
async fn json_and_binary_give_the_same_bits() {
    let server = server().await;
    let expected = logits(&server, 3).await;
    let answer = server.post(PATH, &json_request(3, r#","id":"seven""#)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let json = answer.json();
    assert_eq!(
        (&json["model_name"], &json["model_version"], &json["id"]),
        (&json!("digits"), &json!("1"), &json!("seven"))
    );
    let output = &json["outputs"][0];
    assert_eq!(
        (&output["name"], &output["datatype"], &output["shape"]),
        (&json!("logits"), &json!("FP32"), &json!([3, 10]))
    );
    assert_eq!(floats(&output["data"]), expected);
    assert!(answer.header("server-timing").starts_with("queue;dur="), "{answer:?}");

    let expected_raw: Vec<u8> = expected.iter().flat_map(|v| v.to_le_bytes()).collect();
    let input = r#""shape":[3,1,8,8],"datatype":"FP32""#;
    for more in [
        r#","parameters":{"binary_data_output":true}"#,
        r#","outputs":[{"name":"logits","parameters":{"binary_data":true}}]"#,
        r#","outputs":[{"name":"logits"}],"parameters":{"binary_data_output":true}"#,
    ] {
        let answer = send_binary(&server, input, &raw_pixels(3), more).await;
        let (head, raw) = divided(&answer);
        assert_eq!(head["outputs"][0]["parameters"], json!({"binary_data_size": 120}));
        assert_eq!((raw, &head["id"]), (&expected_raw[..], &Value::Null));
    }
    for more in [
        "",
        r#","outputs":[{"name":"logits","parameters":{"binary_data":false}}],"parameters":{"binary_data_output":true}"#,
    ] {
        let answer = send_binary(&server, input, &raw_pixels(3), more).await;
        assert_eq!(floats(&answer.json()["outputs"][0]["data"]), expected);
    }
    server.stop().await;
}

#[tokio::test]
async fn images_and_pixels() {
    let server = server().await;
    let grey: Vec<u8> = (0..64u32).map(|i| (i * 37 % 256) as u8).collect();
    let data = serde_json::to_string(&grey).unwrap();
    let body = format!(r#"{{"inputs":[{{"name":"pixels","shape":[1,8,8,1],"datatype":"UINT8","data":{data}}}]}}"#);
    let from_pixels = server.post(PATH, &body).await.json();
    let png = png(&grey);
    let framed = [&u32::try_from(png.len()).unwrap().to_le_bytes()[..], &png].concat();
    let answer = send_binary(&server, r#""shape":[1],"datatype":"BYTES""#, &framed, "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["outputs"], from_pixels["outputs"]);

    let answer = send_binary(&server, r#""shape":[1],"datatype":"BYTES""#, b"\x04\0\0\0nope", "").await;
    assert_eq!(answer.status, 400, "{answer:?}");
    server.stop().await;
}

/// An 8 x 8 grey PNG without compression.
fn png(grey: &[u8]) -> Vec<u8> {
    fn crc(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc, b| {
            (0..8).fold(crc ^ u32::from(*b), |c, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 })
        })
    }
    fn chunk(out: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
        out.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
        let body = [&kind[..], data].concat();
        out.extend(&body);
        out.extend(crc(&body).to_be_bytes());
    }
    let lines: Vec<u8> = grey.chunks(8).flat_map(|line| [&[0], line].concat()).collect();
    let (a, b) =
        lines.iter().fold((1u32, 0u32), |(a, b), v| ((a + u32::from(*v)) % 65521, (a + u32::from(*v) + b) % 65521));
    let length = u16::try_from(lines.len()).unwrap();
    let zlib =
        [&[0x78, 1, 1][..], &length.to_le_bytes(), &(!length).to_le_bytes(), &lines, &((b << 16) | a).to_be_bytes()];
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut out, b"IHDR", &[0, 0, 0, 8, 0, 0, 0, 8, 8, 0, 0, 0, 0]);
    chunk(&mut out, b"IDAT", &zlib.concat());
    chunk(&mut out, b"IEND", &[]);
    out
}

#[tokio::test]
async fn classification() {
    let server = server().await;
    let logits = logits(&server, 1).await;
    let best = (0..10).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
    let more = r#","outputs":[{"name":"logits","parameters":{"classification":2}}]"#;
    let output = &server.post(PATH, &json_request(1, more)).await.json()["outputs"][0];
    assert_eq!((&output["datatype"], &output["shape"]), (&json!("BYTES"), &json!([1, 2])));
    assert_eq!(output["data"][0], json!(format!("{:.6}:{best}", logits[best])));
    server.stop().await;
}

#[tokio::test]
async fn parameters_of_schedule_and_sequence() {
    let server = server().await;
    let more = r#","parameters":{"priority":200,"timeout":60000000,"sequence_id":9,"sequence_start":true,"sequence_end":true,
        "local_only":true,"lossless_only":true,"custom":[{}]}"#;
    let answer = server.post(PATH, &json_request(1, more)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = server.post(PATH, &json_request(1, r#","parameters":{"timeout":1}"#)).await;
    assert_eq!(answer.status, 504, "{answer:?}");
    assert_eq!(answer.error(), "the deadline passed: no result within 1.0 µs", "of what was asked for");
    server.stop().await;
}

#[tokio::test]
async fn compressed_bodies() {
    let server = server().await;
    let expected = logits(&server, 1).await;
    let json = json_request(1, "");
    for (encoding, body) in
        [("gzip", gzip(json.as_bytes())), ("deflate", zlib(json.as_bytes())), ("identity", json.into())]
    {
        let answer = server.call("POST", PATH, &[("content-encoding", encoding)], &body).await;
        assert_eq!(answer.status, 200, "{encoding}: {answer:?}");
        assert_eq!(floats(&answer.json()["outputs"][0]["data"]), expected);
    }
    server.stop().await;
}

/// Stored blocks: compression without compressing.
fn stored(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut pieces = data.chunks(0xffff).peekable();
    while let Some(piece) = pieces.next() {
        let length = u16::try_from(piece.len()).unwrap();
        out.push(u8::from(pieces.peek().is_none()));
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(piece);
    }
    out
}

fn zlib(data: &[u8]) -> Vec<u8> {
    let (a, b) =
        data.iter().fold((1u32, 0u32), |(a, b), v| ((a + u32::from(*v)) % 65521, (a + u32::from(*v) + b) % 65521));
    [&[0x78, 1][..], &stored(data), &((b << 16) | a).to_be_bytes()].concat()
}

pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    let crc = !data.iter().fold(!0u32, |crc, b| {
        (0..8).fold(crc ^ u32::from(*b), |c, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 })
    });
    let length = u32::try_from(data.len()).unwrap();
    [&b"\x1f\x8b\x08\0\0\0\0\0\0\xff"[..], &stored(data), &crc.to_le_bytes(), &length.to_le_bytes()].concat()
}

/// Headers of a request.
type Headers<'a> = &'a [(&'a str, &'a str)];

#[tokio::test]
async fn a_trace_that_is_sent_is_in_the_receipt_and_a_malformed_one_is_as_good_as_none() {
    let server = server().await;
    let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let other = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let upper = good.to_uppercase();
    let future = format!("c{}-more", &good[1..]);
    #[rustfmt::skip]
    let table: &[(Headers<'_>, Option<&str>)] = &[
        (&[("traceparent", good)], Some(good)),
        (&[("Traceparent", other), ("tracestate", "vendor=1")], Some(other)),
        (&[("traceparent", &future)], Some(good)),
        (&[], None),
        (&[("traceparent", "")], None),
        (&[("traceparent", &upper)], None),
        (&[("traceparent", &good[1..])], None),
        (&[("traceparent", good), ("traceparent", good)], None),
        (&[("tracestate", "vendor=1")], None),
    ];
    for (headers, expected) in table {
        let answer = server.call("POST", PATH, headers, json_request(1, "").as_bytes()).await;
        assert_eq!(answer.status, 200, "{headers:?}: {answer:?}");
        let receipt = serde_json::to_value(&server.host.receipts(1)[0]).unwrap();
        assert_eq!(receipt["trace"].as_str(), *expected, "{headers:?}");
    }
    server.stop().await;
}
