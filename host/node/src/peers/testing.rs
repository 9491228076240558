//! What the tests of this module stand on, and those of `crate::remote`.

use super::roster::Roster;
use bps_graph::manifest::Placement;
use bps_transport::{Carrier, Estimate, Peer, Quotas, Rights};
use bps_types::Nanos;
use bps_types::policy::{DeviceKind, TABLE_BATCHES, TableKind};
use bps_wire::{Advert, AdvertCodec, AdvertDevice, AdvertModel, AdvertTable, HostKey};

pub(super) const OWN: HostKey = HostKey([0xee; 32]);
pub(super) const CUTS: u32 = 3;

pub(crate) fn key(number: u8) -> HostKey {
    HostKey([number; 32])
}

/// A host with two devices of its own.
pub(crate) fn roster() -> Roster {
    Roster::new(OWN, 2)
}

pub(crate) fn at(seconds: u64) -> Nanos {
    Nanos::from_secs(seconds)
}

pub(super) fn paired(number: u8) -> Peer {
    Peer {
        key: key(number),
        name: format!("host{number}"),
        address: None,
        rights: Rights { execute: true, fetch_models: true },
        quotas: Quotas { window: 4, bytes_max: 1 << 20 },
    }
}

pub(super) fn stage_table(device: u32) -> AdvertTable {
    let length = TABLE_BATCHES.len() * CUTS as usize;
    AdvertTable {
        device,
        codec: 0,
        kind: TableKind::StageNanos,
        measured: true,
        shape: vec![TABLE_BATCHES.len() as u32, CUTS],
        values: (0..length).map(|i| i as f32).collect(),
    }
}

pub(super) fn model(devices: &[u32]) -> AdvertModel {
    AdvertModel {
        digest: [7; 32],
        cut_list: [8; 32],
        calibration: [9; 32],
        name: "net".into(),
        exportable: true,
        file_bytes: 100,
        batch_max: 32,
        devices: devices.to_vec(),
        tables: devices.iter().map(|d| stage_table(*d)).collect(),
    }
}

/// A processor (number 0) and a graphics processor (number 5), both with the model.
pub(crate) fn advert(epoch: u32) -> Advert {
    let device = |index, kind, name: &str| AdvertDevice { index, name: name.into(), kind, memory_bytes: None };
    Advert {
        epoch,
        devices: vec![device(0, DeviceKind::Cpu, "cpu"), device(5, DeviceKind::Gpu, "gpu:0")],
        models: vec![model(&[0, 5])],
        codecs: crate::codecs::all().iter().map(|c| AdvertCodec { id: c.id, name: c.name.clone() }).collect(),
        peers: vec![],
        window: 3,
    }
}

pub(super) fn estimate() -> Estimate {
    Estimate { bytes_per_second: 1e6, rtt: Nanos::from_millis(5), backlog_bytes: 10, clock_offset_nanos: -7 }
}

/// A session, its advert and its estimate.
pub(crate) fn come(roster: &Roster, number: u8, advert: Advert, now: Nanos) {
    roster.came_up(&paired(number), Carrier::Tcp, now);
    roster.take_advert(&key(number), advert).expect("a good advert");
    roster.take_estimate(&key(number), estimate());
}

pub(super) fn local(placement: &Placement) -> super::LocalModel<'_> {
    super::LocalModel {
        id: 9,
        name: "net",
        digest: [7; 32],
        cut_list: [8; 32],
        calibration: [9; 32],
        cut_count: CUTS,
        batch_max: 32,
        placement,
    }
}

/// Its session ends.
pub(crate) fn leave(roster: &Roster, number: u8) {
    roster.went_down(&key(number), "gone".into(), at(1));
}

/// It may not have stages executed any more.
pub(crate) fn forbid(roster: &Roster, number: u8) {
    let mut peer = paired(number);
    peer.rights.execute = false;
    assert!(roster.granted(&peer), "it was allowed to");
}
