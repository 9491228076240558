//! What can happen to the scheduler and what it asks to be done.

use crate::{Candidate, PlanStage, Receipt, SwapReport, World};
use bps_types::policy::Table;
use bps_types::{ArrivalId, DeviceId, ExecutionId, Generation, HostId, ModelId, Nanos, RequestId, Trace};

/// One inference, as far as scheduling is concerned; its tensors stay with the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The driver's id; never reused.
    pub id: RequestId,
    /// Which model.
    pub model: ModelId,
    /// Distinguishes inputs that cannot share a batch (other extents or element types); equal keys can.
    pub shape_key: u64,
    /// Its own batch dimension, at least 1.
    pub rows: u32,
    /// Bytes its input holds.
    pub bytes: u64,
    /// Higher is more urgent.
    pub priority: u8,
    /// When its answer stops being useful.
    pub deadline: Option<Nanos>,
    /// Bits of [`bps_types::policy::constraint`].
    pub constraints: u8,
    /// What its client is following it by.
    pub trace: Option<Trace>,
}

/// Everything that can wake the scheduler.
pub enum Event {
    /// Devices, models or codecs changed. Requests of models that are gone are refused; what runs finishes.
    World(World),
    /// A cost table was measured.
    Table(Table),
    /// A request arrived.
    Submit(Request),
    /// The client no longer wants an answer.
    Cancel(RequestId),
    /// A [`Run`] ended well.
    Done {
        /// Which.
        execution: ExecutionId,
        /// Time on the device that its layers took.
        elapsed: Nanos,
        /// Time on the device that decoding its input and encoding its output took.
        coding: Nanos,
    },
    /// A [`Run`] or a [`Forward`] ended badly.
    Failed {
        /// Which.
        execution: ExecutionId,
        /// Why.
        failure: Failure,
    },
    /// A device went down or came back.
    Device {
        /// Which.
        device: DeviceId,
        /// Whether it takes work.
        up: bool,
    },
    /// A device's free memory was read.
    Memory {
        /// Which.
        device: DeviceId,
        /// Bytes, where known.
        free: Option<u64>,
    },
    /// A peer reported how one of its devices stands.
    Standing(Standing),
    /// A link was measured, went up or went down.
    Link(LinkReport),
    /// A stage came from another host.
    Arrive(Arrival),
    /// Its origin no longer wants it, or can no longer be answered.
    Withdraw(ArrivalId),
    /// A [`Forward`] came back with a result.
    Answered {
        /// Which.
        execution: ExecutionId,
        /// How its stages went, in order.
        stages: Vec<StageTime>,
        /// Bytes that crossed links for it, in both directions.
        bytes: Crossing,
    },
    /// Make this the active policy.
    Swap(Box<Candidate>),
    /// A fresh instance of the active policy after a fault, as asked for by [`Action::Rebuild`].
    Rebuilt {
        /// The generation that asked.
        generation: Generation,
        /// The instance, or why there is none.
        candidate: Result<Box<Candidate>, String>,
    },
    /// Go back to the policy before the active one, while it is still kept.
    Rollback,
    /// Time has passed: a wake asked for with [`Action::WakeAt`], or later.
    Tick,
}

/// Why an execution failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind.
    pub kind: FailureKind,
    /// For people.
    pub message: String,
}

/// What kind of failure; decides how it is retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// A layer failed. Retried, each request by itself.
    Execution,
    /// Too large for the device. Retried smaller.
    OutOfMemory,
    /// The device is gone. Marked down; retried elsewhere.
    DeviceLost,
    /// Another host did not take it: it is busy, or sees its rights, models or codecs differently. Its devices are left
    /// alone for a moment.
    Refused,
    /// Another host cannot be reached. Nobody's fault here: retried elsewhere at once.
    Unreachable,
}

/// How a peer's device stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which.
    pub device: DeviceId,
    /// Takes work.
    pub up: bool,
    /// Predicted time until all it holds is done, whoever gave it.
    pub backlog: Nanos,
    /// Executions it holds, whoever gave them.
    pub running: u32,
    /// Free memory, where known.
    pub memory_free: Option<u64>,
}

