//! Cost tables of one model: what each stage takes on each device, what crosses each cut, and how it travels.

use super::codings::Codings;
use bps_codec::ff::Package;
use bps_codec::{CodecSpec, CodecTiming};
use bps_engine::{DeviceDescription, Profile};
use bps_graph::{Graph, Shapes};
use bps_types::policy::{DeviceKind, TABLE_BATCHES, Table, TableKind};

/// Operations a second that are assumed of a device nobody has measured: pessimistic for what people have, so that a
/// measured device is preferred; only the order of magnitude matters, since executions correct it.
const fn assumed_flops_per_second(kind: DeviceKind) -> f64 {
    match kind {
        DeviceKind::Cpu => 10e9, // each thread
        DeviceKind::Gpu => 1e12,
        DeviceKind::Software => 0.2e9,
    }
}
/// And what a layer takes however small it is.
const ASSUMED_LAYER_NANOS: f64 = 5_000.0;

/// The tables, without the ids of a world.
pub(crate) struct Costs {
    cut_bytes: Vec<f32>,
    stages: Vec<StageCosts>,
    /// None where nothing ever leaves this host.
    codings: Option<Codings>,
}

struct StageCosts {
    device: u32,
    measured: bool,
    /// `[batch][cut]`, prefix sums.
    nanos: Vec<f32>,
}

impl Costs {
    /// `shapes` are those of one row; none where the model leaves extents open, and then nothing is known.
    pub(crate) fn new(graph: &Graph, shapes: Option<&Shapes>) -> Self {
        let bytes = |cut| shapes.map_or(0.0, |shapes| graph.cut_bytes(cut, shapes) as f32);
        Self { cut_bytes: (0..graph.cuts.len()).map(bytes).collect(), stages: Vec::new(), codings: None }
    }

    /// With what codecs cost: for a host that meets others.
    pub(crate) fn with_codings(
        mut self,
        pixels: bool,
        codecs: Vec<&'static CodecSpec>,
        devices: &[&DeviceDescription],
        timings: impl Fn(usize) -> Option<Vec<CodecTiming>>,
    ) -> Self {
        self.codings = Some(Codings::new(&self.cut_bytes, pixels, codecs, devices, timings));
        self
    }

    /// With what calibration found, for hosts that share it; `shapes` are those of one row.
    pub(crate) fn with_calibration(mut self, package: &Package, graph: &Graph, shapes: &Shapes) -> Self {
        let value = |id: &bps_graph::ValueId| {
            let elements = shapes.of(*id).iter().product::<usize>() as f32;
            Some((package.cut(&graph.values[id.index()].name)?, elements))
        };
        let cut = |cut: &bps_graph::Cut| cut.values.iter().map(value).collect::<Option<Vec<_>>>();
        let values: Vec<_> = graph.cuts.iter().map(cut).collect();
        self.codings = self.codings.map(|codings| codings.with_calibration(&values));
        self
    }

    /// From a measurement.
    pub(crate) fn measured(&mut self, device: u32, graph: &Graph, profile: &Profile) {
        let mut nanos = Vec::with_capacity(TABLE_BATCHES.len() * graph.cuts.len());
        for rows in TABLE_BATCHES {
            // The largest batch that was measured and is not larger; what is missing grows in proportion.
            let index = profile.batches.partition_point(|b| *b <= rows).saturating_sub(1);
            let factor = f64::from(rows) / f64::from(profile.batches[index].max(1));
            let overhead = profile.overhead_nanos[index] as f64;
            nanos.extend(prefix_sums(graph, overhead * factor, |layer| {
                profile.layer_nanos[index][layer] as f64 * factor
            }));
        }
        self.stages.push(StageCosts { device, measured: true, nanos });
    }

    /// From the number of operations.
    pub(crate) fn estimated(&mut self, device: &DeviceDescription, graph: &Graph, shapes: Option<&Shapes>) {
        let Some(shapes) = shapes else { return };
        let threads = if device.kind == DeviceKind::Cpu { device.threads.max(1) as f64 } else { 1.0 };
        let speed = assumed_flops_per_second(device.kind) * threads / f64::from(device.slowdown.max(1.0));
        let layer_nanos = |layer: usize| graph.flops(layer, shapes) as f64 / speed * 1e9;
        let mut nanos = Vec::with_capacity(TABLE_BATCHES.len() * graph.cuts.len());
        for rows in TABLE_BATCHES {
            let layer = |layer| ASSUMED_LAYER_NANOS + layer_nanos(layer) * f64::from(rows);
            nanos.extend(prefix_sums(graph, 0.0, layer));
        }
        self.stages.push(StageCosts { device: device.index as u32, measured: false, nanos });
    }

    pub(crate) fn is_measured(&self) -> bool {
        !self.stages.is_empty() && self.stages.iter().all(|s| s.measured)
    }

    /// Stage times on a device before traffic; see [`TableKind::StageNanos`].
    pub(crate) fn stage_nanos(&self, device: u32) -> Option<&[f32]> {
        self.stages.iter().find(|s| s.device == device).map(|s| &s.nanos[..])
    }

    pub(crate) fn input_bytes(&self) -> u64 {
        self.cut_bytes.first().map_or(0, |b| *b as u64)
    }

    pub(crate) fn output_bytes(&self) -> u64 {
        self.cut_bytes.last().map_or(0, |b| *b as u64)
    }

    /// `calibrated`: frames are made with what calibration found.
    pub(crate) fn tables(&self, epoch: u32, model: u32, calibrated: bool) -> Vec<Table> {
        let cuts = self.cut_bytes.len() as u32;
        let crossing = Table {
            epoch,
            model,
            device: 0,
            codec: 0,
            kind: TableKind::CutBytes,
            measured: true,
            shape: vec![cuts],
            values: self.cut_bytes.clone(),
        };
        let stage = |s: &StageCosts| Table {
            epoch,
            model,
            device: s.device,
            codec: 0,
            kind: TableKind::StageNanos,
            measured: s.measured,
            shape: vec![TABLE_BATCHES.len() as u32, cuts],
            values: s.nanos.clone(),
        };
        let codings = self.codings.iter().flat_map(|c| c.tables(epoch, model, calibrated));
        std::iter::once(crossing).chain(self.stages.iter().map(stage)).chain(codings).collect()
    }
}

/// Time from the input to each cut. What moving data costs is paid where a stage begins at the input.
fn prefix_sums(graph: &Graph, overhead: f64, layer_nanos: impl Fn(usize) -> f64) -> Vec<f32> {
    let (mut sum, mut next) = (overhead, 0);
    let upto = |cut: &bps_graph::Cut| {
        while next < cut.layer {
            sum += layer_nanos(next);
            next += 1;
        }
        if cut.layer == 0 { 0.0 } else { sum as f32 }
    };
    graph.cuts.iter().map(upto).collect()
}

/// Whether a profile that was read from a file can be used for this graph.
pub(crate) fn fits(profile: &Profile, graph: &Graph, device: &DeviceDescription) -> bool {
    let layers = graph.layers.len();
    profile.digest == graph.digest_hex()
        && profile.fingerprint == device.fingerprint
        && profile.batches.first() == Some(&1)
        && profile.batches.is_sorted_by(|a, b| a < b)
        && profile.layer_nanos.len() == profile.batches.len()
        && profile.overhead_nanos.len() == profile.batches.len()
        && profile.layer_nanos.iter().all(|row| row.len() == layers)
}
