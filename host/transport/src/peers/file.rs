//! The text of `peers.toml`: what a person may write there, and every bound on it.
//!
//! **Cut off is damaged.** What is left of a file after its disk was full or its copy broken off must not pass for a shorter
//! list. Every file that was ever written here has the key `peer`, also where it lists nobody; and one whose comment
//! promises a last line has it.

use super::{ADDRESS_BYTES_MAX, NAME_BYTES_MAX, PEERS_MAX, Peer, Quotas, Rights};
use bps_wire::HostKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

const HEAD: &str = "\
# The hosts paired with this one, and what each may do here. Written by `bps pair` and `bps unpair`; a running host sees
# every change. `allow` holds \"execute\" and \"models\"; a host without an address connects to this one.
";
/// Ends the comment of a file that has [`END`]; those that earlier builds wrote have neither.
const PROMISE: &str = "# A line `# end of the paired hosts` comes last; without it the file has been cut off.";
const END: &str = "# end of the paired hosts";
/// Most bytes that TOML's integers leave room for, and more than any host has.
const BYTES_MAX: u64 = 1 << 50;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    peer: Option<Vec<Entry>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    fingerprint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    allow: Vec<Right>,
    window: u32,
    bytes_max: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Right {
    Execute,
    Models,
}

/// The peers in it; what is wrong, otherwise.
pub(super) fn parse(text: &str) -> Result<Vec<Peer>, String> {
    let has = |line: &str| text.lines().any(|l| l.trim_end() == line);
    if has(PROMISE) && !has(END) {
        return Err(cut_off(&format!("its last line, `{END}`, is missing")));
    }
    let document: Document = toml::from_str(text).map_err(|e| e.to_string().trim_end().to_owned())?;
    let entries = document.peer.ok_or_else(|| cut_off("it does not even say that nobody is paired, `peer = []`"))?;
    if entries.len() > PEERS_MAX {
        return Err(format!("{} hosts, of at most {PEERS_MAX}", entries.len()));
    }
    let (mut keys, mut names) = (BTreeSet::new(), BTreeSet::new());
    let mut peers = Vec::with_capacity(entries.len());
    for entry in entries {
        let key =
            key(&entry.fingerprint).ok_or_else(|| format!("{:?}: a fingerprint has 64 hex digits", entry.name))?;
        let rights = Rights {
            execute: entry.allow.contains(&Right::Execute),
            fetch_models: entry.allow.contains(&Right::Models),
        };
        let quotas = Quotas { window: entry.window, bytes_max: entry.bytes_max };
        let peer = Peer { key, name: entry.name, address: entry.address, rights, quotas };
        check(&peer)?;
        if !keys.insert(key) {
            return Err(format!("{:?}: this fingerprint is there twice", peer.name));
        }
        if !names.insert(peer.name.clone()) {
            return Err(format!("two hosts are named {:?}", peer.name));
        }
        peers.push(peer);
    }
    peers.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(peers)
}

/// The file that holds `peers`.
pub(super) fn text(peers: &[Peer]) -> Result<String, String> {
    let entry = |peer: &Peer| Entry {
        name: peer.name.clone(),
        fingerprint: peer.key.to_string(),
        address: peer.address.clone(),
        allow: [(peer.rights.execute, Right::Execute), (peer.rights.fetch_models, Right::Models)]
            .into_iter()
            .filter_map(|(held, right)| held.then_some(right))
            .collect(),
        window: peer.quotas.window,
        bytes_max: peer.quotas.bytes_max,
    };
    let document = Document { peer: Some(peers.iter().map(entry).collect()) };
    toml::to_string(&document).map(|body| format!("{HEAD}{PROMISE}\n\n{body}\n{END}\n")).map_err(|e| e.to_string())
}

fn cut_off(how: &str) -> String {
    format!(
        "it was cut off: {how}. Put a copy of it back, or write in what is missing; if there is no copy, remove the file and \
         pair the hosts again"
    )
}

/// Whether every field is within its bounds; says which is not.
pub(super) fn check(peer: &Peer) -> Result<(), String> {
    if !is_name(&peer.name) {
        return Err(format!("{:?} is not a name: {NAME_RULE}", peer.name));
    }
    let name = &peer.name;
    match &peer.address {
        Some(address) if !is_address(address) => Err(format!("{name}: {address:?} is not an address like host:7860")),
        _ if peer.quotas.window == 0 => Err(format!("{name}: window must be at least 1")),
        _ if peer.quotas.bytes_max == 0 => Err(format!("{name}: bytes_max must be at least 1")),
        _ if peer.quotas.bytes_max > BYTES_MAX => Err(format!("{name}: bytes_max must be at most {BYTES_MAX}")),
        _ => Ok(()),
    }
}

/// What [`is_name`] asks for, in words.
pub(crate) const NAME_RULE: &str = "1 to 64 bytes of letters, digits, spaces and -_.@+'()";

/// Whether a host may be called that. Names come from other hosts and are shown in terminals.
pub(crate) fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_alphanumeric() || " -_.@+'()".contains(c);
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.trim() == name && name.chars().all(fits)
}

/// Whether it has the form `host:port`; an IPv6 host stands in brackets.
fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let host_fits = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|ip| !ip.is_empty() && ip.contains(':')),
        None => !host.is_empty() && !host.contains(':'),
    };
    let printable = text.chars().all(|c| c.is_ascii_graphic() && c != '/');
    host_fits && printable && text.len() <= ADDRESS_BYTES_MAX && port.parse::<u16>().is_ok_and(|p| p > 0)
}

fn key(text: &str) -> Option<HostKey> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut key = [0; 32];
    for (byte, pair) in key.iter_mut().zip(digits.chunks(2)) {
        let digit = |b: u8| char::from(b).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?;
    }
    Some(HostKey(key))
}
