//! Fetches models that peers serve and this host lacks, one at a time, so that their stages can be executed here.
//!
//! A fetched model is hostile input: it is taken only under its digest, in files with plain names, parsed within the limits
//! of any model, kept within a quota, and served to stages of other hosts only. Room is made by giving up models that no peer
//! offers any more; one that is on offer is never given up for another, or the two would chase each other for ever.

mod renewal;

use self::renewal::Renewal;
use super::fetch::{Fetch, Taken};
use super::inbox::Given;
use super::roster::Offer;
use super::shelf::{Item, Shelf};
use super::{Peers, stopped};
use crate::clock;
use bps_types::{Nanos, hex};
use bps_wire::{HostKey, ModelList, ModelPart};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;

/// How often is looked for something to fetch.
const TICK: Duration = Duration::from_millis(250);
/// How often models are marked as used, ticks.
const MARK_EVERY: u32 = 240;
/// After a first failure a model is left alone for so long, after each further one four times as long.
const SETBACK_FIRST: Nanos = Nanos::from_secs(30);
const SETBACK_MAX: Nanos = Nanos::from_secs(3_600);
/// Digests whose failures are remembered.
const SETBACKS_MAX: usize = 1_024;

/// How far a fetch has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) digest: [u8; 32],
    pub(super) bytes: u64,
}

/// A model that could not be had.
#[derive(Clone, Copy, Debug)]
struct Setback {
    failures: u32,
    until: Nanos,
}

pub(super) struct Fetcher {
    peers: Arc<Peers>,
    shelf: Arc<Shelf>,
    active: Option<Fetch>,
    setbacks: BTreeMap<[u8; 32], Setback>,
    /// How often fetched models had been referred to when they were last marked.
    used: BTreeMap<[u8; 32], u64>,
    /// Fingerprints of the hosts that fetched models came from.
    origins: BTreeMap<[u8; 32], String>,
    renewals: BTreeMap<[u8; 32], Renewal>,
}

impl Fetcher {
    pub(super) fn new(peers: Arc<Peers>, shelf: Shelf) -> Self {
        Self {
            peers,
            shelf: Arc::new(shelf),
            active: None,
            setbacks: BTreeMap::new(),
            used: BTreeMap::new(),
            origins: BTreeMap::new(),
            renewals: BTreeMap::new(),
        }
    }

    /// Works until the host stops.
    pub(super) async fn run(mut self, mut given: Receiver<(HostKey, Given)>) {
        let mut stop = self.peers.stopping();
        self.serve_kept().await;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut ticks = 0u32;
        loop {
            tokio::select! {
                answer = given.recv() => match answer {
                    Some((peer, answer)) => self.take(peer, answer).await,
                    None => return,
                },
                _ = tick.tick() => {
                    ticks = ticks.wrapping_add(1);
                    self.look().await;
                    if ticks.is_multiple_of(MARK_EVERY) {
                        self.mark_used().await;
                    }
                }
                () = stopped(&mut stop) => return,
            }
            self.show_progress();
        }
    }

    /// Serves what earlier runs have fetched. What is no longer what it was is thrown away.
    async fn serve_kept(&mut self) {
        let shelf = self.shelf.clone();
        let kept = blocking(move || {
            let items = shelf.scan().unwrap_or_else(|error| {
                tracing::warn!(%error, "fetched models not read");
                vec![]
            });
            let (sound, unsound): (Vec<Item>, Vec<Item>) =
                items.into_iter().filter(|i| !i.partial).partition(|i| shelf.is_sound(&i.digest));
            unsound.iter().for_each(|i| shelf.discard(&i.digest));
            sound
        });
        for item in kept.await.unwrap_or_default() {
            self.origins.insert(item.digest, item.origin.fingerprint.clone());
            if let Err(reason) = self.serve(item.digest, item.origin.name.clone()).await {
                tracing::warn!(model = item.origin.name, reason, "a fetched model is not served");
            }
        }
    }

    /// Loads a whole model and serves it to other hosts' stages.
    async fn serve(&self, digest: [u8; 32], name: String) -> Result<(), String> {
        if self.peers.models.of_digest(&digest).is_some_and(|model| !model.fetched) {
            return Ok(()); // this host has it as its own
        }
        let (loader, source) = (self.peers.models.loader().clone(), self.shelf.source(&digest));
        let model = blocking(move || loader.load_fetched(&name, &source)).await??;
        if model.graph.digest != digest {
            return Err(format!("what was loaded has the digest {}", hex(&model.graph.digest)));
        }
        if !self.peers.models.admit_fetched(Arc::new(model)).await {
            return Err("this host serves as many models as it can".into());
        }
        self.peers.wake();
        Ok(())
    }

