//! What the transport costs: echoes on loopback, over a link and over bare TCP with TLS, in one process.

use crate::{
    CarrierChoice, Happening, Identity, IdentityError, Peer, PeerStore, Quotas, Rights, SendError, Settings,
    StoreError, Transport, TransportError, tls,
};
use bps_types::{DataType, Nanos, Packed};
use bps_wire::{Answer, Execute, HostKey, Message, Route, Trace};
use bytes::Bytes;
use rustls::pki_types::ServerName;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// For one echo, and for a session to come up.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Round trips of one echo after the other.
#[derive(Clone, Debug)]
pub struct Echoes {
    /// Of the payload, each way.
    pub bytes: usize,
    /// In the order they were made.
    pub round_trips: Vec<Duration>,
    /// Processor seconds of the whole process meanwhile, both ends; none where the system does not tell.
    pub processor_seconds: Option<f64>,
}

impl Echoes {
    /// The round trip that this share (0 to 1) of them does not exceed; zero if there are none.
    pub fn quantile(&self, share: f64) -> Duration {
        let mut sorted = self.round_trips.clone();
        sorted.sort();
        let index = (share.clamp(0.0, 1.0) * sorted.len().saturating_sub(1) as f64).round() as usize;
        sorted.get(index).copied().unwrap_or_default()
    }

