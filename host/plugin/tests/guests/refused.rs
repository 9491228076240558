//! Bytes that are refused before anything of them runs.

use super::ENGINE;
use super::raw::Raw;
use bps_plugin::LoadStage;
use bps_plugin::prebuilt::CHAOS;

#[test]
fn bytes_that_are_refused() {
    let wasm = CHAOS.wasm;
    let mut huge = wasm[..8].to_vec();
    huge.resize(64 << 20, 0);
    let precompiled = wasmtime::Engine::default().precompile_component(wasm).expect("precompiled");
    let parse = |text: &str| wat::parse_str(text).expect("valid text");
    let flood = parse(&format!("(component (core module {}))", "(func)".repeat(20_001)));
    // (what, bytes, stage, a word of the reason)
    let cases = [
        ("nothing", vec![], LoadStage::Received, "not a WebAssembly component"),
        ("64 MiB", huge, LoadStage::Received, "at most"),
        ("text", b"(component)".to_vec(), LoadStage::Received, "text"),
        ("precompiled code", precompiled, LoadStage::Received, "precompiled"),
        ("a core module", parse("(module)"), LoadStage::Received, "core module"),
        ("noise", vec![0x93; 4_000], LoadStage::Received, "not a WebAssembly component"),
        ("a truncated file", wasm[..wasm.len() / 2].to_vec(), LoadStage::Received, "not a well-formed component"),
        ("a flood of functions", flood, LoadStage::Received, "at most 20000 functions"),
        ("an empty component", parse("(component)"), LoadStage::Verified, "does not export bps:policy/policy"),
        (
            "an import of WASI",
            parse(r#"(component (import "wasi:filesystem/types@0.2.0" (instance (export "open" (func)))))"#),
            LoadStage::Verified,
            "wasi:filesystem/types@0.2.0",
        ),
        (
            "another version of the interface",
            Raw { version: "0.2.0", ..Raw::default() }.build(),
            LoadStage::Verified,
            "bps:policy@0.2.0",
        ),
        (
            "an export of another shape",
            parse(r#"(component (instance $i) (export "bps:policy/policy@0.1.0" (instance $i)))"#),
            LoadStage::Verified,
            "describe",
        ),
        ("an adapter inside", parse(ADAPTER), LoadStage::Verified, "does not export bps:policy/policy"),
    ];
    for (what, bytes, stage, word) in cases {
        let error = ENGINE.load(&bytes).expect_err(what);
        assert_eq!(error.stage, stage, "{what}: {error}");
        assert!(error.reason.contains(word), "{what}: {error}");
    }
}

#[test]
fn bytes_changed_at_random_never_panic() {
    let wasm = CHAOS.wasm;
    for at in (8..wasm.len()).step_by(wasm.len() / 12) {
        let mut changed = wasm.to_vec();
        changed[at] ^= 0x55;
        // Most are refused, some are still policies; each answer will do.
        if let Ok(loaded) = ENGINE.load(&changed) {
            assert_ne!(loaded.digest(), super::CHAOS.digest());
        }
    }
}

/// Two components inside one, a string passing between them: wasmtime makes an adapter with two memories.
const ADAPTER: &str = r#"(component
  (component $callee
    (core module $m
      (memory (export "memory") 1)
      (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 8)
      (func (export "f") (param i32 i32)))
    (core instance $i (instantiate $m))
    (func (export "f") (param "s" string)
      (canon lift (core func $i "f") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))
  (component $caller
    (import "f" (func $f (param "s" string)))
    (core module $libc
      (memory (export "memory") 1)
      (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 8))
    (core instance $libc (instantiate $libc))
    (core func $lowered (canon lower (func $f) (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
    (core module $m (import "" "f" (func $f (param i32 i32)))
      (func (export "run") (call $f (i32.const 0) (i32.const 1))))
    (core instance $i (instantiate $m (with "" (instance (export "f" (func $lowered))))))
    (func (export "run") (canon lift (core func $i "run"))))
  (instance $callee (instantiate $callee))
  (instance $caller (instantiate $caller (with "f" (func $callee "f"))))
  (export "run" (func $caller "run"))
)"#;
