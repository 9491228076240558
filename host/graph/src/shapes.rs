//! From the inputs' shapes to every value's.

use crate::dim::{self, Dim, Dims, Refusal, show};
use crate::error::GraphError;
use crate::ir::{Graph, Layer, Op, Source, ValueId};
use crate::ops::{self, Operands};

/// Most elements of an activation: 4 GiB of FP32. More is a mistake or an attack, whatever the device.
const ELEMENTS_MAX: usize = 1 << 30;

/// The shape of every value, for one set of input shapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shapes {
    shapes: Vec<Vec<usize>>,
}

impl Shapes {
    /// Extents of a value of the graph that was asked, outermost first.
    pub fn of(&self, value: ValueId) -> &[usize] {
        &self.shapes[value.index()]
    }
}

/// The extents of an operation's results, every one of them usable: at least one element, not too many.
pub(crate) fn results(op: &Op, operands: &[Option<&[Dim]>]) -> Result<Vec<Dims>, Refusal> {
    let results = ops::shape(op, &Operands::new(operands))?;
    results.iter().try_for_each(|dims| check(dims)).map(|()| results)
}

/// Fails for an activation without elements, with too many, or with too many dimensions.
pub(crate) fn check(dims: &[Dim]) -> Result<(), Refusal> {
    if dims.len() > dim::RANK_MAX {
        return Err(format!("the result has {} dimensions, the limit is {}", dims.len(), dim::RANK_MAX));
    }
    let least = dims.iter().try_fold(1usize, |n, d| match d {
        Dim::Known(extent) | Dim::Rows(extent) => n.checked_mul(*extent),
        Dim::Unknown => Some(n),
    });
    match least {
        Some(0) => Err(format!("the result {} has no elements", show(dims))),
        Some(n) if n <= ELEMENTS_MAX => Ok(()),
        _ => Err(format!("the result {} has too many elements", show(dims))),
    }
}

/// The extents of every value, in id order, for the given extents of the inputs.
fn propagate(graph: &Graph, inputs: Vec<Dims>) -> Result<Vec<Dims>, GraphError> {
    let mut dims: Vec<Dims> = vec![Dims::new(); graph.values.len()];
    for (id, value) in graph.values.iter().enumerate() {
        if let Source::Constant(tensor) = &value.source {
            dims[id] = dim::known(tensor.shape());
        }
    }
    for (value, input) in graph.input_values.iter().zip(inputs) {
        dims[value.index()] = input;
    }
    for (index, layer) in graph.layers.iter().enumerate() {
        let shape_error = |message| GraphError::Shape { layer: layer.name.clone(), index, message };
        let results = layer_results(layer, &dims).map_err(shape_error)?;
        for (value, result) in layer.outputs.iter().zip(results) {
            dims[value.index()] = result;
        }
    }
    Ok(dims)
}

fn layer_results(layer: &Layer, dims: &[Dims]) -> Result<Vec<Dims>, Refusal> {
    let operands: Vec<Option<&[Dim]>> =
        layer.inputs.iter().map(|id| id.and_then(|id| dims.get(id.index())).map(Vec::as_slice)).collect();
    let results = results(&layer.op, &operands)?;
    if results.len() < layer.outputs.len() { Err("has more outputs than its operator".to_owned()) } else { Ok(results) }
}

impl Graph {
    /// The shape of every value for concrete input shapes, in the order of [`Graph::inputs`]. Fails with the name of the
    /// layer that a shape does not fit, so that nothing behind this call meets an invalid one.
    pub fn infer(&self, inputs: &[Vec<usize>]) -> Result<Shapes, GraphError> {
        self.check_inputs(inputs)?;
        let dims = propagate(self, inputs.iter().map(|i| dim::known(i)).collect())?;
        let numbers = |d: Dims| d.into_iter().map(Dim::known).collect::<Option<Vec<usize>>>();
        let shapes = dims.into_iter().map(numbers).collect::<Option<Vec<_>>>();
        let open = || GraphError::Model("a shape stays open although every input's is known".to_owned());
        Ok(Shapes { shapes: shapes.ok_or_else(open)? })
    }

