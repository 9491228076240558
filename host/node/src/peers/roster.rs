//! The table of other hosts: their ids, sessions, adverts, and how their links and devices stand.
//!
//! **Invariants.** A host's id and its devices' ids are given once and hold for the run; this host is 0 and its devices
//! come first. Pure but for its lock, which is held for moments: time is handed in, nothing is sent from here. What came
//! from outside has been checked by [`super::advert::check`] before it is kept.

use super::advert;
use super::state::{PeerState, sound};
use bps_sched::{LinkReport, Standing};
use bps_transport::{Carrier, Estimate, Peer, Quotas, Rights};
use bps_types::{DeviceId, HostId, Nanos};
use bps_wire::{Advert, DeviceReport, HostKey};
use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// This host's number in the world.
pub(crate) const OWN_HOST: HostId = HostId(0);

/// Hosts in a world, this one included; see `wit/policy.wit`.
const HOSTS_MAX: usize = 64;

/// The table; shared by whoever needs to look something up.
pub(crate) struct Roster {
    own: HostKey,
    table: Mutex<Table>,
}

pub(super) struct Table {
    pub(super) peers: BTreeMap<HostKey, PeerState>,
    /// Keys by id, from 1 on.
    keys: Vec<HostKey>,
    /// Devices by id, from `first_device` on.
    devices: Vec<(HostKey, u32)>,
    first_device: u32,
    /// The world must be told anew.
    dirty: bool,
}

/// A host says how it stands ten times a second; one that says it more often than this is not listened to each time.
const STANDING_EVERY_MIN: Nanos = Nanos::from_millis(20);

/// What changed for the scheduler.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct News {
    pub(super) links: Vec<LinkReport>,
    pub(super) standings: Vec<Standing>,
}

/// A model that another host lets this one have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) peer: HostKey,
    pub(super) peer_name: String,
    pub(super) digest: [u8; 32],
    pub(super) cut_list: [u8; 32],
    /// Of what FF was calibrated with there; zeros where nothing was.
    pub(super) calibration: [u8; 32],
    pub(super) name: String,
    /// Of all its files.
    pub(super) file_bytes: u64,
}

impl Roster {
    /// `own_devices` is how many ids are this host's.
    pub(crate) fn new(own: HostKey, own_devices: u32) -> Self {
        let table = Table {
            peers: BTreeMap::new(),
            keys: Vec::new(),
            devices: Vec::new(),
            first_device: own_devices,
            dirty: false,
        };
        Self { own, table: Mutex::new(table) }
    }

    pub(crate) fn self_key(&self) -> HostKey {
        self.own
    }

    /// The key of a host; this one's is known too.
    pub(crate) fn key_of(&self, id: HostId) -> Option<HostKey> {
        if id == OWN_HOST { Some(self.own) } else { self.table.lock().keys.get(id.0 as usize - 1).copied() }
    }

    pub(crate) fn id_of(&self, key: &HostKey) -> Option<HostId> {
        if *key == self.own { Some(OWN_HOST) } else { self.table.lock().peers.get(key).map(|p| p.id) }
    }

    /// The device that a host calls `index`.
    pub(crate) fn device_of(&self, key: &HostKey, index: u32) -> Option<DeviceId> {
        let table = self.table.lock();
        if *key == self.own {
            return (index < table.first_device).then_some(DeviceId(index));
        }
        table.device_of(key, index)
    }

    /// Whose a device is, and what it is called there.
    pub(crate) fn route_of(&self, device: DeviceId) -> Option<(HostKey, u32)> {
        let table = self.table.lock();
        match device.0.checked_sub(table.first_device) {
            None => Some((self.own, device.0)),
            Some(place) => table.devices.get(place as usize).copied(),
        }
    }

    /// What a host whose session stands may do here.
    pub(crate) fn rights(&self, key: &HostKey) -> Option<(Rights, Quotas)> {
        self.table.lock().peers.get(key).filter(|p| p.is_up()).map(|p| (p.rights, p.quotas))
    }

