//! Requests as data: what is understood, and what is refused with which words.

use super::*;
use proptest::prelude::*;

fn parse_json(json: &str) -> Result<InferRequest, RequestError> {
    parse(&Bytes::copy_from_slice(json.as_bytes()), None)
}

#[test]
fn json_request() {
    let request = parse_json(
        r#"{"id": "a", "unknown": {"deep": [1, [2]]},
            "inputs": [{"data": [[1.5], [2]], "name": "x", "shape": [2, 1], "datatype": "FP32"}],
            "outputs": [{"name": "y", "parameters": {"binary_data": true}}, {"name": "z", "parameters": {"classification": 2}}],
            "parameters": {"priority": 7, "timeout": 1500, "sequence_id": "s", "sequence_start": true, "local_only": true}}"#,
    )
    .unwrap();
    assert_eq!(request.id.as_deref(), Some("a"));
    let (name, tensor) = &request.inputs[0];
    assert_eq!((name.as_str(), tensor.to_f32().unwrap()), ("x", vec![1.5, 2.0]));
    assert_eq!((request.priority, request.timeout), (Some(7), Some(Duration::from_micros(1500))));
    assert_eq!(request.constraints, constraint::LOCAL_ONLY);
    let forms: Vec<_> = request.outputs.iter().map(|o| (o.name.as_str(), o.binary, o.class_count)).collect();
    assert_eq!(forms, [("y", true, None), ("z", false, Some(2))]);
}

#[test]
fn binary_request() {
    let head = r#"{"inputs":[{"name":"a","shape":[2],"datatype":"INT16","parameters":{"binary_data_size":4}},
        {"name":"j","shape":[1],"datatype":"UINT8","data":[9]},
        {"name":"b","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":6}}],
        "parameters":{"binary_data_output":true}}"#;
    let body = Bytes::from([head.as_bytes(), b"\x01\0\xff\xff", b"\x02\0\0\0hi"].concat());
    let request = parse(&body, Some(head.len())).unwrap();
    let data: Vec<&[u8]> = request.inputs.iter().map(|(_, t)| &t.data()[..]).collect();
    assert_eq!(data, [&b"\x01\0\xff\xff"[..], b"\x09", b"\x02\0\0\0hi"]);
    assert!(request.binary_default);
    assert!(parse(&body, None).unwrap_err().to_string().starts_with("malformed JSON: trailing characters at line"));
    let longer = Bytes::from([&body[..], b"!"].concat());
    let error = parse(&longer, Some(head.len())).unwrap_err().to_string();
    assert_eq!(error, format!("1 bytes after the last tensor, at offset {}", body.len()));
}

