//! What is simulated: hosts, devices, links, models, codecs; and what each host's scheduler is told of them.

use bps_sched::{Config, Guest, Window, World};
use bps_types::policy::{
    CodecInfo, DeviceInfo, DeviceKind, HostInfo, ModelInfo, TABLE_BATCHES, Table, TableKind, WorldInfo,
};
use bps_types::{DeviceId, HostId, Nanos};

/// Bits of an element that travels as it is.
const RAW_BITS: f64 = 32.0;
/// Dispatches that a device takes from another host at once.
const WINDOW: u32 = 4;

/// A device.
#[derive(Clone, Debug, PartialEq)]
pub struct SimDevice {
    /// For people.
    pub name: String,
    /// What it is.
    pub kind: DeviceKind,
    /// Whose: a position in [`Setup::hosts`].
    pub host: u32,
    /// Executions really take this many times what the tables say.
    pub slowdown: f64,
}

/// A link between two hosts, the same both ways.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SimLink {
    /// The hosts.
    pub hosts: (u32, u32),
    /// Goodput, each way.
    pub bytes_per_second: f64,
    /// Round trip.
    pub rtt: Nanos,
}

/// A way for activations to travel. Raw is always there and need not be named.
#[derive(Clone, Debug, PartialEq)]
pub struct SimCodec {
    /// What policies are told.
    pub info: CodecInfo,
    /// Bits of an encoded element.
    pub bits: f32,
    /// Accuracy it costs, parts per million.
    pub loss_ppm: f32,
}

/// A model, the same on all hosts.
#[derive(Clone, Debug, PartialEq)]
pub struct SimModel {
    /// For people.
    pub name: String,
    /// Latency asked for; zero for none.
    pub slo: Nanos,
    /// Most rows together.
    pub batch_max: u32,
    /// Accuracy that codecs may cost.
    pub accuracy_budget_ppm: u32,
    /// Per device: time from the input to each cut, for the batch sizes 1, 2, 4, 8, 16, 32.
    pub stage_nanos: Vec<Vec<Vec<f32>>>,
    /// Bytes of one row that cross each cut.
    pub cut_bytes: Vec<f32>,
}

impl SimModel {
    /// A model of one layer that takes `fixed + rows * per_row` on every one of `devices` devices.
    pub fn linear(name: &str, slo: Nanos, fixed: Nanos, per_row: Nanos, devices: usize) -> Self {
        let cost = |rows: u32| (fixed.0 + per_row.0 * u64::from(rows)) as f32;
        let rows = TABLE_BATCHES.iter().map(|b| vec![0.0, cost(*b)]).collect();
        Self {
            name: name.into(),
            slo,
            batch_max: 32,
            accuracy_budget_ppm: 0,
            stage_nanos: vec![rows; devices],
            cut_bytes: vec![256.0, 40.0],
        }
    }

    fn cut_count(&self) -> u32 {
        self.stage_nanos.first().and_then(|d| d.first()).map_or(2, |cuts| cuts.len() as u32)
    }
}

/// What there is to schedule on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Setup {
    /// Their names; ids are positions. The first takes the requests.
    pub hosts: Vec<String>,
    /// Ids are positions.
    pub devices: Vec<SimDevice>,
    /// At most one between two hosts.
    pub links: Vec<SimLink>,
    /// Ids are positions.
    pub models: Vec<SimModel>,
    /// Beside raw.
    pub codecs: Vec<SimCodec>,
    /// Of every scheduler.
    pub config: Config,
}

impl Setup {
    /// One host.
    pub fn alone(devices: Vec<SimDevice>, models: Vec<SimModel>) -> Self {
        Self { hosts: vec!["simulated".into()], devices, models, ..Self::default() }
    }

    /// Bytes that cross a link for so many rows entering a stage at a cut.
    pub(crate) fn bytes(&self, model: u32, cut: u32, codec: u8, rows: u32) -> u64 {
        let raw = self.models.get(model as usize).and_then(|m| m.cut_bytes.get(cut as usize)).copied();
        let bits = self.codecs.iter().find(|c| c.info.id == codec).map_or(RAW_BITS, |c| f64::from(c.bits));
        (f64::from(raw.unwrap_or(0.0)) * f64::from(rows) * bits / RAW_BITS) as u64
    }

    /// Bytes of an answer of so many rows.
    pub(crate) fn output_bytes(&self, model: u32, rows: u32) -> u64 {
        let last = self.models.get(model as usize).map_or(0, |m| m.cut_bytes.len().saturating_sub(1));
        self.bytes(model, last as u32, 0, rows)
    }

