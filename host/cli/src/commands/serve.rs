//! `bps serve`: a host that answers inference requests until it is told to stop.

mod start;
mod summary;

use start::StopSignals;
pub(crate) use start::{Endpoints, Serving, bind};

use crate::client::Endpoint;
use crate::config::{self, Settings};
use crate::exit::usage;
use crate::progress::say;
use crate::state;
use anyhow::{Result, anyhow, bail};
use bps_engine::DeviceRequest;
use bps_node::{Host, HostConfig, HostError, PolicyChoice};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

const TEACH: &str = "\
How to choose
  Models     --model for one .onnx file (served under its stem), --models for a folder with NAME/model.onnx or
             NAME/VERSION/model.onnx. A model.toml beside it states latency target, batch limit, placement and
             image preprocessing; without one the model serves with defaults.
  Devices    The default takes every real GPU and the processor. `--device cpu:2` makes two logical devices of the
             processor, each with half the cores: more requests at once, each slower. `bps devices` lists what is there,
             `bps profile MODEL` says how long each batch size takes where.
  Policy     bps           chooses batch, cut, codec and share of every host from what it measures
             batching      fills batches on this host: highest throughput of one machine
             local-only    one request at a time on the device that will be free first
             surgeon, pipelining, data-parallel, remote-only, baselines: one idea each; bps policy list
             Your own: a component file (see plugins/README.md). `bps policy list` shows all, `bps policy swap NAME`
             changes the policy while requests are in flight.
  Limits     --queue-max bounds what waits per model; above it clients get 503 at once rather than a long wait.
  Hosts      `bps pair` joins two hosts; then each uses the other's devices as its policy sees fit. `bps peers` shows them.
             A host without models of its own helps the others; it fetches what they let it have.
  Safety     Both ports listen on loopback unless told otherwise. The admin port always needs its token, which is made on
             the first start. Before --listen 0.0.0.0:8000 consider --tls-cert/--tls-key and --token-file.

Examples
  bps serve --model resnet50.onnx
  bps serve --models /srv/models --device gpu:0 --device cpu:2 --policy batching --policy-config '{\"batch_max\":16}'
  bps serve --config /etc/bps.toml --policies /srv/policies --record calls.bpsrec

Stopping: SIGTERM or Ctrl-C refuses new requests, finishes those it has, then ends; a second one ends at once.";

/// Serve models until told to stop.
///
/// Answers the Open Inference Protocol v2 (REST) on one port and its administrator on another. Settings come from flags,
/// else from the configuration file, else from defaults.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_long_help = format!("{TEACH}\n\n{}", crate::exit::EXIT_CODES))]
pub(crate) struct ServeArgs {
    /// Configuration file [default: ./bps.toml where there is one].
    #[arg(long, value_name = "FILE", env = "BPS_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// An ONNX file to serve under its stem, or a folder with model.onnx; repeat for more.
    #[arg(long, value_name = "FILE")]
    pub(crate) model: Vec<PathBuf>,
    /// A folder of models: DIR/NAME/model.onnx or DIR/NAME/VERSION/model.onnx.
    #[arg(long, value_name = "DIR")]
    pub(crate) models: Option<PathBuf>,
    /// A device to execute on: auto, cpu, cpu:N, gpu:N or software, with `,slowdown=N`; repeat for more [default: auto].
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Vec<String>,
    /// The scheduling policy to start with: a name or a component file [default: bps].
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) policy: Option<String>,
    /// The policy's configuration: JSON, or @FILE with JSON or TOML.
    #[arg(long, value_name = "JSON|@FILE")]
    pub(crate) policy_config: Option<String>,
    /// What the policy's random choices are drawn from [default: 0].
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// A folder that is watched for policy components.
    #[arg(long, value_name = "DIR")]
    pub(crate) policies: Option<PathBuf>,
    /// Make a policy that is dropped there active at once [default: it only becomes available].
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) activate_on_drop: Option<bool>,
    /// Where clients connect [default: 127.0.0.1:8000].
    #[arg(long, value_name = "HOST:PORT", env = "BPS_LISTEN")]
    pub(crate) listen: Option<String>,
    /// Where the administrator connects: HOST:PORT or unix:PATH [default: 127.0.0.1:8001].
    #[arg(long, value_name = "ADDRESS", env = "BPS_ADMIN")]
    pub(crate) admin: Option<Endpoint>,
    /// File with the administrator's token [default: one is made in the state folder].
    #[arg(long, value_name = "FILE", env = "BPS_ADMIN_TOKEN_FILE")]
    pub(crate) admin_token_file: Option<PathBuf>,
    /// File with a bearer token that clients must send [default: they need none].
    #[arg(long, value_name = "FILE", env = "BPS_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Certificate chain for clients, PEM.
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Whether clients may load and unload models [default: none].
    #[arg(long, value_enum)]
    pub(crate) model_control: Option<ModelControlArg>,
    /// Where cost tables come from [default: quick].
    #[arg(long, value_enum)]
    pub(crate) profile: Option<ProfileArg>,
    /// Share of accuracy, such as 0.5%, that codecs between hosts may cost a model; one whose model.toml allows more is held
    /// to it [default: what model.toml says, else none].
    #[arg(long, value_name = "SHARE", value_parser = config::share)]
    pub(crate) max_accuracy_loss: Option<f64>,
    /// Record every policy call to this file, for `bps policy replay`.
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
    /// Where tokens, profiles and the last good policy are kept [default: ~/.local/state/bps].
    ///
    /// The last good policy is the last one that came through its probation: a start falls back to it where the policy of
    /// the configuration file (or the default) cannot be had, not where --policy names another. A restart begins with the
    /// configured policy, whatever was swapped in since; components that were loaded through the admin port are gone then,
    /// unless they lie in the folder of --policies.
    #[arg(long, value_name = "DIR", env = "BPS_STATE_DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Requests that may wait per model; above it clients get 503 [default: 1024].
    #[arg(long, value_name = "REQUESTS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) queue_max: Option<u32>,
    /// What other hosts call this one [default: the machine's name].
    #[arg(long, value_name = "NAME", env = "BPS_NAME", help_heading = "Other hosts")]
    pub(crate) name: Option<String>,
    /// Where paired hosts connect, UDP and TCP; `none`: nowhere [default: 0.0.0.0:7860 once a host is paired].
    #[arg(long, value_name = "ADDRESS:PORT|none", env = "BPS_PEER_LISTEN", help_heading = "Other hosts")]
    pub(crate) peer_listen: Option<PeerListen>,
    /// What carries tensors between hosts [default: auto].
    #[arg(long, value_enum, help_heading = "Other hosts")]
    pub(crate) carrier: Option<CarrierArg>,
    /// How long stopping waits for requests to end [default: 30s].
    #[arg(long, value_name = "SPAN", value_parser = config::span)]
    pub(crate) drain_timeout: Option<Duration>,
    /// A model without its flag, which people try: refused with the flag.
    #[arg(hide = true, value_name = "MODEL")]
    pub(crate) unflagged: Vec<PathBuf>,
}

