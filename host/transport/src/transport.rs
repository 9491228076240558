//! The transport as its owner sees it.

use crate::error::{SendError, TransportError};
use crate::happening::{Happening, PeerStatus};
use crate::hub::{Hub, REFRESH_EVERY};
use crate::identity::Identity;
use crate::listen::Listener;
use crate::peers::PeerStore;
use crate::session::Session;
use crate::settings::{CarrierChoice, Settings};
use bps_types::Nanos;
use bps_wire::{HostKey, Message};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::sleep;

/// How long goodbyes may take, all together.
const STOP_MAX: Duration = Duration::from_millis(800);

/// Sessions with all peers. A handle; when the last is dropped every connection is, too, without goodbyes.
#[derive(Clone)]
pub struct Transport(Arc<Running>);

struct Running {
    hub: Arc<Hub>,
    listening: Arc<OnceLock<SocketAddr>>,
    /// What makes new sessions: it ends first.
    front: Vec<AbortHandle>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.hub.abort();
    }
}

impl Transport {
    /// Listens and dials every peer in `store` that has an address; the store is looked at again every second. Must be
    /// called inside a tokio runtime. `clock` is this host's time, which estimates and clock offsets are in.
    ///
    /// `sink` hears what happens, from several threads but in order for each peer. It must not block, and may call
    /// [`Self::send`], [`Self::recall`] and [`Self::status`].
    ///
    /// # Errors
    /// Where a setting is out of bounds or the address cannot be listened on now. Where it cannot later
    /// ([`Settings::listen_once_paired`]), the log says so.
    pub fn start(
        settings: Settings,
        identity: Identity,
        store: PeerStore,
        clock: fn() -> Nanos,
        sink: Arc<dyn Fn(Happening) + Send + Sync>,
    ) -> Result<Self, TransportError> {
        let (listen, choice, later) = (settings.listen, settings.carrier, settings.listen_once_paired);
        let hub = Arc::new(Hub::new(settings, identity, store, clock, sink)?);
        let listening = Arc::new(OnceLock::new());
        let mut front = Vec::new();
        match listen {
            Some(address) if later && hub.store.list().is_empty() => {
                front.extend(hub.spawn(listen_later(address, choice, hub.clone(), listening.clone())));
            }
            Some(address) => {
                let listener = Listener::bind(address, choice, &hub)?;
                listening.get_or_init(|| listener.address);
                front.extend(hub.spawn(listener.run(hub.clone())));
            }
            None => {}
        }
        hub.refresh();
        front.extend(hub.spawn(hub.clone().keep()));
        Ok(Self(Arc::new(Running { hub, listening, front })))
    }

    /// Accepts a message for a peer that is up and returns its frame's bytes. Never blocks; what is accepted arrives
    /// unless the peer goes down. Messages that are not control messages may overtake each other.
    ///
    /// # Errors
    /// [`SendError::Full`] passes; the others are about the peer or the message.
    pub fn send(&self, peer: HostKey, message: Message) -> Result<u64, SendError> {
        self.up(peer).ok_or(SendError::Down)?.send(&message)
    }

    /// The answer to a dispatch of this host is no longer wanted. What has not been sent whole is dropped and never
    /// arrives; otherwise the peer is told by a [`Message::Recall`].
    pub fn recall(&self, peer: HostKey, dispatch: u64) {
        if let Some(session) = self.up(peer) {
            session.recall(dispatch);
        }
    }

    /// Every peer in the store, by key.
    pub fn status(&self) -> Vec<PeerStatus> {
        self.0.hub.roster.status()
    }

    /// Where it listens, with the port the system chose where 0 was asked for.
    pub fn listening(&self) -> Option<SocketAddr> {
        self.0.listening.get().copied()
    }

    /// Says goodbye to every peer and ends; takes less than a second. Nothing is sent or heard afterwards.
    pub async fn stop(&self) {
        let Running { hub, front, .. } = &*self.0;
        front.iter().for_each(AbortHandle::abort);
        hub.roster.stop_dialling();
        hub.roster.sessions().iter().for_each(|session| session.end("the host is shutting down"));
        let step = Duration::from_millis(5);
        let mut waited = Duration::ZERO;
        while !hub.roster.sessions().is_empty() && waited < STOP_MAX {
            sleep(step).await;
            waited += step;
        }
        hub.abort();
    }

    fn up(&self, peer: HostKey) -> Option<Arc<Session>> {
        self.0.hub.roster.session(&peer).filter(|session| session.up_since().is_some())
    }
}

/// Waits for the first peer, then listens, for ever.
async fn listen_later(address: SocketAddr, choice: CarrierChoice, hub: Arc<Hub>, listening: Arc<OnceLock<SocketAddr>>) {
    while hub.store.list().is_empty() {
        sleep(REFRESH_EVERY).await;
    }
    match Listener::bind(address, choice, &hub) {
        Ok(listener) => {
            let at = *listening.get_or_init(|| listener.address);
            tracing::info!(%at, "listens for the host that was paired");
            listener.run(hub).await;
        }
        Err(error) => tracing::error!(%error, "the host that was paired cannot connect to this one"),
    }
}
