//! What the dispatcher keeps: requests until they are completed, outputs until they are released.

use super::{Answered, Submission};
use crate::ServeError;
use crate::models::ServedModel;
use bps_engine::JobInput;
use bps_sched::{Answer, Input, Refusal, Run};
use bps_types::{ExecutionId, HostTensor, Nanos, RequestId};
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
    output: Option<Output>,
}

struct Output {
    tensors: Vec<HostTensor>,
    compute: Nanos,
}

impl Book {
    pub(super) fn keep(&mut self, submission: Submission) {
        self.requests.insert(submission.request.id, submission);
    }

    /// Notes the start of an execution and gathers what goes in. An error is a bug of ours, told as a failed execution.
    pub(super) fn begin(&mut self, run: &Run) -> Result<(Arc<ServedModel>, JobInput), String> {
        let (model, input, compute_before) = match &run.input {
            Input::Requests(sources) => {
                let mut inputs = Vec::with_capacity(sources.len());
                let mut model = None;
                for (id, _) in sources {
                    let held = self.requests.get(id).ok_or_else(|| format!("the input of request {id} is gone"))?;
                    inputs.push(held.inputs.clone());
                    model.get_or_insert_with(|| held.in_flight.model().clone());
                }
                (model.ok_or("an execution without requests")?, JobInput::Requests(inputs), Nanos::ZERO)
            }
            // The scheduler starts again from the requests when a later stage fails: this output has served its purpose.
            Input::Execution(previous) => {
                let held = self.executions.remove(previous).and_then(|e| Some((e.model, e.output?)));
                let (model, output) = held.ok_or_else(|| format!("the output of execution {previous} is gone"))?;
                (model, JobInput::Activation(output.tensors), output.compute)
            }
        };
        let execution = Execution {
            model: model.clone(),
            device: run.device.0,
            rows: run.rows,
            last: run.until_cut + 1 == model.cut_count(),
            compute_before,
            output: None,
        };
        self.executions.insert(run.execution, execution);
        Ok((model, input))
    }

    /// Keeps an execution's output. None for one that has been released already.
    pub(super) fn finished(&mut self, id: ExecutionId, tensors: Vec<HostTensor>, elapsed: Nanos) -> Option<&Execution> {
        let execution = self.executions.get_mut(&id)?;
        execution.output = Some(Output { tensors, compute: execution.compute_before + elapsed });
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
                let asked = submission.request.deadline.map(|deadline| deadline.since(submission.submitted));
                ServeError::Expired(asked.unwrap_or_else(|| now.since(submission.submitted)))
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

impl Execution {
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
