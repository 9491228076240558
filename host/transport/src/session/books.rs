//! What a session does by the clock: pings, reports, probes, estimates, and noticing silence.

use super::Session;
use crate::arrivals::Arrivals;
use crate::happening::{Estimate, Happening};
use std::time::Duration;

/// Books are kept this often.
pub(super) const TICK: Duration = Duration::from_millis(25);
/// Pings, in ticks.
pub(super) const PING_EVERY: u32 = 4;
/// Nothing heard for so many ticks: dead. Ticks and not time, so that a host that slept or had no processor does not take
/// its own absence for the peer's.
pub(super) const SILENCE_MAX: u32 = 24;
/// Estimates are told at most this often, in ticks.
const TELL_EVERY: u32 = 2;
/// And at least this often.
const TELL_AT_LEAST: u32 = 20;
/// A link that has carried nothing for so many ticks is probed.
const PROBE_AFTER: u32 = 120;
/// Large enough to outlast the jitter of a fast link, small enough to be 2 % of a slow one.
const PROBE_BYTES: usize = 64 << 10;
/// On links where that would take longer than 20 ms.
const PROBE_BYTES_SLOW: usize = 16 << 10;
/// The speed that divides the two.
const SLOW_BYTES_PER_SECOND: f32 = 3.2e6;
/// Hello is over and no pong came in so many ticks: whoever that is, it is no peer.
const PROVING_MAX: u32 = 120;

pub(super) struct Books {
    ticks: u32,
    silent: u32,
    /// Ticks since the link carried anything but control messages.
    idle: u32,
    accepted: u64,
    told: Estimate,
    told_before: u32,
}

impl Default for Books {
    /// A new link is probed at once.
    fn default() -> Self {
        let told = Estimate::default();
        Self { ticks: 0, silent: 0, idle: PROBE_AFTER, accepted: 0, told, told_before: TELL_AT_LEAST }
    }
}

impl Books {
    /// Keeps them; says why the session cannot go on.
    pub(super) fn tick(&mut self, session: &Session, arrivals: &Arrivals) -> Option<String> {
        self.ticks += 1;
        self.silent = if arrivals.take_heard() { 0 } else { self.silent + 1 };
        if self.silent >= SILENCE_MAX {
            return Some(format!("nothing heard for {} ms", TICK.as_millis() * u128::from(SILENCE_MAX)));
        }
        if self.ticks.is_multiple_of(PING_EVERY) {
            session.ping();
        }
        session.report(arrivals);
        match session.up_since() {
            Some(_) => {
                self.probe(session);
                self.tell(session);
            }
            None if self.ticks > PROVING_MAX => return Some("it never answered a ping".into()),
            None => {}
        }
        None
    }

    /// Measures a link that carries nothing else.
    fn probe(&mut self, session: &Session) {
        let accepted = session.outbox.accepted();
        self.idle = if accepted == self.accepted { self.idle + 1 } else { 0 };
        self.accepted = accepted;
        if self.idle < PROBE_AFTER {
            return;
        }
        let is_slow = session.estimate().bytes_per_second < SLOW_BYTES_PER_SECOND;
        let bytes = if is_slow { PROBE_BYTES_SLOW } else { PROBE_BYTES };
        session.outbox.push_probe(0, (session.clock)(), bytes);
        self.idle = 0;
        self.accepted = session.outbox.accepted();
    }

    /// Tells the owner, when there is something to tell or it has been long.
    fn tell(&mut self, session: &Session) {
        self.told_before += 1;
        if self.told_before < TELL_EVERY {
            return;
        }
        let estimate = session.estimate();
        if self.told_before >= TELL_AT_LEAST || differs(&estimate, &self.told) {
            (self.told, self.told_before) = (estimate, 0);
            session.tell(Happening::Estimate { peer: session.peer.key, estimate });
        }
    }
}

/// By more than a policy would shrug at.
fn differs(a: &Estimate, b: &Estimate) -> bool {
    let apart = |a: f64, b: f64, share: f64| (a - b).abs() > share * b;
    a.backlog_bytes != b.backlog_bytes
        || apart(f64::from(a.bytes_per_second), f64::from(b.bytes_per_second), 0.02)
        || apart(a.rtt.0 as f64, b.rtt.0 as f64, 0.05)
}
