//! How a host is configured: flags win over the file, the file over the defaults. One merge, tested as data.

use crate::admin::DEFAULT_ADMIN;
use crate::client::Endpoint;
use crate::commands::serve::{CarrierArg, PeerListen, ServeArgs};
use crate::exit::usage;
use anyhow::{Result, anyhow};
use bps_node::{FileConfig, FilePeers, ModelControl, PeersConfig, ProfileChoice};
use bps_transport::PeerStore;
use clap::ValueEnum;
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where clients connect unless told otherwise.
pub(crate) const DEFAULT_LISTEN: &str = "127.0.0.1:8000";
/// Where other hosts connect unless told otherwise.
pub(crate) const DEFAULT_PEER_LISTEN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 7860));
/// Looked for in the working folder when no file is named.
const DEFAULT_FILE: &str = "bps.toml";
/// A policy's configuration is a few settings; a larger file is a wrong path.
const POLICY_CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Everything `bps serve` needs to know, decided.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    /// Where clients connect.
    pub(crate) listen: String,
    /// Where the administrator connects.
    pub(crate) admin: Endpoint,
    /// The administrator's token; none: the one in the state folder.
    pub(crate) admin_token_file: Option<PathBuf>,
    /// The token clients must send; none: they need none.
    pub(crate) token_file: Option<PathBuf>,
    /// Certificate chain and key.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    /// Whether clients may load and unload models.
    pub(crate) model_control: ModelControl,
    /// Model files and repositories.
    pub(crate) models: Vec<PathBuf>,
    /// Devices as written.
    pub(crate) devices: Vec<String>,
    /// The policy to start with: a name or a path.
    pub(crate) policy: String,
    /// Its configuration, JSON; empty: its defaults.
    pub(crate) policy_config: String,
    /// It was asked for on the command line: no other one will do.
    pub(crate) policy_strict: bool,
    /// Its seed.
    pub(crate) seed: u64,
    /// The folder that is watched for policies.
    pub(crate) policies_dir: Option<PathBuf>,
    /// What is dropped there becomes active at once.
    pub(crate) activate_on_drop: bool,
    /// Record every policy call here.
    pub(crate) record: Option<PathBuf>,
    /// Where profiles, tokens and the last good policy are kept.
    pub(crate) state_dir: Option<PathBuf>,
    /// Where cost tables come from.
    pub(crate) profile: ProfileChoice,
    pub(crate) accuracy_loss_max_ppm: Option<u32>,
    /// How long a drain waits.
    pub(crate) drain_timeout: Duration,
    /// Bounds and times of the scheduler.
    pub(crate) sched: bps_sched::Config,
    /// Most bytes of a request; none: the host's default.
    pub(crate) body_bytes_max: Option<usize>,
    /// How this host meets others; none: it has no state folder to know them from.
    pub(crate) peers: Option<PeersConfig>,
    /// Whether any are paired with it.
    pub(crate) paired: bool,
    /// Most requests held; none: the host's default.
    pub(crate) requests_max: Option<usize>,
    /// Most bytes of input held; none: the host's default.
    pub(crate) request_bytes_max: Option<usize>,
}

/// Reads the file that was named, or `bps.toml` here if there is one. Also gives its path.
pub(crate) fn read_file(named: Option<&Path>) -> Result<(FileConfig, Option<PathBuf>)> {
    let path = match named {
        Some(path) => path,
        None if Path::new(DEFAULT_FILE).is_file() => Path::new(DEFAULT_FILE),
        None => return Ok((FileConfig::default(), None)),
    };
    let config = FileConfig::load(path).map_err(|e| usage(format!("configuration file: {e}")))?;
    Ok((config, Some(path.to_owned())))
}

impl Settings {
    /// Whether there are other hosts, or some may come: then a host without models of its own has something to do.
    pub(crate) fn has_peers(&self) -> bool {
        let listens = |peers: &PeersConfig| peers.listen.is_some() && !peers.listen_once_paired;
        self.paired || self.peers.as_ref().is_some_and(listens)
    }

