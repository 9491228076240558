//! The reading half of a QUIC link.

use super::config::STREAMS_MAX;
use super::{lost, not_read};
use crate::arrivals::Arrivals;
use crate::link::LinkError;
use bps_wire::{FrameReader, HEADER_BYTES, Step};
use bytes::BufMut;
use quinn::{Connection, ReadError, RecvStream};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// What the memory for frames under way is counted in.
const GRAIN_BYTES: u64 = 1 << 10;

/// Control frames until the stream ends.
pub(super) async fn control(mut stream: RecvStream, arrivals: &Arrivals) -> LinkError {
    let mut reader = FrameReader::new(arrivals.limits);
    loop {
        match fill(&mut stream, &mut reader).await {
            Ok(0) => return LinkError::Closed,
            Ok(_) => arrivals.heard(),
            Err(error) => return not_read(error),
        }
        loop {
            match reader.advance() {
                Ok(Step::More) => break,
                Ok(Step::Header(header)) if header.is_control() => {}
                Ok(Step::Header(_)) => return LinkError::Rules("a tensor on the control stream"),
                Ok(Step::Message(message, header)) => arrivals.message(message, &header),
                Err(error) => return error.into(),
            }
        }
    }
}

/// Streams of one frame each. What they declare, together, is bounded: who has no room waits unread, and flow control
/// makes the peer wait.
pub(super) async fn frames(connection: &Connection, arrivals: &Arc<Arrivals>) -> LinkError {
    let grains = grains(2 * arrivals.limits.frame_bytes_max);
    let room = Arc::new(Semaphore::new(grains as usize));
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            stream = connection.accept_uni(), if tasks.len() < STREAMS_MAX as usize => match stream {
                Ok(stream) => drop(tasks.spawn(frame(stream, arrivals.clone(), room.clone()))),
                Err(error) => return lost(error),
            },
            Some(ended) = tasks.join_next() => match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return error,
                Err(_) => return LinkError::Rules("a reader failed"),
            },
        }
    }
}

async fn frame(mut stream: RecvStream, arrivals: Arc<Arrivals>, room: Arc<Semaphore>) -> Result<(), LinkError> {
    let (mut reader, mut received, mut permit) = (FrameReader::new(arrivals.limits), 0u64, None);
    let begun = Begun { arrivals: &arrivals, any: std::cell::Cell::new(false) };
    loop {
        match fill(&mut stream, &mut reader).await {
            // The peer ends in the middle of it.
            Ok(0) => return Err(LinkError::Closed),
            Ok(count) => {
                arrivals.bytes(count as u64, received == 0);
                begun.any.set(true);
                received += count as u64;
            }
            Err(ReadError::Reset(written)) => {
                arrivals.waived(written.into_inner().saturating_sub(received));
                return Ok(());
            }
            Err(error) => return Err(not_read(error)),
        }
        loop {
            match reader.advance()? {
                Step::More => break,
                Step::Header(header) if header.is_control() => {
                    return Err(LinkError::Rules("a control message on a stream of its own"));
                }
                Step::Header(header) => {
                    let acquired = room.clone().acquire_many_owned(grains(header.frame_bytes())).await;
                    permit = Some(acquired.map_err(|_| LinkError::Done)?);
                }
                Step::Message(message, header) => {
                    drop(begun);
                    arrivals.message(message, &header);
                    drop(permit);
                    return match fill(&mut stream, &mut FrameReader::new(arrivals.limits)).await {
                        Ok(0) => Ok(()),
                        Ok(_) => Err(LinkError::Rules("a stream goes on after its frame")),
                        // All of it came before the peer gave it up.
                        Err(ReadError::Reset(_)) => Ok(()),
                        Err(error) => Err(not_read(error)),
                    };
                }
            }
        }
    }
}

/// Ends the frame in the books however its task ends.
struct Begun<'a> {
    arrivals: &'a Arrivals,
    any: std::cell::Cell<bool>,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if self.any.get() {
            self.arrivals.ends();
        }
    }
}

/// Appends what is there of the reader's frame; zero at the stream's end.
async fn fill(stream: &mut RecvStream, reader: &mut FrameReader) -> Result<usize, ReadError> {
    let wanted = reader.wanted().max(1);
    let Some(chunk) = stream.read_chunk(wanted, true).await? else { return Ok(0) };
    reader.buffer().put_slice(&chunk.bytes);
    Ok(chunk.bytes.len())
}

fn grains(bytes: u64) -> u32 {
    u32::try_from(bytes.max(HEADER_BYTES as u64).div_ceil(GRAIN_BYTES)).unwrap_or(u32::MAX)
}
