//! A host from start to stop, driven by the program's own commands.
#![cfg(unix)]

use bps_types::{DataType, HostTensor};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

struct Server {
    child: Child,
    /// Keeps the pipe open: a host that cannot write its log must not be what is tested.
    log: BufReader<std::process::ChildStderr>,
    url: String,
    admin: String,
    folder: PathBuf,
}

impl Server {
    /// Starts a host on ports of the system's choice and waits for its summary.
    fn start(folder: &Path, words: &[&str]) -> Self {
        let mut child = command(folder)
            .args(["serve", "--listen", "127.0.0.1:0", "--device", "cpu", "--profile", "off"])
            .args(words)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let (mut url, mut admin, mut said) = (None, None, String::new());
        loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "the host ended before it served:\n{said}");
            said.push_str(&line);
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["clients", address, ..] => url = Some((*address).to_owned()),
                ["admin", address, ..] => admin = Some((*address).to_owned()),
                ["bps", "policy", "list", ..] => break,
                _ => {}
            }
        }
        let (url, admin) = (url.expect("a client address"), admin.expect("an admin address"));
        Self { child, log, url, admin, folder: folder.to_owned() }
    }

    /// Runs a command against it; gives exit code, stdout and stderr.
    fn ask(&self, words: &[&str]) -> (Option<i32>, String, String) {
        let output =
            command(&self.folder).args(words).env("BPS_URL", &self.url).env("BPS_ADMIN", &self.admin).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    #[track_caller]
    fn json(&self, words: &[&str]) -> Value {
        let (code, stdout, stderr) = self.ask(&[words, &["--format", "json"]].concat());
        assert_eq!(code, Some(0), "{words:?}: {stderr}");
        serde_json::from_str(&stdout).unwrap()
    }

    /// Sends SIGTERM and waits; gives the exit code and what was said.
    fn stop(mut self) -> (Option<i32>, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let said: Vec<String> = (&mut self.log).lines().map(Result::unwrap).collect();
        (self.child.wait().unwrap().code(), said.join("\n"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Has ended already unless a test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bps"));
    command.current_dir(folder).env("BPS_STATE_DIR", folder.join("state"));
    for name in
        ["BPS_ADMIN", "BPS_URL", "BPS_CONFIG", "BPS_FORMAT", "BPS_LOG", "BPS_TOKEN_FILE", "BPS_ADMIN_TOKEN_FILE"]
    {
        command.env_remove(name);
    }
    command
}

fn make_digits(folder: &Path, file: &str) {
    assert!(command(folder).args(["model", "make", "digits", "-o", file]).output().unwrap().status.success());
}

/// Writes an `.npy` file as `numpy.save` would.
fn save_npy(path: &Path, tensor: &HostTensor) {
    assert_eq!(tensor.data_type(), DataType::Fp32);
    let shape: Vec<String> = tensor.shape().iter().map(|d| format!("{d},")).collect();
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}", shape.join(" "));
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    fs::write(path, [b"\x93NUMPY\x01\0", &length[..], header.as_bytes(), tensor.data()].concat()).unwrap();
}

#[test]
fn serve_infer_swap_roll_back_and_stop() {
    let dir = tempfile::tempdir().unwrap();
    make_digits(dir.path(), "digits.onnx");
    let record =
        ["--model", "digits.onnx", "--admin", "127.0.0.1:0", "--policy", "local-only", "--record", "calls.bpsrec"];
    let server = Server::start(dir.path(), &record);

    save_npy(&dir.path().join("x.npy"), &HostTensor::from_f32(vec![2, 1, 8, 8], &[0.25; 128]).unwrap());
    let reply = server.json(&["infer", "--model", "digits", "--input", "x.npy"]);
    assert_eq!(reply["outputs"][0]["shape"], serde_json::json!([2, 10]));
    let (code, table, stderr) = server.ask(&["infer", "--model", "digits", "--input", "x.npy", "--top", "3"]);
    assert_eq!((code, table.matches('%').count()), (Some(0), 6), "{table}{stderr}");
    let output = reply["outputs"][0]["name"].as_str().unwrap();
    let choice = format!("{output}=y.npy");
    server.json(&["infer", "--model", "digits", "--input", "x.npy", "--output", &choice]);
    assert!(fs::read(dir.path().join("y.npy")).unwrap().starts_with(b"\x93NUMPY"));
    let (code, _, stderr) = server.ask(&["infer", "--model", "nobody", "--input", "[1]"]);
    assert!(code == Some(1) && stderr.contains("404") && stderr.contains("nobody"), "{stderr}");

    let swap = server.json(&["policy", "swap", "batching", "--config", r#"{"batch_max": 8}"#]);
    assert_eq!((&swap["from"]["name"], &swap["to"]["name"]), (&"local-only".into(), &"batching".into()));
    server.json(&["infer", "--model", "digits", "--input", "x.npy"]);
    let status = server.ask(&["policy", "status"]).1;
    assert!(status.contains("batching") && status.contains(r#""batch_max""#), "{status}");
    let (code, _, stderr) = server.ask(&["policy", "swap", "nobody"]);
    assert!(code == Some(1) && stderr.contains("nobody") && stderr.contains("still does"), "{stderr}");
    let back = server.json(&["policy", "rollback"]);
    assert_eq!(back["to"]["name"], "local-only");
    assert!(server.ask(&["policy", "list"]).1.contains("round-robin"));
    let receipts = server.ask(&["receipts", "--last", "5"]).1;
    assert!(receipts.contains("digits") && receipts.contains("Done"), "{receipts}");

    let (code, said) = server.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("4 requests were answered"), "{said}");
    let replay = command(dir.path()).args(["policy", "replay", "calls.bpsrec"]).output().unwrap();
    let text = String::from_utf8_lossy(&replay.stdout).into_owned() + &String::from_utf8_lossy(&replay.stderr);
    assert_eq!(replay.status.code(), Some(0), "{text}");
}

#[test]
fn the_admin_port_wants_its_token_and_may_be_a_socket() {
    let dir = tempfile::tempdir().unwrap();
    make_digits(dir.path(), "d.onnx");
    let server = Server::start(dir.path(), &["--model", "d.onnx", "--admin", "127.0.0.1:0"]);
    fs::write(dir.path().join("wrong"), "0123456789abcdef0123456789abcdef").unwrap();
    assert!(Command::new("chmod").args(["600"]).arg(dir.path().join("wrong")).status().unwrap().success());
    let (code, _, stderr) = server.ask(&["policy", "status", "--admin-token-file", "wrong"]);
    assert!(code == Some(1) && stderr.contains("token"), "{stderr}");
    assert_eq!(server.stop().0, Some(0));

    let server = Server::start(dir.path(), &["--model", "d.onnx", "--admin", "unix:admin.sock"]);
    assert!(server.json(&["policy", "status", "--admin", "unix:admin.sock"]).is_object());
    assert_eq!(server.stop().0, Some(0));
}
