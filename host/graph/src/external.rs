//! Weights in files beside the model: found only inside the model's folder, counted, and part of the digest.

use crate::error::GraphError;
use crate::proto::TensorProto;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

/// Reads a model's external data.
pub(crate) struct External {
    /// The model's folder, without symbolic links.
    root: PathBuf,
    /// How much may still be read.
    bytes_left: u64,
    /// Whatever was read, after the file itself.
    hasher: Sha256,
    /// From where.
    files: BTreeSet<String>,
}

/// Where a tensor's contents are, as the file says.
struct Location<'a> {
    path: &'a str,
    offset: u64,
    length: Option<u64>,
}

impl External {
    /// For a model in `folder`; `hasher` has taken the file.
    pub(crate) fn new(folder: &Path, bytes_left: u64, hasher: Sha256) -> Result<Self, GraphError> {
        let root = folder.canonicalize().map_err(|source| GraphError::Read { path: folder.to_owned(), source })?;
        Ok(Self { root, bytes_left, hasher, files: BTreeSet::new() })
    }

    /// Digest of the file and of all that was read, and the files that it was read from, by name: relative to the
    /// model's folder, its parts joined by `/`.
    pub(crate) fn finish(self) -> ([u8; 32], Vec<String>) {
        (self.hasher.finalize().into(), self.files.into_iter().collect())
    }

    /// The `needed` bytes of a tensor.
    pub(crate) fn read(&mut self, tensor: &TensorProto, needed: u64) -> Result<Bytes, GraphError> {
        let fail = |message: String| GraphError::Tensor { tensor: tensor.name.clone(), message };
        let location = location(tensor).map_err(fail)?;
        if location.length.is_some_and(|l| l != needed) {
            let length = location.length.unwrap_or_default();
            return Err(fail(format!("needs {needed} bytes, its external data has {length}")));
        }
        if needed > self.bytes_left {
            let what = format!("external data of tensor `{}`", tensor.name);
            return Err(GraphError::Limit { what, got: needed, limit: self.bytes_left });
        }
        let path = self.resolve(location.path).map_err(fail)?;
        let data = read_range(&path, location.offset, needed).map_err(|e| fail(format!("{}: {e}", location.path)))?;
        self.bytes_left -= needed;
        self.hasher.update(&data);
        self.files.insert(plain(location.path));
        Ok(data.into())
    }

    /// The file inside the model's folder; symbolic links count as what they point to.
    fn resolve(&self, location: &str) -> Result<PathBuf, String> {
        let outside = || format!("external data `{location}` is outside the model's folder");
        let relative = Path::new(location);
        if location.is_empty() || !relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir))
        {
            return Err(outside());
        }
        let path = self.root.join(relative).canonicalize().map_err(|e| format!("external data `{location}`: {e}"))?;
        if path.starts_with(&self.root) { Ok(path) } else { Err(outside()) }
    }
}

/// A path that is inside the folder, without what means nothing in it (`./a//b` is `a/b`).
fn plain(location: &str) -> String {
    let parts = Path::new(location).components().filter_map(|c| match c {
        Component::Normal(part) => part.to_str(),
        _ => None,
    });
    parts.collect::<Vec<&str>>().join("/")
}

fn location(tensor: &TensorProto) -> Result<Location<'_>, String> {
    let entry = |key: &str| tensor.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
    let number = |key: &str| {
        let parsed = entry(key).map(str::parse::<u64>).transpose();
        parsed.map_err(|_| format!("external data has no number for `{key}`"))
    };
    let path = entry("location").ok_or("external data has no location")?;
    Ok(Location { path, offset: number("offset")?.unwrap_or(0), length: number("length")? })
}

/// Reads exactly `length` bytes; the file's size is checked before anything is allocated.
fn read_range(path: &Path, offset: u64, length: u64) -> std::io::Result<Vec<u8>> {
    let metadata = std::fs::metadata(path)?;
    let fits = metadata.is_file() && offset.checked_add(length).is_some_and(|end| end <= metadata.len());
    if !fits {
        let message = format!("has {} bytes, needs {length} from {offset}", metadata.len());
        return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, message));
    }
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut data = Vec::new();
    file.take(length).read_to_end(&mut data)?;
    if data.len() as u64 == length { Ok(data) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
}
