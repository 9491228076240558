//! What the scheduler knows of the world beyond what it tells policies.

use bps_types::policy::{ModelInfo, WorldInfo};
use bps_types::{DeviceId, HostId, ModelId};

/// Hosts, devices, models and codecs, with the bounds of each model's queue.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    /// What policies are told, word for word.
    pub info: WorldInfo,
    /// Bounds that differ from [`crate::Config`]'s.
    pub queue_limits: Vec<QueueLimit>,
    /// What other hosts' devices take from this host. A remote device that is not named takes nothing.
    pub windows: Vec<Window>,
    /// Who may send stages here. Whoever is not named may not.
    pub guests: Vec<Guest>,
    /// Where models are not split.
    pub whole_only: Vec<WholeOnly>,
}

impl World {
    /// The host this scheduler runs on; none in an empty world.
    pub fn own_host(&self) -> Option<HostId> {
        self.info.hosts.iter().find(|h| h.is_self).map(|h| HostId(h.id))
    }

    /// Whose a device is.
    pub fn host_of(&self, device: DeviceId) -> Option<HostId> {
        self.info.devices.iter().find(|d| d.id == device.0).map(|d| HostId(d.host))
    }

    /// A model by its id.
    pub fn model(&self, id: ModelId) -> Option<&ModelInfo> {
        self.info.models.iter().find(|m| m.id == id.0)
    }
}

/// Dispatches that another host's device takes from this host at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The device.
    pub device: DeviceId,
    /// How many.
    pub dispatches: u32,
}

/// A device of another host that takes a model from input to output or not at all: the hosts number its cuts differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WholeOnly {
    /// The model.
    pub model: ModelId,
    /// The device.
    pub device: DeviceId,
}

/// What a host that sends stages here may have here at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Which.
    pub host: HostId,
    /// Dispatches on each device, waiting and running; counted in rows, as full ones, so that the pieces of one are no more
    /// than it.
    pub window: u32,
    /// Bytes of its activations.
    pub bytes_max: u64,
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
