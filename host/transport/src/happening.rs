//! What the transport tells its owner.

use crate::{Carrier, Quotas, Rights};
use bps_types::Nanos;
use bps_wire::{HostKey, Message};

/// How a link does, as seen from this host.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// Goodput towards the peer while bytes flow; a guess until the first bytes have been measured.
    pub bytes_per_second: f32,
    /// Round trip without our own queues, as far as pings can tell.
    pub rtt: Nanos,
    /// Bytes accepted by [`crate::Transport::send`] that the peer has not reported as received.
    pub backlog_bytes: u64,
    /// The peer's clock minus ours.
    pub clock_offset_nanos: i64,
}

/// What happens with peers. Of one peer they come in order: everything between `Up` and `Down` belongs to one session.
#[derive(Clone, Debug)]
pub enum Happening {
    /// A session with a peer stands.
    Up {
        /// Who.
        peer: HostKey,
        /// As the peer store calls it.
        name: String,
        /// What it may do here.
        rights: Rights,
        /// How much of it.
        quotas: Quotas,
        /// What the link is made over.
        carrier: Carrier,
    },
    /// It is over; whatever was accepted and not yet delivered is lost.
    Down {
        /// Who.
        peer: HostKey,
        /// Why, for people.
        reason: String,
    },
    /// The peer said something. Never what belongs to the transport: pings, pongs, progress and goodbyes.
    Arrived {
        /// Who.
        peer: HostKey,
        /// What.
        message: Message,
        /// Bytes of its frame.
        bytes: u64,
    },
    /// How the link does; at most every 50 ms per peer, at least every 500 ms while it is up.
    Estimate {
        /// To whom.
        peer: HostKey,
        /// How.
        estimate: Estimate,
    },
}

/// One line of `bps peers`.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerStatus {
    /// Who.
    pub key: HostKey,
    /// As the peer store calls it.
    pub name: String,
    /// Whether a session stands.
    pub up: bool,
    /// Of the session.
    pub carrier: Option<Carrier>,
    /// Of the session.
    pub estimate: Option<Estimate>,
    /// When it came up or went down, on the transport's clock; zero if it has never been up.
    pub since: Nanos,
    /// Why it went down last, or why it cannot be reached.
    pub reason: Option<String>,
}
