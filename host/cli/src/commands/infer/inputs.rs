//! What `--input` names, as tensors.

use crate::exit::usage;
use crate::infer_wire::{self, Named};
use crate::npy;
use anyhow::{Context, Result};
use bps_types::{DataType, HostTensor};
use serde_json::Value;
use std::path::Path;

/// A client's input file; hosts refuse far smaller bodies.
const FILE_BYTES_MAX: u64 = 1 << 30;
const IMAGES: [&str; 3] = ["png", "jpg", "jpeg"];

/// Reads one `[NAME=]VALUE`; `metadata` is the server's description of the model.
pub(crate) fn read(text: &str, metadata: &Value) -> Result<Named> {
    let (name, value) = split(text);
    let specs = metadata["inputs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let spec = match (name, specs) {
        (Some(name), _) => specs
            .iter()
            .find(|s| s["name"] == name)
            .with_context(|| format!("the model has no input {name:?}; it has {}", names(specs)))?,
        (None, [only]) => only,
        (None, _) => {
            return Err(usage(format!("--input {text}: say which input, NAME=VALUE; the model has {}", names(specs))));
        }
    };
    let name = spec["name"].as_str().context("the server names no input")?.to_owned();
    let tensor = tensor(value, spec).with_context(|| format!("input {name:?}"))?;
    Ok(Named { name, tensor })
}

/// A name is what stands before the first `=`, unless the value has begun by then.
fn split(text: &str) -> (Option<&str>, &str) {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !name.contains(['[', '/', '\\', '"']) => (Some(name), value),
        _ => (None, text),
    }
}

fn names(specs: &[Value]) -> String {
    let names: Vec<&str> = specs.iter().filter_map(|s| s["name"].as_str()).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

fn tensor(value: &str, spec: &Value) -> Result<HostTensor> {
    if value.trim_start().starts_with('[') {
        return from_json(value.as_bytes(), spec);
    }
    let path = Path::new(value);
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    let known = extension == "npy" || extension == "json" || IMAGES.contains(&extension.as_str());
    if !known {
        return Err(usage(format!("{value:?} is neither a .npy, .png, .jpg or .json file nor a list like [1, 2]")));
    }
    let bytes = read_file(path)?;
    match extension.as_str() {
        "npy" => Ok(npy::parse(bytes.into())?),
        "json" => from_json(&bytes, spec),
        _ => infer_wire::bytes_tensor(&[&bytes]),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    crate::commands::codec::read_file(path, usize::try_from(FILE_BYTES_MAX)?)
}

fn from_json(text: &[u8], spec: &Value) -> Result<HostTensor> {
    let data: Value = serde_json::from_slice(text).context("not JSON")?;
    let data_type = spec["datatype"].as_str().and_then(DataType::from_name).unwrap_or(DataType::Fp32);
    infer_wire::from_json(data_type, None, &data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::fs;

    fn one() -> Value {
        json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [-1, 2] }] })
    }

    #[test]
    fn lists_and_names() {
        for text in ["[[1, 2]]", "x=[[1, 2]]"] {
            let named = read(text, &one()).unwrap();
            assert_eq!((named.name.as_str(), named.tensor.shape()), ("x", &[1, 2][..]));
        }
        assert_eq!(split("a=b=c"), (Some("a"), "b=c"));
        assert_eq!(split("dir/a=b.npy"), (None, "dir/a=b.npy"));
        assert_eq!(split(r#"["a=b"]"#), (None, r#"["a=b"]"#));
    }

    #[test]
    fn files_by_extension() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            fs::write(&path, bytes).unwrap();
            path.to_string_lossy().into_owned()
        };
        let tensor = HostTensor::from_f32(vec![1, 2], &[1.0, 2.0]).unwrap();
        let npy = write("a.npy", &npy::encode(&tensor).unwrap());
        assert_eq!(read(&format!("x={npy}"), &one()).unwrap().tensor, tensor);
        let png = read(&write("a.PNG", b"not decoded here"), &one()).unwrap().tensor;
        assert_eq!((png.data_type(), png.shape()), (DataType::Bytes, &[1][..]));
        assert_eq!(read(&write("a.json", b"[[1, 2]]"), &one()).unwrap().tensor, tensor);
    }

    #[test]
    fn mistakes_are_named() {
        let two = json!({ "inputs": [{ "name": "x" }, { "name": "y" }] });
        let cases = [
            ("z=[1]", &two, "no input \"z\"; it has x, y"),
            ("[1]", &two, "which input"),
            ("x=[1", &two, "not JSON"),
            ("x=file.bmp", &two, "neither"),
            ("x=nowhere.npy", &two, "nowhere.npy"),
        ];
        for (text, metadata, expected) in cases {
            let error = format!("{:#}", read(text, metadata).unwrap_err());
            assert!(error.contains(expected), "{error:?} lacks {expected:?}");
        }
    }
}
