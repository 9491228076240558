//! Recordings: every guest call of a run in order, with its result, and every receipt; replayed to identical decisions.
//!
//! ```text
//! "BPSREC" version:u16le | zstd( ( length:u32le postcard(Record) )* )
//! ```
//! Self-contained: the components themselves are records too. A file that ends early is read up to there.

mod reader;
mod record;
mod recorder;
mod replay;

pub use reader::{Ending, Reader};
pub use record::Record;
pub use recorder::{Recorder, RecordingHandle};
pub use replay::{Difference, ReplayReport, replay};

/// How a recording begins.
pub(crate) const MAGIC: &[u8; 6] = b"BPSREC";

/// The layout of `Record`; grows with each change to it.
pub const VERSION: u16 = 2;

/// No record is larger: a component has at most 16 MiB, all tables 8 MiB.
pub(crate) const RECORD_BYTES_MAX: usize = 32 << 20;