    /// What an execution really takes: the table's figure between batch sizes, times the device's slowdown.
    pub(crate) fn cost(&self, device: DeviceId, model: u32, cuts: (u32, u32), rows: u32) -> Nanos {
        let device = device.0 as usize;
        let slowdown = self.devices.get(device).map_or(1.0, |d| d.slowdown);
        let Some(table) = self.models.get(model as usize).and_then(|m| m.stage_nanos.get(device)) else {
            return Nanos::ZERO;
        };
        let upper = TABLE_BATCHES.partition_point(|b| *b < rows).clamp(1, TABLE_BATCHES.len() - 1);
        let until = |batch: usize, cut: u32| f64::from(table[batch].get(cut as usize).copied().unwrap_or(0.0));
        let span = |batch: usize| until(batch, cuts.1) - until(batch, cuts.0);
        let (low, high) = (f64::from(TABLE_BATCHES[upper - 1]), f64::from(TABLE_BATCHES[upper]));
        let share = (f64::from(rows) - low) / (high - low);
        Nanos(((span(upper - 1) + (span(upper) - span(upper - 1)) * share) * slowdown).max(0.0) as u64)
    }

    /// The world as one of the hosts sees it. Ids are the same on all.
    pub(crate) fn world(&self, own: u32) -> World {
        let device = |(id, d): (usize, &SimDevice)| DeviceInfo {
            id: id as u32,
            host: d.host,
            name: d.name.clone(),
            kind: d.kind,
            memory_bytes: None,
        };
        let everywhere: Vec<u32> = (0..self.devices.len() as u32).collect();
        let model = |(id, m): (usize, &SimModel)| ModelInfo {
            id: id as u32,
            name: m.name.clone(),
            cut_count: m.cut_count(),
            input_bytes: m.cut_bytes.first().map_or(0, |b| *b as u64),
            output_bytes: m.cut_bytes.last().map_or(0, |b| *b as u64),
            batch_max: m.batch_max,
            slo: m.slo,
            accuracy_budget_ppm: m.accuracy_budget_ppm,
            priority: 0,
            devices: everywhere.clone(),
        };
        let raw = CodecInfo { id: 0, name: "raw".into(), rates: vec![], lossless: true, for_input: false };
        let hosts = self.hosts.iter().enumerate();
        let info = WorldInfo {
            epoch: 1,
            hosts: hosts
                .map(|(id, n)| HostInfo { id: id as u32, name: n.clone(), is_self: id as u32 == own })
                .collect(),
            devices: self.devices.iter().enumerate().map(device).collect(),
            models: self.models.iter().enumerate().map(model).collect(),
            codecs: std::iter::once(raw).chain(self.codecs.iter().map(|c| c.info.clone())).collect(),
        };
        let elsewhere = everywhere.iter().filter(|id| self.devices[**id as usize].host != own);
        let windows = elsewhere.map(|id| Window { device: DeviceId(*id), dispatches: WINDOW }).collect();
        let others = (0..self.hosts.len() as u32).filter(|id| *id != own);
        let guests = others.map(|id| Guest { host: HostId(id), window: WINDOW, bytes_max: u64::MAX }).collect();
        World { info, windows, guests, ..World::default() }
    }

    /// Every cost table.
    pub(crate) fn tables(&self) -> Vec<Table> {
        let mut tables = Vec::new();
        for (id, model) in self.models.iter().enumerate() {
            let mut add = |device: usize, codec: u8, kind, shape: Vec<u32>, values: Vec<f32>| {
                let (model, device) = (id as u32, device as u32);
                tables.push(Table { epoch: 1, model, device, codec, kind, measured: true, shape, values });
            };
            let cuts = model.cut_count();
            add(0, 0, TableKind::CutBytes, vec![cuts], model.cut_bytes.clone());
            for (device, rows) in model.stage_nanos.iter().enumerate() {
                add(device, 0, TableKind::StageNanos, vec![rows.len() as u32, cuts], rows.concat());
            }
            for codec in &self.codecs {
                let (rates, id) = (codec.info.rates.len().max(1) as u32, codec.info.id);
                let filled = |value: f32| vec![value; (cuts * rates) as usize];
                add(0, id, TableKind::CodecBits, vec![cuts, rates], filled(codec.bits));
                add(0, id, TableKind::CodecLossPpm, vec![cuts, rates], filled(codec.loss_ppm));
            }
        }
        tables
    }
}
