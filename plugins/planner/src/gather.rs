//! Batching on this host's own devices: keeps each busy with the batch that serves the waiting line best.
//!
//! An idle device gets a batch at once: at low load a request never waits for company. While a device is busy, requests
//! gather, and the next batch is handed over just before the device is free, when it is as large as it will get. So the
//! batch size follows the load by itself, up to the size that the deadlines allow.

use crate::{Aimd, Estimates, Line, choose_batch};
use bps_policy_sdk::{DecisionBuilder, DeviceRoom, ModelInfo, Nanos, QueueView, Room, World};

/// Waiting in front of an idle device is considered from so many arrivals within a one-row execution.
const ARRIVALS_WORTH_WAITING: f64 = 4.0;

/// Where a policy's reasons for batches stand in its manifest.
#[derive(Clone, Copy, Debug)]
pub struct Whys {
    /// The device was idle.
    pub idle: u32,
    /// The batch was full.
    pub full: u32,
    /// The device was about to be free.
    pub next: u32,
}

/// How batches are gathered.
#[derive(Clone, Copy, Debug)]
pub struct Gather {
    /// Most rows together; the model's own limit holds too.
    pub batch_max: u32,
    /// Part of a request's remaining time that a plan may use.
    pub slack_share: f64,
    /// A busy device gets its next batch this long before it is predicted to be free.
    pub lead: Nanos,
    /// Longest wait in front of an idle device, as part of a one-row execution.
    pub wait_share: f64,
    /// What to say.
    pub whys: Whys,
}

impl Gather {
    /// Most rows of a model that are run together.
    pub fn rows_max(&self, model: &ModelInfo) -> u32 {
        self.batch_max.min(model.batch_max).max(1)
    }

    /// Gives this host's devices batches of a queue until none should take more now.
    pub fn serve(
        &self,
        world: &World,
        estimates: &Estimates,
        queue: &QueueView<'_>,
        model: &ModelInfo,
        room: &mut Room,
        decision: &mut DecisionBuilder,
    ) {
        let devices = world.local_devices(model.id);
        let serving = Serving { gather: self, world, estimates, queue, model, devices };
        while room.free(devices).next().is_some() {
            let line = Line::of(queue, decision.taken(queue.id), model.slo, self.slack_share);
            if line.rows.is_empty() {
                if line.unseen > 0 {
                    // Devices have room for requests that this snapshot does not show: ask again with the next ones.
                    decision.wake_after(0);
                }
                return;
            }
            let Some(batch) = serving.next_batch(&line, room, decision) else { return };
            room.give(batch.device, batch.cost);
            let run = decision.run(queue).head(batch.count).why(batch.why);
            run.micro_batch(model.piece_rows(batch.rows)).on(batch.device, model.last_cut());
        }
    }

