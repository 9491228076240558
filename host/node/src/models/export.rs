//! A model's file as other hosts may fetch it: one file, its `model.toml`, piece by piece.

use super::loader::MANIFEST_BYTES_MAX;
use crate::repository::Source;
use crate::state_dir;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Largest piece of a file that is read at once.
pub(crate) const PIECE_BYTES_MAX: u32 = 256 << 10;

/// A model that may leave this host.
pub(crate) struct Export {
    whole: Whole,
    /// Bytes of the file.
    pub(crate) file_bytes: u64,
    /// Its `model.toml`.
    pub(crate) manifest: String,
}

enum Whole {
    File(PathBuf),
    Builtin(Bytes),
}

impl Export {
    /// None where the model is more than one file: its digest then covers weights that lie beside it, and a single file
    /// would not be that model. Reads the file.
    pub(super) fn of(source: &Source, digest: &[u8; 32]) -> Option<Self> {
        match source {
            Source::Builtin { onnx, manifest, .. } => Some(Self {
                file_bytes: onnx.len() as u64,
                whole: Whole::Builtin(onnx.clone()),
                manifest: manifest.clone(),
            }),
            Source::File { onnx, manifests } => {
                let (file_digest, file_bytes) = digest_of(onnx).ok()?;
                if file_digest != *digest {
                    return None;
                }
                let text = manifests.iter().find(|path| path.is_file()).map(|path| {
                    let bytes = state_dir::read_bounded(path, MANIFEST_BYTES_MAX).ok()??;
                    String::from_utf8(bytes).ok()
                });
                let manifest = text.unwrap_or_else(|| Some(String::new()))?;
                Some(Self { whole: Whole::File(onnx.clone()), file_bytes, manifest })
            }
        }
    }

    /// A piece of the file; shorter at its end. Blocks.
    ///
    /// # Errors
    /// Where `offset` is not inside the file, or the file is not what it was.
    pub(crate) fn read_blocking(&self, offset: u64, bytes: u32) -> io::Result<Bytes> {
        let left = self.file_bytes.checked_sub(offset).filter(|left| *left > 0);
        let left = left.ok_or_else(|| io::Error::other("the offset is not inside the file"))?;
        let length = left.min(u64::from(bytes.min(PIECE_BYTES_MAX))) as usize;
        match &self.whole {
            Whole::Builtin(whole) => Ok(whole.slice(offset as usize..offset as usize + length)),
            Whole::File(path) => {
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(offset))?;
                let mut piece = vec![0; length];
                file.read_exact(&mut piece)?;
                Ok(piece.into())
            }
        }
    }
}

/// SHA-256 of a file, and its bytes.
pub(crate) fn digest_of(path: &Path) -> io::Result<([u8; 32], u64)> {
    let mut file = File::open(path)?;
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
mod tests {
    use super::*;

    fn file(content: &[u8]) -> (tempfile::TempDir, Source) {
        let folder = tempfile::tempdir().unwrap();
        let onnx = folder.path().join("model.onnx");
        std::fs::write(&onnx, content).unwrap();
        std::fs::write(folder.path().join("model.toml"), "batch_max = 4\n").unwrap();
        let manifests = vec![folder.path().join("none.toml"), folder.path().join("model.toml")];
        (folder, Source::File { onnx, manifests })
    }

    #[test]
    fn pieces_are_inside_the_file_and_bounded() {
        let content: Vec<u8> = (0..300_000u32).map(|i| i as u8).collect();
        let digest: [u8; 32] = Sha256::digest(&content).into();
        let (_folder, source) = file(&content);
        let builtin = Source::Builtin {
            onnx: content.clone().into(),
            manifest: "batch_max = 4\n".into(),
            calibration: Bytes::new(),
        };
        for source in [source, builtin] {
            let export = Export::of(&source, &digest).expect("a single file");
            assert_eq!((export.file_bytes, export.manifest.as_str()), (300_000, "batch_max = 4\n"));
            assert_eq!(export.read_blocking(0, u32::MAX).unwrap().len(), PIECE_BYTES_MAX as usize);
            assert_eq!(export.read_blocking(299_999, 10).unwrap(), &content[299_999..]);
            assert_eq!(export.read_blocking(1_000, 3).unwrap(), &content[1_000..1_003]);
            for outside in [300_000, u64::MAX] {
                assert!(export.read_blocking(outside, 1).is_err(), "{outside}");
            }
        }
    }

    #[test]
    fn a_model_of_several_files_does_not_leave() {
        let (_folder, source) = file(b"one of two");
        assert!(Export::of(&source, &[7; 32]).is_none());
    }
}
