//! `bps receipts`: the last dispatches of a running host, who chose them and what came of them.

use crate::admin::AdminArgs;
use crate::output::Output;
use crate::table::{self, Table};
use anyhow::Result;
use hyper::Method;
use serde::Deserialize;
use serde_json::Value;

const TEACH: &str = "\
Each receipt is one batch: which policy chose it and why (in the policy's own words), what ran where, what the cost tables
predicted and what it took. A prediction that is far off means the tables are estimates or the device is shared; see
`bps profile`. What another host did shows in brackets how long its input waited there before it was executed.

A host that executes stages of other hosts' plans has a receipt of each execution too: `for` names those hosts, `requests`
counts the stages that were joined. A request's trace (the header `traceparent`, W3C trace context) is in the receipts of
every host it passes, or, where requests were batched, that of the oldest which has one; where none is sent, a plan that
leaves its host is given one. A host keeps the last 4,096.";

/// Show the last dispatches of a running host.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = format!("{TEACH}\n\n{}", crate::exit::EXIT_CODES))]
pub(crate) struct ReceiptsArgs {
    /// How many.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    last: u32,
    #[command(flatten)]
    admin: AdminArgs,
}

/// What the table shows of a receipt; the JSON shows all of it.
#[derive(Debug, Deserialize)]
struct ReceiptRow {
    at: u64,
    policy: PolicyLabel,
    generation: u32,
    why: String,
    model: String,
    requests: u32,
    rows: u32,
    wait: u64,
    #[serde(default, rename = "for")]
    for_hosts: Vec<String>,
    trace: Option<String>,
    stages: Vec<StageRow>,
    bytes: Option<u64>,
    clamps: Vec<Value>,
    verdict: Value,
}

#[derive(Debug, Deserialize)]
struct PolicyLabel {
    name: String,
}

#[derive(Debug, Deserialize)]
struct StageRow {
    on: String,
    from_cut: u32,
    until_cut: u32,
    via: Option<String>,
    predicted: u64,
    measured: Option<u64>,
    waited: Option<u64>,
}

impl ReceiptRow {
    /// The trace's id, without version, parent and flags.
    fn trace_id(&self) -> &str {
        self.trace.as_deref().and_then(|trace| trace.split('-').nth(1)).unwrap_or("-")
    }
}

/// Asks and shows.
pub(crate) async fn run(args: ReceiptsArgs, out: Output) -> Result<()> {
    let client = args.admin.client()?;
    let answer = client.json(Method::GET, &format!("/v1/receipts?last={}", args.last), None).await?;
    let list = answer.get("receipts").unwrap_or(&answer);
    out.emit(list, text)
}

