//! What FF was calibrated with for a model: the file beside it (`model.ff` beside `model.onnx`), read and checked.

use crate::repository::Source;
use crate::state_dir;
use bps_codec::ff::{PACKAGE_BYTES_MAX, Package};
use bps_types::hex;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Extension of the file.
const EXTENSION: &str = "ff";

/// Where a package says which model it was made for: behind its first word and the length of its body.
const MODEL_OFFSET: usize = 12;

/// A model's calibration.
#[derive(Clone, Debug)]
pub(crate) struct Calibration {
    pub(crate) package: Arc<Package>,
    /// SHA-256 of the file: hosts with the same one decode each other's frames.
    pub(crate) digest: [u8; 32],
}

impl Calibration {
    /// None where there is no file. One that is damaged, or of another model, is not used: everything works without, only
    /// with more bytes.
    pub(super) fn of(source: &Source, model: &str, model_digest: &[u8; 32]) -> Option<Self> {
        let read = bytes(source).and_then(|found| found.map(|bytes| Self::read(&bytes, model_digest)).transpose());
        let read = read.map_err(|error| format!("model.{EXTENSION}, {error}"));
        read.inspect_err(|error| tracing::warn!(model, error, "calibration not used")).ok().flatten()
    }

    fn read(bytes: &[u8], model_digest: &[u8; 32]) -> Result<Self, String> {
        let package = Package::from_bytes(bytes).map_err(|e| e.to_string())?;
        if package.model() != model_digest {
            let (said, model) = (hex(&package.model()[..8]), hex(&model_digest[..8]));
            return Err(format!("byte {MODEL_OFFSET}: it was made for the model {said}..., this one is {model}..."));
        }
        Ok(Self { package: Arc::new(package), digest: Sha256::digest(bytes).into() })
    }
}

/// Where the calibration of a model file is.
pub(super) fn path(onnx: &Path) -> PathBuf {
    onnx.with_extension(EXTENSION)
}

fn bytes(source: &Source) -> Result<Option<Bytes>, String> {
    match source {
        Source::Builtin { calibration, .. } => Ok(Some(calibration.clone()).filter(|bytes| !bytes.is_empty())),
        Source::File { onnx, .. } => {
            let path = path(onnx);
            let read = state_dir::read_bounded(&path, PACKAGE_BYTES_MAX as u64);
            read.map(|found| found.map(Bytes::from)).map_err(|e| e.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(folder: &std::path::Path) -> Source {
        Source::File { onnx: folder.join("model.onnx"), manifests: vec![] }
    }

    #[test]
    fn only_a_whole_package_of_this_model_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let of = |model: [u8; 32]| Calibration::of(&source(folder.path()), "m", &model);
        assert!(of([3; 32]).is_none(), "there is no file");
        let file = Package::new([3; 32], vec![]).unwrap().to_bytes().unwrap();
        let path = folder.path().join("model.ff");
        std::fs::write(&path, &file).unwrap();
        let found = of([3; 32]).unwrap();
        assert_eq!((found.package.cuts().len(), found.digest), (0, Sha256::digest(&file).into()));
        assert!(of([4; 32]).is_none(), "of another model");
        let error = Calibration::read(&file, &[4; 32]).unwrap_err();
        let (said, model) = ("03".repeat(8), "04".repeat(8));
        assert_eq!(error, format!("byte 12: it was made for the model {said}..., this one is {model}..."));
        assert_eq!(file[12..44], [3; 32], "the place that is named");
        std::fs::write(&path, &file[..file.len() - 1]).unwrap();
        assert!(of([3; 32]).is_none(), "cut short");
    }
}
