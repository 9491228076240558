//! A network that learns: its program, its weights, and what normalises it meanwhile.

use super::Pixels;
use super::fit::Parameter;
use super::normal::Normal;
use crate::JobError;
use crate::host::{Tensor, upload};
use crate::ops::learn::{Learning, takes};
use crate::program::{Program, Values, constant};
use bps_data::{CLASSES, Picture};
use bps_graph::{Conv, Graph, Op, Shapes, Source, ValueId};
use burn::backend::Dispatch;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{Device, Shape};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// See the module.
pub(super) struct Network {
    pub(super) program: Program,
    weights: BTreeMap<ValueId, Parameter>,
    /// By layer: convolutions whose results are normalised.
    normals: BTreeMap<usize, Normal>,
}

/// Inputs of some pictures, and their shape.
pub(super) struct Input {
    values: Vec<f32>,
    shape: Vec<usize>,
}

/// The pictures as the network takes them.
pub(super) fn input(graph: &Graph, pictures: &[Picture], pixels: Pixels) -> Result<Input, JobError> {
    let spec = graph.inputs.first().map(|input| input.shape.as_slice());
    let Some(&[_, Some(channels), Some(height), Some(width)]) = spec else {
        return Err(JobError::failed("the network's input has no fixed picture size"));
    };
    let bytes = channels * height * width;
    if channels != pixels.channels || pictures.iter().any(|p| p.pixels.len() != bytes) {
        return Err(JobError::failed(format!("pictures do not fit an input of {channels} x {height} x {width}")));
    }
    let mut values = Vec::with_capacity(pictures.len() * bytes);
    for picture in pictures {
        for channel in 0..channels {
            let of_channel = picture.pixels.iter().skip(channel).step_by(channels);
            values.extend(of_channel.map(|p| (f32::from(*p) - pixels.mean) / pixels.divisor));
        }
    }
    Ok(Input { values, shape: vec![pictures.len(), channels, height, width] })
}

impl Network {
    /// Every FP32 weight of the graph learns. Where results are normalised, biases of convolutions do not count.
    pub(super) fn new(graph: Arc<Graph>, device: &Device, normalised: bool) -> Result<Self, JobError> {
        let program = Program::plain(graph.clone(), device).map_err(JobError::failed)?;
        let mut weights = BTreeMap::new();
        for (index, value) in graph.values.iter().enumerate() {
            let Source::Constant(host) = &value.source else { continue };
            let Ok(values) = host.to_f32() else { continue };
            let id = ValueId(u32::try_from(index).map_err(|e| JobError::failed(e.to_string()))?);
            weights.insert(id, Parameter::new(values, device));
        }
        let mut normals = BTreeMap::new();
        for (index, layer) in graph.layers.iter().enumerate().filter(|_| normalised) {
            let Op::Conv(conv) = &layer.op else { continue };
            let weight = layer.inputs.get(1).copied().flatten().and_then(|id| constant(&graph, id));
            let shape = weight.map(|host| host.shape().to_vec()).filter(|shape| takes(conv, shape));
            let shape =
                shape.ok_or_else(|| JobError::failed(format!("layer `{}` cannot be normalised", layer.name)))?;
            normals.insert(index, Normal::new(shape[0], device));
        }
        Ok(Self { program, weights, normals })
    }

    /// Puts the weights as they are now where the program uses them.
    pub(super) fn bind(&mut self) {
        let shaped = |(id, parameter): (&ValueId, &Parameter)| {
            let shape = constant(&self.program.graph, *id).map(|host| host.shape().to_vec()).unwrap_or_default();
            (*id, Dispatch::float_reshape(parameter.flat.clone().into_dispatch(), Shape::from(shape)))
        };
        let weights = self.weights.iter().map(shaped).collect();
        self.program.bind(&weights);
    }

    /// Everything that learns.
    pub(super) fn parameters(&mut self) -> impl Iterator<Item = &mut Parameter> {
        self.weights.values_mut().chain(self.normals.values_mut().flat_map(Normal::parameters))
    }

