//! What the transport tells, sorted: each kind goes to whom it concerns, at once and without waiting.
//!
//! Called from the transport's own tasks. The bounded queues of questions about models and of answers drop what is too much: both sides ask
//! again.

use super::Peers;
use super::roster::{News, Roster};
use crate::clock;
use crate::dispatcher::{Dispatcher, Message};
use crate::models::Models;
use bps_transport::{Happening, Peer, Quotas};
use bps_wire::{HostKey, ListWanted, ModelDenied, ModelList, ModelPart, ModelWanted};
use std::sync::{Arc, OnceLock, Weak};
use tokio::sync::Notify;
use tokio::sync::mpsc::Sender;

/// Questions about files of models that wait.
pub(super) const QUESTIONS_MAX: usize = 64;
/// Answers that wait to be written: one is asked for at a time.
pub(super) const GIVEN_MAX: usize = 4;

/// A question about a model's files.
#[derive(Clone, Copy)]
pub(super) enum Question {
    List(ListWanted),
    Piece(ModelWanted),
}

/// The answer to one.
pub(super) enum Given {
    List(ModelList),
    Part(ModelPart),
    Denied(ModelDenied),
}

/// The receiver of happenings.
pub(super) struct Inbox {
    pub(super) roster: Arc<Roster>,
    pub(super) models: Arc<Models>,
    pub(super) dispatcher: Dispatcher,
    /// Most dispatches that any host may have with each device here.
    pub(super) window: u32,
    /// Wakes whoever tells the world.
    pub(super) wake: Arc<Notify>,
    pub(super) questions: Sender<(HostKey, Question)>,
    pub(super) given: Sender<(HostKey, Given)>,
    /// Set once the transport runs.
    pub(super) peers: OnceLock<Weak<Peers>>,
}

impl Inbox {
    /// Takes one.
    pub(super) fn happened(&self, happening: Happening) {
        match happening {
            Happening::Up { peer, name, rights, quotas, carrier } => {
                tracing::info!(peer = name, key = %peer.short(), %carrier, "a peer is there");
                let quotas = self.bounded(quotas);
                self.roster.came_up(&Peer { key: peer, name, address: None, rights, quotas }, carrier, clock::now());
                self.wake.notify_one();
            }
            Happening::Down { peer, reason } => {
                tracing::info!(key = %peer.short(), reason, "a peer is gone");
                self.tell(self.roster.went_down(&peer, reason, clock::now()));
                self.wake.notify_one();
            }
            Happening::Estimate { peer, estimate } => self.tell(self.roster.take_estimate(&peer, estimate)),
            Happening::Arrived { peer, message, bytes } => {
                self.roster.received(&peer, bytes);
                self.arrived(peer, message, bytes);
            }
        }
    }

    /// What a host was granted, as far as this host grants anybody.
    pub(super) fn bounded(&self, quotas: Quotas) -> Quotas {
        Quotas { window: quotas.window.min(self.window), ..quotas }
    }

    fn arrived(&self, peer: HostKey, message: bps_wire::Message, bytes: u64) {
        use bps_wire::Message as Said;
        match message {
            Said::Advert(advert) => match self.roster.take_advert(&peer, advert) {
                Ok(()) => self.wake.notify_one(),
                Err(reason) => tracing::warn!(key = %peer.short(), reason, "a peer's advert is not taken"),
            },
            Said::Standing(standing) => self.tell(self.roster.take_standing(&peer, standing, clock::now())),
            Said::Execute(_) | Said::Answer(_) | Said::Recall { .. } => {
                if let Some(peers) = self.peers.get().and_then(Weak::upgrade) {
                    crate::remote::arrived(&peers, &self.models, &self.dispatcher, peer, message, bytes);
                }
            }
            Said::ListWanted(wanted) => self.queue(&self.questions, (peer, Question::List(wanted))),
            Said::ModelWanted(wanted) => self.queue(&self.questions, (peer, Question::Piece(wanted))),
            Said::ModelList(list) => self.queue(&self.given, (peer, Given::List(list))),
            Said::ModelPart(part) => self.queue(&self.given, (peer, Given::Part(part))),
            Said::ModelDenied(denied) => self.queue(&self.given, (peer, Given::Denied(denied))),
            _ => {} // the transport's own
        }
    }

    fn queue<T>(&self, queue: &Sender<(HostKey, T)>, item: (HostKey, T)) {
        let peer = item.0;
        if queue.try_send(item).is_err() {
            tracing::debug!(key = %peer.short(), "more about models than can be taken is dropped");
        }
    }

    /// Tells the dispatcher.
    pub(super) fn tell(&self, news: News) {
        for link in news.links {
            self.dispatcher.send(Message::Link(link));
        }
        for standing in news.standings {
            self.dispatcher.send(Message::Standing(standing));
        }
    }
}