    /// Its clock minus ours, nanoseconds; none while its session has no estimate, 0 for this host.
    pub(crate) fn clock_offset(&self, id: HostId) -> Option<i64> {
        if id == OWN_HOST {
            return Some(0);
        }
        let key = self.key_of(id)?;
        self.table.lock().peers.get(&key)?.estimate.map(|e| e.clock_offset_nanos)
    }

    /// What a host calls its devices; none before it has told.
    pub(super) fn device_names(&self, key: &HostKey) -> Option<Vec<String>> {
        let table = self.table.lock();
        let advert = table.peers.get(key)?.advert.as_ref()?;
        Some(advert.devices.iter().map(|d| d.name.clone()).collect())
    }

    /// The epoch of the advert that a host has had of this one in its session, if any.
    pub(super) fn told_epoch(&self, key: &HostKey) -> Option<u32> {
        self.table.lock().peers.get(key)?.told
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock()
    }

    /// One peer, where it is known.
    pub(super) fn peer(&self, key: &HostKey) -> Option<MappedMutexGuard<'_, PeerState>> {
        MutexGuard::try_map(self.table.lock(), |table| table.peers.get_mut(key)).ok()
    }

    /// A session stands.
    pub(super) fn came_up(&self, peer: &Peer, carrier: Carrier, now: Nanos) {
        let mut table = self.table.lock();
        let state = table.enter(peer.key, &peer.name, carrier, now);
        state.name.clone_from(&peer.name);
        (state.rights, state.quotas) = (peer.rights, peer.quotas);
        state.came_up(carrier, now);
        table.dirty = true;
    }

    /// It ended: every link that it was part of is down.
    pub(super) fn went_down(&self, key: &HostKey, reason: String, now: Nanos) -> News {
        let mut table = self.table.lock();
        let Some(state) = table.peers.get_mut(key) else { return News::default() };
        let (source, said) = (state.id, std::mem::take(&mut state.links));
        state.went_down(reason, now);
        let mut links = vec![state.link_there(), state.link_back(&self.own)];
        links.extend(table.lost(source, said.values()));
        News { links, standings: vec![] }
    }

    /// What it may do here has changed while its session stands; true if so.
    pub(super) fn granted(&self, peer: &Peer) -> bool {
        let mut table = self.table.lock();
        let Some(state) = table.peers.get_mut(&peer.key) else { return false };
        let after = (peer.rights, peer.quotas);
        if (state.rights, state.quotas) == after && state.name == peer.name {
            return false;
        }
        (state.rights, state.quotas) = after;
        state.name.clone_from(&peer.name);
        table.dirty = true;
        true
    }

    /// Whoever is no longer paired loses all it had; its id stays its own.
    pub(super) fn dismiss_others(&self, paired: impl Fn(&HostKey) -> bool) {
        let mut table = self.table.lock();
        let mut dirty = false;
        for (_, state) in table.peers.iter_mut().filter(|(key, _)| !paired(key)) {
            dirty |= state.advert.take().is_some() || state.rights != Rights::default();
            state.rights = Rights::default();
        }
        table.dirty |= dirty;
    }

    /// It has been told what this host has.
    pub(super) fn told(&self, key: &HostKey, epoch: u32) {
        if let Some(mut peer) = self.peer(key) {
            peer.told = Some(epoch);
        }
    }

    /// Hosts that stages can be passed on to.
    pub(super) fn helpers(&self) -> Vec<HostKey> {
        let table = self.table.lock();
        table.peers.iter().filter(|(_, p)| p.is_usable() && p.window() > 0).map(|(key, _)| *key).collect()
    }

    /// This host's links, in the words for others.
    pub(super) fn own_links(&self) -> Vec<bps_wire::LinkReport> {
        let table = self.table.lock();
        let link = |(key, state): (&HostKey, &PeerState)| {
            let LinkReport { up, bytes_per_second, rtt, backlog_bytes, .. } = state.link_there();
            bps_wire::LinkReport { to: *key, up, bytes_per_second, rtt, backlog_bytes }
        };
        table.peers.iter().filter(|(_, p)| p.is_usable()).take(advert::PEERS_MAX).map(link).collect()
    }

    /// It said what it has. An older one that was overtaken is dropped.
    pub(super) fn take_advert(&self, key: &HostKey, mut said: Advert) -> Result<(), String> {
        advert::check(&mut said)?;
        let mut table = self.table.lock();
        let state = table.peers.get_mut(key).filter(|p| p.is_up()).ok_or("no session with it")?;
        let overtaken = |before: &Arc<Advert>| before.epoch >= said.epoch;
        if state.fresh && state.advert.as_ref().is_some_and(overtaken) {
            return Ok(());
        }
        let indices: Vec<u32> = said.devices.iter().map(|d| d.index).collect();
        let changed = state.take_advert(said);
        table.number(key, &indices);
        table.dirty |= changed;
        Ok(())
    }

    /// The link's estimate has changed.
    pub(super) fn take_estimate(&self, key: &HostKey, estimate: Estimate) -> News {
        let mut table = self.table.lock();
        let Some(state) = table.peers.get_mut(key).filter(|p| p.is_up()) else { return News::default() };
        let first = state.estimate.replace(estimate).is_none();
        if !state.is_usable() {
            return News::default();
        }
        let mut links = vec![state.link_there()];
        if first {
            links.push(state.link_back(&self.own));
        }
        News { links, standings: vec![] }
    }

    /// How it stands. Dropped are reports whose numbers belong to another advert than the one that is known, and those that
    /// come too fast: the dispatcher hears of each. A host says nothing of a link that it has lost, so one that it no longer
    /// speaks of is down.
    pub(super) fn take_standing(&self, key: &HostKey, standing: bps_wire::Standing, now: Nanos) -> News {
        let mut table = self.table.lock();
        let Some(state) = table.peers.get_mut(key).filter(|p| p.fresh) else { return News::default() };
        let of_this_advert = state.advert.as_ref().is_some_and(|advert| advert.epoch == standing.epoch);
        if !of_this_advert || state.stood.is_some_and(|at| now.since(at) < STANDING_EVERY_MIN) {
            return News::default();
        }
        state.stood = Some(now);
        let known = |index: u32| state.advert.as_ref().is_some_and(|a| a.devices.iter().any(|d| d.index == index));
        let devices = standing.devices.into_iter().take(advert::DEVICES_MAX).filter(|r| known(r.index));
        state.reports = devices.map(|report| (report.index, report)).collect();
        let links = standing.links.into_iter().take(advert::PEERS_MAX).map(|link| (link.to, link)).collect();
        let mut said = std::mem::replace(&mut state.links, links);
        said.retain(|to, _| !state.links.contains_key(to));
        let source = state.id;
        let mut news = table.news_of(key, &self.own);
        news.links.extend(table.lost(source, said.values()));
        news
    }

    /// Everything the scheduler should know of links and devices, for after it has been told a world.
    pub(super) fn all_news(&self) -> News {
        let table = self.table.lock();
        let mut news = News::default();
        for (key, state) in table.peers.iter().filter(|(_, p)| p.in_world && p.is_usable()) {
            news.links.push(state.link_there());
            let more = table.news_of(key, &self.own);
            news.links.extend(more.links);
            news.standings.extend(more.standings);
        }
        news
    }

    /// Whether the world must be told anew, asked once.
    pub(super) fn take_dirty(&self, now: Nanos) -> bool {
        let mut table = self.table.lock();
        let members = table.members(now);
        let moved = table.peers.iter().any(|(key, p)| p.in_world != members.contains(key));
        std::mem::take(&mut table.dirty) | moved
    }

    /// Every model that can be had from a host whose session stands.
    pub(super) fn offers(&self) -> Vec<Offer> {
        let table = self.table.lock();
        let mut offers = Vec::new();
        for (key, state) in table.peers.iter().filter(|(_, p)| p.is_usable()) {
            let models = state.advert.iter().flat_map(|a| &a.models).filter(|m| m.exportable);
            offers.extend(models.map(|m| Offer {
                peer: *key,
                peer_name: state.name.clone(),
                digest: m.digest,
                cut_list: m.cut_list,
                calibration: m.calibration,
                name: m.name.clone(),
                file_bytes: m.file_bytes,
            }));
        }
        offers
    }

    /// Counts what was sent to a host.
    pub(super) fn sent(&self, key: &HostKey, bytes: u64) {
        if let Some(mut peer) = self.peer(key) {
            peer.sent_bytes = peer.sent_bytes.saturating_add(bytes);
        }
    }

    /// Counts what came from it.
    pub(super) fn received(&self, key: &HostKey, bytes: u64) {
        if let Some(mut peer) = self.peer(key) {
            peer.received_bytes = peer.received_bytes.saturating_add(bytes);
        }
    }

    /// Hosts whose session stands.
    pub(super) fn up(&self) -> Vec<HostKey> {
        self.table.lock().peers.iter().filter(|(_, p)| p.is_up()).map(|(key, _)| *key).collect()
    }
}

