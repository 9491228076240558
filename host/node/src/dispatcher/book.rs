//! What the dispatcher keeps: requests until they are completed, outputs until they are released.

use super::{Answered, Submission};
use crate::ServeError;
use crate::models::ServedModel;
use crate::remote::Load;
use crate::remote::away::Away;
use crate::remote::guests::{GuestBook, Left};
use bps_engine::JobInput;
use bps_sched::{Answer, Forward, Input, Refusal, Run};
use bps_types::{ExecutionId, HostTensor, Nanos, Packed, RequestId};
use std::collections::HashMap;
use std::sync::Arc;

/// Looked up by id, never iterated where order matters.
#[derive(Default)]
pub(super) struct Book {
    requests: HashMap<RequestId, Submission>,
    executions: HashMap<ExecutionId, Execution>,
}

/// One execution from its start to its release.
pub(super) struct Execution {
    pub(super) model: Arc<ServedModel>,
    pub(super) device: u32,
    pub(super) rows: u32,
    /// Whether it ends at the model's output.
    pub(super) last: bool,
    /// Device time of the stages before this one.
    compute_before: Nanos,
    /// It is on another host.
    pub(super) away: Option<Away>,
    output: Option<Output>,
}

struct Output {
    tensors: Vec<HostTensor>,
    /// Encoded for the way to another host, in place of the tensors.
    packed: Vec<Packed>,
    compute: Nanos,
}

impl Book {
    pub(super) fn keep(&mut self, submission: Submission) {
        self.requests.insert(submission.request.id, submission);
    }

    /// Notes the start of an execution and gathers what goes in. An error is a bug of ours, told as a failed execution.
    pub(super) fn begin(&mut self, run: &Run, guests: &GuestBook) -> Result<(Arc<ServedModel>, JobInput), String> {
        let (model, input, compute_before) = match &run.input {
            Input::Requests(sources) => {
                let (model, inputs) = self.inputs(sources)?;
                (model, JobInput::Requests(inputs), Nanos::ZERO)
            }
            Input::Execution(previous) => {
                let (model, output) = self.take_output(*previous)?;
                (model, JobInput::Activation(output.tensors), output.compute)
            }
            Input::Arrivals(arrivals) => {
                let (model, inputs) = guests.inputs(arrivals)?;
                (model, JobInput::Arrived(inputs), Nanos::ZERO)
            }
        };
        let last = run.until_cut + 1 == model.cut_count();
        self.open(run.execution, &model, run.device.0, run.rows, last, compute_before);
        Ok((model, input))
    }

    /// The same for the rest of a plan that goes to another host.
    pub(super) fn depart(&mut self, forward: &Forward) -> Result<(Arc<ServedModel>, Load), String> {
        let device = forward.stages.first().map_or(u32::MAX, |s| s.device.0);
        let (model, load, compute_before) = match &forward.input {
            Input::Requests(sources) => {
                let (model, inputs) = self.inputs(sources)?;
                (model, Load::Requests(inputs), Nanos::ZERO)
            }
            Input::Execution(previous) => {
                let (model, output) = self.take_output(*previous)?;
                let packed = !output.packed.is_empty();
                let load = if packed { Load::Packed(output.packed) } else { Load::Tensors(output.tensors) };
                (model, load, output.compute)
            }
            Input::Arrivals(_) => return Err("arrivals are passed on, not handed over".into()),
        };
        self.open(forward.execution, &model, device, forward.rows, true, compute_before);
        Ok((model, load))
    }

    fn open(
        &mut self,
        id: ExecutionId,
        model: &Arc<ServedModel>,
        device: u32,
        rows: u32,
        last: bool,
        compute_before: Nanos,
    ) {
        let execution =
            Execution { model: model.clone(), device, rows, last, compute_before, away: None, output: None };
        self.executions.insert(id, execution);
    }

    fn inputs(&self, sources: &[(RequestId, u32)]) -> Result<(Arc<ServedModel>, Vec<Vec<HostTensor>>), String> {
        let mut inputs = Vec::with_capacity(sources.len());
        let mut model = None;
        for (id, _) in sources {
            let held = self.requests.get(id).ok_or_else(|| format!("the input of request {id} is gone"))?;
            inputs.push(held.inputs.clone());
            model.get_or_insert_with(|| held.in_flight.model().clone());
        }
        Ok((model.ok_or("an execution without requests")?, inputs))
    }

