//! Handshakes under way: bounded in all, and for each address, so that whoever holds them open shuts out nobody else.
//!
//! Where there is no room the oldest one is ended, rather than the newcomer turned away: who means it is done within
//! moments, and who holds places open loses them.

use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How often the log says that there was no room.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// All of them. A handle.
#[derive(Clone)]
pub(crate) struct Slots {
    held: Arc<Mutex<Held>>,
    all_max: usize,
    each_max: usize,
}

#[derive(Default)]
struct Held {
    /// In the order they came. Never more than `all_max`, nor of one address more than `each_max`.
    under_way: BTreeMap<u64, UnderWay>,
    next: u64,
    /// Those that were told to make room and have not gone yet.
    leaving: usize,
    said: Option<Instant>,
}

struct UnderWay {
    address: IpAddr,
    /// TLS is done.
    greeted: bool,
    /// It does not make room for others.
    stays: bool,
    leave: Arc<Notify>,
}

/// A handshake's place, until it is dropped.
pub(crate) struct Slot {
    slots: Slots,
    number: u64,
    leave: Arc<Notify>,
    stays: AtomicBool,
}

impl Slots {
    pub(crate) fn new(all_max: usize, each_max: usize) -> Self {
        Self { held: Arc::default(), all_max, each_max }
    }

    /// A place for somebody from there. Where its address has its share, one of the same address makes room; where all
    /// places are taken, one of whoever has the most. No place where none can, or too many are still about to go.
    pub(crate) fn take(&self, address: IpAddr, now: Instant) -> Option<Slot> {
        let address = network(address);
        let held = &mut *self.held.lock();
        let (all, own) = (held.under_way.len(), held.count(address));
        if all >= self.all_max || own >= self.each_max {
            if held.said.is_none_or(|said| now.saturating_duration_since(said) >= SAY_EVERY) {
                held.said = Some(now);
                tracing::warn!(%address, all, own, "too many handshakes are under way: the oldest are ended");
            }
            if held.leaving + all >= 2 * self.all_max {
                return None;
            }
            let number = held.first_to_go(address, own >= self.each_max)?;
            let gone = held.under_way.remove(&number)?;
            held.leaving += 1;
            gone.leave.notify_one();
        }
        held.next += 1;
        let (number, leave) = (held.next, Arc::new(Notify::new()));
        held.under_way.insert(number, UnderWay { address, greeted: false, stays: false, leave: leave.clone() });
        Some(Slot { slots: self.clone(), number, leave, stays: AtomicBool::new(false) })
    }

    /// Half of all places are taken, or all that this address may have: the next one might take somebody else's.
    pub(crate) fn is_pressed(&self, address: IpAddr) -> bool {
        let held = self.held.lock();
        held.under_way.len() >= self.all_max / 2 || held.count(network(address)) >= self.each_max
    }
}

impl Held {
    fn count(&self, address: IpAddr) -> usize {
        self.under_way.values().filter(|one| one.address == address).count()
    }

    /// Who makes room for a newcomer: of the address that has the most, the newcomer counted, one that is not past TLS
    /// if there is any, and of those the oldest.
    fn first_to_go(&self, newcomer: IpAddr, only_own: bool) -> Option<u64> {
        let has = |address: IpAddr| self.count(address) + usize::from(address == newcomer);
        let may_go = |one: &UnderWay| !one.stays && (!only_own || one.address == newcomer);
        let going = self.under_way.iter().filter(|(_, one)| may_go(one));
        let first = going.min_by_key(|(number, one)| (Reverse(has(one.address)), one.greeted, **number));
        first.map(|(number, _)| *number)
    }
}

impl Slot {
    /// TLS is done: others make room first.
    pub(crate) fn greeted(&self) {
        if let Some(own) = self.slots.held.lock().under_way.get_mut(&self.number) {
            own.greeted = true;
        }
    }

    /// From now on it makes no room for anybody.
    pub(crate) fn stay(&self) {
        self.stays.store(true, Ordering::Relaxed);
        if let Some(own) = self.slots.held.lock().under_way.get_mut(&self.number) {
            own.stays = true;
        }
    }

