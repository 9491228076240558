//! The node: a host of models and the policy that schedules them, assembled from graph, engine, scheduler and plug-ins.
//!
//! Stands between an API (HTTP, a command line, a test), which holds a [`Host`] and awaits [`Host::infer`], and the
//! crates that do the work. `pipeline.rs` tells the life of a request in one function; read it first. Then
//! `dispatcher.rs`, the one thread that owns the scheduler, and `policies.rs`, how a policy comes to decide.
//!
//! **Invariants.**
//! - Custody: a request's input stays here until the scheduler answers or refuses it, and each is completed exactly once.
//! - The dispatcher thread never blocks on anything but its own channel: no lock held across a call, no disk, no compile.
//! - Everything read from outside (models, policies, profiles, images, tensors) is bounded and can be hostile; a bad one
//!   is an error that names the place.
//! - Whatever fails about a policy, the one that decided before still does.
//!
//! Knows no socket and no HTTP.

#![forbid(unsafe_code)]

mod admission;
mod clock;
mod codecs;
mod config;
mod dispatcher;
mod error;
mod host;
mod metrics;
mod models;
mod peers;
mod pipeline;
mod policies;
mod record;
mod remote;
mod repository;
mod serve_error;
mod state_dir;
mod stats;
mod view;

pub use bps_sched::{Ledger, PolicyLabel, Receipt, ReceiptStage, Verdict};
pub use config::{
    BuiltinModel, FileConfig, FileLimits, FilePeers, FilePolicy, HostConfig, ModelControl, PeersConfig, PolicyChoice,
    ProfileChoice,
};
pub use error::HostError;
pub use host::Host;
pub use serve_error::ServeError;
pub use view::{
    BatchStats, DecideTimes, DeviceView, DrainReport, DurationStat, ImageInputView, IndexEntry, InferCall, InferReply,
    InferenceStats, ModelState, ModelStats, ModelView, NamedTensor, OwnPeerView, PeerDeviceView, PeerGrants,
    PeerModelView, PeerRights, PeerView, PolicyEntry, PolicyEntryState, PolicyName, PolicyRejected, PolicyStatusView,
    SharedModel, SwapError, SwapReport, SwapRequest, Timings,
};
