//! What one side of a session thinks of its link: goodput, round trip and the difference of the clocks.
//!
//! **Goodput** is bytes over busy time, both as the receiver measured them (`arrivals.rs`) and both fading: with busy time,
//! so that a drop shows within [`FADE_BUSY`] of traffic, and with idle time, so that an old figure gives way to probes.
//! Where the link was never empty from one report to the next, which the sender knows, what arrived over that time is what it
//! carries: a receiver whose core is busy finds all that has come at once, and would take that for speed. It was never empty
//! where something is still on its way that was sent a round trip before the first of the two reports came: on an empty link
//! it would have been there when that was written. That round trip is one of pings with nothing before them: others wait in
//! the very queue that is looked for. Where the link does fall empty in between, that deception has a bound, too: of a message
//! that set out on an empty link the sender sees how long it took until the peer reported it whole. The quickest of the last
//! ones, its bytes over that time less the round trip, is about what the link carries if that is slow, and it carries no
//! more than half as much again.
//! **Round trip** is the least of the last seconds' pings, smoothed: whatever is above it is our own queue, which the
//! backlog tells already. Unless the backlog does not explain it: where each of a second's pings took longer than that and
//! what was queued before it, the way itself has become longer, and older pings are forgotten. **Clock offset** comes from
//! that same ping, as NTP does it: the faster a ping, the less its two ways can differ. By more than that, two pings differ
//! only where a clock has jumped between them.

use bps_types::Nanos;
use bps_wire::Progress;
use std::collections::VecDeque;

/// Busy time in which a figure loses all but a third of its weight.
pub(crate) const FADE_BUSY: Nanos = Nanos::from_millis(80);
/// The same for idle time.
const FADE_IDLE: Nanos = Nanos::from_secs(4);
/// How long a ping counts; longer than most bursts, shorter than a walk to another room.
const PING_WINDOW: Nanos = Nanos::from_secs(8);
/// A longer way is believed after so long and so many pings that all say so.
const RISE_WINDOW: Nanos = Nanos::from_secs(1);
const RISE_PINGS: usize = 5;
/// And if even the quickest of them, less its queue, is longer by half and this.
const RISE_NANOS: u64 = 2_000_000;
/// How far two clocks drift apart while a ping counts: more than the worst of quartzes.
const DRIFT_NANOS: u64 = 5_000_000;
/// Pings that may be unanswered; ten a second are sent.
const PENDING_MAX: usize = 64;
/// A message of fewer bytes says nothing of a speed; of one that takes less time than this, how long its reports took says
/// more, and a link that quick deceives nobody.
const TRANSIT_BYTES_MIN: u64 = 4 << 10;
const TRANSIT_MIN: Nanos = Nanos::from_millis(3);
/// How long one counts, how many there must be (a single one may have waited for a host that was starting), and how many are
/// remembered.
const TRANSIT_WINDOW: Nanos = Nanos::from_secs(4);
const TRANSITS_MIN: usize = 4;
const TRANSITS_MAX: usize = 64;
/// What a link may carry beyond the quickest message.
const TRANSIT_MARGIN: f64 = 1.5;
/// What is sent within so long of the last is not remembered by itself.
const SENT_GRAIN: Nanos = Nanos::from_millis(1);
/// Sendings that are remembered: longer than any round trip that is worth planning for.
const SENT_MAX: usize = 2_048;
/// Assumed before anything was measured: 100 Mbit/s.
const BYTES_PER_SECOND_GUESS: f32 = 12.5e6;
/// Busy time below which a report says nothing about a speed.
const BUSY_MIN: Nanos = Nanos::from_micros(20);

