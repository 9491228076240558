//! How tensors travel between hosts: the registry of codecs, their processor path, and the CPU references of the kernels
//! in `shaders/`, in plain Rust that anyone can check.
//!
//! Stands beside the engine: it packs and unpacks on a GPU where it can and uses these functions everywhere else, and its
//! tests hold every kernel against them. What comes off the wire as [`bps_types::Packed`] goes through [`decode`],
//! [`decode_f32_into`] or [`open`], and through nothing else.
//!
//! A codec is a [`Layout`] (what happens to the elements) and, for some, zstd over the laid-out bytes. Every layout but
//! JPEG's and [`ff`]'s has a length that follows from type and shape. All treat each row by itself: rows of one batch may
//! be cut apart or put together without a change to their values.
//!
//! **Invariants.** No I/O, no clock, no device. Everything that is decoded is hostile: lengths are checked before
//! anything is read or allocated, no tensor is larger than [`VALUE_BYTES_MAX`], and a mismatch is an error that names the
//! codec and the place, never a panic.

#![forbid(unsafe_code)]

mod cap;
mod coding;
mod error;
pub mod f16;
pub mod ff;
pub mod int8;
mod jpeg;
pub mod pixels;
mod registry;
mod squeeze;
mod timing;

pub use cap::{SizeCap, encode_capped};
pub use coding::{Opened, VALUE_BYTES_MAX, decode, decode_f32_into, decode_with, encode, encode_with};
pub use coding::{frame_writer, open, seal};
pub use error::CodecError;
pub use pixels::{PixelShape, denormalize, denormalize_u8, normalize_u8, normalized};
pub use registry::{CodecSpec, Layout, RAW, codecs, spec};
pub use timing::{CodecTiming, Ends, fit, measure, measure_one, sample};

/// Errors unless `got == expected`.
fn check_length(what: &'static str, unit: &'static str, expected: usize, got: usize) -> Result<(), CodecError> {
    if got == expected { Ok(()) } else { Err(CodecError::Length { what, unit, expected, got }) }
}
