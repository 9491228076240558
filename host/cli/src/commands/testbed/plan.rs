//! What is measured: which policies, which cells, in which order. Words of the command line become data here.

use crate::exit::usage;
use anyhow::Result;
use bps_emulator::{Conditions, Loss};
use bps_types::Nanos;
use serde::Serialize;
use serde_json::Value;
use std::path::PathBuf;
use std::str::FromStr;

/// Policies that take part unless others are named: every baseline, then the product's own.
pub(super) const ALL_POLICIES: [&str; 14] = [
    "local-only",
    "batching",
    "round-robin",
    "remote-only",
    r#"remote-only{"codec":"jpeg"}"#,
    "data-parallel",
    "surgeon",
    "pipelining",
    r#"baselines{"mode":"neurosurgeon"}"#,
    r#"baselines{"mode":"dads"}"#,
    r#"baselines{"mode":"static"}"#,
    r#"baselines{"mode":"greedy"}"#,
    r#"baselines{"mode":"aimd"}"#,
    "bps",
];
/// Those of a short run.
pub(super) const SHORT_POLICIES: [&str; 3] = ["local-only", "remote-only", "bps"];

/// A policy with its configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Contender {
    /// What the table calls it.
    pub(super) label: String,
    /// Its name, or `name@version`.
    pub(super) policy: String,
    /// Its configuration, JSON; empty: its defaults.
    pub(super) config: String,
}

impl FromStr for Contender {
    type Err = String;

    /// `NAME` or `NAME{"key":value}`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (policy, config) = match text.find('{') {
            Some(at) => (text[..at].trim(), &text[at..]),
            None => (text.trim(), ""),
        };
        if policy.is_empty() {
            return Err(format!("{text:?} names no policy; write NAME or NAME{{\"key\":value}}"));
        }
        let mut label = policy.to_owned();
        if !config.is_empty() {
            let parsed: Value = serde_json::from_str(config).map_err(|e| format!("{text:?}: not JSON: {e}"))?;
            // One word, as in `mode` or `codec`, says enough.
            let words = parsed.as_object().filter(|o| o.len() == 1).and_then(|o| o.values().next()?.as_str());
            label = format!("{policy} {}", words.unwrap_or(config));
        }
        Ok(Self { label, policy: policy.to_owned(), config: config.to_owned() })
    }
}

/// A link as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct LinkChoice {
    /// Bits per second; none: as fast as the machine.
    pub(super) rate: Option<f64>,
    /// Round trip, nanoseconds.
    pub(super) rtt: Nanos,
    /// Share of packets lost, each by itself.
    pub(super) loss: f64,
}

impl FromStr for LinkChoice {
    type Err = String;

    /// `RATE/RTT` or `RATE/RTT/LOSS`.
    fn from_str(text: &str) -> Result<Self, String> {
        // `10Mbit/s/20ms` is what people write too.
        let parts = text.replace("bit/s", "bit");
        let parts: Vec<&str> = parts.split('/').collect();
        let (rate, rtt, loss) = match parts.as_slice() {
            [rate, rtt] => (*rate, *rtt, "0%"),
            [rate, rtt, loss] => (*rate, *rtt, *loss),
            _ => return Err(format!("{text:?} is no link; write RATE/RTT, as in 10Mbit/20ms, or RATE/RTT/LOSS")),
        };
        Ok(Self {
            rate: bps_emulator::rate(rate).map_err(|e| e.to_string())?,
            rtt: bps_emulator::span(rtt).map_err(|e| e.to_string())?,
            loss: bps_emulator::share(loss).map_err(|e| e.to_string())?,
        })
    }
}

impl LinkChoice {
    /// As the emulator takes it.
    pub(super) fn conditions(&self) -> Conditions {
        let loss = if self.loss > 0.0 { Loss::Random(self.loss) } else { Loss::None };
        Conditions { loss, ..Conditions::link(self.rate, self.rtt) }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let loss = if self.loss > 0.0 { format!(", {} % lost", self.loss * 100.0) } else { String::new() };
        format!("{}, rtt {} ms{loss}", bps_emulator::rate_text(self.rate), self.rtt.as_millis_f64())
    }
}

/// A model as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ModelChoice {
    /// The trained one that comes with the program.
    Digits,
    /// A well-known network with random weights.
    Made(bps_graph::topology::Topology),
    /// A file.
    File(PathBuf),
}

