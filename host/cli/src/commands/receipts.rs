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
`bps profile`. A host keeps the last 4,096.";

/// Show the last dispatches of a running host.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = format!("{TEACH}\n\n{}", crate::exit::EXIT_CODES))]
pub(crate) struct ReceiptsArgs {
    /// How many.
    #[arg(long, value_name = "N", default_value_t = 20)]
    last: usize,
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
    let mut table = Table::new(&[
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
    ]);
    for row in rows {
        let stage = |s: &StageRow| match &s.via {
            Some(codec) => format!("={codec}=> {}[{}..{}]", s.on, s.from_cut, s.until_cut),
            None => format!("{}[{}..{}]", s.on, s.from_cut, s.until_cut),
        };
        let measured: Option<u64> = row.stages.iter().map(|s| s.measured).sum();
        let mut ended = row.verdict.as_str().map_or_else(|| row.verdict.to_string(), str::to_owned);
        if !row.clamps.is_empty() {
            ended.push_str(" (clamped)");
        }
        table.row([
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
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bps_sched::{PolicyLabel, Receipt, ReceiptStage, Verdict};
    use bps_types::{Generation, Nanos};

    #[test]
    fn a_receipt_of_this_host_is_shown() {
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
            began: Some(Nanos::from_millis(1_500)),
        };
        let policy = PolicyLabel { name: "batching".into(), version: "0.1.0".into(), digest: "ab".into() };
        let receipt = Receipt {
            at: Nanos::from_millis(1_500),
            ended: Nanos::from_millis(1_501),
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
        };
        let text = text(&serde_json::to_value([receipt]).unwrap());
        let line = text.lines().nth(1).unwrap();
        for part in [
            "1.500 s",
            "batching",
            "digits",
            "2.00 ms",
            "=int8=> server/cpu[0..9]",
            "90.0 µs",
            "100.0 µs",
            "full batch",
            "Done",
        ] {
            assert!(line.contains(part), "{line:?} lacks {part:?}");
        }
    }

    #[test]
    fn no_receipts_and_strange_receipts() {
        assert!(text(&serde_json::json!([])).contains("bps infer"));
        assert_eq!(text(&serde_json::json!([{"new": 1}])), r#"[{"new":1}]"#);
    }
}