/// Where paired hosts connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerListen {
    /// Nowhere: this host connects to others only.
    Nowhere,
    /// Here.
    At(SocketAddr),
}

impl FromStr for PeerListen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::Nowhere);
        }
        let wrong = |_| format!("{text:?} is neither an address with a port, like 0.0.0.0:7860, nor `none`");
        text.parse().map(Self::At).map_err(wrong)
    }
}

/// What carries tensors between hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CarrierArg {
    /// TCP to hosts less than 2 ms away, QUIC to others where it gets through.
    #[default]
    Auto,
    /// QUIC with BBR: for lossy and long links.
    Quic,
    /// TCP with TLS: for fast links and small processors.
    Tcp,
}

impl From<CarrierArg> for bps_transport::CarrierChoice {
    fn from(arg: CarrierArg) -> Self {
        match arg {
            CarrierArg::Auto => Self::Auto,
            CarrierArg::Quic => Self::Quic,
            CarrierArg::Tcp => Self::Tcp,
        }
    }
}

/// Whether clients may load and unload models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ModelControlArg {
    /// What is served is what was configured.
    None,
    /// Through the repository calls of the protocol.
    Explicit,
}

impl From<ModelControlArg> for bps_node::ModelControl {
    fn from(arg: ModelControlArg) -> Self {
        match arg {
            ModelControlArg::None => Self::None,
            ModelControlArg::Explicit => Self::Explicit,
        }
    }
}

/// Where cost tables come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ProfileArg {
    /// A kept profile, else a measurement of at most two seconds per model and device.
    Quick,
    /// A kept profile, else estimates.
    Cached,
    /// Estimates.
    Off,
}

impl From<ProfileArg> for bps_node::ProfileChoice {
    fn from(arg: ProfileArg) -> Self {
        match arg {
            ProfileArg::Quick => Self::Quick,
            ProfileArg::Cached => Self::Cached,
            ProfileArg::Off => Self::Off,
        }
    }
}

