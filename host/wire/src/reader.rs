//! Arriving bytes to messages.

use crate::body;
use crate::bounds::{self, Limits};
use crate::error::WireError;
use crate::header::{HEADER_BYTES, Header, TRAILER_BYTES};
use crate::message::Message;
use bytes::{Bytes, BytesMut};

/// Room made at once for a frame whose header was accepted; a longer one gets more as its bytes arrive.
const RESERVE_BYTES: usize = 8 << 20;

/// Takes one stream of frames apart, whatever pieces it comes in. After an error the stream is lost: nothing in it says
/// where the next frame begins.
#[derive(Debug)]
pub struct FrameReader {
    limits: Limits,
    header: Option<Header>,
    buffer: BytesMut,
}

/// What [`FrameReader::advance`] found.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "a step is looked at and gone; a box would be one more allocation a frame"
)]
pub enum Step {
    /// Nothing yet: [`FrameReader::wanted`] bytes are missing.
    More,
    /// A header was accepted; its body and payload come next.
    Header(Header),
    /// A frame is complete.
    Message(Message, Header),
}

impl FrameReader {
    /// For a stream that has not begun.
    pub fn new(limits: Limits) -> Self {
        Self { limits, header: None, buffer: BytesMut::new() }
    }

    /// Bytes missing until [`Self::advance`] has something to say. It never reaches beyond the current frame.
    pub fn wanted(&self) -> usize {
        self.needed().saturating_sub(self.buffer.len())
    }

    /// Where arriving bytes go: append at most [`Self::wanted`]. There is room for some of them without growing.
    pub fn buffer(&mut self) -> &mut BytesMut {
        let wanted = self.wanted();
        if self.buffer.capacity() - self.buffer.len() < wanted {
            // Doubles, so that a frame longer than what is reserved at once is copied a bounded number of times.
            let room = wanted.min(RESERVE_BYTES.max(self.buffer.len()));
            self.buffer.reserve(room);
        }
        &mut self.buffer
    }

    /// Whether the stream is between two frames.
    pub fn is_between_frames(&self) -> bool {
        self.header.is_none() && self.buffer.is_empty()
    }

    /// Looks at what was appended. Call it until it wants more.
    ///
    /// # Errors
    /// The first thing that is wrong with the frame.
    pub fn advance(&mut self) -> Result<Step, WireError> {
        if self.wanted() > 0 {
            return Ok(Step::More);
        }
        match self.header {
            None => {
                let mut bytes = [0; HEADER_BYTES];
                bytes.copy_from_slice(&self.buffer[..HEADER_BYTES]);
                self.buffer.clear();
                let header = Header::parse(&bytes, &self.limits)?;
                self.header = Some(header);
                Ok(Step::Header(header))
            }
            Some(header) => {
                let message = self.finish(&header)?;
                self.header = None;
                Ok(Step::Message(message, header))
            }
        }
    }

    /// Takes from the front of `bytes` what belongs to the current frame; `None` means all was taken and more is needed.
    ///
    /// # Errors
    /// As [`Self::advance`].
    pub fn feed(&mut self, bytes: &mut &[u8]) -> Result<Option<Message>, WireError> {
        loop {
            let (taken, rest) = bytes.split_at(self.wanted().min(bytes.len()));
            self.buffer().extend_from_slice(taken);
            *bytes = rest;
            match self.advance()? {
                Step::More => return Ok(None),
                Step::Header(_) => {}
                Step::Message(message, _) => return Ok(Some(message)),
            }
        }
    }

    /// Bytes that the buffer holds when the current step is complete. An accepted header's lengths fit in `usize`.
    fn needed(&self) -> usize {
        match &self.header {
            None => HEADER_BYTES,
            Some(header) => usize::try_from(header.rest_bytes()).unwrap_or(usize::MAX),
        }
    }

    fn finish(&mut self, header: &Header) -> Result<Message, WireError> {
        let body_bytes = header.body_bytes as usize;
        let message = if header.payload_bytes == 0 {
            verify("body", header.body_crc, &self.buffer[..body_bytes])?;
            let message = body::read(header, &self.buffer[..body_bytes], Bytes::new())?;
            self.buffer.clear();
            message
        } else {
            let bytes = std::mem::take(&mut self.buffer).freeze();
            verify("body", header.body_crc, &bytes[..body_bytes])?;
            let payload = bytes.slice(body_bytes..bytes.len() - TRAILER_BYTES);
            let mut trailer = [0; TRAILER_BYTES];
            trailer.copy_from_slice(&bytes[bytes.len() - TRAILER_BYTES..]);
            verify("payload", u32::from_le_bytes(trailer), &payload)?;
            body::read(header, &bytes[..body_bytes], payload)?
        };
        bounds::check(&message)?;
        Ok(message)
    }
}

fn verify(part: &'static str, found: u32, bytes: &[u8]) -> Result<(), WireError> {
    let computed = crc32c::crc32c(bytes);
    if found == computed { Ok(()) } else { Err(WireError::Checksum { part, found, computed }) }
}
