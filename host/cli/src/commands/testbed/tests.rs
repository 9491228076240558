//! The command line of the test bed.

use super::*;
use clap::Parser;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: TestbedArgs,
}

fn setup(line: &str) -> Setup {
    let line = Line::try_parse_from(std::iter::once("testbed").chain(line.split_whitespace())).unwrap();
    line.args.setup().unwrap()
}

#[test]
fn presets_are_what_they_say() {
    let grid = setup("--grid");
    let shape = (grid.models.len(), grid.slowdowns.clone(), grid.links.len(), grid.runs, grid.span);
    assert_eq!(shape, (3, vec![4.0, 16.0], 6, 5, Duration::from_secs(5)));
    assert_eq!(grid.contenders.len(), plan::ALL_POLICIES.len());
    let short = setup("--short");
    // Two models, three policies; starting and measuring models comes on top.
    let seconds = (short.span + short.settle).as_secs_f64() * short.measurements() as f64;
    assert!(seconds <= 50.0, "{seconds}");
}

#[test]
fn what_is_said_wins_over_a_preset() {
    let said = setup(
        "--short --runs 2 --slowdown 4,16 --link 10Mbit/20ms --policy local-only --model digits --load periodic --rate 20",
    );
    assert_eq!((said.runs, said.slowdowns.clone(), said.links.len(), said.models.len()), (2, vec![4.0, 16.0], 1, 1));
    assert_eq!(said.contenders.len(), 1);
    assert_eq!(said.shape, Shape::Open(Load::Bursts { size: 1, every: Duration::from_millis(50) }));
    assert_eq!(said.measurements(), 4);
}

#[test]
fn a_subject_of_ones_own_takes_part() {
    let mine = setup("--subject mine");
    assert_eq!(mine.contenders.last().unwrap().label, "mine");
    assert_eq!(setup("").contenders.iter().filter(|c| c.label == "bps").count(), 1);
}

#[test]
fn a_subject_that_is_not_measured_is_refused() {
    let line = ["testbed", "--policy", "bps", "--policy", "local-only", "--subject", "surgeon"];
    let error = Line::try_parse_from(line).unwrap().args.setup().unwrap_err().to_string();
    assert!(error.contains("--subject surgeon") && error.contains("bps, local-only"), "{error}");
    assert_eq!(setup("--policy local-only").subject, "bps", "nobody asked for it");
    assert_eq!(setup("--policy surgeon --subject surgeon").subject, "surgeon");
}

#[test]
fn lines_that_make_no_sense() {
    for line in [
        "--slowdown 0",
        "--link 10Mbit",
        "--span 0s",
        "--model resnet51",
        "--hosts 4",
        "--restart-peer-at 3s",
        "--grid --short",
    ] {
        assert!(Line::try_parse_from(std::iter::once("testbed").chain(line.split_whitespace())).is_err(), "{line}");
    }
}

#[test]
fn a_script_is_read_and_a_wrong_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("link.toml");
    std::fs::write(&path, "[[change]]\nat = \"1s\"\nrate = \"1Mbit\"\n").unwrap();
    assert!(!read_script(&path).unwrap().is_empty());
    assert!(network::Kind::Namespaces.permits(&read_script(&path).unwrap()).is_ok());
    for fault in ["stall = \"1s\"", "swallow = \"1s\"", "cut = \"1s\"", "corrupt = true"] {
        std::fs::write(&path, format!("[[change]]\nat = \"1s\"\n{fault}\n")).unwrap();
        let script = read_script(&path).unwrap();
        let error = network::Kind::Namespaces.permits(&script).unwrap_err().to_string();
        assert!(error.contains("--in-process"), "{fault}: {error}");
        assert!(network::Kind::Proxy.permits(&script).is_ok(), "{fault}");
    }
    std::fs::write(&path, "[[change]]\nat = \"soon\"\n").unwrap();
    let error = read_script(&path).unwrap_err().to_string();
    assert!(error.contains("link.toml") && error.contains("change 1"), "{error}");
}

#[test]
fn a_busy_machine_is_noticed() {
    assert_eq!(busy("0.31 0.10 0.05 1/100 7", 2), None);
    assert_eq!(busy("3.50 0.10 0.05 1/100 7", 2), Some(3.5));
    assert_eq!(busy("", 2), None);
}
