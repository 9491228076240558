//! `bps testbed`: two or three hosts on one machine, an emulated link between them, and policies that take turns on it.

mod dispatch;
mod figures;
mod host;
mod load;
mod measure;
mod models;
mod network;
mod plan;
mod report;
mod session;
mod statistics;
mod trace;
mod trust;

use crate::arrivals::Load;
use crate::config;
use crate::exit::{EXIT_CODES, usage};
use crate::link::LinkChoice;
use crate::model_file;
use crate::output::Output;
use crate::progress::{self, say};
use anyhow::{Context, Result, bail};
use bps_data::Set;
use bps_emulator::Script;
use load::Shape;
use measure::{Measure, Setup};
use network::Network;
use plan::{Contender, ModelChoice};
use report::{Method, Report};
use session::{HostPlan, Session};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

const TEACH: &str = "\
What it does
  Starts this program as two hosts (`edge`, where requests come in, and `server`), each in a network namespace and on a core
  of its own, pairs them with `bps pair`, and joins them by an emulated link: packets of the real network stack pass a model
  of rate, delay, loss, queue and outages. The edge sleeps after each execution so as to be --slowdown times slower. Then
  policies take turns on it, run by run, swapped while the hosts go on. Two seconds of load on each new link are not counted.
  It needs root and the program `ip` for the namespaces. Without, it says so and runs on loopback with the same model in a
  proxy: good for trying, not for figures.

How to read the table
  answers/s is the mean with its 95 % interval. The subject (bps, unless --subject) is compared with the best other policy of
  the cell by the ratios within runs: `not worse` means that the interval of the ratio holds 1 or more. Cells that are lost
  are named at the end. `sent/request` is what receipts count, `on the link` is what the emulator delivered both ways,
  probes included. Rows, bytes and plans are of a run's last 4,096 dispatches, so as not to disturb it by asking.
  `usual plan` is the route of most requests: device[from cut..until cut], =codec=> where it crosses the link.

How to choose
  --short           under 90 seconds, digits and resnet18 on one link: does it work
  --grid            the whole comparison: 3 models, 2 slow-downs, 6 links, every policy; hours
  --link            RATE/RTT or RATE/RTT/LOSS: 10Mbit/20ms, 100Mbit/40ms/1%, unlimited/1ms; repeat for more
  --policy          NAME, or NAME{\"mode\":\"...\"}; repeat for more. Without: all that the host knows. With :CODEC,CODEC
                    behind it a policy may use only these, which the model must allow: bps beside bps:int8-zstd shows what
                    the others are worth
  --load            closed: --clients that ask again at once, for throughput. poisson, bursty, periodic: --rate per second
  --script          what happens to the link in each run, TOML or JSON; times count from the beginning of the run:
                      [[change]]
                      at = \"5s\"
                      rate = \"10Mbit\"       # also rtt, loss, queue_bytes, down = \"2s\" (outage), roam = \"300ms\"
                    and with --in-process: stall = \"2s\" (all of it arrives afterwards), swallow = \"2s\" (half-open: it is
                    taken and lost), cut = \"2s\" (connections are closed and refused), corrupt = true (a bit flips)
  --kill-peer-at    SIGKILL for the server; --restart-peer-at brings it back within the run
  --trace FILE      the last run of each policy as a Chrome trace, all hosts on one time line: open it in ui.perfetto.dev

Examples
  sudo bps testbed --short
  sudo bps testbed --model resnet18 --slowdown 4,16 --link 10Mbit/20ms --link 200Mbit/1ms
  sudo bps testbed --model resnet18 --codec f16,int8 --link 10Mbit/20ms
  sudo bps testbed --model my-net --data shapes --policy bps --policy bps:int8-zstd --policy surgeon:int8-zstd
  sudo bps testbed --model resnet18 --policy bps --policy local-only --kill-peer-at 5s --span 12s --trace kill.json
  sudo bps testbed --grid --format json > grid.json";

