//! What a link hands in: bytes that arrived, measured, and whole messages.
//!
//! Goodput is measured here, where bytes come out of the link, because the sending side only sees how fast buffers take
//! them. Time counts while at least one frame is on its way: then the sender has more to send, and what does not arrive
//! is the link's doing. The lump of bytes with which such a time begins does not count, since nobody knows when it set out:
//! it may have waited for this process to be scheduled.

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

/// What comes within this time of a frame's first byte is its first lump.
const LUMP: Nanos = Nanos::from_micros(150);

#[derive(Default)]
struct Meter {
    progress: Progress,
    /// Frames on their way.
    open: usize,
    /// Until when `progress.busy` counts, while any is; in the first lump, when its last byte came.
    counted: Nanos,
    /// When the first lump began, until it is over, and its bytes after the first piece.
    lump: Option<(Nanos, u64)>,
    changed: bool,
    /// Of `progress.received`.
    reported: u64,
}

impl Meter {
    /// Time that passed while frames were on their way.
    fn count(&mut self, now: Nanos) {
        if self.lump.is_some_and(|(began, _)| now.since(began) > LUMP) {
            self.lump = None;
        }
        if self.open > 0 && self.lump.is_none() {
            self.progress.busy += now.since(self.counted);
            self.counted = now;
        }
    }

    fn arrive(&mut self, bytes: u64, begins: bool, now: Nanos) {
        self.count(now);
        self.progress.received += bytes;
        self.changed = true;
        match &mut self.lump {
            _ if self.open == 0 => {
                self.lump = Some((now, 0));
                self.counted = now;
            }
            Some((_, lump_bytes)) => {
                *lump_bytes += bytes;
                self.counted = now;
            }
            None => self.progress.busy_bytes += bytes,
        }
        self.open += usize::from(begins);
    }

    fn end(&mut self, now: Nanos) {
        self.count(now);
        self.open = self.open.saturating_sub(1);
        // All of it in one lump: a fast link, or a short frame. Counted after all, it weighs as little as it lasted.
        if self.open == 0
            && let Some((began, bytes)) = self.lump.take()
        {
            self.progress.busy += self.counted.since(began);
            self.progress.busy_bytes += bytes;
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
        self.meter.lock().arrive(bytes, begins, now);
    }

    /// Such a frame is complete, or will never be.
    pub(crate) fn ends(&self) {
        let now = (self.clock)();
        self.meter.lock().end(now);
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

    /// Bytes that arrived since the last report.
    pub(crate) fn unreported(&self) -> u64 {
        let meter = self.meter.lock();
        meter.progress.received - meter.reported
    }

    /// What arrived so far; none if nothing came since the last report and nothing is on its way.
    pub(crate) fn report(&self) -> Option<Progress> {
        let now = (self.clock)();
        let mut meter = self.meter.lock();
        meter.count(now);
        let worth = meter.changed || meter.open > 0;
        meter.changed = false;
        meter.reported = meter.progress.received;
        worth.then_some(meter.progress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: u64 = 1_000;

    /// Pieces at so many microseconds: bytes, whether a frame begins, how many end with it.
    fn measured(pieces: &[(u64, u64, bool, usize)]) -> Progress {
        let mut meter = Meter::default();
        for &(at, bytes, begins, ends) in pieces {
            meter.arrive(bytes, begins, Nanos(at * US));
            (0..ends).for_each(|_| meter.end(Nanos(at * US)));
        }
        meter.progress
    }

    fn progress(received: u64, busy_bytes: u64, busy_us: u64) -> Progress {
        Progress { received, waived: 0, busy_bytes, busy: Nanos(busy_us * US) }
    }

    #[test]
    fn a_lump_and_what_follows_it() {
        // 10,000 bytes lay there; then 1,000 come every millisecond.
        let pieces = [(0, 64, true, 0), (50, 9_936, false, 0), (1_050, 1_000, false, 0), (2_050, 1_000, false, 1)];
        assert_eq!(measured(&pieces), progress(12_000, 2_000, 2_000));
    }

    #[test]
    fn time_without_a_frame_does_not_count_and_overlapping_frames_count_once() {
        let pieces = [
            (0, 64, true, 0),
            (1_000, 1_000, true, 0),
            (2_000, 1_000, false, 2),
            (50_000, 64, true, 0),
            (51_000, 1_000, false, 1),
        ];
        assert_eq!(measured(&pieces), progress(3_128, 3_000, 3_000));
    }

    #[test]
    fn a_frame_in_one_lump_counts_little() {
        assert_eq!(measured(&[(7, 64, true, 0), (57, 20_000, false, 1)]), progress(20_064, 20_000, 50));
        assert_eq!(measured(&[(7, 100, true, 1)]), progress(100, 0, 0));
    }

    #[test]
    fn a_stall_counts_while_it_lasts() {
        let mut meter = Meter::default();
        meter.arrive(64, true, Nanos(0));
        meter.count(Nanos(100 * US));
        assert_eq!(meter.progress.busy, Nanos(0), "still the first lump");
        meter.count(Nanos(5_000 * US));
        assert_eq!(meter.progress.busy, Nanos(5_000 * US));
    }

    #[test]
    fn there_is_a_report_when_something_came_or_is_to_come() {
        let arrivals = Arrivals::new(Limits { frame_bytes_max: 1 << 20 }, || Nanos(0), Box::new(|_, _, _| ()));
        assert_eq!(arrivals.report(), None);
        arrivals.bytes(100, true);
        assert_eq!(arrivals.unreported(), 100);
        assert!(arrivals.report().is_some() && arrivals.report().is_some() && arrivals.unreported() == 0);
        arrivals.ends();
        assert_eq!(arrivals.report(), None);
        assert!(arrivals.take_heard() && !arrivals.take_heard());
    }
}
