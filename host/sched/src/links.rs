//! How the links between hosts stand.

use crate::LinkReport;
use crate::check::Hop;
use bps_types::policy::Link;
use bps_types::{HostId, Nanos};
use indexmap::IndexMap;

/// The last report of each link, in the order they were first heard of.
#[derive(Default)]
pub(crate) struct Links {
    reports: IndexMap<(HostId, HostId), (LinkReport, Nanos)>,
}

impl Links {
    /// Takes a report; true if the link went up or down by it.
    pub(crate) fn take(&mut self, report: LinkReport, now: Nanos) -> bool {
        let before = self.reports.insert((report.source, report.target), (report, now));
        before.is_some_and(|(b, _)| b.up) != report.up
    }

    /// Whether anything gets from one host to another. A host always reaches itself.
    pub(crate) fn up(&self, source: HostId, target: HostId) -> bool {
        source == target || self.reports.get(&(source, target)).is_some_and(|(r, _)| r.up)
    }

    pub(crate) fn hops(&self) -> Vec<Hop> {
        let up = self.reports.values().filter(|(r, _)| r.up);
        up.map(|(r, _)| Hop { source: r.source, target: r.target }).collect()
    }

    /// How long so many bytes take, behind those that are on their way already; zero where nothing is known.
    pub(crate) fn predict(&self, source: HostId, target: HostId, bytes: u64) -> Nanos {
        let Some((report, _)) = self.reports.get(&(source, target)) else { return Nanos::ZERO };
        let rate = f64::from(report.bytes_per_second);
        if rate <= 0.0 {
            return report.rtt;
        }
        Nanos(report.rtt.0 / 2) + Nanos::from_secs_f64((report.backlog_bytes + bytes) as f64 / rate)
    }

    /// Forgets links of hosts that are gone.
    pub(crate) fn retain(&mut self, keep: impl Fn(HostId) -> bool) {
        self.reports.retain(|(source, target), _| keep(*source) && keep(*target));
    }

    /// As a policy sees them.
    pub(crate) fn fill(&self, out: &mut Vec<Link>, now: Nanos) {
        out.extend(self.reports.values().map(|(r, at)| Link {
            source: r.source.0,
            target: r.target.0,
            up: r.up,
            bytes_per_second: r.bytes_per_second,
            rtt: r.rtt,
            backlog_bytes: r.backlog_bytes,
            age: now.since(*at),
        }));
    }
}
