//! Where models come from: repository folders, single files, and what is built in.
//!
//! ```text
//! ROOT/<name>/model.onnx             version 1
//! ROOT/<name>/<integer>/model.onnx   that version
//! ROOT/<name>/model.toml             for every version; a version's own model.toml wins
//! some/where/<name>.onnx             version 1, with some/where/<name>.toml
//! ...onnx beside ...ff               what FF was calibrated with for that file
//! ```

use crate::{BuiltinModel, HostError};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Name of the model file in its folder.
const MODEL_FILE: &str = "model.onnx";
/// Folders of a root that are looked at; a repository with more is a mistake.
const ENTRIES_MAX: usize = 10_000;

/// Everything that can be served, found anew on each look.
pub(crate) struct Repository {
    roots: Vec<PathBuf>,
    builtin: Vec<BuiltinModel>,
}

/// One version of one model: what must be read to load it.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// An ONNX file and where its `model.toml` may be.
    File { onnx: PathBuf, manifests: Vec<PathBuf> },
    /// Bytes in the binary.
    Builtin { onnx: Bytes, manifest: String, calibration: Bytes },
}

/// Versions by number.
pub(crate) type Versions = BTreeMap<u64, Source>;

impl Repository {
    /// Checks that every root exists, and says in the log which ones hold nothing to serve or hide each other's models.
    pub(crate) fn new(roots: Vec<PathBuf>, builtin: Vec<BuiltinModel>) -> Result<Self, HostError> {
        for root in &roots {
            let meta = std::fs::metadata(root).map_err(HostError::io(root))?;
            if !meta.is_dir() && root.extension().is_none_or(|e| e != "onnx") {
                let message = "is neither a folder nor an .onnx file".to_owned();
                return Err(HostError::Models { path: root.clone(), message });
            }
        }
        let repository = Self { roots, builtin };
        repository.oddities()?.iter().for_each(|oddity| tracing::warn!("{oddity}"));
        Ok(repository)
    }

    /// What somebody who configured it may not have meant; for people.
    fn oddities(&self) -> Result<Vec<String>, HostError> {
        let mut oddities = Vec::new();
        let mut served: BTreeMap<String, &Path> = BTreeMap::new();
        for root in &self.roots {
            let models = models_of(root)?;
            if models.is_empty() {
                oddities.push(format!(
                    "no model in {}: looked for NAME/{MODEL_FILE} and NAME/VERSION/{MODEL_FILE}; a file NAME.onnx is served \
                     with --model",
                    root.display()
                ));
            }
            for (name, _) in models {
                match served.get(&name) {
                    Some(first) => oddities.push(format!(
                        "model {name:?} of {} is not served: {} has one of that name and comes first",
                        root.display(),
                        first.display()
                    )),
                    None => drop(served.insert(name, root)),
                }
            }
        }
        Ok(oddities)
    }

    /// Every model there is now. The first root that has a name wins; what is built in comes last.
    pub(crate) fn scan(&self) -> Result<BTreeMap<String, Versions>, HostError> {
        let mut found: BTreeMap<String, Versions> = BTreeMap::new();
        for root in &self.roots {
            for (name, versions) in models_of(root)? {
                found.entry(name).or_insert(versions);
            }
        }
        for model in &self.builtin {
            let BuiltinModel { onnx, manifest, calibration, .. } = model.clone();
            let source = Source::Builtin { onnx, manifest, calibration };
            found.entry(model.name.clone()).or_insert_with(|| Versions::from([(1, source)]));
        }
        Ok(found)
    }

    /// The versions of one model; empty where there is none.
    pub(crate) fn find(&self, name: &str) -> Result<Versions, HostError> {
        Ok(self.scan()?.remove(name).unwrap_or_default())
    }
}

/// Models of a root by name.
fn models_of(root: &Path) -> Result<Vec<(String, Versions)>, HostError> {
    if root.is_dir() { scan_root(root) } else { Ok(single_file(root).into_iter().collect()) }
}

/// A file serves under its stem; one that is called `model.onnx` like all others, under its folder's name.
fn single_file(path: &Path) -> Option<(String, Versions)> {
    let folder = || path.canonicalize().ok()?.parent()?.file_name()?.to_str().map(str::to_owned);
    let stem = path.file_stem()?.to_str()?.to_owned();
    let name = if path.ends_with(MODEL_FILE) { folder().unwrap_or(stem) } else { stem };
    let source = Source::File { onnx: path.to_path_buf(), manifests: vec![path.with_extension("toml")] };
    Some((name, Versions::from([(1, source)])))
}

