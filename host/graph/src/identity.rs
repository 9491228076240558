//! What names a model: its digest, and the files that it covers, without making a graph of them.

use crate::error::GraphError;
use crate::limits::Limits;
use crate::load::{decode, open};
use crate::tensor::content;
use std::path::Path;

/// What a model's files say of who it is. Made by [`Identity::of`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// As [`Graph::digest`](crate::Graph::digest).
    pub digest: [u8; 32],
    /// As [`Graph::external`](crate::Graph::external).
    pub external: Vec<String>,
}

impl Identity {
    /// Reads a model file and what it keeps beside it, one tensor at a time: for files that have just come from somewhere.
    ///
    /// # Errors
    /// Where a file cannot be read, is no ONNX, or a stored tensor is malformed. Whether the model can be served is for
    /// [`Graph::load`](crate::Graph::load) to say, which then finds the same identity.
    pub fn of(path: &Path, limits: &Limits) -> Result<Self, GraphError> {
        let (bytes, mut external) = open(path, limits)?;
        let model = decode(bytes, limits)?;
        for tensor in model.graph.iter().flat_map(|graph| &graph.initializer) {
            content(tensor, limits, Some(&mut external))?;
        }
        let (digest, external) = external.finish();
        Ok(Self { digest, external })
    }
}
