//! The link between two network namespaces: a TUN device in each, and two threads that carry packets through the model.
//! Linux only; needs root and the program `ip`.
//!
//! The devices are made here and moved into the namespaces, while their other ends stay with this process: when it ends, in
//! whatever way, the devices are gone. Namespaces outlive a process that is killed; [`remove_leftovers`] finds those.

mod place;

pub use place::{Door, NetworkError, Place, cores, pin, remove_leftovers};

use crate::conditions::Conditions;
use crate::pipe::{Counts, Pipe};
use bps_types::Nanos;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use place::ip;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tun_rs::{DeviceBuilder, SyncDevice};

/// The largest packet, as on an Ethernet.
const MTU: u16 = 1_500;
/// Packets read before any is delivered: keeps a flood of one direction from starving its deliveries.
const READ_AT_ONCE: usize = 64;
/// The longest sleep: how late the end is noticed.
const NAP: Duration = Duration::from_millis(20);
/// Last part of the strong host's address; the weak host's are above it.
const STRONG: u8 = 1;

/// A running link; dropping it ends its threads and removes its devices.
#[derive(Debug)]
pub struct TunLink {
    /// From weak to strong, and back.
    lanes: [Arc<Lane>; 2],
    threads: Vec<JoinHandle<()>>,
    weak: String,
    device: String,
    subnet: u8,
    /// Last part of the weak host's address.
    host_part: AtomicU8,
}

/// One direction.
#[derive(Debug)]
struct Lane {
    begun: Instant,
    pipe: Mutex<Pipe<Vec<u8>>>,
    stopped: AtomicBool,
}

impl TunLink {
    /// Joins two namespaces by the link `10.77.SUBNET.0/24` and `fd77:SUBNET::/64`; in both the strong host is `1`, the
    /// weak one begins as `2`.
    ///
    /// # Errors
    /// No right to make devices, or `ip` refuses or is missing.
    pub fn start(weak: &Place, strong: &Place, subnet: u8, conditions: Conditions) -> Result<Self, NetworkError> {
        let names = ["w", "s"].map(|end| format!("bps{}{end}{subnet}", std::process::id()));
        let ends = [open(&names[0])?, open(&names[1])?].map(Arc::new);
        for (place, name, host) in [(weak, &names[0], STRONG + 1), (strong, &names[1], STRONG)] {
            ip(&["link", "set", name, "netns", place.name()])?;
            let v4 = format!("{}/24", address(subnet, host));
            ip(&["-n", place.name(), "addr", "add", &v4, "dev", name])?;
            // A machine without IPv6 tests over IPv4.
            let _ = ip(&["-n", place.name(), "addr", "add", &address_v6(subnet, host), "dev", name, "nodad"]);
            ip(&["-n", place.name(), "link", "set", name, "up", "mtu", &MTU.to_string()])?;
        }
        let lanes = [1, 2].map(|seed| Arc::new(Lane::new(conditions, seed)));
        let mut link = Self {
            lanes,
            threads: Vec::new(),
            weak: weak.name().to_owned(),
            device: names[0].clone(),
            subnet,
            host_part: AtomicU8::new(STRONG + 1),
        };
        for (lane, from, to) in [(0, 0, 1), (1, 1, 0)] {
            let (lane, from, to) = (Arc::clone(&link.lanes[lane]), Arc::clone(&ends[from]), Arc::clone(&ends[to]));
            let builder = std::thread::Builder::new().name("link".into());
            let thread = builder.spawn(move || lane.carry(&from, &to));
            link.threads.push(thread.map_err(|source| NetworkError::Io { what: "a thread", source })?);
        }
        Ok(link)
    }

    /// The strong host's address.
    pub fn strong_address(&self) -> Ipv4Addr {
        address(self.subnet, STRONG)
    }

    /// The weak host's address now.
    pub fn weak_address(&self) -> Ipv4Addr {
        address(self.subnet, self.host_part.load(Ordering::Relaxed))
    }

