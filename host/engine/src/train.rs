//! Trains a classifier's weights by gradients through the same table of operators that executes it.

use crate::digits::{self, CLASSES, Digit, SIDE};
use crate::host::{Tensor, upload};
use crate::program::Program;
use crate::{EngineError, JobError};
use bps_graph::{Graph, Limits, Op, Source, ValueId, build, topology};
use burn::backend::Dispatch;
use burn::backend::ops::FloatTensorOps;
use burn::optim::{Adam, AdamConfig, AdamState, Optimizer};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Shape, TensorData};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows of a training step.
const BATCH_ROWS: usize = 64;
/// The rate that the first step learns with; it falls to nothing along a cosine.
const RATE_START: f64 = 4e-3;

/// How far training has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Epochs done.
    pub epoch: u32,
    /// Epochs in all.
    pub epoch_count: u32,
    /// Mean cross-entropy over the epoch, in nats.
    pub loss: f32,
}

/// A trained classifier.
#[derive(Clone, Debug)]
pub struct TrainedDigits {
    /// The model as an ONNX file.
    pub onnx: Vec<u8>,
    /// Share of held-out digits that it tells right.
    pub accuracy: f32,
    /// How many were held out.
    pub held_out_count: usize,
}

/// Trains bps' network for handwritten digits. The same seed and epochs give the same model on the
/// same kind of processor.
pub fn train_digits(seed: u64, epochs: u32, progress: &mut dyn FnMut(Progress)) -> Result<TrainedDigits, EngineError> {
    let start = topology::make(topology::Topology::DigitsNet, seed);
    let graph = Arc::new(Graph::parse(&start, &Limits::default())?);
    let fail = |source: JobError| EngineError::Execution { device: "cpu".into(), source };
    let weights = alone(|report| fit(&graph, &digits::train(), seed, epochs, report), progress).map_err(fail)?;
    let onnx = build::with_weights(&start, &weights)?;
    let trained = Arc::new(Graph::parse(&onnx, &Limits::default())?);
    let held_out = digits::held_out();
    let accuracy = accuracy(&trained, &held_out).map_err(fail)?;
    Ok(TrainedDigits { onnx, accuracy, held_out_count: held_out.len() })
}

/// Runs `work` on a thread of its own in a pool of one. The layers are too small to gain from more, sums come out the
/// same on every number of cores, and a busy machine does not make threads wait for each other.
fn alone<T: Send>(
    work: impl FnOnce(&mut dyn FnMut(Progress)) -> Result<T, JobError> + Send,
    progress: &mut dyn FnMut(Progress),
) -> Result<T, JobError> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().map_err(|e| JobError::failed(e.to_string()))?;
    let (reports, reported) = crossbeam_channel::unbounded();
    std::thread::scope(|scope| {
        let working = scope.spawn(move || {
            pool.install(|| {
                work(&mut |report| {
                    let _no_listener = reports.send(report);
                })
            })
        });
        reported.iter().for_each(progress);
        working.join().unwrap_or_else(|_| Err(JobError::failed("training panicked")))
    })
}

/// A weight that learns. Optimiser and gradients see it flat, the network in its shape.
struct Parameter {
    id: ValueId,
    shape: Vec<usize>,
    flat: burn::tensor::Tensor<1>,
    state: Option<AdamState<1>>,
}

fn fit(
    graph: &Arc<Graph>,
    digits: &[Digit],
    seed: u64,
    epochs: u32,
    progress: &mut dyn FnMut(Progress),
) -> Result<BTreeMap<String, Vec<f32>>, JobError> {
    let device = Device::flex().autodiff();
    let mut program = Program::plain(graph.clone(), &device).map_err(JobError::failed)?;
    let mut parameters = parameters(graph, &device)?;
    let adam = AdamConfig::new().build();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut order: Vec<usize> = (0..digits.len()).collect();
    let steps_in_all = (epochs as usize * digits.len().div_ceil(BATCH_ROWS)).max(1);
    let mut step = 0;
    for epoch in 1..=epochs {
        order.shuffle(&mut random);
        let mut loss_sum = 0.0;
        for rows in order.chunks(BATCH_ROWS) {
            let batch: Vec<Digit> = rows.iter().map(|&i| shifted(&digits[i], &mut random)).collect();
            let rate = RATE_START * 0.5 * (1.0 + (std::f64::consts::PI * step as f64 / steps_in_all as f64).cos());
            loss_sum += learn(&mut program, &mut parameters, &adam, rate, &batch, &device)? * rows.len() as f32;
            step += 1;
        }
        progress(Progress { epoch, epoch_count: epochs, loss: loss_sum / digits.len() as f32 });
    }
    let values = |p: Parameter| {
        let data = p.flat.inner().try_into_data().map_err(|e| JobError::failed(e.to_string()))?;
        let values = data.try_to_vec::<f32>().map_err(|e| JobError::failed(e.to_string()))?;
        Ok((graph.values[p.id.index()].name.clone(), values))
    };
    parameters.into_iter().map(values).collect()
}

