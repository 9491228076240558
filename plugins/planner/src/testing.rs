//! Worlds of several hosts, and a bench that runs a policy in one of them in virtual time; for native tests of policies.

mod bench;
mod cases;
mod grid;

pub use bench::{Bench, Load, Ran};
pub use cases::{at_rest, rows, told};
pub use grid::{Cell, Net, grid, held_out, small};

use bps_policy_sdk::{
    CodecInfo, DeviceInfo, DeviceKind, HostInfo, ModelInfo, Snapshot, TABLE_BATCHES, Table, TableKind, WorldInfo,
};

/// The only model of these worlds.
pub const MODEL: u32 = 1;
/// The device of this host.
pub const LOCAL: u32 = 1;
/// The device of the first other host; the next ones follow.
pub const REMOTE: u32 = 2;

/// The codecs of the product: raw, raw-zstd, f16, int8 and JPEG for inputs.
pub fn codecs() -> Vec<CodecInfo> {
    let codec = |id, name: &str, rates: &[u8], lossless, for_input| CodecInfo {
        id,
        name: name.into(),
        rates: rates.to_vec(),
        lossless,
        for_input,
    };
    vec![
        codec(0, "raw", &[], true, false),
        codec(1, "raw-zstd", &[], true, false),
        codec(2, "f16", &[], false, false),
        codec(4, "int8", &[], false, false),
        codec(6, "jpeg", &[50, 75, 90, 95], false, true),
    ]
}

/// A model by what crosses its cuts and what its layers take.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Bytes of one row at each cut, input and output included.
    pub cut_bytes: Vec<f32>,
    /// Part of the whole that has been done at each cut: 0 at the first, 1 at the last.
    pub done: Vec<f64>,
}

impl Network {
    /// Something like ResNet: `blocks` cuts in each of four stages with `stage_bytes`, between a stem and a head.
    pub fn residual(stage_bytes: [f32; 4], blocks: usize) -> Self {
        let mut cut_bytes = vec![602_112.0, 3_211_264.0, 802_816.0];
        let mut done = vec![0.0, 0.05, 0.07];
        for (stage, bytes) in stage_bytes.into_iter().enumerate() {
            for block in 0..blocks {
                cut_bytes.push(bytes);
                done.push(0.07 + 0.92 * (stage * blocks + block + 1) as f64 / (4 * blocks) as f64);
            }
        }
        cut_bytes.extend([stage_bytes[3] / 49.0, 4_000.0]);
        done.extend([0.995, 1.0]);
        Self { cut_bytes, done }
    }

    /// ResNet-50's sizes with `blocks` cuts a stage.
    pub fn resnet50(blocks: usize) -> Self {
        Self::residual([3_211_264.0, 1_605_632.0, 802_816.0, 401_408.0], blocks)
    }

    /// The trained digits net's.
    pub fn digits() -> Self {
        Self {
            cut_bytes: vec![64.0, 4_096.0, 4_096.0, 4_096.0, 2_048.0, 2_048.0, 2_048.0, 128.0, 40.0],
            done: vec![0.0, 0.1, 0.3, 0.5, 0.65, 0.8, 0.95, 0.97, 1.0],
        }
    }

    /// ResNet-18's.
    pub fn resnet18() -> Self {
        Self::residual([802_816.0, 401_408.0, 200_704.0, 100_352.0], 4)
    }
}

/// What a device takes for the whole model: the first row and each further one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// Nanoseconds of a batch of one.
    pub first: f64,
    /// Nanoseconds of each row more.
    pub more: f64,
}

impl Speed {
    /// The same device, so many times slower.
    pub fn slower(self, times: f64) -> Self {
        Self { first: self.first * times, more: self.more * times }
    }

    /// Nanoseconds of a batch.
    pub fn nanos(self, rows: u32) -> f64 {
        self.first + self.more * f64::from(rows - 1)
    }
}

/// One host with a device, and `remotes` others with one each; the model may run on all of them.
pub fn world(network: &Network, remotes: u32, accuracy_budget_ppm: u32) -> WorldInfo {
    let host = |id: u32| HostInfo { id, name: format!("host-{id}"), is_self: id == 0 };
    let device = |at: u32| DeviceInfo {
        id: LOCAL + at,
        host: at,
        name: "cpu:0".into(),
        kind: DeviceKind::Cpu,
        memory_bytes: None,
    };
    let model = ModelInfo {
        id: MODEL,
        name: "net".into(),
        cut_count: network.cut_bytes.len() as u32,
        input_bytes: network.cut_bytes[0] as u64,
        output_bytes: network.cut_bytes.last().copied().unwrap_or_default() as u64,
        batch_max: 32,
        slo: 0,
        accuracy_budget_ppm,
        priority: 100,
        devices: (0..=remotes).map(|at| LOCAL + at).collect(),
    };
    WorldInfo {
        epoch: 1,
        hosts: (0..=remotes).map(host).collect(),
        devices: (0..=remotes).map(device).collect(),
        models: vec![model],
        codecs: codecs(),
    }
}

/// The tables of a network on devices of these speeds, this host's first.
pub fn tables(network: &Network, speeds: &[Speed]) -> Vec<Table> {
    let cuts = network.cut_bytes.len() as u32;
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
    let mut tables = vec![table(0, 0, TableKind::CutBytes, vec![cuts], network.cut_bytes.clone())];
    for (at, speed) in speeds.iter().enumerate() {
        let row = |rows: u32| network.done.iter().map(move |done| (done * speed.nanos(rows)) as f32);
        let values = TABLE_BATCHES.iter().flat_map(|rows| row(*rows)).collect();
        tables.push(table(LOCAL + at as u32, 0, TableKind::StageNanos, vec![6, cuts], values));
    }
    // (codec, bits and loss by rate, bytes coded a nanosecond)
    let known: [(u8, &[f32], &[f32], f32); 4] = [
        (1, &[22.0], &[], 0.3),
        (2, &[16.0], &[10.0], 4.0),
        (4, &[8.0], &[800.0], 2.0),
        (6, &[0.9, 1.3, 2.2, 3.4], &[9_000.0, 4_000.0, 1_500.0, 700.0], 0.2),
    ];
    for (codec, bits, losses, speed) in known {
        let shape = vec![cuts, bits.len() as u32];
        let each = |values: &[f32]| (0..cuts).flat_map(|_| values.to_vec()).collect::<Vec<f32>>();
        tables.push(table(0, codec, TableKind::CodecBits, shape.clone(), each(bits)));
        if !losses.is_empty() {
            tables.push(table(0, codec, TableKind::CodecLossPpm, shape.clone(), each(losses)));
        }
        let nanos: Vec<f32> =
            network.cut_bytes.iter().flat_map(|bytes| bits.iter().map(move |_| bytes / speed)).collect();
        for device in (0..speeds.len() as u32).map(|at| LOCAL + at) {
            tables.push(table(device, codec, TableKind::EncodeNanos, shape.clone(), nanos.clone()));
            tables.push(table(device, codec, TableKind::DecodeNanos, shape.clone(), nanos.clone()));
        }
    }
    tables
}

/// Links between this host and each of `remotes` others, both ways, added to a snapshot.
pub fn add_links(now: &mut Snapshot, remotes: u32, bytes_per_second: f32, rtt: u64) {
    for (source, target) in (1..=remotes).flat_map(|host| [(0, host), (host, 0)]) {
        let (up, backlog_bytes, age) = (true, 0, 0);
        now.links.push(bps_policy_sdk::Link { source, target, up, bytes_per_second, rtt, backlog_bytes, age });
    }
}
