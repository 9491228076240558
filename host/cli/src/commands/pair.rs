//! `bps pair`: makes two hosts known to each other, one command on each.

mod addresses;
mod given;
mod show;

use crate::config::{self, machine_name};
use crate::exit::usage;
use crate::output::Output;
use crate::state;
use anyhow::{Context, Result, bail};
use bps_transport::pairing::{Code, Invitation, PAIR_PORT, PairingError, Terms, join};
use bps_transport::{Identity, PeerStore, Quotas, Rights};
use given::{Elsewhere, Port};
use std::io::{BufRead, IsTerminal, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

const TEACH: &str = "\
One command on each host, in either direction
  1. Here, `bps pair` shows a one-time code and waits.
  2. On the other host, `bps pair HOST CODE` with what the first one shows.
Both then show the other's fingerprint and keep it in the state folder. Hosts prove the code to each other without sending
it, so nobody in between can join in; a code works once, and five wrong ones void it.

How to choose
  Rights     --allow says what the other host may do here: execute (have this host's devices run stages), models (fetch the
             model files that may be exported), both, or none. Each side decides for itself.
  Quotas     --window and --bytes-max bound what is taken from it at once, so that it cannot crowd out this host's own work.
  Ports      The waiting side is reached on TCP port 7861 while it waits. `bps serve` then uses port 7860, UDP and TCP; say
             --peer-port if it uses another, or `none` where nobody can connect, as behind a home router: then it connects
             to the other one.
  Scripts    With --format json the first line has the code and the port, the second one comes when it is done. The code may
             be in BPS_PAIR_CODE, or on stdin with `-`, so that it is in no shell's history.

Examples
  bps pair                                    # here
  bps pair workstation.local K7QF-2M9X-8RTD   # there
  bps pair --allow none --name camera         # lets the other do nothing here, but uses it
  bps unpair camera                           # takes it back, also while `bps serve` runs

A running `bps serve` sees a new pairing within a second, and begins to listen with the first.";

const IT_MAY: &str = "What the other host may do here";

/// Make two hosts known to each other: one shows a code, the other is told it.
///
/// Without HOST this one waits and shows a code.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = format!("{TEACH}\n\n{}", crate::exit::EXIT_CODES))]
pub(crate) struct PairArgs {
    /// The host that waits: a name or address, with its port where that is not 7861.
    #[arg(value_name = "HOST[:PORT]")]
    host: Option<Elsewhere>,
    /// The code that it shows; `-` reads it from stdin. Asked for where it is missing.
    #[arg(value_name = "CODE", env = "BPS_PAIR_CODE", hide_env_values = true)]
    code: Option<String>,
    /// Where to wait.
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value_t = SocketAddr::from(([0, 0, 0, 0], PAIR_PORT)),
        conflicts_with = "host"
    )]
    listen: SocketAddr,
    /// How long to wait.
    #[arg(long, value_name = "SPAN", default_value = "5m", value_parser = config::span, conflicts_with = "host")]
    wait: Duration,
    /// What the other host may do here: execute, models, both with a comma, or none.
    #[arg(
        long,
        value_name = "RIGHTS",
        default_value = "execute,models",
        value_parser = given::rights,
        help_heading = IT_MAY
    )]
    allow: Rights,
    /// Dispatches it may have here at once, per device, the pieces of one counted together; `window` under [peers] in bps.toml
    /// (4) bounds it, too.
    #[arg(
        long,
        value_name = "N",
        default_value_t = Quotas::default().window,
        value_parser = clap::value_parser!(u32).range(1..),
        help_heading = IT_MAY
    )]
    window: u32,
    /// Most of its activations held here at once, as in 256MiB or 1GB.
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = given::size, help_heading = IT_MAY)]
    bytes_max: u64,
    /// What the other host calls this one [default: the machine's name].
    #[arg(long, value_name = "NAME", env = "BPS_NAME", help_heading = "This host")]
    name: Option<String>,
    /// Where `bps serve` of this host listens for others; `none`: nowhere [default: 7860].
    #[arg(long, value_name = "PORT|none", help_heading = "This host")]
    peer_port: Option<Port>,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Where a host keeps what it knows of others.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PlaceArgs {
    /// Where it keeps its identity and the hosts it knows [default: ~/.local/state/bps].
    #[arg(long, value_name = "DIR", env = "BPS_STATE_DIR", help_heading = "This host")]
    state_dir: Option<PathBuf>,
    /// Configuration file of its `bps serve` [default: ./bps.toml where there is one].
    #[arg(long, value_name = "FILE", env = "BPS_CONFIG", help_heading = "This host")]
    config: Option<PathBuf>,
}

