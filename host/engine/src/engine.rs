//! The handle to all devices.

use crate::check::{KernelCheck, check_kernels};
use crate::device::{DeviceDescription, OpenDevice, open};
use crate::executor::{Command, Worker, batch_shapes};
use crate::profile::{Profile, profile};
use crate::throughput::{self, KernelTiming};
use crate::{DeviceRequest, EngineError, Job, JobError, Model, PixelInput, codecs};
use bps_codec::CodecTiming;
use bps_codec::ff::{CutPackage, Package};
use bps_graph::Graph;
use bps_types::{HostTensor, Packed};
use crossbeam_channel::{Sender, unbounded};
use std::sync::Arc;
use std::time::Duration;

/// The devices of this process. Clones are handles to the same ones; when the last handle is gone, the executors finish
/// what is queued and end.
#[derive(Clone)]
pub struct Engine(Arc<State>);

struct State {
    devices: Vec<OpenDevice>,
    descriptions: Vec<DeviceDescription>,
    executors: Vec<Sender<Command>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("devices", &self.0.descriptions).finish_non_exhaustive()
    }
}

impl Engine {
    /// Brings up the devices, in the order asked for, each with its executor thread.
    pub fn start(requests: &[DeviceRequest]) -> Result<Self, EngineError> {
        let devices = open(requests)?;
        let executors = devices.iter().map(spawn).collect::<Result<_, _>>()?;
        let descriptions = devices.iter().map(|d| d.description.clone()).collect();
        Ok(Self(Arc::new(State { devices, descriptions, executors })))
    }

    /// What there is; the index is what the other methods take.
    pub fn devices(&self) -> &[DeviceDescription] {
        &self.0.descriptions
    }

    /// Makes a graph executable. Weights go to a device at the first use there, or with [`Engine::warm`].
    pub fn load(&self, graph: Arc<Graph>, pixels: Option<PixelInput>) -> Result<Model, EngineError> {
        self.load_calibrated(graph, pixels, None)
    }

    /// The same with the calibration that belongs to the model. Errors where it belongs to another.
    pub fn load_calibrated(
        &self,
        graph: Arc<Graph>,
        pixels: Option<PixelInput>,
        calibration: Option<Arc<Package>>,
    ) -> Result<Model, EngineError> {
        let state = Arc::downgrade(&self.0);
        let forget = Box::new(move |id| {
            let Some(state) = state.upgrade() else { return };
            for executor in &state.executors {
                // An executor that has ended has nothing to forget.
                let _ended = executor.send(Command::Forget(id));
            }
        });
        Model::new(graph, pixels, calibration, forget)
    }

    /// Uploads the weights and executes one row of zeros, so that the first request finds everything compiled. Blocks.
    pub fn warm(&self, device: usize, model: &Model) -> Result<(), EngineError> {
        let model = model.clone();
        let name = self.name(device)?;
        let outcome = self.call(device, move |worker| {
            worker.guarded(&model, |worker, at| {
                let inputs = batch_shapes(&model, 1)?;
                let program = worker.program(&model)?;
                let shapes = worker.shapes(&model, inputs)?;
                let mut values = program.values();
                for id in &program.graph.input_values {
                    let shape = shapes.of(*id);
                    let zeros = vec![0.0; shape.iter().product()];
                    values.set(*id, crate::host::upload(zeros, shape, worker.device.burn()));
                }
                let layers = 0..program.graph.layers.len();
                program.run(&mut values, layers, &shapes, at, &mut |_| Ok(()))?;
                worker.device.sync()
            })
        })?;
        outcome.map_err(|source| EngineError::Execution { device: name, source })
    }

    /// Queues a job and returns at once. `done` is called exactly once, on the executor's thread; on this one if the
    /// device does not exist or its executor has ended.
    pub fn submit(&self, device: usize, job: Job) {
        let Some(executor) = self.0.executors.get(device) else {
            let message = format!("there is no device {device}");
            return (job.done)(Err(JobError::DeviceLost { message }));
        };
        if let Err(refused) = executor.send(Command::Job(Box::new(job)))
            && let Command::Job(job) = refused.into_inner()
        {
            (job.done)(Err(JobError::DeviceLost { message: "the executor has ended".into() }));
        }
    }

