//! Tensor elements between JSON and little-endian bytes, without a tree of JSON values in between.
//!
//! The text of `data` has been checked to be one JSON value by the parser of the envelope; what is left is a flat walk
//! over its elements. Arrays may nest as the client likes: the protocol allows nested and flat, and only the count of
//! elements is held against the shape. Floats are rounded once, from the text to the type, so that JSON and binary
//! requests give the same bits.

use bps_types::{DataType, HostTensor};
use serde::ser::{Error as _, SerializeSeq};
use serde::{Serialize, Serializer};
use std::str::FromStr;

/// What is wrong with the elements of a tensor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ElementError {
    /// `data` holds something other than an array.
    #[error("data must be an array")]
    NoArray,
    /// The element does not fit the type.
    #[error("element {index} of data: {token} does not fit {data_type}")]
    Value { index: usize, token: String, data_type: DataType },
    /// More or fewer elements than the shape says.
    #[error("data holds {got} elements, shape needs {needed}")]
    Count { got: String, needed: usize },
    /// JSON has no notation for the type.
    #[error("{0} data travels only as binary (binary_data_size)")]
    OnlyBinary(DataType),
}

/// Reads the `count` elements of `json`, the text of one JSON value, into little-endian bytes.
pub(crate) fn decode(data_type: DataType, count: usize, json: &str) -> Result<Vec<u8>, ElementError> {
    match data_type {
        DataType::Bool => decode_with(data_type, count, json, |token, out| match token {
            "true" | "1" => push(out, [1]),
            "false" | "0" => push(out, [0]),
            _ => false,
        }),
        DataType::Uint8 => decode_with(data_type, count, json, |t, o| number(t, o, u8::to_le_bytes)),
        DataType::Uint16 => decode_with(data_type, count, json, |t, o| number(t, o, u16::to_le_bytes)),
        DataType::Uint32 => decode_with(data_type, count, json, |t, o| number(t, o, u32::to_le_bytes)),
        DataType::Uint64 => decode_with(data_type, count, json, |t, o| number(t, o, u64::to_le_bytes)),
        DataType::Int8 => decode_with(data_type, count, json, |t, o| number(t, o, i8::to_le_bytes)),
        DataType::Int16 => decode_with(data_type, count, json, |t, o| number(t, o, i16::to_le_bytes)),
        DataType::Int32 => decode_with(data_type, count, json, |t, o| number(t, o, i32::to_le_bytes)),
        DataType::Int64 => decode_with(data_type, count, json, |t, o| number(t, o, i64::to_le_bytes)),
        DataType::Fp32 => decode_with(data_type, count, json, |token, out| {
            starts_number(token) && token.parse().is_ok_and(|v: f32| v.is_finite() && push(out, v.to_le_bytes()))
        }),
        DataType::Fp64 => decode_with(data_type, count, json, |token, out| {
            starts_number(token) && token.parse().is_ok_and(|v: f64| v.is_finite() && push(out, v.to_le_bytes()))
        }),
        DataType::Bytes => decode_with(data_type, count, json, string),
        DataType::Fp16 | DataType::Bf16 => Err(ElementError::OnlyBinary(data_type)),
    }
}

fn push<const N: usize>(out: &mut Vec<u8>, bytes: [u8; N]) -> bool {
    out.extend_from_slice(&bytes);
    true
}

fn number<T: FromStr, const N: usize>(token: &str, out: &mut Vec<u8>, bytes: fn(T) -> [u8; N]) -> bool {
    token.parse().is_ok_and(|v| push(out, bytes(v)))
}

// Rust also reads words such as `inf` and `true` is no number; only what JSON calls a number may pass.
fn starts_number(token: &str) -> bool {
    token.bytes().next().is_some_and(|b| b == b'-' || b.is_ascii_digit())
}

fn string(token: &str, out: &mut Vec<u8>) -> bool {
    let Ok(text) = serde_json::from_str::<String>(token) else { return false };
    let Ok(length) = u32::try_from(text.len()) else { return false };
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
    true
}

fn decode_with(
    data_type: DataType,
    count: usize,
    json: &str,
    mut element: impl FnMut(&str, &mut Vec<u8>) -> bool,
) -> Result<Vec<u8>, ElementError> {
    if !json.trim_start().starts_with('[') {
        return Err(ElementError::NoArray);
    }
    // An element and its comma take two bytes at least: the reserve is bounded by what was sent, not by what was declared.
    let mut out = Vec::with_capacity(count.min(json.len() / 2 + 1).saturating_mul(data_type.size_bytes().unwrap_or(4)));
    let mut index = 0;
    for token in Tokens::new(json) {
        if index == count {
            return Err(ElementError::Count { got: format!("more than {count}"), needed: count });
        }
        if !element(token, &mut out) {
            return Err(ElementError::Value { index, token: shortened(token), data_type });
        }
        index += 1;
    }
    if index == count { Ok(out) } else { Err(ElementError::Count { got: index.to_string(), needed: count }) }
}