/// Compare policies on two hosts with an emulated link between them.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = format!("{TEACH}\n\n{EXIT_CODES} A request that had no answer or an error: 1."))]
pub(crate) struct TestbedArgs {
    /// A quick look: digits and resnet18, one link, three policies, short runs.
    #[arg(long, conflicts_with = "grid")]
    short: bool,
    /// The whole comparison.
    #[arg(long)]
    grid: bool,
    /// A model: digits, resnet18, resnet50, mobilenet-v2, vgg16, an .onnx file or a folder with model.onnx; repeat for more
    /// [default: resnet18].
    #[arg(long, value_name = "NAME|FILE|DIR")]
    model: Vec<ModelChoice>,
    /// What is sent to models that are files: test pictures of a set, digits or shapes, as in `bps model train` [default: noise].
    #[arg(long, value_name = "SET")]
    data: Option<Set>,
    /// A codec that the networks with random weights (resnet18 and so on) may use besides raw; several with commas. Their
    /// accuracy is not known and what zstd makes of their activations means nothing, hence the default.
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "f16,int8,jpeg", value_parser = plan::codec)]
    codec: Vec<String>,
    /// What codecs may cost a model in accuracy, as in `bps serve`.
    #[arg(long, value_name = "SHARE", default_value = "1%", value_parser = config::share)]
    max_accuracy_loss: f64,
    /// How many times slower the edge's device is declared to be; several with commas [default: 4].
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = slowdown)]
    slowdown: Vec<f64>,
    /// A link: RATE/RTT or RATE/RTT/LOSS; repeat for more [default: 50Mbit/5ms].
    #[arg(long, value_name = "LINK")]
    link: Vec<LinkChoice>,
    /// A policy: NAME or NAME{JSON}, with :CODEC,CODEC behind it where it may use only these; repeat for more [default: all
    /// that the host knows].
    #[arg(long, value_name = "POLICY")]
    policy: Vec<Contender>,
    /// A folder with components of your own, which --policy may then name.
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
    /// The policy that is compared with the others, one of those that are measured [default: bps].
    #[arg(long, value_name = "POLICY")]
    subject: Option<Contender>,
    /// Interleaved runs per policy and cell [default: 5].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    runs: Option<u32>,
    /// Time of each run [default: 5s].
    #[arg(long, value_name = "SPAN", value_parser = config::span_not_zero)]
    span: Option<Duration>,
    /// Time under load before each run, so that the policy finds its feet [default: 1s].
    #[arg(long, value_name = "SPAN", value_parser = config::span)]
    settle: Option<Duration>,
    /// How long an answer is of use; later ones are misses [default: for ever].
    #[arg(long, value_name = "SPAN", value_parser = config::span)]
    deadline: Option<Duration>,
    /// How requests come.
    #[arg(long, value_enum, default_value_t, help_heading = "Load")]
    load: LoadArg,
    /// Clients of a closed loop, per edge.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000), help_heading = "Load")]
    clients: u32,
    /// Requests per second of an open loop, per edge.
    #[arg(long, value_name = "REQUESTS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Load")]
    rate: u32,
    /// Requests of a burst.
    #[arg(long, value_name = "REQUESTS", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000), help_heading = "Load")]
    burst: u32,
    /// What arrivals are drawn from.
    #[arg(long, default_value_t = 0, help_heading = "Load")]
    seed: u64,
    /// Two hosts, or three: two edges that share the server.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(2..=3), help_heading = "Hosts")]
    hosts: u32,
    /// The edge's device, as in `bps serve`.
    #[arg(long, value_name = "DEVICE", default_value = "cpu", help_heading = "Hosts")]
    device: String,
    /// The server's device, as in `bps serve`.
    #[arg(long, value_name = "DEVICE", default_value = "cpu", help_heading = "Hosts")]
    server_device: String,
    /// The policy by which the server joins stages that arrive.
    #[arg(long, value_name = "POLICY", default_value = "bps", help_heading = "Hosts")]
    server_policy: String,
    /// What carries tensors between hosts: auto, quic or tcp.
    #[arg(long, value_name = "CARRIER", default_value = "auto", value_parser = ["auto", "quic", "tcp"], help_heading = "Hosts")]
    carrier: String,
    /// Loopback and a proxy, even where namespaces are allowed.
    #[arg(long, help_heading = "Hosts")]
    in_process: bool,
    /// What happens to the link during each run.
    #[arg(long, value_name = "FILE", help_heading = "What happens")]
    script: Option<PathBuf>,
    /// Kill the server this long after a run begins.
    #[arg(long, value_name = "SPAN", value_parser = config::span, help_heading = "What happens")]
    kill_peer_at: Option<Duration>,
    /// Start it again this long after a run begins [default: after the run].
    #[arg(long, value_name = "SPAN", value_parser = config::span, requires = "kill_peer_at", help_heading = "What happens")]
    restart_peer_at: Option<Duration>,
    /// Write a Chrome trace.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

