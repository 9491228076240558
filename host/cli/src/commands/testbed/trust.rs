//! Makes two hosts of the test bed known to each other with the product's own command: `bps pair` on each.

use super::host::HostSpec;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};

/// How long the waiting side waits.
const WAIT: &str = "60s";
/// A line of `bps pair` is short.
const LINE_BYTES_MAX: u64 = 16 << 10;

/// Pairs `weak`, who goes, with `strong`, who waits. `reached_at` is where the weak host reaches the strong one's port for
/// hosts. Blocks.
pub(super) fn pair(weak: &HostSpec, strong: &HostSpec, reached_at: SocketAddr) -> Result<()> {
    let listen: IpAddr = if reached_at.ip().is_loopback() { reached_at.ip() } else { Ipv4Addr::UNSPECIFIED.into() };
    let listen = SocketAddr::new(listen, 0).to_string();
    let port = reached_at.port().to_string();
    let waits = ["--listen", &listen, "--wait", WAIT, "--peer-port", &port];
    let mut waiting = Waiting::start(strong, &waits)?;
    let line = waiting.line()?;
    let invitation: Value = serde_json::from_str(&line).context("`bps pair` did not answer with JSON")?;
    let (Some(code), Some(port)) = (invitation["code"].as_str(), invitation["port"].as_u64()) else {
        bail!("`bps pair` showed no code: {}", waiting.said());
    };
    let at = format!("{}:{port}", reached_at.ip());
    let output = weak.site.within(|| {
        let mut command = command(weak, &[&at, code, "--peer-port", "none"])?;
        command.output().context("`bps pair` did not start")
    })?;
    if !output.status.success() {
        bail!("host {} could not be paired: {}", weak.name, String::from_utf8_lossy(&output.stderr).trim());
    }
    let ended = waiting.child.wait()?;
    if !ended.success() {
        bail!("host {} could not be paired: {}", strong.name, waiting.said());
    }
    Ok(())
}

/// `bps pair` that waits; dropping it ends it.
struct Waiting {
    child: Child,
}

impl Waiting {
    fn start(host: &HostSpec, words: &[&str]) -> Result<Self> {
        let child = host.site.within(|| {
            let mut command = command(host, words)?;
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("`bps pair` did not start")
        })?;
        Ok(Self { child })
    }

    fn line(&mut self) -> Result<String> {
        let stdout = self.child.stdout.as_mut().context("`bps pair` has no output")?;
        let mut line = String::new();
        BufReader::new(stdout.take(LINE_BYTES_MAX)).read_line(&mut line)?;
        if line.is_empty() {
            bail!("`bps pair` ended early: {}", self.said());
        }
        Ok(line)
    }

    /// What it said on stderr; ends it.
    fn said(&mut self) -> String {
        let _ = self.child.kill();
        let mut text = String::new();
        if let Some(stderr) = self.child.stderr.take() {
            // What cannot be read is not needed: it explains an error that is told anyway.
            let _ = stderr.take(LINE_BYTES_MAX).read_to_string(&mut text);
        }
        text.trim().to_owned()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(host: &HostSpec, words: &[&str]) -> Result<Command> {
    crate::state::make_folder(&host.folder)?;
    let mut command = Command::new(std::env::current_exe().context("this program's own file is not known")?);
    command.args(["--format", "json", "pair"]).args(words).args(["--name", &host.name]);
    command.arg("--state-dir").arg(&host.folder).current_dir(&host.folder);
    command.env_remove("BPS_CONFIG").env_remove("BPS_PAIR_CODE").stdin(Stdio::null());
    Ok(command)
}
