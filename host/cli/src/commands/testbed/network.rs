//! Where the hosts are and what lies between them: network namespaces with emulated links, or loopback with a proxy where
//! namespaces are not allowed.

use crate::exit::usage;
use anyhow::{Context, Result};
use bps_emulator::{
    Conditions, Counts, Direction, Door, Fault, NetworkError, Place, Proxy, ProxyConditions, Script, TunLink,
};
use serde::Serialize;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Where paired hosts listen, in a namespace of their own.
const PEER_PORT: u16 = 7860;
/// Where clients connect there.
const CLIENT_PORT: u16 = 8000;

/// What the network is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// A network namespace per host, TUN devices, the kernel's own TCP and UDP above the emulated link.
    Namespaces,
    /// Processes on loopback, an emulated link in a proxy: no root needed, no lost TCP segments, no change of address.
    Proxy,
}

impl Kind {
    /// Whether what a script asks for can be done here.
    pub(super) fn permits(self, script: &Script) -> Result<()> {
        if self == Self::Namespaces && script.needs_proxy() {
            return Err(usage(
                "--script: stall, swallow, cut and corrupt are the proxy's: add --in-process. In network namespaces a link \
                 has rate, rtt, loss, queue_bytes, down and roam",
            ));
        }
        Ok(())
    }
}

/// Where one host is: processes and threads started there stay there.
#[derive(Clone, Debug, Default)]
pub(super) struct Site {
    door: Option<Door>,
    core: Option<usize>,
}

impl Site {
    /// Moves the calling thread there.
    pub(super) fn enter(&self) -> Result<()> {
        if let Some(door) = &self.door {
            door.enter()?;
        }
        if let Some(core) = self.core {
            bps_emulator::pin(core)?;
        }
        Ok(())
    }

    /// Does something there and waits for it.
    pub(super) fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                self.enter()?;
                work()
            });
            worker.join().map_err(|_| anyhow::anyhow!("a thread of the test bed panicked"))?
        })
    }
}

/// One host's addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    /// For its clients, who are where it is.
    pub(super) client: SocketAddr,
    /// Where it listens for other hosts; none: it only dials.
    pub(super) peer: Option<SocketAddr>,
}

/// The network of a run.
pub(super) struct Network {
    /// What it is made of.
    pub(super) kind: Kind,
    /// Where each host is: the server last.
    pub(super) sites: Vec<Site>,
    /// Their addresses.
    pub(super) ports: Vec<Ports>,
    /// Cores that the hosts keep to, where they can be kept.
    pub(super) cores: Vec<usize>,
    /// One from each weak host to the server. Before the places: fields go in this order.
    links: Links,
    /// The namespaces, which nobody else keeps: dropping this removes them.
    _places: Vec<Place>,
}

enum Links {
    Tun(Vec<TunLink>),
    Proxy(Vec<Proxy>),
}

impl Network {
    /// Namespaces where they can be had, else loopback; says which and why. `names`: the server last.
    pub(super) fn make(names: &[&str], in_process: bool, say: impl Fn(&str)) -> Result<Self> {
        let cores = cores(names.len());
        if cores.is_empty() {
            say("hosts are not kept to cores: there are fewer than hosts, or this system cannot");
        }
        if in_process {
            return Self::loopback(names.len(), cores);
        }
        for left in bps_emulator::remove_leftovers().unwrap_or_default() {
            say(&format!("removed the network namespace {left} of a run that was killed"));
        }
        match Self::namespaces(names, cores.clone()) {
            Err(error @ (NetworkError::NotPermitted | NetworkError::NoIp)) => {
                say(&format!(
                    "NO NETWORK NAMESPACES: {error}\nhosts run on loopback with an emulated link in a proxy instead: rate and \
                     delay hold, loss concerns QUIC only, and figures are not those of real network stacks"
                ));
                Self::loopback(names.len(), cores)
            }
            made => made.context("the emulated network was not made"),
        }
    }

