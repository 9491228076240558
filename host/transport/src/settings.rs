//! What a host is told about its links.

use std::fmt;
use std::net::SocketAddr;

/// Which carrier links are made over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CarrierChoice {
    /// TCP where the round trip is short, QUIC elsewhere and wherever TCP is blocked; listens on both.
    #[default]
    Auto,
    /// QUIC only.
    Quic,
    /// TCP with TLS only.
    Tcp,
}

/// What a link is made over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// QUIC with BBR: holds its rate where packets are lost, twice the processor time per byte.
    Quic,
    /// TCP with TLS: cheapest, passes every firewall.
    Tcp,
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
        })
    }
}

/// How this host appears to others and what it takes from them.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What it calls itself; at most 256 bytes.
    pub name: String,
    /// Program and version, for people; at most 256 bytes.
    pub software: String,
    /// Where it listens, TCP and UDP on the same port; none: it only dials.
    pub listen: Option<SocketAddr>,
    /// It listens only from when the store first holds a peer: nobody else is let in, and no port is open for nothing.
    pub listen_once_paired: bool,
    /// Carriers it dials and listens with.
    pub carrier: CarrierChoice,
    /// Bytes per peer that are accepted and not yet delivered; more are refused with [`crate::SendError::Full`].
    pub in_flight_bytes_max: u64,
    /// Largest frame it takes, header included. A peer's memory here is bounded by a small multiple of it.
    pub frame_bytes_max: u64,
}
