//! Measures what each layer costs on a device.

use crate::batch::assemble;
use crate::executor::{Worker, batch_shapes};
use crate::host::read_back;
use crate::{JobError, JobInput, Leave, Model};
use bps_types::HostTensor;
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// Most repetitions per batch size.
const REPETITIONS_MAX: usize = 15;
/// Time after which a batch size gets no further repetition.
const BUDGET: Duration = Duration::from_millis(1_500);

/// Costs of a model on a device, slowdown included. Holds for one fingerprint and one model digest.
///
/// Layers are timed one by one, with the whole batch. Where a batch is shared by threads, which run through all layers
/// without waiting for each other, the figures are scaled so that their sum is what a whole execution takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Name of the device.
    pub device: String,
    /// Its fingerprint.
    pub fingerprint: String,
    /// SHA-256 of the model, hex.
    pub digest: String,
    /// Batch sizes that were measured.
    pub batches: Vec<u32>,
    /// Median nanoseconds, `[batch][layer]`.
    pub layer_nanos: Vec<Vec<u64>>,
    /// Median nanoseconds for assembly and upload of the input plus read-back of the outputs, `[batch]`.
    pub overhead_nanos: Vec<u64>,
}

/// Runs on the device's thread; `progress` gets done and total repetitions.
pub(crate) fn profile(
    worker: &mut Worker,
    model: &Model,
    batches: &[u32],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Profile, JobError> {
    let graph = model.graph();
    let batches: Vec<u32> = batches.iter().copied().filter(|b| *b == 1 || (*b > 1 && graph.batchable)).collect();
    let mut measured = Profile {
        device: worker.device.description.name.clone(),
        fingerprint: worker.device.description.fingerprint.clone(),
        digest: graph.digest_hex(),
        batches: batches.clone(),
        layer_nanos: vec![],
        overhead_nanos: vec![],
    };
    let total = batches.len() * REPETITIONS_MAX;
    for (index, &batch) in batches.iter().enumerate() {
        let request = sample_request(model, batch as usize)?;
        let mut layers: Vec<Vec<u64>> = vec![vec![]; graph.layers.len()];
        let (mut overheads, mut wholes) = (vec![], vec![]);
        let mut started = Instant::now();
        // The first repetition compiles kernels and fills caches, and does not count.
        for repetition in 0..=REPETITIONS_MAX {
            if repetition > 1 && started.elapsed() > BUDGET {
                break;
            }
            let sample = worker.guarded(model, |worker, at| once(worker, model, &request, at))?;
            if repetition == 0 {
                started = Instant::now();
                continue;
            }
            layers.iter_mut().zip(sample.layers).for_each(|(all, one)| all.push(one));
            overheads.push(sample.overhead);
            wholes.push(sample.whole);
            progress(index * REPETITIONS_MAX + repetition, total);
        }
        progress((index + 1) * REPETITIONS_MAX, total);
        let layers: Vec<u64> = layers.into_iter().map(median).collect();
        let overhead = median(overheads);
        let sum = (layers.iter().sum::<u64>() + overhead).max(1);
        let shared = worker.lane_count(model, batch as usize) > 1;
        let scale = if shared { median(wholes) as f64 / sum as f64 } else { 1.0 };
        let scale = scale * f64::from(worker.device.description.slowdown);
        let scaled = |nanos: u64| (nanos as f64 * scale) as u64;
        measured.layer_nanos.push(layers.into_iter().map(scaled).collect());
        measured.overhead_nanos.push(scaled(overhead));
    }
    Ok(measured)
}

/// One execution, in nanoseconds.
struct Sample {
    layers: Vec<u64>,
    overhead: u64,
    /// The same batch as a job would run it.
    whole: u64,
}

fn once(
    worker: &mut Worker,
    model: &Model,
    request: &[HostTensor],
    at: &Cell<Option<usize>>,
) -> Result<Sample, JobError> {
    let device = worker.device.clone();
    let sync = || device.sync();
    let program = worker.program(model)?;
    sync()?;
    let started = Instant::now();
    let staged = assemble(model, &[request.to_vec()], &device)?;
    let (mut values, shapes) = worker.enter(model, &program, staged)?;
    sync()?;
    let upload = started.elapsed();
    // Waiting for an idle device has a price of its own, which is not the layer's.
    let idle = Instant::now();
    sync()?;
    let idle = idle.elapsed();
    let mut layers = Vec::with_capacity(program.steps.len());
    let mut started = Instant::now();
    program.run(&mut values, 0..program.steps.len(), &shapes, at, &mut |_| {
        sync()?;
        layers.push(nanos(started.elapsed().saturating_sub(idle)));
        started = Instant::now();
        Ok(())
    })?;
    let started = Instant::now();
    for id in &program.graph.output_values {
        if let Some(tensor) = values.get(*id) {
            read_back(tensor, shapes.of(*id), &device)?;
        }
    }
    let overhead = nanos(upload + started.elapsed());
    let started = Instant::now();
    let input = JobInput::Requests(vec![request.to_vec()]);
    worker.execute(model, 0, model.graph().cuts.len() - 1, input, Leave::Tensors, at)?;
    Ok(Sample { layers, overhead, whole: nanos(started.elapsed()) })
}

/// A request of small numbers that vary: zeros would be faster than life on some processors.
fn sample_request(model: &Model, rows: usize) -> Result<Vec<HostTensor>, JobError> {
    let shapes = batch_shapes(model, rows)?;
    let tensor = |shape: Vec<usize>| {
        let values: Vec<f32> = (0..shape.iter().product()).map(|i: usize| (i % 251) as f32 / 251.0 - 0.5).collect();
        HostTensor::from_f32(shape, &values).map_err(|e| JobError::failed(e.to_string()))
    };
    shapes.into_iter().map(tensor).collect()
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
