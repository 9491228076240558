//! A link in user space between loopback and one target: a TCP and UDP proxy on one port whose traffic passes the model.
//! Needs no rights. It is also how the tests hurt a connection.
//!
//! All connections share the link, one [`Lane`] a direction. Streams lose nothing to rate, queue, loss or an outage: what
//! finds no room is not read yet, and while the link is down it waits, as TCP would make it. Datagrams are dropped.

mod datagrams;
mod lane;
mod streams;

use crate::conditions::Conditions;
use crate::pipe::Counts;
use datagrams::Datagrams;
use lane::Lane;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use streams::Streams;

/// How often another port is tried when UDP's port of the same number is taken.
const PORT_TRIES: u32 = 20;

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From whoever connects to the target.
    ToTarget,
    /// Back.
    FromTarget,
}

/// What is wrong with the link beyond its conditions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Nothing passes, nothing is lost: it all arrives when the stall ends.
    Stall,
    /// Half-open: everything is taken and nothing arrives, silently. A stream that has lost bytes so stays dead for ever.
    Swallow,
    /// Connections are closed and new ones refused; datagrams are dropped.
    Cut,
}

/// How the proxied link is, both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProxyConditions {
    /// Rate, delay, loss (of datagrams), queue, outage.
    pub link: Conditions,
    /// And what is wrong with it.
    pub fault: Fault,
}

/// A running proxy; dropping it closes everything.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    inner: Arc<Inner>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Inner {
    target: SocketAddr,
    lanes: [Lane; 2],
    stopped: AtomicBool,
    fault: Mutex<Fault>,
    streams: Streams,
    datagrams: Datagrams,
}

impl Proxy {
    /// Listens on a loopback port of the system's choice, TCP and UDP, and passes everything on to `target`.
    ///
    /// # Errors
    /// No port can be had.
    pub fn start(target: SocketAddr) -> io::Result<Self> {
        let (listener, socket) = bind()?;
        let address = listener.local_addr()?;
        let inner = Arc::new(Inner {
            target,
            lanes: [Lane::new(1), Lane::new(2)],
            stopped: AtomicBool::new(false),
            fault: Mutex::new(Fault::None),
            streams: Streams::default(),
            datagrams: Datagrams::new(socket),
        });
        let mut threads = Vec::new();
        for number in 0..inner.lanes.len() {
            let inner = Arc::clone(&inner);
            threads.push(std::thread::Builder::new().name("link".into()).spawn(move || inner.lanes[number].deliver())?);
        }
        let accepting = Arc::clone(&inner);
        threads.push(
            std::thread::Builder::new()
                .name("link-accept".into())
                .spawn(move || streams::accept(&accepting, &listener))?,
        );
        let receiving = Arc::clone(&inner);
        threads
            .push(std::thread::Builder::new().name("link-udp".into()).spawn(move || datagrams::receive(&receiving))?);
        Ok(Self { address, inner, threads })
    }

    /// Where to connect instead of the target.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The link is like this from now on.
    pub fn set(&self, conditions: ProxyConditions) {
        *self.inner.fault.lock().unwrap_or_else(PoisonError::into_inner) = conditions.fault;
        for lane in &self.inner.lanes {
            lane.set(conditions);
        }
        if conditions.fault == Fault::Cut {
            self.inner.streams.cut();
        }
    }

    /// Flips a bit of the next byte that arrives in this direction. In QUIC that is a lost packet; in TLS over TCP it is
    /// the end of the connection.
    pub fn corrupt(&self, direction: Direction) {
        self.lane(direction).corrupt();
    }

    /// The client has moved to another network: its streams are cut, its datagrams come from another port from now on.
    pub fn roam(&self) {
        self.inner.streams.cut();
        self.inner.datagrams.forget();
    }

    /// What became of what was sent in this direction; pieces of streams count like packets.
    pub fn counts(&self, direction: Direction) -> Counts {
        self.lane(direction).counts()
    }

    /// Open TCP connections.
    pub fn connections(&self) -> usize {
        self.inner.streams.len()
    }

    fn lane(&self, direction: Direction) -> &Lane {
        self.inner.lane(direction)
    }
}

impl Inner {
    fn lane(&self, direction: Direction) -> &Lane {
        &self.lanes[match direction {
            Direction::ToTarget => 0,
            Direction::FromTarget => 1,
        }]
    }

    fn fault(&self) -> Fault {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.inner.stopped.store(true, Ordering::Relaxed);
        self.inner.lanes.iter().for_each(Lane::stop);
        self.inner.streams.cut();
        self.inner.datagrams.forget();
        // `accept` has no time limit: a connection wakes it.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        for thread in self.threads.drain(..) {
            // One that panicked has said so on stderr.
            let _ = thread.join();
        }
    }
}

/// The same port for TCP and UDP.
fn bind() -> io::Result<(TcpListener, UdpSocket)> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..PORT_TRIES {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        match UdpSocket::bind(listener.local_addr()?) {
            Ok(socket) => return Ok((listener, socket)),
            Err(e) => last = e,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests;
