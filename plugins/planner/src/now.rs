//! The present in the terms of lanes: when each device and each direction of each link is free, and how fast it is.

use crate::estimate::sane;
use crate::{Estimates, Tag};
use bps_policy_sdk::{Nanos, Room, Snapshot, TABLE_BATCHES, World};

/// A device, as a plan sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceNow {
    /// `Device::id`.
    pub id: u32,
    /// Its host; none for a device of this one.
    pub host: Option<u32>,
    /// It takes work and can be reached, as far as is known.
    pub usable: bool,
    /// Dispatches it still takes.
    pub credits: u32,
    /// Executions it holds.
    pub running: u32,
    /// Nanoseconds until what it has been given is done.
    pub free_in: f64,
    /// What will come to it from heads that still run.
    pub coming: Coming,
    /// The host's own correction; exactly 1 until something has run there.
    pub slowdown: f32,
    /// Real over tabled time, by batch size.
    pub factors: [f64; TABLE_BATCHES.len()],
}

/// The way to another host and back.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkNow {
    /// The other host.
    pub host: u32,
    /// Bytes a nanosecond on the way there.
    pub up: f64,
    /// Bytes a nanosecond on the way back.
    pub down: f64,
    /// Nanoseconds there and back.
    pub rtt: f64,
    /// Nanoseconds until what has been accepted for the way there is delivered.
    pub up_free_in: f64,
    /// The same for the way back.
    pub down_free_in: f64,
    /// What will come to the way there from heads that still run.
    pub coming: Coming,
}

/// Work that will come: in how many nanoseconds, and how many it takes; soonest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Coming(Vec<(f64, f64)>);

impl Coming {
    /// More of it.
    pub fn add(&mut self, at: f64, nanos: f64) {
        let place = self.0.partition_point(|known| known.0 <= at);
        self.0.insert(place, (at, nanos));
    }

    /// When something begins that is there `at`, where all that was there before is done first. `free_in` is when what is
    /// there already is done.
    pub fn start(&self, free_in: f64, at: f64) -> f64 {
        let before = self.0.iter().take_while(|known| known.0 <= at);
        before.fold(free_in, |free, (reach, nanos)| free.max(*reach) + nanos).max(at)
    }

    /// All of it on top of what is there already, whenever it comes.
    pub fn total(&self, free_in: f64) -> f64 {
        free_in + self.0.iter().map(|(_, nanos)| nanos).sum::<f64>()
    }
}

/// Devices and usable links. What cannot be used is either marked so or not there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Now {
    /// As the snapshot lists them.
    pub devices: Vec<DeviceNow>,
    /// Links that are up, both ways, with recent estimates.
    pub links: Vec<LinkNow>,
}

impl Now {
    /// From a snapshot. What was last heard of longer than `stale` ago counts as down: nothing is to wait for it.
    pub fn of(world: &World, snapshot: &Snapshot, stale: Nanos) -> Self {
        let mut now = Self { devices: Vec::with_capacity(snapshot.devices.len()), links: vec![] };
        let Some(here) = world.here() else { return now };
        for link in snapshot.links.iter().filter(|link| link.source == here) {
            let Some(back) = snapshot.link(link.target, here) else { continue };
            let speed = |bytes_per_second: f32| f64::from(bytes_per_second) / 1e9;
            let fresh = link.up && back.up && link.age <= stale && back.age <= stale;
            if !fresh || !link.bytes_per_second.is_finite() || link.bytes_per_second <= 0.0 {
                continue;
            }
            let up = speed(link.bytes_per_second);
            let known = back.bytes_per_second.is_finite() && back.bytes_per_second > 0.0;
            let down = if known { speed(back.bytes_per_second) } else { up };
            now.links.push(LinkNow {
                host: link.target,
                up,
                down,
                rtt: link.rtt as f64,
                up_free_in: link.backlog_bytes as f64 / up,
                down_free_in: back.backlog_bytes as f64 / down,
                coming: Coming::default(),
            });
        }
        for device in &snapshot.devices {
            let Some(host) = world.host_of(device.id) else { continue };
            let host = (host != here).then_some(host);
            let near = host.is_none_or(|host| now.link(host).is_some() && device.age <= stale);
            now.devices.push(DeviceNow {
                id: device.id,
                host,
                usable: device.up && near,
                credits: device.credits,
                running: device.running,
                free_in: if device.running == 0 && host.is_none() { 0.0 } else { device.backlog as f64 },
                coming: Coming::default(),
                slowdown: device.slowdown,
                factors: [sane(device.slowdown); TABLE_BATCHES.len()],
            });
        }
        now.add_flights(world, snapshot);
        now
    }

    /// What still runs here and will go on elsewhere is going to come to a link and a device. When, is known roughly: the
    /// executions of a device are taken to end evenly spread over its backlog.
    fn add_flights(&mut self, world: &World, snapshot: &Snapshot) {
        let device = |at: usize| snapshot.flight_devices.get(at).copied().unwrap_or_default();
        for (at, mark) in snapshot.flight_tags.iter().enumerate() {
            let Some(tag) = Tag::unpack(*mark) else { continue };
            let Some(tail) = tag.tail.and_then(|place| world.info().devices.get(usize::from(place))) else { continue };
            let head = device(at);
            if head == tail.id {
                continue;
            }
            let on_head = |from: usize, until: usize| (from..until).filter(|at| device(*at) == head).count() as f64;
            let share = on_head(0, at + 1) / on_head(0, snapshot.flight_devices.len()).max(1.0);
            let leaves = self.devices.iter().find(|known| known.id == head).map_or(0.0, |head| head.free_in * share);
            let rows = f64::from(snapshot.flight_rows.get(at).copied().unwrap_or_default());
            self.expect(tail.id, leaves, rows * tag.bytes, rows * tag.tail_nanos);
        }
    }

