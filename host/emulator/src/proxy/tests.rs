//! The proxy before an echo server, TCP and UDP.

use super::*;
use crate::conditions::Loss;
use bps_types::Nanos;
use std::io::{Read, Write};
use std::thread;
use std::time::Instant;

/// Echoes on TCP and UDP until the test ends.
fn echo() -> SocketAddr {
    let (listener, socket) = bind().unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
    thread::spawn(move || {
        let mut buffer = [0; 2_048];
        while let Ok((bytes, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..bytes], from);
        }
    });
    address
}

fn link(rate: Option<f64>, rtt_ms: u64) -> ProxyConditions {
    ProxyConditions { link: Conditions::link(rate, Nanos::from_millis(rtt_ms)), fault: Fault::None }
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// Sends and takes back; how long it took.
fn there_and_back(stream: &mut TcpStream, payload: &[u8]) -> Duration {
    let begun = Instant::now();
    let mut writing = stream.try_clone().unwrap();
    let mut back = vec![0; payload.len()];
    thread::scope(|scope| {
        scope.spawn(move || writing.write_all(payload).unwrap());
        stream.read_exact(&mut back).unwrap();
    });
    assert!(back == payload, "bytes came back changed");
    begun.elapsed()
}

#[test]
fn a_stream_has_the_rate_and_the_delay() {
    let proxy = Proxy::start(echo()).unwrap();
    let mut stream = connect(&proxy);
    there_and_back(&mut stream, b"warm");
    proxy.set(link(None, 60));
    let took = there_and_back(&mut stream, b"x");
    assert!((60..200).contains(&took.as_millis()), "{took:?}");
    // 500 kB at 8 Mbit/s are half a second, and the way back overlaps it.
    proxy.set(link(Some(8e6), 0));
    let took = there_and_back(&mut stream, &vec![7; 500_000]);
    assert!((500..900).contains(&took.as_millis()), "{took:?}");
    assert!(proxy.counts(Direction::ToTarget).delivered_bytes >= 500_000);
}

#[test]
fn a_stream_is_fast_where_the_link_is() {
    let proxy = Proxy::start(echo()).unwrap();
    let mut stream = connect(&proxy);
    let took = there_and_back(&mut stream, &vec![7; 20_000_000]);
    // 200 Mbit/s would take 0.8 s; debug builds on a busy machine get twice that.
    assert!(took.as_secs_f64() < 1.6, "{took:?}");
}

#[test]
fn a_stall_and_an_outage_hold_streams_and_lose_nothing() {
    let proxy = Proxy::start(echo()).unwrap();
    let mut stream = connect(&proxy);
    there_and_back(&mut stream, b"warm");
    let down = Conditions { up: false, ..Conditions::default() };
    for bad in [
        ProxyConditions { fault: Fault::Stall, ..Default::default() },
        ProxyConditions { link: down, fault: Fault::None },
    ] {
        proxy.set(bad);
        stream.write_all(b"held").unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
        assert!(stream.read(&mut [0; 4]).is_err());
        proxy.set(ProxyConditions::default());
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut back = [0; 4];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"held");
    }
}

#[test]
fn a_half_open_stream_stays_dead_and_a_new_one_lives() {
    let proxy = Proxy::start(echo()).unwrap();
    let mut stream = connect(&proxy);
    there_and_back(&mut stream, b"warm");
    proxy.set(ProxyConditions { fault: Fault::Swallow, ..Default::default() });
    stream.write_all(b"gone").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
    assert!(stream.read(&mut [0; 4]).is_err());
    proxy.set(ProxyConditions::default());
    stream.write_all(b"late").unwrap();
    let error = stream.read(&mut [0; 4]).unwrap_err();
    assert!(matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{error}");
    there_and_back(&mut connect(&proxy), b"new");
}

#[test]
fn a_cut_closes_and_refuses_until_it_is_over() {
    let proxy = Proxy::start(echo()).unwrap();
    let mut stream = connect(&proxy);
    there_and_back(&mut stream, b"warm");
    proxy.set(ProxyConditions { fault: Fault::Cut, ..Default::default() });
    assert_eq!(stream.read(&mut [0; 4]).unwrap_or(0), 0);
    // Accepted by the system, closed by the proxy.
    assert_eq!(connect(&proxy).read(&mut [0; 4]).unwrap_or(0), 0);
    proxy.set(ProxyConditions::default());
    there_and_back(&mut connect(&proxy), b"new");
}

#[test]
fn one_byte_is_corrupted_once() {
    let proxy = Proxy::start(echo()).unwrap();
    let mut stream = connect(&proxy);
    there_and_back(&mut stream, b"warm");
    proxy.corrupt(Direction::ToTarget);
    stream.write_all(b"abcd").unwrap();
    let mut back = [0; 4];
    stream.read_exact(&mut back).unwrap();
    let changed = back.iter().zip(b"abcd").filter(|(a, b)| a != b).count();
    assert_eq!(changed, 1);
    there_and_back(&mut stream, b"abcd");
}

#[test]
fn the_end_of_a_stream_passes() {
    let proxy = Proxy::start(echo()).unwrap();
    let mut stream = connect(&proxy);
    stream.write_all(b"last words").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    assert_eq!(back, b"last words");
    let begun = Instant::now();
    while proxy.connections() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(5), "the connection is still open");
        thread::sleep(Duration::from_millis(5));
    }
}

fn socket(proxy: &Proxy) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(proxy.address()).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    socket
}

#[test]
fn datagrams_find_their_client_and_their_losses() {
    let proxy = Proxy::start(echo()).unwrap();
    let sockets = [socket(&proxy), socket(&proxy)];
    for (number, socket) in sockets.iter().enumerate() {
        socket.send(&[number as u8; 100]).unwrap();
        let mut back = [0; 200];
        assert_eq!(socket.recv(&mut back).unwrap(), 100);
        assert_eq!(back[0], number as u8);
    }
    let lossy = Conditions { loss: Loss::Random(0.5), ..Conditions::default() };
    proxy.set(ProxyConditions { link: lossy, fault: Fault::None });
    let mut arrived = 0;
    for _ in 0..200 {
        sockets[0].send(&[1; 100]).unwrap();
        thread::sleep(Duration::from_micros(200));
    }
    while sockets[0].recv(&mut [0; 200]).is_ok() {
        arrived += 1;
    }
    // A quarter, since half is lost each way: standard deviation 6.
    assert!((20..80).contains(&arrived), "{arrived}");
    assert!(proxy.counts(Direction::ToTarget).lost > 50);
}

#[test]
fn roaming_changes_where_datagrams_come_from() {
    let listener = UdpSocket::bind("127.0.0.1:0").unwrap();
    listener.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).unwrap();
    let client = socket(&proxy);
    let seen = || {
        client.send(b"here").unwrap();
        listener.recv_from(&mut [0; 10]).unwrap().1
    };
    let before = seen();
    assert_eq!(before, seen());
    proxy.roam();
    assert_ne!(before, seen());
}

#[test]
fn dropping_it_ends_its_connections() {
    let proxy = Proxy::start(echo()).unwrap();
    let mut stream = connect(&proxy);
    there_and_back(&mut stream, b"warm");
    let address = proxy.address();
    drop(proxy);
    assert_eq!(stream.read(&mut [0; 4]).unwrap_or(0), 0);
    assert!(TcpStream::connect(address).is_err());
}
