//! What can be said about policies without a running host.

mod replay;

pub(super) use replay::replay;

use crate::exit::usage;
use crate::output::Output;
use crate::progress;
use crate::table::{self, Table, clean};
use anyhow::{Context, Result, bail};
use bps_plugin::{Corpus, GuestLimits, LoadedPolicy, PolicyEngine, Rehearsal, StateCarried, prebuilt};
use bps_types::policy::Manifest;
use serde::Serialize;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// Situations that a rehearsal goes through.
const REHEARSAL_SNAPSHOTS: usize = 1_000;

/// The policies that come with bps, in the form a host lists them.
pub(super) fn list() -> Result<Value> {
    let engine = engine()?;
    let entry = |known: &prebuilt::Prebuilt| {
        let loaded =
            engine.load(known.wasm).with_context(|| format!("the policy {} that comes with bps", known.name))?;
        let manifest = loaded.manifest();
        Ok(json!({
            "name": manifest.name, "version": manifest.version, "digest": loaded.digest(), "origin": "prebuilt",
            "state": "available", "summary": manifest.summary, "size_bytes": loaded.size_bytes(),
        }))
    };
    prebuilt::all().iter().map(entry).collect()
}

fn engine() -> Result<PolicyEngine> {
    PolicyEngine::new(GuestLimits::default()).context("the policy runtime did not start")
}

/// Reads a component file, no larger than a host would take.
pub(super) fn read_component(path: &Path) -> Result<Vec<u8>> {
    let length = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.len();
    let most = GuestLimits::default().component_bytes_max as u64;
    if length > most {
        bail!(
            "{} has {}; a host takes components of at most {}",
            path.display(),
            table::bytes(length),
            table::bytes(most)
        );
    }
    // By what comes: a device says that it has no bytes.
    crate::commands::codec::read_file(path, most as usize)
}

/// The bytes of a policy given as a file or as the name of one that comes with bps.
fn component(policy: &str) -> Result<Vec<u8>> {
    let path = Path::new(policy);
    match prebuilt::find(policy) {
        Some(known) => Ok(known.wasm.to_vec()),
        None if path.exists() => read_component(path),
        None => {
            let names: Vec<&str> = prebuilt::all().iter().map(|p| p.name).collect();
            Err(usage(format!("{policy:?} is neither a file nor one of {}", names.join(", "))))
        }
    }
}

/// Verifies, compiles and admits, as a host would.
fn load(policy: &str) -> Result<LoadedPolicy> {
    let bytes = component(policy)?;
    engine()?.load(&bytes).with_context(|| format!("{policy} would be refused by a host"))
}

#[derive(Serialize)]
struct Inspection<'a> {
    #[serde(flatten)]
    manifest: &'a Manifest,
    digest: &'a str,
    size_bytes: usize,
    imports: &'a [String],
    exports: &'a [String],
}

/// Shows what a component says about itself.
pub(super) fn inspect(policy: &str, out: Output) -> Result<()> {
    let loaded = load(policy)?;
    let inspection = Inspection {
        manifest: loaded.manifest(),
        digest: loaded.digest(),
        size_bytes: loaded.size_bytes(),
        imports: loaded.imports(),
        exports: loaded.exports(),
    };
    out.emit(&inspection, inspection_text)
}

fn inspection_text(inspection: &Inspection<'_>) -> String {
    let manifest = inspection.manifest;
    let names = |list: &[String]| if list.is_empty() { "nothing".into() } else { clean(&list.join(", ")) };
    let mut text = format!(
        "policy   {} {}\nsays     {}\nsha256   {}\nsize     {}\nimports  {}\nexports  {}\nstate    {}\n",
        clean(&manifest.name),
        clean(&manifest.version),
        clean(&manifest.summary),
        inspection.digest,
        table::bytes(inspection.size_bytes as u64),
        names(inspection.imports),
        names(inspection.exports),
        if manifest.state_schema.is_empty() { "keeps none".into() } else { clean(&manifest.state_schema) },
    );
    text.push_str(&format!("\nconfiguration\n{}", schema_text(&manifest.config_schema)));
    if !manifest.reasons.is_empty() {
        let mut table = Table::new(&[">why", "meaning"]);
        for (number, reason) in manifest.reasons.iter().enumerate() {
            table.row([number.to_string(), reason.clone()]);
        }
        text.push_str(&format!("\nreasons it gives for its decisions\n{table}"));
    }
    text
}

