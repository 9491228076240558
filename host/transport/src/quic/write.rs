//! The writing half of a QUIC link.

use super::config::STREAMS_MAX;
use super::{CODE_DONE, CONTROL_PRIORITY, lost, not_written};
use crate::link::LinkError;
use crate::outbox::{Frame, Outbox};
use bytes::Bytes;
use quinn::{Connection, SendStream, VarInt};
use std::time::Duration;
use tokio::task::JoinSet;

/// Control frames handed over at once.
const CONTROL_BYTES: u64 = 64 << 10;
/// How long the last words may take to be acknowledged.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Control frames, in order, until the outbox closes.
pub(super) async fn control(mut stream: SendStream, outbox: &Outbox) -> LinkError {
    let written: Result<(), LinkError> = async {
        stream.set_priority(CONTROL_PRIORITY).map_err(|_| LinkError::Closed)?;
        loop {
            let mut parts: Vec<Bytes> =
                outbox.take_control(CONTROL_BYTES).into_iter().flat_map(|encoded| encoded.parts).collect();
            if !parts.is_empty() {
                stream.write_all_chunks(&mut parts).await.map_err(not_written)?;
            } else if outbox.is_closing() {
                return stream.finish().map_err(|_| LinkError::Closed);
            } else {
                outbox.control_ready.notified().await;
            }
        }
    }
    .await;
    match written {
        Ok(()) => {
            // Closing a connection discards what is not acknowledged.
            let _ = tokio::time::timeout(LAST_WORDS, stream.stopped()).await;
            LinkError::Done
        }
        Err(error) => error,
    }
}

/// Every other frame, each on a stream of its own.
pub(super) async fn frames(connection: &Connection, outbox: &Outbox) -> LinkError {
    let mut writing = Writing { connection, outbox, streams: 0, tasks: JoinSet::new() };
    loop {
        if let Err(error) = writing.next().await {
            return error;
        }
    }
}

/// A frame's stream as it ends: with the frame if it was recalled, and how much of it had been written.
type Written = Result<(Frame, Option<u64>), LinkError>;

struct Writing<'a> {
    connection: &'a Connection,
    outbox: &'a Outbox,
    streams: u32,
    tasks: JoinSet<Written>,
}

impl Writing<'_> {
    async fn next(&mut self) -> Result<(), LinkError> {
        // Half of what the peer allows: the others may not have been acknowledged yet.
        while self.streams < STREAMS_MAX / 2 && self.outbox.first().is_some() {
            let mut stream = self.connection.open_uni().await.map_err(lost)?;
            // What is first may have changed while waiting for the stream.
            let Some(frame) = self.outbox.take() else {
                let _ = stream.reset(CODE_DONE);
                return Ok(());
            };
            self.streams += 1;
            self.tasks.spawn(write(stream, frame));
        }
        tokio::select! {
            () = self.outbox.bulk_ready.notified() => Ok(()),
            Some(ended) = self.tasks.join_next() => {
                self.streams -= 1;
                let (frame, given_up) = ended.map_err(|_| LinkError::Rules("a writer failed"))??;
                if let Some(written) = given_up {
                    self.outbox.given_up(&frame, written);
                } else {
                    self.outbox.forget(&frame.ticket);
                }
                Ok(())
            }
        }
    }
}

async fn write(mut stream: SendStream, frame: Frame) -> Written {
    stream.set_priority(frame.place.priority()).map_err(|_| LinkError::Closed)?;
    let mut parts = frame.encoded.parts.clone();
    let (mut done, mut written) = (0, 0u64);
    while done < parts.len() {
        // Cancelled by a recall, a write has written nothing.
        let step = tokio::select! {
            step = stream.write_chunks(&mut parts[done..]) => step.map_err(not_written)?,
            () = frame.ticket.recalled() => return Ok(give_up(stream, frame, written)),
        };
        done += step.chunks;
        written += step.bytes as u64;
    }
    if !frame.ticket.sent() {
        return Ok(give_up(stream, frame, written));
    }
    let _ = stream.finish();
    Ok((frame, None))
}

fn give_up(mut stream: SendStream, frame: Frame, written: u64) -> (Frame, Option<u64>) {
    // Where it fails, the connection is gone.
    let _ = stream.reset(VarInt::from_u64(written).unwrap_or(CODE_DONE));
    (frame, Some(written))
}
