//! The one wasmtime engine, its ticker, and the way from bytes to a [`LoadedPolicy`].

use crate::loaded::LoadedPolicy;
use crate::{GuestLimits, LoadError, LoadStage, PluginError, guest::GuestState, prebuilt, verify};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Config, Engine, EngineWeak};

/// Compiles and limits policies. Cheap to clone; the ticker thread ends with the last clone and the last policy.
#[derive(Clone)]
pub struct PolicyEngine {
    pub(crate) engine: Engine,
    pub(crate) linker: Arc<Linker<GuestState>>,
    pub(crate) limits: Arc<GuestLimits>,
    /// Held while a component is compiled.
    compiling: Arc<Mutex<()>>,
    /// What comes with bps and has been compiled, by digest; nothing else, so that it cannot grow. Held while one of these
    /// is compiled, so that whoever needs the same one waits for it.
    compiled: Arc<Mutex<HashMap<String, Component>>>,
}

impl std::fmt::Debug for PolicyEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicyEngine").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl PolicyEngine {
    /// An engine with these limits, and its ticker.
    pub fn new(limits: GuestLimits) -> Result<Self, PluginError> {
        let refuse = |error: wasmtime::Error| PluginError::Engine(format!("{error:#}"));
        let engine = Engine::new(&config()).map_err(refuse)?;
        let mut linker = Linker::new(&engine);
        crate::bindings::Advised::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state).map_err(refuse)?;
        start_ticker(engine.weak(), limits.tick)?;
        let (linker, limits) = (Arc::new(linker), Arc::new(limits));
        Ok(Self { engine, linker, limits, compiling: Arc::default(), compiled: Arc::default() })
    }

    /// This process's own, with the limits that hosts have; it stays to the end. Hosts that run beside or after each other
    /// compile what comes with bps once.
    pub fn shared() -> Result<Self, PluginError> {
        static SHARED: Mutex<Option<PolicyEngine>> = Mutex::new(None);
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        match &*shared {
            Some(engine) => Ok(engine.clone()),
            None => Ok(shared.insert(Self::new(GuestLimits::default())?).clone()),
        }
    }

    /// Takes a component through the stages received, compiled, verified and admitted.
    pub fn load(&self, bytes: &[u8]) -> Result<LoadedPolicy, LoadError> {
        verify::received(bytes, &self.limits)?;
        verify::extent(bytes, &self.limits)?;
        let digest = bps_types::hex(&Sha256::digest(bytes));
        let component = if prebuilt::is_one(bytes) { self.compile_once(&digest, bytes)? } else { self.compile(bytes)? };
        verify::world(&self.engine, &component)?;
        LoadedPolicy::admit(self.clone(), component, bytes, digest)
    }

    fn compile_once(&self, digest: &str, bytes: &[u8]) -> Result<Component, LoadError> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(component) = compiled.get(digest) {
            return Ok(component.clone());
        }
        let component = self.compile(bytes)?;
        compiled.insert(digest.to_owned(), component.clone());
        Ok(component)
    }

    /// Compiles on a thread of its own: a bug of the compiler that this input finds is a panic there, or takes too long
    /// there, and is a refusal here.
    fn compile(&self, bytes: &[u8]) -> Result<Component, LoadError> {
        let refuse = |reason: String| LoadError::new(LoadStage::Compiled, reason);
        let (engine, bytes, turn) = (self.engine.clone(), bytes.to_vec(), self.compiling.clone());
        let (sender, result) = mpsc::sync_channel(1);
        let work = move || {
            // One at a time, one that was given up included: memory for compiling is not multiplied.
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            let compiled = catch_unwind(AssertUnwindSafe(|| Component::from_binary(&engine, &bytes)));
            // The receiver is gone if it waited too long; then nobody wants the result.
            let _ = sender.send(compiled);
        };
        let builder = std::thread::Builder::new().name("bps-policy-compile".into()).stack_size(16 << 20);
        builder.spawn(work).map_err(|error| refuse(format!("no thread to compile on: {error}")))?;
        match result.recv_timeout(self.limits.compile_deadline) {
            Ok(Ok(Ok(component))) => Ok(component),
            Ok(Ok(Err(error))) => Err(refuse(format!("{error:#}"))),
            Ok(Err(_)) => Err(refuse("the compiler panicked on this component".into())),
            Err(_) => Err(refuse(format!("compiling takes longer than {:?}", self.limits.compile_deadline))),
        }
    }
}

/// Deterministic, interruptible, and without the features that policies do not need. Multi-memory stays on: adapters
/// inside a component need it, and the compiler panics without.
fn config() -> Config {
    let mut config = Config::new();
    config
        .concurrency_support(false)
        .epoch_interruption(true)
        .cranelift_nan_canonicalization(true)
        .max_wasm_stack(256 << 10)
        .wasm_memory64(false)
        .wasm_relaxed_simd(false)
        .wasm_wide_arithmetic(false)
        .wasm_multi_memory(true)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(8));
    config
}

/// Advances the epoch every `tick` while the engine lives. A thread and not a task: what it polices must not starve it.
fn start_ticker(engine: EngineWeak, tick: Duration) -> Result<(), PluginError> {
    let work = move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(tick);
        }
    };
    let builder = std::thread::Builder::new().name("bps-policy-tick".into()).stack_size(64 << 10);
    builder.spawn(work).map(drop).map_err(|error| PluginError::Engine(format!("no thread for the ticker: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_with_bps_is_compiled_once() {
        let code = |engine: &PolicyEngine, bytes: &[u8]| {
            let policy = engine.load(bytes).expect("it loads");
            (policy.component().image_range(), policy)
        };
        let engine = PolicyEngine::shared().expect("an engine");
        let known = prebuilt::find("local-only").expect("it is built in").wasm;
        let (first, kept) = code(&engine, known);
        let (second, _) = code(&PolicyEngine::shared().expect("an engine"), known);
        assert_eq!(first, second, "the same code");
        // Anything else is compiled each time and forgotten: a custom section makes another component.
        let other = [known, &[0, 5, 4, b't', b'e', b's', b't']].concat();
        let (first, also_kept) = code(&engine, &other);
        assert_ne!(first, code(&engine, &other).0);
        assert_ne!(kept.digest(), also_kept.digest());
        assert_eq!(engine.compiled.lock().expect("no panic").len(), 1);
    }
}
