//! Recording: every policy call of a run, in order, to a file that replays.

use crate::HostError;
use bps_plugin::LoadedPolicy;
use bps_plugin::recording::{Recorder, RecordingHandle};
use bps_sched::CallLog;
use std::collections::BTreeSet;
use std::path::Path;

/// Starts a recording: the end that the scheduler writes to, and the one that components are handed to.
pub(crate) fn open(path: &Path) -> Result<(Box<dyn CallLog>, Components), HostError> {
    let (recorder, handle) = Recorder::create(path)?;
    Ok((Box::new(recorder), Components { handle, noted: BTreeSet::new() }))
}

/// The components of a recording: each is written down once, before its first instance decides.
pub(crate) struct Components {
    handle: RecordingHandle,
    noted: BTreeSet<String>,
}

impl Components {
    pub(crate) fn note(&mut self, policy: &LoadedPolicy) {
        if self.noted.insert(policy.digest().to_owned()) {
            self.handle.component(policy);
        }
    }

    /// Waits until all of it is in the file, and says what was lost on the way.
    pub(crate) fn flush(&self) {
        self.handle.flush();
        let lost = self.handle.lost();
        if lost > 0 {
            tracing::warn!(lost, "records were lost: the disk did not keep up");
        }
    }
}