    /// Flags over file over defaults.
    pub(crate) fn merge(flags: ServeArgs, file: FileConfig) -> Result<Self> {
        if let Some(word) = flags.unflagged.first() {
            let flag = if word.is_dir() && !word.join("model.onnx").is_file() { "--models" } else { "--model" };
            let shown = word.display();
            return Err(usage(format!("{shown}: a model needs its flag: bps serve {flag} {shown}")));
        }
        let mut models = flags.model;
        models.extend(flags.models);
        let file_policy = file.policy.unwrap_or_else(|| {
            let default = bps_node::PolicyChoice::default();
            bps_node::FilePolicy { name: default.name_or_path, config: default.config, seed: default.seed }
        });
        let policy_strict = flags.policy.is_some() || flags.policy_config.is_some();
        let policy_config = match flags.policy_config {
            Some(text) => policy_config(&text, "--policy-config")?,
            // The file's configuration belongs to the file's policy.
            None if flags.policy.as_ref().is_some_and(|p| *p != file_policy.name) => String::new(),
            None => {
                check_json(&file_policy.config, "[policy] config")?;
                file_policy.config
            }
        };
        let tls = match (flags.tls_cert.or(file.tls_cert), flags.tls_key.or(file.tls_key)) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err(usage("TLS needs both a certificate (--tls-cert) and its key (--tls-key)")),
        };
        let admin = match flags.admin {
            Some(admin) => admin,
            None => endpoint(file.admin.as_deref().unwrap_or(DEFAULT_ADMIN))?,
        };
        let state_dir = flags.state_dir.or(file.state_dir).or_else(crate::state::folder);
        let given = GivenPeers { name: flags.name, listen: flags.peer_listen, carrier: flags.carrier };
        let paired = is_paired(state_dir.as_deref())?;
        let peers = peers(given, file.peers, state_dir.as_deref())?;
        let mut sched = bps_sched::Config::default();
        file.limits.apply(&mut sched);
        if let Some(queue_max) = flags.queue_max {
            sched.queue_requests_max = queue_max;
        }
        let settings = Self {
            listen: flags.listen.or(file.listen).unwrap_or_else(|| DEFAULT_LISTEN.into()),
            admin,
            admin_token_file: flags.admin_token_file.or(file.admin_token_file),
            token_file: flags.token_file.or(file.token_file),
            tls,
            model_control: flags.model_control.map(Into::into).or(file.model_control).unwrap_or_default(),
            models: if models.is_empty() { file.models } else { models },
            devices: if flags.device.is_empty() { file.devices } else { flags.device },
            policy: flags.policy.unwrap_or(file_policy.name),
            policy_config,
            policy_strict,
            seed: flags.seed.unwrap_or(file_policy.seed),
            policies_dir: flags.policies.or(file.policies),
            activate_on_drop: flags.activate_on_drop.or(file.activate_on_drop).unwrap_or(false),
            record: flags.record.or(file.record),
            peers,
            paired,
            state_dir,
            profile: flags.profile.map(Into::into).or(file.profile).unwrap_or_default(),
            accuracy_loss_max_ppm: accuracy_loss(flags.max_accuracy_loss, file.max_accuracy_loss)?,
            drain_timeout: flags
                .drain_timeout
                .or(file.drain_timeout_s.map(Duration::from_secs))
                .unwrap_or(Duration::from_secs(30)),
            sched,
            body_bytes_max: file.body_bytes_max,
            requests_max: file.requests_max,
            request_bytes_max: file.request_bytes_max,
        };
        if !is_host_port(&settings.listen) {
            let example = "such as 127.0.0.1:8000 or [::1]:8000";
            return Err(usage(format!("listen: {:?} is not HOST:PORT, {example} (--listen)", settings.listen)));
        }
        if settings.activate_on_drop && settings.policies_dir.is_none() {
            return Err(usage("--activate-on-drop needs a folder to watch: give --policies DIR too"));
        }
        Ok(settings)
    }
}

/// Parts per million of the flag's share, else of the file's.
fn accuracy_loss(flag: Option<f64>, file: Option<f64>) -> Result<Option<u32>> {
    if let Some(share) = file.filter(|share| !(0.0..=1.0).contains(share)) {
        return Err(usage(format!("max_accuracy_loss: {share} is not a share from 0 to 1 (0.005 is half a point)")));
    }
    Ok(flag.or(file).map(|share| (share * 1e6).round() as u32))
}

/// `0.5%`, or `0.005`; never a bare 1, which may be meant as either.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let (number, unit) = match text.trim().strip_suffix('%') {
        Some(percent) => (percent.trim(), 0.01),
        None => (text.trim(), 1.0),
    };
    let number = number.parse::<f64>().ok();
    if let Some(plain) = number.filter(|number| unit == 1.0 && (1.0..=100.0).contains(number)) {
        let or_all = if plain == 1.0 { " or 100%" } else { "" };
        return Err(format!("{text:?} needs its unit: write {plain}%{or_all}; without one it is a share below 1"));
    }
    let share = number.map(|number| number * unit).filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("{text:?} is not a share, such as 0.5% or 0.005"))
}

/// What the flags say of other hosts.
struct GivenPeers {
    name: Option<String>,
    listen: Option<PeerListen>,
    carrier: Option<CarrierArg>,
}

