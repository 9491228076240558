//! What waits to be sent to one peer, and what is under way.
//!
//! Control messages go first and are few; the rest goes by rank, then short before long, then first come, first served.
//! Senders never wait: what does not fit is refused. The link takes frames out and says what became of them; the peer's
//! progress reports say what arrived.
//!
//! **Invariant.** `accepted - delivered` are the bytes that were accepted and neither arrived nor were given up; it never
//! exceeds `bytes_max`, except for a single frame that is larger.

use crate::SendError;
use bps_types::Nanos;
use bps_wire::{Encoded, HostKey, Limits, Message, WireError, encode, encode_probe};
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::sync::Notify;

/// Control frames that wait; ten a second are usual, and a link that is this far behind is lost.
const CONTROL_FRAMES_MAX: usize = 1_024;
/// Their bytes: two of the longest adverts.
const CONTROL_BYTES_MAX: u64 = 9 << 20;
/// Frames that wait; what is short must not fill the memory with bookkeeping.
const FRAMES_MAX: usize = 65_536;
/// Frames up to here overtake longer ones of their rank: they cost those little and their own receiver waits.
pub(crate) const SHORT_BYTES_MAX: u64 = 64 << 10;

/// Where a frame stands in the line; the least goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    rank: Reverse<u16>,
    long: bool,
    sequence: u64,
}

impl Place {
    /// As a priority where more is more urgent.
    pub(crate) fn priority(&self) -> i32 {
        i32::from(self.rank.0) * 2 + i32::from(!self.long)
    }
}

/// A frame the link has taken out.
pub(crate) struct Frame {
    pub(crate) encoded: Encoded,
    pub(crate) place: Place,
    pub(crate) ticket: Arc<Ticket>,
}

/// The fate of a frame between being taken out and being written whole.
#[derive(Debug)]
pub(crate) struct Ticket {
    /// Of an `Execute` of this host; only those are recalled here.
    dispatch: Option<u64>,
    fate: AtomicU8,
    recalled: Notify,
}

const UNDER_WAY: u8 = 0;
const SENT: u8 = 1;
const RECALLED: u8 = 2;

impl Ticket {
    /// Resolves when the frame is no longer wanted.
    pub(crate) async fn recalled(&self) {
        self.recalled.notified().await;
    }

    pub(crate) fn is_recalled(&self) -> bool {
        self.fate.load(Ordering::Acquire) == RECALLED
    }

    /// The last byte is about to be written; false: it was recalled meanwhile, and must not be.
    pub(crate) fn sent(&self) -> bool {
        self.settle(SENT)
    }

