//! What hosts say to each other.

use crate::files::{ListWanted, ModelDenied, ModelList, ModelPart, ModelWanted};
use bps_types::policy::{DeviceKind, TableKind};
use bps_types::{Nanos, Packed, Trace};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Who a host is: the SHA-256 of its certificate. Shown to people as the fingerprint.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HostKey(pub [u8; 32]);

impl HostKey {
    /// The first eight bytes in hex: enough to tell hosts apart in a log.
    pub fn short(&self) -> String {
        bps_types::hex(&self.0[..8])
    }
}

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

/// Everything that is said once the handshake is over.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// What this host has; replaces the previous one whole.
    Advert(Advert),
    /// How it stands now; several times a second, and proof of life.
    Standing(Standing),
    /// Are you there, and what time is it.
    Ping {
        /// Repeated by the pong.
        token: u64,
        /// The sender's clock.
        at: Nanos,
    },
    /// Yes, and it is this time here.
    Pong {
        /// Of the ping.
        token: u64,
        /// `at` of the ping.
        asked: Nanos,
        /// The answering host's clock.
        at: Nanos,
    },
    /// What arrived of the bytes the receiver of this message sent; from it the sender knows its backlog and goodput.
    Progress(Progress),
    /// Run these rows along the rest of their plan.
    Execute(Execute),
    /// What became of them; from the last stage to the origin, or from whoever gave up.
    Answer(Answer),
    /// The origin no longer wants an answer to this dispatch.
    Recall {
        /// Of the [`Execute`].
        dispatch: u64,
    },
    /// The list of a model's files is wanted.
    ListWanted(ListWanted),
    /// It.
    ModelList(ModelList),
    /// A piece of one of them is wanted.
    ModelWanted(ModelWanted),
    /// It.
    ModelPart(ModelPart),
    /// Neither is given.
    ModelDenied(ModelDenied),
    /// The sender is closing on purpose.
    Bye {
        /// For people, all but [`REPLACED`]; at most 200 bytes.
        reason: String,
    },
}

/// What [`Message::Bye`] says to a host that has come anew over another connection. A host that hears it over the newer one is
/// not alone with its identity: there are two of them, and it stops dialling.
pub const REPLACED: &str = "replaced by a newer connection";

/// Sums over a session, of frames that are not control messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Bytes that arrived, those of unfinished frames included.
    pub received: u64,
    /// Bytes that were sent and will never arrive, because their frame was given up on the way.
    pub waived: u64,
    /// Bytes that arrived while a frame was on its way, less the first lump of each such time.
    pub busy_bytes: u64,
    /// How long such times were together: `busy_bytes` in `busy` is the goodput of the link.
    pub busy: Nanos,
}

/// First on every connection, in both directions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Protocol versions the sender speaks, lowest and highest.
    pub versions: (u16, u16),
    /// What it calls itself; for people.
    pub name: String,
    /// Of the program; for people.
    pub software: String,
    /// Largest frame it takes, header included.
    pub frame_bytes_max: u64,
}

/// What a host has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Advert {
    /// Grows with each change.
    pub epoch: u32,
    /// Its devices; at most 64.
    pub devices: Vec<AdvertDevice>,
    /// Its models; at most 256.
    pub models: Vec<AdvertModel>,
    /// Its codecs.
    pub codecs: Vec<AdvertCodec>,
    /// Hosts it can pass stages on to.
    pub peers: Vec<HostKey>,
    /// Dispatches the receiver may have with each of its devices at once.
    pub window: u32,
}

/// One of its devices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdvertDevice {
    /// Its number there; what a [`Route`] names.
    pub index: u32,
    /// For people.
    pub name: String,
    /// What it is.
    pub kind: DeviceKind,
    /// Memory it may use, where known.
    pub memory_bytes: Option<u64>,
}

/// One of its models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdvertModel {
    /// SHA-256 of its `.onnx` and of the tensors that lie beside it; see `files.rs`.
    pub digest: [u8; 32],
    /// Equal exactly if cut numbers mean the same.
    pub cut_list: [u8; 32],
    /// SHA-256 of what FF was calibrated with; zeros where nothing was.
    pub calibration: [u8; 32],
    /// For people, and what a fetched copy is called.
    pub name: String,
    /// Whether the receiver may fetch it.
    pub exportable: bool,
    /// Bytes of all its files together.
    pub file_bytes: u64,
    /// Most rows together.
    pub batch_max: u32,
    /// Devices (by index) it may run on.
    pub devices: Vec<u32>,
    /// What it costs there.
    pub tables: Vec<AdvertTable>,
}