    fn check_inputs(&self, inputs: &[Vec<usize>]) -> Result<(), GraphError> {
        if inputs.len() != self.inputs.len() {
            let message = format!("the model takes {} inputs, got {}", self.inputs.len(), inputs.len());
            return Err(GraphError::Model(message));
        }
        let rows = inputs.first().and_then(|i| i.first());
        for (spec, shape) in self.inputs.iter().zip(inputs) {
            let fixed = spec.shape.iter().zip(shape).all(|(s, d)| s.is_none_or(|s| s == *d));
            let port = |message| Err(GraphError::Port { direction: "input", name: spec.name.clone(), message });
            if spec.shape.len() != shape.len() || !fixed {
                return port(format!("takes shape {}, got {shape:?}", show_spec(&spec.shape)));
            }
            if shape.first() != rows {
                return port(format!("has another number of rows than the first input: {shape:?}"));
            }
            if let Err(message) = check(&dim::known(shape)) {
                return port(message);
            }
        }
        Ok(())
    }

    /// Bytes of the activations (FP32) that are alive together at the worst layer: what an execution with these shapes takes
    /// beside weights and an operator's own scratch.
    pub fn peak_bytes(&self, shapes: &Shapes) -> u64 {
        let mut last_use = vec![None; self.values.len()];
        for (index, layer) in self.layers.iter().enumerate() {
            layer.inputs.iter().flatten().chain(&layer.outputs).for_each(|value| last_use[value.index()] = Some(index));
        }
        self.output_values.iter().for_each(|value| last_use[value.index()] = Some(self.layers.len()));
        let bytes = |value: usize| shapes.shapes[value].iter().fold(4u64, |n, d| n.saturating_mul(*d as u64));
        let mut ending: Vec<Vec<usize>> = vec![Vec::new(); self.layers.len() + 1];
        for (value, last) in last_use.iter().enumerate() {
            if let Some(last) = last.filter(|_| !matches!(self.values[value].source, Source::Constant(_))) {
                ending[last].push(value);
            }
        }
        let mut alive = self.input_values.iter().fold(0u64, |sum, value| sum.saturating_add(bytes(value.index())));
        let mut peak = alive;
        for (layer, ending) in self.layers.iter().zip(&ending) {
            alive = layer.outputs.iter().fold(alive, |sum, value| sum.saturating_add(bytes(value.index())));
            peak = peak.max(alive);
            alive = ending.iter().fold(alive, |sum, value| sum.saturating_sub(bytes(*value)));
        }
        peak
    }

    /// Shapes for one row. Fails where an input leaves another extent than the batch open.
    pub fn row_shapes(&self) -> Result<Shapes, GraphError> {
        self.shapes_of_rows(1)
    }

    /// Shapes for so many rows.
    pub(crate) fn shapes_of_rows(&self, rows: usize) -> Result<Shapes, GraphError> {
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for spec in &self.inputs {
            let fixed: Option<Vec<usize>> = spec.shape.iter().skip(1).copied().collect();
            let Some(fixed) = fixed else {
                let message =
                    format!("leaves extents open besides the batch ({}); give a shape", show_spec(&spec.shape));
                return Err(GraphError::Port { direction: "input", name: spec.name.clone(), message });
            };
            inputs.push([vec![rows], fixed].concat());
        }
        self.infer(&inputs)
    }

    /// Extents with the batch as a symbol.
    pub(crate) fn symbolic_shapes(&self) -> Result<Vec<Dims>, GraphError> {
        let input = |shape: &Vec<Option<usize>>| {
            let rest = shape.iter().skip(1).map(|d| d.map_or(Dim::Unknown, Dim::Known));
            std::iter::once(Dim::Rows(1)).chain(rest).collect()
        };
        propagate(self, self.inputs.iter().map(|spec| input(&spec.shape)).collect())
    }

    /// Floating-point operations of a layer, two per multiply-add. Zero for what only moves elements.
    pub fn flops(&self, layer: usize, shapes: &Shapes) -> u64 {
        let Some(layer) = self.layers.get(layer) else { return 0 };
        let operands: Vec<Option<&[usize]>> = layer.inputs.iter().map(|id| id.map(|id| shapes.of(id))).collect();
        let output = layer.outputs.first().map(|id| shapes.of(*id)).unwrap_or_default();
        ops::flops(&layer.op, &operands, output)
    }
}

/// `[N, 3, 224, ?]`
fn show_spec(shape: &[Option<usize>]) -> String {
    let name = |(i, d): (usize, &Option<usize>)| d.map_or(if i == 0 { Dim::Rows(1) } else { Dim::Unknown }, Dim::Known);
    show(&shape.iter().enumerate().map(name).collect::<Vec<_>>())
}
