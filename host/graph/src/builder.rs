//! Writing ONNX: models made by program, and new weights for a model that is there.
//!
//! Models are written for opset 17 with the batch as the open extent `N`. The bytes depend on the calls and the seed alone.

pub use crate::fill::Fill;
pub use crate::outside::{OutsideFiles, with_external};

use crate::error::GraphError;
use crate::limits::Limits;
use crate::proto::{
    AttributeProto, DimensionProto, DimensionValue, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto, attribute_type, data_type,
};
use bytes::Bytes;
use prost::Message;
use std::collections::BTreeMap;

const OPSET: i64 = 17;
const IR_VERSION: i64 = 8;

/// Value of a node's attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// A whole number, or 0 and 1 for no and yes.
    Int(i64),
    /// A list of whole numbers.
    Ints(Vec<i64>),
    /// A number.
    Float(f32),
    /// A text.
    Text(String),
}

/// Collects a graph. Tensors are meant by their names, which the methods that make them return.
#[derive(Clone, Debug)]
pub struct ModelBuilder {
    name: String,
    inputs: Vec<ValueInfoProto>,
    outputs: Vec<ValueInfoProto>,
    nodes: Vec<NodeProto>,
    weights: Vec<Weight>,
    integers: Vec<TensorProto>,
}

/// A tensor to be filled when the model is written.
#[derive(Clone, Debug)]
struct Weight {
    name: String,
    shape: Vec<usize>,
    fill: Fill,
}

impl ModelBuilder {
    /// An empty graph.
    pub fn new(name: &str) -> Self {
        let name = name.to_owned();
        Self { name, inputs: vec![], outputs: vec![], nodes: vec![], weights: vec![], integers: vec![] }
    }

    /// An FP32 input; `extents` are those after the batch.
    pub fn input(&mut self, name: &str, extents: &[usize]) -> String {
        self.inputs.push(value_info(name, extents));
        name.to_owned()
    }

    /// An FP32 initializer.
    pub fn weight(&mut self, name: &str, shape: &[usize], fill: Fill) -> String {
        self.weights.push(Weight { name: name.to_owned(), shape: shape.to_vec(), fill });
        name.to_owned()
    }

    /// A list of integers, as shapes are given.
    pub fn integers(&mut self, name: &str, values: &[i64]) -> String {
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.integers.push(TensorProto {
            name: name.to_owned(),
            data_type: data_type::INT64,
            dims: vec![values.len() as i64],
            raw_data: Some(raw.into()),
            ..Default::default()
        });
        name.to_owned()
    }

    /// A node with one result, which is called `<name>_output_0`. An empty operand is an absent one.
    pub fn node(&mut self, op_type: &str, name: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) -> String {
        let output = format!("{name}_output_0");
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|i| (*i).to_owned()).collect(),
            output: vec![output.clone()],
            name: name.to_owned(),
            op_type: op_type.to_owned(),
            attribute: attributes.iter().map(|(name, value)| attribute(name, value)).collect(),
            ..Default::default()
        });
        output
    }

    /// Makes a tensor an output and calls it `name`; `extents` are those after the batch.
    pub fn output(&mut self, tensor: &str, name: &str, extents: &[usize]) {
        let every = self.nodes.iter_mut().flat_map(|n| n.input.iter_mut().chain(&mut n.output));
        every.filter(|n| *n == tensor).for_each(|n| name.clone_into(n));
        self.outputs.push(value_info(name, extents));
    }

    /// Names and shapes of the FP32 initializers, in the order they were added.
    pub fn weights(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.weights.iter().map(|w| (w.name.as_str(), w.shape.as_slice()))
    }

    /// The file. Random weights follow from the seed and from their place among the weights.
    pub fn write(&self, seed: u64) -> Vec<u8> {
        self.model(|place, weight| weight.fill.bytes(weight.shape.iter().product(), seed, place as u64)).encode_to_vec()
    }

    /// The message, with the contents of each weight from `data`.
    fn model(&self, data: impl Fn(usize, &Weight) -> Vec<u8>) -> ModelProto {
        let weights = self.weights.iter().enumerate().map(|(place, weight)| TensorProto {
            name: weight.name.clone(),
            data_type: data_type::FLOAT,
            dims: weight.shape.iter().map(|d| *d as i64).collect(),
            raw_data: Some(Bytes::from(data(place, weight))),
            ..Default::default()
        });
        let graph = GraphProto {
            name: self.name.clone(),
            node: self.nodes.clone(),
            initializer: weights.chain(self.integers.iter().cloned()).collect(),
            input: self.inputs.clone(),
            output: self.outputs.clone(),
            ..Default::default()
        };
        ModelProto {
            ir_version: IR_VERSION,
            producer_name: "bps".to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
            graph: Some(graph),
            ..Default::default()
        }
    }

    /// The message with weights of zeros, which cost no memory until they are touched.
    #[cfg(test)]
    pub(crate) fn blank(&self) -> ModelProto {
        self.model(|_, weight| vec![0; weight.shape.iter().product::<usize>() * 4])
    }
}

