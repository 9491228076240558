//! The worker behind a device: one thread that owns the device's weights and executes one job after another.
//!
//! The queue into it has no bound of its own: the scheduler above hands a device at most a few jobs, and a job that
//! waits there is already in memory.

use crate::arrive;
use crate::batch::{Staged, assemble};
use crate::device::OpenDevice;
use crate::passage::{Lane, Outcome, Passage};
use crate::program::{Program, Values};
use crate::{Job, JobError, JobInput, JobOutput, Leave, Model};
use bps_graph::Shapes;
use bps_types::HostTensor;
use crossbeam_channel::Receiver;
use std::any::Any;
use std::cell::Cell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Input shapes remembered per model: inference over a large graph costs more than a small network's execution.
const SHAPES_MAX: usize = 64;

/// Most rows of a lane: what passes between its layers should stay in the processor's cache.
const LANE_ROWS_MAX: usize = 8;

/// What a worker is told.
pub(crate) enum Command {
    /// Execute and answer.
    Job(Box<Job>),
    /// Anything else that must happen on the device's thread.
    Call(Box<dyn FnOnce(&mut Worker) + Send>),
    /// Free a model's weights.
    Forget(u64),
}

/// A device's state.
pub(crate) struct Worker {
    pub(crate) device: OpenDevice,
    models: HashMap<u64, Loaded>,
}

/// A model on this device.
struct Loaded {
    program: Arc<Program>,
    shapes: HashMap<Vec<Vec<usize>>, Arc<Shapes>>,
}

/// The layer that is running, for messages.
pub(crate) type At = Cell<Option<usize>>;

impl Worker {
    pub(crate) fn new(device: OpenDevice) -> Self {
        Self { device, models: HashMap::new() }
    }

    /// Serves until every sender is gone; what is queued then is still executed.
    pub(crate) fn serve(mut self, commands: &Receiver<Command>) {
        for command in commands {
            // Whatever a callback does, this thread lives on.
            let outcome = catch_unwind(AssertUnwindSafe(|| match command {
                Command::Job(job) => self.job(*job),
                Command::Call(call) => call(&mut self),
                Command::Forget(id) => drop(self.models.remove(&id)),
            }));
            if let Err(panic) = outcome {
                tracing::error!(device = self.device.description.name, "callback panicked: {}", text_of(&*panic));
            }
        }
    }

    fn job(&mut self, job: Job) {
        let Job { model, from_cut, until_cut, input, leave, done } = job;
        let started = Instant::now();
        let result = self.guarded(&model, |worker, at| worker.execute(&model, from_cut, until_cut, input, leave, at));
        self.slow_down(started.elapsed());
        let slowdown = self.device.description.slowdown;
        done(result.map(|outcome| JobOutput {
            tensors: outcome.tensors,
            packed: outcome.packed,
            elapsed: started.elapsed(),
            decode: outcome.decode.mul_f32(slowdown),
            encode: outcome.encode.mul_f32(slowdown),
        }));
    }

    /// Sleeps for the declared slowdown.
    pub(crate) fn slow_down(&self, elapsed: Duration) {
        let factor = self.device.description.slowdown - 1.0;
        if factor > 0.0 {
            std::thread::sleep(elapsed.mul_f32(factor));
        }
    }

    /// Runs `work`; a panic in it becomes an error that names the layer.
    pub(crate) fn guarded<T>(
        &mut self,
        model: &Model,
        work: impl FnOnce(&mut Self, &At) -> Result<T, JobError>,
    ) -> Result<T, JobError> {
        guard(model, |at| work(self, at))
    }