/// How this host meets others; none without a state folder, which is where they are known from. It listens where it is
/// told to, else once a host is paired.
fn peers(given: GivenPeers, file: FilePeers, state_dir: Option<&Path>) -> Result<Option<PeersConfig>> {
    let from_file = |e: String| usage(format!("[peers] {e}"));
    let listen = match (given.listen, &file.listen) {
        (Some(listen), _) => Some(listen),
        (None, Some(text)) => Some(text.parse().map_err(|e| from_file(format!("listen: {e}")))?),
        (None, None) => None,
    };
    let carrier = match (given.carrier, &file.carrier) {
        (Some(carrier), _) => carrier,
        (None, Some(text)) => CarrierArg::from_str(text, false).map_err(|e| from_file(format!("carrier: {e}")))?,
        (None, None) => CarrierArg::default(),
    };
    if state_dir.is_none() {
        return match listen {
            Some(PeerListen::At(_)) => Err(usage("other hosts are known from the state folder: give --state-dir DIR")),
            _ => Ok(None),
        };
    }
    let (listen, listen_once_paired) = match listen {
        Some(PeerListen::At(address)) => (Some(address), false),
        Some(PeerListen::Nowhere) => (None, false),
        None => (Some(DEFAULT_PEER_LISTEN), true),
    };
    let defaults = PeersConfig::default();
    Ok(Some(PeersConfig {
        name: given.name.or(file.name).unwrap_or_else(machine_name),
        listen,
        listen_once_paired,
        carrier: carrier.into(),
        window: file.window.unwrap_or(defaults.window),
        disk_bytes_max: file.disk_bytes_max.unwrap_or(defaults.disk_bytes_max),
    }))
}

/// Whether any hosts are known in the state folder.
fn is_paired(state_dir: Option<&Path>) -> Result<bool> {
    let Some(folder) = state_dir else { return Ok(false) };
    let known = PeerStore::open(folder).map_err(|e| usage(e.to_string()))?;
    Ok(!known.list().is_empty())
}

/// What this machine calls itself.
pub(crate) fn machine_name() -> String {
    let read = |path| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let name = read("/proc/sys/kernel/hostname").or_else(|| std::env::var("HOSTNAME").ok());
    name.filter(|n| !n.is_empty()).unwrap_or_else(|| "host".into())
}

/// Whether it has the form of an address; an IPv6 one stands in brackets.
fn is_host_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let host_fits = match host.strip_prefix('[') {
            Some(_) => text.parse::<std::net::SocketAddrV6>().is_ok(),
            None => !host.is_empty() && !host.contains(|c: char| c == ':' || c == '/' || c.is_whitespace()),
        };
        host_fits && port.parse::<u16>().is_ok()
    })
}

fn endpoint(text: &str) -> Result<Endpoint> {
    text.parse().map_err(|e| usage(format!("admin: {e}")))
}

/// A policy's configuration as given to an option of the command line: JSON, or `@FILE` with JSON or TOML in it.
pub(crate) fn policy_config(text: &str, option: &str) -> Result<String> {
    let Some(path) = text.strip_prefix('@') else {
        check_json(text, option)?;
        return Ok(text.to_owned());
    };
    let content =
        read_bounded(path, POLICY_CONFIG_BYTES_MAX).map_err(|e| usage(format!("policy configuration {path}: {e}")))?;
    if Path::new(path).extension().is_some_and(|e| e == "toml") {
        let table: toml::Table = toml::from_str(&content).map_err(|e| usage(format!("{path}: {e}")))?;
        return Ok(serde_json::to_string(&table)?);
    }
    check_json(&content, path)?;
    Ok(content)
}

/// By what comes, not by what the file says its size is: devices and pipes say 0.
pub(crate) fn read_bounded(path: impl AsRef<Path>, bytes_max: u64) -> Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(anyhow!("more than the {bytes_max} bytes that are read"));
    }
    Ok(String::from_utf8(bytes)?)
}

fn check_json(text: &str, place: &str) -> Result<()> {
    let is_object = serde_json::from_str::<serde_json::Value>(text).map(|v| v.is_object());
    match is_object {
        _ if text.is_empty() => Ok(()),
        Ok(true) => Ok(()),
        Ok(false) => {
            Err(usage(format!("{place}: a policy's configuration is a JSON object, like {{\"batch_max\": 16}}")))
        }
        Err(e) => Err(usage(format!("{place}: not JSON: {e}"))),
    }
}

/// Longest span of time that anybody waits.
const SPAN_MAX: Duration = Duration::from_secs(1_000 * 3_600);

/// A span of time: `500ms`, `2s`, `1.5m`, or seconds without a unit.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err(format!("unknown unit {unit:?}; use ms, s, m or h")),
    };
    let seconds =
        number.trim().parse::<f64>().map_err(|_| format!("{text:?} is not a span of time, like 500ms or 30s"))?;
    let span =
        Duration::try_from_secs_f64(seconds * scale).map_err(|_| format!("{text:?} is not a possible span of time"))?;
    // Sums of spans and of points in time stay far from where they have no number.
    if span > SPAN_MAX { Err(format!("{text:?} is too long: at most 1000h")) } else { Ok(span) }
}

/// The same, for what has to last.
pub(crate) fn span_not_zero(text: &str) -> Result<Duration, String> {
    let not_zero = |span: &Duration| !span.is_zero();
    Some(span(text)?).filter(not_zero).ok_or_else(|| format!("{text:?} is no time at all"))
}

#[cfg(test)]
mod tests;
