//! TCP with TLS, as a link.
//!
//! One connection carries up to eight streams of frames ("lanes") in records of at most 64 KiB: lane 0 for control
//! messages, the others for frames that are under way. Between any two records whatever is more urgent goes first, so a
//! heartbeat waits for one record and for what the kernel holds, not for ten megabytes. One connection rather than two:
//! nothing has to be matched up when connections break, and one congestion window serves both.
//!
//! A record, little-endian; TLS protects it, the frames inside have their own checksums:
//!
//! ```text
//!  offset 0       1       2       3       4       5       6       7
//!        +-------+-------+-------+-------+-------+-------+-------+-------+
//!      0 | lane  | flags |   reserved    |            length             |
//!        +-------+-------+-------+-------+-------+-------+-------+-------+
//!      8 |  the lane's next bytes ...                                    |
//! ```
//!
//! Flag 1 says that the frame on this lane is given up; the length is then zero.

mod read;
mod record;
mod socket;
mod write;

use crate::arrivals::Arrivals;
use crate::link::{Link, LinkError, Running};
use crate::outbox::Outbox;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// How long the peer may take to hear our last words and close.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// What lies under TLS. Read through a buffer: rustls asks for 4 KiB at a time, which would be fifty system calls for one
/// activation of 200 KB.
pub(crate) type Socket = BufReader<TcpStream>;

const SOCKET_BUFFER_BYTES: usize = 64 << 10;

/// A connection that is ready for frames.
pub(crate) struct TcpLink {
    pub(crate) stream: TlsStream<Socket>,
}

/// Prepares a connection for TLS.
pub(crate) fn prepare(stream: TcpStream) -> Socket {
    socket::tune(&stream);
    BufReader::with_capacity(SOCKET_BUFFER_BYTES, stream)
}

impl Link for TcpLink {
    fn run(self: Box<Self>, outbox: Arc<Outbox>, arrivals: Arc<Arrivals>) -> Running {
        Box::pin(async move {
            let (reading, writing) = tokio::io::split(self.stream);
            // Reading is a task of its own, so that a large frame is decrypted while another is encrypted. It ends with
            // this future, by the guard.
            let mut reader = AbortOnDrop(tokio::spawn(read::run(reading, arrivals)));
            let ended = tokio::select! {
                ended = &mut reader.0 => return ended.unwrap_or(LinkError::Rules("its reader failed")),
                ended = write::run(writing, &outbox) => ended,
            };
            if matches!(ended, LinkError::Done) {
                // A socket closed with unread bytes is reset, and takes the last words with it.
                let _ = tokio::time::timeout(LAST_WORDS, &mut reader.0).await;
            }
            ended
        })
    }
}

/// A task that ends with its owner.
pub(crate) struct AbortOnDrop<T>(pub(crate) tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
