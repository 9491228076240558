//! The world that everything here happens in: two hosts, four devices, one or two models.

use bps_sched::{Guest, Window, World};
use bps_types::policy::{CodecInfo, DeviceInfo, DeviceKind, HostInfo, ModelInfo, WorldInfo};
use bps_types::{DeviceId, HostId, Nanos};

pub(crate) const MODELS: u32 = 2;
/// The first three are this host's, the last is another's.
pub(crate) const DEVICES: u32 = 4;
pub(crate) const REMOTE: u32 = 3;
pub(crate) const CUTS: u32 = 5;

pub(crate) fn world(epoch: u32, models: u32) -> World {
    let devices = (0..DEVICES).map(|id| DeviceInfo {
        id,
        host: u32::from(id == REMOTE),
        name: format!("d{id}"),
        kind: DeviceKind::Cpu,
        memory_bytes: None,
    });
    let model = |id| ModelInfo {
        id,
        name: format!("m{id}"),
        cut_count: CUTS,
        input_bytes: 10,
        output_bytes: 10,
        batch_max: 8,
        slo: Nanos::from_millis(20),
        accuracy_budget_ppm: 0,
        priority: 0,
        devices: (0..DEVICES).collect(),
    };
    let info = WorldInfo {
        epoch,
        hosts: vec![
            HostInfo { id: 0, name: "here".into(), is_self: true },
            HostInfo { id: 1, name: "there".into(), is_self: false },
        ],
        devices: devices.collect(),
        models: (0..models).map(model).collect(),
        codecs: vec![CodecInfo { id: 0, name: "raw".into(), rates: vec![], lossless: true, for_input: false }],
    };
    let windows = vec![Window { device: DeviceId(REMOTE), dispatches: 3 }];
    let guests = vec![Guest { host: HostId(1), window: 4, bytes_max: 100 }];
    World { info, windows, guests, ..World::default() }
}
