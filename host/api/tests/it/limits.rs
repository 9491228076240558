//! Clients that send too much, too slowly or nothing, and a server that stops.

use crate::harness::{Running, exchange, host, host_on, json_request};
use crate::infer::gzip;
use bps_api::{ApiConfig, ServerLimits, client_router};
use bytes::Bytes;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PATH: &str = "/v2/models/digits/infer";

fn short() -> ServerLimits {
    let soon = Duration::from_millis(200);
    ServerLimits { first_header_timeout: soon, header_timeout: soon, ..ServerLimits::default() }
}

async fn server(config: ApiConfig, limits: ServerLimits) -> Running {
    let host = host().await;
    let router = client_router(host.clone(), config);
    Running::of(host, router, None, limits).await
}

/// Sends this much and reads until the server closes.
async fn send_and_wait(server: &Running, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn bodies_are_bounded_before_and_after_decompression() {
    let config = ApiConfig { body_bytes_max: 100_000, ..ApiConfig::default() };
    let server = server(config, ServerLimits::default()).await;
    // Declared too long: refused before it is sent.
    let head = format!("POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\nconnection: close\r\n\r\n");
    let answer = send_and_wait(&server, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("{\"error\":"), "{answer}");
    // Declared a little too long, and sent without asking: received, then refused.
    let answer = server.call("POST", PATH, &[], &vec![b' '; 300_000]).await;
    assert_eq!((answer.status, answer.error().as_str()), (413, "the body is larger than 100000 bytes"));
    // Not declared: refused when it gets there.
    let chunk = format!("{:x}\r\n{}\r\n", 60_000, "x".repeat(60_000));
    let head = format!("POST {PATH} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n");
    let answer = send_and_wait(&server, (head + &chunk + &chunk + "0\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("larger than 100000 bytes"), "{answer}");
    // A hundred zeroes per bit: small as sent, too large once unpacked.
    let bomb = [&b"\x1f\x8b\x08\0\0\0\0\0\0\xff"[..], &zeroes_deflated()].concat();
    assert!(bomb.len() < 1000);
    let answer = server.call("POST", PATH, &[("content-encoding", "gzip")], &bomb).await;
    assert_eq!((answer.status, answer.error().as_str()), (413, "the body is larger than 100000 bytes"));
    // Compressed bytes count too.
    let answer = server.call("POST", PATH, &[("content-encoding", "gzip")], &gzip(&[b' '; 100_001])).await;
    assert_eq!(answer.status, 413, "{answer:?}");
    server.stop().await;
}

/// A deflate stream, fixed Huffman codes, of one zero and then copies of 258 bytes: 1,000 of them in 13 bits each.
fn zeroes_deflated() -> Vec<u8> {
    let mut bits: Vec<bool> = vec![true, true, false]; // last block, fixed codes
    let mut put = |code: u32, length: u32| (0..length).rev().for_each(|i| bits.push(code >> i & 1 == 1));
    put(0x30, 8); // literal 0
    for _ in 0..600 {
        put(0b1100_0101, 8); // length 258, no extra bits
        put(0, 5); // distance 1
    }
    bits.chunks(8).map(|b| b.iter().enumerate().fold(0, |byte, (i, bit)| byte | (u8::from(*bit) << i))).collect()
}

#[tokio::test]
async fn slow_clients_are_let_go() {
    let config = ApiConfig { body_idle_timeout: Duration::from_millis(200), ..ApiConfig::default() };
    let server = server(config, short()).await;
    let head = format!("POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n");
    let table: [(&[u8], &str); 5] = [
        (b"", ""),                                                // nothing at all
        (b"PRI * HT", ""),                                        // half of HTTP/2's preface
        (b"GET /v2 HTTP/1.1\r\nhos", ""),                         // half a head
        (b"GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n", "HTTP/1.1 200"), // then silence on a kept connection
        (head.as_bytes(), "HTTP/1.1 408"),                        // no body
    ];
    for (bytes, expected) in table {
        let answer = send_and_wait(&server, bytes).await;
        let line = answer.lines().next().unwrap_or("");
        assert!(line.starts_with(expected), "{:?}: {line}", str::from_utf8(bytes));
    }
    server.stop().await;
}

#[tokio::test]
async fn who_asks_nothing_is_let_go_long_before_who_has_asked() {
    let limits = ServerLimits::default();
    assert!(limits.handshake_timeout.max(limits.first_header_timeout) <= Duration::from_secs(5));
    let limits = ServerLimits { first_header_timeout: Duration::from_millis(200), ..limits };
    let server = server(ApiConfig::default(), limits).await;
    let mut kept = TcpStream::connect(server.address).await.unwrap();
    kept.write_all(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert_eq!(kept.read_u8().await.unwrap(), b'H');
    let silent = tokio::time::timeout(Duration::from_secs(10), send_and_wait(&server, b""));
    assert_eq!(silent.await.expect("let go within seconds"), "");
    let mut rest = Vec::new();
    let waiting = tokio::time::timeout(Duration::from_millis(300), kept.read_to_end(&mut rest));
    assert!(waiting.await.is_err(), "a connection that has asked is kept");
    server.stop().await;
}

/// A connection to the server from another address of this machine.
#[cfg(target_os = "linux")]
async fn connect_from(address: [u8; 4], server: &Running) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((address, 0).into()).unwrap();
    socket.connect(server.address).await.unwrap()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn connections_of_one_address_shut_out_nobody() {
    let limits = ServerLimits { connections_max: 8, address_connections_max: 6, ..ServerLimits::default() };
    let server = server(ApiConfig::default(), limits).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(connect_from([127, 0, 0, 2], &server).await);
    }
    for address in [[127, 0, 0, 3], [127, 0, 0, 2]] {
        let asked = async { exchange(connect_from(address, &server).await, "GET", "/v2", &[], Bytes::new()).await };
        let answer = tokio::time::timeout(Duration::from_secs(3), asked).await;
        assert_eq!(answer.expect("it waits for none of the silent ones").status, 200, "{address:?}");
    }
    server.stop().await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn who_is_being_answered_is_not_displaced() {
    let limits = ServerLimits { connections_max: 8, address_connections_max: 2, ..ServerLimits::default() };
    let server = server(ApiConfig::default(), limits).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = connect_from([127, 0, 0, 2], &server).await;
        stream.write_all(b"GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        stream.read_u8().await.unwrap();
        held.push(stream);
    }
    let mut rest = Vec::new();
    let mut third = connect_from([127, 0, 0, 2], &server).await;
    let closed = tokio::time::timeout(Duration::from_secs(3), third.read_to_end(&mut rest)).await;
    let _ = closed.expect("it is closed at once, by an end or a reset");
    for stream in &mut held {
        stream.write_all(b"GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0, "still answered");
    }
    server.stop().await;
}

#[tokio::test]
async fn connections_have_a_number() {
    let limits = ServerLimits { connections_max: 1, ..ServerLimits::default() };
    let server = server(ApiConfig::default(), limits).await;
    let mut holder = TcpStream::connect(server.address).await.unwrap();
    holder.write_all(b"GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    holder.read_u8().await.unwrap();
    let second = TcpStream::connect(server.address).await.unwrap();
    let mut second = tokio::spawn(exchange(second, "GET", "/v2", &[], Bytes::new()));
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut second).await.is_err(), "two at once");
    drop(holder);
    assert_eq!(second.await.unwrap().status, 200);
    server.stop().await;
}

#[tokio::test]
async fn all_bodies_share_room() {
    let config = ApiConfig { all_bodies_bytes_max: 64 << 10, ..ApiConfig::default() };
    let server = server(config, ServerLimits::default()).await;
    let answer = server.call("POST", PATH, &[], &vec![b' '; 100_000]).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.error().contains("too many bytes"));
    assert_eq!(server.post(PATH, &json_request(1, "")).await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn stopping_finishes_what_runs() {
    let server = Running::client_port(host_on("cpu,slowdown=200").await, ApiConfig::default()).await;
    let host = server.host.clone();
    let stream = TcpStream::connect(server.address).await.unwrap();
    let running = tokio::spawn(async move { exchange(stream, "POST", PATH, &[], json_request(1, "").into()).await });
    crate::harness::until("the request arrives", || host.ledger().submitted == 1).await;
    let address = server.address;
    server.stop().await;
    assert_eq!(running.await.unwrap().status, 200);
    assert!(TcpStream::connect(address).await.is_err(), "still listening");
}
