//! Models as bps sees them: ONNX files parsed at run time, checked, and lowered to a small graph of layers with legal cuts.
//!
//! Stands between the file and the engine. [`Graph::load`] is everything that happens to a model before a device sees
//! it; [`Graph::infer`] answers which shape each value has for given inputs, with every arithmetic step checked, so that
//! an engine whose tensor library panics on shapes never has to meet a wrong one.
//!
//! **Invariants.** No tensor library and no device: this crate tests in seconds. A file is hostile until proven
//! otherwise: whatever its bytes, the answer is a graph or a [`GraphError`] that names the place, and memory stays within
//! [`Limits`]. The same bytes give the same layers in the same order on every host that runs the same version.

#![forbid(unsafe_code)]

#[path = "builder.rs"]
pub mod build;
mod content;
mod cuts;
mod dim;
mod error;
mod external;
mod fill;
#[cfg(test)]
mod hostile;
mod identity;
mod ir;
mod limits;
mod load;
mod lower;
pub mod manifest;
mod node;
mod ops;
mod outside;
mod proto;
mod shapes;
mod tensor;
pub mod topology;
mod wire;

pub use error::GraphError;
pub use identity::Identity;
pub use ir::{AxisRange, Binary, Conv, Cut, Gemm, Graph, Layer, Lrn, Op, Pool, Source, Unary, Value, ValueId};
pub use limits::Limits;
pub use shapes::Shapes;
