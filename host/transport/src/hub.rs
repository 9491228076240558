//! What everything in a transport shares, and the tasks it runs.

use crate::TransportError;
use crate::dial::{Dialled, Dialler};
use crate::hello::{self, HelloError};
use crate::identity::Identity;
use crate::link::Link;
use crate::outbox::Outbox;
use crate::peers::{Peer, PeerStore};
use crate::quic::{QuicLink, config};
use crate::roster::{Place, Roster};
use crate::session::{Session, Sink};
use crate::settings::{Carrier, Settings};
use crate::tcp::TcpLink;
use bps_types::Nanos;
use bps_wire::{Hello, HostKey, Limits, NAME_BYTES_MAX, REPLACED, VERSIONS};
use parking_lot::Mutex;
use quinn::TransportConfig;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::error::Elapsed;
use tokio::time::{interval, sleep, timeout};

/// First wait before a peer is dialled again; it doubles.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// A session that lasted so long was a good one: the next attempt comes soon.
const GOOD_SESSION: Duration = Duration::from_secs(1);
/// For the peer's hello; it may be finishing a dial of its own first.
const HELLO_MAX: Duration = Duration::from_secs(5);
/// How often the peer store is looked at.
pub(crate) const REFRESH_EVERY: Duration = Duration::from_secs(1);
/// Frames must at least hold a body of the usual kinds.
const FRAME_BYTES_MIN: u64 = 64 << 10;
/// What one allocation may be.
const FRAME_BYTES_LIMIT: u64 = 1 << 30;

pub(crate) struct Hub {
    pub(crate) identity: Identity,
    pub(crate) store: PeerStore,
    pub(crate) roster: Arc<Roster>,
    pub(crate) quic: Arc<TransportConfig>,
    pub(crate) clock: fn() -> Nanos,
    settings: Settings,
    sink: Sink,
    dialler: Dialler,
    /// All tasks; none once it is over.
    tasks: Mutex<Option<JoinSet<()>>>,
}

