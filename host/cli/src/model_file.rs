//! Models on disk: reading one for a command, writing one a command made.

use anyhow::{Context, Result};
use bps_graph::{Graph, Limits};
use std::fs;
use std::io::Write;
use std::path::Path;

/// Loads an ONNX file within the default limits.
pub(crate) fn load(path: &Path) -> Result<Graph> {
    Graph::load(path, &Limits::default()).with_context(|| format!("{} is not a model bps can serve", path.display()))
}

/// Writes a file whole or not at all: into its folder under another name, then renamed.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(failed)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(failed)?;
    file.write_all(bytes).with_context(failed)?;
    // A temporary file is its owner's alone; a model is for whoever the umask says.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644)).with_context(failed)?;
    }
    file.persist(path).map_err(|e| e.error).with_context(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_whole_with_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/model.onnx");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_no_model_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.onnx");
        fs::write(&path, b"not a model").unwrap();
        let error = format!("{:#}", load(&path).unwrap_err());
        assert!(error.contains("x.onnx"), "{error}");
    }
}
