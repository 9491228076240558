//! What the scheduler knows of the world beyond what it tells policies.

use bps_types::policy::WorldInfo;

/// Hosts, devices, models and codecs, with the bounds of each model's queue.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    /// What policies are told, word for word.
    pub info: WorldInfo,
    /// Bounds that differ from [`crate::Config`]'s.
    pub queue_limits: Vec<QueueLimit>,
}

/// Bounds of one model's queues together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimit {
    /// Model id.
    pub model: u32,
    /// Requests that may wait.
    pub requests_max: u32,
    /// Bytes that may wait.
    pub bytes_max: u64,
}