/// What a host keeps, and what its `bps serve` says of other hosts.
pub(crate) struct Place {
    /// The state folder.
    pub(crate) folder: PathBuf,
    name: Option<String>,
    listen: Option<String>,
}

impl PlaceArgs {
    /// The same folder that `bps serve` takes.
    pub(crate) fn place(self) -> Result<Place> {
        let (file, _) = config::read_file(self.config.as_deref())?;
        let folder = self.state_dir.or(file.state_dir).or_else(state::folder);
        let folder = folder.ok_or_else(|| usage("there is no home folder to keep hosts in: give --state-dir DIR"))?;
        Ok(Place { folder, name: file.peers.name, listen: file.peers.listen })
    }
}

/// Waits or goes, and shows what came of it.
pub(crate) async fn run(args: PairArgs, out: Output) -> Result<()> {
    let place = args.place.clone().place()?;
    let terms = Terms {
        name: args.name.clone().or(place.name).unwrap_or_else(machine_name),
        peer_port: match args.peer_port {
            Some(port) => port.0,
            None => given::peer_port(place.listen.as_deref()).map_err(|e| usage(format!("[peers] listen: {e}")))?,
        },
        rights: args.allow,
        quotas: Quotas { window: args.window, bytes_max: args.bytes_max },
    };
    state::make_folder(&place.folder)?;
    let identity = Identity::load_or_make(&place.folder)?;
    let store = PeerStore::open(&place.folder)?;
    let own = (terms.rights, terms.quotas);
    let paired = match args.host {
        Some(at) => {
            let code = code(args.code)?;
            join(identity, store, terms, &at.host, at.port, code).await.map_err(wrong_usage)?
        }
        None => {
            let shown = show::Own { name: terms.name.clone(), key: identity.key(), wait: args.wait };
            let invitation = Invitation::open(identity, store, terms, args.listen).await.map_err(wrong_usage)?;
            show::waiting(out, &shown, &invitation)?;
            tokio::select! {
                paired = invitation.wait(args.wait) => paired?,
                _ = tokio::signal::ctrl_c() => bail!("stopped before another host came; its code is void"),
            }
        }
    };
    show::paired(out, &paired, own)
}

/// Terms that are out of bounds were given that way.
fn wrong_usage(error: PairingError) -> anyhow::Error {
    match error {
        PairingError::Name { .. } => usage(error.to_string()),
        error => error.into(),
    }
}

/// The code as given, else from stdin: asked for, where a person sits there.
fn code(given: Option<String>) -> Result<Code> {
    let text = match given {
        Some(text) if text != "-" => text,
        given => {
            let stdin = std::io::stdin();
            if given.is_none() {
                if !stdin.is_terminal() {
                    return Err(usage("the code is missing: give CODE, BPS_PAIR_CODE, or `-` to read it from stdin"));
                }
                crate::progress::say("The code that the other host shows:");
            }
            let mut line = String::new();
            // A code is short; a line that does not end is none.
            stdin.lock().take(256).read_line(&mut line).context("cannot read the code from stdin")?;
            line
        }
    };
    text.trim().parse().map_err(|e: bps_transport::pairing::CodeError| usage(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: PairArgs,
    }

    fn parse(line: &str) -> Result<PairArgs, clap::Error> {
        Line::try_parse_from(std::iter::once("pair").chain(line.split_whitespace())).map(|l| l.args)
    }

    #[test]
    fn defaults_are_those_that_are_told() {
        let args = parse("").unwrap();
        assert_eq!(args.listen.to_string(), "0.0.0.0:7861");
        assert_eq!(args.wait, Duration::from_secs(300));
        assert_eq!(args.allow, Rights { execute: true, fetch_models: true });
        assert_eq!(Quotas { window: args.window, bytes_max: args.bytes_max }, Quotas::default());
    }

    #[test]
    fn whoever_goes_does_not_wait() {
        let args = parse("strong:9000 K7QF-2M9X-8RTD --allow none --peer-port none").unwrap();
        assert_eq!(args.host, Some(Elsewhere { host: "strong".into(), port: 9000 }));
        assert_eq!((args.allow, args.peer_port), (Rights::default(), Some(Port(None))));
        for line in
            ["strong CODE --wait 5s", "strong CODE --listen 0.0.0.0:1", "--window 0", "--bytes-max 0", "--allow all"]
        {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_code_that_is_none_is_a_wrong_command_line() {
        assert!(code(Some(" k7qf 2m9x 8rtd\n".into())).is_ok());
        assert!(code(Some("K7QF".into())).unwrap_err().to_string().contains("12 letters and digits"));
    }
}
