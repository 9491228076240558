//! The sockets of a host: bound before anything slow starts, so that a taken port is said at once; closed after the drain.

use crate::client::Endpoint;
use crate::exit::usage;
use anyhow::{Context, Result, anyhow, bail};
use bps_api::{ApiConfig, Secret, TlsFiles, admin_router, admin_unix_router, client_router};
use bps_node::{Host, ModelControl};
use std::fmt::Display;
use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Where a host listens, and who is let in.
pub(crate) struct Endpoints {
    /// For clients.
    pub(crate) listen: String,
    /// For the administrator.
    pub(crate) admin: Endpoint,
    /// The administrator's token.
    pub(crate) admin_token: String,
    /// The clients' token; none: they need none.
    pub(crate) client_token: Option<String>,
    /// Certificate chain and key for the clients' port.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    /// Whether clients may load and unload models.
    pub(crate) model_control: ModelControl,
    /// Most bytes of a request.
    pub(crate) body_bytes_max: usize,
}

/// Bound sockets that nobody answers yet.
pub(crate) struct Listeners {
    client: TcpListener,
    admin: AdminListener,
    addresses: Addresses,
}

enum AdminListener {
    Tcp(TcpListener),
    Unix(PathBuf),
}

/// Where the sockets are, ports chosen by the system included.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    /// For clients.
    pub(crate) client: SocketAddr,
    /// For the administrator.
    pub(crate) admin: Endpoint,
}

/// Servers at work.
pub(crate) struct Serving {
    /// Where they are.
    pub(crate) addresses: Addresses,
    stop: watch::Sender<bool>,
    tasks: JoinSet<Result<()>>,
}

/// Binds both sockets, a unix socket only as far as it shows that it can be had, and checks the TLS files.
pub(crate) async fn bind(endpoints: &Endpoints) -> Result<Listeners> {
    if let Some(files) = endpoints.tls_files() {
        files.check().map_err(|e| usage(format!("{:#}", anyhow::Error::from(e))))?;
    }
    let client = listen(&endpoints.listen, "--listen").await?;
    let client_address = client.local_addr()?;
    let (admin, admin_endpoint) = match &endpoints.admin {
        Endpoint::Unix(path) => {
            check_unix(path)?;
            (AdminListener::Unix(path.clone()), endpoints.admin.clone())
        }
        Endpoint::Http(base) => {
            let listener = listen(base.trim_start_matches("http://"), "--admin").await?;
            let bound = listener.local_addr()?;
            if !bound.ip().is_loopback() {
                return Err(usage(format!(
                    "the admin port answers this machine only; {bound} is not on loopback (--admin)"
                )));
            }
            let address = Endpoint::Http(format!("http://{bound}"));
            (AdminListener::Tcp(listener), address)
        }
    };
    Ok(Listeners { client, admin, addresses: Addresses { client: client_address, admin: admin_endpoint } })
}

async fn listen(address: &str, flag: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let hint = match error.kind() {
            ErrorKind::AddrInUse => format!("another process may hold the port, choose one with {flag}"),
            _ => format!("{flag} says where"),
        };
        anyhow::Error::from(error).context(format!("cannot listen on {address}; {hint}"))
    })
}

/// Whether the admin socket can be made: the server that makes it starts after the host.
fn check_unix(path: &Path) -> Result<()> {
    let shown = path.display();
    let wrong = |why: &dyn Display| usage(format!("cannot make the admin socket {shown}: {why} (--admin)"));
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(wrong(&"something that is no socket is there")),
        Ok(_) if UnixStream::connect(path).is_ok() => bail!("another server listens on {shown}; choose with --admin"),
        _ => {}
    }
    // As the server does it: in a folder beside the socket's place.
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let beside = tempfile::Builder::new().prefix(".bps-").tempdir_in(folder).map_err(|e| wrong(&e))?;
    UnixListener::bind(beside.path().join("s")).map(drop).map_err(|e| wrong(&e))
}

impl Endpoints {
    fn tls_files(&self) -> Option<TlsFiles> {
        self.tls.clone().map(|(cert, key)| TlsFiles { cert, key })
    }
}

