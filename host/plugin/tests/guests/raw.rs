//! Components from WebAssembly text, for what a compiler would never produce.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

const WIT: &str = include_str!("../../../../wit/policy.wit");

/// A guest in parts; what a test breaks, it replaces.
pub(crate) struct Raw {
    /// Version of the interface it is made for.
    pub(crate) version: &'static str,
    /// Module fields beside the exports.
    pub(crate) extra: &'static str,
    /// The memory's type.
    pub(crate) memory: &'static str,
    /// Body of the allocator.
    pub(crate) realloc: &'static str,
    /// Body of `describe`: a pointer to a manifest; a good one is at 256.
    pub(crate) describe: &'static str,
    /// Body of `configure`: a pointer to a result; a good one is at 512.
    pub(crate) configure: &'static str,
    /// Body of `decide`: a pointer to a decision; an empty one is at 768, a full one at 832.
    pub(crate) decide: &'static str,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            version: "0.1.0",
            extra: "",
            memory: "2",
            realloc: "(local $at i32)
                (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
                (global.set $heap (i32.add (local.get $at) (local.get 3)))
                (local.get $at)",
            describe: "i32.const 256",
            configure: "i32.const 512",
            decide: "i32.const 768",
        }
    }
}

impl Raw {
    /// The component.
    pub(crate) fn build(&self) -> Vec<u8> {
        let mut module = wat::parse_str(self.text()).expect("valid text");
        let wit = WIT.replace("bps:policy@0.1.0", &format!("bps:policy@{}", self.version));
        let mut resolve = Resolve::default();
        let package = resolve.push_str("policy.wit", &wit).expect("valid WIT");
        let world = resolve.select_world(&[package], Some("scheduler")).expect("the world");
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).expect("embedded");
        let mut encoder = ComponentEncoder::default();
        encoder.module(&module).expect("a module of this world").encode().expect("encoded")
    }

    fn text(&self) -> String {
        let Self { version, extra, memory, realloc, describe, configure, decide } = self;
        format!(
            r#"(module
  (memory (export "memory") {memory})
  (global $heap (mut i32) (i32.const 4096))
  (data (i32.const 128) "raw") (data (i32.const 136) "1.2.3") (data (i32.const 144) "{{}}")
  (data (i32.const 256) "{manifest}")
  (data (i32.const 832) "{decision}")
  (data (i32.const 896) "{dispatch}")
  (data (i32.const 960) "{stage}")
  (data (i32.const 976) "{join}")
  (data (i32.const 992) "{ids}")
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) {realloc})
  (func (export "bps:policy/policy@{version}#describe") (result i32) {describe})
  (func (export "bps:policy/policy@{version}#configure") (param i32 i32 i64) (result i32) {configure})
  (func (export "bps:policy/policy@{version}#world-changed") (param i32 i32 i32 i32 i32 i32 i32 i32 i32))
  (func (export "bps:policy/policy@{version}#table-changed") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32))
  (func (export "bps:policy/policy@{version}#decide") (param i32) (result i32) {decide})
  {extra}
)"#,
            // name, version, summary, config-schema, state-schema, reasons: (pointer, length) each
            manifest = words(&[128, 3, 136, 5, 128, 3, 144, 2, 0, 0, 0, 0]),
            // dispatches, joins, shed, some(77)
            decision = words(&[896, 1, 976, 1, 992, 2, 1, 0, 77, 0]),
            // queue 5, these(992, 2), stages (960, 1), micro-batch 3, (padding), tag, why
            dispatch = words(&[5, 1, 992, 2, 960, 1, 3, 0, 0x2222_1111, 0x4444_3333, 6, 0]),
            // device 9, until-cut 8, codec 7, rate 6
            stage = words(&[9, 8, 0x0607]),
            join = words(&[11, 12]),
            ids = words(&[41, 0, 42, 1]),
        )
    }
}

/// Little-endian bytes as a data string.
fn words(words: &[u32]) -> String {
    words.iter().flat_map(|word| word.to_le_bytes()).map(|byte| format!("\\{byte:02x}")).collect()
}
