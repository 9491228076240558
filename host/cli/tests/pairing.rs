//! `bps pair` and `bps unpair` as two hosts run them. Each test runs the real binary, once per host.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

/// `bps` with these words, on a host that keeps its state in `host`.
fn bps(host: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bps"));
    std::fs::create_dir_all(host).unwrap();
    command.args(words).current_dir(host).env("BPS_STATE_DIR", host.join("state"));
    for name in ["BPS_CONFIG", "BPS_FORMAT", "BPS_LOG", "BPS_NAME", "BPS_PAIR_CODE"] {
        command.env_remove(name);
    }
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[track_caller]
fn succeeds(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[track_caller]
fn fails(output: &Output, code: i32, part: &str) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(part), "{said}");
}

/// A `bps pair` that waits, with its first line read; ended when it goes.
struct Waiting {
    process: Child,
    lines: BufReader<ChildStdout>,
    at: String,
    code: String,
}

impl Waiting {
    fn start(host: &Path, more: &[&str]) -> Self {
        let words = [&["pair", "--format", "json", "--listen", "127.0.0.1:0", "--wait", "60s"], more].concat();
        let mut process = bps(host, &words).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap());
        let first = line(&mut lines);
        assert_eq!(first["state"], "waiting");
        let code = first["code"].as_str().unwrap().to_owned();
        Self { process, lines, at: format!("127.0.0.1:{}", first["port"]), code }
    }

    /// The second line, once it has ended well.
    fn paired(mut self) -> serde_json::Value {
        let second = line(&mut self.lines);
        assert!(self.process.wait().unwrap().success());
        second
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn line(lines: &mut impl BufRead) -> serde_json::Value {
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line:?}: {e}"))
}

#[test]
fn two_hosts_pair_and_part() {
    let dir = tempfile::tempdir().unwrap();
    let (strong, edge) = (dir.path().join("strong"), dir.path().join("edge"));
    let waiting = Waiting::start(&strong, &["--name", "strong", "--allow", "execute", "--peer-port", "7001"]);
    let words = ["pair", &waiting.at, &waiting.code, "--name", "edge", "--peer-port", "none", "--format", "json"];
    let by_edge: serde_json::Value = serde_json::from_str(&succeeds(&bps(&edge, &words).output().unwrap())).unwrap();
    let by_strong = waiting.paired();
    assert_eq!((&by_edge["name"], &by_edge["address"]), (&"strong".into(), &"127.0.0.1:7001".into()));
    assert_eq!((&by_strong["name"], &by_strong["address"]), (&"edge".into(), &serde_json::Value::Null));
    assert_eq!(by_edge["granted"], serde_json::json!(["execute"]));
    assert_eq!(by_strong["allowed"], by_edge["granted"]);
    assert_ne!(by_edge["fingerprint"], by_strong["fingerprint"]);

    fails(&bps(&strong, &["unpair", "camera"]).output().unwrap(), 1, "there are: edge (");
    let fingerprint = by_strong["fingerprint"].as_str().unwrap();
    let said = succeeds(&bps(&strong, &["unpair", &fingerprint[..12]]).output().unwrap());
    assert!(said.contains("edge") && said.contains(&fingerprint[..8]), "{said}");
    fails(&bps(&strong, &["unpair", "edge"]).output().unwrap(), 1, "there are: none");
}

#[test]
fn a_code_comes_from_the_environment_or_from_stdin() {
    let dir = tempfile::tempdir().unwrap();
    let (strong, edge) = (dir.path().join("strong"), dir.path().join("edge"));
    let waiting = Waiting::start(&strong, &[]);
    succeeds(&bps(&edge, &["pair", &waiting.at]).env("BPS_PAIR_CODE", &waiting.code).output().unwrap());
    waiting.paired();
    let waiting = Waiting::start(&strong, &[]);
    let mut process =
        bps(&edge, &["pair", &waiting.at, "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    writeln!(process.stdin.take().unwrap(), "{}", waiting.code.to_lowercase()).unwrap();
    assert!(process.wait().unwrap().success());
    waiting.paired();
}

#[test]
fn what_goes_wrong_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let (strong, edge) = (dir.path().join("strong"), dir.path().join("edge"));
    let waiting = Waiting::start(&strong, &[]);
    let code = "0000-0000-0000";
    fails(&bps(&edge, &["pair", &waiting.at, code]).output().unwrap(), 1, "the code is wrong (4 more tries)");
    fails(&bps(&strong, &["pair", &waiting.at, &waiting.code]).output().unwrap(), 1, "this host itself");
    fails(&bps(&edge, &["pair", &waiting.at, "K7QF"]).output().unwrap(), 2, "12 letters and digits");
    fails(&bps(&edge, &["pair", &waiting.at]).stdin(Stdio::null()).output().unwrap(), 2, "the code is missing");
    fails(&bps(&edge, &["pair", &waiting.at, code, "--name", "a\tb"]).output().unwrap(), 2, "--name");
    fails(&bps(&edge, &["pair", "127.0.0.1:1", code]).output().unwrap(), 1, "does `bps pair` wait there?");
    let patience = ["pair", "--listen", "127.0.0.1:0", "--wait", "100ms"];
    fails(&bps(&edge, &patience).output().unwrap(), 1, "no host paired within");
}
