//! From the file's nodes to layers: sorted, checked one by one, constants folded, normalisations merged, leftovers dropped.

mod batch_norm;
mod fold;
mod integers;
mod ports;
mod prune;
mod sort;

use crate::content::{Content, Integers};
use crate::dim::{self, Dims};
use crate::error::GraphError;
use crate::external::External;
use crate::ir::{Graph, Layer, Op, Source, Value, ValueId};
use crate::limits::Limits;
use crate::node::{Flaw, Node, Operand, display_name, is_onnx_domain, operator};
use crate::ops::{self, Parsed, Take};
use crate::proto::{GraphProto, ModelProto, NodeProto, data_type};
use crate::shapes;
use bps_types::HostTensor;
use fold::Budget;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Versions of ONNX's own operators that the parsers know.
const OPSETS: std::ops::RangeInclusive<i64> = 7..=24;

/// Most bytes of a node's name that each layer within its chain repeats.
const STEM_BYTES_MAX: usize = 64;

/// Lowers a decoded model. The digest is filled in by the caller, who knows the bytes; so are the cuts, which need it.
pub(crate) fn lower(model: &ModelProto, limits: &Limits, external: Option<&mut External>) -> Result<Graph, GraphError> {
    let graph = model.graph.as_ref().ok_or_else(|| GraphError::Model("the model has no graph".to_owned()))?;
    let versions = model.opset_import.iter().filter(|o| is_onnx_domain(&o.domain)).map(|o| o.version);
    let opset = versions.max().unwrap_or(1);
    if !OPSETS.contains(&opset) {
        let (least, most) = (OPSETS.start(), OPSETS.end());
        return Err(GraphError::Model(format!("opset {opset} is not supported, {least} to {most} are")));
    }
    if graph.node.len() > limits.layer_count {
        let (got, limit) = (graph.node.len() as u64, limits.layer_count as u64);
        return Err(GraphError::Limit { what: "the number of nodes".to_owned(), got, limit });
    }
    let mut lowering = Lowering::new(opset, limits);
    lowering.take_initializers(graph, external)?;
    let inputs = lowering.take_inputs(graph)?;
    let given: HashSet<&str> = lowering.names.keys().copied().collect();
    for index in sort::order(&graph.node, &given)? {
        lowering.take_node(&graph.node[index], index)?;
    }
    lowering.finish(graph, inputs)
}

/// What is known of a value while lowering.
struct Draft<'m> {
    name: &'m str,
    dims: Dims,
    source: DraftSource,
}

enum DraftSource {
    Input(usize),
    Known(Content),
    Layer(usize),
}

impl Draft<'_> {
    fn content(&self) -> Option<&Content> {
        if let DraftSource::Known(content) = &self.source { Some(content) } else { None }
    }
}

struct Lowering<'m> {
    opset: i64,
    limits: &'m Limits,
    budget: Budget,
    drafts: Vec<Draft<'m>>,
    /// Names of the file; several may mean the same value where a node does nothing.
    names: HashMap<&'m str, ValueId>,
    layers: Vec<Layer>,
}

impl<'m> Lowering<'m> {
    fn new(opset: i64, limits: &'m Limits) -> Self {
        let budget = Budget { bytes_left: limits.folded_bytes, limit: limits.folded_bytes };
        Self { opset, limits, budget, drafts: Vec::new(), names: HashMap::new(), layers: Vec::new() }
    }

    fn add(&mut self, draft: Draft<'m>) -> Result<ValueId, GraphError> {
        let id = u32::try_from(self.drafts.len()).map(ValueId);
        let id = id.map_err(|_| GraphError::Model("the model has too many tensors".to_owned()))?;
        if !draft.name.is_empty() && self.names.insert(draft.name, id).is_some() {
            return Err(GraphError::Model(format!("tensor `{}` is defined twice", draft.name)));
        }
        self.drafts.push(draft);
        Ok(id)
    }

    fn add_known(&mut self, name: &'m str, content: Content) -> Result<ValueId, GraphError> {
        let dims = dim::known(content.shape());
        self.add(Draft { name, dims, source: DraftSource::Known(content) })
    }