#[derive(Debug, Default)]
pub(crate) struct Gauge {
    last: Progress,
    /// What had been accepted for sending, and when: as far back as it is of use.
    sent: VecDeque<(Nanos, u64)>,
    /// The message that set out on an empty link last, until it is there: when, behind how many bytes, and its end.
    under_way: Option<(Nanos, u64, u64)>,
    /// Bytes a second of the last ones that arrived, and when; none: too quick to tell.
    transits: VecDeque<(Nanos, Option<f64>)>,
    /// When the last report came.
    heard: Nanos,
    /// What it said had arrived.
    received: u64,
    /// Of the last report that was worth something.
    updated: Nanos,
    /// Faded sums.
    bytes: f64,
    busy_nanos: f64,
    /// Pings that are out: token, when, and how long what was queued before it takes.
    pending: VecDeque<(u64, Nanos, Nanos)>,
    next_token: u64,
    /// Answered pings of the window, each better than all after it: when, round trip, clock offset.
    pings: VecDeque<(Nanos, Nanos, i64)>,
    /// Those of the last moments: when, and the round trip less the queue.
    recent: VecDeque<(Nanos, Nanos)>,
    rtt_nanos: Option<f64>,
    /// Round trip of pings with nothing queued before them.
    way_nanos: Option<f64>,
}

impl Gauge {
    /// A ping goes out behind so many bytes; its token.
    pub(crate) fn ping(&mut self, now: Nanos, backlog_bytes: u64) -> u64 {
        while self.transits.front().is_some_and(|(at, _)| now.since(*at) > TRANSIT_WINDOW) {
            self.transits.pop_front();
        }
        self.next_token += 1;
        if self.pending.len() >= PENDING_MAX {
            self.pending.pop_front();
        }
        let queued = backlog_bytes as f64 / f64::from(self.bytes_per_second()) * 1e9;
        self.pending.push_back((self.next_token, now, Nanos(queued as u64)));
        self.next_token
    }

    /// A pong came; false if it answers nothing that is out.
    pub(crate) fn pong(&mut self, token: u64, peer_at: Nanos, now: Nanos) -> bool {
        let Some(index) = self.pending.iter().position(|(t, ..)| *t == token) else { return false };
        let Some((_, asked, queued)) = self.pending.remove(index) else { return false };
        let rtt = now.since(asked);
        let offset = peer_at.signed_since(asked + Nanos(rtt.0 / 2));
        self.notice_jump(rtt, offset);
        while self.pings.back().is_some_and(|(_, worse, _)| *worse >= rtt) {
            self.pings.pop_back();
        }
        self.pings.push_back((now, rtt, offset));
        while self.pings.len() > 1 && self.pings.front().is_some_and(|(at, ..)| now.since(*at) > PING_WINDOW) {
            self.pings.pop_front();
        }
        if queued == Nanos::ZERO {
            // A shorter one is believed at once, a longer one may have been delayed.
            let seen = rtt.0 as f64;
            self.way_nanos = Some(self.way_nanos.map_or(seen, |way| seen.min(way + (seen - way) / 4.0)));
        }
        self.notice_rise(now, Nanos(rtt.0.saturating_sub(queued.0)));
        if let Some((_, least, _)) = self.pings.front() {
            let least = least.0 as f64;
            self.rtt_nanos = Some(self.rtt_nanos.map_or(least, |rtt| rtt + (least - rtt) / 4.0));
        }
        true
    }

    /// Forgets the pings from before one of the clocks jumped.
    fn notice_jump(&mut self, rtt: Nanos, offset: i64) {
        let jumped = |(_, best, before): &(Nanos, Nanos, i64)| {
            offset.abs_diff(*before) > (rtt.0 / 2).saturating_add(best.0 / 2).saturating_add(DRIFT_NANOS)
        };
        if self.pings.front().is_some_and(jumped) {
            self.pings.clear();
        }
    }

    /// Forgets the pings from before the way became longer.
    fn notice_rise(&mut self, now: Nanos, rtt: Nanos) {
        self.recent.push_back((now, rtt));
        while self.recent.front().is_some_and(|(at, _)| now.since(*at) > RISE_WINDOW) {
            self.recent.pop_front();
        }
        let least = self.recent.iter().map(|(_, rtt)| rtt.0).min().unwrap_or_default();
        let known = self.pings.front().map_or(u64::MAX, |(_, known, _)| known.0);
        let is_longer = least.saturating_sub(RISE_NANOS) > known.saturating_add(known / 2);
        if self.recent.len() >= RISE_PINGS && is_longer {
            self.pings.retain(|(at, ..)| now.since(*at) <= RISE_WINDOW);
            self.rtt_nanos = None;
            self.way_nanos = Some(least as f64);
        }
    }

