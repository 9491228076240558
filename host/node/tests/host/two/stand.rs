//! A weak host ("edge") and a strong one ("server"), paired, with a proxy between them.

use crate::stand::{chaos, device, digits, spread, swap, until, write_model};
use bps_codec::ff;
use bps_emulator::{Fault, Proxy, ProxyConditions};
use bps_graph::{Graph, Limits};
use bps_node::{Host, HostConfig, PeersConfig, PolicyChoice, ProfileChoice};
use bps_transport::{CarrierChoice, Identity, Peer, PeerStore, Quotas, Rights};
use bps_types::{HostTensor, Nanos};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use tempfile::TempDir;

/// What differs between tests.
pub(crate) struct Wish {
    pub(crate) carrier: CarrierChoice,
    pub(crate) edge: &'static str,
    pub(crate) server: &'static str,
    /// What the edge may do on the server.
    pub(crate) rights: Rights,
    pub(crate) quotas: Quotas,
    pub(crate) server_has_model: bool,
    pub(crate) manifest: &'static str,
    /// Files in which the weights lie beside the model; none: it is one file, and built in.
    pub(crate) outside: &'static [&'static str],
    /// Whether edge and server have the model's calibration.
    pub(crate) calibrated: [bool; 2],
    /// What is set otherwise about scheduling.
    pub(crate) sched: fn(&mut bps_sched::Config),
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            carrier: CarrierChoice::Tcp,
            edge: "cpu",
            server: "cpu",
            rights: Rights { execute: true, fetch_models: true },
            quotas: Quotas::default(),
            server_has_model: true,
            manifest: "accuracy_budget_ppm = 100000",
            outside: &[],
            calibrated: [false; 2],
            sched: |_| {},
        }
    }
}

impl Wish {
    /// Whether the edge may run its model on the server from the start.
    fn shared(&self) -> bool {
        self.rights.execute && self.server_has_model && !self.manifest.contains("local_only")
    }
}

pub(crate) struct Two {
    pub(crate) edge: Host,
    pub(crate) server: Option<Host>,
    pub(super) proxy: Proxy,
    wish: Wish,
    at: SocketAddr,
    folders: [TempDir; 2],
}

impl Two {
    pub(crate) async fn start(wish: Wish) -> Self {
        let folders = [TempDir::new().expect("a folder"), TempDir::new().expect("a folder")];
        let at = free_port();
        let proxy = Proxy::start(at).expect("a proxy");
        let [edge, server] = [0, 1].map(|i| Identity::load_or_make(folders[i].path()).expect("an identity"));
        let peer = |name: &str, key, address, rights, quotas| Peer { key, name: name.into(), address, rights, quotas };
        let store = |folder: &TempDir, peer| {
            PeerStore::open(folder.path()).expect("a store").put(peer).expect("a peer that can be kept");
        };
        let everything = Rights { execute: true, fetch_models: true };
        let through = Some(proxy.address().to_string());
        store(&folders[0], peer("server", server.key(), through, everything, Quotas::default()));
        store(&folders[1], peer("edge", edge.key(), None, wish.rights, wish.quotas));
        let server = start_server(&wish, at, folders[1].path()).await;
        let edge = start_edge(&wish, folders[0].path()).await;
        edge.load_policy(chaos(), "this test".into()).await.expect("chaos loads");
        let two = Self { edge, server: Some(server), proxy, wish, at, folders };
        two.linked().await;
        two
    }

    /// Waits until the hosts are linked and, where it may, the edge can use the server.
    pub(super) async fn linked(&self) {
        until("the hosts are linked", || self.edge.peers().iter().any(|p| p.up)).await;
        if self.wish.shared() {
            until("the model may run there", || self.edge.peers().iter().any(|p| !p.models_shared.is_empty())).await;
        }
    }

    pub(super) async fn unlinked(&self) {
        until("the link is seen to be down", || self.edge.peers().iter().all(|p| !p.up)).await;
    }

    /// Ends the server as a crash does: nothing is said to anybody.
    pub(super) async fn kill_server(&mut self) {
        self.proxy.set(ProxyConditions { fault: Fault::Cut, ..ProxyConditions::default() });
        let server = self.server.take().expect("the server runs");
        server.drain().await;
    }

    pub(super) async fn restart_server(&mut self) {
        self.server = Some(start_server(&self.wish, self.at, self.folders[1].path()).await);
        self.proxy.set(ProxyConditions::default());
    }

    /// Splits at a cut, with a codec; four requests a dispatch at most.
    pub(crate) async fn split(&self, cut: usize, codec: u8, rate: u8) {
        let config = format!("{{\"mode\":\"split\",\"cut\":{cut},\"codec\":{codec},\"rate\":{rate}}}");
        self.swap("chaos", &config).await;
    }

