//! Reading: whatever the file holds, this ends, and says where and why.

use super::{MAGIC, RECORD_BYTES_MAX, Record, VERSION};
use crate::PluginError;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// Largest window a recording's compression may ask for: 2^27 bytes, zstd's own default limit.
const WINDOW_LOG_MAX: u32 = 27;

/// How reading ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The recording was closed in order.
    Closed,
    /// The file ends in the middle, as after a crash.
    Truncated,
    /// What follows is not a recording.
    Corrupt(String),
}

/// The records of a recording, one by one.
pub struct Reader<'r> {
    decoder: zstd::Decoder<'r, BufReader<Box<dyn Read + 'r>>>,
    ending: Option<Ending>,
}

impl std::fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("ending", &self.ending).finish_non_exhaustive()
    }
}

impl<'r> Reader<'r> {
    /// Opens a recording.
    pub fn open(path: &Path) -> Result<Reader<'static>, PluginError> {
        let io = |source| PluginError::Io { path: path.display().to_string(), source };
        Reader::new(File::open(path).map_err(io)?)
    }

    /// A recording from anything that can be read.
    pub fn new(source: impl Read + 'r) -> Result<Self, PluginError> {
        let refuse = |reason: String| PluginError::NotARecording { version: VERSION, reason };
        let mut source: Box<dyn Read + 'r> = Box::new(source);
        let mut header = [0; 8];
        source.read_exact(&mut header).map_err(|_| refuse("shorter than a header".into()))?;
        if header[..6] != *MAGIC {
            return Err(refuse("it does not begin with BPSREC".into()));
        }
        let version = u16::from_le_bytes([header[6], header[7]]);
        if version != VERSION {
            return Err(refuse(format!("it has version {version}")));
        }
        let mut decoder = zstd::Decoder::new(source).map_err(|error| refuse(error.to_string()))?;
        decoder.window_log_max(WINDOW_LOG_MAX).map_err(|error| refuse(error.to_string()))?;
        Ok(Self { decoder, ending: None })
    }

    /// How it ended; none while there may be more.
    pub fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    fn read(&mut self) -> Result<Record<'static>, Ending> {
        let mut length = [0; 4];
        self.decoder.read_exact(&mut length).map_err(|error| ending(&error))?;
        let length = u32::from_le_bytes(length) as usize;
        if length > RECORD_BYTES_MAX {
            return Err(Ending::Corrupt(format!("a record of {length} bytes")));
        }
        // Grows as bytes come, so that a length alone allocates nothing.
        let mut bytes = Vec::with_capacity(length.min(64 << 10));
        (&mut self.decoder).take(length as u64).read_to_end(&mut bytes).map_err(|error| ending(&error))?;
        if bytes.len() < length {
            return Err(Ending::Truncated);
        }
        match postcard::from_bytes(&bytes) {
            Ok(Record::End) => Err(Ending::Closed),
            Ok(record) => Ok(record),
            Err(error) => Err(Ending::Corrupt(error.to_string())),
        }
    }
}

fn ending(error: &std::io::Error) -> Ending {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => Ending::Truncated,
        _ => Ending::Corrupt(error.to_string()),
    }
}

impl Iterator for Reader<'_> {
    type Item = Record<'static>;

    fn next(&mut self) -> Option<Record<'static>> {
        if self.ending.is_some() {
            return None;
        }
        match self.read() {
            Ok(record) => Some(record),
            Err(ending) => {
                self.ending = Some(ending);
                None
            }
        }
    }
}