    fn take_initializers(
        &mut self,
        graph: &'m GraphProto,
        mut external: Option<&mut External>,
    ) -> Result<(), GraphError> {
        for tensor in &graph.initializer {
            let content = crate::tensor::content(tensor, self.limits, external.as_deref_mut())?;
            self.add_known(&tensor.name, content)?;
        }
        Ok(())
    }

    /// Inputs of the file that are not initializers; before IR version 4 those were listed, too.
    fn take_inputs(&mut self, graph: &'m GraphProto) -> Result<Vec<ValueId>, GraphError> {
        let initializers: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
        let mut inputs = Vec::new();
        for info in graph.input.iter().filter(|i| !initializers.contains(i.name.as_str())) {
            let dims = ports::input_dims(info, self.limits)?;
            let source = DraftSource::Input(inputs.len());
            inputs.push(self.add(Draft { name: &info.name, dims, source })?);
        }
        if inputs.is_empty() { Err(GraphError::Model("the model has no inputs".to_owned())) } else { Ok(inputs) }
    }

    fn take_node(&mut self, proto: &'m NodeProto, index: usize) -> Result<(), GraphError> {
        let ids = self.operands(proto, index)?;
        let operand = |(name, id): (&'m String, &Option<ValueId>)| {
            let draft = &self.drafts[id.as_ref()?.index()];
            Some(Operand { name, dims: &draft.dims, content: draft.content() })
        };
        let operands = proto.input.iter().zip(&ids).map(operand).collect();
        let node = Node { proto, index, opset: self.opset, operands };
        let unsupported = || GraphError::Unsupported { op: operator(proto), node: display_name(proto, index), index };
        if !is_onnx_domain(&proto.domain) {
            return Err(unsupported());
        }
        let step = step(&node, self.limits, &mut self.budget)?.ok_or_else(unsupported)?;
        let names: Vec<&'m str> = proto.output.iter().map(String::as_str).collect();
        let first_name = names.first().copied().ok_or_else(|| node.error("has no outputs".into()))?;
        match step {
            Step::Alias => self.alias(first_name, ids.first().copied().flatten()),
            Step::Known(content) => self.add_known(first_name, content).map(drop),
            Step::Layer(op, count, results) => {
                let inputs = ids.into_iter().take(count).collect();
                self.add_layer(display_name(proto, index), op, inputs, &names, results)
            }
            Step::Chain(op, results) => self.add_chain(&display_name(proto, index), &op, &ids, first_name, results),
        }
    }

    /// The values that a node reads. Sorting has made sure that each is defined, unless its maker left it out.
    fn operands(&self, proto: &NodeProto, index: usize) -> Result<Vec<Option<ValueId>>, GraphError> {
        let lookup = |name: &String| {
            if name.is_empty() {
                return Ok(None);
            }
            self.names.get(name.as_str()).copied().map(Some).ok_or_else(|| {
                let node = Node { proto, index, opset: self.opset, operands: Vec::new() };
                node.error(
                    format!("reads `{name}`, a second result of its node, which is not supported").as_str().into(),
                )
            })
        };
        proto.input.iter().map(lookup).collect()
    }

    fn alias(&mut self, name: &'m str, id: Option<ValueId>) -> Result<(), GraphError> {
        match id {
            Some(id) if self.names.insert(name, id).is_none() => Ok(()),
            _ => Err(GraphError::Model(format!("tensor `{name}` is defined twice or from nothing"))),
        }
    }

