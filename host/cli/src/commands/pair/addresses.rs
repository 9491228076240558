//! At which addresses other hosts may reach this one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Most that are shown; a host with containers has many.
const SHOWN_MAX: usize = 4;

/// Those that somebody on another machine can try, the likeliest first; empty: none was found.
pub(super) fn reachable(listen: SocketAddr) -> Vec<IpAddr> {
    if !listen.ip().is_unspecified() {
        return vec![listen.ip()];
    }
    let mut found: Vec<IpAddr> = towards(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))).into_iter().collect();
    if listen.is_ipv6() {
        found.extend(towards(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))));
    }
    // Where there is no default route, as on a cable between two machines, the kernel's table still has them.
    let table = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    for address in local(&table) {
        if !found.contains(&IpAddr::V4(address)) {
            found.push(IpAddr::V4(address));
        }
    }
    found.truncate(SHOWN_MAX);
    found
}

/// The own address on the way to `destination`. Connecting a datagram socket sends nothing.
fn towards(destination: IpAddr) -> Option<IpAddr> {
    let any = if destination.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((destination, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

/// The addresses in Linux's table of routes: each line `|-- ADDRESS` that is followed by `/32 host LOCAL`.
fn local(table: &str) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    let mut last = None;
    for line in table.lines() {
        if let Some((_, address)) = line.split_once("|-- ") {
            last = address.trim().parse::<Ipv4Addr>().ok();
        } else if line.trim() == "/32 host LOCAL"
            && let Some(address) = last
            && !address.is_loopback()
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_was_chosen_is_the_one() {
        let listen: SocketAddr = "10.1.2.3:7861".parse().unwrap();
        assert_eq!(reachable(listen), [listen.ip()]);
    }

    #[test]
    fn whatever_is_found_can_be_tried_from_elsewhere() {
        let found = reachable("0.0.0.0:7861".parse().unwrap());
        assert!(
            found.len() <= SHOWN_MAX && found.iter().all(|ip| !ip.is_loopback() && !ip.is_unspecified()),
            "{found:?}"
        );
    }

    #[test]
    fn the_kernels_table_is_read() {
        let table = "\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 10.0.0.0/24 2 0 2
        |-- 10.0.0.0
           /24 link UNICAST
        |-- 10.0.0.2
           /32 host LOCAL
        |-- 10.0.0.255
           /32 link BROADCAST
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.1
           /32 host LOCAL
Local:
        |-- 10.0.0.2
           /32 host LOCAL
        |-- 192.168.7.1
           /32 host LOCAL
";
        assert_eq!(local(table), [Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(192, 168, 7, 1)]);
        assert!(local("").is_empty() && local("/32 host LOCAL").is_empty());
    }
}