/// How a link stands, in one direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkReport {
    /// Who sends.
    pub source: HostId,
    /// Who receives.
    pub target: HostId,
    /// Whether anything gets through.
    pub up: bool,
    /// Goodput.
    pub bytes_per_second: f32,
    /// Round trip.
    pub rtt: Nanos,
    /// Bytes accepted and not yet acknowledged.
    pub backlog_bytes: u64,
}

/// A stage that came from another host, as far as scheduling is concerned; its tensors stay with the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The driver's id; never reused.
    pub id: ArrivalId,
    /// Who sent it, and whose quota it uses.
    pub host: HostId,
    /// Whose plan it is of, and who is answered.
    pub origin: HostId,
    /// Of which model.
    pub model: ModelId,
    /// What is left of its plan; the first stage is this host's.
    pub stages: Vec<PlanStage>,
    /// How many rows.
    pub rows: u32,
    /// Bytes its input holds here.
    pub bytes: u64,
    /// Higher is more urgent.
    pub priority: u8,
    /// When its result stops being useful.
    pub deadline: Option<Nanos>,
    /// What its origin is following it by.
    pub trace: Option<Trace>,
}

/// How one stage went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageTime {
    /// How long its input had been on the host by then, in line and behind others on the device; none where nobody took
    /// the time.
    pub waited: Option<Nanos>,
    /// When it began, on this host's clock as far as the two can be compared.
    pub began: Nanos,
    /// Time on the device.
    pub elapsed: Nanos,
    /// Rows it was executed together with, its own included.
    pub batch_rows: u32,
}

/// Bytes that crossed links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crossing {
    /// The message with the input of the first stage that left this host.
    pub sent: u64,
    /// Of it the encoded values alone: what a codec is judged by. Beside a few small rows the rest of a message is much.
    pub values: u64,
    /// The answer.
    pub received: u64,
    /// The rate that they were encoded at, where a [`Cap`] made it another than the plan's.
    pub coarser: Option<u8>,
}

/// Where a [`Run`] takes its input from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The inputs of these requests, one after another, with their rows.
    Requests(Vec<(RequestId, u32)>),
    /// What that execution left.
    Execution(ExecutionId),
    /// The inputs of these arrived stages, one after another, with their rows.
    Arrivals(Vec<(ArrivalId, u32)>),
}

/// Execute one stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Name of this attempt; [`Event::Done`] and [`Event::Failed`] repeat it.
    pub execution: ExecutionId,
    /// On which device.
    pub device: DeviceId,
    /// Of which model.
    pub model: ModelId,
    /// The cut at which it enters.
    pub from_cut: u32,
    /// The cut at which it leaves.
    pub until_cut: u32,
    /// How its input travels.
    pub codec: u8,
    /// The codec's rate.
    pub rate: u8,
    /// Where its input comes from.
    pub input: Input,
    /// How many rows.
    pub rows: u32,
    /// How its output leaves this host; none where it stays.
    pub leave: Option<Leaving>,
}

/// How an output leaves a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// The codec.
    pub codec: u8,
    /// Its rate.
    pub rate: u8,
    /// What becomes of one that turns out large; none: it travels as it is.
    pub cap: Option<Cap>,
}

/// An output that encodes to more bytes than this is encoded again, more coarsely, sooner than hold up the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cap {
    /// The most bytes of encoded values that need no thought.
    pub bytes: u64,
    /// The coarsest rate of the codec that the model's budget for accuracy has room for.
    pub coarsest: u8,
}

/// Hand the rest of a plan to another host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Name of this attempt; [`Event::Answered`] and [`Event::Failed`] repeat it.
    pub execution: ExecutionId,
    /// To whom.
    pub host: HostId,
    /// Of which model.
    pub model: ModelId,
    /// The rest of the plan; the first stage is that host's.
    pub stages: Vec<PlanStage>,
    /// Where its input comes from.
    pub input: Input,
    /// How many rows.
    pub rows: u32,
    /// The nearest deadline of its requests.
    pub deadline: Option<Nanos>,
    /// The highest priority of its requests.
    pub priority: u8,
    /// What the other hosts are to call it by.
    pub trace: Trace,
    /// What becomes of an input that turns out large, where it is not encoded yet; none: it travels as planned.
    pub cap: Option<Cap>,
}

