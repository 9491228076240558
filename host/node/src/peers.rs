//! The other hosts: who they are, what they have, what this host tells them.
//!
//! [`Peers`] is the handle for whoever sends something or looks something up. What the transport tells comes in through
//! `inbox.rs`; `roster.rs` is the table of what is known; `neighbours.rs` makes the scheduler's world of it; `upkeep.rs`
//! tells the world and the peers; `fetcher.rs` and `exports.rs` move models.
//!
//! **Invariants.** A host's id and its devices' ids hold for the run. What came from another host is checked before it is
//! kept and bounded in every length. Nothing here waits for a peer; the dispatcher's thread meets only short locks.

mod advert;
mod corrected;
mod exports;
mod fetch;
mod fetcher;
mod inbox;
mod neighbours;
mod roster;
mod shelf;
mod state;
#[cfg(test)]
pub(crate) mod testing;
mod upkeep;
mod view;
mod whole;

pub(crate) use neighbours::{LocalModel, Neighbours};
pub(crate) use roster::{OWN_HOST, Roster};

use crate::dispatcher::{Dispatcher, Message};
use crate::models::Models;
use crate::{HostError, PeersConfig, clock};
use bps_engine::Engine;
use bps_transport::{Identity, PeerStore, Quotas, Rights, SendError, Settings, Transport, TransportError};
use bps_types::{DeviceId, HostId};
use bps_wire::HostKey;
use fetcher::{Fetcher, Progress};
use inbox::Inbox;
use parking_lot::Mutex;
use shelf::Shelf;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use tokio::sync::{Notify, mpsc, watch};
use upkeep::Upkeep;

/// Bytes per peer that are sent and not yet received there.
const IN_FLIGHT_BYTES_MAX: u64 = 256 << 20;
/// Largest frame: 32 rows of the widest activation of a ResNet take 103 MB unencoded.
const FRAME_BYTES_MAX: u64 = 128 << 20;

/// What models need to know of other hosts.
#[derive(Clone)]
pub(crate) struct Circle {
    pub(crate) roster: Arc<Roster>,
    /// What this host is called.
    pub(crate) name: String,
}

/// The handle.
pub(crate) struct Peers {
    pub(crate) roster: Arc<Roster>,
    name: String,
    models: Arc<Models>,
    dispatcher: Dispatcher,
    engine: Engine,
    store: PeerStore,
    transport: Transport,
    inbox: Arc<Inbox>,
    wake: Arc<Notify>,
    stop: watch::Sender<bool>,
    /// Of the fetch under way.
    progress: Mutex<Option<Progress>>,
}

/// What is needed to meet others.
pub(crate) struct Parts<'a> {
    pub(crate) config: PeersConfig,
    pub(crate) state_dir: &'a Path,
    pub(crate) identity: Identity,
    pub(crate) roster: Arc<Roster>,
    pub(crate) models: Arc<Models>,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) engine: Engine,
}

/// Who this host is; made where there is none yet.
pub(crate) fn identity(state_dir: &Path) -> Result<Identity, HostError> {
    Identity::load_or_make(state_dir).map_err(|e| HostError::Peers(e.to_string()))
}

fn of_transport(error: TransportError) -> HostError {
    match error {
        TransportError::Listen { .. } => HostError::PeerListen(error.to_string()),
        other => HostError::Peers(other.to_string()),
    }
}

/// Whether the list of paired hosts can be read, and the place where they connect is free now.
pub(crate) fn check(config: &PeersConfig, state_dir: &Path) -> Result<(), HostError> {
    let fails = |e: &dyn std::fmt::Display| HostError::Peers(e.to_string());
    let store = PeerStore::open(state_dir).map_err(|e| fails(&e))?;
    match config.listen {
        Some(address) if !(config.listen_once_paired && store.list().is_empty()) => {
            bps_transport::check_address(address, config.carrier).map_err(of_transport)
        }
        _ => Ok(()),
    }
}

