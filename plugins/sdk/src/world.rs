//! The topology as a policy keeps it, with the cost tables that belong to it.

use crate::{CodecInfo, Costs, DeviceInfo, ModelInfo, Table, WorldInfo};

/// The world and its tables. Feed it from `world_changed` and `table_changed`.
#[derive(Clone, Debug)]
pub struct World {
    info: WorldInfo,
    costs: Costs,
    /// For each model of `info.models`: the devices it may run on, of this machine and of others.
    placements: Vec<Placement>,
    here: Option<u32>,
}

#[derive(Clone, Debug)]
struct Placement {
    local: Vec<u32>,
    remote: Vec<u32>,
}

impl Default for World {
    fn default() -> Self {
        let info = WorldInfo { epoch: 0, hosts: vec![], devices: vec![], models: vec![], codecs: vec![] };
        Self { info, costs: Costs::default(), placements: vec![], here: None }
    }
}

impl World {
    /// Takes a new topology; keeps the tables of models and devices that are still there.
    pub fn replace(&mut self, info: WorldInfo) {
        self.costs.retain(|model, device| {
            info.models.iter().any(|known| known.id == model)
                && (device == 0 || info.devices.iter().any(|known| known.id == device))
        });
        self.here = info.hosts.iter().find(|host| host.is_self).map(|host| host.id);
        let host = |id: &u32| info.devices.iter().find(|device| device.id == *id).map(|device| device.host);
        let place = |model: &ModelInfo| {
            let known = model.devices.iter().copied().filter(|id| host(id).is_some());
            let (local, remote) = known.partition(|id| host(id) == self.here);
            Placement { local, remote }
        };
        self.placements = info.models.iter().map(place).collect();
        self.info = info;
    }

    /// Takes a table.
    pub fn insert(&mut self, table: Table) {
        self.costs.insert(table);
    }

    /// The tables.
    pub fn costs(&self) -> &Costs {
        &self.costs
    }

    /// Everything the host said last.
    pub fn info(&self) -> &WorldInfo {
        &self.info
    }

    /// The model `id`.
    pub fn model(&self, id: u32) -> Option<&ModelInfo> {
        self.info.models.iter().find(|model| model.id == id)
    }

    /// The device `id`.
    pub fn device(&self, id: u32) -> Option<&DeviceInfo> {
        self.info.devices.iter().find(|device| device.id == id)
    }

    /// The devices of this machine that the model may run on, as its owner allows.
    pub fn local_devices(&self, model: u32) -> &[u32] {
        self.placement(model).map_or(&[], |placement| &placement.local)
    }

    /// The devices of other machines that have the model and let this one use it.
    pub fn remote_devices(&self, model: u32) -> &[u32] {
        self.placement(model).map_or(&[], |placement| &placement.remote)
    }

    fn placement(&self, model: u32) -> Option<&Placement> {
        let at = self.info.models.iter().position(|known| known.id == model)?;
        self.placements.get(at)
    }

    /// The host this policy runs on.
    pub fn here(&self) -> Option<u32> {
        self.here
    }

    /// The host that drives a device.
    pub fn host_of(&self, device: u32) -> Option<u32> {
        self.device(device).map(|device| device.host)
    }

    /// The ways for a tensor to travel.
    pub fn codecs(&self) -> &[CodecInfo] {
        &self.info.codecs
    }
}

impl ModelInfo {
    /// The cut after which a model is done: `until-cut` of a last stage.
    pub fn last_cut(&self) -> u32 {
        self.cut_count.saturating_sub(1)
    }

    /// The `micro-batch` that keeps each piece of `rows` rows within the model's `batch-max`; 0 (one piece) where all fit.
    pub fn piece_rows(&self, rows: u32) -> u32 {
        if rows > self.batch_max { self.batch_max } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{stage_table, world};

    #[test]
    fn only_devices_of_this_machine_are_local() {
        let mut known = World::default();
        let mut info = world(&[(1, "m")], 2);
        info.devices[1].host = 77;
        known.replace(info);
        assert_eq!((known.local_devices(1), known.remote_devices(1)), (&[1][..], &[2][..]));
        assert_eq!((known.here(), known.host_of(2)), (Some(0), Some(77)));
        assert!(known.local_devices(9).is_empty());
    }

    #[test]
    fn tables_live_as_long_as_what_they_are_about() {
        let mut known = World::default();
        known.replace(world(&[(1, "m")], 2));
        known.insert(stage_table(1, 2, &[4.0, 5.0]));
        known.replace(world(&[(1, "m")], 2));
        assert_eq!(known.costs().stage_nanos(1, 2, 1, 0, 1), Some(4));
        known.replace(world(&[(1, "m")], 1));
        assert_eq!(known.costs().stage_nanos(1, 2, 1, 0, 1), None);
    }
}
