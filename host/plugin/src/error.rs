//! Why a policy could not be loaded, and at which stage.

use serde::Serialize;
use std::fmt;

/// The stages on the way from bytes to a policy that may be activated, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LoadStage {
    /// The bytes were looked at: size and kind.
    Received,
    /// Compiled to machine code.
    Compiled,
    /// Imports, exports and the version of the world were compared with what the host offers and needs.
    Verified,
    /// Instantiated under limits; `describe` gave a valid manifest.
    Admitted,
    /// `configure` took the configuration.
    Configured,
    /// Many snapshots were answered without a fault.
    Rehearsed,
}

impl LoadStage {
    /// For messages, for example `verified`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Verified => "verified",
            Self::Compiled => "compiled",
            Self::Admitted => "admitted",
            Self::Configured => "configured",
            Self::Rehearsed => "rehearsed",
        }
    }
}

impl fmt::Display for LoadStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A policy was rejected: the stage it did not pass, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("rejected before it was {stage}: {reason}")]
pub struct LoadError {
    /// The stage that failed.
    pub stage: LoadStage,
    /// For people.
    pub reason: String,
}

impl LoadError {
    pub(crate) fn new(stage: LoadStage, reason: impl Into<String>) -> Self {
        Self { stage, reason: reason.into() }
    }
}

/// The policy engine or a recording cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The engine could not be set up.
    #[error("the policy engine cannot start: {0}")]
    Engine(String),
    /// A file could not be read or written.
    #[error("recording {path}: {source}")]
    Io {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What was read is not a recording of this version.
    #[error("not a recording of bps (version {version} expected): {reason}")]
    NotARecording {
        /// The version that this build reads.
        version: u16,
        /// What was found.
        reason: String,
    },
}
