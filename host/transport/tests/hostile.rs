//! A paired host that misbehaves, and one that is not ours at all: its session ends, with a reason, and nothing else.

mod host;

use bps_transport::{CarrierChoice, Happening, Identity, tls};
use bps_types::Nanos;
use bps_wire::{Hello, Limits, Message, Standing, VERSIONS, decode_hello, encode, encode_hello};
use host::{Ground, Host, execute, pair};
use rustls::pki_types::ServerName;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const LIMITS: Limits = Limits { frame_bytes_max: 1 << 30 };

/// A host under test, and a ground for someone paired with it.
fn victim(carrier: CarrierChoice) -> (Host, Ground) {
    let (ground, other) = (Ground::new(), Ground::new());
    ground.knows(other.key(), None);
    (ground.start(|s| s.carrier = carrier), other)
}

async fn tls_to(host: &Host, as_who: &Identity) -> io::Result<TlsStream<TcpStream>> {
    let config = tls::client_config(as_who, host.key()).map_err(io::Error::other)?;
    let name = ServerName::try_from("bps").map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(host.address()).await?).await
}

fn hello(versions: (u16, u16)) -> Vec<u8> {
    let hello = Hello { versions, name: "mallory".into(), software: "none".into(), frame_bytes_max: 1 << 20 };
    encode_hello(&hello).expect("it fits")
}

fn frame(message: &Message) -> Vec<u8> {
    encode(message, &LIMITS).expect("it keeps the bounds").parts.concat()
}

/// A record of the TCP carrier.
fn record(lane: u8, flags: u8, bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u32).to_le_bytes();
    [&[lane, flags, 0, 0][..], &length, bytes].concat()
}