/// Why a dial came to nothing.
#[derive(Debug, thiserror::Error)]
enum NotReached {
    #[error("not reached: {0}")]
    Dial(#[from] io::Error),
    #[error(transparent)]
    Hello(#[from] HelloError),
    #[error("no hello in time")]
    Silent,
    #[error("given up: {0}")]
    Given(&'static str),
}

impl Hub {
    pub(crate) fn new(
        settings: Settings,
        identity: Identity,
        store: PeerStore,
        clock: fn() -> Nanos,
        sink: Sink,
    ) -> Result<Self, TransportError> {
        let bad = |what: &str| Err(TransportError::Settings(what.to_owned()));
        if settings.name.len() > NAME_BYTES_MAX || settings.software.len() > NAME_BYTES_MAX {
            return bad("name and software have at most 256 bytes each");
        }
        if !(FRAME_BYTES_MIN..=FRAME_BYTES_LIMIT).contains(&settings.frame_bytes_max) {
            return bad("frame_bytes_max is between 64 KiB and 1 GiB");
        }
        let roster = Arc::new(Roster::new(identity.key(), store.clone()));
        let quic = config::transport(settings.frame_bytes_max);
        let dialler = Dialler::new(identity.clone(), settings.carrier, quic.clone());
        let tasks = Mutex::new(Some(JoinSet::new()));
        Ok(Self { identity, store, roster, quic, clock, settings, sink, dialler, tasks })
    }

    /// What this host says first.
    pub(crate) fn hello(&self) -> Hello {
        Hello {
            versions: VERSIONS,
            name: self.settings.name.clone(),
            software: self.settings.software.clone(),
            frame_bytes_max: self.settings.frame_bytes_max,
        }
    }

    /// A session with whoever said `theirs`.
    pub(crate) fn session(&self, peer: Peer, theirs: &Hello, carrier: Carrier, dialled: bool) -> Arc<Session> {
        let limits = Limits { frame_bytes_max: theirs.frame_bytes_max };
        let outbox = Outbox::new(self.identity.key(), limits, self.settings.in_flight_bytes_max);
        Session::new(peer, carrier, dialled, outbox, self.clock, self.sink.clone())
    }

    /// Runs a session that has its place, once `ready` gives its link.
    pub(crate) fn open(
        self: &Arc<Self>,
        session: Arc<Session>,
        ready: impl Future<Output = Result<Box<dyn Link>, HelloError>> + Send + 'static,
    ) {
        let hub = self.clone();
        self.spawn(async move {
            match timeout(HELLO_MAX, ready).await {
                Ok(Ok(link)) => {
                    let limits = Limits { frame_bytes_max: hub.settings.frame_bytes_max };
                    session.clone().run(link, limits).await;
                }
                Ok(Err(error)) => session.end(&error.to_string()),
                Err(_) => session.end("hello could not be said"),
            }
            let (reason, was_up) = session.over().unwrap_or_default();
            if was_up {
                tracing::info!(peer = %session.peer.name, reason, "session over");
            }
            hub.roster.over(&session, (hub.clock)());
        });
    }

    /// Looks at the peer store every second, for ever.
    pub(crate) async fn keep(self: Arc<Self>) {
        let mut ticks = interval(REFRESH_EVERY);
        loop {
            ticks.tick().await;
            self.refresh();
        }
    }

    /// Acts on what changed in the peer store.
    pub(crate) fn refresh(self: &Arc<Self>) {
        let changes = self.roster.refresh();
        for (session, reason) in changes.to_end {
            session.end(reason);
        }
        for key in changes.to_dial {
            let hub = self.clone();
            if let Some(task) = self.spawn(async move { hub.seek(key).await }) {
                self.roster.set_dialler(key, task);
            }
        }
    }

    /// Dials one peer whenever it has no session, for ever.
    async fn seek(self: &Arc<Self>, key: HostKey) {
        let mut backoff = BACKOFF_MIN;
        loop {
            match self.roster.begin_dial(key) {
                None => return,
                Some(Err(mut place)) => {
                    let taken = Instant::now();
                    if place.wait_for(|place| *place == Place::Free).await.is_err() {
                        return;
                    }
                    // One that was replaced is about to replace another in turn: that must not begin anew at once.
                    if taken.elapsed() >= GOOD_SESSION && !self.roster.was_replaced(&key) {
                        backoff = BACKOFF_MIN;
                    }
                }
                Some(Ok((peer, held))) => match self.reach(peer).await {
                    Ok(()) => continue,
                    Err(error) => {
                        drop(held);
                        self.roster.failed(key, error.to_string());
                        tracing::debug!(peer = %key.short(), %error, "dialling");
                    }
                },
            }
            sleep(self.jittered(backoff)).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// One attempt, up to a session.
    async fn reach(self: &Arc<Self>, peer: Peer) -> Result<(), NotReached> {
        let Some(address) = peer.address.clone() else { return Err(NotReached::Given("it has no address")) };
        let ours = self.hello();
        let silent = |_: Elapsed| NotReached::Silent;
        let (theirs, link, carrier): (Hello, Box<dyn Link>, Carrier) =
            match self.dialler.dial(peer.key, &address).await? {
                Dialled::Tcp(mut stream) => {
                    let theirs = timeout(HELLO_MAX, hello::introduce(&mut stream, &ours)).await.map_err(silent)??;
                    (theirs, Box::new(TcpLink { stream: *stream }), Carrier::Tcp)
                }
                Dialled::Quic(connection) => {
                    let (send, receive) = connection.open_bi().await.map_err(io::Error::other)?;
                    let mut stream = tokio::io::join(receive, send);
                    let theirs = timeout(HELLO_MAX, hello::introduce(&mut stream, &ours)).await.map_err(silent)??;
                    let (receive, send) = stream.into_inner();
                    (theirs, Box::new(QuicLink { connection, send, receive }), Carrier::Quic)
                }
            };
        let session = self.session(peer, &theirs, carrier, true);
        if let Some(old) = self.roster.dialled(session.clone()).map_err(NotReached::Given)? {
            old.end(REPLACED);
        }
        self.open(session, async { Ok(link) });
        Ok(())
    }

    /// Between three and five quarters, so that two hosts do not stay in step.
    fn jittered(&self, span: Duration) -> Duration {
        let part = u32::try_from((self.clock)().0 / 1_000 % 512).unwrap_or(0);
        span * (768 + part) / 1_024
    }

    /// Runs `task` until it or the transport is over; none: that is already so.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Option<AbortHandle> {
        let mut tasks = self.tasks.lock();
        let tasks = tasks.as_mut()?;
        while tasks.try_join_next().is_some() {}
        Some(tasks.spawn(task))
    }

    /// Ends every task.
    pub(crate) fn abort(&self) {
        drop(self.tasks.lock().take());
    }
}