impl Peers {
    /// Starts to meet others. Inside a runtime; ends with [`Peers::request_stop`].
    pub(crate) fn start(parts: Parts<'_>) -> Result<Arc<Self>, HostError> {
        let Parts { config, state_dir, identity, roster, models, dispatcher, engine } = parts;
        let fails = |e: &dyn std::fmt::Display| HostError::Peers(e.to_string());
        let store = PeerStore::open(state_dir).map_err(|e| fails(&e))?;
        let wake = Arc::new(Notify::new());
        let (questions, asked) = mpsc::channel(inbox::QUESTIONS_MAX);
        let (given, answers) = mpsc::channel(inbox::GIVEN_MAX);
        let inbox = Arc::new(Inbox {
            roster: roster.clone(),
            models: models.clone(),
            dispatcher: dispatcher.clone(),
            window: config.window,
            wake: wake.clone(),
            questions,
            given,
            peers: OnceLock::new(),
        });
        let settings = Settings {
            name: config.name.clone(),
            software: concat!("bps ", env!("CARGO_PKG_VERSION")).into(),
            listen: config.listen,
            listen_once_paired: config.listen_once_paired,
            carrier: config.carrier,
            in_flight_bytes_max: IN_FLIGHT_BYTES_MAX,
            frame_bytes_max: FRAME_BYTES_MAX,
        };
        let sink = inbox.clone();
        let sink = Arc::new(move |happening| sink.happened(happening));
        let transport = Transport::start(settings, identity, store.clone(), clock::now, sink).map_err(of_transport)?;
        let peers = Arc::new(Self {
            roster,
            name: config.name,
            models,
            dispatcher,
            engine,
            store,
            transport,
            inbox: inbox.clone(),
            wake,
            stop: watch::Sender::new(false),
            progress: Mutex::default(),
        });
        // Set once, here.
        let _ = inbox.peers.set(Arc::downgrade(&peers));
        peers.dispatcher.send(Message::Peers(peers.clone()));
        tokio::spawn(Upkeep::new(peers.clone()).run());
        tokio::spawn(exports::run(peers.clone(), asked));
        let shelf = Shelf::new(state_dir, config.disk_bytes_max);
        tokio::spawn(Fetcher::new(peers.clone(), shelf).run(answers));
        Ok(peers)
    }

    /// Takes leave of every peer.
    pub(crate) async fn stop(&self) {
        self.stop.send_replace(true);
        self.transport.stop().await;
    }

    /// The same, without waiting.
    pub(crate) fn request_stop(&self) {
        self.stop.send_replace(true);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let transport = self.transport.clone();
            runtime.spawn(async move { transport.stop().await });
        }
    }

    /// True once the host stops.
    fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Something has changed that others should hear of.
    fn wake(&self) {
        self.wake.notify_one();
    }

    /// Hands a message over; the bytes of its frame.
    ///
    /// # Errors
    /// Where no session stands, the link is full, or the message does not fit; nothing has been sent then.
    pub(crate) fn send(&self, to: HostId, message: bps_wire::Message) -> Result<u64, SendError> {
        self.send_to(self.roster.key_of(to).ok_or(SendError::Down)?, message)
    }

    fn send_to(&self, to: HostKey, message: bps_wire::Message) -> Result<u64, SendError> {
        let bytes = self.transport.send(to, message)?;
        self.roster.sent(&to, bytes);
        Ok(bytes)
    }

    /// The answer to a dispatch is no longer wanted; for every host of its way.
    pub(crate) fn recall(&self, host: HostId, dispatch: u64) {
        if let Some(key) = self.roster.key_of(host) {
            self.transport.recall(key, dispatch);
        }
    }

    /// Who this host is.
    pub(crate) fn self_key(&self) -> HostKey {
        self.roster.self_key()
    }

    /// The id of a host; this one's is known too.
    pub(crate) fn id_of(&self, key: HostKey) -> Option<HostId> {
        self.roster.id_of(&key)
    }

    /// Whose a device is, and its index there.
    pub(crate) fn route_of(&self, device: DeviceId) -> Option<(HostKey, u32)> {
        self.roster.route_of(device)
    }

    /// What a host whose session stands may do here.
    pub(crate) fn rights(&self, key: HostKey) -> Option<(Rights, Quotas)> {
        self.roster.rights(&key)
    }

    /// A host's clock minus ours, nanoseconds; none while its session has no estimate.
    pub(crate) fn clock_offset(&self, host: HostId) -> Option<i64> {
        self.roster.clock_offset(host)
    }
}

/// Waits until the host stops; a sender that is gone means the same.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The value is looked at in there; holding on to it would lock the sender out.
    let _ = stop.wait_for(|stop| *stop).await;
}
