//! Being reached: TCP and UDP on one port, handshakes bounded in number and time.
//!
//! Whoever is not in the peer store fails the TLS handshake. What is left to do here is hello, and to ask the roster.

use crate::TransportError;
use crate::hello::{self, HelloError};
use crate::hub::Hub;
use crate::link::Link;
use crate::quic::QuicLink;
use crate::quic::config;
use crate::roster::{Door, Place};
use crate::session::Session;
use crate::settings::{Carrier, CarrierChoice};
use crate::slots::{Slot, Slots};
use crate::tcp::{TcpLink, prepare};
use crate::tls::{peer_key, server_config};
use bps_wire::HostKey;
use quinn::{Connection, ConnectionError, Endpoint, Incoming};
use rustls::pki_types::CertificateDer;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// From the first byte to hello, waiting for an own attempt to end included.
const HANDSHAKE_MAX: Duration = Duration::from_secs(4);
/// Handshakes at once. Each holds a socket and some kilobytes.
const ALL_MAX: usize = 32;
/// Of one address. Behind it may be several hosts, but they seldom come in the same second.
const EACH_MAX: usize = 8;
/// Ports tried where any will do but TCP's must be free for UDP too.
const PORTS_MAX: usize = 16;

/// Whether [`Transport::start`](crate::Transport::start) could listen there now.
///
/// # Errors
/// Where it could not, by name.
pub fn check_address(address: SocketAddr, choice: CarrierChoice) -> Result<(), TransportError> {
    let failed = |what| move |source| TransportError::Listen { address, what, source };
    if choice != CarrierChoice::Quic {
        std::net::TcpListener::bind(address).map_err(failed("TCP"))?;
    }
    if choice != CarrierChoice::Tcp {
        std::net::UdpSocket::bind(address).map_err(failed("UDP"))?;
    }
    Ok(())
}

pub(crate) struct Listener {
    pub(crate) address: SocketAddr,
    tcp: Option<(TcpListener, TlsAcceptor)>,
    quic: Option<Endpoint>,
}

impl Listener {
    /// Binds what `choice` needs.
    pub(crate) fn bind(address: SocketAddr, choice: CarrierChoice, hub: &Hub) -> Result<Self, TransportError> {
        let mut last = None;
        for _ in 0..if address.port() == 0 { PORTS_MAX } else { 1 } {
            match Self::bind_once(address, choice, hub) {
                Err(error @ TransportError::Listen { .. }) => last = Some(error),
                other => return other,
            }
        }
        Err(last.unwrap_or_else(|| TransportError::Settings("no port to listen on".into())))
    }

    fn bind_once(mut address: SocketAddr, choice: CarrierChoice, hub: &Hub) -> Result<Self, TransportError> {
        let tls = || server_config(&hub.identity, &hub.store).map_err(|e| TransportError::Tls(e.to_string()));
        let failed = |what| move |source| TransportError::Listen { address, what, source };
        let mut tcp = None;
        if choice != CarrierChoice::Quic {
            let listener = std::net::TcpListener::bind(address).map_err(failed("TCP"))?;
            listener.set_nonblocking(true).map_err(failed("TCP"))?;
            let listener = TcpListener::from_std(listener).map_err(failed("TCP"))?;
            address = listener.local_addr().map_err(failed("TCP"))?;
            tcp = Some((listener, TlsAcceptor::from(Arc::new(tls()?))));
        }
        let failed = |source| TransportError::Listen { address, what: "UDP", source };
        let mut quic = None;
        if choice != CarrierChoice::Tcp {
            let config = config::server(tls()?, hub.quic.clone())?;
            let endpoint = config::endpoint(address, Some(config)).map_err(failed)?;
            address = endpoint.local_addr().map_err(failed)?;
            quic = Some(endpoint);
        }
        Ok(Self { address, tcp, quic })
    }

    /// Lets peers in, for ever.
    pub(crate) async fn run(self, hub: Arc<Hub>) {
        let slots = Slots::new(ALL_MAX, EACH_MAX);
        let tcp = async {
            match self.tcp {
                Some((listener, acceptor)) => accept_tcp(&listener, &acceptor, &hub, &slots).await,
                None => std::future::pending().await,
            }
        };
        let quic = async {
            match self.quic {
                Some(endpoint) => accept_quic(&endpoint, &hub, &slots).await,
                None => std::future::pending().await,
            }
        };
        tokio::join!(tcp, quic);
    }
}

