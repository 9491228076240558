//! The stages before anything of a component runs: received and verified.

use crate::{GuestLimits, LoadError, LoadStage};
use wasmparser::{Parser, Payload};
use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

/// The version of the interface that this host implements.
pub(crate) const WORLD_VERSION: &str = "0.1.0";

/// Imports that the host answers; `types` holds only names of types.
const IMPORTS_ALLOWED: [&str; 2] = ["bps:policy/host", "bps:policy/types"];

/// Exports without which there is no policy.
const EXPORT_REQUIRED: &str = "bps:policy/policy";

/// The stage received: a component, of bounded size, in its binary form.
pub(crate) fn received(bytes: &[u8], limits: &GuestLimits) -> Result<(), LoadError> {
    let refuse = |reason: String| Err(LoadError::new(LoadStage::Received, reason));
    if bytes.len() > limits.component_bytes_max {
        return refuse(format!("{} bytes; at most {} are taken", bytes.len(), limits.component_bytes_max));
    }
    match (bytes.get(..4), bytes.get(4..8)) {
        (Some(b"\0asm"), Some([0x0d, 0, 1, 0])) => Ok(()),
        (Some(b"\0asm"), Some([1, 0, 0, 0])) => {
            refuse("a core module, not a component; build it as `bash plugins/build` does".into())
        }
        (Some(b"\0asm"), _) => refuse("a WebAssembly binary of a version that bps does not know".into()),
        (Some(b"\x7fELF"), _) => refuse("precompiled code; only components in their portable form are taken".into()),
        (Some(start), _) if start.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) => {
            refuse("text; a component in its binary form is needed".into())
        }
        _ => refuse("not a WebAssembly component".into()),
    }
}

/// Still the stage received: how much there is to compile, counted without compiling. Machine code and the time for it
/// grow with functions more than with bytes, so that small files could take gigabytes.
pub(crate) fn extent(bytes: &[u8], limits: &GuestLimits) -> Result<(), LoadError> {
    let refuse = |reason: String| LoadError::new(LoadStage::Received, reason);
    let (mut functions, mut modules) = (0usize, 0usize);
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(|error| refuse(format!("not a well-formed component: {error}")))? {
            Payload::FunctionSection(section) => functions += section.count() as usize,
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => modules += 1,
            Payload::CodeSectionEntry(body) if body.range().len() > limits.function_bytes_max => {
                let max = limits.function_bytes_max;
                return Err(refuse(format!("a function of {} bytes; at most {max} are taken", body.range().len())));
            }
            _ => {}
        }
        if functions > limits.functions_max || modules > limits.modules_max {
            let (most_functions, most_modules) = (limits.functions_max, limits.modules_max);
            let bounds = format!("at most {most_functions} functions and {most_modules} modules are taken");
            return Err(refuse(format!("{bounds}; it has {functions} and {modules} or more")));
        }
    }
    Ok(())
}

fn wrong_version(version: &str) -> LoadError {
    let reason = format!(
        "it is made for bps:policy@{version}; this host speaks bps:policy@{WORLD_VERSION}: rebuild it against this \
         host's wit/policy.wit"
    );
    LoadError::new(LoadStage::Verified, reason)
}

/// The stage verified: it imports nothing but what the host offers and exports a policy of this version. wasmtime reads
/// the types while it compiles, so this is judged after compilation; nothing of the component has run yet.
pub(crate) fn world(engine: &Engine, component: &Component) -> Result<(), LoadError> {
    let refuse = |reason: String| Err(LoadError::new(LoadStage::Verified, reason));
    let ty = component.component_type();
    for (name, _) in ty.imports(engine) {
        let plain = name.split('@').next().unwrap_or(name);
        if !IMPORTS_ALLOWED.contains(&plain) {
            return refuse(format!("it imports {name}; a policy may import only bps:policy/host"));
        }
    }
    let exported = exports(engine, component);
    let found = exported.iter().find(|name| name.split('@').next() == Some(EXPORT_REQUIRED));
    match found.map(|name| name.split_once('@').map_or("(none)", |(_, version)| version)) {
        Some(WORLD_VERSION) => Ok(()),
        Some(other) => Err(wrong_version(other)),
        None => refuse(format!("it does not export {EXPORT_REQUIRED}@{WORLD_VERSION}; its exports: {exported:?}")),
    }
}

/// Names of the interfaces it imports.
pub(crate) fn imports(engine: &Engine, component: &Component) -> Vec<String> {
    component.component_type().imports(engine).map(|(name, _)| name.to_owned()).collect()
}

/// Names of the interfaces it exports.
pub(crate) fn exports(engine: &Engine, component: &Component) -> Vec<String> {
    let ty = component.component_type();
    let instances = ty.exports(engine).filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentInstance(_)));
    instances.map(|(name, _)| name.to_owned()).collect()
}