/// A JSON schema's properties as a table; what is no such schema, as it is.
fn schema_text(schema: &str) -> String {
    let parsed: Value = serde_json::from_str(schema).unwrap_or_default();
    let Some(properties) = parsed["properties"].as_object().filter(|p| !p.is_empty()) else {
        return format!("  {}\n", clean(schema));
    };
    let mut table = Table::new(&["  field", "type", "default", "what it does"]);
    for (name, property) in properties {
        let default = &property["default"];
        let kind = property["type"].as_str().map(str::to_owned).or_else(|| Some(property.get("enum")?.to_string()));
        table.row([
            format!("  {name}"),
            kind.unwrap_or_else(|| "-".into()),
            if default.is_null() { "-".into() } else { default.to_string() },
            property["description"].as_str().unwrap_or_default().to_owned(),
        ]);
    }
    table.to_string()
}

/// Loads and rehearses a component; an error says which stage refused it.
pub(super) fn check(policy: &str, config: &str, seed: u64, out: Output) -> Result<()> {
    let loaded = load(policy)?;
    progress::say(&format!("rehearsing {} on {REHEARSAL_SNAPSHOTS} situations ...", clean(&loaded.manifest().name)));
    let corpus = Corpus::synthetic(seed, REHEARSAL_SNAPSHOTS);
    let rehearsal =
        loaded.rehearse(config, seed, &corpus).with_context(|| format!("{policy} would be refused by a host"))?;
    let report = json!({
        "name": loaded.manifest().name, "version": loaded.manifest().version, "digest": loaded.digest(),
        "rehearsal": &rehearsal,
    });
    out.emit(&report, |_| {
        let who = clean(&format!("{} {}", loaded.manifest().name, loaded.manifest().version));
        let mut text = format!("{who} ({}) would be taken\n", table::short(loaded.digest()));
        text.push_str(&rehearsal_text(&rehearsal));
        text
    })
}

fn rehearsal_text(rehearsal: &Rehearsal) -> String {
    let state = match rehearsal.state {
        StateCarried::None => "keeps none",
        StateCarried::Declined => "a successor of the same kind declines it",
        StateCarried::Carried => "carried: a successor decides as it would have",
    };
    let mut text = format!(
        "  situations  {}, twice over with equal decisions\n  rows        {} proposed, {} refused\n  decide      p50 {}, p99 {}, max {}\n  \
         memory      {}, growing by {:.1} bytes a decision\n  state       {state}\n",
        table::count(rehearsal.snapshots as u64),
        table::count(rehearsal.rows),
        rehearsal.invalid_rows,
        table::nanos(rehearsal.decide_ns_p50),
        table::nanos(rehearsal.decide_ns_p99),
        table::nanos(rehearsal.decide_ns_max),
        table::bytes(rehearsal.memory_bytes as u64),
        rehearsal.memory_growth_bytes_per_call,
    );
    if let Some(invalid) = &rehearsal.first_invalid {
        text.push_str(&format!("  refused     for example: {}\n", clean(invalid)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_becomes_a_table() {
        let text =
            schema_text(r#"{"properties":{"wait_us":{"type":"integer","default":500,"description":"how long"}}}"#);
        let words: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(words, ["wait_us", "integer", "500", "how", "long"]);
        assert_eq!(schema_text("nonsense"), "  nonsense\n");
    }

    #[test]
    fn a_rehearsal_is_told() {
        let rehearsal = Rehearsal {
            snapshots: 1_000,
            rows: 2_000,
            invalid_rows: 1,
            first_invalid: Some("no device 9".into()),
            decide_ns_p50: 1_500,
            decide_ns_p99: 3_000,
            decide_ns_max: 9_000,
            memory_bytes: 1 << 20,
            memory_growth_bytes_per_call: 0.0,
            state: StateCarried::Carried,
        };
        let text = rehearsal_text(&rehearsal);
        for part in ["1,000, twice", "2,000 proposed, 1 refused", "p50 1.5 µs", "1.0 MiB", "carried", "no device 9"] {
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        }
    }
}
