//! Hosts of a test: each with its own identity, peer store and transport, all in this process.

#![allow(dead_code, reason = "each test file uses its part")]

use bps_transport::{CarrierChoice, Happening, Identity, Peer, PeerStore, Quotas, Rights, Settings, Transport};
use bps_types::{DataType, Nanos, Packed};
use bps_wire::{Execute, HostKey, Message, Route, Trace};
use bytes::Bytes;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::time::sleep;

/// Longer than anything here takes on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) fn clock() -> Nanos {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().into()
}

pub(crate) struct Host {
    identity: Identity,
    pub(crate) transport: Transport,
    /// What it was started from.
    pub(crate) ground: Ground,
    log: Arc<Mutex<Vec<Happening>>>,
}

/// What a host is made of before it runs; survives it.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) identity: Identity,
    pub(crate) store: PeerStore,
    _folder: Arc<TempDir>,
}

impl Ground {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let identity = Identity::load_or_make(folder.path()).expect("an identity");
        let store = PeerStore::open(folder.path()).expect("a store");
        Self { identity, store, _folder: Arc::new(folder) }
    }

    pub(crate) fn key(&self) -> HostKey {
        self.identity.key()
    }

    pub(crate) fn knows(&self, other: HostKey, address: Option<SocketAddr>) {
        let peer = Peer {
            key: other,
            name: other.short(),
            address: address.map(|a| a.to_string()),
            rights: Rights { execute: true, fetch_models: false },
            quotas: Quotas { window: 8, bytes_max: 1 << 30 },
        };
        self.store.put(peer).expect("there is room");
    }

    pub(crate) fn start(&self, change: impl FnOnce(&mut Settings)) -> Host {
        self.start_by(clock, change)
    }

    /// With a clock of its own.
    pub(crate) fn start_by(&self, clock: fn() -> Nanos, change: impl FnOnce(&mut Settings)) -> Host {
        let mut settings = Settings {
            name: "host".into(),
            software: "test".into(),
            listen: Some((Ipv4Addr::LOCALHOST, 0).into()),
            listen_once_paired: false,
            carrier: CarrierChoice::Auto,
            in_flight_bytes_max: 64 << 20,
            frame_bytes_max: 32 << 20,
        };
        change(&mut settings);
        let log = Arc::new(Mutex::new(Vec::new()));
        let told = log.clone();
        let sink = Arc::new(move |happening| told.lock().expect("no panic").push(happening));
        let identity = self.identity.clone();
        let transport =
            Transport::start(settings, identity.clone(), self.store.clone(), clock, sink).expect("it starts");
        Host { identity, transport, log, ground: self.clone() }
    }
}

impl Host {
    pub(crate) fn key(&self) -> HostKey {
        self.identity.key()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.transport.listening().expect("it listens")
    }

    /// Waits until `found` finds something in what was heard so far.
    pub(crate) async fn until<T>(&self, what: &str, found: impl Fn(&[Happening]) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            // A copy, so that `found` may ask this host.
            let log = self.log.lock().expect("no panic").clone();
            if let Some(value) = found(&log) {
                return value;
            }
            assert!(began.elapsed() < SOON, "{what}; heard: {}", self.heard());
            sleep(Duration::from_millis(2)).await;
        }
    }

    pub(crate) async fn until_up(&self) {
        self.until("a session comes up", |log| is_up(log).then_some(())).await;
    }

    /// The reason.
    pub(crate) async fn until_down(&self) -> String {
        let reason = |log: &[Happening]| {
            log.iter()
                .rev()
                .find_map(|h| if let Happening::Down { reason, .. } = h { Some(reason.clone()) } else { None })
        };
        self.until("the session goes down", |log| if is_up(log) { None } else { reason(log) }).await
    }

    /// Messages that arrived.
    pub(crate) fn arrived(&self) -> Vec<Message> {
        let log = self.log.lock().expect("no panic");
        let message =
            |h: &Happening| if let Happening::Arrived { message, .. } = h { Some(message.clone()) } else { None };
        log.iter().filter_map(message).collect()
    }

    pub(crate) fn count(&self, which: impl Fn(&Happening) -> bool) -> usize {
        self.log.lock().expect("no panic").iter().filter(|h| which(h)).count()
    }

    fn heard(&self) -> String {
        let log = self.log.lock().expect("no panic");
        let shown = log.iter().filter(|h| !matches!(h, Happening::Arrived { .. } | Happening::Estimate { .. }));
        format!("{:?}; status: {:?}", shown.collect::<Vec<_>>(), self.transport.status())
    }
}

fn is_up(log: &[Happening]) -> bool {
    let last = log.iter().rev().find(|h| matches!(h, Happening::Up { .. } | Happening::Down { .. }));
    matches!(last, Some(Happening::Up { .. }))
}

/// Peers as the test wants them: the first dials the second, at `address` if it is not its own.
pub(crate) async fn pair_through(
    change: impl Fn(&mut Settings),
    address: impl FnOnce(SocketAddr) -> SocketAddr,
) -> (Host, Host) {
    let (edge, strong) = (Ground::new(), Ground::new());
    strong.knows(edge.key(), None);
    let strong = strong.start(&change);
    edge.knows(strong.key(), Some(address(strong.address())));
    let edge = edge.start(&change);
    edge.until_up().await;
    strong.until_up().await;
    (edge, strong)
}

/// The first dials the second.
pub(crate) async fn pair(carrier: CarrierChoice) -> (Host, Host) {
    pair_with(|s| s.carrier = carrier).await
}

pub(crate) async fn pair_with(change: impl Fn(&mut Settings)) -> (Host, Host) {
    pair_through(change, |address| address).await
}

/// An activation of `bytes`.
pub(crate) fn execute(origin: HostKey, dispatch: u64, bytes: usize) -> Message {
    let data = Bytes::from(vec![dispatch as u8; bytes]);
    let tensor = Packed { codec: 0, rate: 0, data_type: DataType::Uint8, shape: vec![1, bytes], data };
    Message::Execute(Execute {
        dispatch,
        origin,
        model: [1; 32],
        cut_list: [2; 32],
        route: vec![Route { host: origin, device: 0, from_cut: 0, until_cut: 1, codec: 0, rate: 0 }],
        rows: 1,
        budget: None,
        priority: 0,
        trace: Trace::default(),
        reports: vec![],
        tensors: vec![tensor],
    })
}
