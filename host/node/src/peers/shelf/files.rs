//! The files of one fetched model: which came, and whether they are what they should be.

use crate::models::{CALIBRATION, LIST, MODEL, check_names, digest_of};
use crate::state_dir;
use bps_graph::{Identity, Limits};
use bps_types::{digest_from_hex, hex};
use bps_wire::{FILES_MAX, ModelFile};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

/// A file takes some 250 bytes in the list.
const LIST_BYTES_MAX: u64 = 1_024 * FILES_MAX as u64;

/// A file as `files.json` has it.
#[derive(Serialize, Deserialize)]
struct Entry {
    name: String,
    bytes: u64,
    sha256: String,
}

/// Writes the list into a model's folder.
pub(super) fn keep(folder: &Path, files: &[ModelFile]) -> Result<(), String> {
    let entry = |file: &ModelFile| Entry { name: file.name.clone(), bytes: file.bytes, sha256: hex(&file.digest) };
    let entries: Vec<Entry> = files.iter().map(entry).collect();
    let text = serde_json::to_vec_pretty(&entries).map_err(|e| e.to_string())?;
    state_dir::write_whole(&folder.join(LIST), &text).map_err(|e| e.to_string())
}

/// The list of a folder; none where it has no sound one.
pub(super) fn kept(folder: &Path) -> Option<Vec<ModelFile>> {
    let text = state_dir::read_bounded(&folder.join(LIST), LIST_BYTES_MAX).ok().flatten()?;
    let entries: Vec<Entry> = serde_json::from_slice(&text).ok()?;
    let file = |e: Entry| Some(ModelFile { digest: digest_from_hex(&e.sha256)?, name: e.name, bytes: e.bytes });
    let files: Vec<ModelFile> = entries.into_iter().map(file).collect::<Option<_>>()?;
    check_names(files.iter().map(|file| file.name.as_str())).is_ok().then_some(files)
}

/// Clears a folder for a list: of what came under another one, files that are in both are gone on with; whatever else lies
/// there goes, or it would become a part of the model's folder.
pub(super) fn clear(folder: &Path, list: &[ModelFile]) -> Result<(), String> {
    let Some(before) = kept(folder) else {
        return done(folder, fs::remove_dir_all(folder));
    };
    let stays = |name: &OsStr| name == LIST || before.iter().any(|file| name == &*file.name && list.contains(file));
    let text = |e: std::io::Error| format!("{}: {e}", folder.display());
    for entry in fs::read_dir(folder).map_err(text)? {
        let entry = entry.map_err(text)?;
        let (path, is_file) = (entry.path(), entry.file_type().is_ok_and(|kind| kind.is_file()));
        match (is_file, stays(&entry.file_name())) {
            (true, true) => {}
            // A link goes alone, not what it points to.
            (false, _) if entry.file_type().is_ok_and(|kind| kind.is_dir()) => done(&path, fs::remove_dir_all(&path))?,
            _ => done(&path, fs::remove_file(&path))?,
        }
    }
    Ok(())
}

/// Has the files of a list that lie in another folder under the same names also in this one. A file that is whole is never
/// written to again; so both may be the same one on disk.
pub(super) fn share(from: &Path, to: &Path, list: &[ModelFile]) -> Result<(), String> {
    let there = kept(from).unwrap_or_default();
    for file in list.iter().filter(|file| there.contains(file)) {
        let (from, to) = (from.join(&file.name), to.join(&file.name));
        if from.exists() && !to.exists() {
            // Not every file system has links.
            let shared = fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop));
            shared.map_err(|e| format!("{}: {e}", to.display()))?;
        }
    }
    Ok(())
}

/// What is not there has been removed.
fn done(path: &Path, removed: std::io::Result<()>) -> Result<(), String> {
    match removed {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(format!("{}: {e}", path.display())),
        _ => Ok(()),
    }
}

/// Bytes of the files of a list that lie in the first of these folders that has them.
pub(super) fn bytes_of(list: &[ModelFile], folders: &[&Path]) -> u64 {
    let of = |file: &ModelFile| folders.iter().find_map(|folder| fs::metadata(folder.join(&file.name)).ok());
    list.iter().filter_map(of).map(|metadata| metadata.len()).sum()
}

/// Bytes of a file that are there and can be gone on with. One that cannot be is thrown away.
pub(super) fn here(folder: &Path, file: &ModelFile) -> Result<u64, String> {
    let path = folder.join(&file.name);
    let have = fs::symlink_metadata(&path).map_or(0, |m| m.len());
    if have < file.bytes || (have == file.bytes && check_whole(folder, file).is_ok()) {
        return Ok(have);
    }
    done(&path, fs::remove_file(&path)).map(|()| 0)
}

/// Whether a file is what was listed; one that is not is thrown away.
pub(super) fn check_whole(folder: &Path, file: &ModelFile) -> Result<(), String> {
    let (name, path) = (&file.name, folder.join(&file.name));
    let (digest, bytes) = digest_of(&path, file.bytes).map_err(|e| format!("{name}: {e}"))?;
    if (digest, bytes) == (file.digest, file.bytes) {
        return Ok(());
    }
    // It is asked for anew the next time; where it cannot be removed, that is found then.
    let _ = fs::remove_file(&path);
    Err(format!("{name}: what came has the digest {}, and {} was listed", hex(&digest), hex(&file.digest)))
}

/// Whether the files of a list, each of which was found to be what was listed, are the model of a digest, no more and no fewer.
pub(super) fn check_model(folder: &Path, list: &[ModelFile], digest: &[u8; 32]) -> Result<(), String> {
    let listed: BTreeSet<&str> =
        list.iter().map(|f| f.name.as_str()).filter(|n| ![MODEL, CALIBRATION].contains(n)).collect();
    let is_model = |file: &ModelFile| file.name == MODEL && file.digest == *digest;
    if listed.is_empty() && list.iter().any(is_model) {
        return Ok(()); // the digest of a model without files beside it is its file's
    }
    let found = Identity::of(&folder.join(MODEL), &Limits::default()).map_err(|e| e.to_string())?;
    let named: BTreeSet<&str> = found.external.iter().map(String::as_str).collect();
    if let Some(missing) = named.difference(&listed).next() {
        return Err(format!("the model keeps weights in {missing:?}, which is not listed"));
    }
    if let Some(extra) = listed.difference(&named).next() {
        return Err(format!("file {extra:?} is listed, and the model keeps nothing in it"));
    }
    if found.digest == *digest { Ok(()) } else { Err(format!("what came has the digest {}", hex(&found.digest))) }
}
