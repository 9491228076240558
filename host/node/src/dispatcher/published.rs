//! What the dispatcher's thread shows to others: copied at the end of each burst of events, read under short locks.

use crate::{DecideTimes, Ledger, Receipt};
use bps_sched::PolicyStatus;
use bps_types::{Generation, Nanos};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

/// Receipts kept, of own dispatches and of what was executed for others. At 2,000 a second the last two seconds; whoever
/// wants more records.
const RECEIPTS_MAX: usize = 4_096;
/// Longest decide time told apart from longer ones, nanoseconds.
const DECIDE_NANOS_MAX: u64 = 10_000_000_000;

/// The shared state.
pub(crate) struct Published {
    alive: AtomicBool,
    ledger: Mutex<Ledger>,
    receipts: Mutex<VecDeque<Receipt>>,
    devices: Mutex<Vec<DeviceState>>,
    policy: Mutex<PolicyState>,
}

/// A device as the dispatcher sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeviceState {
    pub(crate) up: bool,
    pub(crate) busy: Nanos,
    /// Predicted time until all it holds is done, as of the last publication.
    pub(crate) backlog: Nanos,
    /// Executions it holds.
    pub(crate) running: u32,
}

impl DeviceState {
    const fn new(up: bool) -> Self {
        Self { up, busy: Nanos::ZERO, backlog: Nanos::ZERO, running: 0 }
    }
}

struct PolicyState {
    status: Option<(PolicyStatus, u64)>,
    last_pause: Option<Nanos>,
    /// Of one generation's decisions.
    decide: Histogram<u64>,
    decide_of: Generation,
}

impl Published {
    pub(crate) fn new(device_count: usize) -> Self {
        let decide = Histogram::new_with_bounds(1, DECIDE_NANOS_MAX, 3).expect("1 to 10^10 with 3 digits is a range");
        Self {
            alive: AtomicBool::new(true),
            ledger: Mutex::default(),
            receipts: Mutex::new(VecDeque::with_capacity(RECEIPTS_MAX)),
            devices: Mutex::new(vec![DeviceState::new(true); device_count]),
            policy: Mutex::new(PolicyState { status: None, last_pause: None, decide, decide_of: Generation(0) }),
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    pub(super) fn ended(&self) {
        self.alive.store(false, Ordering::Release);
    }

    pub(crate) fn ledger(&self) -> Ledger {
        *self.ledger.lock()
    }

    pub(super) fn set_ledger(&self, ledger: Ledger) {
        *self.ledger.lock() = ledger;
    }

    pub(crate) fn receipts(&self, last: usize) -> Vec<Receipt> {
        let receipts = self.receipts.lock();
        receipts.iter().skip(receipts.len().saturating_sub(last)).cloned().collect()
    }

    pub(super) fn push_receipt(&self, receipt: Receipt) {
        let mut receipts = self.receipts.lock();
        if receipts.len() == RECEIPTS_MAX {
            receipts.pop_front();
        }
        receipts.push_back(receipt);
    }

    pub(crate) fn device(&self, index: usize) -> DeviceState {
        self.devices.lock().get(index).copied().unwrap_or(DeviceState::new(false))
    }

    pub(super) fn with_device(&self, index: usize, change: impl FnOnce(&mut DeviceState)) {
        if let Some(device) = self.devices.lock().get_mut(index) {
            change(device);
        }
    }

    /// Status of the active policy, and its seed.
    pub(crate) fn policy_status(&self) -> Option<(PolicyStatus, u64)> {
        self.policy.lock().status.clone()
    }

    pub(super) fn set_policy_status(&self, status: PolicyStatus, seed: u64) {
        self.policy.lock().status = Some((status, seed));
    }

    /// Each decision's generation and time; they are counted anew with each other generation.
    pub(super) fn record_decide(&self, times: &[(Generation, Nanos)]) {
        let mut policy = self.policy.lock();
        for (generation, took) in times {
            if policy.decide_of != *generation {
                policy.decide_of = *generation;
                policy.decide.reset();
            }
            policy.decide.saturating_record(took.0.max(1));
        }
    }

    pub(super) fn set_pause(&self, pause: Nanos) {
        self.policy.lock().last_pause = Some(pause);
    }

    pub(crate) fn last_pause(&self) -> Option<Nanos> {
        self.policy.lock().last_pause
    }

    /// Of this generation; nothing where another one decided last.
    pub(crate) fn decide_times(&self, generation: Generation) -> DecideTimes {
        let policy = self.policy.lock();
        let micros = |nanos: u64| nanos as f64 / 1e3;
        if policy.decide.is_empty() || policy.decide_of != generation {
            return DecideTimes::default();
        }
        DecideTimes {
            count: policy.decide.len(),
            p50_us: micros(policy.decide.value_at_quantile(0.5)),
            p99_us: micros(policy.decide.value_at_quantile(0.99)),
            max_us: micros(policy.decide.max()),
        }
    }
}