    fn add_layer(
        &mut self,
        name: String,
        op: Op,
        inputs: Vec<Option<ValueId>>,
        outputs: &[&'m str],
        results: Vec<Dims>,
    ) -> Result<(), GraphError> {
        let source = self.layers.len();
        if source >= self.limits.layer_count {
            // a node of many operands becomes as many layers
            let (got, limit) = (source as u64 + 1, self.limits.layer_count as u64);
            return Err(GraphError::Limit { what: "the number of layers".to_owned(), got, limit });
        }
        let mut ids = Vec::with_capacity(outputs.len());
        for (name, dims) in outputs.iter().zip(results) {
            ids.push(self.add(Draft { name, dims, source: DraftSource::Layer(source) })?);
        }
        self.layers.push(Layer { name, op, inputs, outputs: ids });
        Ok(())
    }

    /// Two operands at a time; the layers between are named after the node and their place in the chain.
    fn add_chain(
        &mut self,
        name: &str,
        op: &Op,
        ids: &[Option<ValueId>],
        output: &'m str,
        results: Vec<Dims>,
    ) -> Result<(), GraphError> {
        let last = results.len();
        let stem = &name[..name.floor_char_boundary(STEM_BYTES_MAX)];
        let mut left = ids.first().copied().flatten();
        for (place, (right, dims)) in ids.iter().skip(1).zip(results).enumerate() {
            let (name, output) =
                if place + 1 == last { (name.to_owned(), output) } else { (format!("{stem}_{place}"), "") };
            self.add_layer(name, op.clone(), vec![left, *right], &[output], vec![dims])?;
            left = self.layers.last().and_then(|l| l.outputs.first().copied());
        }
        Ok(())
    }

    fn finish(self, graph: &GraphProto, inputs: Vec<ValueId>) -> Result<Graph, GraphError> {
        let mut outputs = Vec::with_capacity(graph.output.len());
        let mut specs = Vec::with_capacity(graph.output.len());
        for info in &graph.output {
            let fail = |message: &str| GraphError::Port {
                direction: "output",
                name: info.name.clone(),
                message: message.to_owned(),
            };
            let id = *self.names.get(info.name.as_str()).ok_or_else(|| fail("is provided by nothing"))?;
            let draft = &self.drafts[id.index()];
            if draft.content().is_some() {
                return Err(fail("is constant or a shape, not a result"));
            }
            specs.push(ports::spec(&info.name, &draft.dims));
            outputs.push(id);
        }
        if outputs.is_empty() {
            return Err(GraphError::Model("the model has no outputs".to_owned()));
        }
        let input_specs =
            inputs.iter().map(|id| &self.drafts[id.index()]).map(|d| ports::spec(d.name, &d.dims)).collect();
        let mut layers = self.layers;
        let mut values: Vec<Value> = self.drafts.into_iter().enumerate().map(|(i, d)| value(i, d)).collect();
        batch_norm::fold(&mut layers, &mut values, &outputs);
        let mut lowered = Graph {
            name: graph.name.clone(),
            external: Vec::new(),
            digest: [0; 32],
            inputs: input_specs,
            input_values: inputs,
            outputs: specs,
            output_values: outputs,
            values,
            layers,
            cuts: Vec::new(),
            batchable: false,
        };
        prune::drop_unused(&mut lowered);
        if lowered.layers.is_empty() {
            Err(GraphError::Model("the model has no layers".to_owned()))
        } else {
            Ok(lowered)
        }
    }
}

/// A draft as the engine sees it. Integers are no layer's operand; their place is emptied and pruned.
fn value(index: usize, draft: Draft<'_>) -> Value {
    let name = if draft.name.is_empty() { format!("#{index}") } else { draft.name.to_owned() };
    let source = match draft.source {
        DraftSource::Input(input) => Source::Input(input),
        DraftSource::Layer(layer) => Source::Layer(layer),
        DraftSource::Known(Content::Tensor(tensor)) => Source::Constant(tensor),
        DraftSource::Known(_) => Source::Constant(Arc::new(prune::nothing())),
    };
    Value { name, source }
}

/// What becomes of a node.
enum Step {
    /// Its result is its first operand.
    Alias,
    /// Its result is known.
    Known(Content),
    /// A layer on the first so many operands.
    Layer(Op, usize, Vec<Dims>),
    /// A layer less than there are operands, with the extents of each result.
    Chain(Op, Vec<Dims>),
}

/// Decides; none where the operator is unknown.
fn step(node: &Node<'_>, limits: &Limits, budget: &mut Budget) -> Result<Option<Step>, GraphError> {
    let fail = |flaw| node.error(flaw);
    let first = node.operands.first().copied().flatten();
    let first_content = first.and_then(|o| o.content);
    let step = match node.proto.op_type.as_str() {
        "Constant" => Step::Known(fold::constant(node, limits)?),
        "ConstantOfShape" => Step::Known(fold::constant_of_shape(node, limits, budget)?),
        "Identity" => node.operand(0).map(|_| Step::Alias).map_err(fail)?,
        "Dropout" => dropout(node).map_err(fail)?,
        "Shape" => Step::Known(shape_of(node).map_err(fail)?),
        "Cast" => match first_content {
            Some(content) => Step::Known(fold::cast(node, content, budget).map_err(|e| e.place(node))?),
            None => cast(node).map_err(fail)?,
        },
        _ if first_content.is_some_and(|c| c.floats().is_err()) => {
            let integers = integers::evaluate(node).map_err(fail)?;
            budget.take_integers(&integers.shape)?;
            Step::Known(integers.into())
        }
        other => {
            let Some(parse) = ops::parser(other) else { return Ok(None) };
            layer(node, parse(node).map_err(fail)?, budget)?
        }
    };
    Ok(Some(step))
}

/// Does nothing once training is over.
fn dropout(node: &Node<'_>) -> Result<Step, Flaw> {
    node.operand(0)?;
    let training = node.integers(2)?.is_some_and(|v| v != [crate::content::Scalar::Known(0)]);
    if training { Err("is in training mode".into()) } else { Ok(Step::Alias) }
}

/// A computed value is FP32 already.
fn cast(node: &Node<'_>) -> Result<Step, Flaw> {
    node.operand(0)?;
    let to = node.int_or("to", 0)?;
    if to == i64::from(data_type::FLOAT) {
        return Ok(Step::Alias);
    }
    let name = data_type::name(i32::try_from(to).unwrap_or(0));
    Err(Flaw::Attribute("to", format!("is {name}; results are FLOAT throughout")))
}

fn shape_of(node: &Node<'_>) -> Result<Content, Flaw> {
    let dims = node.dims(0)?;
    let (start, end) = (node.int_or("start", 0)?, node.int_or("end", i64::MAX)?);
    let (from, to) = crate::ir::AxisRange { axis: 0, start, end, step: 1 }.resolve(dims.len());
    Ok(Integers::list(dims[from..to].iter().map(|d| (*d).into()).collect()).into())
}

/// A layer, or its result where it works on weights alone.
fn layer(node: &Node<'_>, parsed: Parsed, budget: &mut Budget) -> Result<Step, GraphError> {
    let fail = |flaw| node.error(flaw);
    let count = match parsed.take {
        Take::First(count) => count.min(node.operands.len()),
        Take::Chain => node.operands.len(),
    };
    let operands = &node.operands[..count];
    for (index, operand) in operands.iter().enumerate() {
        if let Some((name, Err(message))) = operand.and_then(|o| Some((o.name, o.content?.floats()))) {
            return Err(fail(Flaw::Node(format!("input {index} (`{name}`) {message}"))));
        }
    }
    let chained = matches!(parsed.take, Take::Chain);
    if chained && count < 2 {
        return node.operand(0).map(|_| Step::Alias).map_err(fail);
    }
    let weights: Option<Vec<&Arc<HostTensor>>> =
        operands.iter().map(|o| o.and_then(|o| o.content).and_then(|c| c.floats().ok())).collect();
    if let Some(weights) = weights.filter(|w| !chained || w.len() == 2) {
        let shape = fold::shape(&parsed.op, &weights).map_err(|m| fail(m.into()))?;
        if let Some(tensor) = fold::evaluate(&parsed.op, &weights, &shape, budget).map_err(|e| e.place(node))? {
            return Ok(Step::Known(Content::Tensor(Arc::new(tensor))));
        }
    }
    let dims: Vec<Option<&[dim::Dim]>> = operands.iter().map(|o| o.map(|o| o.dims)).collect();
    if chained {
        return chain_shapes(&parsed.op, &dims)
            .map(|results| Step::Chain(parsed.op, results))
            .map_err(|m| fail(m.into()));
    }
    let results = shapes::results(&parsed.op, &dims).map_err(|m| fail(m.into()))?;
    node.results_at_most(results.len()).map_err(fail)?;
    Ok(Step::Layer(parsed.op, count, results))
}

fn chain_shapes(op: &Op, operands: &[Option<&[dim::Dim]>]) -> Result<Vec<Dims>, String> {
    let mut results: Vec<Dims> = Vec::with_capacity(operands.len());
    for right in &operands[1..] {
        let left = results.last().map(Vec::as_slice).or(operands[0]);
        results.extend(shapes::results(op, &[left, *right])?);
    }
    Ok(results)
}

#[cfg(test)]
mod tests;
