//! The other hosts as data, for people.

use super::Peers;
use super::fetcher::Progress;
use super::roster::Table;
use super::state::{PeerState, Session};
use crate::models::Models;
use crate::{OwnPeerView, PeerDeviceView, PeerGrants, PeerModelView, PeerRights, PeerView, SharedModel, clock};
use bps_transport::Peer;
use bps_types::{Nanos, hex};
use bps_wire::{AdvertDevice, AdvertModel, HostKey};

impl Peers {
    /// This host, as others know it.
    pub(crate) fn own_view(&self) -> OwnPeerView {
        OwnPeerView {
            name: self.name.clone(),
            fingerprint: self.self_key().to_string(),
            listening: self.transport.listening().map(|address| address.to_string()),
        }
    }

    /// Every paired host, by name.
    pub(crate) fn views(&self) -> Vec<PeerView> {
        let progress = *self.progress.lock();
        // Before the table is locked: others hold the models' locks while they ask for the table's.
        let reasons = self.transport.status();
        let paired = self.store.list();
        let shared: Vec<Vec<Shared>> = paired.iter().map(|peer| self.shared(&peer.key)).collect();
        let table = self.roster.lock();
        let view = |(peer, shared): (&Peer, Vec<Shared>)| {
            let mut view = view(peer, &table, &shared, progress);
            if !view.up {
                // The transport also knows why a host was never reached.
                let status = reasons.iter().find(|s| s.key == peer.key);
                view.reason = status.and_then(|s| s.reason.clone()).or(view.reason);
            }
            view
        };
        paired.iter().zip(shared).map(view).collect()
    }

    /// For each model of a host, whether it is here.
    fn shared(&self, key: &HostKey) -> Vec<Shared> {
        let advert = self.roster.peer(key).and_then(|peer| peer.advert.clone());
        advert.iter().flat_map(|advert| &advert.models).map(|model| shared(&self.models, model)).collect()
    }
}

/// A peer's model, and its calibration, beside this host's.
type Shared = (SharedModel, Option<bool>);

fn shared(models: &Models, theirs: &AdvertModel) -> Shared {
    let Some(own) = models.of_digest(&theirs.digest) else { return (SharedModel::Absent, None) };
    let model = match own.fetched {
        _ if own.cut_list != theirs.cut_list => SharedModel::OtherCuts,
        true => SharedModel::Fetched,
        false => SharedModel::Own,
    };
    let calibrations = [own.calibration_digest(), theirs.calibration];
    let is_calibrated = calibrations.iter().any(|digest| *digest != [0; 32]);
    (model, is_calibrated.then(|| calibrations[0] == calibrations[1]))
}

fn view(peer: &Peer, table: &Table, shared: &[Shared], progress: Option<Progress>) -> PeerView {
    let state = table.peers.get(&peer.key);
    let estimate = state.and_then(|s| s.estimate);
    let advert = state.and_then(|s| s.advert.as_deref());
    let (rights, quotas) = (peer.rights, peer.quotas);
    let grants = advert.map(|advert| PeerGrants {
        window: advert.window,
        exportable_models: advert.models.iter().filter(|m| m.exportable).count(),
    });
    let device = |d: &AdvertDevice| device(d, table, &peer.key, state);
    // The advert may have been replaced between two locks: then a model's place in it may be another's for a moment.
    let shared = shared.iter().copied().chain(std::iter::repeat((SharedModel::Absent, None)));
    let model = |(m, (shared, same_calibration)): (&AdvertModel, Shared)| PeerModelView {
        name: m.name.clone(),
        digest: hex(&m.digest),
        shared,
        same_calibration,
        exportable: m.exportable,
        file_bytes: m.file_bytes,
        fetching_bytes: progress.filter(|p| p.digest == m.digest).map(|p| p.bytes),
    };
    PeerView {
        name: peer.name.clone(),
        fingerprint: peer.key.to_string(),
        host: state.map(|s| s.id.0),
        up: state.is_some_and(PeerState::is_up),
        usable: state.is_some_and(PeerState::is_usable),
        since_seconds: state.map(|s| clock::now().since(s.since).as_secs_f64()),
        reason: state.and_then(|s| reason(&s.session)),
        carrier: state.and_then(|s| carrier(&s.session)),
        address: peer.address.clone(),
        rtt_ns: estimate.map(|e| e.rtt.0),
        bytes_per_second: estimate.map(|e| e.bytes_per_second),
        backlog_bytes: estimate.map(|e| e.backlog_bytes),
        clock_offset_ns: estimate.map(|e| e.clock_offset_nanos),
        sent_bytes: state.map_or(0, |s| s.sent_bytes),
        received_bytes: state.map_or(0, |s| s.received_bytes),
        may: PeerRights {
            execute: rights.execute,
            fetch_models: rights.fetch_models,
            window: state.map_or(quotas.window, |s| s.quotas.window),
            bytes_max: quotas.bytes_max,
        },
        grants,
        devices: advert.into_iter().flat_map(|a| &a.devices).map(device).collect(),
        models: advert.into_iter().flat_map(|a| &a.models).zip(shared).map(model).collect(),
        models_shared: state.filter(|s| s.is_usable()).map_or_else(Vec::new, |s| s.shares.clone()),
    }
}

fn device(device: &AdvertDevice, table: &Table, key: &HostKey, state: Option<&PeerState>) -> PeerDeviceView {
    let report = state.and_then(|s| s.reports.get(&device.index));
    PeerDeviceView {
        id: table.device_of(key, device.index).map(|id| id.0),
        name: device.name.clone(),
        kind: device.kind,
        up: report.map(|r| r.up),
        backlog_ns: report.map(|r| r.backlog).map(|Nanos(nanos)| nanos),
        running: report.map(|r| r.running),
    }
}

fn reason(session: &Session) -> Option<String> {
    match session {
        Session::Down(reason) => Some(reason.clone()),
        Session::Up(_) => None,
    }
}

fn carrier(session: &Session) -> Option<String> {
    match session {
        Session::Up(carrier) => Some(carrier.to_string()),
        Session::Down(_) => None,
    }
}
