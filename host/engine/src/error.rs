//! What can go wrong, sorted by what the caller can do about it.

use bps_graph::GraphError;

/// A device, model or training run that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The machine has no such device.
    #[error("there is no device `{asked}`; this machine has: {available}")]
    NoSuchDevice {
        /// As asked for.
        asked: String,
        /// What could have been asked for.
        available: String,
    },
    /// A device was asked for twice.
    #[error("device `{name}` is asked for twice; `cpu:2` gives two logical halves of the processor")]
    Duplicate {
        /// Its name.
        name: String,
    },
    /// A device exists but does not come up.
    #[error("device `{name}` does not start: {message}")]
    Start {
        /// Its name.
        name: String,
        /// The driver's or the system's reason.
        message: String,
    },
    /// The device index is out of range.
    #[error("there is no device {index}; this engine has {count}")]
    NoSuchIndex {
        /// As given.
        index: usize,
        /// Number of devices.
        count: usize,
    },
    /// The model cannot be executed here.
    #[error("model `{model}`: {message}")]
    Model {
        /// The model's name in its file.
        model: String,
        /// What is wrong.
        message: String,
    },
    /// The model's description is wrong.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A trial execution failed.
    #[error("device `{device}`: {source}")]
    Execution {
        /// Where.
        device: String,
        /// Why.
        source: JobError,
    },
}

/// Why a job has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// This job cannot be executed; another may be.
    #[error("{}{message}", layer.as_ref().map(|l| format!("layer `{l}`: ")).unwrap_or_default())]
    Failed {
        /// The layer at which it failed; none before the first and after the last.
        layer: Option<String>,
        /// What happened.
        message: String,
    },
    /// The device has not enough memory; a smaller batch may pass.
    #[error("out of memory: {message}")]
    OutOfMemory {
        /// What happened.
        message: String,
    },
    /// The device is gone for the rest of the process.
    #[error("device lost: {message}")]
    DeviceLost {
        /// What happened.
        message: String,
    },
}

impl JobError {
    /// A failure outside any layer.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Failed { layer: None, message: message.into() }
    }

    /// Sorts a message of the tensor library or a driver. They have no common error type: most of them arrive as the
    /// text of a panic.
    pub(crate) fn classify(layer: Option<&str>, message: String) -> Self {
        let text = message.to_lowercase();
        let says = |words: &[&str]| words.iter().any(|w| text.contains(w));
        if says(&["out of memory", "outofmemory", "out_of_memory", "not enough memory"]) {
            Self::OutOfMemory { message }
        } else if says(&["device lost", "devicelost", "device is lost", "device_lost", "poisoned"]) {
            Self::DeviceLost { message }
        } else {
            Self::Failed { layer: layer.map(str::to_owned), message }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_sorted() {
        let sort = |m: &str| JobError::classify(Some("conv1"), m.into());
        assert!(matches!(sort("wgpu error: Out of Memory"), JobError::OutOfMemory { .. }));
        assert!(matches!(sort("The device is poisoned\nCaused by: x"), JobError::DeviceLost { .. }));
        assert_eq!(sort("shapes differ").to_string(), "layer `conv1`: shapes differ");
        assert_eq!(JobError::failed("no rows").to_string(), "no rows");
    }
}
