//! The hosts paired with this one, and what each may do here: `peers.toml` in the state folder.
//!
//! **Invariants.** Keys and names are unique. The file changes whole or not at all, by one writer at a time (of all
//! processes), who starts from what is there. A running host sees a change at its next [`PeerStore::refresh`]. A file
//! that is damaged, or that others can change, is refused whole: half a list of trusted hosts is not a list.

mod file;

pub(crate) use file::{NAME_RULE, is_name};

use crate::identity::{make_folder, sync_folder};
use bps_wire::HostKey;
use parking_lot::RwLock;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// Its file in the state folder.
pub const PEERS_FILE: &str = "peers.toml";
/// Held by whoever changes it.
const LOCK_FILE: &str = "peers.lock";
/// Hosts that fit in it: more than any test bed, few enough to look through at each connection.
pub const PEERS_MAX: usize = 256;
/// [`PEERS_MAX`] entries with the longest names need a third of it.
const FILE_BYTES_MAX: u64 = 512 << 10;
/// Longest name of a host.
pub const NAME_BYTES_MAX: usize = 64;
/// Longest `host:port`.
pub(crate) const ADDRESS_BYTES_MAX: usize = 261;
/// Least hex digits that stand for a whole fingerprint.
const PREFIX_DIGITS_MIN: usize = 4;

/// A host paired with this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who it is.
    pub key: HostKey,
    /// What people call it; unique in a store.
    pub name: String,
    /// `host:port` to dial; none: it dials us.
    pub address: Option<String>,
    /// What it may do here.
    pub rights: Rights,
    /// How much of it.
    pub quotas: Quotas,
}

/// What a peer may do here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Rights {
    /// Have stages executed.
    pub execute: bool,
    /// Fetch the models that are exportable.
    pub fetch_models: bool,
}

impl fmt::Display for Rights {
    /// As `--allow` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.execute, self.fetch_models) {
            (true, true) => "execute,models",
            (true, false) => "execute",
            (false, true) => "models",
            (false, false) => "none",
        })
    }
}

/// How much of a peer's work is held here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Dispatches at once per device; at least 1.
    pub window: u32,
    /// Bytes of its activations at once; at least 1.
    pub bytes_max: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { window: 4, bytes_max: 256 << 20 }
    }
}

/// Why the store does not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be read or written.
    #[error("the paired hosts {}: cannot {what}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// Others could pair hosts by writing into it.
    #[error("others can change the paired hosts {p}; check them, then run: chmod 600 {p}", p = path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// It is not a list of hosts.
    #[error("the paired hosts {} cannot be read: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, with the line where known.
        what: String,
    },
    /// This peer cannot be kept.
    #[error("this peer cannot be kept: {0}")]
    Unfit(String),
    /// There is no room.
    #[error("{PEERS_MAX} hosts are paired already; remove one with `bps unpair`")]
    Full,
    /// Nobody is called that.
    #[error("no paired host is named {which:?} or has a fingerprint that starts so; there are: {known}")]
    Unknown {
        /// What was asked for.
        which: String,
        /// Who there is.
        known: String,
    },
    /// Several fingerprints start with it.
    #[error("{which:?} fits several hosts: {fits}; give a name or more digits")]
    Ambiguous {
        /// What was asked for.
        which: String,
        /// Whom it fits.
        fits: String,
    },
}

/// A handle to the list; cloning it is cheap, and clones see the same.
#[derive(Clone)]
pub struct PeerStore(Arc<Shared>);

struct Shared {
    folder: PathBuf,
    path: PathBuf,
    known: RwLock<Known>,
}

/// What was read last, and which file that was; no stamp: there was none.
#[derive(Default)]
struct Known {
    peers: Vec<Peer>,
    stamp: Option<Stamp>,
}

