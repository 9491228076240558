//! The watched folder: a component that is dropped there becomes available once its file has stopped changing.
//!
//! Looked at about once a second by name, size and time of change. That sees every way a file can arrive (copied,
//! moved, written over the network), which file-system notifications do not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Files that are looked at; more is no folder of policies.
const FILES_MAX: usize = 256;

/// A folder and what was seen in it.
pub(crate) struct Watch {
    folder: PathBuf,
    seen: BTreeMap<PathBuf, Seen>,
}

struct Seen {
    print: Print,
    taken: bool,
}

/// Tells a file from its changed self.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Print {
    size_bytes: u64,
    modified: Option<SystemTime>,
}

impl Watch {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, seen: BTreeMap::new() }
    }

    /// Files that are new or changed, and looked the same at the last two looks. Each is given once.
    pub(crate) fn look(&mut self) -> Vec<PathBuf> {
        let now = list(&self.folder);
        self.seen.retain(|path, _| now.contains_key(path));
        let mut ready = Vec::new();
        for (path, print) in now {
            match self.seen.get_mut(&path) {
                Some(seen) if seen.print == print => {
                    if !seen.taken {
                        seen.taken = true;
                        ready.push(path);
                    }
                }
                _ => drop(self.seen.insert(path, Seen { print, taken: false })),
            }
        }
        ready
    }
}

fn list(folder: &Path) -> BTreeMap<PathBuf, Print> {
    // A folder that is not there (yet) is an empty one.
    let Ok(entries) = std::fs::read_dir(folder) else { return BTreeMap::new() };
    let component = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.ok()?.path();
        let meta = std::fs::metadata(&path).ok().filter(|m| m.is_file())?;
        let is_component = path.extension().is_some_and(|e| e == "wasm");
        is_component.then(|| (path, Print { size_bytes: meta.len(), modified: meta.modified().ok() }))
    };
    entries.take(4 * FILES_MAX).filter_map(component).take(FILES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_given_once_when_it_has_settled() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(folder.path().join("policies"));
        assert!(watch.look().is_empty(), "no folder yet");
        std::fs::create_dir(folder.path().join("policies")).unwrap();
        let path = folder.path().join("policies/a.wasm");
        std::fs::write(&path, b"12").unwrap();
        std::fs::write(folder.path().join("policies/readme.txt"), b"x").unwrap();
        assert!(watch.look().is_empty(), "seen for the first time");
        std::fs::write(&path, b"1234").unwrap();
        assert!(watch.look().is_empty(), "still growing");
        assert_eq!(watch.look(), std::slice::from_ref(&path));
        assert!(watch.look().is_empty(), "given once");
        std::fs::write(&path, b"123456").unwrap();
        watch.look();
        assert_eq!(watch.look(), [path], "changed");
    }
}