/// The head of a request with one input made of these fields.
fn one_input(fields: &str) -> String {
    format!(r#"{{"inputs":[{{"name":"x",{fields}}}]}}"#)
}

#[test]
fn table_of_refusals() {
    #[rustfmt::skip]
    let table = [
        (String::new(), "malformed JSON: EOF while parsing a value at line 1 column 0"),
        ("{".into(), "malformed JSON: EOF while parsing an object at line 1 column 1"),
        ("[]".into(), "malformed JSON: invalid length 0, expected an inference request at line 1 column 2"),
        ("{}".into(), "malformed JSON: missing field `inputs` at line 1 column 2"),
        ("{\"inputs\": 1}".into(), "malformed JSON: invalid type: integer `1`, expected an array of at most 256 elements at line 1 column 12"),
        (r#"{"inputs":[{}]}"#.into(), "malformed JSON: missing field `name` at line 1 column 13"),
        (one_input(r#""datatype":"FP32""#), "malformed JSON: missing field `shape` at line 1 column 41"),
        (one_input(r#""shape":[1]"#), "malformed JSON: missing field `datatype` at line 1 column 35"),
        (one_input(r#""shape":[-1],"datatype":"FP32","data":[1]"#), "malformed JSON: invalid value: integer `-1`, expected u64 at line 1 column 34"),
        (one_input(r#""shape":[1.5],"datatype":"FP32","data":[1]"#), "malformed JSON: invalid type: floating point `1.5`, expected u64 at line 1 column 35"),
        (one_input(r#""shape":[1],"datatype":"FP33","data":[1]"#), "input \"x\": unknown datatype \"FP33\""),
        (one_input(r#""shape":[1],"datatype":"FP32""#), "input \"x\": neither data nor binary_data_size"),
        (one_input(r#""shape":[1],"datatype":"FP32","data":[1],"parameters":{"binary_data_size":4}"#), "input \"x\": both data and binary_data_size"),
        (one_input(r#""shape":[1],"datatype":"FP32","parameters":{"binary_data_size":4}"#), "input \"x\": binary_data_size says 4, 0 bytes of the body are left at offset 91"),
        (one_input(r#""shape":[1],"datatype":"FP32","parameters":{"shared_memory_region":"r"}"#), "input \"x\": shared memory is not supported: send the tensor"),
        (one_input(r#""shape":[2,2],"datatype":"FP32","data":[1,2,3]"#), "input \"x\": data holds 3 elements, shape needs 4"),
        (one_input(r#""shape":[1],"datatype":"UINT8","data":[256]"#), "input \"x\": element 0 of data: 256 does not fit UINT8"),
        (one_input(r#""shape":[4294967296,4294967296],"datatype":"FP32","data":[1]"#), "input \"x\": shape [4294967296, 4294967296] has too many elements"),
        (one_input(r#""shape":[0,1000000000000],"datatype":"FP32","data":[1]"#), "input \"x\": data holds more than 0 elements, shape needs 0"),
        (one_input(r#""shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"datatype":"FP32","data":[1]"#), "malformed JSON: invalid length 17, expected an array of at most 16 elements at line 1 column 66"),
        (one_input(r#""shape":[1],"datatype":"FP32","data":[NaN]"#), "malformed JSON: expected value at line 1 column 62"),
        (one_input(r#""shape":[1],"shape":[1]"#), "malformed JSON: duplicate field `shape` at line 1 column 42"),
        (r#"{"inputs":[],"id":7}"#.into(), "malformed JSON: invalid type: integer `7`, expected a string at line 1 column 19"),
        (format!(r#"{{"inputs":[],"id":"{}"}}"#, "i".repeat(1025)), "parameter id: longer than 1024 bytes"),
        (r#"{"inputs":[],"parameters":{"priority":256}}"#.into(), "parameter priority: 256 is not in 0..=255"),
        (r#"{"inputs":[],"parameters":{"timeout":-1}}"#.into(), "malformed JSON: invalid value: integer `-1`, expected u64 at line 1 column 39"),
        (r#"{"inputs":[],"outputs":[{"name":"y"},{"name":"y"}]}"#.into(), "output \"y\": named twice"),
        (r#"{"inputs":[{"name":"x","shape":[0],"datatype":"INT8","data":[]},{"name":"x","shape":[0],"datatype":"INT8","data":[]}]}"#.into(), "input \"x\": named twice"),
    ];
    for (json, expected) in table {
        assert_eq!(parse_json(&json).unwrap_err().to_string(), expected, "{json}");
    }
}

#[test]
fn binary_sizes_must_fit_the_shape() {
    let head = r#"{"inputs":[{"name":"x","shape":[3],"datatype":"FP32","parameters":{"binary_data_size":8}}]}"#;
    let body = Bytes::from([head.as_bytes(), &[0; 8]].concat());
    let error = parse(&body, Some(head.len())).unwrap_err().to_string();
    assert_eq!(error, "input \"x\": FP32 tensor of shape [3] needs 12 bytes, got 8");
}

#[test]
fn depth_costs_no_stack() {
    let deep = "[".repeat(1 << 20) + &"]".repeat(1 << 20);
    let error = parse_json(&one_input(&format!(r#""shape":[1],"datatype":"FP32","data":{deep}"#))).unwrap_err();
    assert_eq!(error.to_string(), "input \"x\": data holds 0 elements, shape needs 1");
}

proptest! {
    #[test]
    fn random_bodies_are_answered(body in prop::collection::vec(any::<u8>(), 0..200), head in prop::option::of(0usize..256)) {
        let _ = parse(&Bytes::from(body), head);
    }

    #[test]
    fn damaged_requests_are_answered(at in 0usize..220, byte: u8, cut in 0usize..260, head_delta in -3isize..4) {
        let head = r#"{"inputs":[{"name":"a","shape":[2],"datatype":"INT16","parameters":{"binary_data_size":4}},
            {"name":"b","shape":[2,1],"datatype":"BYTES","data":["\u00e9",["x"]]}],"outputs":[{"name":"y"}],"id":"z"}"#;
        let mut body = [head.as_bytes(), &[1, 2, 3, 4]].concat();
        let damaged = at.min(body.len() - 1);
        body[damaged] = byte;
        body.truncate(cut);
        let _ = parse(&Bytes::from(body), Some(head.len().saturating_add_signed(head_delta)));
    }
}
