//! What a rehearsal asks: a world, its tables, and snapshots. Made up here with every edge that the interface allows, or
//! taken from a recording.

use bps_types::Nanos;
use bps_types::policy::{
    Arrived, CodecInfo, Device, DeviceInfo, DeviceKind, HostInfo, Link, ModelInfo, NO_DEADLINE, Queue, Snapshot, Table,
    TableKind, Trigger, WorldInfo, bound,
};

/// A world and what to decide in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Corpus {
    /// Pushed first.
    pub world: WorldInfo,
    /// Pushed next.
    pub tables: Vec<Table>,
    /// Asked in order.
    pub snapshots: Vec<Snapshot>,
}

/// Devices of the made-up world: three here, one on each of two peers.
const DEVICES: u32 = 5;
const LOCAL_DEVICES: u32 = 3;
const PEERS: u32 = 2;
const MODELS: u32 = 3;
const CUTS: u32 = 6;
const MS: u64 = 1_000_000;

impl Corpus {
    /// At least 1,000 snapshots are a rehearsal; the same seed gives the same corpus everywhere.
    pub fn synthetic(seed: u64, snapshot_count: usize) -> Self {
        let mut maker = Maker { random: seed, clock: 0, next_id: 1 };
        let snapshots = (0..snapshot_count).map(|at| maker.snapshot(at)).collect();
        Self { world: world(), tables: tables(), snapshots }
    }

    /// Whether any snapshot has requests waiting and an up device that takes some.
    pub fn has_work(&self) -> bool {
        let free = |device: &Device| device.up && device.credits > 0;
        self.snapshots.iter().any(|now| !now.queues.is_empty() && now.devices.iter().any(free))
    }
}

/// SplitMix64.
pub(super) fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

fn host_of(device: u32) -> u32 {
    device.saturating_sub(LOCAL_DEVICES)
}

fn world() -> WorldInfo {
    let device = |id| DeviceInfo {
        id,
        host: host_of(id),
        name: if id == 3 { "gpu:0".into() } else { format!("cpu:{id}") },
        kind: if id == 3 { DeviceKind::Gpu } else { DeviceKind::Cpu },
        memory_bytes: (id != 2).then_some(8 << 30),
    };
    let model = |id| ModelInfo {
        id,
        name: format!("model-{id}"),
        cut_count: CUTS,
        input_bytes: 150_528 * 4,
        output_bytes: 4_000,
        batch_max: 32,
        slo: Nanos::from_millis(100 * u64::from(id - 1)),
        // The first model may lose some accuracy.
        accuracy_budget_ppm: if id == 1 { 1_000 } else { 0 },
        priority: 100,
        // The second model must stay on one device.
        devices: if id == 2 { vec![1] } else { (1..=DEVICES).collect() },
    };
    let host = |id: u32| HostInfo { id, name: format!("host-{id}"), is_self: id == 0 };
    WorldInfo {
        epoch: 1,
        hosts: (0..=PEERS).map(host).collect(),
        devices: (1..=DEVICES).map(device).collect(),
        models: (1..=MODELS).map(model).collect(),
        codecs: codecs(),
    }
}

fn codecs() -> Vec<CodecInfo> {
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
        codec(4, "int8", &[], false, false),
        codec(6, "jpeg", &[50, 95], false, true),
    ]
}

/// Stage times of models whose batch of 32 costs five times a single row, and what crosses their cuts; nothing is known
/// of the third model.
fn tables() -> Vec<Table> {
    let mut tables = vec![];
    for (model, device) in (1..MODELS).flat_map(|model| (1..=DEVICES).map(move |device| (model, device))) {
        let row_nanos = if device == 3 { 1e6 } else { 1e7 };
        let cost = |batch: f32, cut: u32| row_nanos * (0.87 + 0.13 * batch) * cut as f32 / (CUTS - 1) as f32;
        let values =
            [1.0, 2.0, 4.0, 8.0, 16.0, 32.0].iter().flat_map(|batch| (0..CUTS).map(move |cut| cost(*batch, cut)));
        let measured = device <= LOCAL_DEVICES + 1;
        let stage = table(model, device, 0, TableKind::StageNanos, vec![6, CUTS], values.collect());
        tables.push(Table { measured, ..stage });
    }
    for model in 1..MODELS {
        let bytes = [602_112.0, 3_211_264.0, 802_816.0, 401_408.0, 100_352.0, 4_000.0];
        tables.push(table(model, 0, 0, TableKind::CutBytes, vec![CUTS], bytes.to_vec()));
        tables.extend(codec_tables(model));
    }
    tables
}