    /// Executes the layers between two cuts. On the processor a batch is cut into lanes, one a thread: rows do not meet,
    /// and a thread that stays with its rows waits for nobody between layers.
    pub(crate) fn execute(
        &mut self,
        model: &Model,
        from_cut: usize,
        until_cut: usize,
        input: JobInput,
        leave: Leave,
        at: &At,
    ) -> Result<Outcome, JobError> {
        let graph = model.graph().clone();
        let cut_count = graph.cuts.len();
        if from_cut > until_cut || until_cut >= cut_count {
            return Err(JobError::failed(format!("cuts {from_cut}..{until_cut} of {cut_count}")));
        }
        let program = self.program(model)?;
        let arrived = matches!(input, JobInput::Arrived(_));
        let started = Instant::now();
        let staged = self.stage(model, from_cut, input)?;
        let decode = if arrived { started.elapsed() } else { Duration::ZERO };
        let passage = Passage {
            model,
            program: &program,
            device: &self.device.clone(),
            enter: graph.entering(from_cut),
            leave: if until_cut + 1 == cut_count { &graph.output_values } else { &graph.cuts[until_cut].values },
            layers: graph.cuts[from_cut].layer..graph.cuts[until_cut].layer,
        };
        let row_count = staged.first().map_or(1, Staged::row_count);
        let mut lanes = Vec::new();
        for staged in Staged::split(staged, self.lane_count(model, row_count)) {
            let rows = staged.first().map_or(row_count, Staged::row_count);
            let inputs = match from_cut {
                0 => staged.iter().map(|s| s.shape.clone()).collect(),
                _ => batch_shapes(model, rows)?,
            };
            lanes.push(Lane { staged, shapes: self.shapes(model, inputs)? });
        }
        let mut outcome = passage.carry_out(lanes, leave, arrived, at)?;
        outcome.decode += decode;
        Ok(outcome)
    }

    /// Checks and joins what goes in.
    fn stage(&mut self, model: &Model, from_cut: usize, input: JobInput) -> Result<Vec<Staged>, JobError> {
        match input {
            JobInput::Requests(requests) if from_cut == 0 => assemble(model, &requests, &self.device),
            JobInput::Requests(_) => Err(JobError::failed("requests enter at the first cut only")),
            JobInput::Activation(tensors) => self.resume(model, from_cut, &tensors),
            JobInput::Arrived(arrivals) => arrive::stage(self, model, from_cut, &arrivals),
        }
    }

    /// Parts into which a batch is cut; one where there is nothing to share.
    pub(crate) fn lane_count(&self, model: &Model, row_count: usize) -> usize {
        if !self.device.is_cpu() || !model.graph().batchable {
            return 1;
        }
        let threads = self.device.description.threads;
        row_count.div_ceil(LANE_ROWS_MAX).next_multiple_of(threads).clamp(1, row_count.max(1))
    }

    /// Uploads a whole batch and says which shapes follow.
    pub(crate) fn enter(
        &mut self,
        model: &Model,
        program: &Program,
        staged: Vec<Staged>,
    ) -> Result<(Values, Arc<Shapes>), JobError> {
        let shapes = self.shapes(model, staged.iter().map(|s| s.shape.clone()).collect())?;
        let mut values = program.values();
        for (id, staged) in program.graph.input_values.iter().zip(staged) {
            values.set(*id, staged.upload(model.pixels(), &self.device)?);
        }
        Ok((values, shapes))
    }

    /// Checks what crossed a cut.
    fn resume(&mut self, model: &Model, cut: usize, tensors: &[HostTensor]) -> Result<Vec<Staged>, JobError> {
        let graph = model.graph();
        let ids = graph.entering(cut);
        if ids.len() != tensors.len() {
            let (got, wanted) = (tensors.len(), ids.len());
            return Err(JobError::failed(format!("cut {cut} has {wanted} values, got {got}")));
        }
        let rows = tensors.first().map_or(1, HostTensor::rows);
        let shapes = self.shapes(model, batch_shapes(model, rows)?)?;
        let mut staged = Vec::with_capacity(tensors.len());
        for (id, tensor) in ids.iter().zip(tensors) {
            let (name, wanted) = (&graph.values[id.index()].name, shapes.of(*id));
            if tensor.shape() != wanted {
                let got = tensor.shape();
                return Err(JobError::failed(format!("value `{name}` of cut {cut} has {got:?}, expected {wanted:?}")));
            }
            let floats = tensor.to_f32().map_err(|e| JobError::failed(format!("value `{name}` of cut {cut}: {e}")))?;
            staged.push(Staged::floats(wanted.to_vec(), floats));
        }
        Ok(staged)
    }

    /// The model's weights on this device; uploaded at the first use.
    pub(crate) fn program(&mut self, model: &Model) -> Result<Arc<Program>, JobError> {
        if let Some(loaded) = self.models.get(&model.id()) {
            return Ok(loaded.program.clone());
        }
        let make = || Program::new(model.graph().clone(), self.device.burn(), self.device.is_cpu()).map(Arc::new);
        let program = match model.on_cpu().get().filter(|_| self.device.is_cpu()) {
            Some(shared) => shared.clone(),
            None => {
                let made = make().map_err(JobError::failed)?;
                if self.device.is_cpu() { model.on_cpu().get_or_init(|| made).clone() } else { made }
            }
        };
        self.models.insert(model.id(), Loaded { program: program.clone(), shapes: HashMap::new() });
        Ok(program)
    }