fn attribute(name: &str, value: &Attribute) -> AttributeProto {
    let base = AttributeProto { name: name.to_owned(), ..Default::default() };
    match value {
        Attribute::Int(v) => AttributeProto { i: Some(*v), r#type: attribute_type::INT, ..base },
        Attribute::Ints(v) => AttributeProto { ints: v.clone(), r#type: attribute_type::INTS, ..base },
        Attribute::Float(v) => AttributeProto { f: Some(*v), r#type: attribute_type::FLOAT, ..base },
        Attribute::Text(v) => AttributeProto { s: Some(v.clone().into()), r#type: attribute_type::STRING, ..base },
    }
}

/// An FP32 tensor whose first extent is `N`.
fn value_info(name: &str, extents: &[usize]) -> ValueInfoProto {
    let batch = DimensionValue::Param("N".to_owned());
    let rest = extents.iter().map(|d| DimensionValue::Value(*d as i64));
    let dim = std::iter::once(batch).chain(rest).map(|v| DimensionProto { value: Some(v) }).collect();
    let tensor_type = TensorTypeProto { elem_type: data_type::FLOAT, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}

/// The model with other contents for the FP32 initializers that are named; shapes stay. Fails for a name that is no
/// such initializer and for a length that does not fit. Parts of the file that this crate does not read (subgraphs,
/// functions, training information) are not kept.
pub fn with_weights(bytes: &[u8], weights: &BTreeMap<String, Vec<f32>>) -> Result<Vec<u8>, GraphError> {
    let mut model = crate::load::decode(Bytes::copy_from_slice(bytes), &Limits::default())?;
    let graph = model.graph.as_mut().ok_or_else(|| GraphError::Model("the model has no graph".to_owned()))?;
    let mut left: BTreeMap<&str, &Vec<f32>> = weights.iter().map(|(n, v)| (n.as_str(), v)).collect();
    for tensor in &mut graph.initializer {
        if let Some(values) = left.remove(tensor.name.as_str()) {
            replace(tensor, values).map_err(|message| GraphError::Tensor { tensor: tensor.name.clone(), message })?;
        }
    }
    match left.keys().next() {
        Some(name) => Err(GraphError::Tensor {
            tensor: (*name).to_owned(),
            message: "is not an initializer of the model".to_owned(),
        }),
        None => Ok(model.encode_to_vec()),
    }
}

fn replace(tensor: &mut TensorProto, values: &[f32]) -> Result<(), String> {
    if tensor.data_type != data_type::FLOAT {
        return Err(format!("has element type {}, not FLOAT", data_type::name(tensor.data_type)));
    }
    let count = tensor.dims.iter().try_fold(1i64, |n, d| n.checked_mul(*d));
    if count.and_then(|n| usize::try_from(n).ok()) != Some(values.len()) {
        return Err(format!("has shape {:?}, got {} values", tensor.dims, values.len()));
    }
    tensor.float_data.clear();
    tensor.external_data.clear();
    tensor.data_location = 0;
    tensor.raw_data = Some(values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>().into());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Graph, Source};

    fn tiny() -> ModelBuilder {
        let mut b = ModelBuilder::new("tiny");
        let x = b.input("x", &[3]);
        let w = b.weight("w", &[2, 3], Fill::Normal { deviation: 1.0 });
        let y = b.node("Gemm", "fc", &[&x, &w], &[("transB", Attribute::Int(1))]);
        b.output(&y, "y", &[2]);
        b
    }

    #[test]
    fn bytes_follow_from_the_seed() {
        assert_eq!(tiny().write(1), tiny().write(1));
        assert_ne!(tiny().write(1), tiny().write(2));
    }

    #[test]
    fn weights_are_replaced_by_name() {
        let values: Vec<f32> = (0..6).map(|v| v as f32).collect();
        let weights = BTreeMap::from([("w".to_owned(), values.clone())]);
        let graph = Graph::parse(&with_weights(&tiny().write(1), &weights).unwrap(), &Limits::default()).unwrap();
        let value = graph.values.iter().find(|v| v.name == "w").unwrap();
        let Source::Constant(tensor) = &value.source else { panic!("w is {:?}", value.source) };
        assert_eq!((tensor.to_f32().unwrap(), tensor.shape()), (values, &[2, 3][..]));
    }

    #[test]
    fn wrong_weights_are_refused() {
        let bytes = tiny().write(1);
        for (name, values, part) in [("v", 6, "`v`: is not an initializer"), ("w", 5, "shape [2, 3], got 5 values")] {
            let weights = BTreeMap::from([(name.to_owned(), vec![0.0; values])]);
            let err = with_weights(&bytes, &weights).unwrap_err().to_string();
            assert!(err.contains(part), "{err}");
        }
    }
}