    /// Processor seconds per 10^9 payload bytes moved, either way.
    pub fn processor_seconds_per_gigabyte(&self) -> Option<f64> {
        let bytes = 2.0 * self.bytes as f64 * self.round_trips.len() as f64;
        self.processor_seconds.filter(|_| bytes > 0.0).map(|seconds| seconds / bytes * 1e9)
    }
}

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Sockets, files or TLS.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A host's key.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A host's peers.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A host's transport.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// A message was not accepted.
    #[error(transparent)]
    Send(#[from] SendError),
    /// Something took too long.
    #[error("no {0} within {t} s", t = ANSWER_MAX.as_secs())]
    Late(&'static str),
}

/// `rounds` echoes of `bytes` over TCP with the same TLS, without frames, sessions or measurements: the floor.
///
/// # Errors
/// Where the system does not give what is needed.
pub async fn echo_raw_tls(bytes: usize, rounds: usize) -> Result<Echoes, BenchError> {
    let (near, far) = (Ground::new()?, Ground::new()?);
    far.knows(near.identity.key(), None)?;
    let server = tls::server_config(&far.identity, &far.store).map_err(io::Error::other)?;
    let client = tls::client_config(&near.identity, far.identity.key()).map_err(io::Error::other)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let echo = tokio::spawn(async move {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let mut stream = TlsAcceptor::from(Arc::new(server)).accept(stream).await?;
        let mut buffer = vec![0; bytes];
        for _ in 0..rounds {
            stream.read_exact(&mut buffer).await?;
            stream.write_all(&buffer).await?;
            stream.flush().await?;
        }
        Ok::<_, io::Error>(())
    });
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(tls::ANY_NAME).map_err(io::Error::other)?;
    let mut stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await?;
    let (sent, mut buffer) = (vec![7; bytes], vec![0; bytes]);
    let (mut round_trips, before) = (Vec::with_capacity(rounds), processor_seconds());
    for _ in 0..rounds {
        let began = Instant::now();
        stream.write_all(&sent).await?;
        stream.flush().await?;
        stream.read_exact(&mut buffer).await?;
        round_trips.push(began.elapsed());
    }
    let processor_seconds = spent(before);
    echo.await.map_err(io::Error::other)??;
    Ok(Echoes { bytes, round_trips, processor_seconds })
}

/// `rounds` echoes of `bytes`: an [`Execute`] there, its tensor back in an [`Answer`], over whole transports.
///
/// # Errors
/// Where the system does not give what is needed, or no session comes up.
pub async fn echo_link(carrier: CarrierChoice, bytes: usize, rounds: usize) -> Result<Echoes, BenchError> {
    let (near, far) = (Ground::new()?, Ground::new()?);
    let (near_key, far_key) = (near.identity.key(), far.identity.key());
    far.knows(near_key, None)?;
    let far_transport: Arc<OnceLock<Transport>> = Arc::default();
    let handle = far_transport.clone();
    let echo = move |happening| {
        if let Happening::Arrived { peer, message: Message::Execute(execute), .. } = happening
            && let Some(transport) = handle.get()
        {
            let answer = Answer { dispatch: execute.dispatch, reports: Vec::new(), outcome: Ok(execute.tensors) };
            // Refused, it is missed by who waits for it.
            let _ = transport.send(peer, Message::Answer(answer));
        }
    };
    let started = far.start(carrier, bytes, Arc::new(echo))?;
    let address = started.listening();
    let far_transport = far_transport.get_or_init(|| started);
    near.knows(far_key, address)?;
    let (told, mut heard) = mpsc::unbounded_channel();
    let near_transport = near.start(carrier, bytes, Arc::new(move |happening| drop(told.send(happening))))?;
    until(&mut heard, "session", |h| matches!(h, Happening::Up { .. })).await?;
    let data = Bytes::from(vec![7; bytes]);
    let (mut round_trips, before) = (Vec::with_capacity(rounds), processor_seconds());
    for dispatch in 0..rounds as u64 {
        let began = Instant::now();
        near_transport.send(far_key, dispatch_of(near_key, far_key, dispatch, data.clone()))?;
        let answers = |h: &Happening| matches!(h, Happening::Arrived { message: Message::Answer(a), .. } if a.dispatch == dispatch);
        until(&mut heard, "answer", answers).await?;
        round_trips.push(began.elapsed());
    }
    let processor_seconds = spent(before);
    near_transport.stop().await;
    far_transport.stop().await;
    Ok(Echoes { bytes, round_trips, processor_seconds })
}

async fn until(
    heard: &mut mpsc::UnboundedReceiver<Happening>,
    what: &'static str,
    wanted: impl Fn(&Happening) -> bool,
) -> Result<(), BenchError> {
    let wait = async {
        while let Some(happening) = heard.recv().await {
            if wanted(&happening) {
                return Ok(());
            }
        }
        Err(BenchError::Late(what))
    };
    timeout(ANSWER_MAX, wait).await.map_err(|_| BenchError::Late(what))?
}

/// A host that leaves nothing behind.
struct Ground {
    identity: Identity,
    store: PeerStore,
    _folder: TempDir,
}

impl Ground {
    fn new() -> Result<Self, BenchError> {
        let folder = tempfile::tempdir()?;
        let identity = Identity::load_or_make(folder.path())?;
        Ok(Self { identity, store: PeerStore::open(folder.path())?, _folder: folder })
    }

    fn knows(&self, key: HostKey, address: Option<SocketAddr>) -> Result<(), BenchError> {
        let (name, address) = (key.short(), address.map(|a| a.to_string()));
        self.store.put(Peer { key, name, address, rights: Rights::default(), quotas: Quotas::default() })?;
        Ok(())
    }

    fn start(
        &self,
        carrier: CarrierChoice,
        bytes: usize,
        sink: Arc<dyn Fn(Happening) + Send + Sync>,
    ) -> Result<Transport, TransportError> {
        let room = (bytes as u64 + (64 << 10)).max(16 << 20);
        let settings = Settings {
            name: "bench".into(),
            software: "bench".into(),
            listen: Some((Ipv4Addr::LOCALHOST, 0).into()),
            listen_once_paired: false,
            carrier,
            in_flight_bytes_max: 2 * room,
            frame_bytes_max: room,
        };
        Transport::start(settings, self.identity.clone(), self.store.clone(), clock, sink)
    }
}

fn dispatch_of(origin: HostKey, host: HostKey, dispatch: u64, data: Bytes) -> Message {
    let shape = vec![1, data.len()];
    Message::Execute(Execute {
        dispatch,
        origin,
        model: [0; 32],
        cut_list: [0; 32],
        route: vec![Route { host, device: 0, from_cut: 0, until_cut: 1, codec: 0, rate: 0 }],
        rows: 1,
        budget: None,
        priority: 0,
        trace: Trace::default(),
        reports: Vec::new(),
        tensors: vec![Packed { codec: 0, rate: 0, data_type: DataType::Uint8, shape, data }],
    })
}

fn clock() -> Nanos {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    BEGAN.get_or_init(Instant::now).elapsed().into()
}

fn spent(before: Option<f64>) -> Option<f64> {
    Some(processor_seconds()? - before?)
}

/// User and system time of this process, from `/proc`, in whose unit of a hundredth every Linux counts.
fn processor_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // After the name in brackets, which may hold anything, user and system time are the 12th and 13th field.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).map(|t| t.parse::<f64>().ok());
    Some((times.next()?? + times.next()??) / 100.0)
}