    /// The scheduler starts again from the requests when a later stage fails: this output has served its purpose.
    fn take_output(&mut self, id: ExecutionId) -> Result<(Arc<ServedModel>, Output), String> {
        let held = self.executions.remove(&id).and_then(|e| Some((e.model, e.output?)));
        held.ok_or_else(|| format!("the output of execution {id} is gone"))
    }

    /// What is remembered of an execution, if it has not been released.
    pub(super) fn execution(&mut self, id: ExecutionId) -> Option<&mut Execution> {
        self.executions.get_mut(&id)
    }

    /// Keeps an execution's output. None for one that has been released already.
    pub(super) fn finished(&mut self, id: ExecutionId, result: Finished) -> Option<&Execution> {
        let execution = self.executions.get_mut(&id)?;
        let Finished { tensors, packed, elapsed } = result;
        execution.output = Some(Output { tensors, packed, compute: execution.compute_before + elapsed });
        Some(execution)
    }

    /// The output is no longer needed.
    pub(super) fn release(&mut self, id: ExecutionId) -> Option<Execution> {
        self.executions.remove(&id)
    }

    /// Completes a request with its rows.
    pub(super) fn answer(&mut self, answer: &Answer) {
        let Some(submission) = self.requests.remove(&answer.request) else { return };
        let execution = self.executions.get(&answer.execution);
        let result = execution.ok_or_else(|| "its execution is unknown".to_owned()).and_then(|e| e.rows_for(answer));
        // The client may have gone away in this very moment: then nobody reads it.
        let _ = submission.reply.send(result.map_err(|m| ServeError::Failed(format!("internal: {m}"))));
    }

    /// Completes a request without a result.
    pub(super) fn refuse(&mut self, id: RequestId, reason: Refusal, now: Nanos) {
        let Some(submission) = self.requests.remove(&id) else { return };
        let model = &submission.in_flight.model().name;
        let error = match reason {
            Refusal::UnknownModel => ServeError::Unavailable(format!("model {model} is no longer served")),
            Refusal::TooManyRows { rows, max } => {
                ServeError::Invalid(format!("{rows} rows, model {model} takes at most {max}"))
            }
            Refusal::QueueFull => ServeError::Unavailable(format!("the queue of model {model} is full")),
            Refusal::Shed => ServeError::Shed,
            Refusal::Expired => {
                let asked = submission.request.deadline.map(|deadline| deadline.since(submission.arrived));
                ServeError::Expired(asked.unwrap_or_else(|| now.since(submission.arrived)))
            }
            Refusal::Cancelled => ServeError::Unavailable("cancelled".into()),
            Refusal::Failed { attempts, message } => {
                ServeError::Failed(format!("model {model}: {attempts} executions failed, the last one: {message}"))
            }
        };
        let _ = submission.reply.send(Err(error));
    }

    /// Completes everything that is left: the thread is ending.
    pub(super) fn close(&mut self) {
        for (_, submission) in self.requests.drain() {
            let _ = submission.reply.send(Err(ServeError::Unavailable("the host is stopping".into())));
        }
        self.executions.clear();
    }

    /// Requests and executions that are kept, for tests and metrics.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.requests.len(), self.executions.len())
    }
}

/// What an execution left, wherever it ran.
pub(super) struct Finished {
    pub(super) tensors: Vec<HostTensor>,
    pub(super) packed: Vec<Packed>,
    /// Time on devices.
    pub(super) elapsed: Nanos,
}

impl Execution {
    /// As guests see it; none while it has no output.
    pub(super) fn left(&self) -> Option<Left<'_>> {
        let output = self.output.as_ref()?;
        Some(Left { tensors: &output.tensors, packed: &output.packed, batchable: self.model.graph.batchable })
    }

    fn rows_for(&self, answer: &Answer) -> Result<Answered, String> {
        let output = self.output.as_ref().ok_or("its execution has no output")?;
        let (first, end) = (answer.row as usize, answer.row as usize + answer.rows as usize);
        let slice = |tensor: &HostTensor| {
            if !self.model.graph.batchable {
                return Ok(tensor.clone()); // such a model runs one request at a time
            }
            if tensor.shape().is_empty() || tensor.rows() < end {
                return Err(format!("rows {first}..{end} are asked of an output with shape {:?}", tensor.shape()));
            }
            Ok(tensor.slice_rows(first..end))
        };
        Ok(Answered {
            outputs: output.tensors.iter().map(slice).collect::<Result<_, _>>()?,
            wait: answer.wait,
            total: answer.total,
            compute: output.compute,
            batch_rows: answer.batch_rows,
            generation: answer.generation.0,
        })
    }
}
