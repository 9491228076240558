//! The ways a batch can take through one or two devices, with their costs out of the tables.

use crate::estimate::guess_nanos;
use bps_policy_sdk::{CodecInfo, ModelInfo, Stage, TABLE_BATCHES, World};

/// Where a lane runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LaneClass {
    /// Whole, on a device of this host.
    Here,
    /// Whole, on a device of another host.
    There,
    /// A head here, the tail on another host.
    Split,
}

/// Which codecs may carry a tensor to another host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codecs {
    /// As it is.
    Raw,
    /// Every one that the model's accuracy budget allows, each at the smallest of the rates that it allows.
    Allowed,
    /// The same at each rate that it allows.
    AtEachRate,
}

/// One way for a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Lane {
    /// The device of this host that runs what comes before `cut`; none where `cut` is 0.
    pub head: Option<u32>,
    /// The device of another host that runs the rest; none where `cut` is the last.
    pub tail: Option<u32>,
    /// The host of `tail`; this one where there is none.
    pub host: u32,
    /// Where the model is cut: 0 for all there, the last cut for all here.
    pub cut: u32,
    /// How the tensor travels that crosses the link.
    pub codec: u8,
    /// The codec's rate.
    pub rate: u8,
    /// What arrives is what left, bit for bit.
    pub lossless: bool,
    /// The stage times were measured.
    pub measured: bool,
    /// Nanoseconds of the head, by batch size.
    pub head_nanos: [f32; TABLE_BATCHES.len()],
    /// Nanoseconds of the tail, by batch size.
    pub tail_nanos: [f32; TABLE_BATCHES.len()],
    /// Nanoseconds to encode a row.
    pub encode_nanos: f32,
    /// Nanoseconds to decode a row.
    pub decode_nanos: f32,
    /// Bytes of a row on its way there.
    pub bytes: f32,
    /// Bytes of a row's answer.
    pub answer_bytes: f32,
}

impl Lane {
    /// Where it runs.
    pub fn class(&self) -> LaneClass {
        match (self.head, self.tail) {
            (_, None) => LaneClass::Here,
            (None, Some(_)) => LaneClass::There,
            (Some(_), Some(_)) => LaneClass::Split,
        }
    }

    /// The plan's stages, for a model that ends at `last_cut`.
    pub fn stages(&self, last_cut: u32) -> Vec<Stage> {
        let head = self.head.map(|device| Stage { device, until_cut: self.cut, codec: 0, rate: 0 });
        let (codec, rate) = (self.codec, self.rate);
        let tail = self.tail.map(|device| Stage { device, until_cut: last_cut, codec, rate });
        head.into_iter().chain(tail).collect()
    }

    /// Whether two lanes are the same way, whatever they cost.
    pub fn is_same_way(&self, other: &Self) -> bool {
        let way = |lane: &Self| (lane.head, lane.tail, lane.cut, lane.codec, lane.rate);
        way(self) == way(other)
    }
}

/// Every lane of a model: whole on each device, and cut at each cut for each pair of a device here and one there, with
/// each codec and rate that may be used.
pub fn lanes(world: &World, model: &ModelInfo, codecs: Codecs) -> Vec<Lane> {
    let local = world.local_devices(model.id);
    let mut found: Vec<Lane> = local.iter().map(|device| here(world, model, *device)).collect();
    for tail in world.remote_devices(model.id) {
        let Some(host) = world.host_of(*tail) else { continue };
        let (last, costs) = (model.last_cut(), world.costs());
        if costs.stage_nanos(model.id, *tail, 1, 0, last).is_none() {
            continue;
        }
        for cut in 0..last {
            let carriers = carriers(world, model, codecs, cut);
            let Some(tail_nanos) = batches(world, model.id, *tail, (cut, last)) else { continue };
            let heads = local.iter().map(|head| (*head, batches(world, model.id, *head, (0, cut))));
            let heads: Vec<_> = match cut {
                0 => vec![(None, [0.0; TABLE_BATCHES.len()])],
                _ => heads.filter_map(|(head, nanos)| Some((Some(head), nanos?))).collect(),
            };
            for (head, head_nanos) in heads {
                found.extend(carriers.iter().map(|carrier| Lane {
                    head,
                    tail: Some(*tail),
                    host,
                    cut,
                    codec: carrier.codec,
                    rate: carrier.rate,
                    lossless: carrier.lossless,
                    measured: costs.is_measured(model.id, *tail),
                    head_nanos,
                    tail_nanos,
                    encode_nanos: carrier.encode_nanos(world, model.id, head, cut),
                    decode_nanos: costs.decode_nanos(model.id, *tail, carrier.codec, cut, carrier.column),
                    bytes: carrier.bytes,
                    answer_bytes: model.output_bytes as f32,
                }));
            }
        }
    }
    found
}

