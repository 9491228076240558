//! The proxy's TCP connections. Each direction of one has a thread that reads and one that writes, so that a receiver that
//! does not read holds up its own connection only.

use super::lane::{Destination, Parcel};
use super::{Direction, Fault, Inner};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Connections at once; further ones are closed. Tests and a test bed have a handful.
const CONNECTIONS_MAX: usize = 64;
/// Bytes of one direction of a connection that are read and not yet written: more than any link of the test bed holds.
const WINDOW_BYTES: usize = 8 << 20;
/// Bytes read at once: small enough to be smooth at a megabit, large enough for a gigabit.
const CHUNK_BYTES: usize = 8 << 10;
/// How long a thread waits for bytes before it looks whether its connection still lives.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long the target may take to accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The open connections.
#[derive(Debug, Default)]
pub(super) struct Streams(Mutex<Vec<Arc<Connection>>>);

/// Both sockets of a connection.
#[derive(Debug)]
struct Connection {
    client: TcpStream,
    target: TcpStream,
    closed: AtomicBool,
}

impl Connection {
    fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        // They may be closed already.
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.target.shutdown(Shutdown::Both);
    }
}

impl Streams {
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn cut(&self) {
        self.lock().iter().for_each(|c| c.close());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Connection>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove(&self, connection: &Arc<Connection>) {
        self.lock().retain(|c| !Arc::ptr_eq(c, connection));
    }
}

/// One direction of a connection.
#[derive(Debug)]
pub(super) struct Half {
    writer: Mutex<Sender<Vec<u8>>>,
    /// Bytes read and not yet written.
    held: Mutex<usize>,
    freed: Condvar,
    /// It has lost bytes: nothing passes any more, and nobody is told.
    dead: AtomicBool,
}

impl Half {
    fn new() -> (Arc<Self>, Receiver<Vec<u8>>) {
        let (writer, queue) = mpsc::channel();
        let half = Self {
            writer: Mutex::new(writer),
            held: Mutex::new(0),
            freed: Condvar::new(),
            dead: AtomicBool::new(false),
        };
        (Arc::new(half), queue)
    }

    /// Hands bytes to the writing thread; none: the end.
    pub(super) fn write(&self, bytes: Vec<u8>) {
        if self.dead.load(Ordering::Relaxed) {
            return self.free(bytes.len());
        }
        // Where the writer has ended, the connection is closed and its bytes have nowhere to go.
        let _ = self.writer.lock().unwrap_or_else(PoisonError::into_inner).send(bytes);
    }

    /// Loses bytes for good.
    pub(super) fn swallow(&self, bytes: usize) {
        self.dead.store(true, Ordering::Relaxed);
        self.free(bytes);
    }

    fn free(&self, bytes: usize) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        *held = held.saturating_sub(bytes);
        drop(held);
        self.freed.notify_one();
    }

    /// Waits until there is room in the window; false when the proxy stops.
    fn reserve(&self, bytes: usize, inner: &Inner) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        while *held >= WINDOW_BYTES {
            if inner.is_stopped() {
                return false;
            }
            let waited = self.freed.wait_timeout(held, PATIENCE);
            held = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *held += bytes;
        true
    }
}

/// Accepts until the proxy stops.
pub(super) fn accept(inner: &Arc<Inner>, listener: &TcpListener) {
    for client in listener.incoming() {
        if inner.is_stopped() {
            return;
        }
        let Ok(client) = client else { continue };
        if inner.fault() == Fault::Cut || inner.streams.len() >= CONNECTIONS_MAX {
            continue;
        }
        let inner = Arc::clone(inner);
        // Where no thread is to be had the connection is closed, which is what the client sees of an overload.
        let _ = thread::Builder::new().name("link-tcp".into()).spawn(move || carry(&inner, client));
    }
}

/// Carries one connection until both directions have ended.
fn carry(inner: &Arc<Inner>, client: TcpStream) {
    let Ok(target) = TcpStream::connect_timeout(&inner.target, CONNECT_TIMEOUT) else { return };
    // Without it small frames wait for acknowledgements; the link's delay is the model's business.
    let _ = (client.set_nodelay(true), target.set_nodelay(true));
    let (Ok(client_out), Ok(target_out)) = (client.try_clone(), target.try_clone()) else { return };
    let connection = Arc::new(Connection { client, target, closed: AtomicBool::new(false) });
    inner.streams.lock().push(Arc::clone(&connection));
    let ways = [
        (Direction::ToTarget, &connection.client, target_out),
        (Direction::FromTarget, &connection.target, client_out),
    ];
    thread::scope(|scope| {
        for (direction, from, to) in ways {
            let (half, queue) = Half::new();
            let writing = Arc::clone(&half);
            let connection = &connection;
            scope.spawn(move || write(connection, &writing, &queue, to));
            scope.spawn(move || read(inner, direction, &half, from));
        }
    });
    connection.close();
    inner.streams.remove(&connection);
}

fn read(inner: &Inner, direction: Direction, half: &Arc<Half>, mut from: &TcpStream) {
    let lane = inner.lane(direction);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = from.read(&mut chunk).unwrap_or(0);
        let parcel = Parcel { to: Destination::Stream(Arc::clone(half)), bytes: chunk[..count].to_vec() };
        if !half.reserve(count, inner) || !lane.push(parcel) {
            // The writer ends with the channel, which is not reachable from here: the end is told directly.
            return half.write(Vec::new());
        }
        if count == 0 {
            return;
        }
    }
}

fn write(connection: &Connection, half: &Half, queue: &Receiver<Vec<u8>>, mut to: TcpStream) {
    loop {
        let bytes = match queue.recv_timeout(PATIENCE) {
            Ok(bytes) => bytes,
            // A dead direction hears nothing any more; it ends with its connection.
            Err(RecvTimeoutError::Timeout) if !connection.closed.load(Ordering::Relaxed) => continue,
            Err(_) => break,
        };
        if bytes.is_empty() {
            break;
        }
        let written = to.write_all(&bytes);
        half.free(bytes.len());
        if written.is_err() {
            break;
        }
    }
    // It may be closed already.
    let _ = to.shutdown(Shutdown::Write);
}