/// Connected, past hello, and up.
async fn accepted(host: &Host, other: &Ground) -> TlsStream<TcpStream> {
    let mut stream = tls_to(host, &other.identity).await.expect("it is paired");
    stream.write_all(&hello(VERSIONS)).await.expect("it listens");
    let standing = frame(&Message::Standing(Standing::default()));
    stream.write_all(&record(0, 0, &standing)).await.expect("it listens");
    host.until_up().await;
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_bytes_end_the_session_with_a_reason() {
    let (host, other) = victim(CarrierChoice::Tcp);
    let mut damaged = frame(&execute(other.key(), 1, 1_000));
    let last = damaged.len() - 100;
    damaged[last] ^= 1;
    let recall = frame(&Message::Recall { dispatch: 1 });
    let pong = frame(&Message::Pong { token: 7, asked: Nanos::MAX, at: Nanos::MAX });
    let cases: [(&str, Vec<u8>); 10] = [
        ("payload: checksum", record(1, 0, &damaged)),
        ("not a bps frame", record(0, 0, &[0x55; 64])),
        ("header: checksum", record(0, 0, &[&b"BPSF"[..], &[0x55; 60]].concat())),
        ("a lane that is not there", record(8, 0, &recall)),
        ("a lane that is not for its kind", record(1, 0, &recall)),
        ("a lane that is not for its kind", record(0, 0, &frame(&execute(other.key(), 1, 10)))),
        ("given up that has not begun", record(1, 1, &[])),
        ("make no sense", record(1, 0, &[])),
        ("make no sense", [1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff].to_vec()),
        ("closed the connection", [pong.len() as u8; 3].to_vec()),
    ];
    for (reason, bytes) in cases {
        let mut stream = accepted(&host, &other).await;
        // A pong nobody asked for is no offence.
        stream.write_all(&record(0, 0, &pong)).await.expect("it listens");
        stream.write_all(&bytes).await.expect("it listens");
        stream.flush().await.expect("it listens");
        if bytes.len() == 3 {
            stream.shutdown().await.expect("it listens");
        }
        let down = host.until_down().await;
        assert!(down.contains(reason), "{down:?} for {reason:?}");
    }
    let frames_declared = record(1, 0, &frame(&execute(other.key(), 1, 33 << 20))[..1_000]);
    let mut stream = accepted(&host, &other).await;
    stream.write_all(&frames_declared).await.expect("it listens");
    assert!(host.until_down().await.contains("frame: 34603"), "a frame larger than this host takes");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_streams_end_the_session_with_a_reason() {
    let (host, other) = victim(CarrierChoice::Quic);
    let mut damaged = frame(&execute(other.key(), 1, 1_000));
    damaged[80] ^= 1;
    let good = frame(&execute(other.key(), 1, 1_000));
    let cases: [(&str, Vec<u8>); 5] = [
        ("body: checksum", damaged),
        ("a control message on a stream of its own", frame(&Message::Recall { dispatch: 1 })),
        ("closed", good[..500].to_vec()),
        ("goes on after its frame", [&good[..], &[0]].concat()),
        ("not a bps frame", vec![0; 64]),
    ];
    for (reason, bytes) in cases {
        let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("a socket");
        let config = tls::client_config(&other.identity, host.key()).expect("it is sound");
        let config = quinn::crypto::rustls::QuicClientConfig::try_from(config).expect("it is sound");
        let config = quinn::ClientConfig::new(Arc::new(config));
        let connecting = endpoint.connect_with(config, host.address(), "bps").expect("it is sound");
        let connection = connecting.await.expect("it is paired");
        let (mut control, _answer) = connection.open_bi().await.expect("it may");
        let standing = frame(&Message::Standing(Standing::default()));
        control.write_all(&[hello(VERSIONS), standing].concat()).await.expect("it listens");
        host.until_up().await;
        let mut stream = connection.open_uni().await.expect("it may");
        stream.write_all(&bytes).await.expect("it listens");
        stream.finish().expect("it listens");
        let down = host.until_down().await;
        assert!(down.contains(reason), "{down:?} for {reason:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_versions_and_other_protocols_are_told_apart() {
    let (host, other) = victim(CarrierChoice::Tcp);
    let mut stream = tls_to(&host, &other.identity).await.expect("it is paired");
    stream.write_all(&hello((7, 9))).await.expect("it listens");
    let mut answer = Vec::new();
    // Its end without a TLS goodbye is fine: what counts is that it ends.
    let _ = stream.read_to_end(&mut answer).await;
    assert_eq!(decode_hello(&answer).expect("its hello, and nothing else").versions, VERSIONS);
    let mut stream = tls_to(&host, &other.identity).await.expect("it is paired");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("it listens");
    answer.clear();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty());
    assert_eq!(host.count(|h| matches!(h, Happening::Up { .. })), 0);
    drop(accepted(&host, &other).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stays_silent_is_given_up() {
    let (host, other) = victim(CarrierChoice::Tcp);
    let stream = accepted(&host, &other).await;
    let since = Instant::now();
    let reason = host.until_down().await;
    assert_eq!(reason, "nothing heard for 600 ms");
    assert!(since.elapsed() < Duration::from_millis(1_500), "{:?}", since.elapsed());
    drop(stream);
    // Past TLS and then nothing: it holds no place, and the host lets others in meanwhile.
    let silent = tls_to(&host, &other.identity).await.expect("it is paired");
    drop(accepted(&host, &other).await);
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_get_no_further_than_tls() {
    let (host, _) = victim(CarrierChoice::Tcp);
    let stranger = Ground::new();
    // In TLS 1.3 the refusal of a client's certificate comes after the client's own handshake is done.
    if let Ok(mut stream) = tls_to(&host, &stranger.identity).await {
        let _ = stream.write_all(&hello(VERSIONS)).await;
        let mut answer = Vec::new();
        assert!(stream.read_to_end(&mut answer).await.is_err() && answer.is_empty());
    }
    assert_eq!(host.count(|_| true), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_at_the_door_does_not_keep_peers_out_for_long() {
    let (edge, strong) = pair(CarrierChoice::Tcp).await;
    let address: SocketAddr = strong.address();
    let mut crowd = Vec::new();
    for _ in 0..64 {
        crowd.push(TcpStream::connect(address).await.expect("the kernel accepts"));
    }
    // The session that stands is not disturbed.
    sleep(Duration::from_millis(200)).await;
    edge.transport.send(strong.key(), execute(edge.key(), 1, 1_000)).expect("it is up");
    strong.until("it arrives", |_| (strong.arrived().len() == 1).then_some(())).await;
    // Half of them were turned away at once, the others when their time was over.
    let mut byte = [0];
    for mut stream in crowd {
        let ended = timeout(Duration::from_secs(10), stream.read(&mut byte)).await;
        assert!(!matches!(ended, Err(_) | Ok(Ok(1..))));
    }
}

/// Loopback's second address; where a machine has none, nothing can be shown.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_from_one_address_does_not_keep_out_those_from_another() {
    let (edge, strong) = (Ground::new(), Ground::new());
    strong.knows(edge.key(), None);
    let host = strong.start(|s| s.carrier = CarrierChoice::Tcp);
    let mut crowd = Vec::new();
    for _ in 0..64 {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind((Ipv4Addr::new(127, 0, 0, 2), 0).into()).expect("an address of loopback");
        crowd.push(socket.connect(host.address()).await.expect("the kernel accepts"));
    }
    let stream = timeout(Duration::from_secs(1), accepted(&host, &edge)).await;
    assert!(stream.is_ok(), "it waited for strangers");
}
