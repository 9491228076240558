//! The policy: keeps each device busy with the batch that serves the waiting line best.
//!
//! An idle device gets a batch at once: at low load a request never waits for company. While a device is busy, requests
//! gather, and the next batch is handed over just before the device is free, when it is as large as it will get. So the
//! batch size follows the load by itself, up to the size that the deadlines allow.

use crate::aimd::Aimd;
use crate::choose::{Line, choose_batch};
use crate::config::{self, Config, Mode};
use crate::estimate::Estimates;
use crate::state::{self, State};
use bps_policy_sdk::{
    ConfigError, Decision, DecisionBuilder, DeviceRoom, Manifest, ModelInfo, Nanos, Origin, Outcome, Policy, QueueView,
    Room, Snapshot, Table, TableKind, World, WorldInfo, metric,
};

/// Indices into the manifest's reasons.
const WHY_IDLE: u32 = 0;
const WHY_FULL: u32 = 1;
const WHY_NEXT: u32 = 2;
const WHY_AIMD: u32 = 3;

/// Waiting in front of an idle device is considered from so many arrivals within a one-row execution.
const ARRIVALS_WORTH_WAITING: f64 = 4.0;

/// The policy and what it has learned.
#[derive(Debug)]
pub struct Batching {
    config: Config,
    world: World,
    estimates: Estimates,
    aimd: Aimd,
}

impl Policy for Batching {
    fn manifest() -> Manifest {
        Manifest {
            name: "batching".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: "Batch size and wait chosen from measured costs, arrivals and deadlines.".into(),
            config_schema: config::SCHEMA.into(),
            state_schema: state::SCHEMA.into(),
            reasons: ["idle device", "full batch", "device about to be free", "aimd batch size"]
                .map(String::from)
                .into(),
        }
    }

    fn configure(config: &str, _seed: u64) -> Result<Self, ConfigError> {
        let config = Config::parse(config)?;
        Ok(Self { config, world: World::default(), estimates: Estimates::default(), aimd: Aimd::default() })
    }

    fn world_changed(&mut self, now: WorldInfo) {
        let learned = State::collect(&self.world, &self.estimates, &self.aimd);
        self.world.replace(now);
        (self.estimates, self.aimd) = learned.apply(&self.world);
    }

    fn table_changed(&mut self, now: Table) {
        // A measured table is newer than what was learned on top of its predecessor; the same one again is not.
        let known = self.world.costs().table(now.model, now.device, now.codec, now.kind);
        if now.kind == TableKind::StageNanos && known.is_some_and(|known| known.values != now.values) {
            self.estimates.forget(now.model, now.device);
        }
        self.world.insert(now);
    }

    fn decide(&mut self, now: &Snapshot) -> Decision {
        let mut decision = DecisionBuilder::new();
        let mut room = Room::of(now);
        for queue in now.queues_by_urgency() {
            let Some(model) = self.world.model(queue.model) else { continue };
            match self.config.mode {
                Mode::Adaptive => self.serve(&queue, model, &mut room, &mut decision),
                Mode::Aimd => self.serve_aimd(&queue, model, &mut room, &mut decision),
            }
        }
        decision.finish()
    }

    fn observe(&mut self, outcomes: &[Outcome], _dropped: u32) {
        for outcome in outcomes {
            self.estimates.learn(&self.world, outcome);
            if let Some(model) = self.world.model(outcome.model).filter(|_| self.config.mode == Mode::Aimd) {
                let latency = if model.slo > 0 { model.slo } else { (self.config.latency_ms * 1e6) as Nanos };
                self.aimd.learn(outcome, latency, self.config.batch_max.min(model.batch_max));
            }
        }
        if let Some(newest) = outcomes.last() {
            metric(0, f64::from(newest.rows));
        }
    }

    fn save(&mut self) -> Result<Vec<u8>, String> {
        let state = State::collect(&self.world, &self.estimates, &self.aimd);
        serde_json::to_vec(&state).map_err(|error| error.to_string())
    }

    fn restore(&mut self, origin: &Origin, blob: &[u8]) -> Result<bool, String> {
        if origin.state_schema != state::SCHEMA {
            return Ok(false);
        }
        let state: State = serde_json::from_slice(blob).map_err(|error| error.to_string())?;
        (self.estimates, self.aimd) = state.apply(&self.world);
        Ok(true)
    }
}

impl Batching {
    /// Gives devices batches of this queue until none should take more now.
    fn serve(&self, queue: &QueueView<'_>, model: &ModelInfo, room: &mut Room, decision: &mut DecisionBuilder) {
        let devices = self.world.local_devices(model.id);
        while room.free(devices).next().is_some() {
            let line = Line::of(queue, decision.taken(queue.id), model.slo, self.config.slack_share);
            if line.rows.is_empty() {
                if line.unseen > 0 {
                    // Devices have room for requests that this snapshot does not show: ask again with the next ones.
                    decision.wake_after(0);
                }
                return;
            }
            match self.next_batch(queue, &line, model, room, decision) {
                Some(batch) => {
                    room.give(batch.device, batch.cost);
                    let run = decision.run(queue).head(batch.count).why(batch.why);
                    run.micro_batch(model.piece_rows(batch.rows)).on(batch.device, model.last_cut());
                }
                None => return,
            }
        }
    }

