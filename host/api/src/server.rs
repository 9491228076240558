//! Connections: how they are accepted, what they may take, and how they end.
//!
//! One task accepts; each connection is a task of its own, so that neither a slow handshake nor a slow client holds up
//! another. A connection ends when its client goes away, when it is too slow (handshake, head of a request, taking an
//! answer), when it has sent nothing and another one of its address needs the place, or with the server: then requests in
//! progress are finished, for at most the drain timeout.

mod connection;
mod places;
mod tls;
mod unix;
mod write_timeout;

pub use tls::TlsFiles;
pub use unix::serve_unix;

use crate::ApiError;
use axum::Router;
use connection::Connection;
use places::Places;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// Pause after an accept that failed for want of something (file descriptors, memory), which others may give back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Limits of a server's connections.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Connections at once; further clients wait in the system's backlog. More than any sensible number of clients of one
    /// host, less than the usual limit of file descriptors.
    pub connections_max: usize,
    /// Of these, the most that one address may hold: most of them, since behind one may be a proxy or all there is of load,
    /// but some are left for others. A network (/64) of IPv6 counts as one address.
    pub address_connections_max: usize,
    /// Time for a TLS handshake.
    pub handshake_timeout: Duration,
    /// Time for the head of a connection's first request: who connects has something to ask, and a connection that says
    /// nothing costs a place.
    pub first_header_timeout: Duration,
    /// Time for the head of a later request, the wait for it on a connection that is kept included.
    pub header_timeout: Duration,
    /// Time in which a client must take some of its answer.
    pub write_timeout: Duration,
    /// Time for requests in progress once the server is to stop.
    pub drain_timeout: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections_max: 768,
            address_connections_max: 704,
            handshake_timeout: Duration::from_secs(5),
            first_header_timeout: Duration::from_secs(5),
            header_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// Serves `router` on a TCP listener until `shutdown` completes, with the default limits. HTTP/1.1 and HTTP/2.
pub async fn serve(
    listener: TcpListener,
    tls: Option<TlsFiles>,
    router: Router,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ApiError> {
    serve_with(listener, tls, router, ServerLimits::default(), shutdown).await
}

/// As [`serve`], with limits.
pub async fn serve_with(
    listener: TcpListener,
    tls: Option<TlsFiles>,
    router: Router,
    limits: ServerLimits,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ApiError> {
    let tls = tls.map(|files| files.acceptor()).transpose()?;
    run(listener, limits, shutdown, |stream, connection| {
        let tls = tls.clone();
        let router = router.clone();
        async move {
            match tls {
                None => connection.serve(stream, router).await,
                Some(tls) => match connection.handshake(&tls, stream).await {
                    Some(stream) => connection.serve(stream, router).await,
                    None => tracing::debug!("a TLS handshake failed or took too long"),
                },
            }
        }
    })
    .await;
    Ok(())
}

/// Where connections come from.
trait Listener {
    type Stream;
    /// The next one, and its client's address where clients have one.
    fn accept(&self) -> impl Future<Output = std::io::Result<(Self::Stream, Option<IpAddr>)>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> std::io::Result<(TcpStream, Option<IpAddr>)> {
        let (stream, client) = Self::accept(self).await?;
        // Small answers must not wait for an acknowledgement of the one before.
        stream.set_nodelay(true)?;
        Ok((stream, Some(client.ip())))
    }
}

/// Accepts and hands over until `shutdown`, then stops listening and waits for what runs.
async fn run<L: Listener, F: Future<Output = ()> + Send + 'static>(
    listener: L,
    limits: ServerLimits,
    shutdown: impl Future<Output = ()>,
    handle: impl Fn(L::Stream, Connection) -> F,
) {
    let seats = Arc::new(Semaphore::new(limits.connections_max));
    let places = Places::new(limits.address_connections_max);
    let (stop, stopping) = watch::channel(());
    let drain_timeout = limits.drain_timeout;
    let limits = Arc::new(limits);
    let mut connections = JoinSet::new();
    let accept_all = async {
        loop {
            let seat = seats.clone().acquire_owned().await.expect("this semaphore is never closed");
            while connections.try_join_next().is_some() {} // forget those that have ended
            match listener.accept().await {
                Ok((stream, client)) => {
                    // One for which there is no place is closed: waiting, it would hold up those of other addresses.
                    let Some(place) = places.take(client, Instant::now()).map(Arc::new) else { continue };
                    let connection = handle(stream, Connection::new(limits.clone(), stopping.clone(), place.clone()));
                    connections.spawn(async move {
                        tokio::select! {
                            () = connection => {}
                            () = place.wanted() => {}
                        }
                        drop(seat);
                    });
                }
                Err(error) if is_of_one_client(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = shutdown => {}
        () = accept_all => {}
    }
    drop(listener);
    let _ = stop.send(()); // no receiver: no connection
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(drain_timeout, drained).await.is_err() {
        tracing::warn!("connections were cut off: their requests did not end in time");
        connections.shutdown().await;
    }
}

/// Errors that say something about one connection and nothing about the listener.
fn is_of_one_client(error: &std::io::Error) -> bool {
    use ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, InvalidInput, NotConnected};
    // Setting an option on a socket whose client has gone is invalid on some systems.
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | InvalidInput | NotConnected)
}
