//! The devices of a host and what executes models on them; the only crate that knows Burn and wgpu.
//!
//! Stands between scheduling and hardware: an [`Engine`] owns one executor thread per device, takes [`Job`]s (a batch, a
//! range of layers) and answers each exactly once; what arrives from other hosts or leaves for them is decoded and encoded
//! on the device. Models come as `bps_graph::Graph` and are interpreted layer by layer.
//!
//! **Invariants.** No Burn type appears in the API. Shapes are inferred and checked before a layer runs, because the
//! tensor library panics on wrong ones; a panic is caught all the same and fails its job only. Every read-back is checked.
//! A split execution on one device gives the same bits as a whole one: the same operations run in the same order.
//!
//! **Must never know.** Sockets, policies, queues, the wall clock's date.

#![forbid(unsafe_code)]

mod adapter;
mod arrive;
mod batch;
mod check;
mod codecs;
mod device;
pub use bps_data::digits;
mod engine;
mod error;
mod executor;
mod host;
mod job;
mod kernel;
mod model;
mod ops;
mod passage;
mod profile;
mod program;
mod request;
mod throughput;
pub mod train;

pub use adapter::{AdapterInfo, adapters};
pub use bps_codec::CodecTiming;
pub use check::KernelCheck;
pub use device::DeviceDescription;
pub use engine::Engine;
pub use error::{EngineError, JobError};
pub use job::{Job, JobInput, JobOutput, JobResult, Leave};
pub use model::{Model, PixelInput};
pub use profile::Profile;
pub use request::{DeviceRequest, ParseDeviceError, RequestedKind};
pub use throughput::KernelTiming;
