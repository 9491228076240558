//! The HTTP front: the Open Inference Protocol v2 for clients, an admin interface for operators, and the server that
//! carries both.
//!
//! Stands between sockets and [`bps_node::Host`]. [`client_router`] and [`admin_router`] say what is answered;
//! [`serve`] and [`serve_unix`] say how connections live and end.
//!
//! **Invariants.**
//! - Every answer that is not a result is JSON, `{"error": "..."}`, whatever part of the stack gave it.
//! - Nothing is allocated from a declared length; bodies, headers, connections and the bytes of all bodies together
//!   have limits, and every wait for a client has an end.
//! - A client that goes away drops its handler, and with it the request.
//! - Admin routes exist only on the admin router; there, a caller shows a token and comes from this machine.
//!
//! Knows no scheduler, no device and no Wasm: only what `Host` shows.

#![forbid(unsafe_code)]

mod admin;
mod body;
mod client;
mod error;
mod oip;
mod problem;
mod secret;
mod server;

pub use admin::{admin_router, admin_unix_router};
pub use client::{ApiConfig, client_router};
pub use error::ApiError;
pub use secret::{Secret, new_token};
pub use server::{ServerLimits, TlsFiles, serve, serve_unix, serve_with};
