//! A model on one device: weights uploaded and rearranged once, and the interpreter that walks over layers.

use crate::JobError;
use crate::host::{Tensor, upload};
use crate::ops::{Kernel, Operands, PreparedConv, run};
use bps_graph::{Graph, Op, Shapes, Source, ValueId};
use bps_types::HostTensor;
use burn::tensor::Device;
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

/// A graph's layers with their weights on a device.
pub(crate) struct Program {
    pub(crate) graph: Arc<Graph>,
    pub(crate) steps: Vec<Step>,
}

/// One layer.
pub(crate) struct Step {
    pub(crate) kernel: Kernel,
    pub(crate) operands: Vec<Operand>,
    /// Results; false for those that nobody uses.
    outputs: Vec<(ValueId, bool)>,
}

/// Where an operand comes from.
#[derive(Clone)]
pub(crate) enum Operand {
    /// An optional one that is not there.
    Absent,
    /// A weight.
    Constant(Box<Tensor>),
    /// A value computed before; taken at its last use, so that the device may work in place.
    Value { id: ValueId, last: bool },
}

/// The values that are alive during an execution, by id.
pub(crate) struct Values(Vec<Option<Tensor>>);

impl Program {
    /// Uploads the weights. On the processor, convolutions and products are arranged for it.
    pub(crate) fn new(graph: Arc<Graph>, device: &Device, on_cpu: bool) -> Result<Self, String> {
        Self::with(graph, device, |graph, op, inputs| arrange(graph, op, inputs, on_cpu))
    }

    /// Uploads the weights as they are, so that gradients reach them.
    pub(crate) fn plain(graph: Arc<Graph>, device: &Device) -> Result<Self, String> {
        Self::with(graph, device, |_, _, _| Ok(None))
    }

    /// Puts other tensors in the place of constants; only for a plain program.
    pub(crate) fn bind(&mut self, weights: &BTreeMap<ValueId, Tensor>) {
        for (step, layer) in self.steps.iter_mut().zip(&self.graph.layers) {
            for (operand, id) in step.operands.iter_mut().zip(&layer.inputs) {
                if let Some(weight) = id.and_then(|id| weights.get(&id)) {
                    *operand = Operand::Constant(Box::new(weight.clone()));
                }
            }
        }
    }

    fn with(
        graph: Arc<Graph>,
        device: &Device,
        arrange: impl Fn(&Graph, &Op, &[Option<ValueId>]) -> Result<Option<Arranged>, String>,
    ) -> Result<Self, String> {
        let last_use = last_uses(&graph);
        let mut uploads = Uploads { graph: &graph, device, done: HashMap::new() };
        let mut steps = Vec::with_capacity(graph.layers.len());
        for (index, layer) in graph.layers.iter().enumerate() {
            let named = |e: String| format!("layer `{}`: {e}", layer.name);
            let (kernel, operands) = match arrange(&graph, &layer.op, &layer.inputs).map_err(named)? {
                Some(arranged) => arranged.place(device, |id| use_of(&last_use, &layer.inputs, index, id)),
                None => {
                    let mut operands = Vec::with_capacity(layer.inputs.len());
                    for (position, id) in layer.inputs.iter().enumerate() {
                        operands.push(match id {
                            None => Operand::Absent,
                            Some(id) if constant(&graph, *id).is_some() => {
                                Operand::Constant(Box::new(uploads.get(*id).map_err(named)?))
                            }
                            Some(id) => {
                                let again = layer.inputs[position + 1..].contains(&Some(*id));
                                Operand::Value { id: *id, last: last_use[id.index()] == index && !again }
                            }
                        });
                    }
                    (Kernel::Graph(layer.op.clone()), operands)
                }
            };
            let used = |id: &ValueId| (*id, last_use[id.index()] != 0);
            steps.push(Step { kernel, operands, outputs: layer.outputs.iter().map(used).collect() });
        }
        Ok(Self { graph, steps })
    }

    /// An execution's values, none yet.
    pub(crate) fn values(&self) -> Values {
        Values(vec![None; self.graph.values.len()])
    }

    /// Executes `layers`. `at` holds the layer that is running; `after` is called behind each.
    pub(crate) fn run(
        &self,
        values: &mut Values,
        layers: Range<usize>,
        shapes: &Shapes,
        at: &Cell<Option<usize>>,
        after: &mut dyn FnMut(usize) -> Result<(), JobError>,
    ) -> Result<(), JobError> {
        for index in layers {
            at.set(Some(index));
            let step = &self.steps[index];
            let operands = step.operands.iter().map(|o| values.operand(o)).collect();
            let wanted: Vec<&[usize]> = step.outputs.iter().map(|(id, _)| shapes.of(*id)).collect();
            let results = run(&step.kernel, Operands::new(operands), &wanted)
                .map_err(|m| JobError::classify(Some(&self.graph.layers[index].name), m))?;
            for ((id, used), result) in step.outputs.iter().zip(results) {
                values.0[id.index()] = used.then_some(result);
            }
            after(index)?;
        }
        at.set(None);
        Ok(())
    }
}

impl Values {
    pub(crate) fn set(&mut self, id: ValueId, tensor: Tensor) {
        self.0[id.index()] = Some(tensor);
    }

    pub(crate) fn get(&self, id: ValueId) -> Option<Tensor> {
        self.0[id.index()].clone()
    }

    pub(crate) fn operand(&mut self, operand: &Operand) -> Option<Tensor> {
        match operand {
            Operand::Absent => None,
            Operand::Constant(tensor) => Some(Tensor::clone(tensor)),
            Operand::Value { id, last: true } => self.0[id.index()].take(),
            Operand::Value { id, last: false } => self.0[id.index()].clone(),
        }
    }
}

