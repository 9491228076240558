//! The program as a person meets it: help, exit codes, files good and bad. Each test runs the real binary.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs `bps` with these words, in an environment of its own.
fn bps(folder: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bps"));
    command.args(words).current_dir(folder).env("BPS_STATE_DIR", folder.join("state"));
    for name in
        ["BPS_ADMIN", "BPS_URL", "BPS_CONFIG", "BPS_FORMAT", "BPS_LOG", "BPS_TOKEN_FILE", "BPS_ADMIN_TOKEN_FILE"]
    {
        command.env_remove(name);
    }
    command.output().unwrap()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[track_caller]
fn succeeds(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(output), stderr(output));
    stdout(output)
}

#[test]
fn help_teaches_and_ends_well() {
    let dir = folder();
    let cases = [
        (&["--help"][..], "Start here"),
        (&["help", "serve"], "How to choose"),
        (&["help", "infer"], "FILE.npy"),
        (&["help", "policy"], "From file to traffic"),
        (&["help", "demo"], "What you see"),
        (&["policy", "help", "check"], "rehearse"),
        (&["help", "codec"], "From an activation to figures"),
        (&["codec", "list"], "ff-h"),
        (&["completions", "bash"], "_bps"),
        (&["--version"], "bps 0."),
    ];
    for (words, expected) in cases {
        let text = succeeds(&bps(dir.path(), words));
        assert!(text.contains(expected), "{words:?}: {text}");
        assert!(!text.contains('\u{1b}'), "{words:?} writes escape codes into a pipe");
    }
}

#[test]
fn wrong_lines_and_wrong_settings_end_with_2() {
    let dir = folder();
    fs::write(dir.path().join("bad.toml"), "listen = 'a:1'\nmodles = []\n").unwrap();
    let cases: [(&[&str], &str); 11] = [
        (&["fly"], "unrecognized"),
        (&["serve"], "nothing to serve"),
        (&["serve", "--config", "bad.toml"], "bad.toml:2"),
        (&["serve", "--config", "none.toml"], "none.toml"),
        (&["serve", "--model", "a.onnx", "--device", "quantum"], "quantum"),
        (&["serve", "--model", "a.onnx", "--policy-config", "{"], "not JSON"),
        (&["policy", "inspect", "nobody"], "neither a file nor one of"),
        (&["profile", "a.onnx", "--device", "tpu"], "tpu"),
        (&["codec", "encode", "a.npy", "-o", "b", "--codec", "f16", "--bound", "1"], "--bound is for ff-s, ff-h and"),
        (&["codec", "decode", "a", "-o", "b", "--codec", "fly", "--shape", "1"], "there are raw, raw-zstd"),
        (&["devices", "--log", "a=b=c"], "--log"),
    ];
    for (words, expected) in cases {
        let output = bps(dir.path(), words);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{words:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "{words:?} wrote an error to stdout");
    }
}

#[test]
fn nobody_listening_is_said_with_what_to_do() {
    let dir = folder();
    let cases: [&[&str]; 3] = [
        &["infer", "--url", "127.0.0.1:1", "--model", "m", "--input", "[1]"],
        &["policy", "status", "--admin", "127.0.0.1:1"],
        &["receipts", "--admin", "unix:nowhere.sock"],
    ];
    for words in cases {
        let output = bps(dir.path(), words);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(stderr(&output).contains("is `bps serve` running there?"), "{words:?}: {}", stderr(&output));
    }
}

#[test]
fn models_are_made_and_shown() {
    let dir = folder();
    for (network, layers, digits) in [("digits", 3, true), ("resnet18", 30, false)] {
        let file = format!("{network}.onnx");
        let said = succeeds(&bps(dir.path(), &["model", "make", network, "-o", &file]));
        assert_eq!(said.contains("  trained"), digits, "{said}");
        let shown = succeeds(&bps(dir.path(), &["model", "show", &file, "--format", "json"]));
        let model: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert!(model["layers"].as_array().unwrap().len() >= layers, "{network}");
        assert!(model["parameters"].as_u64().unwrap() > 0 && model["flops"].as_u64().unwrap() > 0, "{network}");
        assert_eq!(model["layers"][0]["cut"]["index"], 0, "execution can always be cut before the first layer");
        let table = succeeds(&bps(dir.path(), &["model", "show", &file]));
        assert!(table.contains("crosses") && table.contains("Conv"), "{table}");
    }
    let seeded = |seed: &str, file: &str| {
        succeeds(&bps(dir.path(), &["model", "make", "digits", "--seed", seed, "-o", file]));
        fs::read(dir.path().join(file)).unwrap()
    };
    assert_eq!(seeded("1", "a.onnx"), seeded("1", "b.onnx"));
    assert_ne!(seeded("1", "a.onnx"), seeded("2", "b.onnx"));
}

