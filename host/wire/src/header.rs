//! The 64 bytes every frame begins with. Little-endian; pinned by `tests/golden.rs`.
//!
//! ```text
//!  offset 0       1       2       3       4       5       6       7
//!        +-------+-------+-------+-------+-------+-------+-------+-------+
//!      0 |          magic "BPSF"         |    version    | kind  | flags |
//!        +-------+-------+-------+-------+-------+-------+-------+-------+
//!      8 |                              id                               |
//!        +-------+-------+-------+-------+-------+-------+-------+-------+
//!     16 |                        payload length                         |
//!        +-------+-------+-------+-------+-------+-------+-------+-------+
//!     24 |          body length          |          body CRC32C          |
//!        +-------+-------+-------+-------+-------+-------+-------+-------+
//!     32 |                                                               |
//!        +                        W3C trace-id                           +
//!     40 |                                                               |
//!        +-------+-------+-------+-------+-------+-------+-------+-------+
//!     48 |                        W3C parent-id                          |
//!        +-------+-------+-------+-------+-------+-------+-------+-------+
//!     56 | trace | stage |   reserved    |         header CRC32C         |
//!        +-------+-------+-------+-------+-------+-------+-------+-------+
//!     64 |  body (postcard), body length                                 |
//!        ~                                                               ~
//!        |  payload (tensors end to end), payload length                 |
//!        ~                                                               ~
//!        |       payload CRC32C          |   only where there is payload
//!        +-------+-------+-------+-------+
//! ```
//!
//! `trace` are the W3C trace-flags. `stage` counts the stages that are done. `id` is a dispatch or a ping's token. What a
//! kind does not use is zero, and anything else there is refused. The header's checksum covers its first 60 bytes, so no
//! length is believed before it is known to be what the sender wrote.

use crate::bounds::{Limits, body_bytes_max};
use crate::error::WireError;
use bps_types::Trace;

/// Bytes of a header.
pub const HEADER_BYTES: usize = 64;
/// The first four bytes of a frame.
pub const MAGIC: [u8; 4] = *b"BPSF";
/// The version of frames that this crate reads and writes.
pub const VERSION: u16 = 2;
/// Bytes of the checksum after a payload.
pub(crate) const TRAILER_BYTES: usize = 4;

/// What a frame carries. The numbers are the protocol's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named as the messages they carry")]
#[repr(u8)]
pub enum Kind {
    Advert = 1,
    Standing = 2,
    Ping = 3,
    Pong = 4,
    Progress = 5,
    Execute = 6,
    Answer = 7,
    Recall = 8,
    ModelWanted = 9,
    ModelPart = 10,
    ModelDenied = 11,
    Bye = 12,
    ListWanted = 13,
    ModelList = 14,
}

impl Kind {
    /// Every kind, by number.
    pub const ALL: [Self; 14] = [
        Self::Advert,
        Self::Standing,
        Self::Ping,
        Self::Pong,
        Self::Progress,
        Self::Execute,
        Self::Answer,
        Self::Recall,
        Self::ModelWanted,
        Self::ModelPart,
        Self::ModelDenied,
        Self::Bye,
        Self::ListWanted,
        Self::ModelList,
    ];

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// Whether frames of this kind may have a payload. A ping's is padding.
    pub fn has_payload(self) -> bool {
        matches!(self, Self::Ping | Self::Execute | Self::Answer | Self::ModelPart)
    }

    fn has_id(self) -> bool {
        matches!(self, Self::Ping | Self::Pong | Self::Execute | Self::Answer | Self::Recall)
    }
}

/// The fields of a header that has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What follows.
    pub kind: Kind,
    /// A dispatch, or a ping's token; 0 for other kinds.
    pub id: u64,
    /// Stages of the plan that are done; 0 for other kinds than `Execute`.
    pub stage: u8,
    /// Bytes of the body.
    pub body_bytes: u32,
    /// Checksum of the body.
    pub body_crc: u32,
    /// Bytes of the payload.
    pub payload_bytes: u64,
    /// Of the request; zero for other kinds than `Execute`.
    pub trace: Trace,
}

