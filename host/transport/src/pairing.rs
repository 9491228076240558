//! Pairing: two hosts learn each other's certificate, by a one-time code that a person carries from one to the other.
//!
//! `bps pair` opens an [`Invitation`]; `bps pair HOST CODE` [`join`]s it. Both sides connect by TLS 1.3 without believing
//! the other's certificate, prove the code to each other with HMAC-SHA256 over both fingerprints and two fresh nonces, and
//! then write each other down. Whoever sits in between shows another certificate to each side, and its proofs fail.
//!
//! A code is 60 random bits, valid once and for minutes. That is why no password-authenticated key exchange is needed:
//! such a protocol protects a secret that can be guessed off line from what was heard, and 2^60 guesses are years of a
//! fast machine, for a code that is void after minutes. On line there are five tries.
//!
//! **Invariants.** The decisions are in `exchange`, which is pure. Here, every wait has a limit, connections at once are
//! bounded, and nobody is written down who did not prove the code.

mod code;
mod exchange;
mod guest;
mod host;
mod message;

pub use code::{Code, CodeError};
pub use guest::join;
pub use host::Invitation;
pub use message::Refusal;

use crate::identity::Identity;
use crate::peers::{NAME_RULE, Peer, Quotas, Rights, StoreError, is_name};
use crate::tls::{ALPN_PAIR, peer_key};
use bps_wire::HostKey;
use message::About;
use rustls::CommonState;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Where `bps pair` waits unless told otherwise.
pub const PAIR_PORT: u16 = 7861;
/// Most time an exchange takes, TLS handshake included.
const EXCHANGE_MAX: Duration = Duration::from_secs(20);

/// What a host says of itself when it pairs, and what it lets the other do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What it calls itself; up to 64 bytes.
    pub name: String,
    /// Where its `bps serve` listens for paired hosts; none: it does not.
    pub peer_port: Option<u16>,
    /// What the other may do here.
    pub rights: Rights,
    /// How much of it.
    pub quotas: Quotas,
}

impl Terms {
    fn check(&self) -> Result<(), PairingError> {
        match is_name(&self.name) {
            true => Ok(()),
            false => Err(PairingError::Name { name: self.name.clone() }),
        }
    }

    /// What is kept of a host that proved itself.
    fn peer(&self, key: HostKey, about: About, address: Option<String>) -> Peer {
        Peer { key, name: about.name, address, rights: self.rights, quotas: self.quotas }
    }
}

/// Two hosts are paired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paired {
    /// The other one, as it is kept.
    pub peer: Peer,
    /// What it lets this one do.
    pub granted: Rights,
}

/// Why two hosts are not paired.
#[derive(Debug, thiserror::Error)]
pub enum PairingError {
    /// A host cannot be called that.
    #[error("{name:?} cannot be this host's name: {NAME_RULE} (--name)")]
    Name {
        /// That.
        name: String,
    },
    /// The port cannot be opened.
    #[error("cannot wait for the other host on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The other host cannot be reached.
    #[error("cannot reach {address}: {source}; does `bps pair` wait there?")]
    Connect {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Whoever answers there does not pair.
    #[error("{address} answers but does not pair: {source}; is that the port `bps pair` shows there?")]
    NoPairing {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Nobody came.
    #[error("no host paired within {waited:?}; the code is void")]
    NobodyCame {
        /// How long it waited.
        waited: Duration,
    },
    /// The code was guessed at.
    #[error(
        "{} wrong codes came; the code is void. If that was not you, somebody tries to get in",
        exchange::TRIES_MAX
    )]
    TooManyTries,
    /// The right code came, and then the connection broke.
    #[error("a host proved the code and then failed: {source}; the code is used up, pair again")]
    Broken {
        /// How.
        #[source]
        source: Box<PairingError>,
    },
    /// The waiting host said no.
    #[error("the other host refused: {0}")]
    Refused(Refusal),
    /// This host refused a guest.
    #[error("refused a host: {0}")]
    Refuses(Refusal),
    /// Whoever answered does not know the code.
    #[error("whoever answered does not know the code: nothing is paired. It is another host, or one in between")]
    NotProven,
    /// The carrier failed.
    #[error("the connection to the other host broke: {0}")]
    Carrier(#[source] io::Error),
    /// The other side took too long.
    #[error("the other host said nothing for {} s", EXCHANGE_MAX.as_secs())]
    Silent,
    /// That is not a message.
    #[error("the other host said something that is no message")]
    Garbled,
    /// That is not what is said at this point.
    #[error("the other host said something out of turn")]
    OutOfTurn,
    /// The system has no randomness.
    #[error("the system gives no random numbers")]
    Random,
    /// TLS refuses its settings.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The pairing cannot be written down.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Who is on the other side of a handshake, if it is one for pairing.
fn other_side(state: &CommonState) -> Result<HostKey, PairingError> {
    match state.alpn_protocol() {
        Some(ALPN_PAIR) => state.peer_certificates().and_then(peer_key).ok_or(PairingError::OutOfTurn),
        _ => Err(PairingError::OutOfTurn),
    }
}

/// Runs one exchange within its limit.
async fn limited<T>(exchange: impl Future<Output = Result<T, PairingError>>) -> Result<T, PairingError> {
    tokio::time::timeout(EXCHANGE_MAX, exchange).await.unwrap_or(Err(PairingError::Silent))
}

/// What the shell needs of this host.
#[derive(Clone)]
struct Own {
    identity: Identity,
    store: crate::peers::PeerStore,
    terms: Terms,
}
