//! What is wrong with bytes that arrived, or with a message that is to be sent.

use crate::header::Kind;

/// Names the field or the place, and what was found there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Not the beginning of a frame.
    #[error("header, offset 0: not a bps frame (it begins with {found:02x?})")]
    Magic {
        /// What is there.
        found: [u8; 4],
    },
    /// A checksum does not fit.
    #[error("{part}: checksum {found:08x}, computed {computed:08x}")]
    Checksum {
        /// Of the frame: `header`, `body` or `payload`; or `hello`.
        part: &'static str,
        /// What the sender wrote.
        found: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// A frame in a version that was not agreed on.
    #[error("header, offset 4: protocol version {found}, agreed on {expected}")]
    Version {
        /// Of the frame.
        found: u16,
        /// Of this connection.
        expected: u16,
    },
    /// A kind this version does not have.
    #[error("header, offset 6: unknown kind {found}")]
    Kind {
        /// What is there.
        found: u8,
    },
    /// A field that must be zero is not.
    #[error("header, {field} (offset {offset}): must be zero in a frame of kind {kind:?}")]
    NotZero {
        /// Its name.
        field: &'static str,
        /// Where it is.
        offset: usize,
        /// Of the frame.
        kind: Kind,
    },
    /// More bytes than are taken.
    #[error("{what}: {bytes} bytes, at most {bytes_max}")]
    TooLarge {
        /// Frame, body or payload of which kind.
        what: &'static str,
        /// Declared, or to be sent.
        bytes: u64,
        /// Taken.
        bytes_max: u64,
    },
    /// The body is not what its kind needs.
    #[error("body of kind {kind:?}: {source}")]
    Body {
        /// Of the frame.
        kind: Kind,
        /// What the decoder says.
        source: postcard::Error,
    },
    /// The body goes on after its end.
    #[error("body of kind {kind:?}: {bytes} bytes too many")]
    Trailing {
        /// Of the frame.
        kind: Kind,
        /// After the end.
        bytes: usize,
    },
    /// A number of things or bytes is out of its bounds.
    #[error("{field}: {value}, at most {max}")]
    TooMany {
        /// Which.
        field: &'static str,
        /// Found.
        value: u64,
        /// Allowed.
        max: u64,
    },
    /// A field has a value that makes no sense.
    #[error("{field}: {what}")]
    Field {
        /// Which.
        field: &'static str,
        /// Why.
        what: &'static str,
    },
    /// Body and payload disagree.
    #[error("payload: {payload} bytes, the body declares {declared}")]
    Pieces {
        /// Sum over the tensors.
        declared: u64,
        /// There is.
        payload: u64,
    },
    /// Not the beginning of a handshake.
    #[error("hello, offset 0: not a bps host (it begins with {found:02x?})")]
    HelloMagic {
        /// What is there.
        found: [u8; 8],
    },
    /// The handshake is not as long as it says.
    #[error("hello: {got} bytes, its lengths say {needed}")]
    HelloLength {
        /// By its fields.
        needed: usize,
        /// There are.
        got: usize,
    },
    /// No version in common.
    #[error("no protocol version in common: this host speaks {}, {peer:?} ({software:?}) speaks {}", range(.ours), range(.theirs))]
    Versions {
        /// Lowest and highest.
        ours: (u16, u16),
        /// Lowest and highest.
        theirs: (u16, u16),
        /// What the peer calls itself.
        peer: String,
        /// What it runs.
        software: String,
    },
}

fn range(versions: &(u16, u16)) -> String {
    if versions.0 == versions.1 { versions.0.to_string() } else { format!("{} to {}", versions.0, versions.1) }
}
