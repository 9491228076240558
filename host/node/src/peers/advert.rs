//! Adverts: what this host says it has, and whether what another one says can be kept.

use super::corrected::Corrected;
use crate::codecs;
use crate::models::ServedModel;
use bps_engine::DeviceDescription;
use bps_transport::Rights;
use bps_types::policy::{TABLE_BATCHES, Table, TableKind, bound};
use bps_wire::{Advert, AdvertCodec, AdvertDevice, AdvertModel, AdvertTable, HostKey};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Devices of one host; their numbers are below it too, so that a peer cannot use up ids.
pub(super) const DEVICES_MAX: usize = 64;
/// Models of one host.
const MODELS_MAX: usize = 256;
/// Codecs of one host.
const CODECS_MAX: usize = 32;
/// Hosts that one host is linked to.
pub(super) const PEERS_MAX: usize = 64;
/// Values of all its tables together: 4 MiB of them.
const TABLE_VALUES_MAX: usize = 1 << 20;
/// Dispatches at once per device; a larger number means as many.
const WINDOW_MAX: u32 = 1_024;
/// Characters of a name.
const NAME_CHARS_MAX: usize = 128;
/// No stage takes longer, nanoseconds: a week.
const NANOS_MAX: f32 = 6.1e14;

/// What this host has, for one of the others.
pub(super) struct Own<'a> {
    pub(super) devices: &'a [DeviceDescription],
    pub(super) models: &'a [Arc<ServedModel>],
    /// Hosts it can pass stages on to.
    pub(super) peers: Vec<HostKey>,
    /// Dispatches it takes, where it takes any.
    pub(super) window: u32,
    /// What executions have taught.
    pub(super) corrected: &'a Corrected,
}

impl Own<'_> {
    /// The advert for a host with these rights: one that may not execute hears of no devices, one that may not fetch of no
    /// exportable model.
    pub(super) fn advert(&self, epoch: u32, rights: Rights) -> Advert {
        let device = |d: &DeviceDescription| AdvertDevice {
            index: d.index as u32,
            name: d.name.clone(),
            kind: d.kind,
            memory_bytes: d.memory_bytes,
        };
        let mut room = TABLE_VALUES_MAX;
        let models = self.models.iter().take(MODELS_MAX).map(|model| self.model(model, rights, &mut room));
        let devices = self.devices.iter().take(DEVICES_MAX).filter(|_| rights.execute);
        Advert {
            epoch,
            devices: devices.map(device).collect(),
            models: models.collect(),
            codecs: codecs::all().iter().map(|c| AdvertCodec { id: c.id, name: c.name.clone() }).collect(),
            peers: self.peers.iter().take(PEERS_MAX).copied().collect(),
            window: if rights.execute { self.window.min(WINDOW_MAX) } else { 0 },
        }
    }

    fn model(&self, model: &ServedModel, rights: Rights, room: &mut usize) -> AdvertModel {
        let executable = rights.execute && !model.manifest.placement.local_only;
        let mut tables: Vec<AdvertTable> = Vec::new();
        // Stage times come first in the list, so that they are what fits where room is short.
        for table in model.tables(0).into_iter().filter(|t| executable && of_device(t.kind)) {
            match room.checked_sub(table.values.len()) {
                Some(left) => *room = left,
                None => continue,
            }
            let table = self.corrected.latest(table);
            tables.push(AdvertTable {
                device: table.device,
                codec: table.codec,
                kind: table.kind,
                measured: table.measured,
                shape: table.shape,
                values: table.values,
            });
        }
        let devices = model.devices.iter().map(|(index, _)| *index);
        let export = model.export.as_ref().filter(|_| rights.fetch_models);
        AdvertModel {
            digest: model.graph.digest,
            cut_list: model.cut_list,
            calibration: model.calibration_digest(),
            name: model.name.clone(),
            exportable: export.is_some(),
            file_bytes: export.map_or(0, |e| e.file_bytes),
            batch_max: model.batch_max,
            devices: devices.filter(|i| executable && (*i as usize) < DEVICES_MAX).collect(),
            tables,
        }
    }
}

