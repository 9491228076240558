//! The writing half of a TCP link: after every record it decides anew what is most urgent.

use super::record::{LANES, RECORD_BYTES_MAX, RECORD_HEADER_BYTES, Record};
use crate::link::LinkError;
use crate::outbox::{Frame, Outbox};
use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Slices handed over at once; a record seldom has more than four.
const SLICES: usize = 32;

/// A frame that is under way.
struct Lane {
    frame: Frame,
    /// What is left of it.
    rest: VecDeque<Bytes>,
    written: u64,
}

pub(super) async fn run(mut stream: impl AsyncWrite + Unpin, outbox: &Outbox) -> LinkError {
    let mut writer = Writer { lanes: [const { None }; LANES], open_bytes: 0 };
    match writer.run(&mut stream, outbox).await {
        Ok(()) => LinkError::Done,
        Err(error) => error.into(),
    }
}

struct Writer {
    /// The first is never used: control frames are written whole.
    lanes: [Option<Lane>; LANES],
    /// Sum of the frames under way; the peer's memory for them is bounded.
    open_bytes: u64,
}

impl Writer {
    async fn run(&mut self, stream: &mut (impl AsyncWrite + Unpin), outbox: &Outbox) -> io::Result<()> {
        loop {
            let control = outbox.take_control(RECORD_BYTES_MAX as u64);
            if !control.is_empty() {
                let mut rest: VecDeque<Bytes> = control.into_iter().flat_map(|encoded| encoded.parts).collect();
                while !rest.is_empty() {
                    write_record(stream, 0, &mut rest).await?;
                }
                continue;
            }
            if outbox.is_closing() {
                stream.flush().await?;
                return stream.shutdown().await;
            }
            if let Some(lane) = self.most_urgent(outbox) {
                self.write_piece(stream, outbox, lane).await?;
                continue;
            }
            stream.flush().await?;
            tokio::select! {
                () = outbox.control_ready.notified() => {}
                () = outbox.bulk_ready.notified() => {}
            }
        }
    }

    /// The lane to go on with: of the frames under way and the next that waits, the one whose place is first.
    fn most_urgent(&mut self, outbox: &Outbox) -> Option<usize> {
        let lanes = self.lanes.iter().enumerate();
        let best = lanes.filter_map(|(i, lane)| lane.as_ref().map(|l| (l.frame.place, i))).min();
        let Some((place, bytes)) = outbox.first() else { return best.map(|(_, i)| i) };
        let free = (1..LANES).find(|&i| self.lanes[i].is_none());
        let first = best.is_none_or(|(under_way, _)| place < under_way);
        let fits = self.open_bytes + bytes <= 2 * outbox.frame_bytes_max();
        if let (Some(free), true, true) = (free, first, fits)
            && let Some(frame) = outbox.take()
        {
            let rest = frame.encoded.parts.iter().cloned().collect();
            self.open_bytes += frame.encoded.bytes();
            self.lanes[free] = Some(Lane { frame, rest, written: 0 });
            return Some(free);
        }
        best.map(|(_, i)| i)
    }

    /// Writes the lane's next record, which is its last if the frame ends with it or is no longer wanted.
    async fn write_piece(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        outbox: &Outbox,
        index: usize,
    ) -> io::Result<()> {
        let Some(lane) = &mut self.lanes[index] else { return Ok(()) };
        let left = lane.frame.encoded.bytes() - lane.written;
        let is_last = left <= RECORD_BYTES_MAX as u64;
        let wanted = if is_last { lane.frame.ticket.sent() } else { !lane.frame.ticket.is_recalled() };
        if wanted {
            lane.written += write_record(stream, index, &mut lane.rest).await? as u64;
        } else {
            outbox.given_up(&lane.frame, lane.written);
            if lane.written > 0 {
                stream.write_all(&Record { lane: index, bytes: None }.to_bytes()).await?;
            }
        }
        if is_last || !wanted {
            outbox.forget(&lane.frame.ticket);
            self.open_bytes -= lane.frame.encoded.bytes();
            self.lanes[index] = None;
        }
        Ok(())
    }
}

/// Writes one record of up to [`RECORD_BYTES_MAX`] from the front of `rest`; returns the bytes taken from there.
async fn write_record(
    stream: &mut (impl AsyncWrite + Unpin),
    lane: usize,
    rest: &mut VecDeque<Bytes>,
) -> io::Result<usize> {
    let bytes = rest.iter().map(Bytes::len).sum::<usize>().min(RECORD_BYTES_MAX);
    let header: [u8; RECORD_HEADER_BYTES] = Record { lane, bytes: Some(bytes) }.to_bytes();
    let mut header = &header[..];
    let mut left = bytes;
    while left > 0 || !header.is_empty() {
        let mut slices = [IoSlice::new(&[]); SLICES];
        slices[0] = IoSlice::new(header);
        let mut room = left;
        for (slice, part) in slices[1..].iter_mut().zip(rest.iter()) {
            let take = part.len().min(room);
            *slice = IoSlice::new(&part[..take]);
            room -= take;
        }
        let mut written = stream.write_vectored(&slices).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let of_header = written.min(header.len());
        header = &header[of_header..];
        written -= of_header;
        left -= written;
        advance(rest, written);
    }
    Ok(bytes)
}

/// Removes `bytes` from the front.
fn advance(rest: &mut VecDeque<Bytes>, mut bytes: usize) {
    while let Some(first) = rest.front_mut() {
        let take = first.len().min(bytes);
        first.advance(take);
        bytes -= take;
        if !first.is_empty() {
            return;
        }
        rest.pop_front();
    }
}
