//! What can go wrong.

use bps_wire::WireError;
use std::io;
use std::net::SocketAddr;

/// Why a message was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No session with this peer.
    #[error("no session with this peer")]
    Down,
    /// As much is in flight as may be; later perhaps.
    #[error("the link is full: {in_flight_bytes} of {bytes_max} bytes are in flight")]
    Full {
        /// Accepted and not yet delivered.
        in_flight_bytes: u64,
        /// Of them at most.
        bytes_max: u64,
    },
    /// Never fits.
    #[error("a frame of {bytes} bytes, the peer takes {bytes_max}")]
    TooLarge {
        /// Of the frame.
        bytes: u64,
        /// What both sides take.
        bytes_max: u64,
    },
    /// Breaks a bound of the protocol; the peer would have refused it.
    #[error("not sendable: {0}")]
    Unfit(#[source] WireError),
}

/// Why the transport does not start.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address} ({what}): {source}")]
    Listen {
        /// Wanted.
        address: SocketAddr,
        /// TCP or UDP.
        what: &'static str,
        /// The system's words.
        source: io::Error,
    },
    /// The socket QUIC dials from.
    #[error("no socket for outgoing QUIC: {0}")]
    Dial(#[source] io::Error),
    /// Key and certificate do not make a TLS configuration.
    #[error("TLS: {0}")]
    Tls(String),
    /// A setting is out of its bounds.
    #[error("settings: {0}")]
    Settings(String),
}
