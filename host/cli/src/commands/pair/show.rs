//! What `bps pair` says: a page for people, one line of JSON at a time for programs.

use super::addresses;
use crate::output::{self, Format, Output};
use crate::table;
use anyhow::{Context, Result};
use bps_transport::pairing::{Invitation, PAIR_PORT, Paired};
use bps_transport::{HostKey, Quotas, Rights, fingerprint};
use serde::Serialize;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// This host, as it is shown.
pub(super) struct Own {
    /// What it calls itself.
    pub(super) name: String,
    /// Who it is.
    pub(super) key: HostKey,
    /// How long it waits.
    pub(super) wait: Duration,
}

#[derive(Serialize)]
struct WaitingLine {
    state: &'static str,
    code: String,
    port: u16,
    addresses: Vec<IpAddr>,
    name: String,
    fingerprint: String,
    wait_seconds: u64,
}

#[derive(Serialize)]
struct PairedLine {
    state: &'static str,
    name: String,
    fingerprint: String,
    address: Option<String>,
    allowed: Vec<&'static str>,
    granted: Vec<&'static str>,
    window: u32,
    bytes_max: u64,
}

/// The code, and how the other host gets here.
pub(super) fn waiting(out: Output, own: &Own, invitation: &Invitation) -> Result<()> {
    let line = WaitingLine {
        state: "waiting",
        code: invitation.code().to_string(),
        port: invitation.address().port(),
        addresses: addresses::reachable(invitation.address()),
        name: own.name.clone(),
        fingerprint: own.key.to_string(),
        wait_seconds: own.wait.as_secs(),
    };
    emit(out, &line, |line| waiting_text(line, own))
}

fn waiting_text(line: &WaitingLine, own: &Own) -> String {
    let command = |host: String| format!("  bps pair {host} {}\n", line.code);
    let at = |ip: &IpAddr| match line.port {
        PAIR_PORT => ip.to_string(),
        port => SocketAddr::new(*ip, port).to_string(),
    };
    let commands: String = match line.addresses.as_slice() {
        [] if line.port == PAIR_PORT => command("ADDRESS-OF-THIS-HOST".into()),
        [] => command(format!("ADDRESS-OF-THIS-HOST:{}", line.port)),
        all => all.iter().map(|ip| command(at(ip))).collect(),
    };
    let which = if line.addresses.len() > 1 { " (whichever address it reaches)" } else { "" };
    format!(
        "code         {}\nthis host    {}\nfingerprint  {}\n\nOn the other host, within {}{which}:\n{commands}\n\
         Waiting on TCP port {}. Ctrl-C stops, and voids the code.\n",
        line.code,
        own.name,
        fingerprint(&own.key),
        span(own.wait),
        line.port
    )
}

/// Who the other host is, and what each may do.
pub(super) fn paired(out: Output, paired: &Paired, (rights, quotas): (Rights, Quotas)) -> Result<()> {
    let peer = &paired.peer;
    let line = PairedLine {
        state: "paired",
        name: peer.name.clone(),
        fingerprint: peer.key.to_string(),
        address: peer.address.clone(),
        allowed: words(rights),
        granted: words(paired.granted),
        window: quotas.window,
        bytes_max: quotas.bytes_max,
    };
    emit(out, &line, |line| paired_text(line, paired))
}

fn paired_text(line: &PairedLine, paired: &Paired) -> String {
    let address = line.address.as_deref().unwrap_or("none: it connects to this host");
    format!(
        "paired with  {}\nfingerprint  {}\naddress      {address}\nmay here     {}, {} dispatches per device, {}\n\
         may there    {}\n\nStart `bps serve` on both hosts; `bps peers` shows how they stand, `bps unpair {}` takes it \
         back.\n",
        line.name,
        fingerprint(&paired.peer.key),
        paired.peer.rights,
        line.window,
        table::bytes(line.bytes_max),
        paired.granted,
        quoted(&line.name),
    )
}

