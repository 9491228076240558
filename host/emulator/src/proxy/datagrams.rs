//! The proxy's UDP: each client gets a socket of its own towards the target, so that answers find their way back.

use super::lane::{Destination, Parcel};
use super::{Direction, Inner};
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Clients remembered; the one that was silent for longest makes room.
const CLIENTS_MAX: usize = 64;
/// How long a receiving thread sleeps before it looks whether it is still wanted.
const PATIENCE: Duration = Duration::from_millis(100);
/// The largest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// The socket of the proxy, and those towards the target.
#[derive(Debug)]
pub(super) struct Datagrams {
    socket: Arc<UdpSocket>,
    clients: Mutex<BTreeMap<SocketAddr, Client>>,
}

#[derive(Debug)]
struct Client {
    towards: Arc<UdpSocket>,
    last: Instant,
    gone: Arc<AtomicBool>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
    }
}

impl Datagrams {
    pub(super) fn new(socket: UdpSocket) -> Self {
        Self { socket: Arc::new(socket), clients: Mutex::default() }
    }

    /// Every client gets another port from now on.
    pub(super) fn forget(&self) {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Takes what clients send, until the proxy stops.
pub(super) fn receive(inner: &Arc<Inner>) {
    let socket = &inner.datagrams.socket;
    let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
    // Without a time limit the thread would not end; a socket that cannot have one is not worth listening to.
    if socket.set_read_timeout(Some(PATIENCE)).is_err() {
        return;
    }
    while !inner.is_stopped() {
        // Errors are time limits and refusals that an earlier answer met.
        let Ok((bytes, from)) = socket.recv_from(&mut datagram) else { continue };
        let Ok(towards) = towards(inner, from) else { continue };
        let parcel = Parcel { to: Destination::Connected(towards), bytes: datagram[..bytes].to_vec() };
        inner.lane(Direction::ToTarget).offer(parcel);
    }
}

/// The socket of this client, made where it has none.
fn towards(inner: &Arc<Inner>, from: SocketAddr) -> io::Result<Arc<UdpSocket>> {
    let mut clients = inner.datagrams.clients.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(client) = clients.get_mut(&from) {
        client.last = Instant::now();
        return Ok(Arc::clone(&client.towards));
    }
    if clients.len() >= CLIENTS_MAX
        && let Some(oldest) = clients.iter().min_by_key(|(_, c)| c.last).map(|(a, _)| *a)
    {
        clients.remove(&oldest);
    }
    let any: SocketAddr = match inner.target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(inner.target)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let (towards, gone) = (Arc::new(socket), Arc::new(AtomicBool::new(false)));
    let client = Client { towards: Arc::clone(&towards), last: Instant::now(), gone: Arc::clone(&gone) };
    let (answers, shared) = (Arc::clone(&towards), Arc::clone(inner));
    thread::Builder::new().name("link-udp".into()).spawn(move || answer(&shared, &answers, from, &gone))?;
    clients.insert(from, client);
    Ok(towards)
}

/// Takes what the target sends to this client, until nobody waits for it.
fn answer(inner: &Inner, from: &UdpSocket, client: SocketAddr, gone: &AtomicBool) {
    let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
    while !inner.is_stopped() && !gone.load(Ordering::Relaxed) {
        let Ok(bytes) = from.recv(&mut datagram) else { continue };
        let to = Destination::Client(Arc::clone(&inner.datagrams.socket), client);
        inner.lane(Direction::FromTarget).offer(Parcel { to, bytes: datagram[..bytes].to_vec() });
    }
}
