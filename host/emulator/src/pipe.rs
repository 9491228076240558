//! One direction of a link, in virtual time: packets wait for the rate, then travel for the delay.

use crate::conditions::{Conditions, Loss};
use bps_types::Nanos;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::VecDeque;

/// Packets that may be on the wire. A rate and a delay bound them too; this holds where there is no rate.
const WIRE_PACKETS_MAX: usize = 65_536;

/// Why a packet was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The queue is full.
    Full,
    /// The link is down.
    Down,
}

/// What became of the packets so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Arrived.
    pub delivered: u64,
    /// Bytes of those.
    pub delivered_bytes: u64,
    /// Lost on the way, by chance.
    pub lost: u64,
    /// Found the queue full.
    pub overflowed: u64,
    /// Came, or were under way, while the link was down.
    pub cut_off: u64,
}

/// One direction of a link that carries packets `T`. Reads no clock: every call says what time it is, and times must not
/// fall.
#[derive(Debug)]
pub struct Pipe<T> {
    conditions: Conditions,
    dice: Dice,
    /// Waiting for the rate; the first is being sent.
    queue: VecDeque<(u64, T)>,
    queued_bytes: u64,
    /// When the first of the queue will have been sent.
    sent_at: Nanos,
    /// Sent, and when they arrive.
    wire: VecDeque<(Nanos, u64, T)>,
    counts: Counts,
}

impl<T> Pipe<T> {
    /// An empty one.
    pub fn new(conditions: Conditions, seed: u64) -> Self {
        Self {
            conditions,
            dice: Dice::new(seed),
            queue: VecDeque::new(),
            queued_bytes: 0,
            sent_at: Nanos::ZERO,
            wire: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// How the link is.
    pub fn conditions(&self) -> &Conditions {
        &self.conditions
    }

    /// What became of the packets so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Bytes that wait for the rate.
    pub fn queued_bytes(&self) -> u64 {
        self.queued_bytes
    }

    /// Whether a packet of this size would be taken now. An empty queue takes any.
    pub fn has_room(&mut self, now: Nanos, bytes: u64) -> bool {
        self.advance(now);
        let fits = self.queue.is_empty() || self.queued_bytes.saturating_add(bytes) <= self.conditions.queue_bytes;
        fits && self.wire.len() + self.queue.len() < WIRE_PACKETS_MAX
    }

    /// The link is different from now on. What waits is sent at the new rate; what is on the wire keeps its time.
    pub fn set(&mut self, now: Nanos, conditions: Conditions) {
        self.advance(now);
        if self.conditions.up && !conditions.up {
            self.counts.cut_off += (self.queue.len() + self.wire.len()) as u64;
            self.queue.clear();
            self.wire.clear();
            self.queued_bytes = 0;
        }
        if let Some(&(bytes, _)) = self.queue.front() {
            let whole = self.conditions.transmission(bytes);
            let left = self.sent_at.since(now).0 as f64 / (whole.0 as f64).max(1.0);
            self.sent_at = now + Nanos((conditions.transmission(bytes).0 as f64 * left.clamp(0.0, 1.0)) as u64);
        }
        self.conditions = conditions;
    }

    /// Gives the link a packet.
    ///
    /// # Errors
    /// The queue is full, or the link is down; the packet is gone.
    pub fn offer(&mut self, now: Nanos, bytes: u64, packet: T) -> Result<(), Refused> {
        if !self.has_room(now, bytes) && self.conditions.up {
            self.counts.overflowed += 1;
            return Err(Refused::Full);
        }
        if !self.conditions.up {
            self.counts.cut_off += 1;
            return Err(Refused::Down);
        }
        if self.queue.is_empty() {
            self.sent_at = now + self.conditions.transmission(bytes);
        }
        self.queue.push_back((bytes, packet));
        self.queued_bytes += bytes;
        Ok(())
    }

    /// The next packet that has arrived by now.
    pub fn take(&mut self, now: Nanos) -> Option<T> {
        self.advance(now);
        let &(at, ..) = self.wire.front()?;
        if at > now {
            return None;
        }
        let (_, bytes, packet) = self.wire.pop_front()?;
        self.counts.delivered += 1;
        self.counts.delivered_bytes += bytes;
        Some(packet)
    }

    /// When something happens next: a packet will have been sent, or arrives. None while the pipe is empty.
    pub fn next_at(&self) -> Option<Nanos> {
        let sent = self.queue.front().map(|_| self.sent_at);
        let arrives = self.wire.front().map(|&(at, ..)| at);
        sent.into_iter().chain(arrives).min()
    }

    /// Moves what has been sent by now onto the wire, or loses it.
    fn advance(&mut self, now: Nanos) {
        while !self.queue.is_empty() && self.sent_at <= now {
            let Some((bytes, packet)) = self.queue.pop_front() else { return };
            self.queued_bytes -= bytes;
            if self.dice.lose(self.conditions.loss) {
                self.counts.lost += 1;
            } else {
                // A delay that shrinks must not let a later packet overtake an earlier one.
                let last = self.wire.back().map_or(Nanos::ZERO, |&(at, ..)| at);
                self.wire.push_back((last.max(self.sent_at + self.conditions.delay), bytes, packet));
            }
            if let Some(&(next, _)) = self.queue.front() {
                self.sent_at += self.conditions.transmission(next);
            }
        }
    }
}

/// Draws which packets are lost.
#[derive(Debug)]
pub(crate) struct Dice {
    random: ChaCha8Rng,
    /// The link is in a burst of losses.
    bad: bool,
}

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(seed), bad: false }
    }

    /// Whether the next packet is lost.
    pub(crate) fn lose(&mut self, loss: Loss) -> bool {
        match loss {
            Loss::None => false,
            Loss::Random(p) => self.chance(p),
            Loss::Bursts { enter, leave, lost } => {
                let turns = self.chance(if self.bad { leave } else { enter });
                self.bad ^= turns;
                self.bad && self.chance(lost)
            }
        }
    }

    fn chance(&mut self, probability: f64) -> bool {
        let uniform = (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        uniform < probability
    }
}

#[cfg(test)]
mod tests;
