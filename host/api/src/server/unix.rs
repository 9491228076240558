//! Serving on a unix socket whose file only its owner can use.

use super::{Listener, ServerLimits, run};
use crate::ApiError;
use axum::Router;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{Error, ErrorKind};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixStream};

/// Serves `router` on a unix socket at `path` until `shutdown` completes. The socket has mode 0600 from the moment it is
/// at `path`. A socket that a server has left behind is replaced; one that still answers is an error.
pub async fn serve_unix(path: &Path, router: Router, shutdown: impl Future<Output = ()>) -> Result<(), ApiError> {
    let failed = |source| ApiError::Io { what: format!("unix socket {}", path.display()), source };
    clear(path).map_err(failed)?;
    let listener = bind_private(path).map_err(failed)?;
    let _file = SocketFile(path.to_owned());
    run(listener, ServerLimits::default(), shutdown, |stream, connection| {
        let router = router.clone();
        connection.serve(stream, router)
    })
    .await;
    Ok(())
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> Result<(UnixStream, Option<IpAddr>), Error> {
        Self::accept(self).await.map(|(stream, _)| (stream, None))
    }
}

/// Removes a socket that nobody listens on.
fn clear(path: &Path) -> Result<(), Error> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if !metadata.file_type().is_socket() {
        return Err(Error::new(ErrorKind::AlreadyExists, "something that is no socket is there"));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(Error::new(ErrorKind::AddrInUse, "a server listens there")),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

/// Binds in a folder that nobody else can enter, sets the mode, and only then moves the socket to its place: between
/// `bind` and `chmod` it would be open to whom the umask lets in.
fn bind_private(path: &Path) -> Result<UnixListener, Error> {
    let beside = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = beside.join(format!(".bps-{}", std::process::id()));
    DirBuilder::new().mode(0o700).create(&folder)?;
    let bound = bind_in(&folder, path);
    let removed = fs::remove_dir_all(&folder);
    let listener = bound?;
    removed?;
    Ok(listener)
}

fn bind_in(folder: &Path, path: &Path) -> Result<UnixListener, Error> {
    let inner = folder.join("s");
    let listener = UnixListener::bind(&inner)?;
    fs::set_permissions(&inner, Permissions::from_mode(0o600))?;
    fs::rename(&inner, path)?;
    Ok(listener)
}

/// The socket's file; removed with the server.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0); // someone else may have removed it already
    }
}
