//! Inference requests and answers of the Open Inference Protocol v2 as a client writes and reads them: a JSON head, and
//! tensors as raw bytes after it (the binary data extension). Answers are checked as if they came from a stranger.

use crate::client::Answer;
use anyhow::{Context, Result, bail};
use bps_types::{DataType, HostTensor, element_count};
use bytes::{BufMut, Bytes, BytesMut};
use hyper::header::{CONTENT_TYPE, HeaderName};
use serde::Deserialize;
use serde_json::{Value, json};

/// Tells where the JSON ends and the bytes begin.
pub(crate) const HEAD_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");
/// Most outputs an answer may have.
const OUTPUTS_MAX: usize = 256;

/// A tensor with its name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Named {
    /// As the model calls it.
    pub(crate) name: String,
    /// The tensor.
    pub(crate) tensor: HostTensor,
}

/// A request, ready to be sent any number of times.
#[derive(Clone, Debug)]
pub(crate) struct WireRequest {
    /// Its headers.
    pub(crate) headers: [(HeaderName, String); 2],
    /// Its body.
    pub(crate) body: Bytes,
}

/// A decoded answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    /// Which model answered.
    pub(crate) model: String,
    /// Which version of it.
    pub(crate) version: String,
    /// Its outputs.
    pub(crate) outputs: Vec<Named>,
    /// Where the server says the time went.
    pub(crate) timing: Option<Timing>,
}

/// The `Server-Timing` header of an answer. All in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub(crate) struct Timing {
    /// Waiting in the queue.
    pub(crate) queue_ms: f64,
    /// On the device.
    pub(crate) compute_ms: f64,
    /// From arrival at the scheduler to the result.
    pub(crate) total_ms: f64,
}

/// Reads the header; none where it is missing or says something else.
pub(crate) fn timing(answer: &Answer) -> Option<Timing> {
    let header = answer.headers.get("server-timing")?.to_str().ok()?;
    let mut timing = Timing::default();
    for entry in header.split(',') {
        let (name, millis) = entry.trim().split_once(";dur=")?;
        let millis: f64 = millis.parse().ok().filter(|m: &f64| m.is_finite())?;
        match name {
            "queue" => timing.queue_ms = millis,
            "compute" => timing.compute_ms = millis,
            "total" => timing.total_ms = millis,
            _ => {}
        }
    }
    Some(timing)
}

/// The path of a model's inference endpoint.
pub(crate) fn path(model: &str, version: Option<&str>) -> String {
    let version = version.map(|v| format!("/versions/{}", escape(v))).unwrap_or_default();
    format!("/v2/models/{}{version}/infer", escape(model))
}

/// The path of a model's description.
pub(crate) fn metadata_path(model: &str, version: Option<&str>) -> String {
    path(model, version).trim_end_matches("/infer").to_owned()
}

