//! The waiting side: a port, a code, and whoever comes.

use super::code::{Code, random};
use super::exchange::{Guard, HostSide, Next};
use super::message::{About, Message, Refusal, hear, say};
use super::{Own, Paired, PairingError, Terms, limited, other_side};
use crate::identity::Identity;
use crate::peers::PeerStore;
use crate::tls::pairing_server_config;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Connections at once; more wait in the system's queue. One is needed, and a silent stranger must not keep it.
const CONNECTIONS_MAX: usize = 16;
/// How long a guest has to take the last word before the connection closes.
const LINGER: Duration = Duration::from_secs(2);

/// A port that waits for one other host to come with the code.
pub struct Invitation {
    listener: TcpListener,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    own: Own,
    code: Code,
}

impl Invitation {
    /// Opens `listen` (port 0: any) and makes a code.
    ///
    /// # Errors
    /// Where the terms are out of bounds, the port cannot be opened, or there is no randomness.
    pub async fn open(
        identity: Identity,
        store: PeerStore,
        terms: Terms,
        listen: SocketAddr,
    ) -> Result<Self, PairingError> {
        terms.check()?;
        let failed = |source| PairingError::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let acceptor = TlsAcceptor::from(Arc::new(pairing_server_config(&identity)?));
        Ok(Self { listener, address, acceptor, own: Own { identity, store, terms }, code: Code::random()? })
    }

    /// What the other host must know.
    pub fn code(&self) -> &Code {
        &self.code
    }

    /// Where it must go.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for it, for at most `limit`, and keeps it.
    ///
    /// # Errors
    /// Where nobody came with the code, five came with a wrong one, or whoever came with the right one did not finish.
    pub async fn wait(self, limit: Duration) -> Result<Paired, PairingError> {
        match tokio::time::timeout(limit, self.serve()).await {
            Ok(result) => result,
            Err(_) => Err(PairingError::NobodyCame { waited: limit }),
        }
    }

    async fn serve(self) -> Result<Paired, PairingError> {
        let guard = Arc::new(Mutex::new(Guard::new(self.code)));
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                came = self.listener.accept(), if connections.len() < CONNECTIONS_MAX => match came {
                    Ok((stream, from)) => {
                        let (acceptor, own) = (self.acceptor.clone(), self.own.clone());
                        connections.spawn(Visit::run(stream, from, acceptor, own, guard.clone()));
                    }
                    // Of that one connection, or there are no handles left; then waiting helps.
                    Err(error) => {
                        tracing::debug!(%error, "a connection was lost before it began");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
                Some(ended) = connections.join_next() => {
                    // A visit that panicked paired nobody.
                    let Ok((from, proven, result)) = ended else { continue };
                    match result {
                        Ok(paired) => return Ok(paired),
                        Err(error) if proven => return Err(PairingError::Broken { source: Box::new(error) }),
                        Err(_) if guard.lock().exhausted() => return Err(PairingError::TooManyTries),
                        Err(error @ PairingError::Refuses(_)) => tracing::warn!(%from, %error, "not paired"),
                        Err(error) => tracing::info!(%from, %error, "not paired"),
                    }
                }
            }
        }
    }
}

/// One connection to an invitation.
struct Visit {
    own: Own,
    guard: Arc<Mutex<Guard>>,
    from: SocketAddr,
}

impl Visit {
    /// Also says who came, and whether it used the code up.
    async fn run(
        stream: TcpStream,
        from: SocketAddr,
        acceptor: TlsAcceptor,
        own: Own,
        guard: Arc<Mutex<Guard>>,
    ) -> (SocketAddr, bool, Result<Paired, PairingError>) {
        let mut proven = false;
        let visit = Self { own, guard, from };
        let result = limited(async {
            let mut carrier = acceptor.accept(stream).await.map_err(PairingError::Carrier)?;
            let result = visit.exchange(&mut carrier, &mut proven).await;
            if let Ok(Err(error)) = tokio::time::timeout(LINGER, carrier.shutdown()).await {
                tracing::debug!(%error, "the connection did not close in order");
            }
            result
        });
        let result = result.await;
        (from, proven, result)
    }

    async fn exchange(&self, carrier: &mut TlsStream<TcpStream>, proven: &mut bool) -> Result<Paired, PairingError> {
        let guest = other_side(carrier.get_ref().1)?;
        let about = About::of(&self.own.terms);
        let mut side = HostSide::new(about, self.own.identity.key(), guest, random()?);
        loop {
            let message = hear(carrier).await?;
            let next = side.hear(message, &mut self.guard.lock());
            *proven = side.proven();
            match next {
                Next::Say(message) => say(carrier, &message).await?,
                Next::Keep(about) => {
                    let granted = about.grants;
                    let address = about.peer_port.map(|port| self.address(port));
                    match self.own.store.put(self.own.terms.peer(guest, about, address)) {
                        Ok(peer) => {
                            // It is kept here now, whether or not it hears so; it says so itself if it does not.
                            if let Err(error) = say(carrier, &Message::Done).await {
                                tracing::warn!(%error, "the other host may not know that it is paired");
                            }
                            return Ok(Paired { peer, granted });
                        }
                        Err(error) => {
                            say(carrier, &Message::Refused(Refusal::NotKept)).await?;
                            return Err(error.into());
                        }
                    }
                }
                Next::Refuse(refusal) => {
                    say(carrier, &Message::Refused(refusal)).await?;
                    return Err(PairingError::Refuses(refusal));
                }
                Next::Refused(_) | Next::NotProven | Next::Unexpected => return Err(PairingError::OutOfTurn),
            }
        }
    }

    /// Where this guest listens: at the address it came from. An IPv4 one reads as such also on a socket for both.
    fn address(&self, port: u16) -> String {
        match self.from {
            SocketAddr::V6(from) if from.ip().to_ipv4_mapped().is_none() => {
                // Keeps the scope of a link-local address.
                let mut at = from;
                at.set_port(port);
                at.to_string()
            }
            from => SocketAddr::new(from.ip().to_canonical(), port).to_string(),
        }
    }
}
