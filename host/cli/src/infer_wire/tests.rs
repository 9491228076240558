//! Requests as written, answers as read, hostile ones included.

use super::*;
use hyper::StatusCode;
use hyper::header::HeaderMap;

fn answer(head: &str, tail: &[u8], head_length: Option<&str>) -> Answer {
    let mut headers = HeaderMap::new();
    if let Some(length) = head_length {
        headers.insert(HEAD_LENGTH, length.parse().unwrap());
    }
    Answer { status: StatusCode::OK, headers, body: [head.as_bytes(), tail].concat().into() }
}

#[test]
fn a_request_carries_its_tensors_behind_its_head() {
    let tensor = HostTensor::from_f32(vec![1, 2], &[1.0, 2.0]).unwrap();
    let request = encode(&[Named { name: "x".into(), tensor }], &["y".into()], &json!({ "priority": 3 }));
    let head_bytes: usize = request.headers[0].1.parse().unwrap();
    let head: Value = serde_json::from_slice(&request.body[..head_bytes]).unwrap();
    assert_eq!(head["inputs"][0]["parameters"]["binary_data_size"], 8);
    assert_eq!((&head["inputs"][0]["datatype"], &head["outputs"][0]["name"]), (&json!("FP32"), &json!("y")));
    assert_eq!((&head["parameters"]["priority"], &head["parameters"]["binary_data_output"]), (&json!(3), &json!(true)));
    assert_eq!(request.body.len() - head_bytes, 8);
}

#[test]
fn answers_in_bytes_and_in_json() {
    let head = r#"{"model_name":"m","model_version":"1","outputs":[
        {"name":"a","datatype":"UINT8","shape":[2],"parameters":{"binary_data_size":2}},
        {"name":"b","datatype":"FP32","shape":[1,2],"data":[1.5,2]}]}"#;
    let reply = decode(&answer(head, &[7, 9], Some(&head.len().to_string()))).unwrap();
    assert_eq!((reply.model.as_str(), reply.version.as_str()), ("m", "1"));
    assert_eq!(reply.outputs[0].tensor.data().as_ref(), [7, 9]);
    assert_eq!(reply.outputs[1].tensor.to_f32().unwrap(), [1.5, 2.0]);
    assert_eq!(to_json(&reply.outputs[0].tensor), Some(json!([7, 9])));
}

#[test]
fn hostile_answers_are_refused_with_a_reason() {
    let one = |fields: &str| format!(r#"{{"outputs":[{{"name":"a",{fields}}}]}}"#);
    let binary =
        |size: &str| one(&format!(r#""datatype":"UINT8","shape":[4],"parameters":{{"binary_data_size":{size}}}"#));
    let many = format!("{{\"outputs\":[{}]}}", vec![r#"{"name":"a","datatype":"UINT8","shape":[]}"#; 300].join(","));
    let cases = [
        (answer("{}", &[], None), "not understood"),
        (answer("{}", &[], Some("99999999999999999999999")), "no number"),
        (answer("{}", &[], Some("100")), "claims 100 bytes of 2"),
        (answer(&binary("5"), &[0; 4], Some(&binary("5").len().to_string())), "5 bytes are announced"),
        (answer(&binary("3"), &[0; 4], Some(&binary("3").len().to_string())), "needs 4 bytes, got 3"),
        (answer(&one(r#""datatype":"FP99","shape":[1],"data":[1]"#), &[], None), "unknown datatype"),
        (answer(&one(r#""datatype":"FP32","shape":[1]"#), &[], None), "no data"),
        (answer(&one(r#""datatype":"FP32","shape":[2],"data":[1]"#), &[], None), "needs 8 bytes"),
        (answer(&one(r#""datatype":"INT8","shape":[1],"data":[300]"#), &[], None), "does not fit INT8"),
        (
            answer(&one(r#""datatype":"FP32","shape":[18446744073709551615,2],"data":[1]"#), &[], None),
            "too many elements",
        ),
        (answer(&many, &[], None), "300 outputs"),
    ];
    for (answer, expected) in cases {
        let error = format!("{:#}", decode(&answer).unwrap_err());
        assert!(error.contains(expected), "{error:?} lacks {expected:?}");
    }
}

#[test]
fn nested_json_gives_its_shape() {
    let tensor = from_json(DataType::Fp32, None, &json!([[1, 2, 3], [4, 5, 6]])).unwrap();
    assert_eq!((tensor.shape(), tensor.to_f32().unwrap()[5]), (&[2, 3][..], 6.0));
    for ragged in [json!([[1, 2], [3]]), json!([[1, 2], [3, 4, 5]]), json!([[1], 2]), json!([1, [2]])] {
        let error = from_json(DataType::Fp32, None, &ragged).unwrap_err().to_string();
        assert!(error.contains("differ in length"), "{ragged}: {error}");
    }
    assert!(from_json(DataType::Fp32, None, &json!(["x"])).is_err());
}

#[test]
fn the_servers_timing_is_read() {
    let with = |text: &str| {
        let mut answer = answer("{}", &[], None);
        answer.headers.insert("server-timing", text.parse().unwrap());
        timing(&answer)
    };
    let read = with("queue;dur=0.250, compute;dur=1.5, total;dur=2, other;dur=9");
    assert_eq!(read, Some(Timing { queue_ms: 0.25, compute_ms: 1.5, total_ms: 2.0 }));
    assert_eq!((with("queue"), with("queue;dur=x"), with("queue;dur=inf")), (None, None, None));
}

#[test]
fn images_travel_with_their_length() {
    let tensor = bytes_tensor(&[b"abc", b""]).unwrap();
    assert_eq!((tensor.shape(), tensor.data().as_ref()), (&[2][..], &b"\x03\0\0\0abc\0\0\0\0"[..]));
}

#[test]
fn model_names_are_escaped() {
    assert_eq!(path("a/b c", None), "/v2/models/a%2Fb%20c/infer");
    assert_eq!(path("m", Some("2")), "/v2/models/m/versions/2/infer");
    assert_eq!(metadata_path("m", Some("2")), "/v2/models/m/versions/2");
}
