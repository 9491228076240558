//! The node's one clock: monotonic, counted from the first time anything in this process asked.

use bps_types::Nanos;
use std::sync::LazyLock;
use std::time::Instant;

static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds since the clock began. A plain function, so that the scheduler can take it as its stopwatch.
pub(crate) fn now() -> Nanos {
    Nanos::from(BEGAN.elapsed())
}
