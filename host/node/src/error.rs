//! Why a host does not start.

use std::path::PathBuf;

/// Why a host does not start, or its configuration cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A file or folder cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The configuration file says something that cannot be understood.
    #[error("{path}:{line}: {message}")]
    Config {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// A path that should hold models holds none.
    #[error("{path}: {message}")]
    Models {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The devices could not be started.
    #[error(transparent)]
    Engine(#[from] bps_engine::EngineError),
    /// The policy runtime could not be started.
    #[error("policy runtime: {0}")]
    Plugin(#[from] bps_plugin::PluginError),
    /// The chosen policy cannot be used, and there is no earlier one to fall back to.
    #[error("policy {name}: {reason}")]
    Policy {
        /// As configured.
        name: String,
        /// Why.
        reason: String,
    },
    /// Other hosts cannot be met: the own identity, the list of paired hosts or the port.
    #[error("other hosts: {0}")]
    Peers(String),
    /// Other hosts cannot connect: nothing can listen where they would, for people.
    #[error("other hosts: {0}")]
    PeerListen(String),
    /// A thread could not be started or ended unexpectedly.
    #[error("internal: {0}")]
    Internal(String),
}

impl HostError {
    /// An I/O error at a path.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
