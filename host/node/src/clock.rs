//! The node's one clock: monotonic, counted from the first time anything in this process asked.

use bps_sched::Stopwatch;
use bps_types::Nanos;
use cpu_time::ThreadTime;
use std::sync::LazyLock;
use std::time::Instant;

static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What policies are measured with.
pub(crate) const STOPWATCH: Stopwatch = Stopwatch { time: now, work: worked };

/// Processor time of this thread.
fn worked() -> Nanos {
    Nanos::from(ThreadTime::now().as_duration())
}

/// Nanoseconds since the clock began. A plain function, so that the scheduler can take it.
pub(crate) fn now() -> Nanos {
    Nanos::from(BEGAN.elapsed())
}