async fn accept_tcp(listener: &TcpListener, acceptor: &TlsAcceptor, hub: &Arc<Hub>, slots: &Slots) {
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file handles, most likely: it must not become a busy loop.
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(slot) = slots.take(address.ip(), Instant::now()) else { continue };
        let (hub_there, acceptor) = (hub.clone(), acceptor.clone());
        hub.spawn(async move {
            let ended = bounded(&slot, greet_tcp(stream, &acceptor, &hub_there, &slot)).await;
            log(address, Carrier::Tcp, ended);
        });
        if slots.is_pressed(address.ip()) {
            // Those that were told to make room go before the next comes.
            yield_now().await;
        }
    }
}

async fn accept_quic(endpoint: &Endpoint, hub: &Arc<Hub>, slots: &Slots) {
    while let Some(incoming) = endpoint.accept().await {
        let address = incoming.remote_address();
        // Under pressure whoever comes must first show that it is where it says it is, before others make room for it.
        if slots.is_pressed(address.ip()) && incoming.may_retry() && !incoming.remote_address_validated() {
            // It comes back with a token.
            let _ = incoming.retry();
            continue;
        }
        let Some(slot) = slots.take(address.ip(), Instant::now()) else {
            incoming.refuse();
            continue;
        };
        let hub_there = hub.clone();
        hub.spawn(async move {
            let ended = bounded(&slot, greet_quic(incoming, &hub_there, &slot)).await;
            log(address, Carrier::Quic, ended);
        });
    }
}

/// A handshake ends in time, and earlier where a newcomer needs its place.
async fn bounded(slot: &Slot, greeting: impl Future<Output = Result<(), Refused>>) -> Result<(), Refused> {
    tokio::select! {
        biased;
        ended = timeout(HANDSHAKE_MAX, greeting) => ended.unwrap_or(Err(Refused::Late)),
        () = slot.wanted() => Err(Refused::Crowded),
    }
}

async fn greet_tcp(stream: TcpStream, acceptor: &TlsAcceptor, hub: &Arc<Hub>, slot: &Slot) -> Result<(), Refused> {
    let mut stream = acceptor.accept(prepare(stream)).await?;
    slot.greeted();
    let key = stream.get_ref().1.peer_certificates().and_then(peer_key).ok_or(Refused::Nobody)?;
    let session = admit(&mut stream, key, Carrier::Tcp, hub).await?;
    let hello = hub.hello();
    hub.open(session, async move {
        hello::say(&mut stream, &hello).await?;
        Ok(Box::new(TcpLink { stream: stream.into() }) as Box<dyn Link>)
    });
    Ok(())
}

async fn greet_quic(incoming: Incoming, hub: &Arc<Hub>, slot: &Slot) -> Result<(), Refused> {
    let connection = incoming.accept()?.await?;
    slot.greeted();
    let key = quic_key(&connection).ok_or(Refused::Nobody)?;
    let (mut send, receive) = connection.accept_bi().await?;
    let mut stream = tokio::io::join(receive, &mut send);
    let session = admit(&mut stream, key, Carrier::Quic, hub).await?;
    let (receive, _) = stream.into_inner();
    let hello = hub.hello();
    hub.open(session, async move {
        hello::say(&mut send, &hello).await?;
        Ok(Box::new(QuicLink { connection, send, receive }) as Box<dyn Link>)
    });
    Ok(())
}

/// Why somebody who came does not become a peer.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("TLS: {0}")]
    Tls(#[from] io::Error),
    #[error("QUIC: {0}")]
    Quic(#[from] ConnectionError),
    #[error("no certificate was shown")]
    Nobody,
    #[error(transparent)]
    Hello(#[from] HelloError),
    #[error("turned away: {0}")]
    Shut(&'static str),
    #[error("its handshake took too long")]
    Late,
    #[error("its handshake was the oldest, and others needed the place")]
    Crowded,
}

/// Hears hello and asks the roster. The session it returns holds the peer's place, and our hello is still to be said.
async fn admit<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    key: HostKey,
    carrier: Carrier,
    hub: &Arc<Hub>,
) -> Result<Arc<Session>, Refused> {
    let theirs = hello::receive(stream, &hub.hello()).await?;
    loop {
        match hub.roster.came_in(key, |peer| hub.session(peer, &theirs, carrier, false)) {
            Door::Open(session) => return Ok(session),
            Door::Shut(why) => return Err(Refused::Shut(why)),
            Door::Wait(mut place) => {
                // Its sender is gone only with the peer; then the door is shut.
                let _ = place.wait_for(|place| *place != Place::Dialling).await;
            }
        }
    }
}

/// Who is at the other end of a QUIC connection.
pub(crate) fn quic_key(connection: &Connection) -> Option<HostKey> {
    let certificates = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    peer_key(&certificates)
}

fn log(address: SocketAddr, carrier: Carrier, ended: Result<(), Refused>) {
    if let Err(error) = ended {
        tracing::debug!(%address, %carrier, %error, "a connection was refused");
    }
}
