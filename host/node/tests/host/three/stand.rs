//! Three hosts in one process, each linked with others through a proxy.

use crate::stand::{PATIENCE, chaos, device, image, infer, swap, until};
use crate::two::stand::{Wish, config, free_port};
use bps_emulator::{Fault, Proxy, ProxyConditions};
use bps_node::{Host, PeerView, Receipt, Verdict};
use bps_transport::{Identity, Peer, PeerStore, Quotas, Rights};
use bps_wire::HostKey;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The hosts of [`Three::chain`].
pub(super) const EDGE: usize = 0;
pub(super) const HELPER: usize = 1;
pub(super) const FAR: usize = 2;

/// What a host is made of; survives it.
struct Ground {
    name: &'static str,
    device: &'static str,
    manifest: &'static str,
    at: SocketAddr,
    folder: TempDir,
}

impl Ground {
    fn new((name, device): (&'static str, &'static str), manifest: &'static str) -> Self {
        Self { name, device, manifest, at: free_port(), folder: TempDir::new().expect("a folder") }
    }

    fn key(&self) -> HostKey {
        Identity::load_or_make(self.folder.path()).expect("an identity").key()
    }

    fn knows(&self, other: &Self, address: Option<SocketAddr>) {
        let peer = Peer {
            key: other.key(),
            name: other.name.into(),
            address: address.map(|a| a.to_string()),
            rights: Rights { execute: true, fetch_models: true },
            quotas: Quotas::default(),
        };
        PeerStore::open(self.folder.path()).expect("a store").put(peer).expect("a peer that can be kept");
    }

    async fn start(&self) -> Host {
        let mut config = config(&Wish { manifest: self.manifest, ..Wish::default() }, self.name, self.folder.path());
        config.devices = vec![device(self.device)];
        if let Some(peers) = &mut config.peers {
            peers.listen = Some(self.at);
        }
        Host::start(config).await.expect("a host starts")
    }
}

pub(super) struct Three {
    hosts: Vec<Option<Host>>,
    grounds: [Ground; 3],
    /// Between whom, the one that dials first.
    links: Vec<((usize, usize), Proxy)>,
}

impl Three {
    /// Names and devices, who dials whom, and the model's settings; whoever is not dialled is an origin and knows `chaos`.
    pub(super) async fn start(
        hosts: [(&'static str, &'static str); 3],
        pairs: &[(usize, usize)],
        manifest: &'static str,
    ) -> Self {
        let grounds = hosts.map(|host| Ground::new(host, manifest));
        let mut links = Vec::new();
        for &(from, to) in pairs {
            let proxy = Proxy::start(grounds[to].at).expect("a proxy");
            grounds[from].knows(&grounds[to], Some(proxy.address()));
            grounds[to].knows(&grounds[from], None);
            links.push(((from, to), proxy));
        }
        let mut hosts = Vec::new();
        for ground in &grounds {
            hosts.push(Some(ground.start().await));
        }
        let three = Self { hosts, grounds, links };
        for origin in (0..3).filter(|host| pairs.iter().all(|(_, to)| to != host)) {
            three.host(origin).load_policy(chaos(), "this test".into()).await.expect("chaos loads");
        }
        three.linked().await;
        three
    }

    /// An edge, a helper and a host behind it, all linked with each other.
    pub(super) async fn chain(far: &'static str) -> Self {
        let pairs = [(EDGE, HELPER), (EDGE, FAR), (HELPER, FAR)];
        let manifest = Wish::default().manifest;
        Self::start([("edge", "cpu"), ("helper", "cpu"), ("far", far)], &pairs, manifest).await
    }

    pub(super) fn host(&self, index: usize) -> &Host {
        self.hosts[index].as_ref().expect("it lives")
    }

    /// What one host knows of another.
    pub(super) fn seen(&self, by: usize, other: usize) -> PeerView {
        let name = self.grounds[other].name;
        self.host(by).peers().into_iter().find(|p| p.name == name).expect("they are paired")
    }

    /// Waits until each can use those with whom it is paired.
    pub(super) async fn linked(&self) {
        for &((from, to), _) in &self.links {
            for (by, other) in [(from, to), (to, from)] {
                until("the model may run there", || !self.seen(by, other).models_shared.is_empty()).await;
            }
        }
    }

    /// Plans go from the edge to the helper at the first cut and on to the far host at the second.
    pub(super) async fn plan_along(&self, cuts: [usize; 2]) {
        let config = format!("{{\"mode\":\"chain\",\"cuts\":{cuts:?},\"way\":[\"helper\",\"far\"]}}");
        swap(self.host(EDGE), "chaos", &config).await;
    }

    /// Asks until an answer comes the whole way: the edge hears within a tenth of a second that its helpers reach each
    /// other.
    pub(super) async fn until_whole_way(&self) {
        let began = Instant::now();
        while self.whole_ways(1) == 0 {
            infer(self.host(EDGE), image(0, 1)).await.expect("it is answered");
            let last = || self.host(EDGE).receipts(2);
            assert!(began.elapsed() < PATIENCE, "nothing goes the whole way: {:#?}", last());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// How many of the edge's last receipts are of executions on both other hosts.
    pub(super) fn whole_ways(&self, last: usize) -> usize {
        let on = |receipt: &Receipt, host: &str| receipt.stages.iter().any(|s| s.on.starts_with(host));
        let whole = |r: &&Receipt| r.verdict == Verdict::Done && on(r, "helper/") && on(r, "far/");
        self.host(EDGE).receipts(last).iter().filter(whole).count()
    }

    /// What is wrong with the link between two hosts from now on.
    pub(super) fn set(&self, pair: (usize, usize), fault: Fault) {
        for (_, proxy) in self.links.iter().filter(|(between, _)| *between == pair) {
            proxy.set(ProxyConditions { fault, ..ProxyConditions::default() });
        }
    }

    fn set_all(&self, host: usize, fault: Fault) {
        let of_host = |(pair, _): &&((usize, usize), Proxy)| pair.0 == host || pair.1 == host;
        self.links.iter().filter(of_host).for_each(|(pair, _)| self.set(*pair, fault));
    }

    /// Ends a host as a crash does: nothing is said to anybody.
    pub(super) async fn kill(&mut self, host: usize) {
        self.set_all(host, Fault::Cut);
        let host = self.hosts[host].take().expect("it lives");
        host.drain().await;
    }

    pub(super) async fn restart(&mut self, host: usize) {
        self.hosts[host] = Some(self.grounds[host].start().await);
        self.set_all(host, Fault::None);
    }
}
