//! What other hosts add to the scheduler's world.

use super::advert::{self, Ids};
use super::roster::{Roster, Table};
use super::state::{Known, PeerState};
use super::whole;
use bps_graph::manifest::Placement;
use bps_sched::{Guest, WholeOnly, Window};
use bps_types::policy::{CodecInfo, DeviceInfo, HostInfo, TableKind};
use bps_types::{DeviceId, ModelId, Nanos};
use bps_wire::{Advert, AdvertDevice, AdvertTable, HostKey};
use std::collections::BTreeMap;

/// Devices in a world; see `wit/policy.wit`.
const DEVICES_MAX: usize = 256;

/// A model of this host, as far as others are concerned.
#[derive(Clone, Debug)]
pub(crate) struct LocalModel<'a> {
    pub(crate) id: u32,
    pub(crate) name: &'a str,
    pub(crate) digest: [u8; 32],
    pub(crate) cut_list: [u8; 32],
    /// Digest of its calibration; zeros where it has none.
    pub(crate) calibration: [u8; 32],
    pub(crate) cut_count: u32,
    pub(crate) batch_max: u32,
    pub(crate) placement: &'a Placement,
}

/// Others' share of a world.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Neighbours {
    pub(crate) hosts: Vec<HostInfo>,
    pub(crate) devices: Vec<DeviceInfo>,
    pub(crate) windows: Vec<Window>,
    pub(crate) guests: Vec<Guest>,
    /// Others' devices on which a model may run, by the model's id.
    pub(crate) devices_of: BTreeMap<u32, Vec<u32>>,
    /// Those on which it runs whole or not at all.
    pub(crate) whole_only: Vec<WholeOnly>,
    /// Cost tables that the scheduler does not have yet.
    pub(crate) tables: Vec<bps_types::policy::Table>,
}

