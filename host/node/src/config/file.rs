//! `bps.toml`: every setting of a host and its API, each optional. The command line's flags win over it.

use crate::{HostError, ProfileChoice};
use serde::Deserialize;
use std::fs::File;
use std::io::{Error, ErrorKind, Read};
use std::path::{Path, PathBuf};
use toml::de::DeTable;

/// A larger file is refused.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The whole file. A field that is absent leaves the default; an unknown one is an error with its line.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileConfig {
    /// Address of the client API, for example `127.0.0.1:8080`.
    pub listen: Option<String>,
    /// Address of the admin API: `127.0.0.1:8081` or `unix:/run/bps.sock`.
    pub admin: Option<String>,
    /// PEM file of the client API's certificate chain.
    pub tls_cert: Option<PathBuf>,
    /// PEM file of its private key.
    pub tls_key: Option<PathBuf>,
    /// File with the bearer token that clients must send.
    pub token_file: Option<PathBuf>,
    /// File with the bearer token of the admin API.
    pub admin_token_file: Option<PathBuf>,
    /// Whether clients may load and unload models.
    pub model_control: Option<ModelControl>,
    /// Model repositories and single `.onnx` files.
    pub models: Vec<PathBuf>,
    /// Devices, for example `["gpu:0", "cpu:2"]`.
    pub devices: Vec<String>,
    /// The policy to start with.
    pub policy: Option<FilePolicy>,
    /// A folder that is watched for policy components.
    pub policies: Option<PathBuf>,
    /// Make what is dropped there active at once.
    pub activate_on_drop: Option<bool>,
    /// Where profiles and the last good policy are kept.
    pub state_dir: Option<PathBuf>,
    /// Record every policy call to this file.
    pub record: Option<PathBuf>,
    /// Where cost tables come from: `quick`, `cached` or `off`.
    pub profile: Option<ProfileChoice>,
    /// Share of accuracy (0.005: half a point) that codecs may cost.
    pub max_accuracy_loss: Option<f64>,
    /// Seconds that a drain waits.
    pub drain_timeout_s: Option<u64>,
    /// Most bytes of a request's body.
    pub body_bytes_max: Option<usize>,
    /// Most requests held at once.
    pub requests_max: Option<usize>,
    /// Most bytes of input held at once.
    pub request_bytes_max: Option<usize>,
    /// How this host meets others.
    pub peers: FilePeers,
    /// Bounds and times of the scheduler.
    pub limits: FileLimits,
}

/// `[peers]`: how this host meets others. Who they are is kept in the state folder, by `bps pair`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FilePeers {
    /// What others call this host.
    pub name: Option<String>,
    /// Where they connect, for example `0.0.0.0:7860`; `none`: nowhere.
    pub listen: Option<String>,
    /// What carries tensors: `auto`, `quic` or `tcp`.
    pub carrier: Option<String>,
    /// Dispatches that each of them may have with each device here at once.
    pub window: Option<u32>,
    /// Disk that models fetched from others may take.
    pub disk_bytes_max: Option<u64>,
}

/// `[policy]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilePolicy {
    /// A prebuilt policy's name, or the path of a component.
    pub name: String,
    /// Its configuration, JSON text.
    #[serde(default)]
    pub config: String,
    /// What its random choices are drawn from.
    #[serde(default)]
    pub seed: u64,
}

/// Whether clients may load and unload models.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelControl {
    /// No: what is served is what was configured.
    #[default]
    None,
    /// Yes, through the repository extension.
    Explicit,
}

/// `[limits]`: what [`bps_sched::Config`] holds, times in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileLimits {
    /// Requests that wait per model.
    pub queue_requests_max: Option<u32>,
    /// Bytes that wait per model.
    pub queue_bytes_max: Option<u64>,
    /// Executions a device holds at once.
    pub device_credits: Option<u32>,
    /// Executions after the first that a request may have.
    pub retries_max: Option<u8>,
    /// A runnable request that waits longer proves a stall.
    pub stall_floor_ms: Option<u64>,
    /// A stage that takes longer has timed out.
    pub stage_timeout_floor_ms: Option<u64>,
    /// Target of a decide call.
    pub decide_budget_ms: Option<u64>,
    /// How long a new policy is on probation.
    pub probation_ms: Option<u64>,
    /// Decisions a new policy is on probation for.
    pub probation_decisions: Option<u64>,
    /// Hard faults within a minute that quarantine a policy.
    pub faults_max: Option<usize>,
    /// How long a quarantined policy is refused.
    pub quarantine_ms: Option<u64>,
}

