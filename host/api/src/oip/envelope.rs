//! The JSON head of an inference request, as sent. Borrowed where it can be: `data` stays text until its type is known.

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::fmt;
use std::marker::PhantomData;

/// Inputs, or outputs, that one request may name. Models have a handful.
const TENSORS_MAX: usize = 256;
/// Extents of a shape. Models have at most eight.
const RANK_MAX: usize = 16;

/// The head. Fields that it does not know are ignored, as the protocol's clients expect.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an inference request")]
pub(crate) struct Envelope<'a> {
    pub(crate) id: Option<String>,
    #[serde(default)]
    pub(crate) parameters: RequestParameters,
    #[serde(borrow)]
    pub(crate) inputs: Bounded<Input<'a>, TENSORS_MAX>,
    #[serde(default)]
    pub(crate) outputs: Bounded<Output, TENSORS_MAX>,
}

/// Parameters of the whole request. `sequence_*` belongs to stateful models, of which there are none: it is ignored.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct RequestParameters {
    pub(crate) priority: Option<u64>,
    /// Microseconds.
    pub(crate) timeout: Option<u64>,
    pub(crate) binary_data_output: Option<bool>,
    pub(crate) local_only: Option<bool>,
    pub(crate) lossless_only: Option<bool>,
}

/// One input tensor.
#[derive(Debug, Deserialize)]
pub(crate) struct Input<'a> {
    pub(crate) name: String,
    pub(crate) shape: Bounded<u64, RANK_MAX>,
    pub(crate) datatype: String,
    #[serde(default)]
    pub(crate) parameters: InputParameters,
    #[serde(borrow)]
    pub(crate) data: Option<&'a RawValue>,
}

/// Parameters of one input.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct InputParameters {
    pub(crate) binary_data_size: Option<u64>,
    pub(crate) shared_memory_region: Option<String>,
}

/// One wanted output.
#[derive(Debug, Deserialize)]
pub(crate) struct Output {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) parameters: OutputParameters,
}

/// Parameters of one output.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct OutputParameters {
    pub(crate) binary_data: Option<bool>,
    pub(crate) classification: Option<u64>,
    pub(crate) shared_memory_region: Option<String>,
}

/// A list of at most `MAX` elements: a longer one is refused while it is read, not after.
#[derive(Debug)]
pub(crate) struct Bounded<T, const MAX: usize>(pub(crate) Vec<T>);

impl<T, const MAX: usize> Default for Bounded<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Bounded<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(BoundedVisitor(PhantomData))
    }
}

struct BoundedVisitor<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for BoundedVisitor<T, MAX> {
    type Value = Bounded<T, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of at most {MAX} elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = seq.next_element()? {
            if list.len() == MAX {
                return Err(A::Error::invalid_length(MAX + 1, &self));
            }
            list.push(element);
        }
        Ok(Bounded(list))
    }
}