    pub(super) async fn swap(&self, name: &str, config: &str) {
        swap(&self.edge, name, config).await;
    }

    /// How many executions of the last receipts ended on the server.
    pub(crate) fn executed_there(&self, last: usize) -> usize {
        let there = |r: &&bps_node::Receipt| {
            r.verdict == bps_node::Verdict::Done && r.stages.iter().any(|s| s.on.starts_with("server/"))
        };
        self.edge.receipts(last).iter().filter(there).count()
    }
}

pub(crate) fn config(wish: &Wish, name: &str, folder: &Path) -> HostConfig {
    let mut model = digits("digits", wish.manifest);
    let calibrated = wish.calibrated[usize::from(name == "server")];
    let mut models = vec![];
    if !wish.outside.is_empty() {
        let root = folder.join("models");
        let (onnx, outside) = spread(&model.onnx, wish.outside);
        write_model(&root.join("digits"), &onnx, &outside, &model.manifest);
        if calibrated {
            let path = root.join("digits/model.onnx");
            let graph = Graph::load(&path, &Limits::default()).expect("a model");
            std::fs::write(path.with_extension("ff"), calibration(&graph)).expect("a file");
        }
        models.push(root);
    } else if calibrated {
        model.calibration = calibration(&Graph::parse(&model.onnx, &Limits::default()).expect("a model")).into();
    }
    let mut sched = bps_sched::Config { probation: Nanos::from_millis(1), ..bps_sched::Config::default() };
    (wish.sched)(&mut sched);
    HostConfig {
        state_dir: Some(folder.to_owned()),
        profile: ProfileChoice::Off,
        builtin_models: if models.is_empty() { vec![model] } else { vec![] },
        models,
        policy: PolicyChoice { name_or_path: "batching".into(), ..PolicyChoice::default() },
        peers: Some(PeersConfig { name: name.into(), carrier: wish.carrier, ..PeersConfig::default() }),
        sched,
        ..HostConfig::default()
    }
}

async fn start_edge(wish: &Wish, folder: &Path) -> Host {
    let mut config = config(wish, "edge", folder);
    config.devices = vec![device(wish.edge)];
    Host::start(config).await.expect("the edge starts")
}

async fn start_server(wish: &Wish, at: SocketAddr, folder: &Path) -> Host {
    let mut config = config(wish, "server", folder);
    config.devices = vec![device(wish.server)];
    if !wish.server_has_model {
        config.builtin_models.clear();
        config.models.clear();
    }
    if let Some(peers) = &mut config.peers {
        peers.listen = Some(at);
    }
    Host::start(config).await.expect("the server starts")
}

/// Every value before the output, the input among them, calibrated with noise, at one rate, and with directions that mean nothing: good enough to
/// be used and to be told apart.
pub(crate) fn calibration(graph: &Graph) -> Vec<u8> {
    let shapes = graph.row_shapes().expect("fixed extents");
    let mut cuts: Vec<ff::CutPackage> = Vec::new();
    for id in graph.cuts[..graph.cuts.len() - 1].iter().flat_map(|cut| &cut.values) {
        let (name, shape) = (&graph.values[id.index()].name, shapes.of(*id));
        if cuts.iter().any(|cut| cut.name() == name) {
            continue;
        }
        let values: Vec<f32> = (0..shape.iter().product()).map(|i| (i as f32 * 0.37).sin().max(0.0)).collect();
        let sample = HostTensor::from_f32(shape.to_vec(), &values).expect("a sample");
        let what = ff::Calibration {
            name,
            model: graph.digest,
            samples: &[sample],
            order: ff::Order::Nchw,
            modes: &[ff::Mode::Haar1],
            rates: &[4],
            weights: &ff::Weights::default(),
            directions: None,
        };
        let directions = ff::Directions::made_up(shape, 4).expect("a row is one chunk");
        let beside = ff::calibrate(&ff::Calibration { directions: Some(&directions), ..what }).expect("a package");
        let plain = ff::calibrate(&what).expect("a package");
        cuts.push(plain.with_cancelling(beside).expect("of the same value"));
    }
    let package = ff::Package::new(graph.digest, cuts).expect("a package");
    package.to_bytes().expect("a file")
}

/// A port that is free for both carriers and stays so: it is below those that systems hand out to whoever dials, and every
/// process of tests counts through some of its own.
pub(crate) fn free_port() -> SocketAddr {
    const FIRST: u16 = 12_000;
    const EACH: u16 = 256;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = FIRST + (std::process::id() % 64) as u16 * EACH;
    loop {
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, own + NEXT.fetch_add(1, Ordering::Relaxed) % EACH));
        if TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok() {
            return at;
        }
    }
}
