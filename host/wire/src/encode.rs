//! Messages to frames.

use crate::body::{self, kind_of};
use crate::bounds::{self, Limits};
use crate::error::WireError;
use crate::header::{HEADER_BYTES, Header, Kind, TRAILER_BYTES};
use crate::message::Message;
use bps_types::{Nanos, Trace};
use bytes::Bytes;

/// Body bytes that most messages stay below.
const BODY_BYTES_USUAL: usize = 192;
/// What probes are padded with.
static PADDING: [u8; 64 << 10] = [0; 64 << 10];

/// A frame in pieces, ready to be written one after the other. Tensor bytes are shared with the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Its header.
    pub header: Header,
    /// Header and body, the payload's slices, and the payload's checksum where there is payload. None is empty.
    pub parts: Vec<Bytes>,
}

impl Encoded {
    /// Bytes of the frame.
    pub fn bytes(&self) -> u64 {
        self.header.frame_bytes()
    }
}

/// Makes the frame of `message`; `limits` are the receiver's.
///
/// # Errors
/// Where the message breaks a bound the receiver would refuse it for.
pub fn encode(message: &Message, limits: &Limits) -> Result<Encoded, WireError> {
    bounds::check(message)?;
    let (id, stage, trace) = match message {
        Message::Ping { token, .. } | Message::Pong { token, .. } => (*token, 0, Trace::default()),
        Message::Execute(e) => (e.dispatch, e.reports.len() as u8, e.trace),
        Message::Answer(answer) => (answer.dispatch, 0, Trace::default()),
        Message::Recall { dispatch } => (*dispatch, 0, Trace::default()),
        _ => (0, 0, Trace::default()),
    };
    let mut payload = Vec::new();
    let mut head = Vec::with_capacity(HEADER_BYTES + BODY_BYTES_USUAL);
    head.resize(HEADER_BYTES, 0);
    let head = body::write(message, head, &mut payload)?;
    frame(kind_of(message), (id, stage, trace), head, payload, limits)
}

/// A ping padded to about `padding_bytes` (at most 64 KiB): a little traffic, so that an idle link can be measured.
///
/// # Errors
/// Where `limits` do not allow as much.
pub fn encode_probe(token: u64, at: Nanos, padding_bytes: usize, limits: &Limits) -> Result<Encoded, WireError> {
    let head = body::write(&Message::Ping { token, at }, vec![0; HEADER_BYTES], &mut Vec::new())?;
    let padding = Bytes::from_static(&PADDING[..padding_bytes.min(PADDING.len())]);
    frame(Kind::Ping, (token, 0, Trace::default()), head, vec![padding], limits)
}

/// `head` is room for the header, then the body.
fn frame(
    kind: Kind,
    (id, stage, trace): (u64, u8, Trace),
    mut head: Vec<u8>,
    mut payload: Vec<Bytes>,
    limits: &Limits,
) -> Result<Encoded, WireError> {
    payload.retain(|part| !part.is_empty());
    let (payload_bytes, payload_crc) = payload
        .iter()
        .fold((0u64, 0), |(bytes, crc), part| (bytes + part.len() as u64, crc32c::crc32c_append(crc, part)));
    let body_bytes = u32::try_from(head.len() - HEADER_BYTES).unwrap_or(u32::MAX);
    let body_crc = crc32c::crc32c(&head[HEADER_BYTES..]);
    let header = Header { kind, id, stage, body_bytes, body_crc, payload_bytes, trace };
    header.check_lengths(limits)?;
    head[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
    let mut parts = Vec::with_capacity(payload.len() + 2);
    parts.push(head.into());
    parts.append(&mut payload);
    if payload_bytes > 0 {
        let trailer: [u8; TRAILER_BYTES] = payload_crc.to_le_bytes();
        parts.push(Bytes::copy_from_slice(&trailer));
    }
    Ok(Encoded { header, parts })
}
