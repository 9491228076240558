//! From bytes to a graph: read within limits, decoded, lowered, named by its digest.

use crate::error::GraphError;
use crate::external::External;
use crate::ir::{Graph, Source};
use crate::limits::Limits;
use crate::lower::lower;
use crate::proto::ModelProto;
use crate::wire;
use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::Path;

impl Graph {
    /// Reads a model file. Its external data may be anywhere in the file's folder, nowhere else.
    pub fn load(path: &Path, limits: &Limits) -> Result<Self, GraphError> {
        let (bytes, mut external) = open(path, limits)?;
        let mut graph = lower(&decode(bytes, limits)?, limits, Some(&mut external))?;
        (graph.digest, graph.external) = external.finish();
        graph.find_cuts()?;
        Ok(graph)
    }

    /// Reads a model from memory; one with external data is refused.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, GraphError> {
        if bytes.len() as u64 > limits.file_bytes {
            return Err(too_large("the model", bytes.len() as u64, limits.file_bytes));
        }
        let mut graph = lower(&decode(Bytes::copy_from_slice(bytes), limits)?, limits, None)?;
        graph.digest = Sha256::digest(bytes).into();
        graph.find_cuts()?;
        Ok(graph)
    }

    /// The digest as people and protocols write it.
    pub fn digest_hex(&self) -> String {
        bps_types::hex(&self.digest)
    }

    /// Elements of all weights.
    pub fn parameter_count(&self) -> u64 {
        let count = |source: &Source| match source {
            Source::Constant(tensor) => tensor.data().len() as u64 / 4,
            Source::Input(_) | Source::Layer(_) => 0,
        };
        self.values.iter().map(|v| count(&v.source)).sum()
    }
}

/// A model's file, and what reads those beside it.
pub(crate) fn open(path: &Path, limits: &Limits) -> Result<(Bytes, External), GraphError> {
    let bytes = read(path, limits.file_bytes)?;
    let hasher = Sha256::new_with_prefix(&bytes);
    let left = limits.file_bytes.saturating_sub(bytes.len() as u64);
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((bytes, External::new(folder, left, hasher)?))
}

/// Decodes once the bytes have been found to need bounded memory. Weights share the bytes.
pub(crate) fn decode(bytes: Bytes, limits: &Limits) -> Result<ModelProto, GraphError> {
    wire::check(&bytes, limits.message_bytes)?;
    Ok(ModelProto::decode(bytes)?)
}

fn too_large(what: &str, got: u64, limit: u64) -> GraphError {
    GraphError::Limit { what: format!("{what} (bytes)"), got, limit }
}

/// The size is checked before and while reading: the file may grow meanwhile.
fn read(path: &Path, limit: u64) -> Result<Bytes, GraphError> {
    let fail = |source| GraphError::Read { path: path.to_owned(), source };
    let metadata = std::fs::metadata(path).map_err(fail)?;
    if !metadata.is_file() {
        return Err(fail(std::io::Error::other("is not a plain file")));
    }
    let name = path.display().to_string();
    if metadata.len() > limit {
        return Err(too_large(&name, metadata.len(), limit));
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(fail)?.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > limit { Err(too_large(&name, bytes.len() as u64, limit)) } else { Ok(bytes.into()) }
}
