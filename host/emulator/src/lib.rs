//! An emulated network link: rate, delay, loss, a bounded queue, outages, and what changes them over time.
//!
//! One pure model ([`Pipe`], one direction of a link in virtual time) under two shells. [`TunLink`] joins two network
//! namespaces through TUN devices, so that real kernel TCP and real QUIC meet the emulated link (Linux, root). [`Proxy`] is a
//! TCP and UDP proxy on loopback for machines where that is not allowed, and the fault injector of the tests: it also stalls,
//! swallows, corrupts and cuts. [`Script`] says what changes when.
//!
//! **Invariants.** The model reads no clock and draws from a seed. Every queue is bounded: what finds no room is dropped
//! (packets) or not read yet (streams). Dropping a shell ends its threads and removes what it made.
//!
//! **Never knows** what the bytes mean.

#![forbid(unsafe_code)]

mod conditions;
mod pipe;
mod proxy;
mod script;
#[cfg_attr(not(target_os = "linux"), path = "elsewhere.rs")]
mod tun;
mod units;

pub use conditions::{Conditions, Loss};
pub use pipe::{Counts, Pipe, Refused};
pub use proxy::{Direction, Fault, Proxy, ProxyConditions};
pub use script::{Change, Script, ScriptError, Step};
pub use tun::{Door, NetworkError, Place, TunLink, cores, pin, remove_leftovers};
pub use units::{UnitError, rate, rate_text, share, span};
