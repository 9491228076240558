//! Models on disk: reading one for a command, writing one a command made.

use anyhow::{Context, Result, bail};
use bps_graph::{Graph, Limits};
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// The .onnx file of a model that was named as one, or as its folder.
pub(crate) fn onnx_of(model: &Path) -> PathBuf {
    if model.is_dir() { model.join("model.onnx") } else { model.to_owned() }
}

/// Loads an ONNX file, or the one of a model's folder, within the default limits.
pub(crate) fn load(model: &Path) -> Result<Graph> {
    let path = &onnx_of(model);
    Graph::load(path, &Limits::default()).with_context(|| format!("{} is not a model bps can serve", path.display()))
}

/// Writes a file whole or not at all: into its folder under another name, then renamed.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let path = &target(path)?;
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

/// Where a file written to `path` goes, links followed: a rename would replace a link, or a device node, by the file.
pub(crate) fn target(path: &Path) -> Result<PathBuf> {
    let shown = path.display();
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => bail!("cannot write {shown}: it exists and is not a regular file"),
        Ok(_) => path.canonicalize().with_context(|| format!("cannot write {shown}")),
        Err(e) if e.kind() == ErrorKind::NotFound && path.is_symlink() => {
            bail!("cannot write {shown}: it is a link to a file that does not exist")
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(path.to_owned()),
        Err(e) => Err(e).with_context(|| format!("cannot write {shown}")),
    }
}

/// Whether both name one file that exists: what is read from must not be written over.
pub(crate) fn is_same(a: &Path, b: &Path) -> bool {
    a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b))
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
    fn what_is_no_regular_file_is_named_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path(), Path::new("/dev/null")] {
            let error = write(path, b"one").unwrap_err().to_string();
            assert!(error.contains(&path.display().to_string()) && error.contains("not a regular file"), "{error}");
            assert!(!path.is_file());
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(write(&link, b"one").unwrap_err().to_string().contains("link"));
        fs::write(&file, b"zero").unwrap();
        write(&link, b"one").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"one");
        assert!(is_same(&link, &file) && is_same(&file, &dir.path().join("./file")));
        assert!(!is_same(&file, &dir.path().join("none")) && !is_same(&file, dir.path()));
    }

    #[test]
    fn a_file_that_is_no_model_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.onnx");
        fs::write(&path, b"not a model").unwrap();
        let error = format!("{:#}", load(&path).unwrap_err());
        assert!(error.contains("x.onnx"), "{error}");
    }

    #[test]
    fn a_folder_stands_for_the_model_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let error = format!("{:#}", load(dir.path()).unwrap_err());
        assert!(error.contains("model.onnx"), "{error}");
        let digits = crate::local::digits_model();
        fs::write(dir.path().join("model.onnx"), &digits.onnx).unwrap();
        assert_eq!(load(dir.path()).unwrap().digest, load(&dir.path().join("model.onnx")).unwrap().digest);
    }
}
