//! Why a server or a secret could not be set up. What a client did wrong is a [`crate::problem::Problem`] instead.

use std::path::PathBuf;

/// Errors of setting up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// A certificate or key file.
    #[error("{path}: {message}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// Certificate and key do not make a TLS server.
    #[error("TLS certificate {cert} and key {key}")]
    Tls {
        /// The certificate file.
        cert: PathBuf,
        /// The key file.
        key: PathBuf,
        /// What the TLS library says.
        source: rustls::Error,
    },
    /// A token that would protect nothing, or that no header can carry.
    #[error("a token needs at least {min} characters, all of them visible ASCII; this one has {got}")]
    Token {
        /// Characters it must have.
        min: usize,
        /// Characters it has.
        got: usize,
    },
    /// The operating system gave no random bytes.
    #[error("no random bytes for a token")]
    Random,
    /// A socket.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system says.
        source: std::io::Error,
    },
}
