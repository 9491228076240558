//! The waiting side: a port, a code, and whoever comes.

use super::code::{Code, random};
use super::exchange::{Guard, HostSide, Next};
use super::message::{About, Message, Refusal, hear, say};
use super::{Own, Paired, PairingError, Terms, limited, other_side};
use crate::identity::Identity;
use crate::peers::PeerStore;
use crate::slots::{Slot, Slots};
use crate::tls::pairing_server_config;
use parking_lot::Mutex;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Connections at once. One is needed, and no stranger must keep it: for a newcomer one goes that has tried no code.
const CONNECTIONS_MAX: usize = 16;
/// Of one address.
const EACH_MAX: usize = 4;
/// Most time of an exchange's TLS handshake: strangers mostly get no further.
const HANDSHAKE_MAX: Duration = Duration::from_secs(4);
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
        let slots = Slots::new(CONNECTIONS_MAX, EACH_MAX);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                came = self.listener.accept(), if connections.len() < 2 * CONNECTIONS_MAX => match came {
                    Ok((stream, from)) => {
                        let Some(slot) = slots.take(from.ip(), Instant::now()) else { continue };
                        let visit = Visit { own: self.own.clone(), guard: guard.clone(), from, slot };
                        connections.spawn(visit.run(stream, self.acceptor.clone()));
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
    slot: Slot,
}

impl Visit {
    /// Also says who came, and whether it used the code up.
    async fn run(self, stream: TcpStream, acceptor: TlsAcceptor) -> (SocketAddr, bool, Result<Paired, PairingError>) {
        let mut proven = false;
        let visit = limited(async {
            let handshake = tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await;
            let handshake = handshake.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            let mut carrier = handshake.map_err(PairingError::Carrier)?;
            self.slot.greeted();
            let result = self.exchange(&mut carrier, &mut proven).await;
            self.slot.stay();
            if let Ok(Err(error)) = tokio::time::timeout(LINGER, carrier.shutdown()).await {
                tracing::debug!(%error, "the connection did not close in order");
            }
            result
        });
        let result = tokio::select! {
            biased;
            result = visit => result,
            () = self.slot.wanted() => {
                Err(PairingError::Carrier(io::Error::other("it was the oldest, and others needed its place")))
            }
        };
        (self.from, proven, result)
    }

    async fn exchange(&self, carrier: &mut TlsStream<TcpStream>, proven: &mut bool) -> Result<Paired, PairingError> {
        let guest = other_side(carrier.get_ref().1)?;
        let about = About::of(&self.own.terms);
        let mut side = HostSide::new(about, self.own.identity.key(), guest, random()?);
        loop {
            let message = hear(carrier).await?;
            let next = side.hear(message, &mut self.guard.lock());
            *proven = side.proven();
            // Whoever has tried the code is heard to the end, right or wrong: it must neither be lost nor go unnoticed.
            if *proven || !matches!(next, Next::Say(_)) {
                self.slot.stay();
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairing::join;
    use crate::peers::{Quotas, Rights};
    use std::net::Ipv4Addr;
    use tempfile::TempDir;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpSocket;

    fn end(name: &str) -> (Identity, PeerStore, Terms, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let (identity, store) =
            (Identity::load_or_make(folder.path()).unwrap(), PeerStore::open(folder.path()).unwrap());
        let terms = Terms { name: name.into(), peer_port: None, rights: Rights::default(), quotas: Quotas::default() };
        (identity, store, terms, folder)
    }

    async fn invite() -> (Invitation, TempDir) {
        let (identity, store, terms, folder) = end("a");
        (Invitation::open(identity, store, terms, (Ipv4Addr::LOCALHOST, 0).into()).await.unwrap(), folder)
    }

    /// Connects from one of loopback's addresses.
    async fn connect(last: u8, to: SocketAddr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::new(127, 0, 0, last), 0).into()).unwrap();
        socket.connect(to).await.unwrap()
    }

    #[tokio::test]
    async fn a_silent_crowd_does_not_keep_the_guest_out() {
        // Other systems have only one loopback address.
        let spread: &[u8] = if cfg!(target_os = "linux") { &[1, 4, 40] } else { &[1] };
        for &addresses in spread {
            let (invitation, _folder) = invite().await;
            let (at, code) = (invitation.address(), invitation.code().clone());
            let waiting = tokio::spawn(invitation.wait(Duration::from_secs(30)));
            let mut crowd = Vec::new();
            for number in 0..40u8 {
                crowd.push(connect(1 + number % addresses, at).await);
            }
            let (identity, store, terms, _folder) = end("b");
            let joined = join(identity, store, terms, "127.0.0.1", at.port(), code);
            tokio::time::timeout(Duration::from_secs(3), joined).await.expect("it waited for strangers").unwrap();
            waiting.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn a_handshake_has_less_time_than_an_exchange() {
        let (invitation, _folder) = invite().await;
        let mut silent = connect(1, invitation.address()).await;
        let waiting = tokio::spawn(invitation.wait(Duration::from_secs(30)));
        let ended = tokio::time::timeout(HANDSHAKE_MAX * 2, silent.read(&mut [0])).await;
        assert!(!matches!(ended, Err(_) | Ok(Ok(1..))));
        waiting.abort();
    }
}