/// How requests come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum LoadArg {
    /// A number of clients, each asking again as soon as it is answered.
    #[default]
    Closed,
    /// At random moments.
    Poisson,
    /// In bursts.
    Bursty,
    /// At equal distances, as from a camera.
    Periodic,
}

/// How long a folder of components may take to be compiled.
const COMPILE_PATIENCE: Duration = Duration::from_secs(30);
/// A script of a link is short; a larger file is a wrong path.
const SCRIPT_BYTES_MAX: u64 = 8 << 20;

fn slowdown(text: &str) -> Result<f64, String> {
    let factor = text.trim().parse::<f64>().ok().filter(|f| (1.0..=1_000.0).contains(f));
    factor.ok_or_else(|| format!("{text:?} is not a factor from 1 to 1000"))
}

/// Most requests of a run that are not asked by clients who wait.
const REQUESTS_MAX: f64 = 1e7;

/// Measures and shows; cleans up also when it is interrupted.
pub(crate) async fn run(args: TestbedArgs, out: Output) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // Dropped by whichever comes first, and with it hosts, links and namespaces.
    tokio::select! {
        result = measure(args, out) => result,
        _ = interrupt.recv() => bail!("interrupted; hosts and namespaces are removed"),
        _ = terminate.recv() => bail!("interrupted; hosts and namespaces are removed"),
    }
}

