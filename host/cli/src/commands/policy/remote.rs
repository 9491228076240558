//! What a running host is asked about its policies.

use super::{local, status};
use crate::admin::AdminArgs;
use crate::client::Unreachable;
use crate::output::Output;
use crate::progress::say;
use crate::table::{self, Table, clean};
use anyhow::{Context, Result};
use hyper::Method;
use hyper::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// A known policy, as far as the table shows it.
#[derive(Debug, Deserialize)]
struct Entry {
    name: String,
    version: String,
    digest: String,
    origin: String,
    state: String,
    #[serde(default)]
    stage: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    summary: String,
    #[serde(default)]
    size_bytes: u64,
    /// Digest of the built-in policy whose name it has.
    shadows: Option<String>,
}

impl Entry {
    /// What whoever goes by the name must know.
    fn warning(&self) -> Option<String> {
        let built_in = table::short(self.shadows.as_ref()?);
        let (name, version, digest) = (clean(&self.name), clean(&self.version), table::short(&self.digest));
        Some(format!(
            "{name} {version} ({digest}) has the name of a built-in policy: `{name}` means it, `{built_in}` the built-in one\n"
        ))
    }
}

/// A swap that was made, as far as people are told.
#[derive(Debug, Deserialize)]
struct Swapped {
    from: Named,
    to: Named,
    generation: u32,
    carried: String,
    pause_us: f64,
    prepare_ms: f64,
    rehearsal: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
    version: String,
    digest: String,
}

pub(super) async fn list(admin: &AdminArgs, out: Output) -> Result<()> {
    let asked = admin.client()?.json(Method::GET, "/v1/policies", None).await;
    let list = match asked {
        Err(error) if error.downcast_ref::<Unreachable>().is_some() => {
            say(&format!("{error}\nThese come with bps:"));
            local::list()?
        }
        asked => asked?,
    };
    out.emit(list.get("policies").unwrap_or(&list), list_text)
}

fn list_text(list: &Value) -> String {
    let Ok(entries) = Vec::<Entry>::deserialize(list) else { return list.to_string() };
    let mut table = Table::new(&["policy", "version", "digest", "state", ">size", "origin", "what it does"]);
    let warnings: String = entries.iter().filter_map(Entry::warning).collect();
    for entry in entries {
        let mut state = entry.state;
        if !entry.reason.is_empty() {
            let stage = if entry.stage.is_empty() { String::new() } else { format!(" when {}", entry.stage) };
            state = format!("{state}{stage}: {}", entry.reason);
        }
        table.row([
            entry.name,
            entry.version,
            table::short(&entry.digest),
            state,
            table::bytes(entry.size_bytes),
            entry.origin,
            entry.summary,
        ]);
    }
    let gap = if warnings.is_empty() { "" } else { "\n" };
    format!("{table}{gap}{warnings}")
}

pub(super) async fn load(admin: &AdminArgs, file: &Path, out: Output) -> Result<()> {
    let bytes = local::read_component(file)?;
    let name = file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let escaped: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || "-._".contains(*c)).collect();
    let client = admin.client()?;
    let headers = [(CONTENT_TYPE, "application/wasm".to_owned())];
    let answer = client.send(Method::POST, &format!("/v1/policies?name={escaped}"), &headers, bytes.into()).await?;
    let entry = client.read_json(answer).with_context(|| format!("{} was not taken", file.display()))?;
    out.emit(&entry, loaded_text)
}

fn loaded_text(entry: &Value) -> String {
    let Ok(loaded) = Entry::deserialize(entry) else { return entry.to_string() };
    let (name, version, digest) = (clean(&loaded.name), clean(&loaded.version), table::short(&loaded.digest));
    let warning = loaded.warning().unwrap_or_default();
    format!("loaded {name} {version} ({digest})\n{warning}make it decide:  bps policy swap {name}@{version}")
}