    /// Completes when a newcomer has the place. Never for one that stays, even if it was told to go a moment earlier.
    pub(crate) async fn wanted(&self) {
        self.leave.notified().await;
        if self.stays.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut held = self.slots.held.lock();
        if held.under_way.remove(&self.number).is_none() {
            held.leaving -= 1;
        }
    }
}

/// Whom an address stands for: with IPv6 one host has a whole network of 2^64, of which each costs it nothing. On a local
/// network all hosts have the same one.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if v6.is_unicast_link_local() || v6.is_unique_local() => v6.into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn take(slots: &Slots, last: u8) -> Slot {
        slots.take(address(last), Instant::now()).expect("somebody makes room")
    }

    fn is_wanted(slot: &Slot) -> bool {
        let waker = std::task::Waker::noop();
        let wanted = std::pin::pin!(slot.wanted());
        wanted.poll(&mut std::task::Context::from_waker(waker)).is_ready()
    }

    /// Drops those that are to go, as their tasks do, and says which those were.
    fn settle(taken: &mut Vec<(u8, Slot)>) -> Vec<u8> {
        let (gone, left): (Vec<_>, Vec<_>) = taken.drain(..).partition(|(_, slot)| is_wanted(slot));
        *taken = left;
        gone.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn one_address_has_its_share_and_replaces_its_own() {
        let slots = Slots::new(10, 3);
        let mut taken = Vec::from([1, 2, 2, 2].map(|last| (last, take(&slots, last))));
        assert!(!slots.is_pressed(address(1)) && slots.is_pressed(address(2)));
        taken.push((3, take(&slots, 2)));
        assert_eq!(settle(&mut taken), [2]);
        assert_eq!((taken.len(), slots.held.lock().count(address(2))), (4, 3));
        taken.clear();
        let held = slots.held.lock();
        assert!(held.under_way.is_empty() && held.leaving == 0);
    }

    #[test]
    fn when_all_are_taken_whoever_has_the_most_loses_its_oldest() {
        let slots = Slots::new(6, 3);
        let mut taken: Vec<_> = (0..).zip([1, 2, 2, 2, 3, 3]).map(|(name, last)| (name, take(&slots, last))).collect();
        taken.push((6, take(&slots, 4)));
        assert_eq!(settle(&mut taken), [1], "not the oldest of all, whose address has one");
        taken.push((7, take(&slots, 5)));
        assert_eq!(settle(&mut taken), [2]);
        taken.push((8, take(&slots, 6)));
        assert_eq!(settle(&mut taken), [4]);
        // Each has one now.
        taken.push((9, take(&slots, 6)));
        assert_eq!(settle(&mut taken), [8], "with the newcomer its address has the most");
        taken.push((10, take(&slots, 7)));
        assert_eq!(settle(&mut taken), [0]);
        assert_eq!(taken.len(), 6);
    }

    #[test]
    fn silent_ones_go_first_and_some_never() {
        let slots = Slots::new(3, 3);
        let mut taken = Vec::from([0, 1, 2].map(|last| (last, take(&slots, last))));
        taken[0].1.greeted();
        taken[2].1.stay();
        taken.push((3, take(&slots, 3)));
        assert_eq!(settle(&mut taken), [1]);
        taken[2].1.greeted();
        taken.push((4, take(&slots, 4)));
        taken[0].1.stay();
        assert_eq!(settle(&mut taken), [0; 0], "it was told to go, and then it was not to be lost");
        taken[2].1.stay();
        taken[3].1.stay();
        assert!(slots.take(address(5), Instant::now()).is_none(), "all stay");
    }

    #[test]
    fn those_about_to_go_are_bounded_too() {
        let slots = Slots::new(4, 2);
        let taken: Vec<Slot> = (0..100).filter_map(|last| slots.take(address(last), Instant::now())).collect();
        assert_eq!(taken.len(), 8);
        assert_eq!(taken.iter().filter(|slot| is_wanted(slot)).count(), 4);
        drop(taken);
        assert!(slots.take(address(0), Instant::now()).is_some());
    }

    #[test]
    fn one_network_is_one_address() {
        let networks = ["2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1", "::ffff:10.0.0.1", "10.0.0.1"]
            .map(|text| network(text.parse().unwrap()));
        assert_eq!(networks[0], networks[1]);
        assert_ne!(networks[0], networks[2]);
        assert_eq!(networks[3], networks[4]);
    }
}
