//! The models of a test bed, as a folder that `bps serve --models` takes.

use super::plan::{self, ModelChoice};
use crate::config;
use crate::exit::usage;
use crate::local;
use crate::model_file;
use anyhow::{Context, Result};
use bps_graph::{manifest, topology};
use bytes::Bytes;
use std::path::{Path, PathBuf};

/// A manifest is short.
const MANIFEST_BYTES_MAX: u64 = 64 << 10;

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

/// Writes what is built in or made into `folder`; gives the files that are served from where they are. `codecs` are those of
/// the networks that are made.
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

/// Writes each model once more for each list of codecs that a policy may use alone: files for the edges. The server needs
/// none of them, since it knows models by their digest, which is the same. `models` is the folder of [`write`], `folder`
/// another one.
pub(super) fn variants(
    choices: &[ModelChoice],
    lists: &[&[String]],
    models: &Path,
    folder: &Path,
) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for choice in choices {
        let onnx = match choice {
            ModelChoice::File(path) => path.clone(),
            _ => models.join(choice.name()).join("model.onnx"),
        };
        // Tensors that lie beside it.
        let outside = if lists.is_empty() { Vec::new() } else { model_file::load(&onnx)?.external };
        for codecs in lists {
            let place = folder.join(plan::variant(&choice.name(), codecs));
            let copy = |from: &Path, to: &Path| {
                let bytes = std::fs::read(from).with_context(|| format!("cannot copy {}", from.display()))?;
                model_file::write(&place.join(to), &bytes)
            };
            copy(&onnx, Path::new("model.onnx"))?;
            let calibration = onnx.with_extension("ff");
            if calibration.exists() {
                copy(&calibration, Path::new("model.ff"))?;
            }
            for name in &outside {
                copy(&onnx.with_file_name(name), Path::new(name))?;
            }
            let manifest = with_codecs(&onnx.with_extension("toml"), codecs)?;
            model_file::write(&place.join("model.toml"), manifest.as_bytes())?;
            files.push(place.join("model.onnx"));
        }
    }
    Ok(files)
}

/// A model.toml with other codecs; where there is none, one that says nothing else. Errors where the model does not allow one
/// of them.
fn with_codecs(path: &Path, codecs: &[String]) -> Result<String> {
    let text = if path.exists() { config::read_bounded(path, MANIFEST_BYTES_MAX)? } else { String::new() };
    let own = manifest::parse(&text).with_context(|| path.display().to_string())?.codecs;
    if let Some(stranger) = codecs.iter().find(|name| own.as_ref().is_some_and(|own| !own.contains(name))) {
        let own = own.unwrap_or_default().join(", ");
        return Err(usage(format!("--policy ...:{stranger}: {} allows only {own}", path.display())));
    }
    let mut table: toml::Table = text.parse().with_context(|| path.display().to_string())?;
    table.insert("codecs".to_owned(), codecs.to_vec().into());
    Ok(table.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_is_the_model_with_other_codecs() {
        let folder = tempfile::tempdir().unwrap();
        let (models, edges) = (folder.path().join("models"), folder.path().join("edges"));
        let choices = [ModelChoice::Digits];
        assert!(write(&choices, &[], &models).unwrap().is_empty());
        let codecs = ["int8-zstd".to_owned()];
        let files = variants(&choices, &[&codecs], &models, &edges).unwrap();
        assert_eq!(files, [edges.join("digits-with-int8-zstd/model.onnx")]);
        let read = |path: &Path| std::fs::read(path).unwrap();
        for extension in ["onnx", "ff"] {
            let original = models.join("digits").join("model").with_extension(extension);
            assert_eq!(read(&files[0].with_extension(extension)), read(&original));
        }
        let manifest = |text: Vec<u8>| bps_graph::manifest::parse(&String::from_utf8(text).unwrap()).unwrap();
        let own = manifest(read(&models.join("digits/model.toml")));
        let narrow = manifest(read(&files[0].with_extension("toml")));
        assert_eq!((narrow.codecs.as_deref(), narrow.slo_ms), (Some(&codecs[..]), own.slo_ms));
        let none = folder.path().join("none.toml");
        assert_eq!(with_codecs(&none, &codecs).unwrap().trim(), "codecs = [\"int8-zstd\"]");
        std::fs::write(&none, "codecs = [\"raw\", \"f16\"]").unwrap();
        let error = with_codecs(&none, &codecs).unwrap_err().to_string();
        assert!(error.contains("int8-zstd") && error.contains("allows only raw, f16"), "{error}");
    }
}
