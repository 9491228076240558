//! The status of the active policy, as people read it.

use crate::latency::micros_text;
use crate::table::{self, Table, clean};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What is shown of `GET /v1/status`.
#[derive(Debug, Deserialize)]
struct Status {
    active: Name,
    generation: u32,
    state: String,
    previous: Option<Name>,
    config: String,
    seed: u64,
    decide: Decide,
    faults: BTreeMap<String, u64>,
    last_fault: Option<String>,
    quarantined: BTreeMap<String, String>,
    gauges: BTreeMap<String, f64>,
    ledger: Map<String, Value>,
    swaps: u64,
    last_pause_us: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Name {
    name: String,
    version: String,
    digest: String,
}

#[derive(Debug, Deserialize)]
struct Decide {
    count: u64,
    p50_us: f64,
    p99_us: f64,
    max_us: f64,
}

/// The page.
pub(super) fn text(answer: &Value) -> String {
    let inner = answer.get("policy").unwrap_or(answer);
    let Ok(status) = Status::deserialize(inner) else { return answer.to_string() };
    let name = |n: &Name| clean(&format!("{} {} ({})", n.name, n.version, table::short(&n.digest)));
    let mut lines = vec![
        ("active", format!("{}, generation {}, {}", name(&status.active), status.generation, clean(&status.state))),
        ("previous", status.previous.as_ref().map_or_else(|| "none kept".into(), name)),
        ("config", if status.config.is_empty() { "its defaults".into() } else { clean(&status.config) }),
        ("seed", status.seed.to_string()),
        (
            "decide",
            format!(
                "{} calls, p50 {}, p99 {}, max {}",
                table::count(status.decide.count),
                micros_text(status.decide.p50_us),
                micros_text(status.decide.p99_us),
                micros_text(status.decide.max_us)
            ),
        ),
        (
            "swaps",
            status.last_pause_us.map_or_else(
                || status.swaps.to_string(),
                |pause| format!("{}, the last one paused dispatch for {}", status.swaps, micros_text(pause)),
            ),
        ),
        ("faults", list(status.faults.iter().filter(|(_, n)| **n > 0).map(|(class, n)| format!("{class} {n}")))),
    ];
    if let Some(fault) = &status.last_fault {
        lines.push(("last fault", clean(fault)));
    }
    for (digest, why) in &status.quarantined {
        lines.push(("quarantined", clean(&format!("{}: {why}", table::short(digest)))));
    }
    if !status.gauges.is_empty() {
        lines.push(("gauges", list(status.gauges.iter().map(|(id, value)| format!("{id}={value}")))));
    }
    let mut text: String = lines.iter().map(|(word, rest)| format!("{word:<12}{rest}\n")).collect();
    text.push('\n');
    text.push_str(&ledger(&status.ledger));
    text
}

fn list(parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<String> = parts.map(|p| clean(&p)).collect();
    if parts.is_empty() { "none".into() } else { parts.join(", ") }
}

/// Columns of the account in the order of its law: submitted is the sum of the six after it and of what is in the house. What was
/// retried is among all of them.
const LEDGER: [&str; 10] =
    ["submitted", "answered", "failed", "shed", "expired", "cancelled", "waiting", "running", "refused", "retried"];

fn ledger(fields: &Map<String, Value>) -> String {
    let known = LEDGER.iter().filter_map(|name| fields.get(*name).and_then(Value::as_u64).map(|n| (*name, n)));
    let columns: Vec<(&str, u64)> = known.collect();
    let headings: Vec<String> = columns.iter().map(|(name, _)| format!(">{name}")).collect();
    let mut table = Table::new(&headings.iter().map(String::as_str).collect::<Vec<_>>());
    table.row(columns.iter().map(|(_, n)| table::count(*n)));
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_this_host_is_understood() {
        let view = bps_node::PolicyStatusView {
            state: "probation".into(),
            generation: 7,
            last_pause_us: Some(40.0),
            last_fault: Some("trap: \u{1b}[31mred".into()),
            ..Default::default()
        };
        let text = text(&serde_json::to_value(view).unwrap());
        for part in [
            "generation 7, probation",
            "paused dispatch for 40.0 µs",
            "\\u{1b}[31mred",
            "submitted",
            "faults      none",
        ] {
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        }
    }
}
