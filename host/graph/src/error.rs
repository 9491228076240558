//! What can be wrong with a model, always with the place.

use std::path::PathBuf;

/// Why a model cannot be used, or not with these shapes.
#[derive(Debug, thiserror::Error)]
pub enum GraphError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The bytes are not an ONNX model.
    #[error("not an ONNX model: {0}")]
    Decode(#[from] prost::DecodeError),
    /// Something is larger than [`Limits`](crate::Limits) allow.
    #[error("{what} is {got}, the limit is {limit}")]
    Limit {
        /// What is too large.
        what: String,
        /// How large.
        got: u64,
        /// How large it may be.
        limit: u64,
    },
    /// The model as a whole is unusable.
    #[error("{0}")]
    Model(String),
    /// An input or output is declared in a way that cannot be served.
    #[error("{direction} `{name}`: {message}")]
    Port {
        /// `input` or `output`.
        direction: &'static str,
        /// Its name.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// A stored tensor is malformed.
    #[error("tensor `{tensor}`: {message}")]
    Tensor {
        /// Its name.
        tensor: String,
        /// What is wrong.
        message: String,
    },
    /// An operator that this crate does not know.
    #[error("operator `{op}` of node `{node}` (#{index}) is not supported")]
    Unsupported {
        /// The operator, with its domain where that is not ONNX's own.
        op: String,
        /// The node's name.
        node: String,
        /// Its place in the file.
        index: usize,
    },
    /// A node is malformed.
    #[error("node `{node}` (#{index}, {op}): {message}")]
    Node {
        /// The node's name.
        node: String,
        /// Its place in the file.
        index: usize,
        /// Its operator.
        op: String,
        /// What is wrong.
        message: String,
    },
    /// An attribute of a node is missing or malformed.
    #[error("node `{node}` (#{index}, {op}): attribute `{attribute}` {message}")]
    Attribute {
        /// The node's name.
        node: String,
        /// Its place in the file.
        index: usize,
        /// Its operator.
        op: String,
        /// The attribute.
        attribute: String,
        /// What is wrong.
        message: String,
    },
    /// The shapes that reach a layer do not fit it.
    #[error("layer `{layer}` (#{index}): {message}")]
    Shape {
        /// The layer's name.
        layer: String,
        /// Its index.
        index: usize,
        /// What does not fit.
        message: String,
    },
    /// `model.toml` is malformed.
    #[error("{}:{line}: {message}", file.display())]
    Manifest {
        /// The file.
        file: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
}