impl PeerStore {
    /// The list in `state_dir`; without a file it is empty. Makes neither folder nor file.
    ///
    /// # Errors
    /// Where the file cannot be read, is damaged, or others can change it; each names the file.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let path = state_dir.join(PEERS_FILE);
        let known = RwLock::new(read(&path)?);
        Ok(Self(Arc::new(Shared { folder: state_dir.to_owned(), path, known })))
    }

    /// All of them, by name, as last read.
    pub fn list(&self) -> Vec<Peer> {
        self.0.known.read().peers.clone()
    }

    /// The one with this key, as last read.
    pub fn get(&self, key: &HostKey) -> Option<Peer> {
        self.0.known.read().peers.iter().find(|p| p.key == *key).cloned()
    }

    /// Reads the file again if it changed; says whether it did.
    ///
    /// # Errors
    /// As [`Self::open`]; what was read before stays.
    pub fn refresh(&self) -> Result<bool, StoreError> {
        let stamp = match fs::metadata(&self.0.path) {
            Ok(metadata) => Some(Stamp::of(&metadata)),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(source) => return Err(io_error(&self.0.path, "read them", source)),
        };
        if self.0.known.read().stamp == stamp {
            return Ok(false);
        }
        let mut known = self.0.known.write();
        *known = read(&self.0.path)?;
        Ok(true)
    }

    /// Keeps `peer`, instead of what was known of the same key. Where another host has its name, it gets a free one.
    /// Returns it as it is kept.
    ///
    /// # Errors
    /// Where a field is out of bounds, the store is full, or the file cannot be changed.
    pub fn put(&self, mut peer: Peer) -> Result<Peer, StoreError> {
        file::check(&peer).map_err(StoreError::Unfit)?;
        self.change(|peers| {
            peers.retain(|p| p.key != peer.key);
            if peers.len() >= PEERS_MAX {
                return Err(StoreError::Full);
            }
            peer.name = free_name(peers, &peer.name);
            peers.push(peer.clone());
            Ok(peer)
        })
    }

    /// Removes the host of this name, else the one whose fingerprint starts with `which` (hex; spaces and colons do not
    /// count). Returns what was known of it.
    ///
    /// # Errors
    /// Where no host or more than one fits, or the file cannot be changed.
    pub fn remove(&self, which: &str) -> Result<Peer, StoreError> {
        self.change(|peers| {
            let index = find(peers, which)?;
            Ok(peers.remove(index))
        })
    }

    /// Reads, changes and writes under the lock.
    fn change<T>(&self, edit: impl FnOnce(&mut Vec<Peer>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let failed = |what| move |source| io_error(&self.0.path, what, source);
        make_folder(&self.0.folder).map_err(failed("make their folder"))?;
        let lock = self.0.folder.join(LOCK_FILE);
        // Released when it is dropped, also by the end of the process.
        let lock = private().open(&lock).map_err(failed("lock them"))?;
        lock.lock().map_err(failed("lock them"))?;
        let mut known = self.0.known.write();
        *known = read(&self.0.path)?;
        let mut peers = known.peers.clone();
        let result = edit(&mut peers)?;
        peers.sort_by(|a, b| a.name.cmp(&b.name));
        let text = file::text(&peers).map_err(StoreError::Unfit)?;
        let stamp = self.write(&text).map_err(failed("write them"))?;
        *known = Known { peers, stamp: Some(stamp) };
        Ok(result)
    }

    fn write(&self, text: &str) -> io::Result<Stamp> {
        // A temporary file is its owner's only (0600) from the start.
        let mut file = tempfile::NamedTempFile::new_in(&self.0.folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        let file = file.persist(&self.0.path).map_err(|e| e.error)?;
        sync_folder(&self.0.folder)?;
        Ok(Stamp::of(&file.metadata()?))
    }
}

impl fmt::Debug for PeerStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PeerStore").field(&self.0.path).finish()
    }
}

/// Tells one state of the file from the next. Each write makes a new file, so the inode settles what a coarse clock
/// does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    inode: u64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Self { modified: metadata.modified().ok(), bytes: metadata.len(), inode }
    }
}

fn read(path: &Path) -> Result<Known, StoreError> {
    let failed = |source| io_error(path, "read them", source);
    let opened = match std::fs::metadata(path) {
        // A pipe would be waited at for ever.
        Ok(metadata) if !metadata.is_file() => Err(std::io::Error::other("is not a plain file")),
        _ => File::open(path),
    };
    let file = match opened {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Known::default()),
        Err(source) => return Err(failed(source)),
    };
    // Of the file that is read, not of whichever has its name a moment later.
    let metadata = file.metadata().map_err(failed)?;
    #[cfg(unix)]
    if std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o022 != 0 {
        return Err(StoreError::Exposed { path: path.to_owned() });
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    let damaged = |what: String| StoreError::Damaged { path: path.to_owned(), what };
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(damaged(format!("more than {FILE_BYTES_MAX} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|e| damaged(e.to_string()))?;
    Ok(Known { peers: file::parse(&text).map_err(damaged)?, stamp: Some(Stamp::of(&metadata)) })
}

/// Where in `peers` the one is that `which` means.
fn find(peers: &[Peer], which: &str) -> Result<usize, StoreError> {
    let list = |all: &mut dyn Iterator<Item = &Peer>| {
        let names: Vec<String> = all.map(|p| format!("{} ({})", p.name, p.key.short())).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    if let Some(index) = peers.iter().position(|p| p.name == which) {
        return Ok(index);
    }
    let digits: String = which.chars().filter(|c| !matches!(c, ' ' | ':')).map(|c| c.to_ascii_lowercase()).collect();
    let usable = digits.len() >= PREFIX_DIGITS_MIN;
    let fits = |p: &Peer| usable && p.key.to_string().starts_with(&digits);
    let mut found = peers.iter().enumerate().filter(|(_, p)| fits(p));
    match (found.next(), found.next()) {
        (Some((index, _)), None) => Ok(index),
        (None, _) => Err(StoreError::Unknown { which: which.to_owned(), known: list(&mut peers.iter()) }),
        (Some(_), Some(_)) => {
            Err(StoreError::Ambiguous { which: which.to_owned(), fits: list(&mut peers.iter().filter(|p| fits(p))) })
        }
    }
}

/// `wanted`, or `wanted-2` and so on where others have it.
fn free_name(peers: &[Peer], wanted: &str) -> String {
    let numbered = |n: usize| {
        let end = format!("-{n}");
        let room = wanted.floor_char_boundary(NAME_BYTES_MAX - end.len());
        format!("{}{end}", wanted[..room].trim_end())
    };
    let candidates = std::iter::once(wanted.to_owned()).chain((2..).map(numbered));
    // Of one more candidate than there are peers, one is free.
    candidates.take(peers.len() + 1).find(|name| peers.iter().all(|p| p.name != *name)).unwrap_or_default()
}

/// How a file of this user only is opened for writing, made where there is none.
fn private() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn io_error(path: &Path, what: &'static str, source: io::Error) -> StoreError {
    StoreError::Io { path: path.to_owned(), what, source }
}

#[cfg(test)]
mod tests;
