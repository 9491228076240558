//! A session: one peer, one link, from hello to goodbye.
//!
//! It comes up with the first pong (or anything else that only a peer which heard us says), and is dead when nothing has
//! been heard for [`books::SILENCE_MAX`] although pings are due every [`books::PING_EVERY`]. While it is up it keeps the books: what
//! arrived, what that says about the link, and what the owner is told. Pings, pongs, progress and goodbyes end here.

mod books;

use crate::SendError;
use crate::arrivals::Arrivals;
use crate::gauge::Gauge;
use crate::happening::{Estimate, Happening};
use crate::link::{Link, LinkError};
use crate::outbox::Outbox;
use crate::peers::Peer;
use crate::settings::Carrier;
use books::{Books, TICK};
use bps_types::Nanos;
use bps_wire::{Header, Limits, Message, REASON_BYTES_MAX};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// A frame's arrival is reported at once unless another was so shortly before ...
const REPORT_GAP: Nanos = Nanos::from_millis(4);
/// ... and little came since: a sender with little in flight must not wait for reports.
const REPORT_BYTES: u64 = 512 << 10;
/// How long goodbyes may take.
const LAST_WORDS: Duration = Duration::from_millis(400);

/// Tells the owner.
pub(crate) type Sink = Arc<dyn Fn(Happening) + Send + Sync>;

pub(crate) struct Session {
    pub(crate) peer: Peer,
    pub(crate) carrier: Carrier,
    /// By this host.
    pub(crate) dialled: bool,
    pub(crate) outbox: Arc<Outbox>,
    clock: fn() -> Nanos,
    sink: Sink,
    phase: Mutex<Phase>,
    /// Held while the owner is told, so that it hears things in order.
    telling: Mutex<()>,
    gauge: Mutex<Gauge>,
    /// Of the last report to the peer.
    reported: Mutex<Nanos>,
    ending: Notify,
}

/// Where a session stands.
#[derive(Clone, Debug)]
enum Phase {
    /// Hello is over; nobody has answered a ping.
    Proving,
    Up {
        since: Nanos,
    },
    Over {
        reason: String,
        /// When, if it had been up.
        was_up: bool,
    },
}

impl Session {
    pub(crate) fn new(
        peer: Peer,
        carrier: Carrier,
        dialled: bool,
        outbox: Outbox,
        clock: fn() -> Nanos,
        sink: Sink,
    ) -> Arc<Self> {
        Arc::new(Self {
            peer,
            carrier,
            dialled,
            outbox: Arc::new(outbox),
            clock,
            sink,
            phase: Mutex::new(Phase::Proving),
            telling: Mutex::default(),
            gauge: Mutex::default(),
            reported: Mutex::default(),
            ending: Notify::new(),
        })
    }

    /// Since when it is up; none: it is not.
    pub(crate) fn up_since(&self) -> Option<Nanos> {
        match *self.phase.lock() {
            Phase::Up { since } => Some(since),
            _ => None,
        }
    }

    /// Why it is over, and whether it had been up; none: it is not over.
    pub(crate) fn over(&self) -> Option<(String, bool)> {
        match &*self.phase.lock() {
            Phase::Over { reason, was_up } => Some((reason.clone(), *was_up)),
            _ => None,
        }
    }

    pub(crate) fn estimate(&self) -> Estimate {
        let gauge = self.gauge.lock();
        Estimate {
            bytes_per_second: gauge.bytes_per_second(),
            rtt: gauge.rtt(),
            backlog_bytes: self.outbox.in_flight(),
            clock_offset_nanos: gauge.clock_offset_nanos(),
        }
    }

    /// Ends it: the owner hears so now, the peer if it still can. The first reason counts.
    pub(crate) fn end(&self, reason: &str) {
        if self.finish(reason) {
            let mut said = reason.to_owned();
            said.truncate(said.floor_char_boundary(REASON_BYTES_MAX));
            let _ = self.outbox.push(&Message::Bye { reason: said });
        }
        self.outbox.close();
        self.ending.notify_one();
    }

    /// Runs `link` until it is over.
    pub(crate) async fn run(self: Arc<Self>, link: Box<dyn Link>, limits: Limits) {
        let session = self.clone();
        let deliver = move |arrivals: &Arrivals, message: Message, header: &Header| {
            session.hear(message, header);
            if !header.is_control() {
                session.report_soon(arrivals);
            }
        };
        let arrivals = Arc::new(Arrivals::new(limits, self.clock, Box::new(deliver)));
        self.ping();
        let mut link = link.run(self.outbox.clone(), arrivals.clone());
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut books = Books::default();
        let ended = loop {
            tokio::select! {
                ended = &mut link => break ended.to_string(),
                _ = ticks.tick() => {
                    if let Some(reason) = books.tick(&self, &arrivals) {
                        break reason;
                    }
                }
                () = self.ending.notified() => {
                    let last = timeout(LAST_WORDS, &mut link).await;
                    break last.unwrap_or(LinkError::Done).to_string();
                }
            }
        };
        self.finish(&ended);
        self.outbox.close();
    }