    /// Goes on with the fetch under way, or begins one.
    async fn look(&mut self) {
        if let Some(fetch) = &self.active
            && !self.peers.roster.up().contains(&fetch.offer().peer)
        {
            self.active = None; // goes on from what is on disk, with whoever has it
        }
        if self.active.is_none() {
            self.begin();
        }
        self.ask();
    }

    fn ask(&mut self) {
        let Some(fetch) = &mut self.active else { return };
        match fetch.next(clock::now()) {
            Ok(None) => {}
            Ok(Some(wanted)) => {
                if self.peers.send_to(fetch.offer().peer, wanted).is_err() {
                    fetch.not_sent();
                }
            }
            Err(reason) => self.fail(&reason),
        }
    }

    /// Picks the first offer that is worth a try. Nothing is made on disk before the list of files has come.
    fn begin(&mut self) {
        let offers = self.peers.roster.offers();
        let now = clock::now();
        let lacking = |o: &&Offer| self.rested(o, now) && self.peers.models.of_digest(&o.digest).is_none();
        let first = offers.iter().find(lacking).cloned();
        let Some(offer) = first.or_else(|| self.renewal(&offers, now)) else { return };
        let most = self.shelf.bytes_max().min(bps_graph::Limits::default().file_bytes);
        if offer.file_bytes == 0 || offer.file_bytes > most {
            let reason = format!("its files have {} bytes, at most {most} are taken", offer.file_bytes);
            return self.set_back(&offer, &reason);
        }
        self.active = Some(Fetch::new(offer));
    }

    async fn take(&mut self, peer: HostKey, answer: Given) {
        let Some(fetch) = self.active.as_ref().filter(|f| f.offer().peer == peer) else { return };
        match answer {
            Given::Denied(denied) if denied.digest == fetch.offer().digest => {
                let message: String = denied.message.chars().filter(|c| !c.is_control()).take(200).collect();
                self.fail(&format!("it is not given: {message}"));
            }
            Given::Denied(_) => {}
            Given::List(list) => self.take_list(list).await,
            Given::Part(part) => self.take_part(part).await,
        }
    }

    /// Makes room for the files of a list, and goes on from what is there of them.
    async fn take_list(&mut self, list: ModelList) {
        let Some(fetch) = &mut self.active else { return };
        match fetch.takes_list(&list) {
            Ok(true) => {}
            Ok(false) => return,
            Err(reason) => return self.fail(&reason),
        }
        let offer = fetch.offer().clone();
        let (model, bytes, peer, files) = (&offer.name, offer.file_bytes, &offer.peer_name, list.files.len());
        let offered: BTreeSet<[u8; 32]> = self.peers.roster.offers().iter().map(|o| o.digest).collect();
        let (shelf, wanted, listed) = (self.shelf.clone(), offer.clone(), list.clone());
        let begun = blocking(move || shelf.begin(&wanted, &listed, |digest| offered.contains(digest))).await;
        let (have, given_up) = match begun.and_then(|result| result) {
            Ok(begun) => begun,
            Err(reason) => return self.fail(&reason),
        };
        for digest in given_up {
            tracing::info!(digest = hex(&digest), "a fetched model is given up to make room");
            self.peers.models.dismiss_fetched(&digest).await;
        }
        let Some(fetch) = &mut self.active else { return };
        fetch.go_on(list.files, have);
        let have = fetch.have();
        tracing::info!(model, peer, files, bytes, have, "fetching a model");
        if fetch.is_complete() {
            self.finish().await;
        } else {
            self.ask();
        }
    }

    async fn take_part(&mut self, part: ModelPart) {
        let Some(fetch) = &mut self.active else { return };
        let digest = fetch.offer().digest;
        match fetch.take(part) {
            Ok(Taken::Ignored) => {}
            Ok(Taken::Piece { file, offset, data }) => {
                let complete = fetch.is_complete();
                let shelf = self.shelf.clone();
                let written = blocking(move || shelf.append(&digest, &file, offset, &data)).await;
                match written.and_then(|result| result) {
                    Err(reason) => self.fail(&reason),
                    Ok(()) if complete => self.finish().await,
                    Ok(()) => self.ask(),
                }
            }
            Err(reason) => {
                self.let_go(digest, Shelf::discard_partial).await;
                self.fail(&reason);
            }
        }
    }