fn text(list: &Value) -> String {
    let rows: Vec<ReceiptRow> = match Vec::deserialize(list) {
        Ok(rows) => rows,
        // A newer host may say it differently; what it says is still better than nothing.
        Err(_) => return list.to_string(),
    };
    if rows.is_empty() {
        return "no dispatch yet: send a request first, for example with `bps infer`".into();
    }
    // Most hosts execute for nobody else, and most clients send no trace.
    let (guests, traces) = (rows.iter().any(|r| !r.for_hosts.is_empty()), rows.iter().any(|r| r.trace.is_some()));
    let mut headings = vec![
        ">at",
        "policy",
        ">gen",
        "model",
        ">requests",
        ">rows",
        ">waited",
        "ran on",
        ">over links",
        ">predicted",
        ">took",
        "why",
        "ended",
    ];
    headings.extend(guests.then_some("for"));
    headings.extend(traces.then_some("trace"));
    let mut table = Table::new(&headings);
    for row in rows {
        let stage = |s: &StageRow| {
            let via = s.via.as_ref().map_or_else(String::new, |codec| format!("={codec}=> "));
            let waited = s.waited.map_or_else(String::new, |w| format!(" (waited {})", table::nanos(w)));
            format!("{via}{}[{}..{}]{waited}", s.on, s.from_cut, s.until_cut)
        };
        let measured: Option<u64> = row.stages.iter().map(|s| s.measured).sum();
        let mut ended = row.verdict.as_str().map_or_else(|| row.verdict.to_string(), str::to_owned);
        if !row.clamps.is_empty() {
            ended.push_str(" (clamped)");
        }
        let guest = guests.then(|| if row.for_hosts.is_empty() { "-".into() } else { row.for_hosts.join(", ") });
        let trace = traces.then(|| row.trace_id().to_owned());
        let cells = [
            format!("{:.3} s", row.at as f64 / 1e9),
            row.policy.name,
            row.generation.to_string(),
            row.model,
            row.requests.to_string(),
            row.rows.to_string(),
            table::nanos(row.wait),
            row.stages.iter().map(stage).collect::<Vec<_>>().join(" "),
            row.bytes.map_or_else(|| "-".into(), table::bytes),
            table::nanos(row.stages.iter().map(|s| s.predicted).sum()),
            measured.map_or_else(|| "-".into(), table::nanos),
            row.why,
            ended,
        ];
        table.row(cells.into_iter().chain(guest).chain(trace));
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bps_sched::{PolicyLabel, Receipt, ReceiptStage, Verdict};
    use bps_types::{Generation, Nanos, Trace};

    fn receipt() -> Receipt {
        let stage = ReceiptStage {
            device: 1,
            on: "server/cpu".into(),
            from_cut: 0,
            until_cut: 9,
            via: Some("int8".into()),
            codec: 4,
            rate: 0,
            predicted: Nanos::from_micros(90),
            measured: Some(Nanos::from_micros(100)),
            waited: Some(Nanos::from_micros(70)),
            began: Some(Nanos::from_millis(1_500)),
        };
        let policy = PolicyLabel { name: "batching".into(), version: "0.1.0".into(), digest: "ab".into() };
        Receipt {
            at: Nanos::from_millis(1_500),
            ended: Nanos::from_millis(1_501),
            for_hosts: vec![],
            trace: None,
            policy: policy.into(),
            generation: Generation(3),
            tag: 0,
            why: "full batch".into(),
            model: "digits".into(),
            requests: 4,
            rows: 4,
            wait: Nanos::from_millis(2),
            stages: vec![stage],
            bytes_predicted: 2_000,
            bytes: 2_100,
            clamps: vec![],
            verdict: Verdict::Done,
        }
    }

    #[test]
    fn a_receipt_of_this_host_is_shown() {
        let text = text(&serde_json::to_value([receipt()]).unwrap());
        assert!(!text.contains("trace") && !text.contains("for"), "{text}");
        let line = text.lines().nth(1).unwrap();
        for part in [
            "1.500 s",
            "batching",
            "digits",
            "2.00 ms",
            "=int8=> server/cpu[0..9] (waited 70.0 µs)",
            "90.0 µs",
            "100.0 µs",
            "full batch",
            "Done",
        ] {
            assert!(line.contains(part), "{line:?} lacks {part:?}");
        }
    }

    #[test]
    fn what_was_done_for_others_and_whose_trace_it_is_are_told_where_there_are_any() {
        let trace = Trace { trace_id: [0xab; 16], span_id: [1; 8], flags: 1 };
        let guest = Receipt { for_hosts: vec!["edge".into(), "van".into()], trace: Some(trace), ..receipt() };
        let text = text(&serde_json::to_value([receipt(), guest]).unwrap());
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        let cells = |line: usize| lines[line].split("  ").map(str::trim).filter(|c| !c.is_empty()).collect::<Vec<_>>();
        assert!(cells(0).ends_with(&["ended", "for", "trace"]), "{text}");
        assert!(cells(1).ends_with(&["Done", "-", "-"]), "{text}");
        assert!(cells(2).ends_with(&["Done", "edge, van", &"ab".repeat(16)]), "{text}");
    }

    #[test]
    fn no_receipts_and_strange_receipts() {
        assert!(text(&serde_json::json!([])).contains("bps infer"));
        assert_eq!(text(&serde_json::json!([{"new": 1}])), r#"[{"new":1}]"#);
    }
}
