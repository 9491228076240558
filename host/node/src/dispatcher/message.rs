//! What is said to the dispatcher.

use crate::ServeError;
use crate::admission::Permit;
use crate::models::InFlight;
use crate::peers::Peers;
use crate::remote::Incoming;
use bps_engine::JobResult;
use bps_sched::{Briefing, Candidate, Failure, LinkReport, Request, Standing, SwapReport, World};
use bps_types::policy::Table;
use bps_types::{ExecutionId, Generation, HostTensor, Nanos, RequestId};
use std::sync::Arc;
use tokio::sync::oneshot;

/// One message.
pub(crate) enum Message {
    /// A request to be answered.
    Submit(Box<Submission>),
    /// Its client went away.
    Cancel(RequestId),
    /// A job ended; sent by the executor's thread.
    Finished { execution: ExecutionId, result: JobResult },
    /// Models changed.
    World(World),
    /// A cost table.
    Table(Table),
    /// Other hosts can be met from now on.
    Peers(Arc<Peers>),
    /// A link was measured, went up or went down.
    Link(LinkReport),
    /// A peer said how one of its devices stands.
    Standing(Standing),
    /// A stage or an answer came from another host.
    Remote(Incoming),
    /// A stage could not be sent to another host.
    Unsent { execution: ExecutionId, failure: Failure },
    /// Free memory of a device was read.
    Memory { device: u32, free_bytes: Option<u64> },
    /// Make this the active policy.
    Swap { candidate: Box<Candidate>, reply: oneshot::Sender<SwapReport> },
    /// Go back to the policy before.
    Rollback { reply: oneshot::Sender<SwapReport> },
    /// What was asked for after a fault.
    Rebuilt { generation: Generation, candidate: Result<Box<Candidate>, String> },
    /// What must a policy be told?
    Briefing { reply: oneshot::Sender<Arc<Briefing>> },
    /// End the thread.
    Stop,
}

/// A request with all that goes with it: kept until it is completed, whatever happens to its executions.
pub(crate) struct Submission {
    pub(crate) request: Request,
    /// One per model input, in the model's order.
    pub(crate) inputs: Vec<HostTensor>,
    pub(crate) reply: oneshot::Sender<Result<Answered, ServeError>>,
    /// Given back when the request is completed.
    #[expect(dead_code, reason = "held for what dropping it does")]
    pub(crate) permit: Permit,
    /// The model, which stays as long as the request does.
    pub(crate) in_flight: InFlight,
    /// When it came, which its deadline counts from: before images were decoded, and before it was handed over.
    pub(crate) arrived: Nanos,
}

/// A request's rows of every output, and where the time went.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) outputs: Vec<HostTensor>,
    pub(crate) wait: Nanos,
    pub(crate) total: Nanos,
    pub(crate) compute: Nanos,
    pub(crate) batch_rows: u32,
    pub(crate) generation: u32,
}