impl Roster {
    /// What the others add to a world of `epoch` that has these models, beside `own_devices` devices. Remembers which
    /// hosts and tables it has told.
    pub(crate) fn neighbours(
        &self,
        models: &[LocalModel<'_>],
        own_devices: usize,
        epoch: u32,
        now: Nanos,
    ) -> Neighbours {
        let mut table = self.lock();
        let mut told = Neighbours::default();
        let members = table.members(now);
        let keys: Vec<HostKey> = table.peers.keys().copied().collect();
        for key in keys {
            let Some(state) = table.peers.get_mut(&key) else { continue };
            state.in_world = members.contains(&key);
            state.shares.clear();
            state.tables_known.retain(|known| models.iter().any(|model| model.id == known.model));
            if !state.in_world {
                state.tables_known.clear();
                continue;
            }
            told.hosts.push(HostInfo { id: state.id.0, name: state.name.clone(), is_self: false });
            if state.rights.execute && state.is_up() {
                let (host, quotas) = (state.id, state.quotas);
                told.guests.push(Guest { host, window: quotas.window, bytes_max: quotas.bytes_max });
            }
            let devices_left = DEVICES_MAX.saturating_sub(own_devices + told.devices.len());
            offer(&mut table, &key, models, epoch, devices_left, &mut told);
        }
        told
    }

    /// Of these codecs, those that every host in the world can undo: a policy names a codec, not a host and a codec.
    pub(crate) fn common(&self, codecs: &[CodecInfo]) -> Vec<CodecInfo> {
        let table = self.lock();
        let adverts: Vec<&Advert> =
            table.peers.values().filter(|p| p.in_world).filter_map(|p| p.advert.as_deref()).collect();
        let spoken = |codec: &&CodecInfo| {
            let by = |advert: &&Advert| advert.codecs.iter().any(|c| c.id == codec.id && c.name == codec.name);
            codec.id == 0 || adverts.iter().all(by)
        };
        codecs.iter().filter(spoken).cloned().collect()
    }
}

impl Roster {
    /// Of each of these models, whether every host in the world that has it has the same calibration.
    pub(crate) fn shared_calibrations(&self, models: &[LocalModel<'_>]) -> Vec<bool> {
        let table = self.lock();
        let adverts: Vec<&Advert> =
            table.peers.values().filter(|p| p.in_world).filter_map(|p| p.advert.as_deref()).collect();
        let shared = |own: &LocalModel<'_>| {
            let theirs = || adverts.iter().flat_map(|a| &a.models).filter(|m| m.digest == own.digest);
            own.calibration != [0; 32] && theirs().all(|m| m.calibration == own.calibration)
        };
        models.iter().map(shared).collect()
    }
}

/// Adds one host's devices, and the models that may run on them.
fn offer(
    table: &mut Table,
    key: &HostKey,
    models: &[LocalModel<'_>],
    epoch: u32,
    devices_left: usize,
    told: &mut Neighbours,
) {
    let Some(advert) = table.peers.get(key).and_then(|p| p.advert.clone()) else { return };
    let known: Vec<(&AdvertDevice, u32)> =
        advert.devices.iter().take(devices_left).filter_map(|d| Some((d, table.device_of(key, d.index)?.0))).collect();
    let Some(state) = table.peers.get_mut(key) else { return };
    for (device, id) in &known {
        told.devices.push(DeviceInfo {
            id: *id,
            host: state.id.0,
            name: device.name.clone(),
            kind: device.kind,
            memory_bytes: device.memory_bytes,
        });
        told.windows.push(Window { device: DeviceId(*id), dispatches: advert.window });
    }
    if advert.window == 0 {
        return;
    }
    for model in models.iter().filter(|m| !m.placement.local_only) {
        let Some(theirs) = advert.models.iter().find(|t| t.digest == model.digest) else { continue };
        if theirs.batch_max < model.batch_max {
            complain(
                state,
                model,
                "its batch_max is lower there, by its model.toml or for want of memory, so none of it is sent there",
            );
            continue;
        }
        let same_cuts = theirs.cut_list == model.cut_list;
        if !same_cuts {
            complain(state, model, "cut lists differ: splits are refused, whole models are sent");
        }
        let runs_there = |(device, _): &&(&AdvertDevice, u32)| {
            let permitted = model.placement.permits(&format!("{}/{}", state.name, device.name), device.kind);
            permitted && theirs.devices.contains(&device.index)
        };
        let usable: Vec<(u32, u32)> = known.iter().filter(runs_there).map(|(d, id)| (d.index, *id)).collect();
        let told_before = told.devices_of.get(&model.id).map_or(0, Vec::len);
        for (index, device) in usable {
            let ids = Ids { epoch, model: model.id, device };
            let own: Vec<&AdvertTable> = theirs.tables.iter().filter(|t| t.device == index).collect();
            let tables: Vec<_> = match same_cuts {
                true => own.iter().filter_map(|t| advert::translate(t, model.cut_count, ids)).collect(),
                false => whole::tables(&own, model.cut_count, ids),
            };
            // Without stage times it would look as if it took no time at all.
            if tables.iter().any(|t| t.kind == TableKind::StageNanos) {
                told.devices_of.entry(model.id).or_default().push(device);
                let fresh = tables.into_iter().filter(|t| state.tables_known.insert(Known::of(t, model, index)));
                told.tables.extend(fresh);
                let whole_only = WholeOnly { model: ModelId(model.id), device: DeviceId(device) };
                told.whole_only.extend((!same_cuts).then_some(whole_only));
            }
        }
        if told.devices_of.get(&model.id).map_or(0, Vec::len) > told_before {
            state.shares.push(model.name.to_owned());
        }
    }
}

fn complain(state: &mut PeerState, model: &LocalModel<'_>, reason: &str) {
    if state.complained.insert(model.digest) {
        tracing::warn!(peer = state.name, model = model.name, reason, "a peer's model is not the same");
    }
}

#[cfg(test)]
mod tests;
