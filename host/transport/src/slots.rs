//! Handshakes under way: bounded in all, and for each address, so that whoever holds them open shuts out nobody else.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Handshakes at once; more are turned away. Each holds a socket and some kilobytes.
const ALL_MAX: usize = 32;
/// Of one address. Behind it may be several hosts, but they seldom come in the same second.
const EACH_MAX: usize = 8;
/// How often the log says that somebody was turned away.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// All of them. A handle.
#[derive(Clone, Default)]
pub(crate) struct Slots(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    /// Never an address with none.
    of: HashMap<IpAddr, usize>,
    all: usize,
    said: Option<Instant>,
}

/// A handshake's place, until it is dropped.
pub(crate) struct Slot {
    slots: Slots,
    address: IpAddr,
}

impl Slots {
    /// A place for somebody from there; none where there is no room.
    pub(crate) fn take(&self, address: IpAddr, now: Instant) -> Option<Slot> {
        let mut held = self.0.lock();
        if held.all >= ALL_MAX || held.of.get(&address).is_some_and(|own| *own >= EACH_MAX) {
            if held.said.is_none_or(|said| now.saturating_duration_since(said) >= SAY_EVERY) {
                held.said = Some(now);
                let (all, own) = (held.all, held.of.get(&address).copied().unwrap_or(0));
                tracing::warn!(%address, all, own, "turned away: too many handshakes are under way");
            }
            return None;
        }
        held.all += 1;
        *held.of.entry(address).or_default() += 1;
        Some(Slot { slots: self.clone(), address })
    }

    /// Half of all places are taken.
    pub(crate) fn is_pressed(&self) -> bool {
        self.0.lock().all > ALL_MAX / 2
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut held = self.slots.0.lock();
        held.all -= 1;
        if let Some(own) = held.of.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                held.of.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn one_address_does_not_take_all_places() {
        let (slots, now) = (Slots::default(), Instant::now());
        let mut taken: Vec<Slot> = (0..100).filter_map(|_| slots.take(address(1), now)).collect();
        assert_eq!((taken.len(), slots.is_pressed()), (EACH_MAX, false));
        for last in 2..100 {
            taken.extend(slots.take(address(last), now));
        }
        assert_eq!((taken.len(), slots.is_pressed()), (ALL_MAX, true));
        assert!(slots.take(address(200), now).is_none());
        taken.remove(0);
        assert!(slots.take(address(1), now).is_some());
        taken.clear();
        assert!(slots.0.lock().of.is_empty() && slots.0.lock().all == 0);
    }
}