impl Header {
    /// Reads and checks a header; `limits` bound what may follow it.
    ///
    /// # Errors
    /// The first field that is wrong. Nothing of a header with an error may be used.
    pub fn parse(bytes: &[u8; HEADER_BYTES], limits: &Limits) -> Result<Self, WireError> {
        let magic = array::<4>(bytes, 0);
        if magic != MAGIC {
            return Err(WireError::Magic { found: magic });
        }
        let (found, computed) = (u32::from_le_bytes(array(bytes, 60)), crc32c::crc32c(&bytes[..60]));
        if found != computed {
            return Err(WireError::Checksum { part: "header", found, computed });
        }
        let version = u16::from_le_bytes(array(bytes, 4));
        if version != VERSION {
            return Err(WireError::Version { found: version, expected: VERSION });
        }
        let kind = Kind::from_number(bytes[6]).ok_or(WireError::Kind { found: bytes[6] })?;
        let header = Self {
            kind,
            id: u64::from_le_bytes(array(bytes, 8)),
            payload_bytes: u64::from_le_bytes(array(bytes, 16)),
            body_bytes: u32::from_le_bytes(array(bytes, 24)),
            body_crc: u32::from_le_bytes(array(bytes, 28)),
            trace: Trace { trace_id: array(bytes, 32), span_id: array(bytes, 48), flags: bytes[56] },
            stage: bytes[57],
        };
        let zero = |is_zero: bool, field, offset| {
            if is_zero { Ok(()) } else { Err(WireError::NotZero { field, offset, kind }) }
        };
        zero(bytes[7] == 0, "flags", 7)?;
        zero(bytes[58..60] == [0, 0], "reserved", 58)?;
        zero(kind.has_id() || header.id == 0, "id", 8)?;
        zero(kind.has_payload() || header.payload_bytes == 0, "payload length", 16)?;
        zero(kind == Kind::Execute || header.trace == Trace::default(), "trace context", 32)?;
        zero(kind == Kind::Execute || header.stage == 0, "stage", 57)?;
        header.check_lengths(limits)?;
        Ok(header)
    }

    /// The header's bytes, checksum included.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
        bytes[6] = self.kind as u8;
        bytes[8..16].copy_from_slice(&self.id.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.body_crc.to_le_bytes());
        bytes[32..48].copy_from_slice(&self.trace.trace_id);
        bytes[48..56].copy_from_slice(&self.trace.span_id);
        bytes[56] = self.trace.flags;
        bytes[57] = self.stage;
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Whether it goes ahead of tensors and is not counted as traffic: everything that carries none, padded pings and
    /// lists of files aside.
    pub fn is_control(&self) -> bool {
        let is_traffic = matches!(self.kind, Kind::Execute | Kind::Answer | Kind::ModelList | Kind::ModelPart);
        self.payload_bytes == 0 && !is_traffic
    }

    /// Bytes of the whole frame; saturates, which no accepted header does.
    pub fn frame_bytes(&self) -> u64 {
        (HEADER_BYTES as u64).saturating_add(self.rest_bytes())
    }

    /// Bytes after the header.
    pub(crate) fn rest_bytes(&self) -> u64 {
        let trailer = if self.payload_bytes == 0 { 0 } else { TRAILER_BYTES as u64 };
        self.payload_bytes.saturating_add(u64::from(self.body_bytes)).saturating_add(trailer)
    }

    pub(crate) fn check_lengths(&self, limits: &Limits) -> Result<(), WireError> {
        let (bytes, bytes_max) = (u64::from(self.body_bytes), body_bytes_max(self.kind));
        if bytes > bytes_max {
            return Err(WireError::TooLarge { what: "body", bytes, bytes_max });
        }
        let (bytes, bytes_max) = (self.frame_bytes(), limits.frame_bytes_max.min(limits.addressable_max()));
        if bytes > bytes_max {
            return Err(WireError::TooLarge { what: "frame", bytes, bytes_max });
        }
        Ok(())
    }
}

/// `N` bytes from `offset`; the caller's offsets are constants inside the header.
fn array<const N: usize>(bytes: &[u8; HEADER_BYTES], offset: usize) -> [u8; N] {
    std::array::from_fn(|i| bytes[offset + i])
}
