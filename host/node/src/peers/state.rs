//! What is known of one other host.

use bps_sched::{LinkReport, Standing};
use bps_transport::{Carrier, Estimate, Quotas, Rights};
use bps_types::{HostId, Nanos};
use bps_wire::{Advert, DeviceReport, HostKey};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A host that is away stays in the world for this long, its links down: whoever comes back within it finds ids, tables and
/// corrections as they were, and policies see a link that went down rather than devices that come and go.
pub(super) const ABSENCE_MAX: Nanos = Nanos::from_secs(60);

/// Whether a session stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Session {
    /// It does.
    Up(Carrier),
    /// It ended so.
    Down(String),
}

/// One other host, from the first time it was heard of to the end of the run.
#[derive(Clone, Debug)]
pub(super) struct PeerState {
    pub(super) id: HostId,
    /// As the peer store calls it.
    pub(super) name: String,
    /// What it may do here.
    pub(super) rights: Rights,
    pub(super) quotas: Quotas,
    pub(super) session: Session,
    /// When the session came or went.
    pub(super) since: Nanos,
    /// What it last said it has; kept over sessions.
    pub(super) advert: Option<Arc<Advert>>,
    /// Whether it said so in this session.
    pub(super) fresh: bool,
    /// Of this session.
    pub(super) estimate: Option<Estimate>,
    /// When it last said how it stands, in this session.
    pub(super) stood: Option<Nanos>,
    /// Its devices as it last reported them, of this session.
    pub(super) reports: BTreeMap<u32, DeviceReport>,
    /// Its links as it last reported them, of this session.
    pub(super) links: BTreeMap<HostKey, bps_wire::LinkReport>,
    pub(super) sent_bytes: u64,
    pub(super) received_bytes: u64,
    /// Epoch of the advert it was told last in this session.
    pub(super) told: Option<u32>,
    /// Models (of this host) for which the scheduler has its devices' tables.
    pub(super) tables_known: BTreeSet<u32>,
    /// Models of this host that may run there, as the world was told.
    pub(super) shares: Vec<String>,
    /// Whether the scheduler's world has it.
    pub(super) in_world: bool,
    /// Models about which something was logged already.
    pub(super) complained: BTreeSet<[u8; 32]>,
}

impl PeerState {
    /// One whose session has just come.
    pub(super) fn new(id: HostId, name: String, carrier: Carrier, now: Nanos) -> Self {
        Self {
            id,
            name,
            rights: Rights::default(),
            quotas: Quotas::default(),
            session: Session::Up(carrier),
            since: now,
            advert: None,
            fresh: false,
            estimate: None,
            stood: None,
            reports: BTreeMap::new(),
            links: BTreeMap::new(),
            sent_bytes: 0,
            received_bytes: 0,
            told: None,
            tables_known: BTreeSet::new(),
            shares: Vec::new(),
            in_world: false,
            complained: BTreeSet::new(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.session, Session::Up(_))
    }

    /// Whether work can be sent there: a session, its advert and an estimate of the link.
    pub(super) fn is_usable(&self) -> bool {
        self.is_up() && self.fresh && self.estimate.is_some()
    }

    /// Whether the world should have it.
    pub(super) fn is_present(&self, now: Nanos) -> bool {
        self.is_up() || (self.advert.is_some() && now.since(self.since) < ABSENCE_MAX)
    }

    /// Dispatches it takes from here per device; 0: none.
    pub(super) fn window(&self) -> u32 {
        self.advert.as_ref().map_or(0, |advert| advert.window)
    }

    /// A session has come: what the last one said of the moment is void.
    pub(super) fn came_up(&mut self, carrier: Carrier, now: Nanos) {
        self.session = Session::Up(carrier);
        self.since = now;
        self.begin_anew();
    }

    /// It has ended.
    pub(super) fn went_down(&mut self, reason: String, now: Nanos) {
        self.session = Session::Down(reason);
        self.since = now;
        self.begin_anew();
    }

    fn begin_anew(&mut self) {
        self.fresh = false;
        self.estimate = None;
        self.stood = None;
        self.reports.clear();
        self.links.clear();
        self.told = None;
    }

    /// Takes an advert that has been checked; true if it changes the world. Tables that are as before are not told again:
    /// executions may have corrected them meanwhile.
    pub(super) fn take_advert(&mut self, advert: Advert) -> bool {
        let before = self.advert.take().unwrap_or_default();
        let first = !std::mem::replace(&mut self.fresh, true);
        let same_tables = |digest: &[u8; 32]| {
            let in_it = |advert: &Advert| advert.models.iter().position(|m| m.digest == *digest);
            let (old, new) = (in_it(&before).map(|at| &before.models[at]), in_it(&advert).map(|at| &advert.models[at]));
            old.map(|m| (m.cut_list, &m.tables)) == new.map(|m| (m.cut_list, &m.tables))
        };
        let changed_models = advert.models.iter().any(|m| !same_tables(&m.digest));
        if changed_models || before.devices != advert.devices || before.codecs != advert.codecs {
            self.tables_known.clear();
        }
        let same = before.devices == advert.devices
            && before.models == advert.models
            && before.codecs == advert.codecs
            && before.window == advert.window;
        self.advert = Some(Arc::new(advert));
        first || !same
    }

    /// The link from here to it.
    pub(super) fn link_there(&self) -> LinkReport {
        let estimate = self.estimate.unwrap_or_default();
        LinkReport {
            source: HostId(0),
            target: self.id,
            up: self.is_usable(),
            bytes_per_second: sound(estimate.bytes_per_second),
            rtt: estimate.rtt,
            backlog_bytes: estimate.backlog_bytes,
        }
    }

    /// The link from it to here: as it says, else as good as the one there. Whether it is up is for this end to say.
    pub(super) fn link_back(&self, own: &HostKey) -> LinkReport {
        let there = self.link_there();
        let back = LinkReport { source: self.id, target: HostId(0), backlog_bytes: 0, ..there };
        match self.links.get(own) {
            None => back,
            Some(said) => LinkReport {
                bytes_per_second: sound(said.bytes_per_second),
                rtt: said.rtt,
                backlog_bytes: said.backlog_bytes,
                ..back
            },
        }
    }

    /// The scheduler's words for what it reported of a device.
    pub(super) fn standing(&self, report: &DeviceReport, device: bps_types::DeviceId) -> Standing {
        Standing {
            device,
            up: report.up,
            backlog: report.backlog,
            running: report.running,
            memory_free: report.memory_free,
        }
    }
}

/// A rate that came from outside.
pub(super) fn sound(bytes_per_second: f32) -> f32 {
    if bytes_per_second.is_finite() { bytes_per_second.max(0.0) } else { 0.0 }
}
