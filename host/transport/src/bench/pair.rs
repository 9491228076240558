//! Two hosts of one process, for as long as a measurement takes.

use super::{ANSWER_MAX, BenchError};
use crate::{CarrierChoice, Happening, Identity, Peer, PeerStore, Quotas, Rights, Settings, Transport, TransportError};
use bps_types::{DataType, Nanos, Packed};
use bps_wire::{Execute, HostKey, Message, Route, Trace};
use bytes::Bytes;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Two hosts of this process with a session between them.
pub(super) struct Pair<'a> {
    near: (Transport, Ground),
    far: (&'a Transport, Ground),
    /// What the near one has heard since.
    pub(super) heard: mpsc::UnboundedReceiver<Happening>,
}

impl<'a> Pair<'a> {
    /// For activations of so many bytes. `sink` hears what the far one hears, whose transport is put into `far_transport`.
    pub(super) async fn up(
        carrier: CarrierChoice,
        bytes: usize,
        far_transport: &'a OnceLock<Transport>,
        sink: impl Fn(Happening) + Send + Sync + 'static,
        through: impl FnOnce(SocketAddr) -> io::Result<SocketAddr>,
    ) -> Result<Self, BenchError> {
        let (near, far) = (Ground::new()?, Ground::new()?);
        far.knows(near.identity.key(), None)?;
        let started = far.start(carrier, bytes, Arc::new(sink))?;
        let address = started.listening().map(through).transpose()?;
        let far_transport = far_transport.get_or_init(|| started);
        near.knows(far.identity.key(), address)?;
        let (told, mut heard) = mpsc::unbounded_channel();
        let near_transport = near.start(carrier, bytes, Arc::new(move |happening| drop(told.send(happening))))?;
        until(&mut heard, "session", |h| matches!(h, Happening::Up { .. })).await?;
        Ok(Self { near: (near_transport, near), far: (far_transport, far), heard })
    }

    pub(super) fn send(&self, dispatch: u64, data: &Bytes) -> Result<(), BenchError> {
        let (near, far) = (self.near.1.identity.key(), self.far.1.identity.key());
        self.near.0.send(far, dispatch_of(near, far, dispatch, data.clone()))?;
        Ok(())
    }

    pub(super) async fn down(self) {
        self.near.0.stop().await;
        self.far.0.stop().await;
    }
}

pub(super) async fn until(
    heard: &mut mpsc::UnboundedReceiver<Happening>,
    what: &'static str,
    wanted: impl Fn(&Happening) -> bool,
) -> Result<(), BenchError> {
    let wait = async {
        while let Some(happening) = heard.recv().await {
            if wanted(&happening) {
                return Ok(());
            }
        }
        Err(BenchError::Late(what))
    };
    timeout(ANSWER_MAX, wait).await.map_err(|_| BenchError::Late(what))?
}

/// A host that leaves nothing behind.
pub(super) struct Ground {
    pub(super) identity: Identity,
    pub(super) store: PeerStore,
    _folder: TempDir,
}

impl Ground {
    pub(super) fn new() -> Result<Self, BenchError> {
        let folder = tempfile::tempdir()?;
        let identity = Identity::load_or_make(folder.path())?;
        Ok(Self { identity, store: PeerStore::open(folder.path())?, _folder: folder })
    }

    pub(super) fn knows(&self, key: HostKey, address: Option<SocketAddr>) -> Result<(), BenchError> {
        let (name, address) = (key.short(), address.map(|a| a.to_string()));
        self.store.put(Peer { key, name, address, rights: Rights::default(), quotas: Quotas::default() })?;
        Ok(())
    }

    fn start(
        &self,
        carrier: CarrierChoice,
        bytes: usize,
        sink: Arc<dyn Fn(Happening) + Send + Sync>,
    ) -> Result<Transport, TransportError> {
        let frame = bytes as u64 + (64 << 10);
        let settings = Settings {
            name: "bench".into(),
            software: "bench".into(),
            listen: Some((Ipv4Addr::LOCALHOST, 0).into()),
            listen_once_paired: false,
            carrier,
            // Streams share the way: what is half there when a measurement begins or ends must be little.
            in_flight_bytes_max: (2 * frame).max(1 << 20),
            frame_bytes_max: frame.max(16 << 20),
        };
        Transport::start(settings, self.identity.clone(), self.store.clone(), clock, sink)
    }
}

fn dispatch_of(origin: HostKey, host: HostKey, dispatch: u64, data: Bytes) -> Message {
    let shape = vec![1, data.len()];
    Message::Execute(Execute {
        dispatch,
        origin,
        model: [0; 32],
        cut_list: [0; 32],
        route: vec![Route { host, device: 0, from_cut: 0, until_cut: 1, codec: 0, rate: 0 }],
        rows: 1,
        budget: None,
        priority: 0,
        trace: Trace::default(),
        reports: Vec::new(),
        tensors: vec![Packed { codec: 0, rate: 0, data_type: DataType::Uint8, shape, data }],
    })
}

fn clock() -> Nanos {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    BEGAN.get_or_init(Instant::now).elapsed().into()
}
