//! Builds what a policy may see.

use crate::arrivals::Arrivals;
use crate::flight::{DeviceState, Flights};
use crate::links::Links;
use crate::queue::Queues;
use bps_types::policy::{Device, NO_DEADLINE, Queue, Snapshot, Trigger, bound};
use bps_types::{DeviceId, Nanos};
use indexmap::IndexMap;

/// What a snapshot is made of.
pub(crate) struct View<'a> {
    pub(crate) queues: &'a Queues,
    pub(crate) devices: &'a IndexMap<DeviceId, DeviceState>,
    pub(crate) flights: &'a Flights,
    pub(crate) links: &'a Links,
    pub(crate) arrivals: &'a Arrivals,
    pub(crate) world_epoch: u32,
    pub(crate) device_credits: u32,
}

/// Fills `out`, keeping its allocations.
pub(crate) fn fill(out: &mut Snapshot, view: &View<'_>, trigger: Trigger, now: Nanos) {
    clear(out);
    out.now = now;
    out.trigger = trigger;
    out.world_epoch = view.world_epoch;
    fill_queues(out, view.queues, now);
    out.devices.extend(view.devices.iter().map(|(id, d)| Device {
        id: id.0,
        up: d.takes_work(now),
        backlog: d.backlog(now),
        running: d.running(),
        credits: d.credits(now, view.device_credits),
        memory_free: d.memory_free,
        slowdown: d.slowdown,
        age: d.age(now),
    }));
    view.links.fill(&mut out.links, now);
    view.arrivals.fill(&mut out.arrived, now);
    for flight in view.flights.iter() {
        out.flight_tags.push(flight.plan.tag);
        out.flight_stages.push(flight.stage as u8);
        out.flight_devices.push(flight.plan.stages[flight.stage].device.0);
        out.flight_rows.push(flight.rows);
    }
}

fn fill_queues(out: &mut Snapshot, queues: &Queues, now: Nanos) {
    for queue in queues.iter().filter(|q| q.len() > 0).take(bound::QUEUES) {
        let head_start = out.ids.len() as u32;
        for waiting in queue.iter().take(bound::QUEUE_HEAD) {
            let request = &waiting.request;
            out.ids.push(request.id.0);
            out.rows.push(request.rows);
            out.waits.push(now.since(waiting.arrived).0);
            out.slacks.push(request.deadline.map_or(NO_DEADLINE, |d| d.signed_since(now)));
            out.priorities.push(request.priority);
            out.attempts.push(waiting.attempts);
            out.constraints.push(request.constraints);
        }
        out.queues.push(Queue {
            id: queue.id.0,
            model: queue.model.0,
            waiting: queue.len() as u32,
            waiting_rows: queue.rows.min(u64::from(u32::MAX)) as u32,
            oldest_wait: queue.oldest().map_or(Nanos::ZERO, |arrived| now.since(arrived)),
            arrivals_per_second: queue.arrivals.at(now) as f32,
            head_start,
            head_count: out.ids.len() as u32 - head_start,
        });
    }
}

fn clear(out: &mut Snapshot) {
    let Snapshot {
        now: _,
        trigger: _,
        world_epoch: _,
        queues,
        devices,
        links,
        arrived,
        ids,
        rows,
        waits,
        slacks,
        priorities,
        attempts,
        constraints,
        flight_tags,
        flight_stages,
        flight_devices,
        flight_rows,
    } = out;
    queues.clear();
    devices.clear();
    links.clear();
    arrived.clear();
    ids.clear();
    rows.clear();
    waits.clear();
    slacks.clear();
    priorities.clear();
    attempts.clear();
    constraints.clear();
    flight_tags.clear();
    flight_stages.clear();
    flight_devices.clear();
    flight_rows.clear();
}