    /// So many bytes were sent, and with them so many in all.
    pub(crate) fn sent(&mut self, bytes: u64, accepted: u64, in_flight: u64, now: Nanos) {
        if in_flight <= bytes && bytes >= TRANSIT_BYTES_MIN {
            self.under_way = Some((now, accepted.saturating_sub(bytes), accepted));
        }
        let before = self.sent.len().checked_sub(2).map(|at| self.sent[at].0);
        if before.is_some_and(|at| now.since(at) < SENT_GRAIN) {
            self.sent.pop_back();
        } else if self.sent.len() >= SENT_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back((now, accepted));
    }

    /// Something that was sent will not arrive: what is remembered of sendings holds no longer.
    pub(crate) fn recalled(&mut self) {
        self.sent.clear();
        self.under_way = None;
    }

    /// Notes how quick the message was that set out on an empty link, once it is there.
    fn arrived(&mut self, gone: u64, now: Nanos) {
        let Some((set_out, before, end)) = self.under_way.filter(|(_, _, end)| gone >= *end) else { return };
        self.under_way = None;
        let Some(way) = self.way_nanos else { return };
        let took = now.since(set_out).0 as f64 - way;
        let speed = (took > TRANSIT_MIN.0 as f64).then(|| (end - before) as f64 / took * 1e9);
        if self.transits.len() >= TRANSITS_MAX {
            self.transits.pop_front();
        }
        self.transits.push_back((now, speed));
    }

    /// Bytes a second that the link carries at most, as far as messages tell that set out while it was empty.
    fn most(&self) -> Option<f64> {
        if self.transits.len() < TRANSITS_MIN {
            return None;
        }
        let quickest = |best: f64, (_, speed): &(Nanos, Option<f64>)| Some(best.max((*speed)?));
        self.transits.iter().try_fold(0.0, quickest).map(|speed| speed * TRANSIT_MARGIN)
    }

    /// Whether something was under way all the time since the last report, where this one says that so much is there.
    fn was_never_empty(&mut self, gone: u64, accepted: u64) -> bool {
        let Some(way) = self.way_nanos else { return false };
        let by = self.heard.0.saturating_sub(way as u64);
        while self.sent.get(1).is_some_and(|(at, _)| at.0 <= by) {
            self.sent.pop_front();
        }
        self.sent.front().is_some_and(|(at, sent)| at.0 <= by && gone < accepted.min(*sent))
    }

    /// The peer says what arrived, of so many bytes that were accepted. Sums that run backwards are ignored.
    pub(crate) fn progress(&mut self, report: &Progress, accepted: u64, now: Nanos) {
        let gone = report.received.saturating_add(report.waived);
        self.arrived(gone, now);
        let is_full = self.was_never_empty(gone, accepted);
        if is_full && now.since(self.heard) < BUSY_MIN {
            // Read together with the last one: what it brings counts with the next.
            return;
        }
        let before = std::mem::replace(&mut self.heard, now);
        let (bytes, busy) = if is_full {
            (report.received.checked_sub(self.received), now.since(before))
        } else {
            (report.busy_bytes.checked_sub(self.last.busy_bytes), report.busy.since(self.last.busy))
        };
        self.received = report.received;
        let Some(bytes) = bytes else { return };
        if busy < BUSY_MIN {
            return;
        }
        let idle = now.since(self.updated + busy);
        let kept = fading(busy, FADE_BUSY) * fading(idle, FADE_IDLE);
        // A stretch of steady speed must weigh the same in one report and in many.
        let added = (1.0 - fading(busy, FADE_BUSY)) * FADE_BUSY.0 as f64;
        let speed = bytes as f64 / busy.0 as f64;
        self.bytes = self.bytes * kept + speed * added;
        self.busy_nanos = self.busy_nanos * kept + added;
        (self.last, self.updated) = (*report, now);
    }

