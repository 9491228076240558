//! The test bed, short: two hosts are paired, measured, one is killed, and nothing is lost or left behind.
#![cfg(unix)]

use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// Runs the test bed on the digits; gives its JSON and what it said.
fn testbed(folder: &Path, words: &[&str]) -> (Value, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_bps"))
        .args(["testbed", "--format", "json", "--model", "digits", "--clients", "2", "--settle", "200ms"])
        .args([
            "--policy",
            "local-only",
            "--policy",
            "batching",
            "--subject",
            "batching",
            "--server-policy",
            "batching",
        ])
        .args(words)
        .current_dir(folder)
        .env("TMPDIR", folder)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    (serde_json::from_slice(&output.stdout).unwrap(), said)
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
    let (report, _) = testbed(folder.path(), &[&words[..], &[trace.to_str().unwrap()]].concat());
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

/// With root in network namespaces, else on loopback: both must get over it.
#[test]
fn a_killed_peer_costs_no_request() {
    let folder = tempfile::tempdir().unwrap();
    let words = ["--runs", "2", "--span", "1500ms", "--kill-peer-at", "500ms"];
    let (report, said) = testbed(folder.path(), &words);
    let rooted = report["method"]["network"] == "namespaces";
    assert_eq!(said.contains("NO NETWORK NAMESPACES"), !rooted, "{said}");
    for row in report["cells"][0]["rows"].as_array().unwrap() {
        for run in row["runs"].as_array().unwrap() {
            assert_eq!((&run["lost"], &run["failed"]), (&0.into(), &0.into()), "{run}");
            assert_eq!(run["reactions"][0]["text"], "server killed");
        }
    }
    // The folder of the run was in there too.
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}
