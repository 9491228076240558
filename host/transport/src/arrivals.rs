//! What a link hands in: bytes that arrived, measured, and whole messages.
//!
//! Goodput is measured here, where bytes come out of the link, because the sending side only sees how fast buffers take
//! them. Time counts while at least one frame is on its way: then the sender has more to send, and what does not arrive
//! is the link's doing. The bytes with which such a time begins do not count, since nobody knows when they set out.

use bps_types::Nanos;
use bps_wire::{Header, Limits, Message, Progress};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// What becomes of whole messages.
pub(crate) type Deliver = Box<dyn Fn(&Arrivals, Message, &Header) + Send + Sync>;

/// The receiving end of one session, shared by whatever tasks a link reads with.
pub(crate) struct Arrivals {
    /// What this host takes.
    pub(crate) limits: Limits,
    clock: fn() -> Nanos,
    heard: AtomicBool,
    meter: Mutex<Meter>,
    deliver: Deliver,
}

#[derive(Default)]
struct Meter {
    progress: Progress,
    /// Frames on their way.
    open: usize,
    /// Until when `progress.busy` counts, while any is.
    counted: Nanos,
    changed: bool,
}

impl Meter {
    /// Time that passed while frames were on their way.
    fn count(&mut self, now: Nanos) {
        if self.open > 0 {
            self.progress.busy += now.since(self.counted);
            self.counted = now;
        }
    }
}

impl Arrivals {
    pub(crate) fn new(limits: Limits, clock: fn() -> Nanos, deliver: Deliver) -> Self {
        Self { limits, clock, heard: AtomicBool::new(false), meter: Mutex::default(), deliver }
    }

    /// Something came, whatever it was: the peer lives.
    pub(crate) fn heard(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    /// Whether anything came since this was last asked.
    pub(crate) fn take_heard(&self) -> bool {
        self.heard.swap(false, Ordering::Relaxed)
    }

    /// Bytes of a frame that is no control message; `begins` with its first.
    pub(crate) fn bytes(&self, bytes: u64, begins: bool) {
        let now = (self.clock)();
        self.heard();
        let mut meter = self.meter.lock();
        meter.count(now);
        meter.progress.received += bytes;
        meter.changed = true;
        if meter.open > 0 {
            meter.progress.busy_bytes += bytes;
        }
        if begins {
            meter.counted = now;
            meter.open += 1;
        }
    }

    /// Such a frame is complete, or will never be.
    pub(crate) fn ends(&self) {
        let now = (self.clock)();
        let mut meter = self.meter.lock();
        meter.count(now);
        meter.open = meter.open.saturating_sub(1);
    }

    /// Bytes that the peer sent and gave up before they came.
    pub(crate) fn waived(&self, bytes: u64) {
        let mut meter = self.meter.lock();
        meter.progress.waived = meter.progress.waived.saturating_add(bytes);
        meter.changed = true;
    }

    /// Hands a whole message to the session.
    pub(crate) fn message(&self, message: Message, header: &Header) {
        (self.deliver)(self, message, header);
    }

    /// What arrived so far; none if nothing came since the last report and nothing is on its way.
    pub(crate) fn report(&self) -> Option<Progress> {
        let now = (self.clock)();
        let mut meter = self.meter.lock();
        meter.count(now);
        let worth = meter.changed || meter.open > 0;
        meter.changed = false;
        worth.then_some(meter.progress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    static NOW: AtomicU64 = AtomicU64::new(0);

    fn clock() -> Nanos {
        Nanos(NOW.load(Ordering::Relaxed))
    }

    fn at(nanos: u64) {
        NOW.store(nanos, Ordering::Relaxed);
    }

    /// Two frames that overlap, a pause, and one that stalls: 3,000 bytes in 40 ns, the pause not counted.
    #[test]
    fn only_time_with_a_frame_on_its_way_counts() {
        let arrivals = Arrivals::new(Limits { frame_bytes_max: 1 << 20 }, clock, Box::new(|_, _, _| ()));
        assert_eq!(arrivals.report(), None);
        at(100);
        arrivals.bytes(500, true);
        at(110);
        arrivals.bytes(1_000, true);
        at(120);
        arrivals.bytes(1_000, false);
        arrivals.ends();
        arrivals.ends();
        at(1_000);
        arrivals.bytes(64, true);
        at(1_010);
        arrivals.bytes(1_000, false);
        at(1_020);
        let progress = Progress { received: 3_564, waived: 0, busy_bytes: 3_000, busy: Nanos(40) };
        assert_eq!(arrivals.report(), Some(progress));
        arrivals.ends();
        assert_eq!(arrivals.report(), None);
        assert!(arrivals.take_heard() && !arrivals.take_heard());
    }
}
