//! The test bed, short: two hosts are paired, measured, one is killed with work at it, the link fails in every way, and
//! nothing is lost or left behind.
#![cfg(unix)]

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

/// Runs the test bed on the digits with these policies; the last is its subject.
fn run(folder: &Path, policies: &[&str], words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bps"));
    command.args(["testbed", "--format", "json", "--model", "digits", "--clients", "2", "--settle", "200ms"]);
    for policy in policies {
        command.args(["--policy", policy]);
    }
    let subject = policies.last().expect("a policy");
    command.args(["--subject", subject, "--server-policy", "batching"]).args(words);
    command.current_dir(folder).env("TMPDIR", folder).output().unwrap()
}

/// The JSON of a run that goes well, and what it said.
fn testbed(folder: &Path, policies: &[&str], words: &[&str]) -> (Value, String) {
    let output = run(folder, policies, words);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    (serde_json::from_slice(&output.stdout).unwrap(), said)
}

/// Every run of a report's only cell, with its policy.
fn runs(report: &Value) -> Vec<(&str, &Value)> {
    let mut all = Vec::new();
    for row in report["cells"][0]["rows"].as_array().unwrap() {
        let policy = row["policy"].as_str().unwrap();
        all.extend(row["runs"].as_array().unwrap().iter().map(|run| (policy, run)));
    }
    all
}

fn processes(trace: &Path) -> Vec<String> {
    let file: Value = serde_json::from_slice(&std::fs::read(trace).unwrap()).unwrap();
    let events = file["traceEvents"].as_array().unwrap();
    let names = events.iter().filter(|e| e["name"] == "process_name").filter_map(|e| e["args"]["name"].as_str());
    names.map(str::to_owned).collect()
}

#[test]
fn policies_take_turns_without_root() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.json");
    let words = ["--in-process", "--runs", "2", "--span", "500ms", "--link", "20Mbit/10ms", "--trace"];
    let words = [&words[..], &[trace.to_str().unwrap()]].concat();
    let (report, _) = testbed(folder.path(), &["local-only", "batching"], &words);
    assert_eq!((&report["method"]["network"], &report["method"]["hosts"][1]), (&"proxy".into(), &"server".into()));
    let rows = report["cells"][0]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    for row in rows {
        assert!(row["throughput"]["mean"].as_f64().unwrap() > 1.0, "{row}");
        assert_eq!(row["runs"].as_array().unwrap().len(), 2);
        assert!(row["runs"][0]["right"].as_f64().unwrap() > 0.9, "{row}");
    }
    assert_eq!(report["cells"][0]["comparisons"][0]["baseline"], "local-only");
    assert_eq!(processes(&trace)[..3], ["test bed", "edge", "server"]);
}

/// With root in network namespaces, else on loopback: both must get over it. One policy has all its work there, always.
#[test]
fn a_peer_that_is_killed_with_work_costs_no_request() {
    let folder = tempfile::tempdir().unwrap();
    let words = ["--runs", "2", "--span", "1500ms", "--kill-peer-at", "500ms"];
    let (report, said) = testbed(folder.path(), &["batching", "remote-only"], &words);
    let rooted = report["method"]["network"] == "namespaces";
    assert_eq!(said.contains("NO NETWORK NAMESPACES"), !rooted, "{said}");
    assert_eq!(runs(&report).len(), 4);
    for (policy, run) in runs(&report) {
        assert_eq!((&run["lost"], &run["failed"]), (&0.into(), &0.into()), "{policy}: {run}");
        let killed = &run["reactions"][0];
        assert_eq!(killed["text"], "server killed");
        let plan = killed["plan_before"].as_str().unwrap();
        assert_eq!(plan.contains("server/"), policy == "remote-only", "{policy}: {plan}");
        assert!(killed["before"].as_f64().unwrap() > 1.0 && killed["after"].as_f64().unwrap() > 1.0, "{killed}");
        assert_eq!(killed["new_plan_ms"].is_number(), policy == "remote-only", "{policy}: {killed}");
    }
    // The folder of the run was in there too.
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

const SCRIPT: &str = r#"
    [[change]]
    at = "300ms"
    rate = "20Mbit"
    loss = "1%"
    [[change]]
    at = "800ms"
    down = "200ms"
    [[change]]
    at = "1600ms"
    roam = "200ms"
    [[change]]
    at = "2400ms"
    cut = "300ms"
    [[change]]
    at = "3300ms"
    stall = "1s"
    [[change]]
    at = "4900ms"
    swallow = "1s"
    [[change]]
    at = "6500ms"
    corrupt = true
"#;

#[test]
fn a_script_does_all_that_a_proxy_can_and_costs_no_request() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("link.toml"), SCRIPT).unwrap();
    let words = ["--in-process", "--runs", "1", "--span", "7500ms", "--script", "link.toml"];
    let (report, _) = testbed(folder.path(), &["remote-only"], &words);
    let runs = runs(&report);
    let [(_, run)] = runs[..] else { panic!("one run: {report}") };
    assert_eq!((&run["lost"], &run["failed"], &run["expired"]), (&0.into(), &0.into(), &0.into()), "{run}");
    let reactions = run["reactions"].as_array().unwrap();
    let said: Vec<&str> = reactions.iter().map(|r| r["text"].as_str().unwrap()).collect();
    let expected = [
        "20 Mbit/s, loss 1.00 %",
        "down",
        "up",
        "down",
        "up at another address",
        "cut",
        "whole",
        "stalled",
        "whole",
        "swallows all",
        "whole",
        "a bit flipped",
    ];
    assert_eq!(said, expected);
    assert!(reactions[0]["plan_before"].as_str().unwrap().contains("server/"), "{run}");
    assert!(reactions[11]["after"].as_f64().unwrap() > 1.0, "{run}");
}
