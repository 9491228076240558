//! What the host offers: a log and gauges. Natively both do nothing, so a policy's tests need no host.

use crate::Level;

/// Writes a line to the host's log: 64 lines a second, 4 KiB each, the rest is dropped.
pub fn log(level: Level, text: &str) {
    #[cfg(target_family = "wasm")]
    crate::__bindings::bps::policy::host::log(level, text);
    #[cfg(not(target_family = "wasm"))]
    let _ = (level, text);
}

/// Sets gauge `id` (0 to 63) of this policy; shown on the host's metrics page.
pub fn metric(id: u32, value: f64) {
    #[cfg(target_family = "wasm")]
    crate::__bindings::bps::policy::host::metric(id, value);
    #[cfg(not(target_family = "wasm"))]
    let _ = (id, value);
}

/// Sends the text of a panic to the host's log before the abort, which alone would say only `unreachable`.
#[cfg(target_family = "wasm")]
pub(crate) fn report_panics() {
    std::panic::set_hook(Box::new(|info| log(Level::Error, &info.to_string())));
}
