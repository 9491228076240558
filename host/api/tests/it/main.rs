//! The API against a real host, through real sockets.

mod admin;
mod disconnect;
mod endpoints;
mod harness;
mod infer;
mod limits;
mod refusals;
mod tls;
