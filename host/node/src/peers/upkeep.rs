//! What is due from time to time: telling the world when it has changed, telling peers what this host has and how it stands,
//! noticing what was granted or taken back.

use super::advert::Own;
use super::corrected::Corrected;
use super::roster::News;
use super::{Peers, stopped};
use crate::clock;
use crate::models::{Other, unmatched_anywhere};
use bps_transport::{Peer, Quotas, Rights};
use bps_types::Nanos;
use bps_wire::{Advert, DeviceReport, HostKey, LinkReport, Message, Standing};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// Between two standings.
const TICK: Duration = Duration::from_millis(100);
/// Between two worlds, whatever peers say in between: each is told to the policy.
const WORLD_EVERY: Nanos = Nanos::from_millis(50);
/// Between two adverts to one host.
const ADVERT_EVERY: Nanos = Nanos::from_millis(250);
/// Between two looks at what executions have taught: others are told no more often, and each telling is an advert.
const CORRECTED_EVERY: Nanos = Nanos::from_secs(5);
/// Between two looks at the list of paired hosts and at free memory.
const LOOK_EVERY: Nanos = Nanos::from_secs(1);

pub(super) struct Upkeep {
    peers: Arc<Peers>,
    epoch: u32,
    /// When the world was told last.
    world_told: Nanos,
    /// What each host was told last, and when.
    told: BTreeMap<HostKey, (Nanos, Cause)>,
    looked: Nanos,
    memory_free: Vec<Option<u64>>,
    corrected: Corrected,
    /// When it was looked at last.
    corrected_at: Nanos,
    /// Models and placement patterns of theirs that the log has named.
    unmatched: BTreeSet<(String, String)>,
}

/// All that an advert is made from: another one is due when this is another.
#[derive(Clone, Debug, PartialEq)]
struct Cause {
    models: u64,
    peers: Vec<HostKey>,
    rights: Rights,
    quotas: Quotas,
    /// Of [`Corrected`].
    corrected: u64,
}

impl Upkeep {
    pub(super) fn new(peers: Arc<Peers>) -> Self {
        Self {
            peers,
            epoch: 0,
            world_told: Nanos::ZERO,
            told: BTreeMap::new(),
            looked: Nanos::ZERO,
            memory_free: vec![],
            corrected: Corrected::default(),
            corrected_at: Nanos::ZERO,
            unmatched: BTreeSet::new(),
        }
    }

    /// Works until the host stops.
    pub(super) async fn run(mut self) {
        let mut stop = self.peers.stopping();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let wake = self.peers.wake.clone();
        self.look();
        loop {
            tokio::select! {
                _ = tick.tick() => {
                    if clock::now().since(self.looked) >= LOOK_EVERY {
                        self.look();
                    }
                    if clock::now().since(self.corrected_at) >= CORRECTED_EVERY {
                        self.correct().await;
                    }
                    self.tell_world();
                    self.advertise();
                    self.stand();
                }
                () = wake.notified() => {
                    self.tell_world();
                    self.advertise();
                }
                () = stopped(&mut stop) => return,
            }
        }
    }

    /// The list of paired hosts may have been changed by another process; so may free memory.
    fn look(&mut self) {
        self.looked = clock::now();
        let peers = &self.peers;
        self.memory_free = (0..peers.engine.devices().len()).map(|index| peers.engine.memory_free(index)).collect();
        if let Err(error) = peers.store.refresh() {
            tracing::warn!(%error, "the list of paired hosts is not read again");
        }
        let mut paired = peers.store.list();
        for peer in &mut paired {
            peer.quotas = peers.inbox.bounded(peer.quotas);
            if peers.roster.granted(peer) {
                tracing::info!(peer = peer.name, rights = %peer.rights, "a peer's rights or name have changed");
            }
        }
        peers.roster.dismiss_others(|key| paired.iter().any(|p| p.key == *key));
        self.name_unmatched(paired);
    }

