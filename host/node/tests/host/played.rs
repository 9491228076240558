//! A host that the test plays: its transport, over a real link.

use bps_transport::{CarrierChoice, Happening, Identity, Peer, PeerStore, Quotas, Rights, Settings, Transport};
use bps_types::Nanos;
use bps_wire::HostKey;
use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock};
use std::time::Instant;
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

pub(crate) struct Played {
    pub(crate) transport: Transport,
    pub(crate) key: HostKey,
    /// Of the host that it is played for.
    pub(crate) host_key: HostKey,
    /// What it hears.
    pub(crate) happenings: UnboundedReceiver<Happening>,
    /// The state of the host that it is played for, and its own.
    pub(crate) folders: [TempDir; 2],
}

impl Played {
    /// Listens under `name`; a host that is called `host` and starts in the first folder is paired with it.
    pub(crate) fn paired(host: &str, name: &str, rights: Rights) -> Self {
        let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
        let [host_identity, own] = [0, 1].map(|i: usize| Identity::load_or_make(folders[i].path()).unwrap());
        let (host_key, key) = (host_identity.key(), own.key());
        let store = |index: usize, name: &str, key, address: Option<String>| {
            let store = PeerStore::open(folders[index].path()).unwrap();
            store.put(Peer { key, name: name.into(), address, rights, quotas: Quotas::default() }).unwrap();
            store
        };
        let settings = Settings {
            name: name.into(),
            software: "played by a test".into(),
            listen: Some((Ipv4Addr::LOCALHOST, 0).into()),
            listen_once_paired: false,
            carrier: CarrierChoice::Tcp,
            in_flight_bytes_max: 1 << 20,
            frame_bytes_max: 1 << 20,
        };
        let (happened, happenings) = unbounded_channel();
        // Where nobody listens any more, the test is over.
        let sink = Arc::new(move |happening| drop(happened.send(happening)));
        let transport = Transport::start(settings, own, store(1, host, host_key, None), clock, sink).unwrap();
        store(0, name, key, transport.listening().map(|at| at.to_string()));
        Self { transport, key, host_key, happenings, folders }
    }
}

/// The clock of its transport.
pub(crate) fn clock() -> Nanos {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGAN.elapsed().into()
}
