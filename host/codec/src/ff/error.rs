//! What can be wrong with a tensor, a frame or a package.

use crate::CodecError;
use bps_types::DataType;

/// A request that FF cannot serve, or bytes that no FF encoder writes.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FfError {
    /// Only FP32 tensors are coded.
    #[error("FF does not take {0}")]
    Type(DataType),
    /// The tensor's shape cannot be carried.
    #[error("FF does not take shape {got:?}: {why}")]
    Shape {
        /// As given.
        got: Vec<usize>,
        /// Why not.
        why: &'static str,
    },
    /// There are rates 0 to 31.
    #[error("FF has no rate {0}: 0 is the finest, 31 the coarsest")]
    Rate(u8),
    /// A bound that cannot be kept.
    #[error("an absolute error of {0} cannot be kept: it must be a number from 2^-100 to 2^100")]
    Bound(f32),
    /// The package was not calibrated for this mode at this rate.
    #[error("the package of {cut} has nothing for {mode} at rate {q}")]
    NotCalibrated {
        /// The cut's name.
        cut: String,
        /// The mode's name.
        mode: &'static str,
        /// The rate.
        q: u8,
    },
    /// The package is for tensors of another shape.
    #[error("the package of {cut} is for rows of {expected:?}, not {got:?}")]
    Cut {
        /// The cut's name.
        cut: String,
        /// Channels, height, width it was calibrated with.
        expected: [usize; 3],
        /// Those of the tensor.
        got: [usize; 3],
    },
    /// The frame was made with another package.
    #[error("byte 8, package: the frame was made with package {got:016x}, the receiver has {expected:016x}")]
    Package {
        /// The receiver's.
        expected: u64,
        /// The frame's.
        got: u64,
    },
    /// The bytes are no whole frame.
    #[error("byte {offset}, {what}: {message}")]
    Frame {
        /// Where, in bytes from the frame's first.
        offset: usize,
        /// Which part.
        what: &'static str,
        /// What is wrong there.
        message: String,
    },
    /// A package file that cannot be used, or a calibration that was handed nonsense.
    #[error("package, {what}: {message}")]
    Calibration {
        /// Which part.
        what: &'static str,
        /// What is wrong there.
        message: String,
    },
}

impl FfError {
    /// The crate's error, with the codec named.
    pub fn named(self, codec: &'static str) -> CodecError {
        match self {
            Self::Type(data_type) => CodecError::Type { codec, data_type },
            Self::Rate(rate) => CodecError::Rate { codec, rate },
            Self::Shape { got, why } => CodecError::Shape { codec, got, expected: why.to_owned() },
            Self::Frame { offset, what, message } => {
                CodecError::Corrupt { codec, place: format!("byte {offset}, {what}"), message }
            }
            other => CodecError::Corrupt { codec, place: "package".to_owned(), message: other.to_string() },
        }
    }
}

/// A fault at a byte of a frame.
pub(super) fn fault(offset: usize, what: &'static str, message: impl Into<String>) -> FfError {
    FfError::Frame { offset, what, message: message.into() }
}
