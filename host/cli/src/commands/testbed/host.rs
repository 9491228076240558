//! One host of the test bed: this same program as a child process, `bps serve` with a state folder of its own.

use super::network::{Ports, Site};
use crate::client::{Client, Endpoint};
use crate::state;
use anyhow::{Context, Result, bail};
use hyper::Method;
use serde_json::Value;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long models may take to load and to be measured: ResNet-50 on a device slowed sixteen times takes most of it.
const START_TIMEOUT: Duration = Duration::from_secs(300);
/// How often a host that starts is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Questions by which a clock is read; the quickest answer counts.
const CLOCK_QUESTIONS: usize = 7;
/// Lines of a host's log that an error shows.
const LOG_LINES: usize = 12;
/// More receipts than a host keeps.
const RECEIPTS: usize = 4_096;

/// How a host is started.
#[derive(Clone, Debug)]
pub(super) struct HostSpec {
    /// What others call it.
    pub(super) name: String,
    /// Its state folder.
    pub(super) folder: PathBuf,
    /// Where it is.
    pub(super) site: Site,
    /// Its addresses.
    pub(super) ports: Ports,
    /// `--device` as `bps serve` takes it.
    pub(super) device: String,
    /// The policy it starts with.
    pub(super) policy: String,
    /// `--policies`.
    pub(super) policies: Option<PathBuf>,
    /// `--carrier`.
    pub(super) carrier: String,
    /// `--max-accuracy-loss`.
    pub(super) max_accuracy_loss: f64,
    /// The folder of models, and files beside it.
    pub(super) models: PathBuf,
    /// Model files.
    pub(super) files: Vec<PathBuf>,
}

/// A running host; dropping it kills it.
pub(super) struct HostProcess {
    /// How it was started.
    pub(super) spec: HostSpec,
    /// A client of its admin socket, let in.
    pub(super) admin: Client,
    child: Child,
}

impl HostProcess {
    /// Starts it and waits until it serves.
    pub(super) async fn start(spec: HostSpec) -> Result<Self> {
        state::make_folder(&spec.folder)?;
        let token = spec.folder.join(state::TOKEN_FILE);
        let (token, _) = state::read_or_make_token(&token)?;
        let socket = spec.folder.join("admin.sock");
        // What a killed host left behind.
        let _ = fs::remove_file(&socket);
        let child = spec.site.within(|| spec.spawn())?;
        let admin = Client::new(Endpoint::Unix(socket), Some(&token))?;
        let mut host = Self { spec, admin, child };
        host.wait_until_ready().await?;
        Ok(host)
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("host {} ended while it started ({status}):\n{}", self.spec.name, self.log_tail());
            }
            let status = self.admin.json(Method::GET, "/v1/status", None).await;
            if status.is_ok_and(|s| s["ready"] == true) {
                return Ok(());
            }
            if begun.elapsed() > START_TIMEOUT {
                bail!("host {} is not ready after {} s:\n{}", self.spec.name, START_TIMEOUT.as_secs(), self.log_tail());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// SIGKILL: as a power cut would end it.
    pub(super) fn kill(&mut self) {
        // It may have ended already; either way it is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Whether its process lives.
    pub(super) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Starts it anew, as the same host.
    pub(super) async fn restart(&mut self) -> Result<()> {
        self.kill();
        *self = Self::start(self.spec.clone()).await?;
        Ok(())
    }

    /// A question to its admin interface.
    pub(super) async fn ask(&self, path: &str) -> Result<Value> {
        self.admin.json(Method::GET, path, None).await.with_context(|| format!("asking host {}", self.spec.name))
    }

    /// Its last receipts.
    pub(super) async fn receipts(&self) -> Result<Value> {
        self.ask(&format!("/v1/receipts?last={RECEIPTS}")).await
    }

    /// Its clock minus the test bed's, nanoseconds.
    pub(super) async fn clock_offset(&self, epoch: Instant) -> Result<i64> {
        let mut best: Option<(Duration, i64)> = None;
        for _ in 0..CLOCK_QUESTIONS {
            let asked = Instant::now();
            let status = self.ask("/v1/status").await?;
            let took = asked.elapsed();
            let clock = status["clock"].as_u64().context("a host does not tell its time")?;
            let middle = (asked.saturating_duration_since(epoch) + took / 2).as_nanos();
            let offset = clock as i64 - i64::try_from(middle).unwrap_or(i64::MAX);
            if best.is_none_or(|(quickest, _)| took < quickest) {
                best = Some((took, offset));
            }
        }
        best.map(|(_, offset)| offset).context("a host's clock was not read")
    }

    /// The end of its log, for an error.
    pub(super) fn log_tail(&self) -> String {
        let lines: Vec<String> = self.log_lines().iter().map(|line| format!("  {line}")).collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// What its log said last that begins with `what`.
    pub(super) fn said_last(&self, what: &str) -> Option<String> {
        let text = self.log_text();
        let said = text.lines().rev().find_map(|line| line.find(what).map(|at| &line[at..]));
        said.map(crate::table::clean)
    }

    fn log_lines(&self) -> Vec<String> {
        self.log_text().lines().map(crate::table::clean).collect()
    }

    fn log_text(&self) -> String {
        fs::read_to_string(self.spec.log()).unwrap_or_default()
    }
}

impl Drop for HostProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

impl HostSpec {
    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn spawn(&self) -> Result<Child> {
        let program = std::env::current_exe().context("this program's own file is not known")?;
        let log = File::options().create(true).append(true).open(self.log()).context("a host's log")?;
        let peer_listen = self.ports.peer.map_or_else(|| "none".to_owned(), |address| address.to_string());
        let mut command = Command::new(program);
        command.args([
            "--log",
            "info",
            "serve",
            "--name",
            &self.name,
            "--policy",
            &self.policy,
            "--device",
            &self.device,
        ]);
        command.args(["--listen", &self.ports.client.to_string(), "--peer-listen", &peer_listen]);
        command.args(["--carrier", &self.carrier, "--profile", "quick"]);
        command.args(["--max-accuracy-loss", &format!("{}%", self.max_accuracy_loss * 100.0)]);
        command.arg("--admin").arg(format!("unix:{}", self.folder.join("admin.sock").display()));
        command.arg("--state-dir").arg(&self.folder).arg("--models").arg(&self.models);
        if let Some(policies) = &self.policies {
            command.arg("--policies").arg(policies);
        }
        for file in &self.files {
            command.arg("--model").arg(file);
        }
        // A configuration of whoever started the test bed is not part of it.
        command.current_dir(&self.folder).env_remove("BPS_CONFIG").env_remove("BPS_STATE_DIR");
        for name in ["BPS_LISTEN", "BPS_ADMIN", "BPS_ADMIN_TOKEN_FILE", "BPS_TOKEN_FILE", "BPS_NAME", "BPS_PEER_LISTEN"]
        {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.spawn().with_context(|| format!("host {} did not start", self.name))
    }
}