    /// Measures every layer at each batch size (only size 1 for a model that cannot be batched), within a bounded time.
    /// `progress` gets done and total measurements. Blocks.
    pub fn profile(
        &self,
        device: usize,
        model: &Model,
        batches: &[u32],
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Profile, EngineError> {
        let name = self.name(device)?;
        let (model, batches) = (model.clone(), batches.to_vec());
        let (ticks, ticked) = unbounded();
        let outcome = std::thread::scope(|scope| {
            let measuring = scope.spawn(move || {
                self.call(device, move |worker| {
                    profile(worker, &model, &batches, &mut |done, total| {
                        let _no_listener = ticks.send((done, total));
                    })
                })
            });
            ticked.iter().for_each(|(done, total)| progress(done, total));
            measuring.join().unwrap_or_else(|_| Err(ended(&name)))
        })?;
        outcome.map_err(|source| EngineError::Execution { device: name, source })
    }

    /// Runs every kernel of `shaders/` on a device against its reference on the processor; empty on a processor. Blocks.
    pub fn check_kernels(&self, device: usize) -> Result<Vec<KernelCheck>, EngineError> {
        let name = self.name(device)?;
        let outcome = self.call(device, |worker| check_kernels(&worker.device))?;
        outcome.map_err(|source| EngineError::Execution { device: name, source })
    }

    /// Times the codecs that have kernels on a tensor of about so many elements, and one pass over it, in rounds; empty on
    /// a processor. Declared slowdown is left out. Blocks.
    pub fn time_kernels(
        &self,
        device: usize,
        elements: usize,
        rounds: usize,
    ) -> Result<Vec<KernelTiming>, EngineError> {
        let name = self.name(device)?;
        let outcome = self.call(device, move |worker| throughput::measure(&worker.device, elements, rounds))?;
        outcome.map_err(|source| EngineError::Execution { device: name, source })
    }

    /// Measures what codecs cost on a device, the way jobs use them; on a GPU that includes moving packed bytes from it and
    /// to it. Declared slowdown included. Some 100 ms (longer where kernels must be compiled first). Blocks.
    pub fn measure_codecs(&self, device: usize) -> Result<Vec<CodecTiming>, EngineError> {
        let name = self.name(device)?;
        let outcome = self.call(device, |worker| codecs::measure(&worker.device))?;
        outcome.map_err(|source| EngineError::Execution { device: name, source })
    }

    /// Encodes one tensor as a job encodes its result, with the time from a tensor that lies on the device to packed bytes
    /// in host memory, declared slowdown included. F16, INT8 and FF have kernels; for the rest a GPU's tensor is read back
    /// and the processor goes on. What is not FP32 never lies on a GPU: the processor encodes it. `calibrated` is for FF. The
    /// first call for a codec may compile kernels. Blocks.
    pub fn encode_on(
        &self,
        device: usize,
        codec: u8,
        rate: u8,
        tensor: &HostTensor,
        calibrated: Option<&CutPackage>,
    ) -> Result<(Packed, Duration), EngineError> {
        let (name, tensor, calibrated) = (self.name(device)?, tensor.clone(), calibrated.cloned());
        let encode =
            move |worker: &mut Worker| codecs::encode_one(&worker.device, codec, rate, &tensor, calibrated.as_ref());
        let outcome = self.call(device, encode)?;
        outcome.map_err(|source| EngineError::Execution { device: name, source })
    }

    /// Decodes one tensor as a job decodes what arrived, with the time from packed bytes in host memory to a tensor that
    /// lies on the device, where [`Engine::encode_on`] has it. Its shape is taken as it is, at most
    /// [`VALUE_BYTES_MAX`](bps_codec::VALUE_BYTES_MAX) large; everything else may be hostile. `calibrated` holds what a frame
    /// of FF names. Blocks.
    pub fn decode_on(
        &self,
        device: usize,
        packed: &Packed,
        calibrated: Option<&Package>,
    ) -> Result<(HostTensor, Duration), EngineError> {
        let (name, packed, calibrated) = (self.name(device)?, packed.clone(), calibrated.cloned());
        let decode = move |worker: &mut Worker| codecs::decode_one(&worker.device, &packed, calibrated.as_ref());
        let outcome = self.call(device, decode)?;
        outcome.map_err(|source| EngineError::Execution { device: name, source })
    }

    /// Memory that is free for models, in bytes; none where the system does not tell.
    pub fn memory_free(&self, device: usize) -> Option<u64> {
        self.0.devices.get(device)?.memory_free_bytes()
    }

    fn name(&self, device: usize) -> Result<String, EngineError> {
        let count = self.0.descriptions.len();
        let found = self.0.descriptions.get(device).map(|d| d.name.clone());
        found.ok_or(EngineError::NoSuchIndex { index: device, count })
    }

    /// Runs `work` on the device's thread, behind what is queued, and waits for it.
    pub(crate) fn call<T: Send + 'static>(
        &self,
        device: usize,
        work: impl FnOnce(&mut Worker) -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        let name = self.name(device)?;
        let (answer, answered) = crossbeam_channel::bounded(1);
        let call = Command::Call(Box::new(move |worker| {
            let _no_listener = answer.send(work(worker));
        }));
        self.0.executors[device].send(call).map_err(|_| ended(&name))?;
        answered.recv().map_err(|_| ended(&name))
    }
}

fn ended(name: &str) -> EngineError {
    let source = JobError::DeviceLost { message: "the executor has ended".into() };
    EngineError::Execution { device: name.into(), source }
}

/// Starts a device's executor. On the processor it runs inside its own pool, whose threads are the device's share.
fn spawn(device: &OpenDevice) -> Result<Sender<Command>, EngineError> {
    let name = device.description.name.clone();
    let (sender, receiver) = unbounded();
    let worker = Worker::new(device.clone());
    let fail = |message: String| EngineError::Start { name: name.clone(), message };
    let pool = if device.is_cpu() {
        let prefix = name.clone();
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(device.description.threads)
            .thread_name(move |i| format!("{prefix} {i}"))
            .build();
        Some(pool.map_err(|e| fail(e.to_string()))?)
    } else {
        None
    };
    std::thread::Builder::new()
        .name(name.clone())
        .spawn(move || match pool {
            // Everything rayon does below this call happens in this pool.
            Some(pool) => pool.install(|| worker.serve(&receiver)),
            None => worker.serve(&receiver),
        })
        .map_err(|e| fail(e.to_string()))?;
    Ok(sender)
}