    /// The batch to hand over now, if any; what is worth waiting for becomes a wake-up.
    fn next_batch(
        &self,
        queue: &QueueView<'_>,
        line: &Line,
        model: &ModelInfo,
        room: &Room,
        decision: &mut DecisionBuilder,
    ) -> Option<Batch> {
        let devices = self.world.local_devices(model.id);
        let rows_max = self.config.batch_max.min(model.batch_max).max(1);
        let lead = self.config.lead_us * 1_000;
        let cost =
            |device: &DeviceRoom, rows| self.estimates.nanos(&self.world, model, device.id, device.slowdown, rows);
        let mut candidates: Vec<&DeviceRoom> = room.free(devices).collect();
        candidates.sort_by_key(|device| device.backlog.saturating_add(cost(device, line.rows[0])));
        for device in candidates {
            if device.running > 0 && device.backlog > lead && line.fit(rows_max).1 < rows_max {
                // It is busy, and the batch may still grow.
                decision.wake_after(device.backlog - lead);
                continue;
            }
            let of_device = |rows| cost(device, rows);
            let share = share(device, line.rows_waiting(), room, devices, &cost).min(rows_max);
            let start = if device.running == 0 { 0 } else { device.backlog };
            let (count, rows) = choose_batch(line, share, start, of_device);
            let batch = |why| Batch { device: device.id, count, rows, cost: of_device(rows), why };
            if !is_worth_it(device, rows, line.rows_waiting(), room, devices, &cost) {
                continue;
            }
            if device.running == 0 {
                match self.pause_in_front(queue, line, rows, rows_max, of_device(1)) {
                    Some(pause) => decision.wake_after(pause),
                    None => return Some(batch(WHY_IDLE)),
                }
            } else if rows >= rows_max {
                return Some(batch(WHY_FULL));
            } else if device.backlog <= lead {
                return Some(batch(WHY_NEXT));
            } else {
                decision.wake_after(device.backlog - lead);
            }
        }
        None
    }

    /// How long to let requests gather in front of an idle device: only where several more arrive during a one-row
    /// execution, never longer than a tenth of one, and never where it would cost a deadline.
    fn pause_in_front(
        &self,
        queue: &QueueView<'_>,
        line: &Line,
        rows: u32,
        rows_max: u32,
        row_cost: Nanos,
    ) -> Option<Nanos> {
        let arrivals = f64::from(queue.arrivals_per_second) * row_cost as f64 / 1e9;
        let pause_max = (row_cost as f64 * self.config.wait_share) as Nanos;
        let pause = pause_max.checked_sub(queue.oldest_wait).filter(|pause| *pause > 0)?;
        let tightest = line.budgets.iter().copied().min().unwrap_or(Nanos::MAX);
        let expected = arrivals * self.config.wait_share >= 0.5;
        let pays = arrivals >= ARRIVALS_WORTH_WAITING && expected && rows < rows_max && line.unseen == 0;
        let is_safe = tightest == Nanos::MAX || tightest > row_cost.saturating_mul(8);
        (pays && is_safe).then_some(pause)
    }

    /// The baseline: an idle device takes as many as its batch size says.
    fn serve_aimd(&self, queue: &QueueView<'_>, model: &ModelInfo, room: &mut Room, decision: &mut DecisionBuilder) {
        let devices = self.world.local_devices(model.id);
        let rows_max = self.config.batch_max.min(model.batch_max).max(1);
        loop {
            let line = Line::of(queue, decision.taken(queue.id), 0, 1.0);
            let idle = room.free(devices).find(|device| device.running == 0).copied();
            let (Some(device), false) = (idle, line.rows.is_empty()) else { return };
            let (count, rows) = line.fit(self.aimd.rows(model.id, device.id, rows_max));
            room.give(device.id, self.estimates.nanos(&self.world, model, device.id, device.slowdown, rows));
            let run = decision.run(queue).head(count).why(WHY_AIMD);
            run.micro_batch(model.piece_rows(rows)).on(device.id, model.last_cut());
        }
    }
}

/// A batch for a device.
struct Batch {
    device: u32,
    count: u32,
    rows: u32,
    cost: Nanos,
    why: u32,
}

/// The part of the waiting rows that an idle device should take, by its speed among the idle ones; all of them on a
/// device that is busy.
fn share(
    device: &DeviceRoom,
    rows: u32,
    room: &Room,
    devices: &[u32],
    cost: &impl Fn(&DeviceRoom, u32) -> Nanos,
) -> u32 {
    if device.running > 0 {
        return rows;
    }
    let speed = |device: &DeviceRoom| 1.0 / cost(device, 1).max(1) as f64;
    let all: f64 = room.free(devices).filter(|other| other.running == 0).map(speed).sum();
    ((f64::from(rows) * speed(device) / all).ceil() as u32).max(1)
}

/// Whether a device would be done with its batch before the others are done with everything: a slow device helps with a
/// long queue and leaves a short one to the fast ones.
fn is_worth_it(
    device: &DeviceRoom,
    rows: u32,
    rows_waiting: u32,
    room: &Room,
    devices: &[u32],
    cost: &impl Fn(&DeviceRoom, u32) -> Nanos,
) -> bool {
    let done = device.backlog.saturating_add(cost(device, rows));
    let others = room.up(devices).filter(|other| other.id != device.id);
    let drained = others.map(|other| other.backlog.saturating_add(cost(other, rows_waiting))).min();
    drained.is_none_or(|drained| done <= drained)
}

#[cfg(test)]
mod tests;
