//! Fetched models on disk: kept under their digest, within a quota, the longest unused one given up first.
//!
//! ```text
//! STATE/fetched/<digest>/model.onnx         whole, and together with what it keeps beside itself of that digest
//!                       /...                what it keeps beside itself
//!                       /model.ff           its calibration, where its origin had one
//!                       /model.toml         as its origin gave it
//!                       /files.json         the files that came: names, sizes, SHA-256 (`shelf/files.rs`)
//!                       /origin.json        where it came from; its time is when the model was last used
//! STATE/fetched/<digest>.part/...           on its way; goes on where it stopped, also after a restart
//! ```
//!
//! Nothing is made before the whole list of files has been found to fit, and a model is where it is served from only once
//! every file has its digest and the model names exactly the files that came.
//!
//! Blocks: for threads that may. Whatever else lies in the folder is left alone.

mod files;

use super::roster::Offer;
use crate::models::{MODEL, ORIGIN};
use crate::repository::Source;
use crate::{HostError, state_dir};
use bps_graph::manifest;
use bps_types::{digest_from_hex, hex};
use bps_wire::{ModelFile, ModelList};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

const FOLDER: &str = "fetched";
const PART: &str = ".part";
/// Names in the folder that are looked at.
const ENTRIES_MAX: usize = 4_096;
/// An origin takes a few hundred bytes.
const ORIGIN_BYTES_MAX: u64 = 4 << 10;

/// As much of a disk is left to others.
const SPARE_BYTES: u64 = 16 << 20;

/// Where fetched models lie.
pub(super) struct Shelf {
    root: PathBuf,
    bytes_max: u64,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) digest: [u8; 32],
    /// Not whole yet.
    pub(super) partial: bool,
    /// Of all its files, those that this host made included.
    pub(super) bytes: u64,
    pub(super) used: SystemTime,
    pub(super) origin: Origin,
}

/// Where a model came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// What the model is called there.
    pub(crate) name: String,
    /// What the host was called.
    pub(crate) peer: String,
    /// Its fingerprint.
    pub(crate) fingerprint: String,
}

impl Shelf {
    pub(super) fn new(state_dir: &Path, bytes_max: u64) -> Self {
        Self { root: state_dir.join(FOLDER), bytes_max }
    }