/// Whether a table of this kind is about one device, and so is for its host to tell.
fn of_device(kind: TableKind) -> bool {
    matches!(kind, TableKind::StageNanos | TableKind::EncodeNanos | TableKind::DecodeNanos)
}

/// Checks what another host says, and makes names fit to be shown. An error is for people.
pub(super) fn check(advert: &mut Advert) -> Result<(), String> {
    let at_most = |what: &str, got: usize, max: usize| {
        if got > max { Err(format!("{got} {what}, at most {max} are taken")) } else { Ok(()) }
    };
    at_most("devices", advert.devices.len(), DEVICES_MAX)?;
    at_most("models", advert.models.len(), MODELS_MAX)?;
    at_most("codecs", advert.codecs.len(), CODECS_MAX)?;
    at_most("hosts", advert.peers.len(), PEERS_MAX)?;
    advert.window = advert.window.min(WINDOW_MAX);
    let mut indices = BTreeSet::new();
    for device in &mut advert.devices {
        if device.index as usize >= DEVICES_MAX || !indices.insert(device.index) {
            return Err(format!("device number {} is too large or there twice", device.index));
        }
        printable(&mut device.name);
    }
    let mut digests = BTreeSet::new();
    advert.models.retain(|m| digests.insert(m.digest)); // two versions of one file are one model to others
    let mut values = 0usize;
    for model in &mut advert.models {
        printable(&mut model.name);
        if model.devices.len() > DEVICES_MAX || !model.devices.iter().all(|d| indices.contains(d)) {
            return Err(format!("model {} runs on devices that are not there", model.name));
        }
        at_most("tables of a model", model.tables.len(), DEVICES_MAX * (1 + 2 * CODECS_MAX))?;
        values = model.tables.iter().fold(values, |sum, t| sum.saturating_add(t.values.len()));
    }
    at_most("values in tables", values, TABLE_VALUES_MAX)
}

/// Control characters are no part of a name, nor is what follows the first [`NAME_CHARS_MAX`].
fn printable(name: &mut String) {
    if name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
        *name = name.chars().take(NAME_CHARS_MAX).map(|c| if c.is_control() { '?' } else { c }).collect();
    }
}

/// A table of another host's device under the ids of this host's world; none for one that does not fit the model.
pub(super) fn translate(said: &AdvertTable, cut_count: u32, ids: Ids) -> Option<Table> {
    let rates = match said.kind {
        TableKind::StageNanos => None,
        TableKind::EncodeNanos | TableKind::DecodeNanos => {
            let codec = codecs::all().iter().find(|c| c.id == said.codec)?;
            Some(codec.rates.len().max(1) as u32)
        }
        TableKind::CutBytes | TableKind::CodecBits | TableKind::CodecLossPpm => return None,
    };
    let shape = match rates {
        None => vec![TABLE_BATCHES.len() as u32, cut_count],
        Some(rates) => vec![cut_count, rates],
    };
    is_sound(said, &shape).then(|| Table {
        epoch: ids.epoch,
        model: ids.model,
        device: ids.device,
        codec: if rates.is_some() { said.codec } else { 0 },
        kind: said.kind,
        measured: said.measured,
        shape,
        values: said.values.clone(),
    })
}

/// Whether a table has this shape, and times that can be.
pub(super) fn is_sound(said: &AdvertTable, shape: &[u32]) -> bool {
    let length = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d as usize));
    let fits = said.shape == shape && length == Some(said.values.len()) && said.values.len() * 4 <= bound::TABLE_BYTES;
    fits && said.values.iter().all(|v| (0.0..=NANOS_MAX).contains(v))
}

/// Under which ids a table is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ids {
    pub(super) epoch: u32,
    pub(super) model: u32,
    pub(super) device: u32,
}