/// Every FP32 weight of the graph.
fn parameters(graph: &Graph, device: &Device) -> Result<Vec<Parameter>, JobError> {
    let mut parameters = vec![];
    for (index, value) in graph.values.iter().enumerate() {
        let Source::Constant(host) = &value.source else { continue };
        let Ok(values) = host.to_f32() else { continue };
        let id = ValueId(u32::try_from(index).map_err(|e| JobError::failed(e.to_string()))?);
        let length = values.len();
        let flat = burn::tensor::Tensor::<1>::from_data(TensorData::new(values, [length]), device).require_grad();
        parameters.push(Parameter { id, shape: host.shape().to_vec(), flat, state: None });
    }
    Ok(parameters)
}

/// One step: forward, backward, update. Returns the mean loss.
fn learn(
    program: &mut Program,
    parameters: &mut [Parameter],
    adam: &Adam,
    rate: f64,
    batch: &[Digit],
    device: &Device,
) -> Result<f32, JobError> {
    let weights: BTreeMap<ValueId, Tensor> = parameters
        .iter()
        .map(|p| {
            let shaped = Dispatch::float_reshape(p.flat.clone().into_dispatch(), Shape::from(p.shape.clone()));
            (p.id, shaped)
        })
        .collect();
    program.bind(&weights);
    drop(weights);
    let logits = burn::tensor::Tensor::<2>::from_dispatch(logits(program, batch, device)?);
    let mut wanted = vec![0.0f32; batch.len() * CLASSES];
    batch.iter().enumerate().for_each(|(i, d)| wanted[i * CLASSES + usize::from(d.label)] = 1.0);
    let wanted = burn::tensor::Tensor::<2>::from_data(TensorData::new(wanted, [batch.len(), CLASSES]), device);
    let loss = (log_softmax(logits, 1) * wanted).sum().neg().div_scalar(batch.len() as f32);
    let gradients = loss.backward();
    for parameter in parameters {
        let Some(gradient) = parameter.flat.grad(&gradients) else { continue };
        let (updated, state) = adam.step(rate, parameter.flat.clone().inner(), gradient, parameter.state.take());
        parameter.flat = burn::tensor::Tensor::from_inner(updated).require_grad();
        parameter.state = state;
    }
    let loss = loss.inner().try_into_data().map_err(|e| JobError::failed(e.to_string()))?;
    let loss = loss.try_to_vec::<f32>().map_err(|e| JobError::failed(e.to_string()))?;
    Ok(loss.first().copied().unwrap_or(f32::NAN))
}

/// The network's scores before a final softmax, `[rows, classes]`.
fn logits(program: &Program, batch: &[Digit], device: &Device) -> Result<Tensor, JobError> {
    let graph = &program.graph;
    let shape = vec![batch.len(), 1, SIDE, SIDE];
    let pixels = batch.iter().flat_map(|d| d.pixels).map(|p| f32::from(p) / 255.0).collect();
    let shapes = graph.infer(std::slice::from_ref(&shape)).map_err(|e| JobError::failed(e.to_string()))?;
    let (mut end, mut result) = (graph.layers.len(), graph.output_values[0]);
    if let Some(last) = graph.layers.last()
        && matches!(last.op, Op::Softmax { .. })
    {
        let scores = last.inputs.first().copied().flatten();
        (end, result) = (end - 1, scores.ok_or_else(|| JobError::failed("softmax of nothing"))?);
    }
    let mut values = program.values();
    values.set(graph.input_values[0], upload(pixels, &shape, device));
    program.run(&mut values, 0..end, &shapes, &Cell::new(None), &mut |_| Ok(()))?;
    values.get(result).ok_or_else(|| JobError::failed("no scores"))
}

/// Share of digits whose greatest score is the label's.
fn accuracy(graph: &Arc<Graph>, digits: &[Digit]) -> Result<f32, JobError> {
    let device = Device::flex();
    let program = Program::plain(graph.clone(), &device).map_err(JobError::failed)?;
    let scores = burn::tensor::Tensor::<2>::from_dispatch(logits(&program, digits, &device)?);
    let data = scores.try_into_data().map_err(|e| JobError::failed(e.to_string()))?;
    let scores = data.try_to_vec::<f32>().map_err(|e| JobError::failed(e.to_string()))?;
    let best = |row: &[f32]| (0..CLASSES).max_by(|&a, &b| row[a].total_cmp(&row[b]));
    let right = scores.chunks_exact(CLASSES).zip(digits);
    let right = right.filter(|(row, digit)| best(row) == Some(usize::from(digit.label))).count();
    Ok(right as f32 / digits.len().max(1) as f32)
}

/// The digit moved by up to a pixel in each direction: scans are not centred to the pixel.
fn shifted(digit: &Digit, random: &mut ChaCha8Rng) -> Digit {
    let (down, right) = (random.random_range(0..3usize), random.random_range(0..3usize));
    let mut pixels = [0; SIDE * SIDE];
    for (i, pixel) in pixels.iter_mut().enumerate() {
        let (y, x) = (i / SIDE + down, i % SIDE + right);
        if (1..=SIDE).contains(&y) && (1..=SIDE).contains(&x) {
            *pixel = digit.pixels[(y - 1) * SIDE + x - 1];
        }
    }
    Digit { pixels, label: digit.label }
}