    /// Says that it is over, once; true the first time.
    fn finish(&self, reason: &str) -> bool {
        let _telling = self.telling.lock();
        let was_up = match self.phase() {
            Phase::Over { .. } => return false,
            Phase::Up { .. } => true,
            Phase::Proving => false,
        };
        *self.phase.lock() = Phase::Over { reason: reason.to_owned(), was_up };
        if was_up {
            (self.sink)(Happening::Down { peer: self.peer.key, reason: reason.to_owned() });
        }
        true
    }

    /// A message came. Whoever sends one has had a pong from us, so nothing is missing on either side.
    fn hear(&self, message: Message, header: &Header) {
        let now = (self.clock)();
        match message {
            Message::Ping { token, at } if header.is_control() => {
                // Where even pongs find no room the link is lost, and silence will tell.
                let _ = self.outbox.push(&Message::Pong { token, asked: at, at: now });
            }
            // A probe has done its work by arriving.
            Message::Ping { .. } => {}
            Message::Pong { token, at, .. } => {
                if self.gauge.lock().pong(token, at, now) {
                    self.come_up(now);
                }
            }
            Message::Progress(progress) => {
                self.gauge.lock().progress(&progress, self.outbox.accepted(), now);
                self.outbox.delivered(progress.received.saturating_add(progress.waived));
            }
            Message::Bye { reason } => {
                self.finish(&format!("the peer said goodbye: {}", plain(&reason)));
                self.outbox.close();
                self.ending.notify_one();
            }
            message => {
                self.come_up(now);
                self.tell(Happening::Arrived { peer: self.peer.key, message, bytes: header.frame_bytes() });
            }
        }
    }

    fn come_up(&self, now: Nanos) {
        if !matches!(self.phase(), Phase::Proving) {
            return;
        }
        let _telling = self.telling.lock();
        if matches!(self.phase(), Phase::Proving) {
            *self.phase.lock() = Phase::Up { since: now };
            let Peer { key, ref name, rights, quotas, .. } = self.peer;
            tracing::info!(peer = %name, carrier = %self.carrier, dialled = self.dialled, "session up");
            (self.sink)(Happening::Up { peer: key, name: name.clone(), rights, quotas, carrier: self.carrier });
        }
    }

    /// Tells the owner something of a session that is up.
    fn tell(&self, happening: Happening) {
        let _telling = self.telling.lock();
        if self.up_since().is_some() {
            (self.sink)(happening);
        }
    }

    fn phase(&self) -> Phase {
        self.phase.lock().clone()
    }

    fn ping(&self) {
        let now = (self.clock)();
        let token = self.gauge.lock().ping(now, self.outbox.in_flight());
        let _ = self.outbox.push(&Message::Ping { token, at: now });
    }

    /// Accepts a message of this host's, or says why not; returns its frame's bytes.
    pub(crate) fn send(&self, message: &Message) -> Result<u64, SendError> {
        let bytes = self.outbox.push(message)?;
        let (accepted, in_flight) = (self.outbox.accepted(), self.outbox.in_flight());
        self.gauge.lock().sent(bytes, accepted, in_flight, (self.clock)());
        Ok(bytes)
    }

    /// Gives up a dispatch of this host's, or tells the peer where it has been sent whole.
    pub(crate) fn recall(&self, dispatch: u64) {
        if self.outbox.recall(dispatch) {
            return self.gauge.lock().recalled();
        }
        // A link too full for this recalls nothing; the answer will be dropped.
        let _ = self.outbox.push(&Message::Recall { dispatch });
    }

    /// Tells the peer what came from it.
    fn report(&self, arrivals: &Arrivals) {
        if let Some(progress) = arrivals.report() {
            let _ = self.outbox.push(&Message::Progress(progress));
        }
    }

    /// Something changed that the peer had better hear soon.
    fn report_soon(&self, arrivals: &Arrivals) {
        let now = (self.clock)();
        let mut reported = self.reported.lock();
        if now.since(*reported) >= REPORT_GAP || arrivals.unreported() >= REPORT_BYTES {
            *reported = now;
            drop(reported);
            self.report(arrivals);
        }
    }
}

/// Text of a peer, fit for a terminal.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}
