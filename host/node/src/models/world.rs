//! The world that the scheduler knows: who is in it, and telling it.

use super::{InFlight, Loader, Models, ServedModel};
use crate::clock;
use crate::codecs;
use crate::dispatcher::Message;
use crate::peers::{LocalModel, Neighbours, OWN_HOST};
use bps_sched::{QueueLimit, World};
use bps_types::policy::{CodecInfo, DeviceInfo, HostInfo, ModelInfo, Table, WorldInfo};
use std::collections::HashMap;
use std::sync::Arc;

/// Models in the world at once, as `wit/policy.wit` bounds them.
pub(super) const MODELS_MAX: usize = 256;

/// Which models are in the world that the scheduler knows.
#[derive(Default)]
pub(super) struct Population {
    epoch: u32,
    /// As the dispatcher was told it last.
    told: World,
    /// Grows with each model that comes or goes.
    changes: u64,
    models: Vec<Arc<ServedModel>>,
}

impl Population {
    fn changed(&mut self) {
        self.changes += 1;
    }
}

impl Models {
    /// False when the world has no room.
    pub(super) fn join_world(&self, fresh: &[Arc<ServedModel>]) -> bool {
        {
            let mut world = self.world.lock();
            if world.models.len() + fresh.len() > MODELS_MAX {
                return false;
            }
            world.models.extend(fresh.iter().cloned());
            world.changed();
            self.index_digests(&world.models);
        }
        let epoch = self.tell_world();
        for model in fresh {
            for table in model.tables(epoch) {
                self.dispatcher.send(Message::Table(table));
            }
        }
        true
    }

    /// Waits until nothing refers to these models, for as long as a drain may take, then takes them out of the world.
    pub(super) async fn retire(&self, old: Vec<Arc<ServedModel>>) {
        if old.is_empty() {
            return;
        }
        let drained = async {
            for model in &old {
                model.drained().await;
            }
        };
        if tokio::time::timeout(self.drain_timeout, drained).await.is_err() {
            let left: usize = old.iter().map(|m| m.in_flight_count()).sum();
            tracing::warn!(model = old[0].name, left, "requests were still there when the time to drain was up");
        }
        {
            let mut world = self.world.lock();
            world.models.retain(|m| !old.iter().any(|o| o.id == m.id));
            world.changed();
            self.index_digests(&world.models);
        }
        self.tell_world();
    }

    /// What other hosts ask for, by digest. Own models come before fetched ones, and of those the last.
    fn index_digests(&self, models: &[Arc<ServedModel>]) {
        let mut index: HashMap<[u8; 32], Arc<ServedModel>> = HashMap::new();
        for model in models.iter().filter(|m| !m.fetched).chain(models.iter().rev().filter(|m| m.fetched)) {
            index.entry(model.graph.digest).or_insert_with(|| model.clone());
        }
        *self.digests.write() = index;
    }

    /// The model of a file, however its cuts are numbered; entered, as by [`Models::enter`].
    pub(crate) fn enter_by_digest(&self, digest: &[u8; 32]) -> Option<InFlight> {
        self.digests.read().get(digest).map(InFlight::enter)
    }

    /// The model of a file, however its cuts are numbered.
    pub(crate) fn of_digest(&self, digest: &[u8; 32]) -> Option<Arc<ServedModel>> {
        self.digests.read().get(digest).cloned()
    }

    /// Every model in the world, and a number that grows with each one that comes or goes.
    pub(crate) fn present(&self) -> (u64, Vec<Arc<ServedModel>>) {
        let world = self.world.lock();
        (world.changes, world.models.clone())
    }

    /// What loads models.
    pub(crate) fn loader(&self) -> &Arc<Loader> {
        &self.loader
    }

    /// Serves a fetched model to other hosts' stages, in place of the one of its digest that was fetched before; false when
    /// the world has no room.
    pub(crate) async fn admit_fetched(&self, model: Arc<ServedModel>) -> bool {
        let before = self.of_digest(&model.graph.digest).filter(|before| before.fetched);
        let joined = self.join_world(&[model]);
        if joined {
            self.retire(before.into_iter().collect()).await;
        }
        joined
    }

    /// Lets go of a fetched model, once what it has to do is done or has had its time.
    pub(crate) async fn dismiss_fetched(&self, digest: &[u8; 32]) {
        let gone = {
            let mut digests = self.digests.write();
            if digests.get(digest).is_some_and(|m| m.fetched) { digests.remove(digest) } else { None }
        };
        self.retire(gone.into_iter().collect()).await;
    }

    /// Tells the dispatcher who is here now, other hosts included, and what they say anew of costs; returns the epoch.
    pub(crate) fn tell_world(&self) -> u32 {
        let mut population = self.world.lock();
        let Population { epoch, told, models, .. } = &mut *population;
        let own_devices = self.loader.devices();
        let local: Vec<LocalModel<'_>> = models.iter().map(|m| m.for_neighbours()).collect();
        let mut others = Neighbours::default();
        let mut codecs: Vec<CodecInfo> = codecs::all().iter().take(1).cloned().collect(); // raw
        let mut own_name = "local".to_owned();
        let mut shared = vec![false; models.len()];
        if let Some(circle) = &self.circle {
            others = circle.roster.neighbours(&local, own_devices.len(), *epoch + 1, clock::now());
            codecs = circle.roster.common(codecs::all());
            shared = circle.roster.shared_calibrations(&local);
            own_name.clone_from(&circle.name);
        }
        let own_device = |device: &bps_engine::DeviceDescription| DeviceInfo {
            id: device.index as u32,
            host: OWN_HOST.0,
            name: device.name.clone(),
            kind: device.kind,
            memory_bytes: device.memory_bytes,
        };
        let info_of = |model: &Arc<ServedModel>| {
            let mut info: ModelInfo = model.info();
            info.devices.extend(others.devices_of.get(&info.id).into_iter().flatten());
            info
        };
        let limit = |m: &Arc<ServedModel>| QueueLimit {
            model: m.id.0,
            requests_max: m.manifest.queue_max.unwrap_or(self.queue_bounds.0),
            bytes_max: self.queue_bounds.1,
        };
        let own_host = HostInfo { id: OWN_HOST.0, name: own_name, is_self: true };
        let mut world = World {
            queue_limits: models.iter().map(limit).collect(),
            info: WorldInfo {
                epoch: *epoch,
                models: models.iter().map(info_of).collect(),
                hosts: std::iter::once(own_host).chain(others.hosts).collect(),
                devices: own_devices.iter().map(own_device).chain(others.devices).collect(),
                codecs,
            },
            windows: others.windows,
            guests: others.guests,
            whole_only: others.whole_only,
        };
        // Policies plan anew for a new world: where only costs are others, the tables say so.
        if world != *told {
            *epoch += 1;
            world.info.epoch = *epoch;
            told.clone_from(&world);
            // Sent under the lock, so that worlds arrive in the order of their epochs.
            self.dispatcher.send(Message::World(world));
        }
        for table in others.tables {
            self.dispatcher.send(Message::Table(Table { epoch: *epoch, ..table }));
        }
        for (model, shared) in models.iter().zip(shared) {
            if model.share_calibration(shared) {
                for table in model.tables(*epoch) {
                    self.dispatcher.send(Message::Table(table));
                }
            }
        }
        *epoch
    }
}
