//! Three hosts and a model with as many cuts as ResNet-50 has: what the default policy has to plan with.

use crate::Corpus;
use bps_types::Nanos;
use bps_types::policy::{
    CodecInfo, Device, DeviceInfo, DeviceKind, HostInfo, Link, ModelInfo, Snapshot, TABLE_BATCHES, Table, TableKind,
    WorldInfo,
};

const CUTS: u32 = 125;
const HOSTS: u32 = 3;
const MODEL: u32 = 1;
/// Milliseconds of a row on each host's device; the first is this one.
const ROW_MS: [f32; HOSTS as usize] = [120.0, 30.0, 40.0];

/// The world with its tables, and `like` in it: the same queues, all of the one model, and a device on each host.
pub(super) fn three(like: &Snapshot) -> (Corpus, Snapshot) {
    let mut present = like.clone();
    present.queues.iter_mut().for_each(|queue| queue.model = MODEL);
    present.devices = (1..=HOSTS).map(device).collect();
    present.links = (1..HOSTS).flat_map(|peer| [link(0, peer), link(peer, 0)]).collect();
    (present.flight_tags, present.flight_stages) = (vec![], vec![]);
    (present.flight_devices, present.flight_rows) = (vec![], vec![]);
    (Corpus { world: world(), tables: tables(), snapshots: vec![] }, present)
}

fn device(id: u32) -> Device {
    let credits = if id == 1 { 2 } else { 8 };
    let (backlog, age) = (Nanos::ZERO, Nanos::ZERO);
    Device { id, up: true, backlog, running: 0, credits, memory_free: None, slowdown: 1.0, age }
}

fn link(source: u32, target: u32) -> Link {
    let bytes_per_second = if source.max(target) == 1 { 12.5e6 } else { 5e6 };
    let (rtt, age) = (Nanos::from_millis(5), Nanos::ZERO);
    Link { source, target, up: true, bytes_per_second, rtt, backlog_bytes: 0, age }
}

fn world() -> WorldInfo {
    let host = |id: u32| HostInfo { id, name: format!("host-{id}"), is_self: id == 0 };
    let device =
        |id: u32| DeviceInfo { id, host: id - 1, name: "cpu:0".into(), kind: DeviceKind::Cpu, memory_bytes: None };
    let codec = |id, name: &str, rates: &[u8], lossless, for_input| CodecInfo {
        id,
        name: name.into(),
        rates: rates.to_vec(),
        lossless,
        for_input,
    };
    WorldInfo {
        epoch: 1,
        hosts: (0..HOSTS).map(host).collect(),
        devices: (1..=HOSTS).map(device).collect(),
        models: vec![ModelInfo {
            id: MODEL,
            name: "resnet50".into(),
            cut_count: CUTS,
            input_bytes: 602_112,
            output_bytes: 4_000,
            batch_max: 32,
            slo: Nanos::ZERO,
            accuracy_budget_ppm: 1_000,
            priority: 100,
            devices: (1..=HOSTS).collect(),
        }],
        codecs: vec![
            codec(0, "raw", &[], true, false),
            codec(1, "raw-zstd", &[], true, false),
            codec(2, "f16", &[], false, false),
            codec(3, "f16-zstd", &[], false, false),
            codec(4, "int8", &[], false, false),
            codec(6, "jpeg", &[50, 75, 90, 95], false, true),
        ],
    }
}

fn tables() -> Vec<Table> {
    let table = |device, codec, kind, shape: Vec<u32>, values| Table {
        epoch: 1,
        model: MODEL,
        device,
        codec,
        kind,
        measured: true,
        shape,
        values,
    };
    // Activations shrink by half with each of five stages, after the first has made the input five times as large.
    let bytes = |cut: u32| if cut == 0 { 602_112.0 } else { 3_211_264.0 / (1 << (cut * 5 / CUTS)) as f32 };
    let mut tables = vec![table(0, 0, TableKind::CutBytes, vec![CUTS], (0..CUTS).map(bytes).collect())];
    for (device, row_ms) in (1..).zip(ROW_MS) {
        let at = |rows: u32, cut: u32| row_ms * 1e6 * (0.3 + 0.7 * rows as f32) * cut as f32 / (CUTS - 1) as f32;
        let values = TABLE_BATCHES.iter().flat_map(|rows| (0..CUTS).map(move |cut| at(*rows, cut))).collect();
        tables.push(table(device, 0, TableKind::StageNanos, vec![TABLE_BATCHES.len() as u32, CUTS], values));
    }
    // (codec, bits by rate, loss in parts per million by rate)
    let known: [(u8, &[f32], &[f32]); 5] = [
        (1, &[22.0], &[]),
        (2, &[16.0], &[10.0]),
        (3, &[12.0], &[10.0]),
        (4, &[8.0], &[800.0]),
        (6, &[0.9, 1.3, 2.2, 3.4], &[9_000.0, 4_000.0, 1_500.0, 700.0]),
    ];
    for (codec, bits, losses) in known {
        let shape = vec![CUTS, bits.len() as u32];
        let each = |values: &[f32]| (0..CUTS).flat_map(|_| values.to_vec()).collect::<Vec<f32>>();
        tables.push(table(0, codec, TableKind::CodecBits, shape.clone(), each(bits)));
        if !losses.is_empty() {
            tables.push(table(0, codec, TableKind::CodecLossPpm, shape.clone(), each(losses)));
        }
        let nanos: Vec<f32> = (0..CUTS).flat_map(|cut| bits.iter().map(move |_| bytes(cut) / 2.0)).collect();
        for device in 1..=HOSTS {
            tables.push(table(device, codec, TableKind::EncodeNanos, shape.clone(), nanos.clone()));
            tables.push(table(device, codec, TableKind::DecodeNanos, shape.clone(), nanos.clone()));
        }
    }
    tables
}
