//! What is known of one other host.

use super::LocalModel;
use bps_sched::{LinkReport, Standing};
use bps_transport::{Carrier, Estimate, Quotas, Rights};
use bps_types::policy::{Table, TableKind};
use bps_types::{HostId, Nanos};
use bps_wire::{Advert, AdvertTable, DeviceReport, HostKey};
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

/// A table of another host, under a model of this one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Known {
    pub(super) model: u32,
    digest: [u8; 32],
    /// The device's number there.
    device: u32,
    codec: u8,
    kind: TableKind,
}

impl Known {
    pub(super) fn of(table: &Table, model: &LocalModel<'_>, device: u32) -> Self {
        Self { model: model.id, digest: model.digest, device, codec: table.codec, kind: table.kind }
    }

    /// What an advert says of it: the cut list that it goes by, and the table itself.
    fn said<'a>(&self, advert: &'a Advert) -> Option<([u8; 32], Option<&'a AdvertTable>)> {
        let model = advert.models.iter().find(|m| m.digest == self.digest)?;
        let is_it = |t: &&AdvertTable| (t.device, t.codec, t.kind) == (self.device, self.codec, self.kind);
        Some((model.cut_list, model.tables.iter().find(is_it)))
    }
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
    /// Of its tables, those that the scheduler has.
    pub(super) tables_known: BTreeSet<Known>,
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

    /// Takes an advert that has been checked; true if it changes what the scheduler should know.
    ///
    /// A table that is as before is not told again: executions may have corrected it meanwhile. One that is another takes
    /// the place of what was learned here on top of its predecessor: its host has measured its own device at everybody's
    /// work, not only at ours, and it speaks up because that has changed.
    pub(super) fn take_advert(&mut self, advert: Advert) -> bool {
        let before = self.advert.take().unwrap_or_default();
        let first = !std::mem::replace(&mut self.fresh, true);
        let same_means = before.devices == advert.devices && before.codecs == advert.codecs;
        self.tables_known.retain(|known| same_means && known.said(&before) == known.said(&advert));
        let same = same_means && before.models == advert.models && before.window == advert.window;
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
