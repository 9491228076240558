//! The structure keeps itself: who may depend on whom, who may know what, and what a source file must not hold.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Which of our crates each crate may use; nothing points back. A crate exists for what it may not know.
const MAY_USE: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("graph", &["types"]),
    ("codec", &["types"]),
    ("data", &[]),
    ("sched", &["types"]),
    ("plugin", &["types", "sched"]),
    ("sim", &["types", "sched"]),
    ("engine", &["types", "graph", "codec", "data"]),
    ("wire", &["types"]),
    ("transport", &["types", "wire"]),
    ("emulator", &["types"]),
    ("node", &["types", "graph", "codec", "sched", "plugin", "engine", "wire", "transport"]),
    ("api", &["types", "node"]),
    (
        "cli",
        &[
            "types",
            "graph",
            "codec",
            "data",
            "sched",
            "plugin",
            "sim",
            "engine",
            "transport",
            "emulator",
            "node",
            "api",
        ],
    ),
];

/// Libraries that only some crates may know.
const CONFINED: &[(&str, &[&str])] = &[
    ("wasmtime", &["plugin"]),
    ("burn", &["engine"]),
    ("wgpu", &["engine"]),
    ("axum", &["api"]),
    ("tokio", &["transport", "node", "api", "cli"]),
    ("quinn", &["transport"]),
    ("tun-rs", &["emulator"]),
    ("anyhow", &["cli"]),
    ("clap", &["cli"]),
    ("prost", &["graph"]),
];

/// Words a crate's sources must not hold. Time is an argument, and where decisions are made no order comes from hashing.
const ABSENT: &[(&str, &[&str])] = &[
    ("types", CLOCKS_AND_HASHES),
    ("codec", CLOCKS_AND_HASHES),
    ("sched", CLOCKS_AND_HASHES),
    ("sim", CLOCKS_AND_HASHES),
    ("graph", CLOCKS),
    ("wire", CLOCKS_AND_HASHES),
];
const CLOCKS: &[&str] = &["Instant::now", "SystemTime::now", "thread::spawn", "rand::rng()"];
const CLOCKS_AND_HASHES: &[&str] =
    &["Instant::now", "SystemTime::now", "thread::spawn", "rand::rng()", "HashMap", "HashSet"];

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    dependencies: BTreeMap<String, toml::Value>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_owned()
}

fn dependencies(krate: &str) -> Vec<String> {
    let path = root().join("host").join(krate).join("Cargo.toml");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let manifest: Manifest = toml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    manifest.dependencies.into_keys().collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn dependencies_point_one_way() {
    let mut folders: Vec<String> = std::fs::read_dir(root().join("host"))
        .expect("host/ is there")
        .map(|e| e.expect("host/ is readable").file_name().to_string_lossy().into_owned())
        .collect();
    folders.sort();
    let mut listed: Vec<String> = MAY_USE.iter().map(|(name, _)| (*name).to_owned()).collect();
    listed.sort();
    assert_eq!(folders, listed, "every crate under host/ has its line in MAY_USE");
    for (krate, allowed) in MAY_USE {
        for dependency in dependencies(krate) {
            let Some(ours) = dependency.strip_prefix("bps-") else { continue };
            assert!(allowed.contains(&ours), "`{krate}` must not depend on `{ours}`: it may use {allowed:?}");
        }
    }
}

#[test]
fn libraries_stay_where_they_are_confined() {
    for (library, allowed) in CONFINED {
        for (krate, _) in MAY_USE {
            let used = dependencies(krate).iter().any(|d| d == library);
            assert!(!used || allowed.contains(krate), "`{krate}` must not know `{library}`: only {allowed:?} may");
        }
    }
}

#[test]
fn pure_crates_read_no_clock_and_iterate_no_hash_order() {
    for (krate, absent) in ABSENT {
        let mut files = Vec::new();
        sources(&root().join("host").join(krate).join("src"), &mut files);
        assert!(!files.is_empty(), "{krate} has sources");
        for file in files {
            let text = std::fs::read_to_string(&file).expect("a source file is readable");
            for (number, line) in text.lines().enumerate().filter(|(_, l)| !l.trim_start().starts_with("//")) {
                let found = absent.iter().find(|word| line.contains(*word));
                assert!(
                    found.is_none(),
                    "{}:{}: `{}` in a pure crate",
                    file.display(),
                    number + 1,
                    found.unwrap_or(&"")
                );
            }
        }
    }
}

#[test]
fn crates_say_what_they_are() {
    for (krate, _) in MAY_USE {
        let src = root().join("host").join(krate).join("src");
        let first = [src.join("lib.rs"), src.join("main.rs")].into_iter().find(|p| p.exists()).expect("a crate root");
        let text = std::fs::read_to_string(&first).expect("a crate root is readable");
        assert!(text.starts_with("//!"), "{} opens with what it is", first.display());
    }
}
