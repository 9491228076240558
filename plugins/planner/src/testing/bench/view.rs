//! What a run looks like to its policy, and what things cost in it.

use super::{BACK, Bench, CREDITS, HERE, Load, PARTS, TAIL, THERE, WINDOW};
use crate::testing::{LOCAL, MODEL, REMOTE};
use bps_policy_sdk::testing::{device, snapshot};
use bps_policy_sdk::{Link, Nanos, Policy, Snapshot, Stage, Trigger};

impl<P: Policy> Bench<P> {
    /// What each part takes, the bytes of the way there, and what encoding takes where no device here has a part in it.
    pub(super) fn costs(&self, stages: &[Stage], rows: u32) -> ([f64; PARTS], f64, f64) {
        let (costs, count) = (self.world.costs(), f64::from(rows));
        let (mut spans, mut from, mut sent, mut before) = ([0.0; PARTS], 0, 0.0, 0.0);
        for stage in stages {
            let nanos = costs.stage_nanos(MODEL, stage.device, rows, from, stage.until_cut).unwrap_or(0) as f64;
            if stage.device == LOCAL {
                spans[HERE] = nanos * self.truth[0];
            } else {
                let codec = self.world.codecs().iter().find(|codec| codec.id == stage.codec);
                let column =
                    codec.and_then(|codec| codec.rates.iter().position(|rate| *rate == stage.rate)).unwrap_or(0);
                let coded = |nanos: f32| f64::from(nanos) * count;
                let encode = coded(costs.encode_nanos(MODEL, LOCAL, stage.codec, from, column));
                let bytes = costs.crossing_bytes(MODEL, stage.codec, from, column).unwrap_or(0.0);
                let bytes_per_nano = self.cell.net.mbit / 8e3;
                sent = f64::from(bytes) * count;
                if from == 0 {
                    before = encode;
                } else {
                    spans[HERE] += encode;
                }
                spans[THERE] += sent / bytes_per_nano;
                spans[TAIL] =
                    nanos * self.truth[1] + coded(costs.decode_nanos(MODEL, REMOTE, stage.codec, from, column));
                let output = self.world.model(MODEL).map_or(0, |model| model.output_bytes);
                spans[BACK] = output as f64 * count / bytes_per_nano;
            }
            from = stage.until_cut;
        }
        (spans, sent, before)
    }

    pub(super) fn check(&self, stages: &[Stage], count: usize, micro_batch: u32) -> Result<(), String> {
        let last = self.world.model(MODEL).map_or(0, |model| model.last_cut());
        let at_once = if micro_batch == 0 { count } else { count.min(micro_batch as usize) };
        if count == 0 || at_once > 32 || stages.last().map(|stage| stage.until_cut) != Some(last) {
            return Err(format!("{count} requests at once along {stages:?}"));
        }
        for stage in stages {
            if self.credits(stage.device) == 0 || (stage.device == REMOTE && !self.link_up) {
                return Err(format!("no room for {stages:?}"));
            }
        }
        Ok(())
    }

    pub(super) fn credits(&self, device: u32) -> u32 {
        let side = usize::from(device == REMOTE);
        let held = self.open.values().filter(|open| open[side] > 0).count() as u32;
        [CREDITS, WINDOW][side].saturating_sub(held)
    }

    pub(super) fn backlog(&self, part: usize) -> Nanos {
        let mut sum = 0.0;
        for (place, id) in self.lines[part].iter().enumerate() {
            let Some(piece) = self.pieces.get(id) else { continue };
            let passed = if place == 0 { (self.now - piece.began) as f64 } else { 0.0 };
            sum += (piece.spans[part] - passed).max(0.0);
        }
        sum as Nanos
    }

    pub(super) fn snapshot(&self, trigger: Trigger) -> Snapshot {
        let devices = [(LOCAL, HERE), (REMOTE, TAIL)].map(|(id, part)| {
            // What is on its way to the other host counts as its, as it does for the real one.
            let coming = self.pieces.iter().filter(|(at, piece)| piece.away && !self.lines[TAIL].contains(at));
            let coming: Vec<f64> = coming.map(|(_, piece)| piece.spans[TAIL]).collect();
            let (nanos, count) = if part == TAIL { (coming.iter().sum(), coming.len()) } else { (0.0, 0) };
            let mut standing = device(id, self.backlog(part) + nanos as Nanos, self.credits(id));
            standing.running = (self.lines[part].len() + count) as u32;
            standing.up = id == LOCAL || self.link_up;
            standing.slowdown = self.truth[usize::from(id == REMOTE)] as f32;
            standing
        });
        let mut now = snapshot(&[(MODEL, self.waiting.len() as u32)], devices.to_vec());
        (now.now, now.trigger) = (self.now, trigger);
        for (at, (id, asked)) in self.waiting.iter().take(32).enumerate() {
            (now.ids[at], now.waits[at]) = (*id, self.now - asked);
        }
        let recent = self.answered.iter().filter(|(at, _)| *at + 1_000_000_000 > self.now).count();
        now.queues[0].oldest_wait = now.waits[0];
        now.queues[0].arrivals_per_second = match self.load {
            Load::Clients(_) => recent as f32,
            Load::Every(span) => 1e9 / span as f32,
        };
        for (source, target, part) in [(0, 1, THERE), (1, 0, BACK)] {
            let bytes_per_second = (self.cell.net.mbit * 1e6 / 8.0) as f32;
            let backlog_bytes = (self.backlog(part) as f64 * f64::from(bytes_per_second) / 1e9) as u64;
            let (up, rtt, age) = (self.link_up, (self.cell.net.rtt_ms * 1e6) as Nanos, 0);
            now.links.push(Link { source, target, up, bytes_per_second, rtt, backlog_bytes, age });
        }
        for piece in self.pieces.values() {
            now.flight_tags.push(piece.tag);
            now.flight_stages.push(piece.stage);
            now.flight_devices.push(piece.stages[usize::from(piece.stage)].device);
            now.flight_rows.push(piece.requests.len() as u32);
        }
        now
    }
}
