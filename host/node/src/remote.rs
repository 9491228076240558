//! Stages on other hosts: the mirror of `pipeline.rs`.
//!
//! A plan whose next stage is elsewhere is handed over in [`away`]: input, encoded by the [`courier`], and the rest of the
//! plan travel together; the answer comes back to whoever asked. A stage that comes here ([`guests`]) is checked
//! (`accept.rs`), waits in a stage queue of the scheduler, is executed together with others, and goes on to the next host or
//! back to its origin.
//!
//! **Invariants.** Whatever comes from another host is checked before it is believed. The origin keeps its requests' inputs
//! until they are answered, so nothing here can lose one. An answer counts only from a host of the plan.

mod accept;
pub(crate) mod away;
mod courier;
pub(crate) mod guests;

pub(crate) use courier::{Courier, Departed, Load, Parcel};

use crate::dispatcher::{Dispatcher, Message};
use crate::models::Models;
use crate::peers::Peers;
use bps_codec::SizeCap;
use bps_sched::Cap;
use bps_types::HostId;
use bps_wire::{Answer, Denied, DeniedKind, HostKey};

/// The scheduler's cap, for whoever encodes.
pub(crate) fn size_cap(Cap { bytes, coarsest }: Cap) -> SizeCap {
    SizeCap { bytes, coarsest }
}

/// What a message from a peer is about, once it has been looked at.
pub(crate) enum Incoming {
    /// A stage to be executed here.
    Guest(Box<guests::Guest>),
    /// What became of a stage that was handed over.
    Answer {
        /// Who says so.
        from: HostId,
        /// What.
        answer: Box<Answer>,
        /// Bytes of the frame.
        bytes: u64,
    },
    /// A stage is no longer wanted.
    Recall {
        /// By whom.
        from: HostId,
        /// Its number there.
        dispatch: u64,
    },
}

/// Takes a message of the kinds that are about stages; others are not its business and are dropped.
pub(crate) fn arrived(
    peers: &Peers,
    models: &Models,
    dispatcher: &Dispatcher,
    peer: HostKey,
    message: bps_wire::Message,
    bytes: u64,
) {
    let Some(from) = peers.id_of(peer) else { return };
    let incoming = match message {
        bps_wire::Message::Execute(execute) => {
            let (origin, dispatch) = (execute.origin, execute.dispatch);
            match guests::Guest::check(&peers.roster, |digest| models.enter_by_digest(digest), peer, execute) {
                Ok(guest) => Incoming::Guest(Box::new(guest)),
                Err(denied) => return deny(peers, origin, from, dispatch, denied),
            }
        }
        bps_wire::Message::Answer(answer) => Incoming::Answer { from, answer: Box::new(answer), bytes },
        bps_wire::Message::Recall { dispatch } => Incoming::Recall { from, dispatch },
        _ => return,
    };
    dispatcher.send(Message::Remote(incoming));
}

/// Gives a stage back unexecuted: to its origin, or to whoever sent it where the origin is unknown here.
fn deny(peers: &Peers, origin: HostKey, from: HostId, dispatch: u64, denied: Denied) {
    tracing::debug!(from = from.0, dispatch, kind = ?denied.kind, message = denied.message, "a stage is given back");
    let to = peers.id_of(origin).unwrap_or(from);
    let answer = Answer { dispatch, reports: vec![], outcome: Err(denied) };
    // Where it cannot be said, the link is down, and the origin knows that much.
    let _ = peers.send(to, bps_wire::Message::Answer(answer));
}

pub(crate) fn denied(kind: DeniedKind, message: impl Into<String>) -> Denied {
    let mut message = message.into();
    let end = (0..=MESSAGE_BYTES_MAX.min(message.len())).rev().find(|i| message.is_char_boundary(*i)).unwrap_or(0);
    message.truncate(end);
    Denied { kind, message }
}

/// As long as a denial's text may be on the wire.
const MESSAGE_BYTES_MAX: usize = 1_000;
