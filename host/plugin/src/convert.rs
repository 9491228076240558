//! Between `bps_types::policy` and the generated bindings, field by field. Columns and tables pass by slice; what is a
//! list of records is copied into scratch that is kept between calls.

use crate::bindings::bps::policy::types as wit;
use bps_types::Nanos;
use bps_types::policy as host;

/// Scratch for the record lists of a snapshot.
#[derive(Default)]
pub(crate) struct SnapshotScratch {
    queues: Vec<wit::Queue>,
    devices: Vec<wit::Device>,
    links: Vec<wit::Link>,
    arrived: Vec<wit::Arrived>,
}

impl SnapshotScratch {
    /// The snapshot as the guest call takes it.
    pub(crate) fn lower<'a>(&'a mut self, now: &'a host::Snapshot) -> wit::Snapshot<'a> {
        refill(&mut self.queues, &now.queues, queue);
        refill(&mut self.devices, &now.devices, device);
        refill(&mut self.links, &now.links, link);
        refill(&mut self.arrived, &now.arrived, arrived);
        wit::Snapshot {
            now: now.now.0,
            trigger: trigger(now.trigger),
            world_epoch: now.world_epoch,
            queues: &self.queues,
            devices: &self.devices,
            links: &self.links,
            arrived: &self.arrived,
            ids: &now.ids,
            rows: &now.rows,
            waits: &now.waits,
            slacks: &now.slacks,
            priorities: &now.priorities,
            attempts: &now.attempts,
            constraints: &now.constraints,
            flight_tags: &now.flight_tags,
            flight_stages: &now.flight_stages,
            flight_devices: &now.flight_devices,
            flight_rows: &now.flight_rows,
        }
    }
}

fn refill<H, W>(scratch: &mut Vec<W>, from: &[H], convert: fn(&H) -> W) {
    scratch.clear();
    scratch.extend(from.iter().map(convert));
}

fn trigger(trigger: host::Trigger) -> wit::Trigger {
    match trigger {
        host::Trigger::Arrival => wit::Trigger::Arrival,
        host::Trigger::Completion => wit::Trigger::Completion,
        host::Trigger::Timer => wit::Trigger::Timer,
        host::Trigger::Change => wit::Trigger::Change,
        host::Trigger::Activation => wit::Trigger::Activation,
    }
}

fn queue(from: &host::Queue) -> wit::Queue {
    wit::Queue {
        id: from.id,
        model: from.model,
        waiting: from.waiting,
        waiting_rows: from.waiting_rows,
        oldest_wait: from.oldest_wait.0,
        arrivals_per_second: from.arrivals_per_second,
        head_start: from.head_start,
        head_count: from.head_count,
    }
}

fn device(from: &host::Device) -> wit::Device {
    wit::Device {
        id: from.id,
        up: from.up,
        backlog: from.backlog.0,
        running: from.running,
        credits: from.credits,
        memory_free: from.memory_free,
        slowdown: from.slowdown,
        age: from.age.0,
    }
}

fn link(from: &host::Link) -> wit::Link {
    wit::Link {
        source: from.source,
        target: from.target,
        up: from.up,
        bytes_per_second: from.bytes_per_second,
        rtt: from.rtt.0,
        backlog_bytes: from.backlog_bytes,
        age: from.age.0,
    }
}

fn arrived(from: &host::Arrived) -> wit::Arrived {
    wit::Arrived {
        id: from.id,
        model: from.model,
        from_cut: from.from_cut,
        until_cut: from.until_cut,
        device: from.device,
        waiting_rows: from.waiting_rows,
        oldest_wait: from.oldest_wait.0,
        least_slack: from.least_slack,
    }
}

/// The decision as the scheduler takes it.
pub(crate) fn decision(from: wit::Decision) -> host::Decision {
    host::Decision {
        dispatches: from.dispatches.into_iter().map(dispatch).collect(),
        joins: from
            .joins
            .into_iter()
            .map(|join| host::Join { arrived: join.arrived, take_rows: join.take_rows })
            .collect(),
        shed: from.shed,
        wake_after: from.wake_after.map(Nanos),
    }
}

fn dispatch(from: wit::Dispatch) -> host::Dispatch {
    host::Dispatch {
        queue: from.queue,
        requests: match from.requests {
            wit::Selection::Head(count) => host::Selection::Head(count),
            wit::Selection::These(ids) => host::Selection::These(ids),
        },
        stages: from.stages.into_iter().map(stage).collect(),
        micro_batch: from.micro_batch,
        tag: from.tag,
        why: from.why,
    }
}

