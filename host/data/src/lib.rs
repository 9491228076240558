//! The pictures that bps trains and judges models with: nothing is downloaded, nothing is stored besides 1,797 small scans.
//!
//! Stands beside the engine, which learns from them, and the commands that calibrate and measure. [`rows`] is the seam: a
//! set, a split, a size and a count give labelled pictures, the same ones on every machine and in every run.
//!
//! **Invariants.** A picture follows from its set, split, seed, size and index alone, by arithmetic that is equal on every
//! platform. No two of the five splits share anything: shapes of different splits are drawn from different keys of one generator, digits
//! of different splits from different scans. Labels are drawn evenly.
//!
//! **Must never know.** Models, tensors, devices.

#![forbid(unsafe_code)]

mod camera;
pub mod digits;
mod draw;
mod lessons;
mod scans;
mod set;
mod shapes;

pub use lessons::Lessons;
pub use set::{CLASSES, ParseSetError, Picture, SIDES, Set, Split, rows};
