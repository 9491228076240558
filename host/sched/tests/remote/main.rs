//! What the scheduler does with other hosts.

mod bench;
mod guests;
mod leaving;