/// The constant behind a value, if it is one.
pub(crate) fn constant(graph: &Graph, id: ValueId) -> Option<&HostTensor> {
    match &graph.values[id.index()].source {
        Source::Constant(tensor) => Some(tensor),
        _ => None,
    }
}

/// Index of the last layer that uses each value; `usize::MAX` for the model's outputs, 0 for what nobody uses (the first
/// layer has no use of a layer's result).
fn last_uses(graph: &Graph) -> Vec<usize> {
    let mut last = vec![0; graph.values.len()];
    for (index, layer) in graph.layers.iter().enumerate() {
        layer.inputs.iter().flatten().for_each(|id| last[id.index()] = index);
    }
    graph.output_values.iter().for_each(|id| last[id.index()] = usize::MAX);
    last
}

/// The data operand of a rearranged layer: only that one is a value.
fn use_of(last_use: &[usize], inputs: &[Option<ValueId>], index: usize, id: ValueId) -> Operand {
    let uses = inputs.iter().flatten().filter(|i| **i == id).count();
    Operand::Value { id, last: last_use[id.index()] == index && uses == 1 }
}

/// Uploads each constant once, however many layers use it.
struct Uploads<'a> {
    graph: &'a Graph,
    device: &'a Device,
    done: HashMap<ValueId, Tensor>,
}

impl Uploads<'_> {
    fn get(&mut self, id: ValueId) -> Result<Tensor, String> {
        if let Some(tensor) = self.done.get(&id) {
            return Ok(tensor.clone());
        }
        let name = &self.graph.values[id.index()].name;
        let host = constant(self.graph, id).ok_or_else(|| format!("`{name}` is not a constant"))?;
        let values = host.to_f32().map_err(|e| format!("weight `{name}`: {e}"))?;
        let tensor = upload(values, host.shape(), self.device);
        self.done.insert(id, tensor.clone());
        Ok(tensor)
    }
}

/// A layer whose constants have been worked into another form.
struct Arranged {
    kernel: Kernel,
    data: ValueId,
    constants: Vec<Option<(Vec<f32>, Vec<usize>)>>,
}

impl Arranged {
    fn place(self, device: &Device, data: impl Fn(ValueId) -> Operand) -> (Kernel, Vec<Operand>) {
        let mut operands = vec![data(self.data)];
        operands.extend(self.constants.into_iter().map(|constant| match constant {
            Some((values, shape)) => Operand::Constant(Box::new(upload(values, &shape, device))),
            None => Operand::Absent,
        }));
        (self.kernel, operands)
    }
}

/// Works constants into a form that saves time at every execution; none where there is nothing to gain.
fn arrange(graph: &Graph, op: &Op, inputs: &[Option<ValueId>], on_cpu: bool) -> Result<Option<Arranged>, String> {
    let Some(data) = inputs.first().copied().flatten().filter(|id| constant(graph, *id).is_none()) else {
        return Ok(None);
    };
    // All operands after the first must be constants (or absent), in FP32.
    let mut constants = Vec::new();
    for id in &inputs[1..] {
        constants.push(match id.map(|id| constant(graph, id)) {
            None => None,
            Some(None) => return Ok(None),
            Some(Some(host)) => Some((host.to_f32().map_err(|e| e.to_string())?, host.shape().to_vec())),
        });
    }
    Ok(match (op, &mut constants[..]) {
        (Op::Gemm(gemm), [Some((b, shape)), rest @ ..]) if shape.len() == 2 => {
            let mut gemm = gemm.clone();
            if gemm.trans_b {
                (*b, *shape) = (transposed(b, shape[0], shape[1]), vec![shape[1], shape[0]]);
                gemm.trans_b = false;
            }
            scale(b, &mut gemm.alpha);
            match rest.first_mut() {
                Some(Some((c, _))) => scale(c, &mut gemm.beta),
                _ => gemm.beta = 1.0,
            }
            Some(Arranged { kernel: Kernel::Graph(Op::Gemm(gemm)), data, constants })
        }
        (Op::BatchNormalization { epsilon }, [Some(gamma), Some(beta), Some(mean), Some(variance)]) => {
            let channels = gamma.0.len();
            let a: Vec<f32> = gamma.0.iter().zip(&variance.0).map(|(g, v)| g / (v + epsilon).sqrt()).collect();
            let b = (0..channels).map(|c| beta.0[c] - mean.0[c] * a[c]).collect();
            let constants = vec![Some((a, vec![channels])), Some((b, vec![channels]))];
            Some(Arranged { kernel: Kernel::Affine, data, constants })
        }
        (Op::Conv(conv), [Some((weight, shape)), bias @ ..]) if on_cpu => {
            let bias = bias.first().and_then(|b| b.as_ref()).map(|b| &b.0[..]);
            PreparedConv::new(conv, weight, shape, bias).map(|conv| Arranged {
                kernel: Kernel::Conv(Box::new(conv)),
                data,
                constants: vec![],
            })
        }
        (Op::MaxPool(pool), []) if on_cpu => Some(Arranged { kernel: Kernel::Max(pool.clone()), data, constants }),
        _ => None,
    })
}

/// Multiplies by a factor that then is 1.
fn scale(values: &mut [f32], factor: &mut f32) {
    if *factor != 1.0 {
        values.iter_mut().for_each(|v| *v *= *factor);
        *factor = 1.0;
    }
}

fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns * rows).map(|i| values[(i % rows) * columns + i / rows]).collect()
}