/// All on a device of this host; a guess where there is no table.
fn here(world: &World, model: &ModelInfo, device: u32) -> Lane {
    let guess = || TABLE_BATCHES.map(|rows| guess_nanos(rows) as f32);
    Lane {
        head: Some(device),
        tail: None,
        host: world.here().unwrap_or_default(),
        cut: model.last_cut(),
        codec: 0,
        rate: 0,
        lossless: true,
        measured: world.costs().is_measured(model.id, device),
        head_nanos: batches(world, model.id, device, (0, model.last_cut())).unwrap_or_else(guess),
        tail_nanos: [0.0; TABLE_BATCHES.len()],
        encode_nanos: 0.0,
        decode_nanos: 0.0,
        bytes: 0.0,
        answer_bytes: 0.0,
    }
}

/// Nanoseconds between two cuts on a device, by batch size.
fn batches(world: &World, model: u32, device: u32, cuts: (u32, u32)) -> Option<[f32; TABLE_BATCHES.len()]> {
    let mut nanos = [0.0; TABLE_BATCHES.len()];
    for (entry, rows) in nanos.iter_mut().zip(TABLE_BATCHES) {
        *entry = world.costs().stage_nanos(model, device, rows, cuts.0, cuts.1)? as f32;
    }
    Some(nanos)
}

/// A codec at one of its rates, for one cut.
struct Carrier {
    codec: u8,
    rate: u8,
    /// Where the rate stands in the tables.
    column: usize,
    lossless: bool,
    bytes: f32,
}

impl Carrier {
    /// On the head's device; without a head, on the quickest device of this host that is known to encode.
    fn encode_nanos(&self, world: &World, model: u32, head: Option<u32>, cut: u32) -> f32 {
        let on = |device: u32| world.costs().encode_nanos(model, device, self.codec, cut, self.column);
        match head {
            Some(device) => on(device),
            None => world.local_devices(model).iter().map(|device| on(*device)).fold(f32::MAX, f32::min),
        }
    }
}

fn carriers(world: &World, model: &ModelInfo, codecs: Codecs, cut: u32) -> Vec<Carrier> {
    let raw = CodecInfo { id: 0, name: "raw".into(), rates: vec![], lossless: true, for_input: false };
    let known = world.codecs().iter().any(|codec| codec.id == 0);
    let all = world.codecs().iter().chain((!known).then_some(&raw));
    let mut found: Vec<Carrier> = vec![];
    for codec in all.filter(|codec| codecs != Codecs::Raw || codec.id == 0) {
        if codec.for_input && cut > 0 {
            continue;
        }
        let rates = if codec.rates.is_empty() { &[0][..] } else { &codec.rates };
        for (column, rate) in rates.iter().enumerate() {
            let (rate, lossless) = (*rate, codec.lossless);
            let loss = world.costs().codec_loss_ppm(model.id, codec.id, cut, column);
            if !lossless && loss.is_none_or(|loss| loss > model.accuracy_budget_ppm as f32) {
                continue;
            }
            let bytes = world.costs().crossing_bytes(model.id, codec.id, cut, column);
            // A size of zero says that nobody knows it; what goes in is known all the same.
            let size = bytes.filter(|bytes| *bytes > 0.0);
            let input = || (cut == 0 && codec.id == 0).then_some(model.input_bytes as f32);
            let Some(bytes) = size.or_else(input) else { continue };
            let carrier = Carrier { codec: codec.id, rate, column, lossless, bytes };
            match found.last_mut().filter(|last| last.codec == codec.id && codecs != Codecs::AtEachRate) {
                Some(last) if carrier.bytes < last.bytes => *last = carrier,
                Some(_) => {}
                None => found.push(carrier),
            }
        }
    }
    found
}
