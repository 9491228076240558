//! What a model file may ask of the machine before it is refused.

/// Bounds on a model file. The defaults let every common CNN pass and keep a hostile file from exhausting memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the file and of its external data, together.
    pub file_bytes: u64,
    /// Memory that the decoded messages may take, tensor contents aside. A file of tiny messages takes a hundred times
    /// its size once decoded.
    pub message_bytes: u64,
    /// Nodes of the graph.
    pub layer_count: usize,
    /// Bytes of one tensor.
    pub tensor_bytes: u64,
    /// Bytes of all tensors that are computed while loading (constants folded from others).
    pub folded_bytes: u64,
    /// Dimensions of one tensor.
    pub rank: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes: 2 << 30,
            message_bytes: 1 << 30,
            layer_count: 100_000,
            tensor_bytes: 1 << 30,
            folded_bytes: 1 << 30,
            rank: 8,
        }
    }
}
