//! The reading half of a TCP link. Bytes go from the TLS buffer straight to where the frame is put together.

use super::record::{LANES, RECORD_HEADER_BYTES, Record};
use crate::arrivals::Arrivals;
use crate::link::LinkError;
use bps_wire::{FrameReader, Step};
use bytes::BufMut;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt};

pub(super) async fn run(stream: impl AsyncRead + Unpin, arrivals: Arc<Arrivals>) -> LinkError {
    let readers = std::array::from_fn(|_| FrameReader::new(arrivals.limits));
    let mut reader = Reader { stream, arrivals, readers, open_bytes: [0; LANES] };
    match reader.run().await {
        Ok(never) => match never {},
        Err(LinkError::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof => LinkError::Closed,
        Err(error) => error,
    }
}

struct Reader<S> {
    stream: S,
    arrivals: Arc<Arrivals>,
    readers: [FrameReader; LANES],
    /// Declared size of the frame on each lane; their sum is what the peer may make us hold.
    open_bytes: [u64; LANES],
}

impl<S: AsyncRead + Unpin> Reader<S> {
    async fn run(&mut self) -> Result<std::convert::Infallible, LinkError> {
        loop {
            let mut header = [0; RECORD_HEADER_BYTES];
            self.stream.read_exact(&mut header).await?;
            self.arrivals.heard();
            let record = Record::parse(header)?;
            match record.bytes {
                Some(bytes) => self.piece(record.lane, bytes).await?,
                None => self.given_up(record.lane)?,
            }
        }
    }

    /// A record's bytes: the next of the frame on `lane`, and on lane 0 perhaps of several.
    async fn piece(&mut self, lane: usize, bytes: usize) -> Result<(), LinkError> {
        let mut left = bytes;
        while left > 0 {
            let reader = &mut self.readers[lane];
            let begins = reader.is_between_frames();
            let want = reader.wanted().min(left);
            let count = self.stream.read_buf(&mut reader.buffer().limit(want)).await?;
            if count == 0 {
                return Err(LinkError::Closed);
            }
            left -= count;
            if lane == 0 {
                self.arrivals.heard();
            } else {
                self.arrivals.bytes(count as u64, begins);
            }
            self.steps(lane)?;
        }
        Ok(())
    }

    /// What is complete on `lane`.
    fn steps(&mut self, lane: usize) -> Result<(), LinkError> {
        loop {
            match self.readers[lane].advance()? {
                Step::More => return Ok(()),
                Step::Header(header) => {
                    if header.is_control() != (lane == 0) {
                        return Err(LinkError::Rules("a frame on a lane that is not for its kind"));
                    }
                    self.open_bytes[lane] = header.frame_bytes();
                    let open: u64 = self.open_bytes[1..].iter().sum();
                    if open > 2 * self.arrivals.limits.frame_bytes_max {
                        return Err(LinkError::Rules("more bytes under way than two of the largest frames"));
                    }
                }
                Step::Message(message, header) => {
                    self.open_bytes[lane] = 0;
                    if lane > 0 {
                        self.arrivals.ends();
                    }
                    self.arrivals.message(message, &header);
                }
            }
        }
    }

    fn given_up(&mut self, lane: usize) -> Result<(), LinkError> {
        if self.readers[lane].is_between_frames() {
            return Err(LinkError::Rules("a frame is given up that has not begun"));
        }
        self.readers[lane] = FrameReader::new(self.arrivals.limits);
        self.open_bytes[lane] = 0;
        self.arrivals.ends();
        Ok(())
    }
}
