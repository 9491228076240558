//! The life of one request, from a client's tensors to its answer, in one function: [`infer`].

mod arrange;
mod encoded;
mod outcome;

use crate::admission::Permit;
use crate::clock;
use crate::dispatcher::{Answered, Message, Submission};
use crate::host::Inner;
use crate::models::{InFlight, ServedModel};
use crate::{InferCall, InferReply, NamedTensor, ServeError, Timings};
use arrange::Arranged;
use bps_sched::Request;
use bps_types::policy::constraint;
use bps_types::{HostTensor, Nanos, RequestId};
use outcome::Outcome;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

/// One request:
///
/// find the model → check the tensors against it → admit → decode images → hand over to the dispatcher → wait → pick and
/// name the outputs.
///
/// Between hand-over and answer the scheduler owns it: queue, policy, plan, executions, retries. Dropping the future at
/// any point takes it out again.
pub(crate) async fn infer(inner: &Inner, call: InferCall) -> Result<InferReply, ServeError> {
    let arrived = clock::now();
    let in_flight = inner.models.enter(&call.model, call.version.as_deref()).inspect_err(|error| {
        if matches!(error, ServeError::NotFound(_)) {
            inner.metrics.not_found();
        }
    })?;
    let model = in_flight.model().clone();
    let mut outcome = Outcome::begin(model.clone(), arrived);
    let result = async {
        let wanted = wanted_outputs(&model, &call.outputs)?;
        let arranged = arrange::check(&model, call.inputs, inner.body_bytes_max)?;
        let permit = inner.admission.admit(arranged.bytes)?;
        if inner.draining.load(Ordering::Acquire) {
            return Err(ServeError::Unavailable("the host is draining".into()));
        }
        let ready = encoded::decode(&inner.decoders, &model, arranged, call.timeout).await?;
        let handed_over = clock::now();
        let deadline = call.timeout.map(|timeout| arrived + Nanos::from(timeout));
        let request = Request {
            id: RequestId(inner.next_request.fetch_add(1, Ordering::Relaxed)),
            model: model.id,
            shape_key: ready.shape_key(),
            rows: ready.rows,
            bytes: ready.bytes as u64,
            priority: call.priority.unwrap_or(model.manifest.priority),
            deadline,
            constraints: call.constraints
                | if model.manifest.placement.local_only { constraint::LOCAL_ONLY } else { 0 },
            trace: call.trace,
        };
        let rows = request.rows;
        let answered = hand_over(inner, request, ready, in_flight, permit, arrived).await?;
        outcome.answered(rows, handed_over, &answered);
        Ok(reply(&model, wanted, answered))
    }
    .await;
    outcome.end(result)
}

/// Indices of the outputs asked for, in the order asked; all where none is named.
fn wanted_outputs(model: &ServedModel, names: &[String]) -> Result<Vec<usize>, ServeError> {
    let outputs = &model.graph.outputs;
    if names.is_empty() {
        return Ok((0..outputs.len()).collect());
    }
    let index = |name: &String| {
        let found = outputs.iter().position(|spec| spec.name == *name);
        found.ok_or_else(|| ServeError::Invalid(format!("model {} has no output {name}", model.name)))
    };
    names.iter().map(index).collect()
}

/// Submits to the dispatcher and waits; cancels when dropped before the answer.
async fn hand_over(
    inner: &Inner,
    request: Request,
    ready: Arranged,
    in_flight: InFlight,
    permit: Permit,
    arrived: Nanos,
) -> Result<Answered, ServeError> {
    let stopped = || ServeError::Unavailable("the host is stopping".into());
    let (reply, answer) = oneshot::channel();
    let mut cancel = CancelOnDrop { inner, id: Some(request.id) };
    let inputs: Vec<HostTensor> = ready.tensors;
    let submission = Submission { request, inputs, in_flight, reply, permit, arrived };
    if !inner.dispatcher.send(Message::Submit(Box::new(submission))) {
        cancel.id = None;
        return Err(stopped());
    }
    let result = answer.await;
    cancel.id = None;
    result.unwrap_or_else(|_| Err(stopped()))
}

/// Tells the scheduler that nobody waits any more.
struct CancelOnDrop<'a> {
    inner: &'a Inner,
    id: Option<RequestId>,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.inner.dispatcher.send(Message::Cancel(id));
        }
    }
}

fn reply(model: &ServedModel, wanted: Vec<usize>, answered: Answered) -> InferReply {
    let named = |index: usize| NamedTensor {
        name: model.graph.outputs[index].name.clone(),
        tensor: answered.outputs[index].clone(),
    };
    InferReply {
        model: model.name.clone(),
        version: model.version.clone(),
        outputs: wanted.into_iter().map(named).collect(),
        timings: Timings {
            wait: answered.wait,
            total: answered.total,
            compute: answered.compute,
            batch_rows: answered.batch_rows,
            generation: answered.generation,
        },
    }
}
