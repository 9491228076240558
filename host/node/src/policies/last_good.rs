//! The last policy that proved itself, kept on disk: a start without its configured policy falls back to it.
//!
//! ```text
//! STATE/policy/<digest>.wasm    the component
//! STATE/policy/last-good.json   which one, and how it was set up; written last, so that it never names a file that is
//!                               not whole
//! ```

use crate::{HostError, PolicyChoice, state_dir};
use bps_plugin::LoadedPolicy;
use bps_types::Nanos;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Between two tries to keep the same policy.
const FAILED_REST: Nanos = Nanos::from_secs(300);
const RECORD: &str = "last-good.json";
const RECORD_BYTES_MAX: u64 = 2 << 20;
const COMPONENT_BYTES_MAX: u64 = 16 << 20;

/// Where it is kept, and what was kept last.
pub(crate) struct LastGood {
    folder: PathBuf,
    kept: Option<Record>,
    /// What could not be kept, and until when it is not tried again: a disk stays full for a while.
    failed: Option<(Record, Nanos)>,
}

/// Which policy, and how it was set up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    name: String,
    version: String,
    digest: String,
    config: String,
    seed: u64,
}

impl LastGood {
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { folder: state_dir.join("policy"), kept: None, failed: None }
    }

    /// Keeps a policy, unless it is the one that is kept already, or could not be kept a moment ago.
    pub(crate) fn keep(&mut self, policy: &LoadedPolicy, config: &str, seed: u64, now: Nanos) -> Result<(), HostError> {
        let manifest = policy.manifest();
        let record = Record {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            digest: policy.digest().to_owned(),
            config: config.to_owned(),
            seed,
        };
        let rests = self.failed.as_ref().is_some_and(|(failed, until)| *failed == record && now < *until);
        if rests || self.kept.as_ref() == Some(&record) {
            return Ok(());
        }
        self.failed = Some((record.clone(), now + FAILED_REST));
        state_dir::write_whole(&self.component(&record.digest), &policy.bytes())?;
        let text = serde_json::to_vec_pretty(&record).map_err(|e| HostError::Internal(e.to_string()))?;
        state_dir::write_whole(&self.folder.join(RECORD), &text)?;
        self.failed = None;
        if let Some(old) = self.kept.replace(record.clone()).filter(|old| old.digest != record.digest) {
            // A file that stays costs a few kilobytes.
            let _ = std::fs::remove_file(self.component(&old.digest));
        }
        Ok(())
    }

    /// The component that is kept, with its configuration and its digest; none where nothing (or nothing usable) is.
    pub(crate) fn read(&self) -> Result<Option<(Vec<u8>, PolicyChoice, String)>, HostError> {
        let path = self.folder.join(RECORD);
        let Some(text) = state_dir::read_bounded(&path, RECORD_BYTES_MAX)? else { return Ok(None) };
        let record: Record = serde_json::from_slice(&text).map_err(|e| HostError::Config {
            path: path.clone(),
            line: e.line(),
            message: e.to_string(),
        })?;
        if record.digest.len() != 64 || !record.digest.bytes().all(|b| b.is_ascii_hexdigit()) {
            let message = "digest is not a SHA-256 in hex".to_owned();
            return Err(HostError::Config { path, line: 1, message });
        }
        let bytes = state_dir::read_bounded(&self.component(&record.digest), COMPONENT_BYTES_MAX)?;
        let choice =
            PolicyChoice { name_or_path: record.name, config: record.config, seed: record.seed, strict: false };
        Ok(bytes.map(|bytes| (bytes, choice, record.digest)))
    }

    fn component(&self, digest: &str) -> PathBuf {
        self.folder.join(format!("{digest}.wasm"))
    }
}