impl FromStr for ModelChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = bps_graph::topology::Topology::ALL.into_iter().find(|t| t.name() == text);
        match known {
            _ if text == "digits" => Ok(Self::Digits),
            Some(topology) => Ok(Self::Made(topology)),
            None if text.ends_with(".onnx") => Ok(Self::File(text.into())),
            None => {
                let names: Vec<&str> = bps_graph::topology::Topology::ALL.iter().map(|t| t.name()).collect();
                Err(format!("{text:?} is neither an .onnx file nor one of {}", names.join(", ")))
            }
        }
    }
}

impl ModelChoice {
    /// The name it is served under: a file's stem, or its folder's name where the file is called model.onnx.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Digits => "digits".into(),
            Self::Made(topology) => topology.name().into(),
            Self::File(path) => {
                let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
                let folder = path.parent().and_then(|p| p.file_name()).map(|s| s.to_string_lossy().into_owned());
                match folder {
                    Some(folder) if stem == "model" => folder,
                    _ => stem,
                }
            }
        }
    }
}

/// Where one comparison takes place.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Cell {
    /// The model's name.
    pub(super) model: String,
    /// The weaker host's declared slow-down.
    pub(super) slowdown: f64,
    /// The link.
    pub(super) link: LinkChoice,
}

impl Cell {
    /// For people.
    pub(super) fn text(&self) -> String {
        format!("{}, edge slowed {}x, {}", self.model, self.slowdown, self.link.text())
    }
}

/// Those of the wanted policies that the host has; one that was named by the user must be there.
pub(super) fn present(wanted: &[Contender], known: &[String], named: bool) -> Result<(Vec<Contender>, Vec<String>)> {
    let bare = |policy: &str| policy.split('@').next().unwrap_or_default().to_owned();
    let (here, missing): (Vec<&Contender>, Vec<&Contender>) =
        wanted.iter().partition(|c| known.contains(&bare(&c.policy)));
    let missing: Vec<String> = missing.iter().map(|c| c.label.clone()).collect();
    if named && !missing.is_empty() {
        return Err(usage(format!("no such policy: {}; there are {}", missing.join(", "), known.join(", "))));
    }
    Ok((here.into_iter().cloned().collect(), missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contenders() {
        let parse = |text: &str| text.parse::<Contender>();
        assert_eq!(parse("bps").unwrap().label, "bps");
        let mode = parse(r#"baselines{"mode":"dads"}"#).unwrap();
        assert_eq!((mode.label.as_str(), mode.policy.as_str()), ("baselines dads", "baselines"));
        let long = parse(r#"batching{"mode":"aimd","batch_max":8}"#).unwrap();
        assert_eq!(long.label, r#"batching {"mode":"aimd","batch_max":8}"#);
        for wrong in ["", "{}", "bps{"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
        assert!(ALL_POLICIES.iter().chain(&SHORT_POLICIES).all(|p| parse(p).is_ok()));
    }

    #[test]
    fn links() {
        let parse = |text: &str| text.parse::<LinkChoice>();
        let link = parse("10Mbit/20ms").unwrap();
        assert_eq!((link.rate, link.rtt, link.loss), (Some(1e7), Nanos::from_millis(20), 0.0));
        assert_eq!(parse("10Mbit/s/20ms").unwrap(), link);
        let lossy = parse("100Mbit/40ms/1%").unwrap();
        assert_eq!(
            (lossy.conditions().loss, lossy.text().as_str()),
            (Loss::Random(0.01), "100 Mbit/s, rtt 40 ms, 1 % lost")
        );
        for wrong in ["", "10Mbit", "10/20ms", "10Mbit/20", "10Mbit/20ms/2", "a/b/c/d"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn models() {
        let name = |text: &str| text.parse::<ModelChoice>().map(|m| m.name());
        assert_eq!(name("digits").unwrap(), "digits");
        assert_eq!(
            "resnet50".parse::<ModelChoice>().unwrap(),
            ModelChoice::Made(bps_graph::topology::Topology::Resnet50)
        );
        assert_eq!(name("nets/a.onnx").unwrap(), "a");
        assert_eq!(name("nets/mine/model.onnx").unwrap(), "mine");
        assert!(name("resnet51").unwrap_err().contains("resnet50"));
    }

    #[test]
    fn a_policy_that_was_named_must_be_there() {
        let wanted: Vec<Contender> = ["bps", "mine@2"].iter().map(|t| t.parse().unwrap()).collect();
        let known = vec!["bps".to_owned()];
        let (here, missing) = present(&wanted, &known, false).unwrap();
        assert_eq!((here.len(), missing), (1, vec!["mine@2".to_owned()]));
        assert!(present(&wanted, &known, true).unwrap_err().to_string().contains("mine@2"));
        assert_eq!(present(&wanted, &["bps".to_owned(), "mine".to_owned()], true).unwrap().0.len(), 2);
    }
}