impl Table {
    fn enter(&mut self, key: HostKey, name: &str, carrier: Carrier, now: Nanos) -> &mut PeerState {
        let keys = &mut self.keys;
        self.peers.entry(key).or_insert_with(|| {
            keys.push(key);
            PeerState::new(HostId(keys.len() as u32), name.to_owned(), carrier, now)
        })
    }

    /// Whom the world should have: those who are present, as far as there is room.
    pub(super) fn members(&self, now: Nanos) -> BTreeSet<HostKey> {
        let present = self.peers.iter().filter(|(_, p)| p.is_present(now));
        present.map(|(key, _)| *key).take(HOSTS_MAX - 1).collect()
    }

    /// Gives ids to devices that have none. They are never given back: a peer has at most [`advert::DEVICES_MAX`].
    fn number(&mut self, key: &HostKey, indices: &[u32]) {
        for index in indices {
            if self.device_of(key, *index).is_none() {
                self.devices.push((*key, *index));
            }
        }
    }

    pub(super) fn device_of(&self, key: &HostKey, index: u32) -> Option<DeviceId> {
        let place = self.devices.iter().position(|d| d == &(*key, index))?;
        Some(DeviceId(self.first_device + place as u32))
    }

    /// Links of the host `source` to others of the world than this one, as it reported them.
    fn beyond<'a>(
        &self,
        source: HostId,
        said: impl Iterator<Item = &'a bps_wire::LinkReport>,
    ) -> impl Iterator<Item = LinkReport> {
        said.filter_map(move |said| {
            Some(LinkReport {
                source,
                target: self.peers.get(&said.to).filter(|p| p.in_world)?.id,
                up: said.up,
                bytes_per_second: sound(said.bytes_per_second),
                rtt: said.rtt,
                backlog_bytes: said.backlog_bytes,
            })
        })
    }

    /// The same, of links that are no more.
    fn lost<'a>(
        &self,
        source: HostId,
        said: impl Iterator<Item = &'a bps_wire::LinkReport>,
    ) -> impl Iterator<Item = LinkReport> {
        self.beyond(source, said).map(|link| LinkReport { up: false, backlog_bytes: 0, ..link })
    }

    /// What one host reported, but for the link from here to it.
    fn news_of(&self, key: &HostKey, own: &HostKey) -> News {
        let Some(state) = self.peers.get(key).filter(|p| p.is_usable()) else { return News::default() };
        let mut links = vec![state.link_back(own)];
        links.extend(self.beyond(state.id, state.links.values()));
        let standing =
            |(index, report): (&u32, &DeviceReport)| Some(state.standing(report, self.device_of(key, *index)?));
        News { links, standings: state.reports.iter().filter_map(standing).collect() }
    }
}

#[cfg(test)]
mod tests;