fn stage(from: wit::Stage) -> host::Stage {
    host::Stage { device: from.device, until_cut: from.until_cut, codec: from.codec, rate: from.rate }
}

/// The lists of a world, converted; `lower` borrows them.
pub(crate) struct WorldLists<'a> {
    epoch: u32,
    hosts: Vec<wit::HostInfo<'a>>,
    devices: Vec<wit::DeviceInfo<'a>>,
    models: Vec<wit::ModelInfo<'a>>,
    codecs: Vec<wit::CodecInfo<'a>>,
}

impl<'a> WorldLists<'a> {
    pub(crate) fn new(from: &'a host::WorldInfo) -> Self {
        Self {
            epoch: from.epoch,
            hosts: from.hosts.iter().map(host_info).collect(),
            devices: from.devices.iter().map(device_info).collect(),
            models: from.models.iter().map(model_info).collect(),
            codecs: from.codecs.iter().map(codec_info).collect(),
        }
    }

    pub(crate) fn lower(&'a self) -> wit::WorldInfo<'a> {
        wit::WorldInfo {
            epoch: self.epoch,
            hosts: &self.hosts,
            devices: &self.devices,
            models: &self.models,
            codecs: &self.codecs,
        }
    }
}

fn host_info(from: &host::HostInfo) -> wit::HostInfo<'_> {
    wit::HostInfo { id: from.id, name: &from.name, is_self: from.is_self }
}

fn device_info(from: &host::DeviceInfo) -> wit::DeviceInfo<'_> {
    let kind = match from.kind {
        host::DeviceKind::Cpu => wit::DeviceKind::Cpu,
        host::DeviceKind::Gpu => wit::DeviceKind::Gpu,
        host::DeviceKind::Software => wit::DeviceKind::Software,
    };
    wit::DeviceInfo { id: from.id, host: from.host, name: &from.name, kind, memory_bytes: from.memory_bytes }
}

fn model_info(from: &host::ModelInfo) -> wit::ModelInfo<'_> {
    wit::ModelInfo {
        id: from.id,
        name: &from.name,
        cut_count: from.cut_count,
        input_bytes: from.input_bytes,
        output_bytes: from.output_bytes,
        batch_max: from.batch_max,
        slo: from.slo.0,
        accuracy_budget_ppm: from.accuracy_budget_ppm,
        priority: from.priority,
        devices: &from.devices,
    }
}

fn codec_info(from: &host::CodecInfo) -> wit::CodecInfo<'_> {
    wit::CodecInfo {
        id: from.id,
        name: &from.name,
        rates: &from.rates,
        lossless: from.lossless,
        for_input: from.for_input,
    }
}

/// A table as the guest call takes it.
pub(crate) fn table(from: &host::Table) -> wit::Table<'_> {
    wit::Table {
        epoch: from.epoch,
        model: from.model,
        device: from.device,
        codec: from.codec,
        kind: table_kind(from.kind),
        measured: from.measured,
        shape: &from.shape,
        values: &from.values,
    }
}

fn table_kind(kind: host::TableKind) -> wit::TableKind {
    match kind {
        host::TableKind::StageNanos => wit::TableKind::StageNanos,
        host::TableKind::CutBytes => wit::TableKind::CutBytes,
        host::TableKind::CodecBits => wit::TableKind::CodecBits,
        host::TableKind::CodecLossPpm => wit::TableKind::CodecLossPpm,
        host::TableKind::EncodeNanos => wit::TableKind::EncodeNanos,
        host::TableKind::DecodeNanos => wit::TableKind::DecodeNanos,
    }
}

/// An outcome as the guest call takes it.
pub(crate) fn outcome(from: &host::Outcome) -> wit::Outcome<'_> {
    wit::Outcome {
        tag: from.tag,
        generation: from.generation,
        model: from.model,
        rows: from.rows,
        wait: from.wait.0,
        total: from.total.0,
        bytes: from.bytes,
        stage_nanos: &from.stage_nanos,
        stage_devices: &from.stage_devices,
        missed: from.missed,
        failed: from.failed,
    }
}

/// The origin of a state as the guest call takes it.
pub(crate) fn origin(from: &host::Origin) -> wit::Origin<'_> {
    wit::Origin { name: &from.name, version: &from.version, state_schema: &from.state_schema }
}

/// The manifest as the host keeps it.
pub(crate) fn manifest(from: wit::Manifest) -> host::Manifest {
    host::Manifest {
        name: from.name,
        version: from.version,
        summary: from.summary,
        config_schema: from.config_schema,
        state_schema: from.state_schema,
        reasons: from.reasons,
    }
}