impl Listeners {
    /// Answers on both sockets from now on.
    pub(crate) fn serve(self, host: &Host, endpoints: &Endpoints) -> Result<Serving> {
        let (stop, stopped) = watch::channel(false);
        let ended = move || {
            let mut stopped = stopped.clone();
            async move {
                // A sender that is gone means the same as one that says so.
                let _ = stopped.wait_for(|s| *s).await;
            }
        };
        let config = ApiConfig {
            token: endpoints.client_token.as_deref().map(Secret::new).transpose()?,
            model_control: endpoints.model_control,
            body_bytes_max: endpoints.body_bytes_max,
            ..ApiConfig::default()
        };
        let client = client_router(host.clone(), config);
        let tls = endpoints.tls_files();
        let mut tasks = JoinSet::new();
        let until = ended();
        tasks.spawn(async move { Ok(bps_api::serve(self.client, tls, client, until).await?) });
        let until = ended();
        match self.admin {
            AdminListener::Tcp(listener) => {
                let router = admin_router(host.clone(), Secret::new(&endpoints.admin_token)?);
                tasks.spawn(async move { Ok(bps_api::serve(listener, None, router, until).await?) });
            }
            AdminListener::Unix(path) => {
                let router = admin_unix_router(host.clone(), Secret::new(&endpoints.admin_token)?);
                tasks.spawn(async move { Ok(bps_api::serve_unix(&path, router, until).await?) });
            }
        }
        Ok(Serving { addresses: self.addresses, stop, tasks })
    }
}

impl Serving {
    /// Waits until a server ends by itself, which it should not, and says why.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Ok(Err(error))) => error.context("a server ended"),
            Some(Err(error)) => anyhow!("a server ended: {error}"),
            Some(Ok(Ok(()))) | None => anyhow!("a server ended without a reason"),
        }
    }

    /// Closes the sockets and waits for the exchanges under way.
    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            if let Ok(Err(error)) = ended {
                tracing::warn!("while stopping: {error:#}");
            }
        }
    }
}

/// SIGTERM and SIGINT (Ctrl-C), listened to from the moment this is made: one that comes while nobody waits is kept.
#[cfg(unix)]
pub(super) struct StopSignals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl StopSignals {
    pub(super) fn listen() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("SIGTERM cannot be awaited")?,
            interrupt: signal(SignalKind::interrupt()).context("SIGINT cannot be awaited")?,
        })
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Ctrl-C.
#[cfg(not(unix))]
pub(super) struct StopSignals;

#[cfg(not(unix))]
impl StopSignals {
    pub(super) fn listen() -> Result<Self> {
        Ok(Self)
    }

    /// Waits for the next one; where it cannot be awaited, for ever.
    pub(super) async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refused(listen: &str, admin: &str) -> String {
        refused_with(listen, admin, None).await
    }

    async fn refused_with(listen: &str, admin: &str, tls: Option<(PathBuf, PathBuf)>) -> String {
        let endpoints = Endpoints {
            listen: listen.into(),
            admin: admin.parse().unwrap(),
            admin_token: String::new(),
            client_token: None,
            tls,
            model_control: ModelControl::None,
            body_bytes_max: 1,
        };
        bind(&endpoints).await.err().expect("a refusal").to_string()
    }

    #[tokio::test]
    async fn sockets_that_cannot_be_had_are_said_with_their_flag() {
        assert!(refused("127.0.0.1:0", "0.0.0.0:0").await.contains("loopback"));
        let held = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let taken = held.local_addr().unwrap().to_string();
        let said = refused(&taken, "127.0.0.1:0").await;
        assert!(said.contains("--listen") && said.contains("another process"), "{said}");
        let said = refused("192.0.2.1:0", "127.0.0.1:0").await; // a documentation address: no machine has it
        assert!(said.contains("--listen") && !said.contains("another process"), "{said}");
    }

    #[tokio::test]
    async fn what_is_bound_later_is_checked_before() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, b"not a socket").unwrap();
        for path in [dir.path().join("none/admin.sock"), file.join("admin.sock"), file] {
            let said = refused("127.0.0.1:0", &format!("unix:{}", path.display())).await;
            assert!(said.contains(&path.display().to_string()) && said.contains("--admin"), "{said}");
        }
        let live = dir.path().join("live");
        let _held = UnixListener::bind(&live).unwrap();
        assert!(refused("127.0.0.1:0", &format!("unix:{}", live.display())).await.contains("another server"));
        let tls = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        assert!(refused_with("127.0.0.1:0", "127.0.0.1:0", Some(tls)).await.contains("cert.pem"));
    }
}
