//! What bps keeps between runs: the state folder and the admin token in it.

use anyhow::{Context, Result, bail};
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Name of the token's file in the state folder.
pub(crate) const TOKEN_FILE: &str = "admin-token";
/// Name of the file that a running host holds.
const LOCK_FILE: &str = "serve.lock";
/// Linux's number for a file system whose locks nobody serves, as NFS can be.
const ENOLCK: i32 = 37;
/// Tokens are short; a file that is not is a wrong path.
const TOKEN_BYTES_MAX: u64 = 4_096;

/// `$BPS_STATE_DIR`, `$XDG_STATE_HOME/bps` or `~/.local/state/bps`; none where the environment names no home.
pub(crate) fn folder() -> Option<PathBuf> {
    let from = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    from("BPS_STATE_DIR")
        .or_else(|| from("XDG_STATE_HOME").map(|d| d.join("bps")))
        .or_else(|| from("HOME").map(|d| d.join(".local/state/bps")))
}

/// Makes the folder, for this user only.
pub(crate) fn make_folder(folder: &Path) -> Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).with_context(|| format!("cannot make the state folder {}", folder.display()))
}

/// The state folder as long as a host uses it. Two hosts with one identity would take each other's links.
#[derive(Debug)]
pub(crate) struct Held {
    _lock: fs::File,
}

/// Takes the folder for this process. Errors where another one has it.
pub(crate) fn hold(folder: &Path) -> Result<Held> {
    make_folder(folder)?;
    let path = folder.join(LOCK_FILE);
    let failed = || format!("cannot lock {}", path.display());
    let lock = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path).with_context(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(Held { _lock: lock }),
        Err(fs::TryLockError::WouldBlock) => bail!(
            "the state folder {} is in use by another bps serve: stop that, or give this one a folder of its own with \
             --state-dir",
            folder.display()
        ),
        // Not every file system has locks.
        Err(fs::TryLockError::Error(error))
            if error.kind() == std::io::ErrorKind::Unsupported || error.raw_os_error() == Some(ENOLCK) =>
        {
            Ok(Held { _lock: lock })
        }
        Err(fs::TryLockError::Error(error)) => Err(error).with_context(failed),
    }
}

/// Where the admin token is when nobody says otherwise.
pub(crate) fn default_token_file() -> Option<PathBuf> {
    folder().map(|f| f.join(TOKEN_FILE))
}

/// Reads a token: one line of printable ASCII, in a file that only its owner can read.
pub(crate) fn read_token(path: &Path) -> Result<String> {
    let failed = || format!("cannot read the token file {}", path.display());
    // A pipe would be waited at for ever.
    if !fs::metadata(path).with_context(failed)?.is_file() {
        bail!("the token file {} is not a plain file", path.display());
    }
    let mut file = fs::File::open(path).with_context(failed)?;
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata()?.permissions());
        if mode & 0o077 != 0 {
            bail!("others can read the token file {p}; run: chmod 600 {p}", p = path.display());
        }
    }
    let mut text = String::new();
    (&mut file)
        .take(TOKEN_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("the token file {} is not text", path.display()))?;
    let token = text.trim();
    if token.len() < 16 || text.len() as u64 > TOKEN_BYTES_MAX || !token.bytes().all(|b| b.is_ascii_graphic()) {
        bail!("the token file {} must hold one line of 16 to 4,000 printable characters", path.display());
    }
    Ok(token.to_owned())
}

/// The token in `path`; a file that does not exist is made with a random one. Says whether it was made.
pub(crate) fn read_or_make_token(path: &Path) -> Result<(String, bool)> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(mut file) => {
            let token = bps_api::new_token()?;
            writeln!(file, "{token}").with_context(|| format!("cannot write the token file {}", path.display()))?;
            Ok((token, true))
        }
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok((read_token(path)?, false)),
        Err(e) => Err(e).with_context(|| format!("cannot make the token file {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let (first, made) = read_or_make_token(&path).unwrap();
        let (second, made_again) = read_or_make_token(&path).unwrap();
        assert_eq!((first.len(), made, made_again), (64, true, false));
        assert_eq!(first, second);
    }

    #[test]
    fn a_state_folder_is_one_hosts() {
        let dir = tempfile::tempdir().unwrap();
        let held = hold(dir.path()).unwrap();
        assert!(hold(dir.path()).unwrap_err().to_string().contains("is in use"));
        drop(held);
        hold(dir.path()).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_no_token_file() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg("-m600").arg(&pipe).status().unwrap().success());
        assert!(read_token(&pipe).unwrap_err().to_string().ends_with("is not a plain file"));
    }

    #[cfg(unix)]
    #[test]
    fn a_token_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        read_or_make_token(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read_token(&path).unwrap_err().to_string().contains("chmod 600"));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_is_no_token_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in [("short", "abc".to_owned()), ("long", "x".repeat(5_000)), ("spaces", "a b".repeat(10))]
        {
            let path = dir.path().join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(read_token(&path).unwrap_err().to_string().contains("must hold"), "{name}");
        }
    }
}
