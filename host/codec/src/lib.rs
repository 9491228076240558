//! CPU references for the kernels in `shaders/`: what each one computes, in plain Rust that anyone can check.
//!
//! Stands beside the engine: it uses these functions where a device has no WGSL, and its tests hold every kernel against
//! them.
//!
//! **Invariants.** No I/O, no clock, no device. Lengths are checked before anything is read or allocated; a mismatch is
//! an error, never a panic.

#![forbid(unsafe_code)]

pub mod int8;
mod pixels;

pub use pixels::{PixelShape, normalize_u8};

/// Data that does not fit its description.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The data is longer or shorter than its shape says.
    #[error("{what} should have {expected} {unit}, got {got}")]
    Length {
        /// Which data.
        what: &'static str,
        /// What is counted.
        unit: &'static str,
        /// Wanted.
        expected: usize,
        /// Found.
        got: usize,
    },
    /// The described size does not fit in memory.
    #[error("{what} is too large")]
    TooLarge {
        /// Which data.
        what: &'static str,
    },
}

/// Errors unless `got == expected`.
fn check_length(what: &'static str, unit: &'static str, expected: usize, got: usize) -> Result<(), CodecError> {
    if got == expected { Ok(()) } else { Err(CodecError::Length { what, unit, expected, got }) }
}
