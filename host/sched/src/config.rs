//! What can be set about scheduling, and why each has the value it has.

use bps_types::Nanos;

/// Bounds and times of the scheduler.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Requests that wait per model, where the model does not say. Enough for half a second at 2,000 requests a second.
    pub queue_requests_max: u32,
    /// Bytes that wait per model.
    pub queue_bytes_max: u64,
    /// Executions a device holds at once: one running and one prefetched, so that it never idles between batches.
    pub device_credits: u32,
    /// Executions after the first that a request may have.
    pub retries_max: u8,
    /// A request that waits longer than this, or twice its model's SLO if that is more, while a capable device was idle,
    /// proves a stall.
    pub stall_floor: Nanos,
    /// A stage that takes longer than this, or twenty times its prediction if that is more, has timed out.
    pub stage_timeout_floor: Nanos,
    /// The same for stages on other hosts: this, or four times the prediction if that is more. Shorter than at home, for
    /// what is lost on the way is never heard of again.
    pub remote_timeout_floor: Nanos,
    /// How long another host's device is left alone after it refused a stage or did not answer in time.
    pub remote_pause: Nanos,
    /// Target of a decide call; p99 above it during probation rolls back.
    pub decide_budget: Nanos,
    /// How long a new policy is on probation: this long and `probation_decisions`, whichever ends first.
    pub probation: Nanos,
    /// See `probation`.
    pub probation_decisions: u64,
    /// SLO misses of a policy on probation may exceed its predecessor's share by this (0.1: ten points).
    pub probation_miss_margin: f64,
    /// Wait before the first rebuild after a fault; doubles with each.
    pub rebuild_backoff: Nanos,
    /// More hard faults than this within `fault_window` quarantine the digest.
    pub faults_max: usize,
    /// See `faults_max`.
    pub fault_window: Nanos,
    /// How long a quarantined digest is refused.
    pub quarantine: Nanos,
    /// The first half of the trace ids that are made up for plans whose clients brought none. The driver draws it, so that
    /// no two runs of any hosts have the same.
    pub trace_prefix: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            queue_requests_max: 1_024,
            queue_bytes_max: 256 << 20,
            device_credits: 2,
            retries_max: 2,
            stall_floor: Nanos::from_millis(250),
            stage_timeout_floor: Nanos::from_secs(10),
            remote_timeout_floor: Nanos::from_secs(2),
            remote_pause: Nanos::from_millis(50),
            decide_budget: Nanos::from_millis(1),
            probation: Nanos::from_secs(30),
            probation_decisions: 10_000,
            probation_miss_margin: 0.1,
            rebuild_backoff: Nanos::from_millis(100),
            faults_max: 3,
            fault_window: Nanos::from_secs(60),
            quarantine: Nanos::from_secs(600),
            trace_prefix: 0,
        }
    }
}