/// Percent-encodes everything but what a path segment may hold as it is.
fn escape(segment: &str) -> String {
    let mut out = String::with_capacity(segment.len());
    for b in segment.bytes() {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(b.into());
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

/// Builds a request: all tensors as bytes, all answers wanted as bytes, `outputs` only (empty: all).
pub(crate) fn encode(inputs: &[Named], outputs: &[String], parameters: &Value) -> WireRequest {
    let describe = |n: &Named| {
        let t = &n.tensor;
        json!({ "name": n.name, "shape": t.shape(), "datatype": t.data_type().name(),
                "parameters": { "binary_data_size": t.data().len() } })
    };
    let mut head = json!({
        "inputs": inputs.iter().map(describe).collect::<Vec<_>>(),
        "parameters": parameters,
    });
    head["parameters"]["binary_data_output"] = true.into();
    if !outputs.is_empty() {
        head["outputs"] = outputs.iter().map(|name| json!({ "name": name })).collect();
    }
    let head = head.to_string();
    let payload_bytes: usize = inputs.iter().map(|n| n.tensor.data().len()).sum();
    let mut body = BytesMut::with_capacity(head.len() + payload_bytes);
    body.put_slice(head.as_bytes());
    inputs.iter().for_each(|n| body.put_slice(n.tensor.data()));
    let headers = [(HEAD_LENGTH, head.len().to_string()), (CONTENT_TYPE, "application/octet-stream".to_owned())];
    WireRequest { headers, body: body.freeze() }
}

/// A tensor of byte strings, each preceded by its length.
pub(crate) fn bytes_tensor(elements: &[&[u8]]) -> Result<HostTensor> {
    let mut data = BytesMut::new();
    for element in elements {
        data.put_u32_le(u32::try_from(element.len()).context("an element is larger than 4 GiB")?);
        data.put_slice(element);
    }
    Ok(HostTensor::new(DataType::Bytes, vec![elements.len()], data.freeze())?)
}

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    model_name: String,
    #[serde(default)]
    model_version: String,
    outputs: Vec<OutputHead>,
}

#[derive(Deserialize)]
struct OutputHead {
    name: String,
    datatype: String,
    shape: Vec<usize>,
    #[serde(default)]
    parameters: OutputParameters,
    data: Option<Value>,
}

#[derive(Default, Deserialize)]
struct OutputParameters {
    binary_data_size: Option<usize>,
}

/// Reads an answer with a success status.
pub(crate) fn decode(answer: &Answer) -> Result<Reply> {
    let head_bytes = match answer.headers.get(HEAD_LENGTH) {
        None => answer.body.len(),
        Some(value) => {
            value.to_str().ok().and_then(|v| v.parse().ok()).context("the answer's head length is no number")?
        }
    };
    if head_bytes > answer.body.len() {
        bail!("the answer's head claims {head_bytes} bytes of {}", answer.body.len());
    }
    let head: Head =
        serde_json::from_slice(&answer.body[..head_bytes]).context("the answer's head is not understood")?;
    if head.outputs.len() > OUTPUTS_MAX {
        bail!("the answer has {} outputs, at most {OUTPUTS_MAX} are taken", head.outputs.len());
    }
    let mut rest = answer.body.slice(head_bytes..);
    let mut outputs = Vec::with_capacity(head.outputs.len());
    for output in head.outputs {
        let tensor =
            read_output(&output, &mut rest).with_context(|| format!("output {:?} of the answer", output.name))?;
        outputs.push(Named { name: output.name, tensor });
    }
    Ok(Reply { model: head.model_name, version: head.model_version, outputs, timing: timing(answer) })
}

fn read_output(output: &OutputHead, rest: &mut Bytes) -> Result<HostTensor> {
    let data_type =
        DataType::from_name(&output.datatype).with_context(|| format!("unknown datatype {:?}", output.datatype))?;
    match (output.parameters.binary_data_size, &output.data) {
        (Some(size), None) if size <= rest.len() => {
            Ok(HostTensor::new(data_type, output.shape.clone(), rest.split_to(size))?)
        }
        (Some(size), None) => bail!("{size} bytes are announced, {} are left", rest.len()),
        (None, Some(data)) => from_json(data_type, Some(output.shape.clone()), data),
        _ => bail!("it has no data, or twice"),
    }
}

/// A tensor from nested or flat JSON numbers; without a shape, the nesting is the shape.
pub(crate) fn from_json(data_type: DataType, shape: Option<Vec<usize>>, data: &Value) -> Result<HostTensor> {
    let shape = match shape {
        Some(shape) => shape,
        None => {
            let shape = nesting(data);
            if !is_even(data, &shape) {
                bail!(
                    "lists beside each other differ in length or depth; by the first ones the shape would be {shape:?}"
                );
            }
            shape
        }
    };
    let mut bytes = Vec::new();
    flatten(data_type, data, &mut bytes)?;
    if element_count(&shape).is_none() {
        bail!("shape {shape:?} has too many elements");
    }
    Ok(HostTensor::new(data_type, shape, bytes.into())?)
}

fn nesting(data: &Value) -> Vec<usize> {
    let mut shape = Vec::new();
    let mut at = data;
    while let Value::Array(list) = at {
        shape.push(list.len());
        let Some(first) = list.first() else { break };
        at = first;
    }
    shape
}

/// Whether every list is as long as the first of its depth. serde_json's depth limit bounds the recursion.
fn is_even(data: &Value, shape: &[usize]) -> bool {
    match (data, shape) {
        (Value::Array(list), [length, rest @ ..]) => list.len() == *length && list.iter().all(|v| is_even(v, rest)),
        (Value::Array(_), []) => false,
        (_, rest) => rest.is_empty(),
    }
}

fn flatten(data_type: DataType, value: &Value, out: &mut Vec<u8>) -> Result<()> {
    if let Value::Array(list) = value {
        return list.iter().try_for_each(|v| flatten(data_type, v, out));
    }
    // serde_json's depth limit bounds the recursion; integers are checked by the target type, not cut.
    macro_rules! integer {
        ($t:ty) => {{
            let wide = value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
            let n = wide.and_then(|n| <$t>::try_from(n).ok());
            out.extend_from_slice(&n.with_context(|| format!("{value} does not fit {data_type}"))?.to_le_bytes());
        }};
    }
    let float = || value.as_f64().with_context(|| format!("{value} is not a number"));
    match data_type {
        DataType::Fp32 => out.extend_from_slice(&(float()? as f32).to_le_bytes()),
        DataType::Fp64 => out.extend_from_slice(&float()?.to_le_bytes()),
        DataType::Bool => out.push(value.as_bool().with_context(|| format!("{value} is not true or false"))?.into()),
        DataType::Uint8 => integer!(u8),
        DataType::Uint16 => integer!(u16),
        DataType::Uint32 => integer!(u32),
        DataType::Uint64 => integer!(u64),
        DataType::Int8 => integer!(i8),
        DataType::Int16 => integer!(i16),
        DataType::Int32 => integer!(i32),
        DataType::Int64 => integer!(i64),
        DataType::Bytes => {
            let text = value.as_str().with_context(|| format!("{value} is not text"))?;
            out.put_u32_le(u32::try_from(text.len())?);
            out.extend_from_slice(text.as_bytes());
        }
        DataType::Fp16 | DataType::Bf16 => bail!("{data_type} has no JSON form; use a .npy file"),
    }
    Ok(())
}

/// The elements as JSON numbers, flat; none for types that have no JSON form.
pub(crate) fn to_json(tensor: &HostTensor) -> Option<Value> {
    fn all<const N: usize, T: Into<Value>>(data: &[u8], read: fn([u8; N]) -> T) -> Option<Value> {
        Some(data.as_chunks::<N>().0.iter().map(|b| read(*b).into()).collect())
    }
    let data = tensor.data();
    match tensor.data_type() {
        DataType::Bool => Some(data.iter().map(|b| Value::from(*b != 0)).collect()),
        DataType::Uint8 => all(data, u8::from_le_bytes),
        DataType::Uint16 => all(data, u16::from_le_bytes),
        DataType::Uint32 => all(data, u32::from_le_bytes),
        DataType::Uint64 => all(data, u64::from_le_bytes),
        DataType::Int8 => all(data, i8::from_le_bytes),
        DataType::Int16 => all(data, i16::from_le_bytes),
        DataType::Int32 => all(data, i32::from_le_bytes),
        DataType::Int64 => all(data, i64::from_le_bytes),
        DataType::Fp32 => all(data, f32::from_le_bytes),
        DataType::Fp64 => all(data, f64::from_le_bytes),
        DataType::Fp16 | DataType::Bf16 | DataType::Bytes => None,
    }
}

#[cfg(test)]
mod tests;