/// A cost table of one model on one device of the sender.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdvertTable {
    /// Index of the device.
    pub device: u32,
    /// Codec, 0 where the kind does not depend on one.
    pub codec: u8,
    /// Which.
    pub kind: TableKind,
    /// False marks an estimate.
    pub measured: bool,
    /// As in `wit/policy.wit`.
    pub shape: Vec<u32>,
    /// As in `wit/policy.wit`.
    pub values: Vec<f32>,
}

/// A codec the sender can undo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdvertCodec {
    /// Its number on the wire.
    pub id: u8,
    /// Its name; number and name must agree on both sides.
    pub name: String,
}

/// How a host stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// The [`Advert::epoch`] whose indices it uses.
    pub epoch: u32,
    /// Its devices.
    pub devices: Vec<DeviceReport>,
    /// Its links to other hosts.
    pub links: Vec<LinkReport>,
}

/// How one of its devices stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceReport {
    /// Which.
    pub index: u32,
    /// Takes work.
    pub up: bool,
    /// Predicted time until all it holds is done.
    pub backlog: Nanos,
    /// Executions it holds.
    pub running: u32,
    /// Free memory, where known.
    pub memory_free: Option<u64>,
}

/// How one of its links stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkReport {
    /// To whom.
    pub to: HostKey,
    /// Whether it is up.
    pub up: bool,
    /// Goodput.
    pub bytes_per_second: f32,
    /// Round trip.
    pub rtt: Nanos,
    /// Bytes accepted and not yet acknowledged.
    pub backlog_bytes: u64,
}

/// [`Route::until_cut`] of a stage that ends at the model's output. Hosts that number a model's cuts differently mean the
/// same by it.
pub const OUTPUT_CUT: u32 = u32::MAX;

/// One stage of a travelling plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Whose device.
    pub host: HostKey,
    /// Its index there.
    pub device: u32,
    /// The cut at which it enters.
    pub from_cut: u32,
    /// The cut at which it leaves; [`OUTPUT_CUT`] where that is the model's output.
    pub until_cut: u32,
    /// How its input travels.
    pub codec: u8,
    /// The codec's rate.
    pub rate: u8,
}

/// Rows on their way along a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Execute {
    /// The origin's number of this dispatch.
    pub dispatch: u64,
    /// Who is answered.
    pub origin: HostKey,
    /// SHA-256 of the model's file.
    pub model: [u8; 32],
    /// Hash of the origin's cut list. A host with another one takes the whole model, from input to output, and no part.
    pub cut_list: [u8; 32],
    /// What is left of the plan; the first stage is the receiver's. 1 to 8.
    pub route: Vec<Route>,
    /// Rows in it.
    pub rows: u32,
    /// Time left until the nearest deadline of its requests; none: no deadline.
    pub budget: Option<Nanos>,
    /// Higher is more urgent.
    pub priority: u8,
    /// For tools that follow a request over hosts; a trace id of zeros: none.
    pub trace: Trace,
    /// How the stages before went.
    pub reports: Vec<StageReport>,
    /// The values of the cut at which the first stage enters.
    pub tensors: Vec<Packed>,
}

/// How one stage went, in the executing host's own time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageReport {
    /// Whose device.
    pub host: HostKey,
    /// Its index there.
    pub device: u32,
    /// When its input was complete there.
    pub arrived: Nanos,
    /// When it began.
    pub began: Nanos,
    /// How long it took on the device, decoding and encoding included.
    pub elapsed: Nanos,
    /// Rows it was executed together with, its own included.
    pub batch_rows: u32,
}

/// What became of a dispatch.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Of the [`Execute`].
    pub dispatch: u64,
    /// How its stages went, as far as it came.
    pub reports: Vec<StageReport>,
    /// The model's outputs in their order, or why there are none.
    pub outcome: Result<Vec<Packed>, Denied>,
}

/// Why a dispatch has no result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    /// What kind.
    pub kind: DeniedKind,
    /// For people; at most 1,000 bytes.
    pub message: String,
}

/// What kind of denial; the origin decides anew either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeniedKind {
    /// No credit, no room, or a quota is reached: later perhaps.
    Busy,
    /// Not allowed to execute here.
    Forbidden,
    /// Model, cut list or codec are not those the sender thinks.
    Mismatch,
    /// A layer failed.
    Execution,
    /// Too large for the device.
    OutOfMemory,
    /// The device or the next host is gone.
    Lost,
    /// Its time ran out on the way.
    Expired,
}
