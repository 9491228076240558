//! Reports of made-up runs.

use super::*;
use bps_types::Nanos;

fn cell(model: &str) -> Cell {
    let link = crate::link::LinkChoice { rate: Some(1e7), rtt: Nanos::from_millis(1), loss: 0.0 };
    Cell { model: model.into(), slowdown: 4.0, link }
}

fn row(policy: &str, throughputs: &[f64]) -> Row {
    let run = |&throughput: &f64| Figures { throughput, p50_ms: 12.0, ended: 10, ..Figures::default() };
    Row {
        policy: policy.into(),
        throughput: statistics::interval(throughputs),
        rolled_back: Vec::new(),
        runs: throughputs.iter().map(run).collect(),
    }
}

fn report() -> Report {
    let won = vec![
        row("local-only", &[10.0, 10.2, 10.1]),
        row("surgeon", &[20.0, 20.5, 20.1]),
        row("bps", &[30.0, 31.0, 30.4]),
    ];
    let lost = vec![
        row("local-only", &[10.0, 10.2, 10.1]),
        row("surgeon", &[20.0, 20.5, 20.1]),
        row("bps", &[15.0, 15.1, 15.2]),
    ];
    let cells = vec![CellReport::new(cell("a"), won, "bps", 0.1), CellReport::new(cell("b"), lost, "bps", 0.1)];
    let method = Method {
        subject: "bps".into(),
        network: Kind::Proxy,
        hosts: vec!["edge".into(), "server".into()],
        cores: vec![],
        cores_of_machine: 2,
        carrier: "auto".into(),
        codecs: vec!["f16".into()],
        max_accuracy_loss: 0.01,
        load: "8 clients".into(),
        runs: 3,
        span_seconds: 5.0,
        settle_seconds: 1.0,
        deadline_ms: None,
        missing_policies: vec!["rl".into()],
    };
    Report::new(method, cells)
}

#[test]
fn losing_cells_are_named_and_gains_are_told_from_the_bottom() {
    let mut report = report();
    report.cells[0].rows[1].rolled_back.push("WARN rolled back from=surgeon to=bps reason=Slow".into());
    assert_eq!(report.lost_cells, ["b, edge slowed 4x, 10 Mbit/s, rtt 1 ms"]);
    let surgeon = report.gains.iter().find(|g| g.baseline == "surgeon").unwrap();
    assert_eq!((surgeon.cells, surgeon.worse), (2, 1));
    assert!(surgeon.min < 0.8 && surgeon.best > 1.4, "{surgeon:?}");
    assert_eq!(report.cells[0].best_baseline.as_deref(), Some("surgeon"));
    let text = report.text();
    for part in ["WORSE", "better", "LOST", "surgeon", "not there: rl", "NO namespaces", "1.50x", "reason=Slow"] {
        assert!(text.contains(part), "{text}\nlacks {part}");
    }
    assert!(!text.contains("all edges"), "there is one");
    report.method.hosts.insert(1, "edge2".into());
    assert!(report.text().contains("of all edges together"));
}

#[test]
fn a_lost_request_makes_it_a_failure() {
    let mut report = report();
    assert_eq!(report.wrong(), None);
    report.cells[0].rows[0].runs[0].failed = 2;
    report.cells[0].rows[0].runs[0].first_failure = Some("answered 500".into());
    assert!(report.wrong().unwrap().contains("answered 500"));
}

#[test]
fn the_json_has_every_run() {
    let json = serde_json::to_value(report()).unwrap();
    assert_eq!(json["cells"][0]["rows"][2]["runs"][1]["throughput"], 31.0);
    assert_eq!(json["cells"][1]["comparisons"][1]["verdict"], "worse");
}