/// A root that is itself one model's folder (`ROOT/model.onnx`) serves that model.
fn scan_root(root: &Path) -> Result<Vec<(String, Versions)>, HostError> {
    let name_of = |path: &Path| path.file_name().and_then(|n| n.to_str()).map(str::to_owned);
    if root.join(MODEL_FILE).is_file() {
        let absolute = root.canonicalize().map_err(HostError::io(root))?;
        return Ok(name_of(&absolute).map(|name| (name, versions(root))).into_iter().collect());
    }
    let mut models = Vec::new();
    for folder in subfolders(root)? {
        let found = versions(&folder);
        match name_of(&folder) {
            Some(name) if name.starts_with('.') => {}
            Some(name) if !found.is_empty() && !name.contains(char::is_control) => models.push((name, found)),
            _ if !found.is_empty() => tracing::warn!(?folder, "a model is not served: its name cannot be written"),
            _ => tracing::debug!(folder = %folder.display(), "holds no model"),
        }
    }
    Ok(models)
}

fn versions(folder: &Path) -> Versions {
    let source = |inner: &Path| {
        let manifests = vec![inner.join(bps_graph::manifest::FILE_NAME), folder.join(bps_graph::manifest::FILE_NAME)];
        Source::File { onnx: inner.join(MODEL_FILE), manifests }
    };
    let mut found = Versions::new();
    if folder.join(MODEL_FILE).is_file() {
        found.insert(1, source(folder));
    }
    for inner in subfolders(folder).unwrap_or_default() {
        let number = inner.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse::<u64>().ok());
        if let Some(number) = number.filter(|_| inner.join(MODEL_FILE).is_file()) {
            found.insert(number, source(&inner));
        }
    }
    found
}

/// Folders in a folder, by name.
fn subfolders(folder: &Path) -> Result<Vec<PathBuf>, HostError> {
    let entries = std::fs::read_dir(folder).map_err(HostError::io(folder))?;
    let mut paths = Vec::new();
    for entry in entries.take(ENTRIES_MAX) {
        let path = entry.map_err(HostError::io(folder))?.path();
        if path.is_dir() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(path: PathBuf) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"x").unwrap();
    }

    #[test]
    fn finds_folders_versions_files_and_builtins() {
        let root = tempfile::tempdir().unwrap();
        let at = |p: &str| root.path().join("repo").join(p);
        touch(at("plain/model.onnx"));
        touch(at("versioned/1/model.onnx"));
        touch(at("versioned/12/model.onnx"));
        touch(at("versioned/notes/model.onnx"));
        touch(at("empty/readme.txt"));
        touch(at(".hidden/model.onnx"));
        touch(root.path().join("single.onnx"));
        let builtin = |name: &str| BuiltinModel {
            name: name.into(),
            onnx: Bytes::new(),
            manifest: String::new(),
            calibration: Bytes::new(),
        };
        let roots = vec![root.path().join("repo"), root.path().join("single.onnx")];
        let repository = Repository::new(roots, vec![builtin("plain"), builtin("digits")]).unwrap();
        let found = repository.scan().unwrap();
        let listed: Vec<(&str, Vec<u64>)> =
            found.iter().map(|(n, v)| (n.as_str(), v.keys().copied().collect())).collect();
        let expected = [("digits", vec![1]), ("plain", vec![1]), ("single", vec![1]), ("versioned", vec![1, 12])];
        assert_eq!(listed, expected);
        assert!(matches!(found["plain"][&1], Source::File { .. }), "a folder wins over what is built in");
    }

    #[test]
    fn what_nobody_meant_is_said() {
        let root = tempfile::tempdir().unwrap();
        let at = |p: &str| root.path().join(p);
        touch(at("full/a/model.onnx"));
        touch(at("full/new\nline/model.onnx"));
        touch(at("flat/a.onnx"));
        let repository = |names: &[&str]| Repository { roots: names.iter().map(|n| at(n)).collect(), builtin: vec![] };
        assert_eq!(repository(&["full"]).oddities().unwrap(), Vec::<String>::new());
        assert_eq!(repository(&["full"]).scan().unwrap().keys().collect::<Vec<_>>(), ["a"]);
        let said = repository(&["flat/a.onnx", "full", "flat"]).oddities().unwrap();
        let expected = [("\"a\"", "full"), ("no model in", "flat")];
        assert_eq!(said.len(), expected.len(), "{said:?}");
        for (oddity, (what, place)) in said.iter().zip(expected) {
            assert!(oddity.contains(what) && oddity.contains(&at(place).display().to_string()), "{oddity}");
        }
    }

    #[test]
    fn a_root_that_is_missing_or_no_model_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        assert!(Repository::new(vec![root.path().join("none")], vec![]).is_err());
        touch(root.path().join("a.txt"));
        let error = Repository::new(vec![root.path().join("a.txt")], vec![]).err().unwrap().to_string();
        assert!(error.contains("neither a folder nor an .onnx file"), "{error}");
    }
}
