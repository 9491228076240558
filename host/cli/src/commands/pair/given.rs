//! What is written on the command line of `bps pair`.

use crate::config::DEFAULT_PEER_LISTEN;
use bps_transport::Rights;
use bps_transport::pairing::PAIR_PORT;
use std::net::{Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// A host that waits for this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Elsewhere {
    /// Its name or address; an IPv6 one without brackets.
    pub(super) host: String,
    /// Where it waits.
    pub(super) port: u16,
}

impl FromStr for Elsewhere {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is not HOST or HOST:PORT, such as strong.local or 10.0.0.2:7861 or [fe80::2]:7861");
        let (host, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(Some((host, ""))) => (host, None),
            Some(Some((host, rest))) => (host, Some(rest.strip_prefix(':').ok_or_else(wrong)?)),
            Some(None) => return Err(wrong()),
            // An IPv6 address without brackets has no port.
            None if text.parse::<Ipv6Addr>().is_ok() => (text, None),
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = port.map_or(Ok(PAIR_PORT), str::parse).map_err(|_| wrong())?;
        let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | '[' | ']' | '@');
        if host.is_empty() || port == 0 || !host.chars().all(fits) {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

/// A port, or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Port(pub(super) Option<u16>);

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<u16>() {
            _ if text == "none" => Ok(Self(None)),
            Ok(port) if port > 0 => Ok(Self(Some(port))),
            _ => Err(format!("{text:?} is neither a port from 1 to 65535 nor `none`")),
        }
    }
}

/// The port of `[peers] listen`, or the default one.
pub(super) fn peer_port(listen: Option<&str>) -> Result<Option<u16>, String> {
    match listen {
        None => Ok(Some(DEFAULT_PEER_LISTEN.port())),
        Some("none") => Ok(None),
        Some(text) => match text.parse::<SocketAddr>() {
            Ok(address) if address.port() > 0 => Ok(Some(address.port())),
            Ok(_) => Err("port 0 is another one each time: give --peer-port".into()),
            Err(_) => Err(format!("{text:?} is neither an address with a port, like 0.0.0.0:7860, nor `none`")),
        },
    }
}

/// `execute`, `models`, both with a comma, or `none`.
pub(super) fn rights(text: &str) -> Result<Rights, String> {
    let mut rights = Rights::default();
    if text == "none" {
        return Ok(rights);
    }
    for word in text.split(',') {
        match word.trim() {
            "execute" => rights.execute = true,
            "models" => rights.fetch_models = true,
            other => return Err(format!("{other:?} is no right; there are execute and models, or `none` alone")),
        }
    }
    Ok(rights)
}

/// Bytes: a number with B, kB, MB, GB or KiB, MiB, GiB; without a unit it is bytes.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale: u64 = match unit.trim_start() {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(format!("unknown unit {unit:?}; use B, kB, MB, GB, KiB, MiB or GiB")),
    };
    let number = number.parse::<u64>().map_err(|_| format!("{text:?} is not a size, like 256MiB or 1GB"))?;
    match number.checked_mul(scale) {
        Some(0) => Err("nothing would fit in 0 bytes".into()),
        // What the file of paired hosts takes.
        Some(bytes) if bytes <= 1 << 50 => Ok(bytes),
        _ => Err(format!("{text:?} is more than a host has")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (text, host, port) in [
            ("strong", "strong", 7861),
            ("strong.local:9000", "strong.local", 9000),
            ("10.0.0.2", "10.0.0.2", 7861),
            ("10.0.0.2:1", "10.0.0.2", 1),
            ("::1", "::1", 7861),
            ("[::1]", "::1", 7861),
            ("[fe80::2%eth0]:7000", "fe80::2%eth0", 7000),
        ] {
            assert_eq!(text.parse(), Ok(Elsewhere { host: host.into(), port }), "{text}");
        }
        for text in ["", ":1", "a:", "a:b", "a:0", "a:65536", "[::1", "[::1]x", "[]:1", "http://a", "a b", "a/b", "u@h"]
        {
            assert!(text.parse::<Elsewhere>().is_err(), "{text}");
        }
    }

    #[test]
    fn ports() {
        assert_eq!(("none".parse(), "9000".parse()), (Ok(Port(None)), Ok(Port(Some(9000)))));
        assert!("0".parse::<Port>().is_err() && "x".parse::<Port>().is_err());
        for (listen, port) in [(None, Ok(Some(7860))), (Some("none"), Ok(None)), (Some("0.0.0.0:9000"), Ok(Some(9000)))]
        {
            assert_eq!(peer_port(listen), port);
        }
        assert!(peer_port(Some("0.0.0.0:0")).is_err() && peer_port(Some("here")).is_err());
    }

    #[test]
    fn rights_are_written_as_they_are_read() {
        for text in ["execute,models", "execute", "models", "none"] {
            assert_eq!(rights(text).unwrap().to_string(), text);
        }
        assert_eq!(rights("models, execute").unwrap().to_string(), "execute,models");
        for text in ["", "all", "none,execute", "execute,"] {
            assert!(rights(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [("1", 1), ("12B", 12), ("3 kB", 3_000), ("256MiB", 256 << 20), ("2GB", 2_000_000_000)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "0", "0MiB", "MiB", "1.5GB", "1TB", "-1", "99999999999GiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