    /// Decides the fate if it was still open.
    fn settle(&self, to: u8) -> bool {
        self.fate.compare_exchange(UNDER_WAY, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// One peer's line. Shared by senders and the link.
pub(crate) struct Outbox {
    own: HostKey,
    limits: Limits,
    bytes_max: u64,
    state: Mutex<State>,
    /// Something became ready for whoever writes control frames.
    pub(crate) control_ready: Notify,
    /// Something became ready for whoever writes the others.
    pub(crate) bulk_ready: Notify,
}

#[derive(Default)]
struct State {
    control: VecDeque<Encoded>,
    control_bytes: u64,
    waiting: BTreeMap<Place, (Encoded, Arc<Ticket>)>,
    /// Of this host's dispatches, those waiting.
    places: HashMap<u64, Place>,
    /// Of this host's dispatches, those under way.
    tickets: HashMap<u64, Arc<Ticket>>,
    sequence: u64,
    accepted: u64,
    delivered: u64,
    closing: bool,
}

impl Outbox {
    /// `limits` are the peer's; `bytes_max` bounds what is in flight.
    pub(crate) fn new(own: HostKey, limits: Limits, bytes_max: u64) -> Self {
        let (control_ready, bulk_ready) = (Notify::new(), Notify::new());
        Self { own, limits, bytes_max, state: Mutex::default(), control_ready, bulk_ready }
    }

    /// Largest frame the peer takes.
    pub(crate) fn frame_bytes_max(&self) -> u64 {
        self.limits.frame_bytes_max
    }

    /// Accepts a message or says why not; returns its frame's bytes.
    pub(crate) fn push(&self, message: &Message) -> Result<u64, SendError> {
        let encoded = encode(message, &self.limits).map_err(|error| match error {
            WireError::TooLarge { bytes, bytes_max, .. } => SendError::TooLarge { bytes, bytes_max },
            other => SendError::Unfit(other),
        })?;
        let dispatch = match message {
            Message::Execute(execute) if execute.origin == self.own => Some(execute.dispatch),
            _ => None,
        };
        let rank = match message {
            Message::Execute(execute) => 1 + u16::from(execute.priority),
            // What is done is passed on before anything is begun.
            Message::Answer(_) => u16::from(u8::MAX) + 2,
            _ => 0,
        };
        self.accept(encoded, rank, dispatch)
    }

    /// Bytes with no other use than being measured.
    pub(crate) fn push_probe(&self, token: u64, at: Nanos, padding_bytes: usize) {
        if let Ok(encoded) = encode_probe(token, at, padding_bytes, &self.limits) {
            // A link that is full measures itself.
            let _ = self.accept(encoded, 0, None);
        }
    }

    fn accept(&self, encoded: Encoded, rank: u16, dispatch: Option<u64>) -> Result<u64, SendError> {
        let bytes = encoded.bytes();
        let mut state = self.state.lock();
        if state.closing {
            return Err(SendError::Down);
        }
        if encoded.header.is_control() {
            if state.control.len() >= CONTROL_FRAMES_MAX || state.control_bytes + bytes > CONTROL_BYTES_MAX {
                return Err(SendError::Full { in_flight_bytes: state.control_bytes, bytes_max: CONTROL_BYTES_MAX });
            }
            state.control_bytes += bytes;
            state.control.push_back(encoded);
            drop(state);
            self.control_ready.notify_one();
            return Ok(bytes);
        }
        let in_flight_bytes = state.in_flight();
        let full = in_flight_bytes > 0 && in_flight_bytes.saturating_add(bytes) > self.bytes_max;
        if full || state.waiting.len() >= FRAMES_MAX {
            return Err(SendError::Full { in_flight_bytes, bytes_max: self.bytes_max });
        }
        state.accepted += bytes;
        state.sequence += 1;
        let place = Place { rank: Reverse(rank), long: bytes > SHORT_BYTES_MAX, sequence: state.sequence };
        let ticket = Ticket { dispatch, fate: AtomicU8::new(UNDER_WAY), recalled: Notify::new() };
        if let Some(dispatch) = dispatch {
            state.places.insert(dispatch, place);
        }
        state.waiting.insert(place, (encoded, Arc::new(ticket)));
        drop(state);
        self.bulk_ready.notify_one();
        Ok(bytes)
    }

    /// Gives up one of this host's dispatches if it has not been written whole; says whether it did.
    pub(crate) fn recall(&self, dispatch: u64) -> bool {
        let mut state = self.state.lock();
        if let Some(place) = state.places.remove(&dispatch) {
            if let Some((encoded, _)) = state.waiting.remove(&place) {
                state.accepted -= encoded.bytes();
            }
            return true;
        }
        let Some(ticket) = state.tickets.get(&dispatch) else { return false };
        let recalled = ticket.settle(RECALLED);
        if recalled {
            ticket.recalled.notify_one();
        }
        recalled
    }

    /// No more is accepted. What waits as control is still sent, the rest is not.
    pub(crate) fn close(&self) {
        self.state.lock().closing = true;
        self.control_ready.notify_one();
        self.bulk_ready.notify_one();
    }

    /// Accepted and neither arrived nor given up.
    pub(crate) fn in_flight(&self) -> u64 {
        self.state.lock().in_flight()
    }

    /// Bytes of all frames so far that are not control messages.
    pub(crate) fn accepted(&self) -> u64 {
        self.state.lock().accepted
    }

    /// The peer says that so many bytes arrived or were given up on the way.
    pub(crate) fn delivered(&self, bytes: u64) {
        let mut state = self.state.lock();
        // More than was accepted is a lie, and harmless as this.
        state.delivered = bytes.min(state.accepted);
    }
}

/// What the link asks.
impl Outbox {
    /// Control frames that wait, as many as fit in `bytes_max`, at least one if there is any.
    pub(crate) fn take_control(&self, bytes_max: u64) -> Vec<Encoded> {
        let mut state = self.state.lock();
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(next) = state.control.front() {
            bytes += next.bytes();
            if !taken.is_empty() && bytes > bytes_max {
                break;
            }
            taken.extend(state.control.pop_front());
        }
        state.control_bytes -= taken.iter().map(Encoded::bytes).sum::<u64>();
        taken
    }

    /// Place and bytes of the frame that is next.
    pub(crate) fn first(&self) -> Option<(Place, u64)> {
        let state = self.state.lock();
        if state.closing {
            return None;
        }
        state.waiting.first_key_value().map(|(place, (encoded, _))| (*place, encoded.bytes()))
    }

    /// The frame that is next; it is under way until [`Self::forget`] or [`Self::given_up`].
    pub(crate) fn take(&self) -> Option<Frame> {
        let mut state = self.state.lock();
        if state.closing {
            return None;
        }
        let (place, (encoded, ticket)) = state.waiting.pop_first()?;
        if let Some(dispatch) = ticket.dispatch {
            state.places.remove(&dispatch);
            state.tickets.insert(dispatch, ticket.clone());
        }
        Some(Frame { encoded, place, ticket })
    }

    /// A recalled frame ended after `written` of its bytes.
    pub(crate) fn given_up(&self, frame: &Frame, written: u64) {
        self.forget(&frame.ticket);
        let mut state = self.state.lock();
        state.accepted = state.accepted.saturating_sub(frame.encoded.bytes().saturating_sub(written));
    }

    /// Whether the link is to end once the control frames are written.
    pub(crate) fn is_closing(&self) -> bool {
        self.state.lock().closing
    }

    /// The frame is no longer under way.
    pub(crate) fn forget(&self, ticket: &Ticket) {
        if let Some(dispatch) = ticket.dispatch {
            self.state.lock().tickets.remove(&dispatch);
        }
    }
}

impl State {
    fn in_flight(&self) -> u64 {
        self.accepted.saturating_sub(self.delivered)
    }
}

#[cfg(test)]
mod tests;