pub(super) async fn swap(admin: &AdminArgs, request: &Value, out: Output) -> Result<()> {
    let asked = admin.client()?.json(Method::POST, "/v1/policy/swap", Some(request)).await;
    let report = asked.context("no swap was made; the policy that decided before still does")?;
    out.emit(&report, swap_text)
}

pub(super) async fn rollback(admin: &AdminArgs, out: Output) -> Result<()> {
    let asked = admin.client()?.json(Method::POST, "/v1/policy/rollback", None).await;
    let report = asked.context("no rollback was made; the policy that decided before still does")?;
    out.emit(&report, swap_text)
}

fn swap_text(report: &Value) -> String {
    let Ok(swapped) = Swapped::deserialize(report) else { return report.to_string() };
    let named = |n: &Named| clean(&format!("{} {} ({})", n.name, n.version, table::short(&n.digest)));
    let mut text = format!(
        "from        {}\nto          {}\ngeneration  {}\nstate       {}\npause       {}\nprepared    {:.1} ms\n",
        named(&swapped.from),
        named(&swapped.to),
        swapped.generation,
        clean(&swapped.carried),
        table::nanos((swapped.pause_us * 1e3) as u64),
        swapped.prepare_ms,
    );
    if let Some(rehearsal) = &swapped.rehearsal {
        text.push_str(&format!("rehearsal   {}\n", clean(rehearsal)));
    }
    text
}

pub(super) async fn status(admin: &AdminArgs, out: Output) -> Result<()> {
    let answer = admin.client()?.json(Method::GET, "/v1/status", None).await?;
    out.emit(&answer, status::text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bps_node::{PolicyEntry, PolicyEntryState, PolicyName, SwapReport};

    #[test]
    fn what_this_host_says_is_understood() {
        let entry = PolicyEntry {
            name: "mine".into(),
            version: "1.0.0".into(),
            digest: "0123456789abcdef".into(),
            origin: "upload".into(),
            state: PolicyEntryState::Rejected { stage: "verified".into(), reason: "imports wasi".into() },
            summary: "tries".into(),
            size_bytes: 2_048,
            config_schema: "{}".into(),
            shadows: None,
        };
        let text = list_text(&serde_json::to_value([&entry]).unwrap());
        assert!(!text.contains("built-in"), "{text:?}");
        let digest = "fedcba9876543210".to_owned();
        let taker = PolicyEntry { state: PolicyEntryState::Available, shadows: Some(digest), ..entry.clone() };
        let warning =
            "mine 1.0.0 (0123456789ab) has the name of a built-in policy: `mine` means it, `fedcba987654` the";
        let taker = serde_json::to_value([taker]).unwrap();
        assert!(list_text(&taker).contains(warning), "{}", list_text(&taker));
        assert!(loaded_text(&taker[0]).contains(warning), "{}", loaded_text(&taker[0]));
        let text = list_text(&serde_json::to_value([entry]).unwrap());
        for part in ["0123456789ab ", "rejected when verified: imports wasi", "2.0 KiB", "tries"] {
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        }
        let name = |n: &str| PolicyName { name: n.into(), version: "0.1.0".into(), digest: "ab".into() };
        let report = SwapReport {
            from: name("a"),
            to: name("b"),
            generation: 4,
            carried: "restored".into(),
            rollback: None,
            pause_us: 12.5,
            prepare_ms: 3.25,
            rehearsal: None,
        };
        let text = swap_text(&serde_json::to_value(report).unwrap());
        for part in ["a 0.1.0 (ab)", "b 0.1.0 (ab)", "12.5 µs", "3.2 ms", "restored"] {
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        }
    }

    #[test]
    fn what_a_stranger_says_is_shown_as_it_is() {
        let strange = serde_json::json!({ "new": true });
        assert_eq!(list_text(&strange), r#"{"new":true}"#);
        assert_eq!(swap_text(&strange), r#"{"new":true}"#);
    }
}