async fn measure(args: TestbedArgs, out: Output) -> Result<()> {
    let mut setup = args.setup()?;
    args.check_load(setup.span + setup.settle)?;
    if let Some(path) = &args.trace {
        // Known before hours of measuring rather than after.
        model_file::target(path)?;
    }
    let names: &[&'static str] = if args.hosts == 3 { &["edge", "edge2", "server"] } else { &["edge", "server"] };
    let folder = tempfile::Builder::new().prefix("bps-testbed-").tempdir().context("no temporary folder")?;
    let network = Arc::new(Network::make(names, args.in_process, say)?);
    network.kind.permits(&setup.script)?;
    let (models, edge_models) = (folder.path().join("models"), folder.path().join("edge-models"));
    let host_plan = HostPlan {
        names: names.to_vec(),
        folder: folder.path().to_owned(),
        device: args.device.clone(),
        server_device: args.server_device.clone(),
        server_policy: args.server_policy.clone(),
        policies: args.policies.as_deref().map(absolute).transpose()?,
        carrier: args.carrier.clone(),
        max_accuracy_loss: args.max_accuracy_loss,
        files: models::write(&setup.models, &args.codec, &models)?,
        variants: models::variants(&setup.models, &plan::codec_lists(&setup.contenders), &models, &edge_models)?,
        data: args.data,
        models,
    };
    if let Some(load) = busy(&std::fs::read_to_string("/proc/loadavg").unwrap_or_default(), machine_cores()) {
        say(&format!(
            "THIS MACHINE IS BUSY (load {load:.1}): the hosts' cores are not theirs alone, figures will scatter"
        ));
    }
    say("pairing and starting hosts; each measures its models first ...");
    let session = Session::start(&host_plan, &network, setup.slowdowns[0]).await?;
    let (contenders, missing) = find_policies(&session, &setup.contenders, &args).await?;
    if contenders.is_empty() {
        bail!("none of the policies is there");
    }
    args.check_subject(&contenders)?;
    setup.contenders = contenders;
    let method = args.method(&setup, &network, names, missing);
    let total = (setup.span + setup.settle).as_secs_f64() * setup.measurements() as f64;
    say(&format!("{} measurements, at least {}", setup.measurements(), minutes(total)));
    let bar = progress::bar(setup.measurements(), "measuring");
    let mut measure = Measure {
        setup: &setup,
        epoch: Instant::now(),
        bar: &bar,
        trace: args.trace.is_some().then(trace::Trace::new),
    };
    let cells = measure.all(&host_plan, &network, session).await?;
    bar.finish_and_clear();
    if let (Some(trace), Some(path)) = (measure.trace.take(), &args.trace) {
        write_trace(trace, path)?;
    }
    let report = Report::new(method, cells);
    out.emit(&report, Report::text)?;
    match report.wrong() {
        Some(wrong) => bail!("{wrong}"),
        None => Ok(()),
    }
}

fn machine_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The load of the last minute, where other programs take more than a quarter of the machine.
fn busy(loadavg: &str, cores: usize) -> Option<f64> {
    let load = loadavg.split_whitespace().next()?.parse::<f64>().ok()?;
    (load > cores as f64 / 4.0).then_some(load)
}

/// Those of the wanted policies that are there. A folder of components is compiled while the host serves already.
async fn find_policies(
    session: &Session,
    wanted: &[Contender],
    args: &TestbedArgs,
) -> Result<(Vec<Contender>, Vec<String>)> {
    let named = !args.policy.is_empty();
    let patience = if args.policies.is_some() { COMPILE_PATIENCE } else { Duration::ZERO };
    let begun = Instant::now();
    loop {
        let found = plan::present(wanted, &session.policies().await?, named);
        let whole = found.as_ref().is_ok_and(|(_, missing)| missing.is_empty());
        if whole || begun.elapsed() >= patience {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Hosts have working folders of their own.
fn absolute(folder: &Path) -> Result<PathBuf> {
    folder.canonicalize().map_err(|e| usage(format!("--policies {}: {e}", folder.display())))
}

fn write_trace(trace: trace::Trace, path: &Path) -> Result<()> {
    let (events, cut_short) = trace.finish();
    model_file::write(path, serde_json::to_string(&events)?.as_bytes())?;
    let rest = if cut_short { "; its end is missing: there was too much" } else { "" };
    say(&format!("trace in {}: open it in ui.perfetto.dev{rest}", path.display()));
    Ok(())
}

fn minutes(seconds: f64) -> String {
    if seconds < 100.0 { format!("{seconds:.0} s") } else { format!("{:.0} min", seconds / 60.0) }
}

impl TestbedArgs {
    /// Presets and what was said, as data.
    fn setup(&self) -> Result<Setup> {
        let texts = |list: &[&str]| list.iter().map(|t| (*t).to_owned()).collect::<Vec<String>>();
        let (models, slowdowns, links) = if self.grid {
            let links =
                [10, 50, 200].iter().flat_map(|rate| [1, 20].map(|rtt| format!("{rate}Mbit/{rtt}ms"))).collect();
            (texts(&["resnet18", "resnet50", "digits"]), vec![4.0, 16.0], links)
        } else if self.short {
            (texts(&["digits", "resnet18"]), vec![4.0], texts(&["50Mbit/5ms"]))
        } else {
            (texts(&["resnet18"]), vec![4.0], texts(&["50Mbit/5ms"]))
        };
        let policies: &[&str] = if self.short { &plan::SHORT_POLICIES } else { &plan::ALL_POLICIES };
        let (runs, span, settle) = if self.short { (3, 1_500, 500) } else { (5, 5_000, 1_000) };
        let mut contenders = or_default(&self.policy, &texts(policies))?;
        if let Some(subject) = &self.subject
            && self.policy.is_empty()
            && !contenders.iter().any(|c| c.label == subject.label)
        {
            contenders.push(subject.clone());
        }
        self.check_subject(&contenders)?;
        let models = or_default(&self.model, &models)?;
        plan::check_names(&models, &contenders)?;
        let script = self.script.as_deref().map(read_script).transpose()?.unwrap_or_default();
        Ok(Setup {
            contenders,
            subject: self.subject.as_ref().map_or_else(|| "bps".to_owned(), |subject| subject.label.clone()),
            models,
            slowdowns: if self.slowdown.is_empty() { slowdowns } else { self.slowdown.clone() },
            links: or_default(&self.link, &links)?,
            shape: self.shape(),
            runs: self.runs.unwrap_or(runs),
            span: self.span.unwrap_or(Duration::from_millis(span)).max(Duration::from_millis(100)),
            settle: self.settle.unwrap_or(Duration::from_millis(settle)),
            deadline: self.deadline,
            script,
            kill_at: self.kill_peer_at,
            restart_at: self.restart_peer_at,
            seed: self.seed,
        })
    }

    /// One that was asked for must be among those that are measured: it would be compared with nothing.
    fn check_subject(&self, contenders: &[Contender]) -> Result<()> {
        let labels: Vec<&str> = contenders.iter().map(|c| c.label.as_str()).collect();
        match &self.subject {
            Some(subject) if !labels.contains(&subject.label.as_str()) => Err(usage(format!(
                "--subject {}: it is not among the policies that are measured: {}",
                subject.label,
                labels.join(", ")
            ))),
            _ => Ok(()),
        }
    }

    /// The moments of a run's requests are made before it, and its answers are kept until it is over.
    fn check_load(&self, run: Duration) -> Result<()> {
        let requests = f64::from(self.rate) * run.as_secs_f64();
        match self.load {
            LoadArg::Closed => Ok(()),
            _ if requests <= REQUESTS_MAX => Ok(()),
            _ => Err(usage(format!(
                "--rate {} over --span and --settle is {requests:.0} requests in a run: at most {REQUESTS_MAX:.0}",
                self.rate
            ))),
        }
    }

    fn shape(&self) -> Shape {
        let rate = f64::from(self.rate);
        match self.load {
            LoadArg::Closed => Shape::Closed(self.clients as usize),
            LoadArg::Poisson => Shape::Open(Load::Poisson { rate }),
            LoadArg::Bursty => {
                let every = Duration::from_secs_f64(f64::from(self.burst) / rate);
                Shape::Open(Load::Bursts { size: self.burst, every })
            }
            LoadArg::Periodic => Shape::Open(Load::Bursts { size: 1, every: Duration::from_secs_f64(1.0 / rate) }),
        }
    }

    fn method(&self, setup: &Setup, network: &Network, names: &[&str], missing: Vec<String>) -> Method {
        let load = match self.load {
            LoadArg::Closed => format!("{} clients per edge, each asking again at once", self.clients),
            LoadArg::Poisson => format!("{} requests/s at random moments", self.rate),
            LoadArg::Bursty => format!("{} requests/s in bursts of {}", self.rate, self.burst),
            LoadArg::Periodic => format!("{} requests/s at equal distances", self.rate),
        };
        Method {
            subject: setup.subject.clone(),
            network: network.kind,
            hosts: names.iter().map(|n| (*n).to_owned()).collect(),
            cores: network.cores.clone(),
            cores_of_machine: machine_cores(),
            carrier: self.carrier.clone(),
            codecs: self.codec.clone(),
            max_accuracy_loss: self.max_accuracy_loss,
            load,
            runs: setup.runs,
            span_seconds: setup.span.as_secs_f64(),
            settle_seconds: setup.settle.as_secs_f64(),
            deadline_ms: setup.deadline.map(|d| d.as_secs_f64() * 1e3),
            missing_policies: missing,
        }
    }
}

/// What was given, else the preset's words.
fn or_default<T: Clone + std::str::FromStr<Err = String>>(given: &[T], preset: &[String]) -> Result<Vec<T>> {
    if !given.is_empty() {
        return Ok(given.to_vec());
    }
    preset.iter().map(|text| text.parse().map_err(usage)).collect()
}

fn read_script(path: &Path) -> Result<Script> {
    let wrong = |e: &dyn std::fmt::Display| usage(format!("--script {}: {e}", path.display()));
    let text = config::read_bounded(path, SCRIPT_BYTES_MAX).map_err(|e| wrong(&e))?;
    Script::parse(&text).map_err(|e| wrong(&e))
}

#[cfg(test)]
mod tests;
