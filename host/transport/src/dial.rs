//! Reaching a peer: name to address, carrier, TLS.
//!
//! **Which carrier.** TCP with TLS costs half the processor time of QUIC per byte; QUIC keeps its rate where packets are
//! lost, does not let one lost packet hold up other frames, and needs no BBR in the kernel. So with
//! [`CarrierChoice::Auto`] the round trip decides: below [`NEAR`] (the same machine, a wire) TCP, above (Wi-Fi, the
//! internet) QUIC. TCP's own handshake measures it: if it is back within that time, QUIC is not even tried. Otherwise both
//! race, and QUIC gets a head start of a few round trips before a finished TCP connection is taken, which is what happens
//! where UDP is blocked.

use crate::identity::Identity;
use crate::quic::config;
use crate::settings::CarrierChoice;
use crate::tcp::{Socket, prepare};
use crate::tls::{ANY_NAME, client_config};
use bps_wire::HostKey;
use parking_lot::Mutex;
use quinn::{Connection, Endpoint, TransportConfig};
use rustls::pki_types::ServerName;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsConnector, TlsStream};

/// Round trips below this are served best by TCP.
const NEAR: Duration = Duration::from_millis(2);
/// Least time QUIC is waited for once TCP stands: a lost first packet is sent again after 300 ms.
const GRACE_MIN: Duration = Duration::from_millis(400);
/// In round trips; a QUIC handshake needs two, with a retry three.
const GRACE_ROUND_TRIPS: u32 = 6;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;
/// For one address, handshakes included.
const ATTEMPT_MAX: Duration = Duration::from_secs(3);

/// A connection with TLS done.
pub(crate) enum Dialled {
    Tcp(Box<TlsStream<Socket>>),
    Quic(Connection),
}

pub(crate) struct Dialler {
    identity: Identity,
    choice: CarrierChoice,
    transport: Arc<TransportConfig>,
    /// Endpoints to dial QUIC from, made when needed: IPv4 and IPv6.
    endpoints: Mutex<[Option<Endpoint>; 2]>,
}

impl Dialler {
    pub(crate) fn new(identity: Identity, choice: CarrierChoice, transport: Arc<TransportConfig>) -> Self {
        Self { identity, choice, transport, endpoints: Mutex::default() }
    }