    /// Says once of each placement pattern of an own model that it matches no device, as far as the paired hosts have told
    /// theirs.
    fn name_unmatched(&mut self, paired: Vec<Peer>) {
        let Self { peers, unmatched, .. } = self;
        let own: Vec<&str> = peers.engine.devices().iter().map(|d| d.name.as_str()).collect();
        let other = |peer: Peer| Other { devices: peers.roster.device_names(&peer.key), name: peer.name };
        let others: Vec<Other> = paired.into_iter().map(other).collect();
        for model in peers.models.present().1.iter().filter(|model| !model.fetched) {
            for pattern in unmatched_anywhere(&model.manifest.placement, &own, &others) {
                if unmatched.insert((model.name.clone(), pattern.to_owned())) {
                    tracing::warn!(model = model.name, pattern, "a placement pattern matches no device");
                }
            }
        }
    }

    /// What the scheduler plans with by now, as far as it was told to its policy.
    async fn correct(&mut self) {
        self.corrected_at = clock::now();
        let Some(briefing) = self.peers.dispatcher.briefing().await else { return };
        let (_, models) = self.peers.models.present();
        let first = |model, device| models.iter().find(|m| m.id.0 == model)?.costs.stage_nanos(device);
        self.corrected.take(&briefing.tables, first);
    }

    /// The scheduler first hears of hosts and devices, then how they and their links stand.
    fn tell_world(&mut self) {
        let now = clock::now();
        if now.since(self.world_told) >= WORLD_EVERY && self.peers.roster.take_dirty(now) {
            self.world_told = now;
            self.peers.models.tell_world();
            let news: News = self.peers.roster.all_news();
            self.peers.inbox.tell(news);
        }
    }

    /// Tells each host what it has not heard yet.
    fn advertise(&mut self) {
        let now = clock::now();
        let (changes, models) = self.peers.models.present();
        let up = self.peers.roster.up();
        self.told.retain(|key, _| up.contains(key));
        for key in &up {
            let Some((rights, quotas)) = self.peers.rights(*key) else { continue };
            let others = self.peers.roster.helpers().into_iter().filter(|k| k != key).collect();
            let corrected = self.corrected.changes();
            let cause = Cause { models: changes, peers: others, rights, quotas, corrected };
            let last = self.told.get(key).filter(|_| self.peers.roster.told_epoch(key).is_some());
            if last.is_some_and(|(at, before)| *before == cause || now.since(*at) < ADVERT_EVERY) {
                continue;
            }
            let own = Own {
                devices: self.peers.engine.devices(),
                models: &models,
                peers: cause.peers.clone(),
                window: quotas.window,
                corrected: &self.corrected,
            };
            self.epoch += 1;
            let advert = own.advert(self.epoch, rights);
            if self.send(*key, advert) {
                self.told.insert(*key, (now, cause));
            }
        }
    }

    /// An advert that does not fit is said once; one for which there is no room now is due again at the next tick.
    fn send(&self, key: HostKey, advert: Advert) -> bool {
        let epoch = advert.epoch;
        match self.peers.send_to(key, Message::Advert(advert)) {
            Ok(_) => {}
            Err(bps_transport::SendError::TooLarge { bytes, bytes_max }) => {
                tracing::warn!(key = %key.short(), bytes, bytes_max, "this host has more than a peer can be told");
            }
            Err(error) => {
                tracing::debug!(key = %key.short(), %error, "an advert waits");
                return false;
            }
        }
        self.peers.roster.told(&key, epoch);
        true
    }

    /// Tells each host how this one stands.
    fn stand(&self) {
        let devices: Vec<DeviceReport> = self
            .peers
            .dispatcher
            .standing()
            .into_iter()
            .map(|(index, up, backlog, running)| DeviceReport {
                index,
                up,
                backlog,
                running,
                memory_free: self.memory_free.get(index as usize).copied().flatten(),
            })
            .collect();
        let links: Vec<LinkReport> = self.peers.roster.own_links();
        for key in self.peers.roster.up() {
            let Some(epoch) = self.peers.roster.told_epoch(&key) else { continue };
            let may = self.peers.rights(key).is_some_and(|(rights, _)| rights.execute);
            let devices = if may { devices.clone() } else { vec![] };
            let standing = Standing { epoch, devices, links: links.clone() };
            // Where there is no room now, there is more to be said in a moment.
            let _ = self.peers.send_to(key, Message::Standing(standing));
        }
    }
}