/// What happens to an arrived stage that has been executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advance {
    /// Which.
    pub arrival: ArrivalId,
    /// The execution that holds its rows.
    pub execution: ExecutionId,
    /// First row of the output.
    pub row: u32,
    /// How many rows.
    pub rows: u32,
    /// Rows that were executed together.
    pub batch_rows: u32,
    /// On which device.
    pub device: DeviceId,
    /// When it had arrived.
    pub arrived: Nanos,
    /// When its execution began.
    pub began: Nanos,
    /// How long that took.
    pub elapsed: Nanos,
    /// Where it goes.
    pub next: Next,
}

/// Where an executed arrival goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is done: its origin is answered.
    Origin,
    /// These rows are the input of its next stage, here.
    Here,
    /// The rest of its plan goes to another host.
    Host(HostId, Vec<PlanStage>),
}

/// A request is answered with rows of an execution's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Which request.
    pub request: RequestId,
    /// The execution of the last stage.
    pub execution: ExecutionId,
    /// First row of the output.
    pub row: u32,
    /// How many rows.
    pub rows: u32,
    /// From arrival to the start of the first stage.
    pub wait: Nanos,
    /// From arrival to now.
    pub total: Nanos,
    /// Rows executed together.
    pub batch_rows: u32,
    /// Which policy chose it.
    pub generation: Generation,
}

/// Why a request gets no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The model is not (or no longer) served.
    UnknownModel,
    /// More rows than the model's batch-max.
    TooManyRows {
        /// Rows asked for.
        rows: u32,
        /// Rows allowed.
        max: u32,
    },
    /// The model's queue is full in requests or bytes.
    QueueFull,
    /// The policy chose not to serve it.
    Shed,
    /// Its deadline passed.
    Expired,
    /// The client went away.
    Cancelled,
    /// Its executions failed, this many.
    Failed {
        /// How many were tried.
        attempts: u8,
        /// What the last one said.
        message: String,
    },
}

/// Why an arrived stage is given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Its sender has no right to execute here, or its plan is not one for this host.
    Forbidden(String),
    /// The sender's window or quota is full.
    Busy,
    /// Its deadline passed.
    Expired,
    /// Its execution failed.
    Failed(Failure),
}

/// What the driver must do. Actions are carried out in order.
#[derive(Debug)]
pub enum Action {
    /// Execute a stage.
    Run(Run),
    /// Hand the rest of a plan to another host.
    Forward(Forward),
    /// Tell that host that nobody waits any more. One is told after another: each may have passed it on.
    Recall {
        /// Which [`Forward`].
        execution: ExecutionId,
        /// A host of its stages.
        host: HostId,
    },
    /// An arrived stage has been executed. The output is needed until [`Action::Release`].
    Advance(Advance),
    /// An arrived stage is given back to whoever sent it.
    Reject {
        /// Which.
        arrival: ArrivalId,
        /// Why.
        reason: Rejection,
    },
    /// Answer a request. The execution's output is needed until [`Action::Release`].
    Answer(Answer),
    /// Tell a client why there is no result.
    Refuse {
        /// Which request.
        request: RequestId,
        /// Why.
        reason: Refusal,
    },
    /// The output of this execution is no longer needed. (What a stage leaves for the next one is taken by that one's
    /// [`Run`] and not released.)
    Release(ExecutionId),
    /// A device takes no more work, or takes work again, because of how an execution ended or did not.
    Device {
        /// Which.
        device: DeviceId,
        /// Whether it takes work.
        up: bool,
    },
    /// A dispatch ended; for people and tools.
    Receipt(Receipt),
    /// Call with [`Event::Tick`] at this time; replaces any earlier one.
    WakeAt(Nanos),
    /// Make a new instance of the active policy, off this thread, not before `at`.
    Rebuild {
        /// Whose.
        generation: Generation,
        /// Which component.
        digest: String,
        /// Its configuration.
        config: String,
        /// Its seed.
        seed: u64,
        /// Earliest time.
        at: Nanos,
    },
    /// The active policy changed, or a swap was refused.
    Swapped(SwapReport),
}