    pub(super) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// What is there.
    pub(super) fn scan(&self) -> Result<Vec<Item>, HostError> {
        let entries = match fs::read_dir(&self.root) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
            other => other.map_err(HostError::io(&self.root))?,
        };
        let mut items: Vec<Item> = entries.take(ENTRIES_MAX).flatten().filter_map(|e| item(&e.path())).collect();
        items.sort_by_key(|i| (i.used, i.digest));
        Ok(items)
    }

    /// Makes room for the files of a list that was checked, and begins them or goes on with them: the bytes of each that are
    /// there already, a whole one only with its digest. A model of this digest that is whole stays as it is, and lends its files
    /// to what is to replace it. `keep` says which models must stay. Returns also what was given up.
    ///
    /// # Errors
    /// Where they cannot fit, or the disk fails; for people.
    pub(super) fn begin(
        &self,
        offer: &Offer,
        list: &ModelList,
        keep: impl Fn(&[u8; 32]) -> bool,
    ) -> Result<(Vec<u64>, Vec<[u8; 32]>), String> {
        let items = self.scan().map_err(|e| e.to_string())?;
        let others: Vec<Item> = items.into_iter().filter(|i| i.digest != offer.digest).collect();
        let needed = list.files.iter().fold(list.manifest.len() as u64, |sum, file| sum.saturating_add(file.bytes));
        let given_up = evict(&others, needed, self.bytes_max, keep)
            .ok_or_else(|| format!("no room for {needed} bytes of {}", self.bytes_max))?;
        let (folder, whole) = (self.part(&offer.digest), self.whole(&offer.digest));
        files::clear(&folder, &list.files)?;
        let lacking = needed.saturating_sub(files::bytes_of(&list.files, &[&folder, &whole]));
        let freed = others.iter().filter(|item| given_up.contains(&item.digest)).map(|item| item.bytes).sum();
        // Before anything is given up, so that nothing is in vain.
        fits_on_disk(lacking, freed, state_dir::free_bytes(&self.root))?;
        for digest in &given_up {
            self.discard(digest);
        }
        let origin =
            Origin { name: offer.name.clone(), peer: offer.peer_name.clone(), fingerprint: offer.peer.to_string() };
        let text = serde_json::to_vec(&origin).map_err(|e| e.to_string())?;
        let write = |name: &str, bytes: &[u8]| state_dir::write_whole(&folder.join(name), bytes);
        write(ORIGIN, &text)
            .and_then(|()| write(manifest::FILE_NAME, list.manifest.as_bytes()))
            .map_err(|e| e.to_string())?;
        files::keep(&folder, &list.files)?;
        files::share(&whole, &folder, &list.files)?;
        let have: Result<Vec<u64>, String> = list.files.iter().map(|file| files::here(&folder, file)).collect();
        Ok((have?, given_up))
    }

    /// Keeps a piece of a file.
    ///
    /// # Errors
    /// Where the disk fails: then all that has come of the model is thrown away. Or the file is whole now and has not its
    /// digest: then it alone is. For people.
    pub(super) fn append(&self, digest: &[u8; 32], file: &ModelFile, offset: u64, data: &Bytes) -> Result<(), String> {
        let folder = self.part(digest);
        let path = folder.join(&file.name);
        let written = || {
            let mut file = OpenOptions::new().create(true).write(true).truncate(false).open(&path)?;
            file.set_len(offset)?; // what an interrupted write may have left behind it
            file.seek(SeekFrom::Start(offset))?;
            file.write_all(data)
        };
        if let Err(error) = written() {
            // A disk that is full needs the room for what else is kept there.
            self.discard_partial(digest);
            return Err(format!("{}: {error}", path.display()));
        }
        if offset + data.len() as u64 == file.bytes { files::check_whole(&folder, file) } else { Ok(()) }
    }

    /// Puts a model whose files are whole in its place, if it is the right one.
    ///
    /// # Errors
    /// Where its digest is another one, it names other files than those that were listed, or the disk fails; for people.
    pub(super) fn finish(&self, digest: &[u8; 32]) -> Result<(), String> {
        let (from, to) = (self.part(digest), self.whole(digest));
        let list = files::kept(&from).ok_or("the list of its files is gone")?;
        files::check_model(&from, &list, digest)?;
        let text = |e: io::Error| format!("{}: {e}", from.display());
        list.iter().try_for_each(|file| File::open(from.join(&file.name))?.sync_all()).map_err(text)?;
        if to.exists() {
            fs::remove_dir_all(&to).map_err(text)?;
        }
        fs::rename(&from, &to).map_err(text)
    }

    /// Whether a whole model still is what it was.
    pub(super) fn is_sound(&self, digest: &[u8; 32]) -> bool {
        let folder = self.whole(digest);
        let Some(list) = files::kept(&folder) else { return false };
        let whole = list.iter().try_for_each(|file| files::check_whole(&folder, file));
        let sound = whole.and_then(|()| files::check_model(&folder, &list, digest));
        sound.inspect_err(|reason| tracing::warn!(digest = hex(digest), reason, "a fetched model is damaged")).is_ok()
    }

    /// A whole model, for the loader.
    pub(super) fn source(&self, digest: &[u8; 32]) -> Source {
        let folder = self.whole(digest);
        Source::File { onnx: folder.join(MODEL), manifests: vec![folder.join(manifest::FILE_NAME)] }
    }

    /// It was used just now.
    pub(super) fn touch(&self, digest: &[u8; 32]) {
        let path = self.whole(digest).join(ORIGIN);
        let touched = OpenOptions::new().write(true).open(&path).and_then(|f| f.set_modified(SystemTime::now()));
        if let Err(error) = touched {
            tracing::debug!(path = %path.display(), %error, "not marked as used");
        }
    }

    /// Lets go of a model, whole or not.
    pub(super) fn discard(&self, digest: &[u8; 32]) {
        self.discard_partial(digest);
        remove(&self.whole(digest));
    }

    /// Lets go of what has come of a model; a whole one stays.
    pub(super) fn discard_partial(&self, digest: &[u8; 32]) {
        remove(&self.part(digest));
    }

    fn whole(&self, digest: &[u8; 32]) -> PathBuf {
        self.root.join(hex(digest))
    }

    fn part(&self, digest: &[u8; 32]) -> PathBuf {
        self.root.join(format!("{}{PART}", hex(digest)))
    }
}

/// Whether so many bytes fit where some are free, once others are freed. Where nobody knows, that is found while writing.
fn fits_on_disk(lacking: u64, freed: u64, free: Option<u64>) -> Result<(), String> {
    match free {
        Some(free) if lacking.saturating_add(SPARE_BYTES) > free.saturating_add(freed) => {
            Err(format!("{free} bytes are free on the disk, {lacking} are to come, {SPARE_BYTES} stay free"))
        }
        _ => Ok(()),
    }
}

fn remove(folder: &Path) {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(folder = %folder.display(), %error, "not removed");
        }
        _ => {}
    }
}

fn item(folder: &Path) -> Option<Item> {
    let name = folder.file_name()?.to_str()?;
    let (digits, partial) = name.strip_suffix(PART).map_or((name, false), |digits| (digits, true));
    let digest = digest_from_hex(digits)?;
    let files = fs::read_dir(folder).into_iter().flatten().take(ENTRIES_MAX).flatten();
    let bytes = files.filter_map(|entry| entry.metadata().ok()).map(|m| m.len()).sum();
    let path = folder.join(ORIGIN);
    let used = fs::metadata(&path).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let text = state_dir::read_bounded(&path, ORIGIN_BYTES_MAX).ok().flatten().unwrap_or_default();
    Some(Item { digest, partial, bytes, used, origin: serde_json::from_slice(&text).unwrap_or_default() })
}

/// What to give up so that `needed` bytes fit: the longest unused first, never what `keep` names. None where that is not
/// enough. `items` are in the order of their last use.
fn evict(items: &[Item], needed: u64, bytes_max: u64, keep: impl Fn(&[u8; 32]) -> bool) -> Option<Vec<[u8; 32]>> {
    let mut taken: u64 = items.iter().map(|i| i.bytes).sum();
    let mut given_up = Vec::new();
    let fits = |taken: u64| taken.checked_add(needed).is_some_and(|sum| sum <= bytes_max);
    for item in items.iter().filter(|i| !keep(&i.digest)) {
        if fits(taken) {
            break;
        }
        taken -= item.bytes;
        given_up.push(item.digest);
    }
    fits(taken).then_some(given_up)
}

#[cfg(test)]
mod tests;
