//! Files that outlive the process: written whole or not at all, read under a bound.

use crate::HostError;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

/// Writes a file so that a reader sees the old content or the new, never half of it.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), HostError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(HostError::io(folder))?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(HostError::io(folder))?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(HostError::io(path))?;
    file.persist(path).map(drop).map_err(|e| HostError::io(path)(e.error))
}

/// Opens a file to read it. Whoever opens a pipe may wait for ever, and a device may never end.
pub(crate) fn open_plain(path: &Path) -> std::io::Result<File> {
    if std::fs::metadata(path)?.is_file() {
        File::open(path)
    } else {
        Err(std::io::Error::other("is not a plain file"))
    }
}

/// Bytes that may still be written where a folder is; none where that cannot be said.
pub(crate) fn free_bytes(folder: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let there = folder.ancestors().find(|path| path.exists())?;
        let disk = rustix::fs::statvfs(there).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = folder;
        None
    }
}

/// Reads a file of at most `bytes_max` bytes; none where there is no file.
pub(crate) fn read_bounded(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, HostError> {
    let file = match open_plain(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(HostError::io(path))?,
    };
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too large from one that just fits.
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(HostError::io(path))?;
    if bytes.len() as u64 > bytes_max {
        let message = format!("larger than {bytes_max} bytes");
        return Err(HostError::io(path)(std::io::Error::other(message)));
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_whole_and_reads_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/file");
        assert_eq!(read_bounded(&path, 10).unwrap(), None);
        write_whole(&path, b"first").unwrap();
        write_whole(&path, b"0123456789").unwrap();
        assert_eq!(read_bounded(&path, 10).unwrap().unwrap(), b"0123456789");
        assert!(read_bounded(&path, 9).unwrap_err().to_string().contains("larger than 9 bytes"));
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no leftovers");
    }

    #[test]
    #[cfg(unix)]
    fn what_is_no_plain_file_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [pipe.as_path(), folder.path(), Path::new("/dev/zero")] {
            let error = read_bounded(path, 10).unwrap_err().to_string();
            assert!(error.contains("is not a plain file") && error.contains(&path.display().to_string()), "{error}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn free_bytes_are_those_of_the_disk_on_which_a_folder_will_be() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free_bytes(&folder.path().join("not/yet")).is_some_and(|bytes| bytes > 0));
    }
}
