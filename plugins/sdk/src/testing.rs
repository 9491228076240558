//! Small worlds and snapshots for the native unit tests of policies.

use crate::{
    Device, DeviceInfo, DeviceKind, HostInfo, ModelInfo, NO_DEADLINE, Nanos, Outcome, Queue, Snapshot, Table,
    TableKind, Trigger, WorldInfo,
};

/// A world of this machine only: the models `(id, name)` with two cuts and batches of up to 32, and the devices
/// 1 to `device_count`, each open to each model.
pub fn world(models: &[(u32, &str)], device_count: u32) -> WorldInfo {
    let devices: Vec<u32> = (1..=device_count).collect();
    WorldInfo {
        epoch: 1,
        hosts: vec![HostInfo { id: 0, name: "here".into(), is_self: true }],
        devices: devices.iter().map(|id| device_info(*id)).collect(),
        models: models.iter().map(|(id, name)| model_info(*id, name, &devices)).collect(),
        codecs: vec![],
    }
}

fn device_info(id: u32) -> DeviceInfo {
    DeviceInfo { id, host: 0, name: format!("cpu:{id}"), kind: DeviceKind::Cpu, memory_bytes: None }
}

fn model_info(id: u32, name: &str, devices: &[u32]) -> ModelInfo {
    ModelInfo {
        id,
        name: name.into(),
        cut_count: 2,
        input_bytes: 1,
        output_bytes: 1,
        batch_max: 32,
        slo: 0,
        accuracy_budget_ppm: 0,
        priority: 100,
        devices: devices.to_vec(),
    }
}

/// An up device.
pub fn device(id: u32, backlog: Nanos, credits: u32) -> Device {
    let running = u32::from(backlog > 0);
    Device { id, up: true, backlog, running, credits, memory_free: None, slowdown: 1.0, age: 0 }
}

/// A snapshot with the queues `(id, waiting)`, each of the model with its id, all requests of one row and no deadline;
/// request `k` of queue `q` has the id `100 * q + k`.
pub fn snapshot(queues: &[(u32, u32)], devices: Vec<Device>) -> Snapshot {
    let mut now = Snapshot {
        now: 1_000_000_000,
        trigger: Trigger::Arrival,
        world_epoch: 1,
        queues: vec![],
        devices,
        links: vec![],
        arrived: vec![],
        ids: vec![],
        rows: vec![],
        waits: vec![],
        slacks: vec![],
        priorities: vec![],
        attempts: vec![],
        constraints: vec![],
        flight_tags: vec![],
        flight_stages: vec![],
        flight_devices: vec![],
        flight_rows: vec![],
    };
    for (id, waiting) in queues {
        add_queue(&mut now, *id, *waiting);
    }
    now
}

fn add_queue(now: &mut Snapshot, id: u32, waiting: u32) {
    let head_count = waiting.min(32);
    now.queues.push(Queue {
        id,
        model: id,
        waiting,
        waiting_rows: waiting,
        oldest_wait: 0,
        arrivals_per_second: 0.0,
        head_start: now.ids.len() as u32,
        head_count,
    });
    for at in 0..head_count {
        now.ids.push(u64::from(100 * id + at));
        now.rows.push(1);
        now.waits.push(0);
        now.slacks.push(NO_DEADLINE);
        now.priorities.push(100);
        now.attempts.push(0);
        now.constraints.push(0);
    }
}

/// A whole-model cost table: nanoseconds at the batch sizes 1, 2, 4, 8, 16, 32 (as many as given).
pub fn stage_table(model: u32, device: u32, nanos: &[f32]) -> Table {
    Table {
        epoch: 1,
        model,
        device,
        codec: 0,
        kind: TableKind::StageNanos,
        measured: true,
        shape: vec![nanos.len() as u32, 2],
        values: nanos.iter().flat_map(|nanos| [0.0, *nanos]).collect(),
    }
}

/// The good end of an execution of a whole model on one device.
pub fn outcome(model: u32, device: u32, rows: u32, nanos: Nanos) -> Outcome {
    Outcome {
        tag: 0,
        generation: 1,
        model,
        rows,
        wait: 0,
        total: nanos,
        bytes: 0,
        stage_nanos: vec![nanos],
        stage_devices: vec![device],
        missed: 0,
        failed: 0,
    }
}
