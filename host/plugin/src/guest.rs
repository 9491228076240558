//! One guest's store: what it may use, how long it may take, what it has logged.

use crate::GuestLimits;
use crate::bindings::bps::policy::{host, types};
use crate::fault;
use bps_sched::Fault;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wasmtime::{Engine, ResourceLimiter, Store, UpdateDeadline};

/// Gauges a policy may set.
const GAUGES: usize = 64;

/// What a store of wasmtime carries for us.
pub(crate) struct GuestState {
    limits: Arc<GuestLimits>,
    name: Arc<str>,
    call_started: Instant,
    call_budget: Duration,
    /// Ticks at which the guest was seen running during this call.
    call_ticks: u32,
    /// Ticks that a call's deadline is long.
    call_ticks_max: u32,
    /// Sum over the instance's memories.
    pub(crate) memory_bytes: usize,
    /// A growth was refused during this call: what fails after that failed for want of memory.
    pub(crate) memory_refused: bool,
    gauges: [f64; GAUGES],
    gauges_set: u64,
    log_window: Instant,
    log_lines: u32,
    /// The last error line: a panic's text, when the SDK's hook sent it.
    pub(crate) last_error: Option<String>,
}

/// A store under `limits`.
pub(crate) fn store(engine: &Engine, limits: &Arc<GuestLimits>, name: Arc<str>) -> Store<GuestState> {
    let now = Instant::now();
    let state = GuestState {
        limits: Arc::clone(limits),
        name,
        call_started: now,
        call_budget: Duration::ZERO,
        call_ticks: 0,
        call_ticks_max: 0,
        memory_bytes: 0,
        memory_refused: false,
        gauges: [0.0; GAUGES],
        gauges_set: 0,
        log_window: now,
        log_lines: 0,
        last_error: None,
    };
    let mut store = Store::new(engine, state);
    store.limiter(|state| state);
    store.epoch_deadline_callback(|mut context| {
        let state = context.data_mut();
        state.call_ticks += 1;
        // A deadline is real time; but a guest whose thread the system held back meanwhile is not to blame, so it must
        // also have been seen running at as many ticks as the deadline is long.
        let over = state.call_started.elapsed() >= state.call_budget && state.call_ticks >= state.call_ticks_max;
        Ok(if over { UpdateDeadline::Interrupt } else { UpdateDeadline::Continue(1) })
    });
    store
}

/// Runs `call` within `budget`, with at most `bytes_max` bytes of results.
pub(crate) fn timed<R>(
    store: &mut Store<GuestState>,
    budget: Duration,
    bytes_max: usize,
    call: impl FnOnce(&mut Store<GuestState>) -> wasmtime::Result<R>,
) -> Result<R, Fault> {
    let state = store.data_mut();
    state.call_started = Instant::now();
    state.call_budget = budget;
    state.call_ticks = 0;
    state.call_ticks_max = (budget.as_nanos() / state.limits.tick.as_nanos().max(1)) as u32;
    state.memory_refused = false;
    store.set_epoch_deadline(1);
    store.set_hostcall_fuel(bytes_max);
    call(store).map_err(|error| fault::classify(&error, store.data(), budget))
}

impl GuestState {
    pub(crate) fn gauges(&self) -> Vec<(u32, f64)> {
        let set = (0..GAUGES as u32).filter(|id| self.gauges_set & (1 << id) != 0);
        set.map(|id| (id, self.gauges[id as usize])).collect()
    }

    fn may_log(&mut self) -> bool {
        if self.log_window.elapsed() >= Duration::from_secs(1) {
            let dropped = self.log_lines.saturating_sub(self.limits.log_lines_per_second);
            if dropped > 0 {
                tracing::warn!(policy = %self.name, dropped, "the policy logs too much");
            }
            (self.log_window, self.log_lines) = (Instant::now(), 0);
        }
        self.log_lines = self.log_lines.saturating_add(1);
        self.log_lines <= self.limits.log_lines_per_second
    }
}

impl host::Host for GuestState {
    fn log(&mut self, level: types::Level, mut text: String) {
        let mut end = text.len().min(self.limits.log_line_bytes_max);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        if self.may_log() {
            let policy = &*self.name;
            match level {
                types::Level::Trace => tracing::trace!(policy, "the policy says: {text}"),
                types::Level::Debug => tracing::debug!(policy, "the policy says: {text}"),
                types::Level::Info => tracing::info!(policy, "the policy says: {text}"),
                types::Level::Warn => tracing::warn!(policy, "the policy says: {text}"),
                types::Level::Error => tracing::error!(policy, "the policy says: {text}"),
            }
        }
        if matches!(level, types::Level::Error) {
            self.last_error = Some(text);
        }
    }

    fn metric(&mut self, id: u32, value: f64) {
        if let Some(gauge) = self.gauges.get_mut(id as usize) {
            *gauge = value;
            self.gauges_set |= 1 << id;
        }
    }
}

impl types::Host for GuestState {}

impl ResourceLimiter for GuestState {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        let fits = total <= self.limits.memory_bytes_max;
        if fits {
            self.memory_bytes = total;
        } else {
            self.memory_refused = true;
        }
        Ok(fits)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let fits = desired <= self.limits.table_elements_max;
        self.memory_refused |= !fits;
        Ok(fits)
    }

    fn instances(&self) -> usize {
        self.limits.instances_max
    }

    fn tables(&self) -> usize {
        self.limits.tables_max
    }

    fn memories(&self) -> usize {
        self.limits.tables_max
    }
}