#[test]
fn a_model_is_trained_and_measured() {
    let dir = folder();
    let words = ["model", "train", "digits", "--epochs", "1", "-o", "d.onnx", "--format", "json"];
    let report: serde_json::Value = serde_json::from_str(&succeeds(&bps(dir.path(), &words))).unwrap();
    assert_eq!((&report["epochs"], &report["held_out_count"]), (&1.into(), &500.into()));
    // One pass teaches little, but more than guessing one of ten.
    assert!(report["held_out_accuracy"].as_f64().unwrap() > 0.2, "{report}");
    succeeds(&bps(dir.path(), &["model", "show", "d.onnx"]));
}

#[test]
fn bad_files_are_refused_with_their_name() {
    let dir = folder();
    fs::write(dir.path().join("noise.onnx"), [0xff; 300]).unwrap();
    fs::write(dir.path().join("empty.wasm"), []).unwrap();
    fs::write(dir.path().join("noise.wasm"), [7; 300]).unwrap();
    fs::write(dir.path().join("noise.rec"), [7; 300]).unwrap();
    let cases: [(&[&str], &str); 7] = [
        (&["model", "show", "noise.onnx"], "noise.onnx"),
        (&["model", "show", "nowhere.onnx"], "nowhere.onnx"),
        (&["profile", "noise.onnx", "--device", "cpu"], "noise.onnx"),
        (&["policy", "inspect", "empty.wasm"], "empty.wasm"),
        (&["policy", "check", "noise.wasm"], "noise.wasm"),
        (&["policy", "replay", "noise.rec"], "noise.rec"),
        (&["model", "make", "digits", "-o", "noise.onnx/x"], "noise.onnx"),
    ];
    for (words, expected) in cases {
        let output = bps(dir.path(), words);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
        assert!(
            said.starts_with("error: ") && said.contains(expected) && !said.contains("panicked"),
            "{words:?}: {said}"
        );
    }
}

#[test]
fn the_processor_is_always_a_device() {
    let dir = folder();
    let list: serde_json::Value =
        serde_json::from_str(&succeeds(&bps(dir.path(), &["devices", "--format", "json"]))).unwrap();
    assert_eq!(list[0]["taken_as"], "cpu");
    assert!(succeeds(&bps(dir.path(), &["devices"])).lines().count() >= 2);
}

#[test]
fn policies_that_come_with_bps_are_inspected_checked_and_listed() {
    let dir = folder();
    for name in ["local-only", "batching", "round-robin"] {
        let text = succeeds(&bps(dir.path(), &["policy", "inspect", name]));
        assert!(text.contains(name) && text.contains("bps:policy/policy"), "{text}");
        let report = succeeds(&bps(dir.path(), &["policy", "check", name, "--format", "json"]));
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        assert_eq!((&report["name"], &report["rehearsal"]["invalid_rows"]), (&name.into(), &0.into()));
    }
    let refused = bps(dir.path(), &["policy", "check", "batching", "--config", r#"{"no_such_field": 1}"#]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("no_such_field"), "{}", stderr(&refused));
    let list = bps(dir.path(), &["policy", "list", "--admin", "127.0.0.1:1"]);
    assert!(succeeds(&list).contains("round-robin") && stderr(&list).contains("These come with bps"));
}

#[test]
fn profiles_are_measured_and_kept() {
    let dir = folder();
    succeeds(&bps(dir.path(), &["model", "make", "digits", "-o", "d.onnx"]));
    let words = ["profile", "d.onnx", "--device", "cpu", "--format", "json"];
    let report =
        |words: &[&str]| -> serde_json::Value { serde_json::from_str(&succeeds(&bps(dir.path(), words))).unwrap() };
    let (first, second) = (report(&words), report(&words));
    assert_eq!((&first[0]["from_cache"], &second[0]["from_cache"]), (&false.into(), &true.into()));
    assert_eq!(first[0]["layer_nanos"], second[0]["layer_nanos"]);
    let table = succeeds(&bps(dir.path(), &["profile", "d.onnx", "--device", "cpu", "--layers"]));
    assert!(table.contains("rows/s") && table.contains("batch 32"), "{table}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let dir = folder();
    succeeds(&bps(dir.path(), &["model", "make", "resnet18", "-o", "r.onnx"]));
    let mut child = Command::new(env!("CARGO_BIN_EXE_bps"))
        .args(["model", "show", "r.onnx", "--format", "json"])
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
}