/// One line at once: whoever reads it acts on it while this program goes on.
fn emit<T: Serialize>(out: Output, line: &T, human: impl FnOnce(&T) -> String) -> Result<()> {
    match out.format {
        Format::Table => output::write(human(line).as_bytes()),
        Format::Json => {
            let text = serde_json::to_string(line).context("the result cannot be written as JSON")?;
            output::write(format!("{text}\n").as_bytes())
        }
    }
}

/// Rights as programs read them.
fn words(rights: Rights) -> Vec<&'static str> {
    let all = [(rights.execute, "execute"), (rights.fetch_models, "models")];
    all.into_iter().filter_map(|(held, word)| held.then_some(word)).collect()
}

/// As a shell takes it.
fn quoted(name: &str) -> String {
    let plain = name.chars().all(|c| c.is_alphanumeric() || "-_.@+".contains(c));
    if plain { name.to_owned() } else { format!("\"{name}\"") }
}

fn span(wait: Duration) -> String {
    match wait.as_secs() {
        s if s >= 60 && s.is_multiple_of(60) => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bps_transport::Peer;

    fn own() -> Own {
        Own { name: "strong".into(), key: HostKey([0xab; 32]), wait: Duration::from_secs(300) }
    }

    fn line(port: u16, addresses: &[&str]) -> WaitingLine {
        WaitingLine {
            state: "waiting",
            code: "K7QF-2M9X-8RTD".into(),
            port,
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            name: "strong".into(),
            fingerprint: "ab".repeat(32),
            wait_seconds: 300,
        }
    }

    #[test]
    fn the_command_for_the_other_host_can_be_copied() {
        for (port, addresses, command) in [
            (7861, &["10.0.0.2"][..], "  bps pair 10.0.0.2 K7QF-2M9X-8RTD\n"),
            (9000, &["10.0.0.2"], "  bps pair 10.0.0.2:9000 K7QF-2M9X-8RTD\n"),
            (9000, &["fe80::2"], "  bps pair [fe80::2]:9000 K7QF-2M9X-8RTD\n"),
            (7861, &["fe80::2"], "  bps pair fe80::2 K7QF-2M9X-8RTD\n"),
            (7861, &["10.0.0.2", "10.0.1.2"], "  bps pair 10.0.1.2 K7QF-2M9X-8RTD\n"),
            (7861, &[], "  bps pair ADDRESS-OF-THIS-HOST K7QF-2M9X-8RTD\n"),
        ] {
            let text = waiting_text(&line(port, addresses), &own());
            for part in [command, "code         K7QF-2M9X-8RTD\n", "abababab abababab", "within 5 min"] {
                assert!(text.contains(part), "{part} in {text}");
            }
        }
    }

    #[test]
    fn a_program_finds_code_and_port() {
        let json = serde_json::to_value(line(7861, &["10.0.0.2"])).unwrap();
        assert_eq!((&json["code"], &json["port"]), (&"K7QF-2M9X-8RTD".into(), &7861.into()));
        assert_eq!(json["addresses"], serde_json::json!(["10.0.0.2"]));
    }

    #[test]
    fn the_other_host_is_shown() {
        let quotas = Quotas::default();
        let (rights, granted) = (Rights { execute: true, fetch_models: false }, Rights::default());
        let peer = Peer { key: HostKey([0xcd; 32]), name: "a camera".into(), address: None, rights, quotas };
        let paired = Paired { peer, granted };
        let line = PairedLine {
            state: "paired",
            name: "a camera".into(),
            fingerprint: paired.peer.key.to_string(),
            address: None,
            allowed: words(rights),
            granted: words(granted),
            window: quotas.window,
            bytes_max: quotas.bytes_max,
        };
        let text = paired_text(&line, &paired);
        for part in [
            "a camera\n",
            "cdcdcdcd cdcdcdcd",
            "it connects to this host",
            "execute, 4 dispatches",
            "may there    none",
            "bps unpair \"a camera\"",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let json = serde_json::to_value(&line).unwrap();
        assert_eq!((&json["state"], &json["allowed"]), (&"paired".into(), &serde_json::json!(["execute"])));
    }
}
