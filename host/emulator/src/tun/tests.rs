//! Real kernel TCP and UDP over the emulated link. Needs root; elsewhere only the refusal is tested.

use super::*;
use crate::conditions::Loss;
use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

/// Two namespaces with a link; none where this process may not have them.
fn pair(subnet: u8, conditions: Conditions) -> Option<(Place, Place, TunLink)> {
    let weak = match Place::make(&format!("weak{subnet}")) {
        Err(NetworkError::NotPermitted | NetworkError::NoIp) => return None,
        made => made.unwrap(),
    };
    let strong = Place::make(&format!("strong{subnet}")).unwrap();
    let link = TunLink::start(&weak, &strong, subnet, conditions).unwrap();
    Some((weak, strong, link))
}

/// Runs in a namespace.
fn within<T: Send>(place: &Place, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            place.door().enter().unwrap();
            work()
        });
        worker.join().unwrap()
    })
}

/// Takes one connection and reads it to its end, then says how many bytes that were.
fn sink(strong: &Place, address: SocketAddr) -> thread::JoinHandle<()> {
    let listener = within(strong, || TcpListener::bind(address).unwrap());
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let bytes = std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
        stream.write_all(&bytes.to_le_bytes()).unwrap();
    })
}

/// Sends bytes over TCP; bits per second.
fn goodput(weak: &Place, strong: &Place, address: SocketAddr, bytes: usize) -> f64 {
    let sink = sink(strong, address);
    let mut stream = within(weak, || TcpStream::connect(address).unwrap());
    let begun = Instant::now();
    stream.write_all(&vec![7; bytes]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut told = [0; 8];
    stream.read_exact(&mut told).unwrap();
    assert_eq!(u64::from_le_bytes(told), bytes as u64);
    sink.join().unwrap();
    bytes as f64 * 8.0 / begun.elapsed().as_secs_f64()
}

#[test]
fn tcp_has_the_rate_the_round_trip_and_both_families() {
    let Some((weak, strong, link)) = pair(11, Conditions::link(Some(2e7), Nanos::from_millis(20))) else { return };
    let v4 = SocketAddr::from((link.strong_address(), 5_000));
    let listener = within(&strong, || TcpListener::bind(v4).unwrap());
    let begun = Instant::now();
    let stream = within(&weak, || TcpStream::connect(v4).unwrap());
    let handshake = begun.elapsed();
    assert!((20..60).contains(&handshake.as_millis()), "{handshake:?}");
    drop((stream, listener));
    let rate = goodput(&weak, &strong, v4, 4_000_000);
    assert!((1.2e7..2e7).contains(&rate), "{rate}");
    let v6 = SocketAddr::from((Ipv6Addr::new(0xfd77, 11, 0, 0, 0, 0, 0, 1), 5_001));
    let rate = goodput(&weak, &strong, v6, 1_000_000);
    assert!((0.7e7..2e7).contains(&rate), "{rate}");
    // Faster, in the middle of things.
    link.set(Conditions::link(Some(1e8), Nanos::from_millis(2)));
    let rate = goodput(&weak, &strong, v4, 10_000_000);
    assert!((4e7..1e8).contains(&rate), "{rate}");
    assert!(link.counts()[0].delivered_bytes > 15_000_000);
}

#[test]
fn datagrams_are_lost_and_an_outage_and_roaming_are_felt() {
    let lossy = Conditions { loss: Loss::Random(0.2), ..Conditions::link(None, Nanos::from_millis(2)) };
    let Some((weak, strong, link)) = pair(12, lossy) else { return };
    let address = SocketAddr::from((link.strong_address(), 5_000));
    let listener = within(&strong, || UdpSocket::bind(address).unwrap());
    listener.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let client = within(&weak, || UdpSocket::bind("0.0.0.0:0").unwrap());
    // Who sent what arrived. Sent and taken at once, since a socket's buffer holds fewer.
    let arrived = |count: u32| {
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..count {
                    client.send_to(&[1; 200], address).unwrap();
                    thread::sleep(Duration::from_micros(100));
                }
            });
            let received = || listener.recv_from(&mut [0; 300]).ok().map(|(_, from)| from.ip());
            std::iter::from_fn(received).collect::<Vec<_>>()
        })
    };
    // Of 500 with a fifth lost: 400, standard deviation 9.
    let count = arrived(500).len();
    assert!((350..450).contains(&count), "{count}");
    link.set(Conditions { up: false, ..lossy });
    assert_eq!(arrived(20).len(), 0);
    link.set(Conditions { loss: Loss::None, ..lossy });
    let before = link.weak_address();
    assert_eq!(arrived(5), [before; 5]);
    link.roam().unwrap();
    assert_ne!(link.weak_address(), before);
    assert_eq!(arrived(5), [link.weak_address(); 5]);
}

#[test]
fn two_hundred_megabits_pass() {
    let Some((weak, strong, link)) = pair(13, Conditions::link(Some(2e8), Nanos::from_millis(1))) else { return };
    let address = SocketAddr::from((link.strong_address(), 5_000));
    let rate = goodput(&weak, &strong, address, 25_000_000);
    // Three quarters of the line's rate in a debug build on a machine that does other things too.
    assert!((1.5e8..2e8).contains(&rate), "{rate}");
}

#[test]
fn what_was_made_is_removed() {
    let Some((weak, strong, link)) = pair(14, Conditions::default()) else { return };
    let names = [weak.name().to_owned(), strong.name().to_owned()];
    drop((link, weak, strong));
    let left = ip(&["netns", "list"]).unwrap();
    assert!(names.iter().all(|n| !left.contains(n)), "{left}");
}