    /// Scores before a final softmax, `[rows, classes]`; the statistics of normalised layers follow the batch.
    pub(super) fn logits(&mut self, input: Input, device: &Device) -> Result<Tensor, JobError> {
        let graph = self.program.graph.clone();
        let run = Run::new(&graph, &input.shape)?;
        let mut values = self.program.values();
        values.set(graph.input_values[0], upload(input.values, &input.shape, device));
        let mut next = 0;
        for (layer, normal) in &mut self.normals {
            run.layers(&self.program, &mut values, next..*layer)?;
            let result = run.convolution(&self.program, &mut values, *layer)?;
            values.set(graph.layers[*layer].outputs[0], normal.apply(result)?);
            next = layer + 1;
        }
        run.layers(&self.program, &mut values, next..run.end)?;
        values.get(run.result).ok_or_else(|| JobError::failed("no scores"))
    }

    /// The weights by name, what normalised them folded in.
    pub(super) fn into_weights(self) -> Result<BTreeMap<String, Vec<f32>>, JobError> {
        let graph = &self.program.graph;
        let mut values = BTreeMap::new();
        for (id, parameter) in &self.weights {
            values.insert(*id, parameter.values()?);
        }
        for (layer, normal) in &self.normals {
            let layer = &graph.layers[*layer];
            let [_, Some(weight), Some(bias)] = layer.inputs[..] else {
                return Err(JobError::failed(format!("layer `{}` has no bias to fold into", layer.name)));
            };
            if let Some(weights) = values.get_mut(&weight) {
                let folded = normal.fold(weights)?;
                values.insert(bias, folded);
            }
        }
        Ok(values.into_iter().map(|(id, values)| (graph.values[id.index()].name.clone(), values)).collect())
    }
}

/// One pass over a graph.
struct Run<'a> {
    graph: &'a Graph,
    shapes: Shapes,
    /// Layers until a final softmax, and the value that holds the scores.
    end: usize,
    result: ValueId,
}

impl<'a> Run<'a> {
    fn new(graph: &'a Graph, shape: &[usize]) -> Result<Self, JobError> {
        let shapes = graph.infer(&[shape.to_vec()]).map_err(|e| JobError::failed(e.to_string()))?;
        let (mut end, mut result) = (graph.layers.len(), graph.output_values[0]);
        if let Some(last) = graph.layers.last()
            && matches!(last.op, Op::Softmax { .. })
        {
            let scores = last.inputs.first().copied().flatten();
            (end, result) = (end - 1, scores.ok_or_else(|| JobError::failed("softmax of nothing"))?);
        }
        if shapes.of(result) != [shape[0], CLASSES] {
            return Err(JobError::failed(format!("{:?} are no scores of {CLASSES} classes", shapes.of(result))));
        }
        Ok(Self { graph, shapes, end, result })
    }

    fn layers(&self, program: &Program, values: &mut Values, layers: Range<usize>) -> Result<(), JobError> {
        program.run(values, layers, &self.shapes, &Cell::new(None), &mut |_| Ok(()))
    }

    /// A convolution without its bias.
    fn convolution(&self, program: &Program, values: &mut Values, index: usize) -> Result<Tensor, JobError> {
        let layer = &self.graph.layers[index];
        let failed = || JobError::failed(format!("layer `{}`: operands are missing", layer.name));
        let (Op::Conv(conv), [data, weight, ..]) = (&layer.op, &program.steps[index].operands[..]) else {
            return Err(failed());
        };
        let (x, weight) = values.operand(data).zip(values.operand(weight)).ok_or_else(failed)?;
        let &[_, _, height, width] = self.shapes.of(layer.outputs[0]) else { return Err(failed()) };
        Ok(Dispatch::learning_conv(x, weight, Conv::clone(conv), [height, width]))
    }
}

/// Scores of a network that does not learn, `[rows, classes]`.
pub(super) fn scores(program: &Program, input: Input, device: &Device) -> Result<Tensor, JobError> {
    let run = Run::new(&program.graph, &input.shape)?;
    let mut values = program.values();
    values.set(program.graph.input_values[0], upload(input.values, &input.shape, device));
    run.layers(program, &mut values, 0..run.end)?;
    values.get(run.result).ok_or_else(|| JobError::failed("no scores"))
}