    /// Connects to `address` (`host:port`), where `peer` and nobody else must answer. The error is the last address's.
    pub(crate) async fn dial(&self, peer: HostKey, address: &str) -> io::Result<Dialled> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in lookup_host(address).await?.take(ADDRESSES_MAX) {
            match timeout(ATTEMPT_MAX, self.dial_address(peer, address)).await {
                Ok(Ok(dialled)) => return Ok(dialled),
                Ok(Err(error)) => last = error,
                Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, format!("no answer from {address}")),
            }
        }
        Err(last)
    }

    async fn dial_address(&self, peer: HostKey, address: SocketAddr) -> io::Result<Dialled> {
        match self.choice {
            CarrierChoice::Quic => self.quic(peer, address).await.map(Dialled::Quic),
            CarrierChoice::Tcp => self.tls(peer, TcpStream::connect(address).await?).await,
            CarrierChoice::Auto => self.choose(peer, address).await,
        }
    }

    /// TCP if it answers as only a near host can.
    async fn choose(&self, peer: HostKey, address: SocketAddr) -> io::Result<Dialled> {
        let connect = TcpStream::connect(address);
        tokio::pin!(connect);
        // On the same machine a slow handshake only means that it is busy.
        let near = if address.ip().is_loopback() { ATTEMPT_MAX / 2 } else { NEAR };
        match timeout(near, &mut connect).await {
            Ok(Ok(stream)) => self.tls(peer, stream).await,
            Ok(Err(_)) => self.refused(peer, address, near).await,
            Err(_) => self.race(peer, address, connect).await,
        }
    }

    /// A near host that refuses TCP takes QUIC only, or is just starting: QUIC goes on knocking meanwhile and gets in
    /// first. Then TCP is there too.
    async fn refused(&self, peer: HostKey, address: SocketAddr, near: Duration) -> io::Result<Dialled> {
        let connection = self.quic(peer, address).await?;
        if let Ok(Ok(stream)) = timeout(near, TcpStream::connect(address)).await
            && let Ok(dialled) = self.tls(peer, stream).await
        {
            return Ok(dialled);
        }
        Ok(Dialled::Quic(connection))
    }

    /// Whichever stands first, QUIC preferred. `connect` is TCP's attempt.
    async fn race(
        &self,
        peer: HostKey,
        address: SocketAddr,
        mut connect: impl Future<Output = io::Result<TcpStream>> + Unpin,
    ) -> io::Result<Dialled> {
        let began = Instant::now();
        let quic = self.quic(peer, address);
        tokio::pin!(quic);
        let stream = tokio::select! {
            reached = &mut quic => match reached {
                Ok(connection) => return Ok(Dialled::Quic(connection)),
                Err(_) => connect.await?,
            },
            connected = &mut connect => match connected {
                Err(_) => return quic.await.map(Dialled::Quic),
                Ok(stream) => {
                    let grace = GRACE_MIN.max(began.elapsed() * GRACE_ROUND_TRIPS);
                    tokio::select! {
                        Ok(connection) = &mut quic => return Ok(Dialled::Quic(connection)),
                        () = sleep(grace) => stream,
                    }
                }
            },
        };
        self.tls(peer, stream).await
    }

    async fn tls(&self, peer: HostKey, stream: TcpStream) -> io::Result<Dialled> {
        let config = client_config(&self.identity, peer).map_err(io::Error::other)?;
        let name = ServerName::try_from(ANY_NAME).map_err(io::Error::other)?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, prepare(stream)).await?;
        Ok(Dialled::Tcp(Box::new(stream.into())))
    }

    async fn quic(&self, peer: HostKey, address: SocketAddr) -> io::Result<Connection> {
        let tls = client_config(&self.identity, peer).map_err(io::Error::other)?;
        let config = config::client(tls, self.transport.clone()).map_err(io::Error::other)?;
        let connecting = self.endpoint(address)?.connect_with(config, address, ANY_NAME).map_err(io::Error::other)?;
        connecting.await.map_err(io::Error::other)
    }

    fn endpoint(&self, towards: SocketAddr) -> io::Result<Endpoint> {
        let any: SocketAddr = match towards {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let mut endpoints = self.endpoints.lock();
        let slot = &mut endpoints[usize::from(towards.is_ipv6())];
        match slot {
            Some(endpoint) => Ok(endpoint.clone()),
            None => Ok(slot.insert(config::endpoint(any, None)?).clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PeerStore, Quotas, Rights, Settings, Transport};

    /// A dialler, and the store and the settings of a host that knows it and listens with `carrier` at a free port.
    fn ends(carrier: CarrierChoice) -> ([tempfile::TempDir; 2], Dialler, Identity, PeerStore, Settings) {
        let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        let [near, far] = folders.each_ref().map(|f| Identity::load_or_make(f.path()).expect("an identity"));
        let store = PeerStore::open(folders[1].path()).expect("a store");
        let (rights, quotas) = (Rights::default(), Quotas::default());
        store.put(crate::Peer { key: near.key(), name: "near".into(), address: None, rights, quotas }).expect("fits");
        let settings = Settings {
            name: "far".into(),
            software: "test".into(),
            listen: Some((Ipv4Addr::LOCALHOST, 0).into()),
            listen_once_paired: false,
            carrier,
            in_flight_bytes_max: 1 << 20,
            frame_bytes_max: 1 << 20,
        };
        let dialler = Dialler::new(near, CarrierChoice::Auto, config::transport(1 << 20));
        (folders, dialler, far, store, settings)
    }

    fn listen(settings: Settings, identity: Identity, store: PeerStore) -> Transport {
        Transport::start(settings, identity, store, || bps_types::Nanos::ZERO, Arc::new(|_| ())).expect("starts")
    }

    fn name(dialled: &Dialled) -> &'static str {
        match dialled {
            Dialled::Tcp(_) => "tcp",
            Dialled::Quic(_) => "quic",
        }
    }

    /// Which carrier a dialler comes to in the race, towards a host that listens with `listens`.
    async fn carrier_towards(listens: CarrierChoice) -> &'static str {
        let (_folders, dialler, far, store, settings) = ends(listens);
        let far_key = far.key();
        let host = listen(settings, far, store);
        let address = host.listening().expect("it listens");
        name(&dialler.race(far_key, address, Box::pin(TcpStream::connect(address))).await.expect("it is reached"))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_near_host_that_was_just_starting_is_reached_over_tcp() {
        for (listens, wanted) in [(CarrierChoice::Auto, "tcp"), (CarrierChoice::Quic, "quic")] {
            let (_folders, dialler, far, store, mut settings) = ends(listens);
            let far_key = far.key();
            // Free for both carriers at this moment.
            let address =
                std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr()).expect("free");
            settings.listen = Some(address);
            let dialling = tokio::spawn(async move { dialler.choose(far_key, address).await });
            sleep(Duration::from_millis(300)).await;
            let _host = listen(settings, far, store);
            assert_eq!(name(&dialling.await.expect("no panic").expect("it is reached")), wanted, "{listens:?}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn far_away_quic_is_taken_and_what_is_blocked_is_not_waited_for() {
        assert_eq!(carrier_towards(CarrierChoice::Auto).await, "quic");
        assert_eq!(carrier_towards(CarrierChoice::Quic).await, "quic");
        assert_eq!(carrier_towards(CarrierChoice::Tcp).await, "tcp");
    }
}