fn shortened(token: &str) -> String {
    match token.char_indices().nth(32) {
        Some((at, _)) => format!("{}...", &token[..at]),
        None => token.to_owned(),
    }
}

/// The elements of nested arrays, as text, in order. An object comes out as one token `{`, which no type takes.
struct Tokens<'a> {
    json: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    fn new(json: &'a str) -> Self {
        Self { json, at: 0 }
    }

    fn string_end(&self) -> usize {
        let bytes = self.json.as_bytes();
        let mut end = self.at + 1;
        while end < bytes.len() && bytes[end] != b'"' {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        (end + 1).min(bytes.len())
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let bytes = self.json.as_bytes();
        while matches!(bytes.get(self.at)?, b'[' | b']' | b',' | b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
        let end = match bytes[self.at] {
            b'"' => self.string_end(),
            b'{' => self.at + 1,
            _ => {
                let ends = |b: &u8| matches!(b, b',' | b']' | b' ' | b'\n' | b'\r' | b'\t');
                bytes[self.at..].iter().position(ends).map_or(bytes.len(), |n| self.at + n)
            }
        };
        // Every end lies behind an ASCII byte or at the end of the text, except in text that is not JSON.
        let token = self.json.get(self.at..end).unwrap_or("?");
        self.at = end;
        Some(token)
    }
}

/// A tensor's elements as a flat JSON array. Numbers that JSON cannot carry (NaN, infinities) become `null`.
pub(crate) struct Elements<'a>(pub(crate) &'a HostTensor);

impl Serialize for Elements<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let data: &[u8] = self.0.data();
        match self.0.data_type() {
            DataType::Bool => to.collect_seq(data.iter().map(|&b| b != 0)),
            DataType::Uint8 => to.collect_seq(data),
            DataType::Int8 => to.collect_seq(data.iter().map(|&b| i8::from_le_bytes([b]))),
            DataType::Uint16 => to.collect_seq(data.as_chunks().0.iter().map(|&b| u16::from_le_bytes(b))),
            DataType::Int16 => to.collect_seq(data.as_chunks().0.iter().map(|&b| i16::from_le_bytes(b))),
            DataType::Uint32 => to.collect_seq(data.as_chunks().0.iter().map(|&b| u32::from_le_bytes(b))),
            DataType::Int32 => to.collect_seq(data.as_chunks().0.iter().map(|&b| i32::from_le_bytes(b))),
            DataType::Uint64 => to.collect_seq(data.as_chunks().0.iter().map(|&b| u64::from_le_bytes(b))),
            DataType::Int64 => to.collect_seq(data.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b))),
            DataType::Fp32 => to.collect_seq(data.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b))),
            DataType::Fp64 => to.collect_seq(data.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b))),
            DataType::Bytes => strings(data, to),
            other @ (DataType::Fp16 | DataType::Bf16) => {
                Err(S::Error::custom(format!("{other} travels only as binary: ask for binary_data")))
            }
        }
    }
}

