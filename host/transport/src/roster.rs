//! Who is a peer, and which session each has: at most one.
//!
//! Two hosts may dial each other at the same moment. Then the connection dialled by the smaller key stays, and both
//! sides see to it: the smaller, while it dials, lets the other's connection wait at the door; the larger takes the
//! smaller's and gives up its own. In any other case a new connection means that the other side has none, so it replaces
//! what is here.

use crate::happening::PeerStatus;
use crate::peers::{Peer, PeerStore};
use crate::session::Session;
use bps_types::Nanos;
use bps_wire::{HostKey, REPLACED};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// What holds a peer's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Free,
    /// This host is dialling.
    Dialling,
    /// A session, perhaps not up yet.
    Taken,
}

/// Whether a connection that came in may go on.
pub(crate) enum Door {
    Open(Arc<Session>),
    /// This host dials itself; ask again when the place changes.
    Wait(watch::Receiver<Place>),
    Shut(&'static str),
}

struct Entry {
    peer: Peer,
    session: Option<Arc<Session>>,
    place: watch::Sender<Place>,
    dialler: Option<AbortHandle>,
    since: Nanos,
    reason: Option<String>,
    replaced: Replaced,
}

/// How often a session was replaced while it stood.
#[derive(Default)]
struct Replaced {
    since: Option<Instant>,
    count: u32,
    /// No session that stands is replaced before.
    until: Option<Instant>,
}

/// A peer that comes anew so often within [`REPLACED_WITHIN`] is two hosts with one identity.
const REPLACED_MAX: u32 = 4;
const REPLACED_WITHIN: Duration = Duration::from_secs(10);
/// Then the session that stands is kept for so long: one of the two is served, and the other, which is refused like anybody
/// else, tries ever more seldom. A session that is lost is not kept, so that a peer that did crash is let in.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// What whoever comes too late is told.
const TWO: &str = "another host has the same identity, and its session stands";

impl Replaced {
    /// Counts one; true if it is time to say that there are two, once in each span.
    fn again(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) > REPLACED_WITHIN) {
            (self.since, self.count) = (Some(now), 0);
        }
        self.count += 1;
        let are_two = self.count == REPLACED_MAX;
        if are_two {
            self.until = Some(now + KEPT_FOR);
        }
        are_two
    }

    /// Whether the session that stands is to stay.
    fn keeps(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

pub(crate) struct Roster {
    own: HostKey,
    store: PeerStore,
    entries: Mutex<BTreeMap<HostKey, Entry>>,
}

/// What [`Roster::refresh`] found.
#[derive(Default)]
pub(crate) struct Changes {
    /// Peers to dial that have no dialler.
    pub(crate) to_dial: Vec<HostKey>,
    /// Sessions of hosts that are no peers any more, or are peers on other terms, and why they end.
    pub(crate) to_end: Vec<(Arc<Session>, &'static str)>,
}

impl Roster {
    pub(crate) fn new(own: HostKey, store: PeerStore) -> Self {
        Self { own, store, entries: Mutex::default() }
    }

    /// Compares with the store, which may have been changed by another process.
    pub(crate) fn refresh(&self) -> Changes {
        if let Err(error) = self.store.refresh() {
            tracing::warn!(%error, "the paired hosts known so far stay");
        }
        let peers = self.store.list();
        let mut changes = Changes::default();
        let mut entries = self.entries.lock();
        entries.retain(|key, entry| {
            let stays = peers.iter().any(|p| p.key == *key);
            if !stays {
                changes.to_end.extend(entry.session.take().map(|session| (session, "no longer paired")));
                entry.stop_dialling();
            }
            stays
        });
        for peer in peers.into_iter().filter(|p| p.key != self.own) {
            let entry = entries.entry(peer.key).or_insert_with(|| Entry::new(peer.clone()));
            let is_new_address = entry.peer.address != peer.address;
            let terms = |p: &Peer| (p.name.clone(), p.rights, p.quotas);
            if terms(&entry.peer) != terms(&peer)
                && let Some(session) = &entry.session
            {
                changes.to_end.push((session.clone(), "the terms of the pairing changed"));
            }
            entry.peer = peer;
            if is_new_address {
                entry.stop_dialling();
            }
            let has_dialler = entry.dialler.as_ref().is_some_and(|d| !d.is_finished());
            if entry.peer.address.is_some() && !has_dialler {
                changes.to_dial.push(entry.peer.key);
            }
        }
        changes
    }

    /// The task that dials a peer; an earlier one stops.
    pub(crate) fn set_dialler(&self, key: HostKey, dialler: AbortHandle) {
        match self.entries.lock().get_mut(&key) {
            Some(entry) => {
                entry.stop_dialling();
                entry.dialler = Some(dialler);
            }
            None => dialler.abort(),
        }
    }

    /// Takes a free place for dialling: the peer, and a guard that frees the place again. None: it is not free, and the
    /// receiver tells when it is; or there is no such peer.
    pub(crate) fn begin_dial(
        self: &Arc<Self>,
        key: HostKey,
    ) -> Option<Result<(Peer, Dialling), watch::Receiver<Place>>> {
        let mut entries = self.entries.lock();
        let entry = entries.get_mut(&key)?;
        if *entry.place.borrow() != Place::Free {
            return Some(Err(entry.place.subscribe()));
        }
        entry.place.send_replace(Place::Dialling);
        Some(Ok((entry.peer.clone(), Dialling { roster: self.clone(), key })))
    }

    /// A connection this host dialled has said hello. The session it replaces is returned; none of both: it must not go on.
    pub(crate) fn dialled(&self, session: Arc<Session>) -> Result<Option<Arc<Session>>, &'static str> {
        let mut entries = self.entries.lock();
        let entry = entries.get_mut(&session.peer.key).ok_or("no longer paired")?;
        if entry.live_session().is_some() && self.own > session.peer.key {
            return Err("the peer's own connection was first");
        }
        if entry.live_session().is_some() && entry.replaced.keeps(Instant::now()) {
            return Err(TWO);
        }
        Ok(entry.install(session))
    }

    /// A connection came in and has said hello; `make` makes the session if it may go on. A session it replaces is ended.
    pub(crate) fn came_in(&self, key: HostKey, make: impl FnOnce(Peer) -> Arc<Session>) -> Door {
        let Some(peer) = self.store.get(&key) else { return Door::Shut("it is not paired") };
        let mut entries = self.entries.lock();
        let entry = entries.entry(key).or_insert_with(|| Entry::new(peer.clone()));
        let smaller = self.own < key;
        if smaller && *entry.place.borrow() == Place::Dialling {
            return Door::Wait(entry.place.subscribe());
        }
        if smaller && entry.live_session().is_some_and(|session| session.dialled) {
            return Door::Shut("there is a session that this host dialled");
        }
        if entry.live_session().is_some() && entry.replaced.keeps(Instant::now()) {
            return Door::Shut(TWO);
        }
        let session = make(peer);
        let replaced = entry.install(session.clone());
        drop(entries);
        if let Some(old) = replaced {
            old.end(REPLACED);
        }
        Door::Open(session)
    }

    /// A session is over.
    pub(crate) fn over(&self, session: &Arc<Session>, now: Nanos) {
        let mut entries = self.entries.lock();
        let Some(entry) = entries.get_mut(&session.peer.key) else { return };
        if let Some((reason, was_up)) = session.over() {
            entry.reason = Some(reason);
            if was_up {
                entry.since = now;
            }
        }
        if entry.session.as_ref().is_some_and(|s| Arc::ptr_eq(s, session)) {
            entry.session = None;
            entry.place.send_replace(Place::Free);
        }
    }

    /// Whether the last session of a peer ended because a newer connection of this identity took its place there.
    pub(crate) fn was_replaced(&self, key: &HostKey) -> bool {
        let entries = self.entries.lock();
        let reason = entries.get(key).and_then(|entry| entry.reason.as_deref());
        reason.is_some_and(|reason| reason.ends_with(REPLACED))
    }

    /// A dial failed. Where a session came in meanwhile, nobody needs to know.
    pub(crate) fn failed(&self, key: HostKey, reason: String) {
        if let Some(entry) = self.entries.lock().get_mut(&key)
            && entry.session.is_none()
        {
            entry.reason = Some(reason);
        }
    }

    pub(crate) fn session(&self, key: &HostKey) -> Option<Arc<Session>> {
        self.entries.lock().get(key)?.session.clone()
    }

    pub(crate) fn sessions(&self) -> Vec<Arc<Session>> {
        self.entries.lock().values().filter_map(|entry| entry.session.clone()).collect()
    }

    /// Nobody is dialled any more.
    pub(crate) fn stop_dialling(&self) {
        self.entries.lock().values_mut().for_each(Entry::stop_dialling);
    }

    pub(crate) fn status(&self) -> Vec<PeerStatus> {
        self.entries.lock().values().map(Entry::status).collect()
    }
}

impl Entry {
    fn new(peer: Peer) -> Self {
        let (place, _) = watch::channel(Place::Free);
        Self {
            peer,
            session: None,
            place,
            dialler: None,
            since: Nanos::ZERO,
            reason: None,
            replaced: Replaced::default(),
        }
    }

    fn live_session(&self) -> Option<&Arc<Session>> {
        self.session.as_ref().filter(|session| session.over().is_none())
    }

    fn install(&mut self, session: Arc<Session>) -> Option<Arc<Session>> {
        self.place.send_replace(Place::Taken);
        if self.live_session().is_some() && self.replaced.again(Instant::now()) {
            let (peer, identity) = (&self.peer.name, self.peer.key.short());
            tracing::warn!(peer, identity, "two hosts take this link from each other: was a state folder copied?");
        }
        self.session.replace(session)
    }

    fn stop_dialling(&mut self) {
        if let Some(dialler) = self.dialler.take() {
            dialler.abort();
        }
    }

    fn status(&self) -> PeerStatus {
        let up = self.session.as_ref().and_then(|session| Some((session, session.up_since()?)));
        PeerStatus {
            key: self.peer.key,
            name: self.peer.name.clone(),
            up: up.is_some(),
            carrier: up.map(|(session, _)| session.carrier),
            estimate: up.map(|(session, _)| session.estimate()),
            since: up.map_or(self.since, |(_, since)| since),
            reason: self.reason.clone(),
        }
    }
}

/// A place held while dialling.
pub(crate) struct Dialling {
    roster: Arc<Roster>,
    key: HostKey,
}

impl Drop for Dialling {
    fn drop(&mut self) {
        if let Some(entry) = self.roster.entries.lock().get(&self.key) {
            let held = |place: &mut Place| {
                let ours = *place == Place::Dialling;
                if ours {
                    *place = Place::Free;
                }
                ours
            };
            entry.place.send_if_modified(held);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_comes_again_and_again_is_two() {
        let (mut replaced, start) = (Replaced::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let said: Vec<bool> = [0, 1, 2, 3, 4, 5].into_iter().map(|second| replaced.again(at(second))).collect();
        assert_eq!(said, [false, false, false, true, false, false], "once");
        assert!(replaced.keeps(at(5)) && replaced.keeps(at(62)) && !replaced.keeps(at(63)));
        assert!((6..20).map(|n| replaced.again(at(20 * n))).all(|said| !said), "now and then one restarts");
        assert!(!replaced.keeps(at(400)));
    }
}
