//! `bps unpair`: a host is no longer known here.

use crate::commands::pair::PlaceArgs;
use crate::exit::usage;
use crate::output::Output;
use anyhow::Result;
use bps_transport::{Peer, PeerStore, fingerprint};
use serde::Serialize;

const TEACH: &str = "\
From then on the host cannot connect, and a running `bps serve` hangs up on it; requests that it was working on are executed
elsewhere. It still knows this host, to no use: run `bps unpair` there too. The same two hosts can be paired again at any time.

Examples
  bps unpair camera
  bps unpair 3f9c01d2        # the start of its fingerprint, at least 4 digits";

/// Take back what `bps pair` gave: the other host can no longer do anything here.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = format!("{TEACH}\n\n{}", crate::exit::EXIT_CODES))]
pub(crate) struct UnpairArgs {
    /// Its name, or the start of its fingerprint.
    #[arg(value_name = "NAME|FINGERPRINT")]
    which: String,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Serialize)]
struct UnpairedLine {
    state: &'static str,
    name: String,
    fingerprint: String,
}

/// Removes it and says whom.
pub(crate) fn run(args: UnpairArgs, out: Output) -> Result<()> {
    let place = args.place.place()?;
    if !place.folder.is_dir() {
        return Err(usage(format!("there is no state folder {}: nothing is paired there", place.folder.display())));
    }
    let peer = PeerStore::open(&place.folder)?.remove(&args.which)?;
    let line = UnpairedLine { state: "unpaired", name: peer.name.clone(), fingerprint: peer.key.to_string() };
    out.emit(&line, |_| text(&peer))
}

fn text(peer: &Peer) -> String {
    format!("unpaired     {}\nfingerprint  {}\n", peer.name, fingerprint(&peer.key))
}