    /// Books bytes that get on the way to a device's host in `leaves` nanoseconds, and time on the device after that.
    pub fn expect(&mut self, device: u32, leaves: f64, bytes: f64, nanos: f64) {
        let Some(device) = self.devices.iter_mut().find(|known| known.id == device) else { return };
        let mut reaches = leaves;
        if let Some(link) = self.links.iter_mut().find(|link| Some(link.host) == device.host) {
            let send = bytes / link.up;
            reaches = link.coming.start(link.up_free_in, leaves) + send + link.rtt / 2.0;
            link.coming.add(leaves, send);
        }
        device.running += 1;
        device.coming.add(reaches, nanos);
    }

    /// Takes over what a decision has given out: credits, and this host's devices as a whole.
    pub fn follow(&mut self, room: &Room) {
        for device in &mut self.devices {
            let Some(standing) = room.device(device.id) else { continue };
            device.credits = standing.credits;
            if device.host.is_none() {
                device.running = standing.running;
                device.free_in = if standing.running == 0 { 0.0 } else { standing.backlog as f64 };
            }
        }
    }

    /// Takes this host's devices to be as fast on a model as executions have shown.
    pub fn tune(&mut self, model: u32, estimates: &Estimates) {
        for device in self.devices.iter_mut().filter(|device| device.host.is_none()) {
            device.factors = estimates.factors(model, device.id, device.slowdown);
        }
    }

    /// A device that can be used.
    pub fn device(&self, id: u32) -> Option<&DeviceNow> {
        self.devices.iter().find(|device| device.id == id && device.usable)
    }

    /// The way to a host and back, where it can be used.
    pub fn link(&self, host: u32) -> Option<&LinkNow> {
        self.links.iter().find(|link| link.host == host)
    }
}

/// What a plan was made for: speeds without backlogs. It is made anew when they have moved.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inputs {
    /// Usable devices of the model: id, and real over tabled time at 8 rows.
    pub devices: Vec<(u32, f64)>,
    /// Usable links: host, speed there and back, round trip.
    pub links: Vec<(u32, f64, f64, f64)>,
}

/// Place of 8 rows in the tables.
const USUAL: usize = 3;

/// Round trips below this differ by chance.
const RTT_NOISE: f64 = 2e6;

impl Inputs {
    /// Of the present, for the devices of one model.
    pub fn of(now: &Now, devices: &[u32]) -> Self {
        let usable = now.devices.iter().filter(|device| device.usable && devices.contains(&device.id));
        Self {
            devices: usable.map(|device| (device.id, device.factors[USUAL])).collect(),
            links: now.links.iter().map(|link| (link.host, link.up, link.down, link.rtt)).collect(),
        }
    }

    /// Whether other devices or links can be used.
    pub fn differs(&self, other: &Self) -> bool {
        let devices = |inputs: &Self| inputs.devices.iter().map(|device| device.0).collect::<Vec<_>>();
        let links = |inputs: &Self| inputs.links.iter().map(|link| link.0).collect::<Vec<_>>();
        devices(self) != devices(other) || links(self) != links(other)
    }

    /// Whether a speed is another by more than `share`; only for inputs that do not differ.
    pub fn moved(&self, other: &Self, share: f64) -> bool {
        let far = |a: f64, b: f64| a.max(b) > a.min(b) * (1.0 + share);
        let devices = self.devices.iter().zip(&other.devices).any(|(a, b)| far(a.1, b.1));
        let rtt = |a: f64, b: f64| far(a, b) && (a - b).abs() > RTT_NOISE;
        let mut links = self.links.iter().zip(&other.links);
        devices || links.any(|(a, b)| far(a.1, b.1) || far(a.2, b.2) || rtt(a.3, b.3))
    }

    /// A present in which nothing is busy. `is_local` says whose a device is.
    pub fn at_rest(&self, world: &World) -> Now {
        let host = |id: u32| world.host_of(id).filter(|host| Some(*host) != world.here());
        let device = |(id, factor): &(u32, f64)| DeviceNow {
            id: *id,
            host: host(*id),
            usable: true,
            credits: 1,
            running: 0,
            free_in: 0.0,
            coming: Coming::default(),
            slowdown: 1.0,
            factors: [*factor; TABLE_BATCHES.len()],
        };
        let link = |(host, up, down, rtt): &(u32, f64, f64, f64)| LinkNow {
            host: *host,
            up: *up,
            down: *down,
            rtt: *rtt,
            up_free_in: 0.0,
            down_free_in: 0.0,
            coming: Coming::default(),
        };
        Now { devices: self.devices.iter().map(device).collect(), links: self.links.iter().map(link).collect() }
    }
}