    fn namespaces(names: &[&str], cores: Vec<usize>) -> Result<Self, NetworkError> {
        let places = names.iter().map(|name| Place::make(name)).collect::<Result<Vec<_>, _>>()?;
        let Some((server, weak)) = places.split_last() else { return Err(NetworkError::NoIp) };
        let join =
            |(number, place): (usize, &Place)| TunLink::start(place, server, number as u8, Conditions::default());
        let links = weak.iter().enumerate().map(join).collect::<Result<Vec<_>, _>>()?;
        let site =
            |(number, place): (usize, &Place)| Site { door: Some(place.door()), core: cores.get(number).copied() };
        let ports = |number: usize| Ports {
            client: (Ipv4Addr::LOCALHOST, CLIENT_PORT).into(),
            peer: (number + 1 == names.len()).then(|| (Ipv4Addr::UNSPECIFIED, PEER_PORT).into()),
        };
        Ok(Self {
            kind: Kind::Namespaces,
            sites: places.iter().enumerate().map(site).collect(),
            ports: (0..names.len()).map(ports).collect(),
            cores,
            links: Links::Tun(links),
            _places: places,
        })
    }

    fn loopback(hosts: usize, cores: Vec<usize>) -> Result<Self> {
        let peer = free_address()?;
        let proxies = (1..hosts).map(|_| Proxy::start(peer)).collect::<std::io::Result<Vec<_>>>();
        let ports =
            |number: usize| anyhow::Ok(Ports { client: free_address()?, peer: (number + 1 == hosts).then_some(peer) });
        Ok(Self {
            kind: Kind::Proxy,
            sites: (0..hosts).map(|number| Site { door: None, core: cores.get(number).copied() }).collect(),
            ports: (0..hosts).map(ports).collect::<Result<_>>()?,
            cores,
            links: Links::Proxy(proxies.context("the proxy did not start")?),
            _places: Vec::new(),
        })
    }

    /// Where the weak host of this number reaches the server.
    pub(super) fn server_address(&self, weak: usize) -> SocketAddr {
        match &self.links {
            Links::Tun(links) => (links[weak].strong_address(), PEER_PORT).into(),
            Links::Proxy(proxies) => proxies[weak].address(),
        }
    }

    /// All links are like this from now on. In namespaces there are no faults: [`Kind::permits`] has said so.
    pub(super) fn set(&self, link: Conditions, fault: Fault) {
        match &self.links {
            Links::Tun(links) => links.iter().for_each(|l| l.set(link)),
            Links::Proxy(proxies) => proxies.iter().for_each(|p| p.set(ProxyConditions { link, fault })),
        }
    }

    /// Flips a bit of the next byte that crosses each link, both ways.
    pub(super) fn corrupt(&self) {
        if let Links::Proxy(proxies) = &self.links {
            for proxy in proxies {
                [Direction::ToTarget, Direction::FromTarget].into_iter().for_each(|d| proxy.corrupt(d));
            }
        }
    }

    /// The weak hosts are at other addresses from now on.
    pub(super) fn roam(&self) -> Result<()> {
        match &self.links {
            Links::Tun(links) => links.iter().try_for_each(TunLink::roam)?,
            Links::Proxy(proxies) => proxies.iter().for_each(Proxy::roam),
        }
        Ok(())
    }

    /// What the links carried so far, both ways together.
    pub(super) fn carried_bytes(&self) -> u64 {
        let sum = |counts: [Counts; 2]| counts.iter().map(|c| c.delivered_bytes).sum::<u64>();
        match &self.links {
            Links::Tun(links) => links.iter().map(|l| sum(l.counts())).sum(),
            Links::Proxy(proxies) => {
                let both = |p: &Proxy| sum([Direction::ToTarget, Direction::FromTarget].map(|d| p.counts(d)));
                proxies.iter().map(both).sum()
            }
        }
    }
}

/// A core for each host; none where there are fewer.
fn cores(hosts: usize) -> Vec<usize> {
    let all = bps_emulator::cores();
    if all.len() < hosts { Vec::new() } else { all[..hosts].to_vec() }
}

/// An address that nothing listens at now.
fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on loopback")?;
    Ok(listener.local_addr()?)
}
