//! Writing: the scheduler's thread encodes, a thread of its own compresses and writes.

use super::{MAGIC, Record, VERSION};
use crate::{LoadedPolicy, PluginError};
use bps_sched::{CallLog, LogEntry};
use bps_types::Nanos;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Records on their way to the disk: a tenth of a second at 10,000 decisions a second, some tens of megabytes.
const ON_THE_WAY_MAX: usize = 1_024;

/// What is written reaches the file after this long at the latest, so that a crash costs little.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

enum Message {
    Record(Vec<u8>),
    Flush(SyncSender<()>),
    Close,
}

/// Takes down every guest call; the scheduler owns it. Dropping it closes the file.
#[derive(Debug)]
pub struct Recorder {
    handle: RecordingHandle,
    thread: Option<JoinHandle<()>>,
    lost: u64,
}

/// Adds components to a recording that the scheduler writes.
#[derive(Clone)]
pub struct RecordingHandle {
    sender: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

impl std::fmt::Debug for RecordingHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordingHandle").field("lost", &self.lost).finish_non_exhaustive()
    }
}

impl Recorder {
    /// A new recording; an existing file is replaced.
    pub fn create(path: &Path) -> Result<(Self, RecordingHandle), PluginError> {
        let io = |source| PluginError::Io { path: path.display().to_string(), source };
        let file = File::create(path).map_err(io)?;
        Self::to(file).map_err(io)
    }

    /// A recording into anything that can be written to.
    pub fn to(mut sink: impl Write + Send + 'static) -> io::Result<(Self, RecordingHandle)> {
        sink.write_all(MAGIC)?;
        sink.write_all(&VERSION.to_le_bytes())?;
        let mut encoder = zstd::Encoder::new(BufWriter::new(sink), 3)?;
        encoder.include_checksum(true)?;
        let (sender, receiver) = sync_channel(ON_THE_WAY_MAX);
        let work = move || {
            if let Err(error) = write(&receiver, encoder) {
                tracing::error!(%error, "the recording ends here: it cannot be written");
            }
        };
        let thread = std::thread::Builder::new().name("bps-recorder".into()).spawn(work)?;
        let handle = RecordingHandle { sender, lost: Arc::default() };
        Ok((Self { handle: handle.clone(), thread: Some(thread), lost: 0 }, handle))
    }

    fn put(&mut self, record: &Record<'_>) {
        if self.lost > 0 && self.handle.try_put(&Record::Gap { lost: self.lost }) {
            self.lost = 0;
        }
        // After a loss that could not even be noted, nothing may follow as if it had not happened.
        if self.lost > 0 || !self.handle.try_put(record) {
            self.lost += 1;
            self.handle.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl CallLog for Recorder {
    fn log(&mut self, now: Nanos, entry: LogEntry<'_>) {
        self.put(&Record::of(now, entry));
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // The writer may be gone with an error, which it has reported.
        let _ = self.handle.sender.send(Message::Close);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl RecordingHandle {
    /// Puts the component of a policy into the recording; before its first instance is activated.
    pub fn component(&self, policy: &LoadedPolicy) {
        let bytes = policy.bytes();
        let record = Record::Component { digest: policy.digest().into(), bytes: (&bytes[..]).into() };
        // This is not the scheduler's thread: it may wait.
        if let Some(encoded) = encode(&record) {
            let _ = self.sender.send(Message::Record(encoded));
        }
    }

    /// Waits until all that was recorded so far is in the file.
    pub fn flush(&self) {
        let (sender, done) = sync_channel(1);
        if self.sender.send(Message::Flush(sender)).is_ok() {
            let _ = done.recv();
        }
    }

    /// Records that were lost since the disk did not keep up.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn try_put(&self, record: &Record<'_>) -> bool {
        encode(record).is_some_and(|encoded| self.sender.try_send(Message::Record(encoded)).is_ok())
    }
}

/// Length and content; none only if a value cannot be serialised, which these all can.
fn encode(record: &Record<'_>) -> Option<Vec<u8>> {
    let mut encoded = postcard::to_extend(record, vec![0; 4]).ok()?;
    let length = u32::try_from(encoded.len() - 4).ok()?;
    encoded[..4].copy_from_slice(&length.to_le_bytes());
    Some(encoded)
}

fn write<W: Write>(receiver: &Receiver<Message>, mut encoder: zstd::Encoder<'_, W>) -> io::Result<()> {
    let mut is_dirty = false;
    loop {
        match receiver.recv_timeout(FLUSH_EVERY) {
            Ok(Message::Record(encoded)) => {
                encoder.write_all(&encoded)?;
                is_dirty = true;
            }
            Ok(Message::Flush(done)) => {
                encoder.flush()?;
                let _ = done.send(());
            }
            Err(RecvTimeoutError::Timeout) if is_dirty => {
                encoder.flush()?;
                is_dirty = false;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Ok(Message::Close) | Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    if let Some(end) = encode(&Record::End) {
        encoder.write_all(&end)?;
    }
    encoder.finish()?.flush()
}
