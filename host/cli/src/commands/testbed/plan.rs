//! What is measured: which policies, which cells, in which order. Words of the command line become data here.

use super::load::Content;
use crate::exit::usage;
use crate::link::LinkChoice;
use anyhow::Result;
use bps_data::Set;
use serde::Serialize;
use serde_json::Value;
use std::path::{Path, PathBuf};
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

/// A policy with its configuration, and the codecs that it may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Contender {
    /// What the table calls it.
    pub(super) label: String,
    /// Its name, or `name@version`.
    pub(super) policy: String,
    /// Its configuration, JSON; empty: its defaults.
    pub(super) config: String,
    /// Codecs that it may use besides raw; empty: those of the model.
    pub(super) codecs: Vec<String>,
}

impl FromStr for Contender {
    type Err = String;

    /// `NAME` or `NAME{"key":value}`, then `:CODEC,CODEC` where it may use only those.
    fn from_str(text: &str) -> Result<Self, String> {
        // A colon inside of the configuration is none of ours.
        let behind = text.rfind('}').map_or(0, |at| at + 1);
        let (text, codecs) = match text[behind..].split_once(':') {
            Some((before, codecs)) => (&text[..behind + before.len()], Some(codecs)),
            None => (text, None),
        };
        let codecs = codecs.map_or_else(|| Ok(Vec::new()), |list| list.split(',').map(codec).collect())?;
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
        if !codecs.is_empty() {
            label = format!("{label}:{}", codecs.join(","));
        }
        Ok(Self { label, policy: policy.to_owned(), config: config.to_owned(), codecs })
    }
}

/// The name of a codec.
pub(super) fn codec(text: &str) -> Result<String, String> {
    let names: Vec<&str> = bps_codec::codecs().iter().map(|codec| codec.name).collect();
    let known = names.contains(&text.trim()).then(|| text.trim().to_owned());
    known.ok_or_else(|| format!("{text:?} is not one of {}", names.join(", ")))
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

/// The path without links and dots, where it leads anywhere.
fn whole(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Refuses what would be measured under the name of something else: models, and models with some codecs only, are known by
/// name, and policies by their label.
pub(super) fn check_names(models: &[ModelChoice], contenders: &[Contender]) -> Result<()> {
    let twice = |names: &[String]| {
        let again = (1..names.len()).find(|at| names[..*at].contains(&names[*at]));
        again.map(|at| names[at].clone())
    };
    let lists = codec_lists(contenders);
    let variants = |model: &ModelChoice| {
        let name = model.name();
        let narrow: Vec<String> = lists.iter().map(|codecs| variant(&name, codecs)).collect();
        std::iter::once(name).chain(narrow)
    };
    if let Some(name) = twice(&models.iter().flat_map(variants).collect::<Vec<_>>()) {
        return Err(usage(format!("--model: two would be served as {name}")));
    }
    if let Some(label) = twice(&contenders.iter().map(|c| c.label.clone()).collect::<Vec<_>>()) {
        return Err(usage(format!("--policy {label}: it is named twice")));
    }
    Ok(())
}

/// The lists of codecs that some policies may use alone, each once.
pub(super) fn codec_lists(contenders: &[Contender]) -> Vec<&[String]> {
    let mut lists: Vec<&[String]> = contenders.iter().map(|c| &c.codecs[..]).filter(|list| !list.is_empty()).collect();
    lists.sort();
    lists.dedup();
    lists
}

/// The name that a model with these codecs alone is served under.
pub(super) fn variant(model: &str, codecs: &[String]) -> String {
    if codecs.is_empty() { model.to_owned() } else { format!("{model}-with-{}", codecs.join("-")) }
}

impl FromStr for ModelChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = bps_graph::topology::Topology::ALL.into_iter().find(|t| t.name() == text);
        match known {
            _ if text == "digits" => Ok(Self::Digits),
            Some(topology) => Ok(Self::Made(topology)),
            // A model is named after its folder, which a path as it is written need not say.
            None if Path::new(text).join("model.onnx").is_file() => {
                Ok(Self::File(whole(&Path::new(text).join("model.onnx"))))
            }
            None if text.ends_with(".onnx") => Ok(Self::File(whole(Path::new(text)))),
            None => {
                let names: Vec<&str> = bps_graph::topology::Topology::ALL.iter().map(|t| t.name()).collect();
                Err(format!(
                    "{text:?} is neither an .onnx file, nor a folder with model.onnx, nor one of {}",
                    names.join(", ")
                ))
            }
        }
    }
}

impl ModelChoice {
    /// What is sent to it, `data` if it is a file.
    pub(super) fn content(&self, data: Option<Set>) -> Content {
        match (self, data) {
            (Self::Digits, _) => Content::Scans,
            (Self::File(_), Some(set)) => Content::Pictures(set),
            _ => Content::Noise,
        }
    }

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
        let narrow = parse("bps: ff-h,int8-zstd").unwrap();
        assert_eq!((narrow.label.as_str(), narrow.codecs.len()), ("bps:ff-h,int8-zstd", 2));
        let both = parse(r#"remote-only{"codec":"jpeg"}:jpeg"#).unwrap();
        assert_eq!((both.label.as_str(), both.policy.as_str()), ("remote-only jpeg:jpeg", "remote-only"));
        assert_eq!((both.config.as_str(), &both.codecs[..]), (r#"{"codec":"jpeg"}"#, &["jpeg".to_owned()][..]));
        assert_eq!(variant("a", &narrow.codecs), "a-with-ff-h-int8-zstd");
        assert!(parse("bps:ff-x").unwrap_err().contains("\"ff-x\" is not one of raw, "));
        for wrong in ["", "{}", "bps{", ":int8", "bps:"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
        assert!(ALL_POLICIES.iter().chain(&SHORT_POLICIES).all(|p| parse(p).is_ok()));
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
    fn nothing_is_measured_under_another_name() {
        let models = |names: &[&str]| names.iter().map(|n| ModelChoice::File((*n).into())).collect::<Vec<_>>();
        let policies = |names: &[&str]| names.iter().map(|n| n.parse().unwrap()).collect::<Vec<Contender>>();
        let check = |m: &[&str], p: &[&str]| check_names(&models(m), &policies(p)).map_err(|e| e.to_string());
        assert_eq!(check(&["a/x.onnx", "a/y.onnx"], &["bps", "bps:int8"]), Ok(()));
        let error = check(&["a/x.onnx", "b/x.onnx"], &["bps"]).unwrap_err();
        assert!(error.contains("served as x"), "{error}");
        let error = check(&["a/x.onnx", "a/x-with-int8.onnx"], &["bps:int8"]).unwrap_err();
        assert!(error.contains("served as x-with-int8"), "{error}");
        assert!(check(&["a/x.onnx"], &["bps", "bps"]).unwrap_err().contains("bps: it is named twice"));
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
