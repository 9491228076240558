//! A tensor as it travels between hosts: bytes that a codec made, and what is needed to undo it.

use crate::DataType;
use bytes::Bytes;

/// An encoded tensor. Nothing about it is trusted before it has been decoded: shape and bytes come from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Which codec made the bytes; 0 is raw.
    pub codec: u8,
    /// At which of the codec's rates; 0 where it has none.
    pub rate: u8,
    /// Element type of the decoded tensor.
    pub data_type: DataType,
    /// Extents of the decoded tensor, outermost (rows) first.
    pub shape: Vec<usize>,
    /// What the codec made.
    pub data: Bytes,
}

impl Packed {
    /// Rows of the decoded tensor; 1 for a scalar.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }
}
