//! Moves messages between hosts: identity, pairing, links, sessions, estimates.
//!
//! Stands between `wire`, which says what bytes mean, and `node`, which acts on messages. A [`Transport`] keeps one
//! session with every host in its [`PeerStore`]: it dials and listens, over QUIC or TCP (`dial.rs` says when which),
//! always with mutual TLS. The owner calls [`Transport::send`], which never waits, and hears [`Happening`]s.
//!
//! ```text
//! send ──> outbox ──> link (tcp | quic) ══ network ══> link ──> arrivals ──> session ──> sink
//!            ^                                                     │ measures
//!            └─────────── backlog, goodput <── progress ───────────┘
//! ```
//!
//! **Invariants.** Nobody who is not in the peer store gets past TLS. Every queue, handshake and frame under way is
//! bounded. Bytes from a peer can end its session and nothing else: they never cause a panic or an allocation beyond the
//! bounds. What a message means is not known here.

#![forbid(unsafe_code)]

mod arrivals;
pub mod bench;
mod dial;
mod error;
mod gauge;
mod happening;
mod hello;
mod hub;
mod identity;
mod link;
mod listen;
mod outbox;
pub mod pairing;
mod peers;
mod quic;
mod roster;
mod session;
mod settings;
mod slots;
mod tcp;
pub mod tls;
mod transport;

pub use bps_wire::HostKey;
pub use error::{SendError, TransportError};
pub use happening::{Estimate, Happening, PeerStatus};
pub use identity::{IDENTITY_FILE, Identity, IdentityError, fingerprint};
pub use listen::check_address;
pub use peers::{NAME_BYTES_MAX, PEERS_FILE, PEERS_MAX, Peer, PeerStore, Quotas, Rights, StoreError};
pub use settings::{Carrier, CarrierChoice, Settings};
pub use transport::Transport;
