//! A model as other hosts may fetch it: its `.onnx`, what it keeps beside that, its calibration and its `model.toml`.
//!
//! Only files that the model itself names, and that lie in its own folder under plain names, are given. Their digests are
//! made when somebody first asks, and kept as long as the model is loaded.

mod names;

pub(crate) use names::{CALIBRATION, LIST, MODEL, ORIGIN, check_list, check_names};

use super::calibration::{self, Calibration};
use super::loader::MANIFEST_BYTES_MAX;
use crate::repository::Source;
use crate::state_dir;
use bps_graph::{Graph, Identity, Limits};
use bps_types::Nanos;
use bps_wire::{FILES_MAX, ModelFile, ModelList, ModelWanted};
use bytes::Bytes;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest piece of a file that is read at once.
pub(crate) const PIECE_BYTES_MAX: u32 = 256 << 10;

/// A model whose files are not what they were is not read again before this time is over: whoever asks could ask again at once.
const FAILURE_KEPT: Nanos = Nanos::from_secs(10);

/// A model that may leave this host.
pub(crate) struct Export {
    model: [u8; 32],
    /// Of its calibration.
    calibration: Option<[u8; 32]>,
    manifest: String,
    /// The model itself first.
    parts: Vec<Part>,
    /// Bytes of all files.
    pub(crate) file_bytes: u64,
    /// Made at the first question.
    list: Mutex<Option<Made>>,
}

/// The list of a model's files, or why there is none.
enum Made {
    List(Arc<ModelList>),
    Failed { reason: String, at: Nanos },
}

/// One of its files.
struct Part {
    name: String,
    content: Content,
    bytes: u64,
}

enum Content {
    File(PathBuf),
    Builtin(Bytes),
}

impl Export {
    /// Looks at sizes and names only.
    ///
    /// # Errors
    /// Why other hosts cannot have the model; for people.
    pub(super) fn of(source: &Source, graph: &Graph, calibration: Option<&Calibration>) -> Result<Self, String> {
        let (manifest, parts) = match source {
            Source::Builtin { onnx, manifest, calibration: package } => {
                let package = calibration.map(|_| Part::builtin(CALIBRATION, package));
                (manifest.clone(), std::iter::once(Part::builtin(MODEL, onnx)).chain(package).collect())
            }
            Source::File { onnx, manifests } => (manifest_of(manifests)?, files(onnx, graph, calibration.is_some())?),
        };
        let file_bytes = parts.iter().map(|part| part.bytes).sum();
        let (model, calibration) = (graph.digest, calibration.map(|c| c.digest));
        Ok(Self { model, calibration, manifest, parts, file_bytes, list: Mutex::default() })
    }

    /// The list of its files. Reads all of them at the first call, and for a while after one that failed does not do so again;
    /// blocks.
    ///
    /// # Errors
    /// Where a file is not what it was when the model was loaded; for people.
    pub(crate) fn list_blocking(&self, now: Nanos) -> Result<Arc<ModelList>, String> {
        let mut kept = self.list.lock();
        match &*kept {
            Some(Made::List(list)) => return Ok(list.clone()),
            Some(Made::Failed { reason, at }) if now.since(*at) < FAILURE_KEPT => return Err(reason.clone()),
            _ => {}
        }
        let made = self.make_list();
        *kept = Some(match made.clone() {
            Ok(list) => Made::List(list),
            Err(reason) => Made::Failed { reason, at: now },
        });
        made
    }

    fn make_list(&self) -> Result<Arc<ModelList>, String> {
        let changed = |name: &str| format!("{name} has changed since the model was loaded");
        let mut files = Vec::new();
        for part in &self.parts {
            let (digest, bytes) = part.content.digest(part.bytes).map_err(|e| format!("{}: {e}", part.name))?;
            let is_other = part.name == CALIBRATION && self.calibration != Some(digest);
            if bytes != part.bytes || is_other {
                return Err(changed(&part.name));
            }
            files.push(ModelFile { name: part.name.clone(), bytes, digest });
        }
        // The digest of a model without files beside it is its file's.
        if let Some(Content::File(path)) = self.parts.first().map(|part| &part.content)
            && files.first().is_none_or(|file| file.digest != self.model)
        {
            let identity = Identity::of(path, &Limits::default());
            // What goes to other hosts does not say where files lie here.
            let identity =
                identity.inspect_err(|error| tracing::warn!(%error, "a model that is served cannot be read"));
            if identity.map_or(true, |found| found.digest != self.model) {
                return Err(changed("one of its files"));
            }
        }
        Ok(Arc::new(ModelList { digest: self.model, manifest: self.manifest.clone(), files }))
    }