fn strings<S: Serializer>(mut data: &[u8], to: S) -> Result<S::Ok, S::Error> {
    let mut seq = to.serialize_seq(None)?;
    while let Some((element, rest)) = super::binary::next_bytes_element(data) {
        let text = str::from_utf8(element).map_err(|_| S::Error::custom("not UTF-8: ask for binary_data"))?;
        seq.serialize_element(text)?;
        data = rest;
    }
    seq.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    #[test]
    fn nested_and_flat_are_the_same() {
        for json in ["[1,2,3,4]", "[[1,2],[3,4]]", "[[[1],[2]],[[3],[4]]]", " [ [1 , 2] ,\n[3,4]\t] "] {
            assert_eq!(decode(DataType::Uint8, 4, json).unwrap(), [1, 2, 3, 4], "{json}");
        }
    }

    #[test]
    fn table_of_refusals() {
        use DataType::*;
        #[rustfmt::skip]
        let table = [
            (Uint8, 1, "[300]", "element 0 of data: 300 does not fit UINT8"),
            (Uint8, 1, "[-1]", "element 0 of data: -1 does not fit UINT8"),
            (Int8, 2, "[0,128]", "element 1 of data: 128 does not fit INT8"),
            (Int64, 1, "[9223372036854775808]", "element 0 of data: 9223372036854775808 does not fit INT64"),
            (Int32, 1, "[1.0]", "element 0 of data: 1.0 does not fit INT32"),
            (Int32, 1, "[1e3]", "element 0 of data: 1e3 does not fit INT32"),
            (Fp32, 1, "[1e39]", "element 0 of data: 1e39 does not fit FP32"),
            (Fp64, 1, "[1e309]", "element 0 of data: 1e309 does not fit FP64"),
            (Fp32, 1, "[null]", "element 0 of data: null does not fit FP32"),
            (Fp32, 1, "[true]", "element 0 of data: true does not fit FP32"),
            (Fp32, 1, "[\"1\"]", "element 0 of data: \"1\" does not fit FP32"),
            (Fp32, 1, "[{\"a\":1}]", "element 0 of data: { does not fit FP32"),
            (Bool, 1, "[2]", "element 0 of data: 2 does not fit BOOL"),
            (Bytes, 1, "[1]", "element 0 of data: 1 does not fit BYTES"),
            (Bytes, 1, "[\"\\ud800\"]", "element 0 of data: \"\\ud800\" does not fit BYTES"),
            (Uint8, 2, "[1]", "data holds 1 elements, shape needs 2"),
            (Uint8, 2, "[1,2,3]", "data holds more than 2 elements, shape needs 2"),
            (Uint8, usize::MAX, "[]", "data holds 0 elements, shape needs 18446744073709551615"),
            (Uint8, 1, "7", "data must be an array"),
            (Fp16, 1, "[1]", "FP16 data travels only as binary (binary_data_size)"),
            (Bf16, 1, "[1]", "BF16 data travels only as binary (binary_data_size)"),
            (Uint8, 1, "[99999999999999999999999999999999999999]", "element 0 of data: 99999999999999999999999999999999... does not fit UINT8"),
        ];
        for (data_type, count, json, expected) in table {
            assert_eq!(decode(data_type, count, json).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn strings_are_framed() {
        let framed = decode(DataType::Bytes, 3, r#"["a,b]", "", "\"\u00e9\\"]"#).unwrap();
        assert_eq!(framed, b"\x04\0\0\0a,b]\0\0\0\0\x04\0\0\0\"\xc3\xa9\\");
        let tensor = HostTensor::new(DataType::Bytes, vec![3], framed.into()).unwrap();
        assert_eq!(serde_json::to_string(&Elements(&tensor)).unwrap(), r#"["a,b]","","\"é\\"]"#);
    }

    #[test]
    fn what_json_cannot_carry() {
        let tensor = HostTensor::from_f32(vec![3], &[f32::NAN, f32::INFINITY, 0.1]).unwrap();
        assert_eq!(serde_json::to_string(&Elements(&tensor)).unwrap(), "[null,null,0.1]");
        let half = HostTensor::new(DataType::Fp16, vec![1], Bytes::from_static(&[0, 0])).unwrap();
        assert!(serde_json::to_string(&Elements(&half)).unwrap_err().to_string().contains("only as binary"));
        let binary = HostTensor::new(DataType::Bytes, vec![1], Bytes::from_static(b"\x01\0\0\0\xff")).unwrap();
        assert!(serde_json::to_string(&Elements(&binary)).unwrap_err().to_string().contains("not UTF-8"));
    }

    fn data_types() -> impl Strategy<Value = DataType> {
        let with_json = |t: &DataType| !matches!(t, DataType::Fp16 | DataType::Bf16 | DataType::Bytes);
        prop::sample::select(DataType::ALL.into_iter().filter(with_json).collect::<Vec<_>>())
    }

    proptest! {
        #[test]
        fn bytes_to_json_and_back(data_type in data_types(), mut data in prop::collection::vec(any::<u8>(), 0..256)) {
            let size = data_type.size_bytes().unwrap();
            data.truncate(data.len() / size * size);
            match data_type {
                DataType::Bool => data.iter_mut().for_each(|b| *b &= 1),
                // All-ones exponents are NaN and infinities, which JSON does not carry.
                DataType::Fp32 => data.chunks_mut(4).for_each(|b| b[3] &= 0xbf),
                DataType::Fp64 => data.chunks_mut(8).for_each(|b| b[7] &= 0xbf),
                _ => {}
            }
            let count = data.len() / size;
            let tensor = HostTensor::new(data_type, vec![count], Bytes::from(data.clone())).unwrap();
            let json = serde_json::to_string(&Elements(&tensor)).unwrap();
            prop_assert_eq!(decode(data_type, count, &json).unwrap(), data);
        }

        #[test]
        fn any_text_is_answered(data_type in prop::sample::select(&DataType::ALL[..]), count: usize, text in "\\PC{0,64}") {
            // Without the envelope's check: even what is not JSON must not panic.
            let _ = decode(data_type, count, &text);
            let _ = decode(data_type, count, &format!("[{text}]"));
        }
    }
}