    /// All bytes are there: are they the right ones?
    async fn finish(&mut self) {
        let Some(fetch) = self.active.take() else { return };
        let offer = fetch.offer().clone();
        let (shelf, digest) = (self.shelf.clone(), offer.digest);
        let finished = blocking(move || shelf.finish(&digest)).await.and_then(|result| result);
        if let Err(reason) = finished {
            self.let_go(digest, Shelf::discard_partial).await;
            return self.set_back(&offer, &reason);
        }
        let served = self.serve(digest, offer.name.clone()).await;
        self.renewed(&offer, clock::now());
        match served {
            Ok(()) => {
                self.setbacks.remove(&digest);
                self.origins.insert(digest, offer.peer.to_string());
                if self.peers.models.of_digest(&digest).is_some_and(|m| m.cut_list != offer.cut_list) {
                    let reason = "cut lists differ: splits are refused, whole models are run";
                    tracing::warn!(
                        model = offer.name,
                        peer = offer.peer_name,
                        reason,
                        "a fetched model is not the same"
                    );
                }
                tracing::info!(model = offer.name, peer = offer.peer_name, "a model was fetched");
            }
            Err(reason) => {
                self.let_go(digest, Shelf::discard).await;
                self.set_back(&offer, &reason);
            }
        }
    }

    async fn let_go(&self, digest: [u8; 32], discard: fn(&Shelf, &[u8; 32])) {
        let shelf = self.shelf.clone();
        // A panic in there would have been logged; there is nothing to give back.
        let _ = blocking(move || discard(&shelf, &digest)).await;
    }

    fn fail(&mut self, reason: &str) {
        if let Some(fetch) = self.active.take() {
            self.set_back(&fetch.offer().clone(), reason);
        }
    }

    /// Whether its last failure is long enough ago.
    fn rested(&self, offer: &Offer, now: Nanos) -> bool {
        self.setbacks.get(&offer.digest).is_none_or(|setback| setback.until <= now)
    }

    fn set_back(&mut self, offer: &Offer, reason: &str) {
        let before = self.setbacks.get(&offer.digest).map_or(0, |s| s.failures);
        let rest = SETBACK_FIRST.0.saturating_mul(4u64.saturating_pow(before)).min(SETBACK_MAX.0);
        let until = clock::now() + Nanos(rest);
        self.setbacks.insert(offer.digest, Setback { failures: before + 1, until });
        // Digests come from outside: the longest past are forgotten first.
        while self.setbacks.len() > SETBACKS_MAX {
            let oldest = self.setbacks.iter().min_by_key(|(_, s)| s.until).map(|(digest, _)| *digest);
            oldest.and_then(|digest| self.setbacks.remove(&digest));
        }
        tracing::warn!(model = offer.name, peer = offer.peer_name, reason, "a model was not fetched");
    }

    /// Models that have had something to do since the last time are marked as used; what is known of those that are gone is
    /// forgotten.
    async fn mark_used(&mut self) {
        let (_, models) = self.peers.models.present();
        let present: BTreeSet<[u8; 32]> = models.iter().filter(|m| m.fetched).map(|m| m.graph.digest).collect();
        self.used.retain(|digest, _| present.contains(digest));
        self.origins.retain(|digest, _| present.contains(digest));
        self.renewals.retain(|digest, _| present.contains(digest));
        for model in models.iter().filter(|m| m.fetched) {
            let (digest, entered) = (model.graph.digest, model.entered_count());
            if self.used.insert(digest, entered).unwrap_or_default() != entered {
                let shelf = self.shelf.clone();
                // A panic in there would have been logged; an old mark only makes the model go earlier.
                let _ = blocking(move || shelf.touch(&digest)).await;
            }
        }
    }

    fn show_progress(&self) {
        let progress = self.active.as_ref().map(|f| Progress { digest: f.offer().digest, bytes: f.have() });
        *self.peers.progress.lock() = progress;
    }
}

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|e| e.to_string())
}
