//! Whose connections there are. Each address has a share of the places, so that whoever fills its own shuts out nobody
//! else; and within a share a connection that has not sent the whole head of a request yet makes room for a newcomer.

use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How often the log says that an address has filled its share.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// All of them. A handle. How many there are at once, whosesoever, is for whoever accepts to bound.
#[derive(Clone)]
pub(super) struct Places {
    held: Arc<Mutex<Held>>,
    /// Of one address, at least 1.
    each_max: usize,
}

#[derive(Default)]
struct Held {
    /// Never an address without connections.
    of: HashMap<IpAddr, Share>,
    next: u64,
    said: Option<Instant>,
}

/// The connections of one address.
#[derive(Default)]
struct Share {
    count: usize,
    /// Those from which no whole head of a request has come yet, in the order they came.
    silent: BTreeMap<u64, Arc<Notify>>,
}

/// A connection's place, until it is dropped.
pub(super) struct Place {
    places: Places,
    /// None where clients have none: on a unix socket.
    address: Option<IpAddr>,
    number: u64,
    leave: Arc<Notify>,
    has_asked: AtomicBool,
}

impl Places {
    pub(super) fn new(each_max: usize) -> Self {
        Self { held: Arc::default(), each_max: each_max.max(1) }
    }

    /// A place for a client of that address. Where its share is full, its connection that has been silent for longest makes
    /// room; where none is silent there is no place.
    pub(super) fn take(&self, address: Option<IpAddr>, now: Instant) -> Option<Place> {
        let address = address.map(client);
        let leave = Arc::new(Notify::new());
        let held = &mut *self.held.lock();
        held.next += 1;
        if let Some(address) = address {
            let share = held.of.entry(address).or_default();
            if share.count >= self.each_max {
                if held.said.is_none_or(|said| now.saturating_duration_since(said) >= SAY_EVERY) {
                    held.said = Some(now);
                    tracing::warn!(%address, connections = share.count, "one address has as many connections as it may");
                }
                // It counts until it has gone, so that for a moment there may be one more than the share.
                let (_, oldest) = share.silent.pop_first()?;
                oldest.notify_one();
            }
            share.count += 1;
            share.silent.insert(held.next, leave.clone());
        }
        let (places, number) = (self.clone(), held.next);
        Some(Place { places, address, number, leave, has_asked: AtomicBool::new(false) })
    }
}

impl Place {
    /// A request has come: the connection is not silent any more.
    pub(super) fn asks(&self) {
        if !self.has_asked.swap(true, Ordering::Relaxed) {
            self.with_share(|share| drop(share.silent.remove(&self.number)));
        }
    }

    /// Whether a request has come.
    pub(super) fn has_asked(&self) -> bool {
        self.has_asked.load(Ordering::Relaxed)
    }

    /// Completes when a newcomer needs the place. Where a request comes in that very moment, it is answered first: then the
    /// share has one more connection than it should, for as long as this one stays.
    pub(super) async fn wanted(&self) {
        self.leave.notified().await;
        if self.has_asked() {
            std::future::pending::<()>().await;
        }
    }

    fn with_share(&self, change: impl FnOnce(&mut Share)) {
        let Some(address) = self.address else { return };
        let mut held = self.places.held.lock();
        if let Some(share) = held.of.get_mut(&address) {
            change(share);
            if share.count == 0 {
                held.of.remove(&address);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.with_share(|share| {
            share.count -= 1;
            share.silent.remove(&self.number);
        });
    }
}

/// Whom an address stands for: with IPv6 one client has a whole network of 2^64, of which each costs it nothing.
fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> Option<IpAddr> {
        Some([10, 0, 0, last].into())
    }

    fn is_wanted(place: &Place) -> bool {
        let waker = std::task::Waker::noop();
        let wanted = std::pin::pin!(place.wanted());
        wanted.poll(&mut std::task::Context::from_waker(waker)).is_ready()
    }

    #[test]
    fn one_address_has_its_share_and_no_more() {
        let (places, now) = (Places::new(3), Instant::now());
        let mut own: Vec<Place> = (0..3).filter_map(|_| places.take(address(1), now)).collect();
        own[0].asks();
        let newcomer = places.take(address(1), now).expect("the oldest silent one makes room");
        assert_eq!(own.iter().map(is_wanted).collect::<Vec<_>>(), [false, true, false]);
        own[1].leave.notify_one();
        own[1].asks();
        assert!(!is_wanted(&own[1]), "its request came in the last moment");
        drop(own.remove(1));
        own.push(newcomer);
        own.iter().for_each(Place::asks);
        assert!(places.take(address(1), now).is_none(), "all have asked for something");
        assert!(places.take(address(2), now).is_some(), "others have shares of their own");
        assert!((0..9).all(|_| places.take(None, now).is_some()), "a unix socket has no addresses");
        own.clear();
        assert!(places.held.lock().of.is_empty());
    }

    #[test]
    fn one_network_is_one_client() {
        let clients = ["2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1", "::ffff:10.0.0.1", "10.0.0.1"]
            .map(|text| client(text.parse().unwrap()));
        assert_eq!(clients[0], clients[1]);
        assert_ne!(clients[0], clients[2]);
        assert_eq!(clients[3], clients[4]);
    }
}