fn codec_tables(model: u32) -> Vec<Table> {
    // (codec, bits by rate, loss in parts per million by rate)
    let known: [(u8, &[f32], &[f32]); 3] =
        [(1, &[22.0], &[]), (4, &[8.0], &[800.0]), (6, &[0.9, 3.4], &[9_000.0, 700.0])];
    let mut tables = vec![];
    for (codec, bits, losses) in known {
        let shape = vec![CUTS, bits.len() as u32];
        let each = |values: &[f32]| (0..CUTS).flat_map(|_| values.to_vec()).collect::<Vec<f32>>();
        tables.push(table(model, 0, codec, TableKind::CodecBits, shape.clone(), each(bits)));
        if !losses.is_empty() {
            tables.push(table(model, 0, codec, TableKind::CodecLossPpm, shape.clone(), each(losses)));
        }
        for device in 1..=DEVICES {
            let nanos = vec![300_000.0; shape.iter().product::<u32>() as usize];
            tables.push(table(model, device, codec, TableKind::EncodeNanos, shape.clone(), nanos.clone()));
            tables.push(table(model, device, codec, TableKind::DecodeNanos, shape.clone(), nanos));
        }
    }
    tables
}

fn table(model: u32, device: u32, codec: u8, kind: TableKind, shape: Vec<u32>, values: Vec<f32>) -> Table {
    Table { epoch: 1, model, device, codec, kind, measured: true, shape, values }
}

struct Maker {
    random: u64,
    clock: u64,
    next_id: u64,
}

impl Maker {
    fn below(&mut self, bound: u64) -> u64 {
        next(&mut self.random) % bound
    }

    /// Most are ordinary; one in ten or more is an edge.
    fn snapshot(&mut self, at: usize) -> Snapshot {
        self.clock += self.below(20 * MS);
        let mut now = Snapshot { now: Nanos(self.clock), world_epoch: 1, ..Snapshot::default() };
        now.trigger = [Trigger::Arrival, Trigger::Completion, Trigger::Timer][self.below(3) as usize];
        now.devices = (1..=DEVICES).map(|id| self.device(id)).collect();
        for peer in 1..=PEERS {
            now.links.extend([(0, peer), (peer, 0)].map(|(source, target)| self.link(source, target)));
        }
        // A host marks devices down that it cannot reach.
        for device in now.devices.iter_mut().filter(|device| device.id > LOCAL_DEVICES) {
            let host = host_of(device.id);
            device.up &= now.links.iter().all(|link| link.up || (link.source != host && link.target != host));
        }
        match at % 40 {
            0 => now.trigger = Trigger::Activation,
            4 => self.queue(&mut now, 1, 1_000_000, 0),
            8 => self.ordinary(&mut now).devices.iter_mut().for_each(|device| device.credits = 0),
            12 => self.ordinary(&mut now).devices.iter_mut().for_each(|device| device.up = false),
            16 => {
                self.clock += 3_600_000 * MS;
                self.ordinary(&mut now).now = Nanos(self.clock);
            }
            20 => (1..=bound::QUEUES as u32).for_each(|id| self.queue(&mut now, id, 40, 2)),
            24 => self.ordinary(&mut now).slacks.iter_mut().for_each(|slack| *slack = i64::MIN),
            28 => self.ordinary(&mut now).rows.iter_mut().for_each(|rows| *rows = 32),
            32 => self.extremes(&mut now),
            36 => now.devices.clear(),
            _ => drop(self.ordinary(&mut now)),
        }
        now
    }