impl FileLimits {
    /// Overwrites what the file sets.
    pub fn apply(&self, config: &mut bps_sched::Config) {
        fn set<T: Copy>(from: Option<T>, to: &mut T) {
            if let Some(value) = from {
                *to = value;
            }
        }
        let millis = |ms: Option<u64>| ms.map(bps_types::Nanos::from_millis);
        set(self.queue_requests_max, &mut config.queue_requests_max);
        set(self.queue_bytes_max, &mut config.queue_bytes_max);
        set(self.device_credits, &mut config.device_credits);
        set(self.retries_max, &mut config.retries_max);
        set(millis(self.stall_floor_ms), &mut config.stall_floor);
        set(millis(self.stage_timeout_floor_ms), &mut config.stage_timeout_floor);
        set(millis(self.decide_budget_ms), &mut config.decide_budget);
        set(millis(self.probation_ms), &mut config.probation);
        set(self.probation_decisions, &mut config.probation_decisions);
        set(self.faults_max, &mut config.faults_max);
        set(millis(self.quarantine_ms), &mut config.quarantine);
    }
}

impl FileConfig {
    /// Reads a file. Relative paths in it are relative to its folder.
    pub fn load(path: &Path) -> Result<Self, HostError> {
        // By what comes, not by what the file says its size is: devices and pipes say 0.
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(HostError::io(path))?;
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(HostError::io(path))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            let message = format!("more than the {FILE_BYTES_MAX} bytes that are read");
            return Err(HostError::Config { path: path.into(), line: 1, message });
        }
        let text = String::from_utf8(bytes).map_err(|e| HostError::io(path)(Error::new(ErrorKind::InvalidData, e)))?;
        let mut config = Self::parse(&text, path)?;
        config.resolve(path.parent().unwrap_or(Path::new("")));
        Ok(config)
    }

    /// Parses a file's text; `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self, HostError> {
        let config: Self = toml::from_str(text).map_err(|error| {
            let line = line_at(text, error.span().map_or(0, |span| span.start));
            HostError::Config { path: path.into(), line, message: error.message().to_owned() }
        })?;
        let whole = |message: &str| HostError::Config { path: path.into(), line: 1, message: message.to_owned() };
        if config.tls_cert.is_some() != config.tls_key.is_some() {
            return Err(whole("tls_cert and tls_key belong together: one of them is missing"));
        }
        if let Some(&setting) = config.zeros().first() {
            let message = format!("{setting} must be at least 1");
            return Err(HostError::Config { path: path.into(), line: line_of(text, setting), message });
        }
        Ok(config)
    }

    /// Settings that are 0 and must not be: a host would start with them and then serve nothing.
    fn zeros(&self) -> Vec<&'static str> {
        let limits = &self.limits;
        let settings = [
            ("body_bytes_max", self.body_bytes_max == Some(0)),
            ("requests_max", self.requests_max == Some(0)),
            ("request_bytes_max", self.request_bytes_max == Some(0)),
            ("peers.window", self.peers.window == Some(0)),
            ("limits.queue_requests_max", limits.queue_requests_max == Some(0)),
            ("limits.device_credits", limits.device_credits == Some(0)),
            ("limits.decide_budget_ms", limits.decide_budget_ms == Some(0)),
            ("limits.faults_max", limits.faults_max == Some(0)),
        ];
        settings.into_iter().filter(|(_, is_zero)| *is_zero).map(|(name, _)| name).collect()
    }

    fn resolve(&mut self, folder: &Path) {
        let join = |path: &mut PathBuf| {
            if path.is_relative() {
                *path = folder.join(&*path);
            }
        };
        self.models.iter_mut().for_each(join);
        let optional = [
            &mut self.tls_cert,
            &mut self.tls_key,
            &mut self.token_file,
            &mut self.admin_token_file,
            &mut self.policies,
            &mut self.state_dir,
            &mut self.record,
        ];
        optional.into_iter().flatten().for_each(join);
        if let Some(policy) = &mut self.policy
            && policy.name.ends_with(".wasm")
        {
            let mut path = PathBuf::from(&policy.name);
            join(&mut path);
            policy.name = path.to_string_lossy().into_owned();
        }
    }
}

