//! One direction of the proxied link: the model behind a lock, and the thread that delivers what has arrived.

use super::streams::Half;
use super::{Fault, ProxyConditions};
use crate::conditions::{Conditions, Loss};
use crate::pipe::{Counts, Dice, Pipe};
use bps_types::Nanos;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The longest sleep: a bound on how late anything is noticed that wakes nobody.
const NAP: Duration = Duration::from_millis(20);

/// Bytes on their way, and where they go.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) to: Destination,
    pub(super) bytes: Vec<u8>,
}

#[derive(Debug)]
pub(super) enum Destination {
    /// A TCP connection; no bytes: its end.
    Stream(Arc<Half>),
    /// A UDP socket that knows its other end.
    Connected(Arc<UdpSocket>),
    /// The proxy's own UDP socket.
    Client(Arc<UdpSocket>, SocketAddr),
}

/// One direction.
#[derive(Debug)]
pub(super) struct Lane {
    begun: Instant,
    state: Mutex<State>,
    /// Something was offered, or the lane is different.
    offered: Condvar,
    /// There may be room.
    taken: Condvar,
}

#[derive(Debug)]
struct State {
    /// Carries streams too, so that it never loses; losses are drawn at the end, for datagrams only.
    pipe: Pipe<Parcel>,
    dice: Dice,
    link: Conditions,
    fault: Fault,
    corrupt: bool,
    stopped: bool,
    counts: Counts,
}

impl Lane {
    pub(super) fn new(seed: u64) -> Self {
        let state = State {
            pipe: Pipe::new(Conditions::default(), seed),
            dice: Dice::new(seed),
            link: Conditions::default(),
            fault: Fault::None,
            corrupt: false,
            stopped: false,
            counts: Counts::default(),
        };
        Self { begun: Instant::now(), state: Mutex::new(state), offered: Condvar::new(), taken: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Nanos {
        self.begun.elapsed().into()
    }

    pub(super) fn set(&self, conditions: ProxyConditions) {
        let now = self.now();
        let mut state = self.lock();
        state.link = conditions.link;
        state.fault = conditions.fault;
        state.pipe.set(now, Conditions { loss: Loss::None, up: true, ..conditions.link });
        drop(state);
        self.offered.notify_all();
        self.taken.notify_all();
    }

    pub(super) fn corrupt(&self) {
        self.lock().corrupt = true;
    }

    pub(super) fn counts(&self) -> Counts {
        self.lock().counts
    }

    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.offered.notify_all();
        self.taken.notify_all();
    }

    /// A datagram; dropped where there is no room or no link.
    pub(super) fn offer(&self, parcel: Parcel) {
        let now = self.now();
        let mut state = self.lock();
        if !state.link.up || state.fault == Fault::Cut {
            state.counts.cut_off += 1;
        } else if state.pipe.offer(now, parcel.bytes.len() as u64, parcel).is_err() {
            state.counts.overflowed += 1;
        }
        drop(state);
        self.offered.notify_one();
    }

    /// A piece of a stream; waits for room. False once the lane is stopped.
    pub(super) fn push(&self, parcel: Parcel) -> bool {
        let bytes = parcel.bytes.len() as u64;
        let mut state = self.lock();
        loop {
            if state.stopped {
                return false;
            }
            let now = self.now();
            if state.pipe.has_room(now, bytes) {
                let taken = state.pipe.offer(now, bytes, parcel).is_ok();
                drop(state);
                self.offered.notify_one();
                return taken;
            }
            let nap = state.pipe.next_at().map_or(NAP, |at| at.since(now).duration()).clamp(NAP / 1_000, NAP);
            state = self.taken.wait_timeout(state, nap).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Delivers what arrives, until the lane is stopped.
    pub(super) fn deliver(&self) {
        let mut state = self.lock();
        while !state.stopped {
            let now = self.now();
            let stalled = state.fault == Fault::Stall || !state.link.up;
            match if stalled { None } else { state.pipe.take(now) } {
                Some(parcel) => {
                    let arrives = state.judge(parcel);
                    drop(state);
                    self.taken.notify_all();
                    if let Some(parcel) = arrives {
                        parcel.hand_over();
                    }
                    state = self.lock();
                }
                None => {
                    let next = if stalled { None } else { state.pipe.next_at() };
                    let nap = next.map_or(NAP, |at| at.since(now).duration().min(NAP));
                    state = self.offered.wait_timeout(state, nap).unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }
}

impl State {
    /// What a fault makes of an arriving parcel.
    fn judge(&mut self, mut parcel: Parcel) -> Option<Parcel> {
        let stream = match &parcel.to {
            Destination::Stream(half) => Some(half),
            _ => None,
        };
        if matches!(self.fault, Fault::Swallow | Fault::Cut) {
            if let Some(half) = stream {
                half.swallow(parcel.bytes.len());
            }
            self.counts.cut_off += 1;
            return None;
        }
        if stream.is_none() && self.dice.lose(self.link.loss) {
            self.counts.lost += 1;
            return None;
        }
        if self.corrupt
            && let Some(byte) = parcel.bytes.last_mut()
        {
            *byte ^= 1;
            self.corrupt = false;
        }
        self.counts.delivered += 1;
        self.counts.delivered_bytes += parcel.bytes.len() as u64;
        Some(parcel)
    }
}

impl Parcel {
    fn hand_over(self) {
        match self.to {
            Destination::Stream(half) => half.write(self.bytes),
            // A datagram that cannot be sent is lost, as on any link.
            Destination::Connected(socket) => drop(socket.send(&self.bytes)),
            Destination::Client(socket, to) => drop(socket.send_to(&self.bytes, to)),
        }
    }
}
