//! How QUIC connections and their sockets are set up.

use crate::TransportError;
use quinn::congestion::BbrConfig;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Endpoint, EndpointConfig, IdleTimeout, ServerConfig, TokioRuntime, TransportConfig, VarInt};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Streams a peer may have open; frames beyond wait in its outbox.
pub(crate) const STREAMS_MAX: u32 = 64;
/// Received and not yet read, per stream and per connection: the product of rate and round trip, 1 Gbit/s and 100 ms.
const STREAM_WINDOW_MAX: u64 = 12 << 20;
/// Sent and not acknowledged: as much.
const SEND_WINDOW: u64 = 12 << 20;
/// What the first flight may hold: one round trip for a small activation. BBR's own start is 200 packets.
const INITIAL_WINDOW: u64 = 240_000;
/// Before anything is measured; a lost first packet is sent again after three of these.
const INITIAL_RTT: Duration = Duration::from_millis(100);
/// The session notices sooner; this is for connections that never became one.
const IDLE_TIMEOUT_MS: u32 = 5_000;
/// A burst at the pace of a fast link must fit while the process is not scheduled.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// `frame_bytes_max` is this host's.
pub(crate) fn transport(frame_bytes_max: u64) -> Arc<TransportConfig> {
    let stream_window = frame_bytes_max.min(STREAM_WINDOW_MAX);
    let mut bbr = BbrConfig::default();
    bbr.initial_window(INITIAL_WINDOW);
    let mut config = TransportConfig::default();
    config
        .congestion_controller_factory(Arc::new(bbr))
        .send_fairness(false)
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(STREAMS_MAX))
        .stream_receive_window(bounded(stream_window))
        .receive_window(bounded(2 * stream_window))
        .send_window(SEND_WINDOW)
        .initial_rtt(INITIAL_RTT)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))))
        .datagram_receive_buffer_size(None);
    Arc::new(config)
}

pub(crate) fn server(
    tls: rustls::ServerConfig,
    transport: Arc<TransportConfig>,
) -> Result<ServerConfig, TransportError> {
    let tls = QuicServerConfig::try_from(tls).map_err(|e| TransportError::Tls(e.to_string()))?;
    let mut config = ServerConfig::with_crypto(Arc::new(tls));
    config.transport_config(transport);
    Ok(config)
}

pub(crate) fn client(
    tls: rustls::ClientConfig,
    transport: Arc<TransportConfig>,
) -> Result<ClientConfig, TransportError> {
    let tls = QuicClientConfig::try_from(tls).map_err(|e| TransportError::Tls(e.to_string()))?;
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(transport);
    Ok(config)
}

/// A UDP socket with room for bursts, as an endpoint; without `server` it only dials.
pub(crate) fn endpoint(address: SocketAddr, server: Option<ServerConfig>) -> io::Result<Endpoint> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    // The system may give less (on Linux `net.core.rmem_max` and `wmem_max`), which costs speed and nothing else.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    socket.bind(&address.into())?;
    Endpoint::new(EndpointConfig::default(), server, socket.into(), Arc::new(TokioRuntime))
}

fn bounded(bytes: u64) -> VarInt {
    VarInt::from_u64(bytes).unwrap_or(VarInt::MAX)
}
