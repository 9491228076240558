//! What can be wrong with data that is to be encoded or decoded.

use bps_types::DataType;

/// Data that does not fit its description, or a description that fits no codec.
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
    /// The described size does not fit in memory, or is more than one value may have.
    #[error("{what} is too large")]
    TooLarge {
        /// Which data.
        what: &'static str,
    },
    /// A factor by which nothing can be divided.
    #[error("{what} of channel {channel} is zero or not finite")]
    Factor {
        /// Which factor.
        what: &'static str,
        /// Of which channel.
        channel: usize,
    },
    /// There is no codec with this number.
    #[error("codec {0} does not exist")]
    Unknown(u8),
    /// The codec does not offer this rate.
    #[error("codec {codec} does not offer rate {rate}")]
    Rate {
        /// Its name.
        codec: &'static str,
        /// As given.
        rate: u8,
    },
    /// The codec is not for elements of this type.
    #[error("codec {codec} does not take {data_type}")]
    Type {
        /// Its name.
        codec: &'static str,
        /// As given.
        data_type: DataType,
    },
    /// The tensor has another shape than the receiver expects, or one that the codec cannot carry.
    #[error("codec {codec}: shape {got:?}, expected {expected}")]
    Shape {
        /// Its name.
        codec: &'static str,
        /// As given.
        got: Vec<usize>,
        /// What would do.
        expected: String,
    },
    /// The encoded bytes are not what the codec makes.
    #[error("codec {codec}, {place}: {message}")]
    Corrupt {
        /// Its name.
        codec: &'static str,
        /// Where in the data.
        place: String,
        /// What is wrong there.
        message: String,
    },
}