    /// Both directions are like this from now on.
    pub fn set(&self, conditions: Conditions) {
        for lane in &self.lanes {
            lane.lock().set(lane.now(), conditions);
        }
    }

    /// The weak host gets another address; its connections from the old one are dead.
    ///
    /// # Errors
    /// `ip` refuses.
    pub fn roam(&self) -> Result<(), NetworkError> {
        let old = self.host_part.load(Ordering::Relaxed);
        let new = if old == u8::MAX - 1 { STRONG + 1 } else { old + 1 };
        let change = |verb: &str, part| {
            let v4 = format!("{}/24", address(self.subnet, part));
            ip(&["-n", &self.weak, "addr", verb, &v4, "dev", &self.device])
        };
        change("add", new)?;
        self.host_part.store(new, Ordering::Relaxed);
        change("del", old)?;
        // Secondary addresses may go with the primary one, depending on a kernel setting.
        let _ = change("add", new);
        Ok(())
    }

    /// What became of the packets so far: from weak to strong, and back.
    pub fn counts(&self) -> [Counts; 2] {
        [0, 1].map(|lane| self.lanes[lane].lock().counts())
    }
}

impl Drop for TunLink {
    fn drop(&mut self) {
        self.lanes.iter().for_each(|lane| lane.stopped.store(true, Ordering::Relaxed));
        for thread in self.threads.drain(..) {
            // One that panicked has said so on stderr.
            let _ = thread.join();
        }
    }
}

impl Lane {
    fn new(conditions: Conditions, seed: u64) -> Self {
        let pipe = Mutex::new(Pipe::new(conditions, seed));
        Self { begun: Instant::now(), pipe, stopped: AtomicBool::new(false) }
    }

    fn lock(&self) -> MutexGuard<'_, Pipe<Vec<u8>>> {
        self.pipe.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Nanos {
        self.begun.elapsed().into()
    }

    /// Carries packets until the link ends.
    fn carry(&self, from: &SyncDevice, to: &SyncDevice) {
        let mut packet = vec![0; usize::from(u16::MAX)];
        while !self.stopped.load(Ordering::Relaxed) {
            let until = self.lock().next_at().map_or(NAP, |at| at.since(self.now()).duration().min(NAP));
            if !wait(from, until) {
                // The device is gone, or not there yet.
                std::thread::sleep(NAP);
                continue;
            }
            for _ in 0..READ_AT_ONCE {
                // Errors: nothing there, or a device that is not up yet.
                let Ok(bytes) = from.recv(&mut packet) else { break };
                // What finds no room is dropped, and counted in the pipe.
                let _ = self.lock().offer(self.now(), bytes as u64, packet[..bytes].to_vec());
            }
            loop {
                let Some(arrived) = self.lock().take(self.now()) else { break };
                // A device that takes no packet loses it, like any interface that is down.
                let _ = to.send(&arrived);
            }
        }
    }
}

/// Waits until there is a packet or the time is over; false where the device is in no order.
fn wait(device: &SyncDevice, until: Duration) -> bool {
    let mut polled = [PollFd::new(device.as_fd(), PollFlags::POLLIN)];
    match ppoll(&mut polled, Some(TimeSpec::from(until)), None) {
        Ok(_) => !polled[0].revents().is_some_and(|r| r.intersects(PollFlags::POLLERR | PollFlags::POLLNVAL)),
        Err(_) => false,
    }
}

fn open(name: &str) -> Result<SyncDevice, NetworkError> {
    let made = DeviceBuilder::new().name(name).mtu(MTU).enable(false).build_sync();
    let device = made.map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => NetworkError::NotPermitted,
        _ => NetworkError::Io { what: "a TUN device", source },
    })?;
    device.set_nonblocking(true).map_err(|source| NetworkError::Io { what: "a TUN device", source })?;
    Ok(device)
}

fn address(subnet: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, subnet, host)
}

fn address_v6(subnet: u8, host: u8) -> String {
    format!("fd77:{subnet:x}::{host:x}/64")
}

#[cfg(test)]
mod tests;
