//! One connection, from its first byte to its last.

use super::ServerLimits;
use super::places::Place;
use super::write_timeout::WriteTimeout;
use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt;

/// HTTP/2 connections that say nothing are asked this often whether they are there.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// Bytes of one request, and of a connection's requests, that HTTP/2 clients may send ahead.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 128;

/// What a connection needs to know.
pub(super) struct Connection {
    limits: Arc<ServerLimits>,
    stopping: watch::Receiver<()>,
    place: Arc<Place>,
}

impl Connection {
    pub(super) fn new(limits: Arc<ServerLimits>, stopping: watch::Receiver<()>, place: Arc<Place>) -> Self {
        Self { limits, stopping, place }
    }

    /// The TLS handshake; none where it fails or takes too long, or the server stops.
    pub(super) async fn handshake<S>(&self, tls: &TlsAcceptor, stream: S) -> Option<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut stopping = self.stopping.clone();
        tokio::select! {
            result = tokio::time::timeout(self.limits.handshake_timeout, tls.accept(stream)) => result.ok()?.ok(),
            _ = stopping.changed() => None,
        }
    }

    /// Serves requests until the client, a timeout or the server ends it.
    pub(super) async fn serve<S>(mut self, stream: S, router: Router)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn({
            let place = self.place.clone();
            move |request: hyper::Request<Incoming>| {
                place.asks();
                router.clone().oneshot(request.map(Body::new))
            }
        });
        let builder = self.builder();
        let stream = WriteTimeout::new(stream, self.limits.write_timeout);
        let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut first_request_due = pin!(tokio::time::sleep(self.limits.first_header_timeout));
        let (mut watched, mut stopped) = (true, false);
        loop {
            tokio::select! {
                result = served.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(error, "a connection ended early");
                    }
                    return;
                }
                _ = self.stopping.changed(), if !stopped => {
                    stopped = true;
                    served.as_mut().graceful_shutdown();
                }
                // Later requests are timed by the protocol's own code; before the first one it is not yet chosen.
                () = first_request_due.as_mut(), if watched => {
                    watched = false;
                    if !self.place.has_asked() {
                        return;
                    }
                }
            }
        }
    }

    fn builder(&self) -> Builder<TokioExecutor> {
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(self.limits.header_timeout);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_INTERVAL)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(STREAMS_MAX);
        builder
    }
}
