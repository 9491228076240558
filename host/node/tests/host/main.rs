//! A whole host, from tensors in to tensors out: real policies, the real engine on the processor; and two of them ([`two`])
//! or three ([`three`]), linked over loopback; and how one gets a model of another ([`fetching`]).
//!
//! Every test ends with `stand::settled`, which asserts that every request is accounted for.

mod drain;
mod fetching;
mod images;
mod models;
mod observed;
mod peers;
mod played;
mod policies;
mod requests;
mod stand;
mod swaps;
mod three;
mod traffic;
mod two;
