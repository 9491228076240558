//! The models of a test bed, as a folder that `bps serve --models` takes.

use super::plan::ModelChoice;
use crate::local;
use crate::model_file;
use anyhow::{Context, Result};
use bps_graph::topology;
use bytes::Bytes;
use std::path::{Path, PathBuf};

/// The networks that are made take photographs; so do their clients send pixels, as a camera would. Their weights are
/// random: what a codec would cost in accuracy is as assumed, and what zstd makes of their activations means nothing, so
/// they may use only what was asked for.
fn photographs(codecs: &[String]) -> String {
    let list: Vec<String> = codecs.iter().map(|name| format!("{name:?}")).collect();
    format!(
        "codecs = [{}]\n\
         [preprocess]\n\
         mean = [123.675, 116.28, 103.53]\n\
         scale = [0.017124754, 0.017507003, 0.017429194]\n",
        list.join(", ")
    )
}

/// Writes what is built in or made into `folder`; gives the files that are served from where they are.
pub(super) fn write(models: &[ModelChoice], codecs: &[String], folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for model in models {
        let (onnx, manifest, calibration) = match model {
            ModelChoice::Digits => {
                let digits = local::digits_model();
                (digits.onnx.to_vec(), digits.manifest, digits.calibration)
            }
            ModelChoice::Made(topology) => (topology::make(*topology, 0), photographs(codecs), Bytes::new()),
            ModelChoice::File(path) => {
                let path = path.canonicalize().with_context(|| format!("cannot read {}", path.display()))?;
                files.push(path);
                continue;
            }
        };
        let place = folder.join(model.name());
        model_file::write(&place.join("model.onnx"), &onnx)?;
        model_file::write(&place.join("model.toml"), manifest.as_bytes())?;
        if !calibration.is_empty() {
            model_file::write(&place.join("model.ff"), &calibration)?;
        }
    }
    Ok(files)
}