    fn ordinary<'s>(&mut self, now: &'s mut Snapshot) -> &'s mut Snapshot {
        for model in 1..=MODELS {
            let waiting = self.below(48) as u32;
            if waiting > 0 {
                self.queue(now, model, waiting, self.random % 3);
            }
        }
        for _ in 0..self.below(6) {
            now.flight_tags.push(self.below(9));
            now.flight_stages.push(0);
            now.flight_devices.push(1 + self.below(u64::from(DEVICES)) as u32);
            now.flight_rows.push(1 + self.below(32) as u32);
        }
        now
    }

    fn extremes(&mut self, now: &mut Snapshot) {
        self.ordinary(now);
        now.now = Nanos::MAX;
        now.waits.iter_mut().for_each(|wait| *wait = u64::MAX);
        now.queues.iter_mut().for_each(|queue| {
            (queue.oldest_wait, queue.arrivals_per_second) = (Nanos::MAX, f32::MAX);
        });
        now.devices.iter_mut().for_each(|device| {
            (device.backlog, device.slowdown, device.age) = (Nanos::MAX, f32::MAX, Nanos::MAX);
        });
        let (model, from_cut, until_cut, device) = (1, 1, 2, 1);
        let (id, waiting_rows, oldest_wait, least_slack) = (1, u32::MAX, Nanos::MAX, i64::MIN);
        now.arrived.push(Arrived { id, model, from_cut, until_cut, device, waiting_rows, oldest_wait, least_slack });
    }

    fn device(&mut self, id: u32) -> Device {
        let running = self.below(3) as u32;
        Device {
            id,
            up: self.below(20) > 0,
            backlog: Nanos(u64::from(running) * self.below(40 * MS)),
            running,
            credits: 2 - running,
            memory_free: (id != 2).then_some(1 << 30),
            slowdown: 0.5 + self.below(100) as f32 / 50.0,
            age: Nanos(if id > LOCAL_DEVICES { self.below(100 * MS) } else { 0 }),
        }
    }

    fn link(&mut self, source: u32, target: u32) -> Link {
        Link {
            source,
            target,
            up: self.below(10) > 0,
            bytes_per_second: [1e8, 1e7, 1e6][self.below(3) as usize],
            rtt: Nanos(self.below(5 * MS)),
            backlog_bytes: self.below(1 << 20),
            age: Nanos(self.below(MS)),
        }
    }

    /// A queue of model (id - 1) % MODELS + 1. `deadlines`: 0 none, 1 some, 2 all, of which some have passed.
    fn queue(&mut self, now: &mut Snapshot, id: u32, waiting: u32, deadlines: u64) {
        let head_count = waiting.min(bound::QUEUE_HEAD as u32);
        let oldest = self.below(200 * MS);
        now.queues.push(Queue {
            id,
            model: (id - 1) % MODELS + 1,
            waiting,
            waiting_rows: waiting,
            oldest_wait: Nanos(oldest),
            arrivals_per_second: self.below(2_000) as f32,
            head_start: now.ids.len() as u32,
            head_count,
        });
        for _ in 0..head_count {
            let has_deadline = deadlines == 2 || (deadlines == 1 && self.below(2) == 0);
            now.ids.push(self.next_id);
            self.next_id += 1;
            now.rows.push(1 + u32::from(self.below(8) == 0) * self.below(4) as u32);
            now.waits.push(self.below(oldest + 1));
            now.slacks.push(if has_deadline { self.below(200 * MS) as i64 - 20 * MS as i64 } else { NO_DEADLINE });
            now.priorities.push([100, 100, 200][self.below(3) as usize]);
            now.attempts.push(u8::from(self.below(30) == 0));
            now.constraints.push(u8::from(self.below(10) == 0) * self.below(4) as u8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_corpus_and_another_another() {
        assert_eq!(Corpus::synthetic(7, 200), Corpus::synthetic(7, 200));
        assert_ne!(Corpus::synthetic(7, 200), Corpus::synthetic(8, 200));
    }

    #[test]
    fn every_edge_is_there() {
        let corpus = Corpus::synthetic(1, 1_000);
        let has = |edge: fn(&Snapshot) -> bool| corpus.snapshots.iter().any(edge);
        assert!(has(|now| now.queues.is_empty()));
        assert!(has(|now| now.queues.iter().any(|queue| queue.waiting > 100_000)));
        assert!(has(|now| now.queues.len() == bound::QUEUES));
        assert!(has(|now| now.devices.is_empty()));
        assert!(has(|now| !now.devices.is_empty() && now.devices.iter().all(|device| !device.up)));
        assert!(has(|now| now.slacks.contains(&i64::MIN)));
        assert!(has(|now| now.now == Nanos::MAX));
        assert!(has(|now| now.links.iter().any(|link| !link.up)) && has(|now| now.links.iter().all(|link| link.up)));
        let away =
            |now: &Snapshot| now.links.iter().filter(|l| !l.up).map(|l| l.source.max(l.target)).collect::<Vec<_>>();
        let reachable = |now: &Snapshot, d: &Device| !d.up || !away(now).contains(&host_of(d.id));
        assert!(corpus.snapshots.iter().all(|now| now.devices.iter().all(|device| reachable(now, device))));
        assert!(corpus.has_work());
    }

    #[test]
    fn columns_fit_the_queues() {
        for now in Corpus::synthetic(3, 1_000).snapshots {
            let heads: usize = now.queues.iter().map(|queue| queue.head_count as usize).sum();
            let columns = [now.ids.len(), now.rows.len(), now.waits.len(), now.slacks.len(), now.priorities.len()];
            assert!(columns.iter().all(|length| *length == heads));
            assert_eq!((now.attempts.len(), now.constraints.len()), (heads, heads));
        }
    }
}