    pub(crate) fn bytes_per_second(&self) -> f32 {
        if self.busy_nanos <= 0.0 {
            return BYTES_PER_SECOND_GUESS;
        }
        let seen = self.bytes / self.busy_nanos * 1e9;
        let most = self.most().unwrap_or(f64::INFINITY);
        // At least one byte a second: a stalled link must not become a division by zero elsewhere.
        seen.min(most).max(1.0) as f32
    }

    pub(crate) fn rtt(&self) -> Nanos {
        Nanos(self.rtt_nanos.unwrap_or_default() as u64)
    }

    pub(crate) fn clock_offset_nanos(&self) -> i64 {
        self.pings.front().map_or(0, |(.., offset)| *offset)
    }
}

fn fading(span: Nanos, scale: Nanos) -> f64 {
    (-(span.0 as f64) / scale.0 as f64).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream at so many bytes per millisecond, reported every 25 ms for `ms`.
    fn stream(gauge: &mut Gauge, total: &mut Progress, now: &mut Nanos, bytes_per_ms: u64, ms: u64) {
        for _ in 0..ms / 25 {
            *now += Nanos::from_millis(25);
            total.busy += Nanos::from_millis(25);
            total.busy_bytes += bytes_per_ms * 25;
            gauge.progress(total, 0, *now);
        }
    }

    #[test]
    fn a_drop_to_a_tenth_shows_within_300_ms() {
        let (mut gauge, mut total, mut now) = (Gauge::default(), Progress::default(), Nanos::ZERO);
        assert_eq!(gauge.bytes_per_second(), BYTES_PER_SECOND_GUESS);
        stream(&mut gauge, &mut total, &mut now, 12_500, 1_000);
        assert!((gauge.bytes_per_second() - 12.5e6).abs() < 1e4, "{}", gauge.bytes_per_second());
        stream(&mut gauge, &mut total, &mut now, 1_250, 300);
        let seen = gauge.bytes_per_second();
        assert!((1.2e6..1.8e6).contains(&seen), "{seen}");
    }

    #[test]
    fn a_receiver_that_finds_everything_at_once_does_not_make_a_link_quicker() {
        // 10 Mbit/s that are never empty, at a receiver that reads 9.5 kB in 50 us whenever it has time.
        let (mut gauge, mut total, mut now) = (Gauge::default(), Progress::default(), Nanos::ZERO);
        let token = gauge.ping(now, 0);
        gauge.pong(token, now, now + Nanos::from_millis(1));
        for _ in 0..40 {
            gauge.sent(1_000, total.received + 80_000, 80_000, now);
            now += Nanos::from_millis(25);
            total.received += 31_250;
            total.busy_bytes += 31_250;
            total.busy += Nanos::from_micros(150);
            gauge.progress(&total, total.received + 48_750, now);
        }
        let seen = gauge.bytes_per_second();
        assert!((1.2e6..1.4e6).contains(&seen), "{seen}");
    }

    #[test]
    fn a_queue_that_stands_hides_neither_itself_nor_reports_that_come_together() {
        // 10 Mbit/s with 50 kB always under way: pings wait 40 ms behind them, reports come in pairs.
        let (mut gauge, mut total, mut now) = (Gauge::default(), Progress::default(), Nanos::ZERO);
        let token = gauge.ping(now, 0);
        gauge.pong(token, now, now + Nanos::from_millis(1));
        for round in 0..2_000u64 {
            now += Nanos::from_millis(8);
            for part in 0..2 {
                total.received += 5_000;
                total.busy_bytes += 5_000;
                total.busy += Nanos::from_micros(25);
                gauge.progress(&total, total.received + 50_000, now + Nanos::from_micros(part));
            }
            gauge.sent(5_000, total.received + 50_000, 50_000, now);
            if round % 12 == 0 {
                let token = gauge.ping(now, 50_000);
                assert!(gauge.pong(token, now, now + Nanos::from_millis(40)));
            }
        }
        let seen = gauge.bytes_per_second();
        assert!((1.2e6..1.3e6).contains(&seen), "{seen}");
    }

    #[test]
    fn small_messages_that_are_read_at_once_do_not_make_a_link_quicker() {
        // 10 kB every 70 ms over 10 Mbit/s and 1 ms: 8 ms each, read late and in 50 us by a receiver whose core is busy.
        let (mut gauge, mut total, mut now) = (Gauge::default(), Progress::default(), Nanos::ZERO);
        let token = gauge.ping(now, 0);
        gauge.pong(token, now, now + Nanos::from_millis(1));
        for round in 0..200u64 {
            gauge.sent(10_000, total.received + 10_000, 10_000, now);
            now += Nanos::from_millis(9 + round % 5);
            total.received += 10_000;
            total.busy_bytes += 10_000;
            total.busy += Nanos::from_micros(50);
            gauge.progress(&total, total.received, now);
            now += Nanos::from_millis(60 - round % 5);
        }
        let seen = gauge.bytes_per_second();
        assert!((1.2e6..2e6).contains(&seen), "{seen}");
        // Old ones are forgotten, though nothing else is sent, and a single one says nothing.
        now += Nanos::from_secs(5);
        gauge.ping(now, 0);
        gauge.sent(10_000, total.received + 10_000, 10_000, now);
        now += Nanos::from_secs(2);
        total.received += 10_000;
        gauge.progress(&total, total.received, now);
        assert!(gauge.bytes_per_second() > 2e6, "{}", gauge.bytes_per_second());
        // On a quick link such messages say nothing, and what the receiver measures counts.
        for _ in 0..80 {
            gauge.sent(10_000, total.received + 10_000, 10_000, now);
            now += Nanos::from_millis(2);
            total.received += 10_000;
            total.busy_bytes += 10_000;
            total.busy += Nanos::from_micros(100);
            gauge.progress(&total, total.received, now);
            now += Nanos::from_millis(60);
        }
        assert!(gauge.bytes_per_second() > 50e6, "{}", gauge.bytes_per_second());
    }

    #[test]
    fn what_was_recalled_is_not_waited_for() {
        let (mut gauge, mut total, mut now) = (Gauge::default(), Progress::default(), Nanos::ZERO);
        let token = gauge.ping(now, 0);
        gauge.pong(token, now, now + Nanos::from_millis(1));
        stream(&mut gauge, &mut total, &mut now, 12_500, 1_000);
        total.received = total.busy_bytes;
        let before = total.received;
        for n in 1..=4 {
            now += Nanos::from_millis(3);
            gauge.sent(25_000, before + 25_000 * n, 25_000 * n, now);
        }
        // Two of the four are recalled, two arrive; after a pause 60 kB more.
        gauge.recalled();
        for (ms, bytes, accepted) in [(10, 50_000, 50_000), (2_000, 12_500, 110_000)] {
            now += Nanos::from_millis(ms);
            total.received += bytes;
            total.busy_bytes += bytes;
            total.busy += Nanos::from_micros(bytes * 80 / 1_000);
            gauge.progress(&total, before + accepted, now);
        }
        assert!((11e6..14e6).contains(&gauge.bytes_per_second()), "{}", gauge.bytes_per_second());
    }

    #[test]
    fn what_a_long_way_takes_does_not_make_a_link_slower() {
        // 12.5 kB every 100 ms over 10 Mbit/s and 40 ms, so that something is under way for half of the time.
        let (mut gauge, mut total, mut now) = (Gauge::default(), Progress::default(), Nanos::ZERO);
        let token = gauge.ping(now, 0);
        gauge.pong(token, now, now + Nanos::from_millis(80));
        let mut accepted = 0;
        for _ in 0..60 {
            accepted += 12_500;
            gauge.sent(12_500, accepted, 12_500, now);
            for ms in 1..=100 {
                now += Nanos::from_millis(1);
                // A report is 40 ms old when it comes.
                if (80..90).contains(&ms) {
                    total.received += 1_250;
                    total.busy_bytes += 1_250;
                    total.busy += Nanos::from_millis(1);
                }
                if ms % 5 == 0 {
                    gauge.progress(&total, accepted, now);
                }
            }
        }
        let seen = gauge.bytes_per_second();
        assert!((1.2e6..1.3e6).contains(&seen), "{seen}");
    }

    #[test]
    fn probes_replace_what_is_old() {
        let (mut gauge, mut total, mut now) = (Gauge::default(), Progress::default(), Nanos::ZERO);
        stream(&mut gauge, &mut total, &mut now, 12_500, 1_000);
        for _ in 0..8 {
            now += Nanos::from_secs(3);
            total.busy += Nanos::from_millis(10);
            total.busy_bytes += 12_500;
            gauge.progress(&total, 0, now);
        }
        let seen = gauge.bytes_per_second();
        assert!((1.2e6..1.6e6).contains(&seen), "{seen}");
    }

    #[test]
    fn the_fastest_ping_tells_rtt_and_clock() {
        let mut gauge = Gauge::default();
        // The peer's clock is 1 s ahead; each way takes 1 ms, and some pings wait 50 ms on the way out.
        for n in 0..40 {
            let (asked, queued) = (Nanos::from_millis(n * 100), Nanos::from_millis(if n % 4 == 0 { 0 } else { 50 }));
            let token = gauge.ping(asked, 0);
            let there = asked + queued + Nanos::from_millis(1_001);
            assert!(gauge.pong(token, there, asked + queued + Nanos::from_millis(2)));
        }
        assert_eq!((gauge.rtt(), gauge.clock_offset_nanos()), (Nanos::from_millis(2), 1_000_000_000));
        assert!(!gauge.pong(1, Nanos::ZERO, Nanos::MAX), "answered already");
        assert!(!gauge.pong(999, Nanos::ZERO, Nanos::MAX), "never asked");
    }

    #[test]
    fn a_clock_that_jumps_is_followed_with_the_next_ping() {
        let mut gauge = Gauge::default();
        let (mut asked, ms) = (Nanos::ZERO, Nanos::from_millis);
        // The peer's clock is two hours ahead, then three, then one. Its ways are never equally long.
        for ahead in [7_200, 10_800, 3_600].map(Nanos::from_secs) {
            for n in 0..40 {
                asked += ms(100);
                let token = gauge.ping(asked, 0);
                let there = asked + if n % 2 == 0 { ms(1) } else { ms(9) };
                assert!(gauge.pong(token, there + ahead, asked + ms(10)));
                let off = gauge.clock_offset_nanos().abs_diff(ahead.0 as i64);
                assert!(off <= 5_000_000, "ping {n}: off by {off} ns");
            }
        }
        assert_eq!(gauge.rtt(), ms(10));
    }

    #[test]
    fn a_longer_way_shows_within_a_second_and_a_queue_does_not() {
        let mut gauge = Gauge::default();
        let mut asked = Nanos::ZERO;
        let mut pings = |gauge: &mut Gauge, ms: u64, backlog: u64| {
            for _ in 0..15 {
                asked += Nanos::from_millis(100);
                let token = gauge.ping(asked, backlog);
                assert!(gauge.pong(token, asked, asked + Nanos::from_millis(ms)));
            }
        };
        pings(&mut gauge, 1, 0);
        // 50 ms of the guessed 12.5 MB a second are queued.
        pings(&mut gauge, 51, 625_000);
        assert_eq!(gauge.rtt(), Nanos::from_millis(1));
        pings(&mut gauge, 40, 0);
        assert_eq!(gauge.rtt(), Nanos::from_millis(40));
        pings(&mut gauge, 20, 0);
        assert!(gauge.rtt() < Nanos::from_millis(21), "what is shorter shows as it always did: {:?}", gauge.rtt());
    }

    #[test]
    fn sums_that_run_backwards_are_ignored() {
        let (mut gauge, mut total, mut now) = (Gauge::default(), Progress::default(), Nanos::ZERO);
        stream(&mut gauge, &mut total, &mut now, 1_000, 500);
        let before = gauge.bytes_per_second();
        gauge.progress(&Progress { busy_bytes: 1, busy: Nanos::MAX, ..total }, 0, now);
        assert_eq!(gauge.bytes_per_second(), before);
        gauge.progress(&Progress { busy_bytes: u64::MAX, busy: Nanos::MAX, ..total }, 0, now);
        assert!(gauge.bytes_per_second().is_finite());
    }
}