    /// The baseline: an idle device takes as many as its batch size says.
    #[expect(clippy::too_many_arguments, reason = "the same as `serve`, with the sizes")]
    pub fn serve_aimd(
        &self,
        world: &World,
        estimates: &Estimates,
        aimd: &Aimd,
        queue: &QueueView<'_>,
        model: &ModelInfo,
        (room, decision): (&mut Room, &mut DecisionBuilder),
        why: u32,
    ) {
        let devices = world.local_devices(model.id);
        let rows_max = self.rows_max(model);
        loop {
            let line = Line::of(queue, decision.taken(queue.id), 0, 1.0);
            let idle = room.free(devices).find(|device| device.running == 0).copied();
            let (Some(device), false) = (idle, line.rows.is_empty()) else { return };
            let (count, rows) = line.fit(aimd.rows(model.id, device.id, rows_max));
            room.give(device.id, estimates.nanos(world, model, device.id, device.slowdown, rows));
            let run = decision.run(queue).head(count).why(why);
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

/// One queue that is being served.
struct Serving<'a, 'q> {
    gather: &'a Gather,
    world: &'a World,
    estimates: &'a Estimates,
    queue: &'a QueueView<'q>,
    model: &'a ModelInfo,
    devices: &'a [u32],
}

impl Serving<'_, '_> {
    fn cost(&self, device: &DeviceRoom, rows: u32) -> Nanos {
        self.estimates.nanos(self.world, self.model, device.id, device.slowdown, rows)
    }

    /// The batch to hand over now, if any; what is worth waiting for becomes a wake-up.
    fn next_batch(&self, line: &Line, room: &Room, decision: &mut DecisionBuilder) -> Option<Batch> {
        let (rows_max, lead) = (self.gather.rows_max(self.model), self.gather.lead);
        let mut candidates: Vec<&DeviceRoom> = room.free(self.devices).collect();
        candidates.sort_by_key(|device| device.backlog.saturating_add(self.cost(device, line.rows[0])));
        for device in candidates {
            if device.running > 0 && device.backlog > lead && line.fit(rows_max).1 < rows_max {
                // It is busy, and the batch may still grow.
                decision.wake_after(device.backlog - lead);
                continue;
            }
            let share = self.share(device, line.rows_waiting(), room).min(rows_max);
            let start = if device.running == 0 { 0 } else { device.backlog };
            let (count, rows) = choose_batch(line, share, start, |rows| self.cost(device, rows));
            let batch = |why| Batch { device: device.id, count, rows, cost: self.cost(device, rows), why };
            if !self.is_worth_it(device, rows, line.rows_waiting(), room) {
                continue;
            }
            let whys = self.gather.whys;
            if device.running == 0 {
                match self.pause_in_front(line, rows, rows_max, self.cost(device, 1)) {
                    Some(pause) => decision.wake_after(pause),
                    None => return Some(batch(whys.idle)),
                }
            } else if rows >= rows_max {
                return Some(batch(whys.full));
            } else if device.backlog <= lead {
                return Some(batch(whys.next));
            } else {
                decision.wake_after(device.backlog - lead);
            }
        }
        None
    }

    /// How long to let requests gather in front of an idle device: only where several more arrive during a one-row
    /// execution, never longer than a tenth of one, and never where it would cost a deadline.
    fn pause_in_front(&self, line: &Line, rows: u32, rows_max: u32, row_cost: Nanos) -> Option<Nanos> {
        let wait_share = self.gather.wait_share;
        let arrivals = f64::from(self.queue.arrivals_per_second) * row_cost as f64 / 1e9;
        let pause_max = (row_cost as f64 * wait_share) as Nanos;
        let pause = pause_max.checked_sub(self.queue.oldest_wait).filter(|pause| *pause > 0)?;
        let tightest = line.budgets.iter().copied().min().unwrap_or(Nanos::MAX);
        let expected = arrivals * wait_share >= 0.5;
        let pays = arrivals >= ARRIVALS_WORTH_WAITING && expected && rows < rows_max && line.unseen == 0;
        let is_safe = tightest == Nanos::MAX || tightest > row_cost.saturating_mul(8);
        (pays && is_safe).then_some(pause)
    }

    /// The part of the waiting rows that an idle device should take, by its speed among the idle ones; all of them on a
    /// device that is busy.
    fn share(&self, device: &DeviceRoom, rows: u32, room: &Room) -> u32 {
        if device.running > 0 {
            return rows;
        }
        let speed = |device: &DeviceRoom| 1.0 / self.cost(device, 1).max(1) as f64;
        let all: f64 = room.free(self.devices).filter(|other| other.running == 0).map(speed).sum();
        ((f64::from(rows) * speed(device) / all).ceil() as u32).max(1)
    }

    /// Whether a device would be done with its batch before the others are done with everything: a slow device helps with
    /// a long queue and leaves a short one to the fast ones.
    fn is_worth_it(&self, device: &DeviceRoom, rows: u32, rows_waiting: u32, room: &Room) -> bool {
        let done = device.backlog.saturating_add(self.cost(device, rows));
        let others = room.up(self.devices).filter(|other| other.id != device.id);
        let drained = others.map(|other| other.backlog.saturating_add(self.cost(other, rows_waiting))).min();
        drained.is_none_or(|drained| done <= drained)
    }
}