    /// Inferred shapes for these inputs, remembered.
    pub(crate) fn shapes(&mut self, model: &Model, inputs: Vec<Vec<usize>>) -> Result<Arc<Shapes>, JobError> {
        let known = self.models.get(&model.id()).and_then(|l| l.shapes.get(&inputs));
        if let Some(shapes) = known {
            return Ok(shapes.clone());
        }
        let shapes = Arc::new(model.graph().infer(&inputs).map_err(|e| JobError::failed(e.to_string()))?);
        if let Some(loaded) = self.models.get_mut(&model.id()) {
            if loaded.shapes.len() >= SHAPES_MAX {
                loaded.shapes.clear();
            }
            loaded.shapes.insert(inputs, shapes.clone());
        }
        Ok(shapes)
    }
}

/// Runs `work`; a panic in it becomes an error that names the layer.
pub(crate) fn guard<T>(model: &Model, work: impl FnOnce(&At) -> Result<T, JobError>) -> Result<T, JobError> {
    let at = Cell::new(None);
    let outcome = catch_unwind(AssertUnwindSafe(|| work(&at)));
    let layer = at.get().and_then(|i| model.graph().layers.get(i)).map(|l| l.name.as_str());
    match outcome {
        Ok(Err(JobError::Failed { layer: None, message })) => Err(JobError::classify(layer, message)),
        Ok(result) => result,
        Err(panic) => Err(JobError::classify(layer, text_of(&*panic))),
    }
}

/// The inputs' shapes for a batch of `rows`; an error where the file leaves other extents open.
pub(crate) fn batch_shapes(model: &Model, rows: usize) -> Result<Vec<Vec<usize>>, JobError> {
    let shape_of = |input: &bps_types::TensorSpec| {
        let rest = input.shape.iter().skip(1).copied().collect::<Option<Vec<_>>>();
        let rest = rest.ok_or_else(|| {
            JobError::failed(format!(
                "input `{}` has open extents {:?}: the shape is not known here",
                input.name, input.shape
            ))
        })?;
        Ok(std::iter::once(rows).chain(rest).collect())
    };
    model.graph().inputs.iter().map(shape_of).collect()
}

/// What a panic said.
pub(crate) fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("no message"))
}

#[cfg(test)]
mod tests {
    use crate::executor::batch_shapes;
    use crate::{Engine, JobError};
    use bps_graph::{Graph, Limits, topology};
    use std::sync::Arc;

    #[test]
    fn a_panic_inside_a_layer_is_an_error_that_names_it() {
        let engine = Engine::start(&["cpu".parse().unwrap()]).unwrap();
        let onnx = topology::make(topology::Topology::DigitsNet, 0);
        let graph = Arc::new(Graph::parse(&onnx, &Limits::default()).unwrap());
        let model = engine.load(graph.clone(), None).unwrap();
        let shape = batch_shapes(&model, 1).unwrap().remove(0);
        let outcome = engine.call(0, {
            let (model, shape) = (model.clone(), shape.clone());
            move |worker| {
                worker.guarded(&model, |worker, at| {
                    let program = worker.program(&model)?;
                    let shapes = worker.shapes(&model, vec![shape.clone()])?;
                    let mut values = program.values();
                    // A tensor that is not what its shape says: what a fault of our own would look like.
                    let wrong = crate::host::upload(vec![0.0; 4], &[1, 1, 2, 2], worker.device.burn());
                    values.set(program.graph.input_values[0], wrong);
                    program.run(&mut values, 0..program.steps.len(), &shapes, at, &mut |_| panic!("behind a layer"))
                })
            }
        });
        match outcome.unwrap().unwrap_err() {
            JobError::Failed { layer, message } => {
                assert_eq!(layer.as_deref(), Some(graph.layers[0].name.as_str()));
                assert!(message.starts_with("panicked: "), "{message}");
            }
            other => panic!("{other:?}"),
        }
        engine.warm(0, &model).expect("the executor goes on");
    }
}