    /// A piece of one of its files; shorter at its end. Blocks.
    ///
    /// # Errors
    /// Where the model has no such file, `offset` is not inside it, or it is not what it was; for people.
    pub(crate) fn read_blocking(&self, wanted: &ModelWanted, now: Nanos) -> Result<Bytes, String> {
        let ModelWanted { file, offset, bytes, .. } = wanted;
        let list = self.list_blocking(now)?;
        let place = list.files.iter().position(|listed| listed.digest == *file);
        let part = place.and_then(|place| self.parts.get(place)).ok_or("the model has no such file")?;
        let left = part.bytes.checked_sub(*offset).filter(|left| *left > 0);
        let left = left.ok_or_else(|| format!("{}: the offset is not inside the file", part.name))?;
        let length = left.min(u64::from((*bytes).min(PIECE_BYTES_MAX))) as usize;
        part.content.read(*offset, length).map_err(|e| format!("{}: {e}", part.name))
    }
}

impl Part {
    fn builtin(name: &str, bytes: &Bytes) -> Self {
        Self { name: name.into(), content: Content::Builtin(bytes.clone()), bytes: bytes.len() as u64 }
    }

    fn file(name: &str, path: PathBuf) -> Result<Self, String> {
        let bytes = std::fs::metadata(&path).map_err(|e| format!("{}: {e}", path.display()))?.len();
        if bytes == 0 {
            Err(format!("{name} is empty"))
        } else {
            Ok(Self { name: name.into(), content: Content::File(path), bytes })
        }
    }
}

impl Content {
    /// Of at most `bytes_max` bytes and one more.
    fn digest(&self, bytes_max: u64) -> io::Result<([u8; 32], u64)> {
        match self {
            Self::Builtin(bytes) => Ok((Sha256::digest(bytes).into(), bytes.len() as u64)),
            Self::File(path) => digest_of(path, bytes_max),
        }
    }

    /// The caller has checked that it is inside.
    fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        match self {
            Self::Builtin(whole) => Ok(whole.slice(offset as usize..offset as usize + length)),
            Self::File(path) => {
                let mut file = state_dir::open_plain(path)?;
                file.seek(SeekFrom::Start(offset))?;
                let mut piece = vec![0; length];
                file.read_exact(&mut piece)?;
                Ok(piece.into())
            }
        }
    }
}

/// The `model.toml` that holds.
fn manifest_of(manifests: &[PathBuf]) -> Result<String, String> {
    let Some(path) = manifests.iter().find(|path| path.is_file()) else { return Ok(String::new()) };
    let bytes = state_dir::read_bounded(path, MANIFEST_BYTES_MAX).map_err(|e| e.to_string())?.unwrap_or_default();
    String::from_utf8(bytes).map_err(|e| format!("{}: {e}", path.display()))
}

/// The model, what it keeps beside itself, and its calibration where it has one.
fn files(onnx: &Path, graph: &Graph, calibrated: bool) -> Result<Vec<Part>, String> {
    if graph.external.len() + 2 > FILES_MAX {
        return Err(format!("it keeps weights in {} files", graph.external.len()));
    }
    let fixed = [MODEL, CALIBRATION].into_iter();
    check_names(fixed.chain(graph.external.iter().map(String::as_str)))?;
    let folder = onnx.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let root = folder.canonicalize().map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut parts = vec![Part::file(MODEL, onnx.to_owned())?];
    for name in &graph.external {
        // A link counts as what it points to: the loader has looked, but it may have changed since.
        let path = root.join(name).canonicalize().map_err(|e| format!("{name}: {e}"))?;
        if !path.starts_with(&root) {
            return Err(format!("{name} is outside the model's folder"));
        }
        parts.push(Part::file(name, path)?);
    }
    if calibrated {
        parts.push(Part::file(CALIBRATION, calibration::path(onnx))?);
    }
    Ok(parts)
}

/// SHA-256 of a file, and its bytes; of one that has more than `bytes_max` no more than that and one byte are read.
pub(crate) fn digest_of(path: &Path, bytes_max: u64) -> io::Result<([u8; 32], u64)> {
    let mut file = state_dir::open_plain(path)?.take(bytes_max.saturating_add(1));
    let mut hasher = Sha256::new();
    let (mut buffer, mut bytes) = (vec![0; 1 << 16], 0);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((hasher.finalize().into(), bytes));
        }
        hasher.update(&buffer[..read]);
        bytes += read as u64;
    }
}

#[cfg(test)]
mod tests;