/// The line of a byte, from 1.
fn line_at(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|b| *b == b'\n').count() + 1
}

/// The line where a setting, `name` or `table.name`, has its value.
fn line_of(text: &str, setting: &str) -> usize {
    let place = DeTable::parse(text).ok().and_then(|root| match setting.split_once('.') {
        Some((table, name)) => Some(root.get_ref().get(table)?.get_ref().as_table()?.get(name)?.span().start),
        None => Some(root.get_ref().get(setting)?.span().start),
    });
    line_at(text, place.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_all_defaults() {
        assert_eq!(FileConfig::parse("", Path::new("bps.toml")).unwrap(), FileConfig::default());
    }

    #[test]
    fn a_full_file_is_read() {
        let text = r#"
            listen = "127.0.0.1:8080"
            admin = "unix:/run/bps.sock"
            model_control = "explicit"
            models = ["models", "/abs/net.onnx"]
            devices = ["cpu:2", "gpu:0,slowdown=2"]
            profile = "off"
            [policy]
            name = "dropped.wasm"
            config = '{"window_us": 500}'
            seed = 7
            [limits]
            queue_requests_max = 10
            stall_floor_ms = 500
        "#;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bps.toml");
        std::fs::write(&path, text).unwrap();
        let config = FileConfig::load(&path).unwrap();
        assert_eq!(config.models, [folder.path().join("models"), "/abs/net.onnx".into()]);
        assert_eq!(config.policy.unwrap().name, folder.path().join("dropped.wasm").to_string_lossy());
        let mut sched = bps_sched::Config::default();
        config.limits.apply(&mut sched);
        assert_eq!((sched.queue_requests_max, sched.stall_floor), (10, bps_types::Nanos::from_millis(500)));
        assert_eq!(sched.retries_max, bps_sched::Config::default().retries_max);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_without_an_end_is_refused() {
        let message = FileConfig::load(Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(message.starts_with("/dev/zero:1: more than"), "{message}");
    }

    #[test]
    fn errors_name_file_and_line() {
        let cases = [
            ("listen = \"a\"\nspeed = 3\n", "bps.toml:2: unknown field `speed`"),
            ("\n\nmodels = 3\n", "bps.toml:3: invalid type: integer `3`"),
            ("[policy]\nseed = 1\n", "bps.toml:1: missing field `name`"),
            ("tls_cert = \"a.pem\"\n", "bps.toml:1: tls_cert and tls_key belong together"),
            ("listen = \n", "bps.toml:1: "),
            ("\nbody_bytes_max = 0\n", "bps.toml:2: body_bytes_max must be at least 1"),
            ("requests_max = 0\n", "bps.toml:1: requests_max must"),
            ("request_bytes_max = 0\n", "bps.toml:1: request_bytes_max must"),
            ("[limits]\n\ndevice_credits = 0\n", "bps.toml:3: limits.device_credits must"),
            ("[limits]\nqueue_requests_max = 0\n", "bps.toml:2: limits.queue_requests_max must"),
            ("[peers]\nname = \"a\"\nwindow = 0\n", "bps.toml:3: peers.window must"),
            ("[peers]\nport = 1\n", "bps.toml:2: unknown field `port`"),
            ("\nlimits = { faults_max = 0 }\n", "bps.toml:2: limits.faults_max must"),
            ("\nlimits.decide_budget_ms = 0\n", "bps.toml:2: limits.decide_budget_ms must"),
        ];
        for (text, expected) in cases {
            let message = FileConfig::parse(text, Path::new("bps.toml")).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{text:?}: {message}");
        }
    }
}
