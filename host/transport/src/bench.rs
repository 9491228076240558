//! What the transport costs: echoes on loopback, over a link and over bare TCP with TLS, and goodput over a slower way, in one
//! process.

mod pair;

use crate::{CarrierChoice, Happening, IdentityError, SendError, StoreError, Transport, TransportError, tls};
use bps_wire::{Answer, Message};
use bytes::Bytes;
use pair::{Ground, Pair, until};
use rustls::pki_types::ServerName;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::yield_now;
use tokio::time::sleep;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// For one echo, and for a session to come up.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Where there is no room for another activation.
const RETRY: Duration = Duration::from_millis(1);

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
    let mut pair = Pair::up(carrier, bytes, &far_transport, echo, Ok).await?;
    let data = Bytes::from(vec![7; bytes]);
    let (mut round_trips, before) = (Vec::with_capacity(rounds), processor_seconds());
    for dispatch in 0..rounds as u64 {
        let began = Instant::now();
        pair.send(dispatch, &data)?;
        let answers = |h: &Happening| matches!(h, Happening::Arrived { message: Message::Answer(a), .. } if a.dispatch == dispatch);
        until(&mut pair.heard, "answer", answers).await?;
        round_trips.push(began.elapsed());
    }
    let processor_seconds = spent(before);
    pair.down().await;
    Ok(Echoes { bytes, round_trips, processor_seconds })
}

/// Payload bytes per second that arrive over a link, as activations of `bytes` each that are sent for as long as there is
/// room; measured over `span`, after as long again in which the carrier finds the link's rate. `through` is given the far
/// host's address and says where it is reached instead: at an emulated link.
///
/// # Errors
/// Where the system does not give what is needed, or no session comes up.
pub async fn goodput(
    carrier: CarrierChoice,
    bytes: usize,
    span: Duration,
    through: impl FnOnce(SocketAddr) -> io::Result<SocketAddr>,
) -> Result<f64, BenchError> {
    let arrived = Arc::new(AtomicU64::new(0));
    let counted = arrived.clone();
    let count = move |happening| {
        if matches!(happening, Happening::Arrived { message: Message::Execute(_), .. }) {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    };
    let far_transport: Arc<OnceLock<Transport>> = Arc::default();
    let mut pair = Pair::up(carrier, bytes, &far_transport, count, through).await?;
    let data = Bytes::from(vec![7; bytes]);
    let (began, mut dispatch, mut before) = (Instant::now(), 0, None);
    let figure = loop {
        match pair.send(dispatch, &data) {
            Ok(()) => {
                dispatch += 1;
                yield_now().await;
            }
            Err(BenchError::Send(SendError::Full { .. })) => sleep(RETRY).await,
            Err(error) => return Err(error),
        }
        // What is heard of has no use here, and must not pile up.
        while pair.heard.try_recv().is_ok() {}
        let now = Instant::now();
        match before {
            None if now - began >= span => before = Some((now, arrived.load(Ordering::Relaxed))),
            Some((since, count)) if now - since >= span => {
                let passed = (arrived.load(Ordering::Relaxed) - count) * bytes as u64;
                break passed as f64 / (now - since).as_secs_f64();
            }
            _ => {}
        }
    };
    pair.down().await;
    Ok(figure)
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