/// Runs until a signal and the drain after it.
pub(crate) async fn run(args: ServeArgs) -> Result<()> {
    let (file, file_path) = config::read_file(args.config.as_deref())?;
    let settings = Settings::merge(args, file)?;
    if settings.models.is_empty() && !settings.has_peers() {
        return Err(usage(
            "nothing to serve: give --model FILE.onnx or --models DIR (make one to try: bps model make digits -o \
             digits.onnx), or pair this host with one that has models: bps pair",
        ));
    }
    let _held = settings.state_dir.as_deref().map(state::hold).transpose()?;
    let (admin_token, token_path) = admin_token(&settings)?;
    let client_token = settings.token_file.as_deref().map(state::read_token).transpose()?;
    let config = host_config(&settings)?;
    if let Some(folder) = settings.policies_dir.as_deref().filter(|folder| !folder.is_dir()) {
        say(&format!("--policies {}: there is no such folder; it is watched in case it comes", folder.display()));
    }
    let endpoints = Endpoints {
        listen: settings.listen.clone(),
        admin: settings.admin.clone(),
        admin_token,
        client_token,
        tls: settings.tls.clone(),
        model_control: settings.model_control,
        body_bytes_max: config.body_bytes_max,
    };
    let mut signals = StopSignals::listen()?;
    let listeners = bind(&endpoints).await?;
    say("starting: devices, models, policy ...");
    let host = tokio::select! {
        host = Host::start(config) => host.map_err(|e| not_started(e, settings.policy_strict))?,
        () = signals.next() => bail!("stopped by a signal while starting"),
    };
    let mut serving = listeners.serve(&host, &endpoints)?;
    say(&summary::text(&host, &settings, &serving.addresses, file_path.as_deref(), &token_path));
    tokio::select! {
        error = serving.failed() => return Err(error),
        () = signals.next() => {}
    }
    drain(&host, serving, &mut signals).await
}

/// A policy that was asked for on the command line and cannot be had is an error of the command line.
fn not_started(error: HostError, policy_strict: bool) -> anyhow::Error {
    match error {
        HostError::Policy { .. } if policy_strict => usage(format!("the host did not start: {error}")),
        HostError::PeerListen(why) => {
            anyhow!("{why}; choose where paired hosts connect with --peer-listen").context("the host did not start")
        }
        error => anyhow::Error::from(error).context("the host did not start"),
    }
}

/// Signals that follow each other closer than this are one.
const ONE_WISH: Duration = Duration::from_millis(300);

/// Finishes what waits and runs, unless a second signal says not to.
async fn drain(host: &Host, serving: Serving, signals: &mut StopSignals) -> Result<()> {
    say("stopping: finishing what waits and runs (a second signal ends at once)");
    let second = async {
        // `timeout` and terminals signal a process and then its group: that is one wish.
        while tokio::time::timeout(ONE_WISH, signals.next()).await.is_ok() {}
        signals.next().await;
    };
    let report = tokio::select! {
        report = host.drain() => report,
        () = second => bail!("ended by a second signal before the drain was over"),
    };
    serving.stop().await;
    let answered = crate::table::count(report.ledger.answered);
    say(&format!("stopped after {} ms; {answered} requests were answered", report.took_ms));
    if report.waiting + report.running > 0 {
        bail!("{} requests were still waiting and {} running when time was up", report.waiting, report.running);
    }
    Ok(())
}

/// The administrator's token, and where it is kept.
fn admin_token(settings: &Settings) -> Result<(String, PathBuf)> {
    if let Some(path) = &settings.admin_token_file {
        return Ok((state::read_token(path)?, path.clone()));
    }
    let Some(folder) = &settings.state_dir else {
        bail!("there is no home folder to keep the admin token in; give --state-dir DIR or --admin-token-file FILE");
    };
    state::make_folder(folder)?;
    let path = folder.join(state::TOKEN_FILE);
    let (token, _) = state::read_or_make_token(&path)?;
    Ok((token, path))
}

fn host_config(settings: &Settings) -> Result<HostConfig> {
    let devices: Result<Vec<DeviceRequest>, _> = settings.devices.iter().map(|d| d.parse::<DeviceRequest>()).collect();
    let defaults = HostConfig::default();
    Ok(HostConfig {
        models: settings.models.clone(),
        devices: devices.map_err(|e| usage(format!("--device {e}")))?,
        policy: PolicyChoice {
            name_or_path: settings.policy.clone(),
            config: settings.policy_config.clone(),
            seed: settings.seed,
            strict: settings.policy_strict,
        },
        policies_dir: settings.policies_dir.clone(),
        activate_on_drop: settings.activate_on_drop,
        state_dir: settings.state_dir.clone(),
        record: settings.record.clone(),
        sched: settings.sched.clone(),
        profile: settings.profile,
        accuracy_loss_max_ppm: settings.accuracy_loss_max_ppm,
        peers: settings.peers.clone(),
        drain_timeout: settings.drain_timeout,
        body_bytes_max: settings.body_bytes_max.unwrap_or(defaults.body_bytes_max),
        requests_max: settings.requests_max.unwrap_or(defaults.requests_max),
        request_bytes_max: settings.request_bytes_max.unwrap_or(defaults.request_bytes_max),
        ..defaults
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_for_other_hosts_is_said_with_its_flag() {
        let said = |error: HostError| format!("{:#}", not_started(error, false));
        assert!(said(HostError::PeerListen("cannot listen on 0.0.0.0:7860".into())).contains("--peer-listen"));
        assert!(!said(HostError::Peers("the list of paired hosts is damaged".into())).contains("--peer-listen"));
    }
}
