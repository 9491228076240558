//! The links: what crosses one waits its turn, takes its bytes' time and half a round trip; what is on a link that goes
//! down is lost.

use crate::setup::SimLink;
use bps_sched::LinkReport;
use bps_types::{HostId, Nanos};

/// Weight of the present rate in a host's estimate of it, at each look.
const SMOOTHING: f64 = 0.5;

/// One link.
struct Link {
    setup: SimLink,
    up: bool,
    /// Counts the times it went down: what was sent before does not arrive.
    outages: u32,
    /// When the last byte is on its way, there and back.
    free_at: [Nanos; 2],
    /// What its ends take its rate to be.
    estimate: f64,
}

/// All links.
pub(crate) struct Network(Vec<Link>);

/// A parcel on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Passage {
    pub(crate) arrives: Nanos,
    link: usize,
    outages: u32,
}

impl Network {
    pub(crate) fn new(links: &[SimLink]) -> Self {
        let link = |setup: &SimLink| Link {
            setup: *setup,
            up: true,
            outages: 0,
            free_at: [Nanos::ZERO; 2],
            estimate: setup.bytes_per_second,
        };
        Self(links.iter().map(link).collect())
    }

    fn find(&self, a: u32, b: u32) -> Option<usize> {
        self.0.iter().position(|l| l.setup.hosts == (a, b) || l.setup.hosts == (b, a))
    }

    /// Puts bytes on the way; none where there is no way.
    pub(crate) fn send(&mut self, from: u32, to: u32, bytes: u64, now: Nanos) -> Option<Passage> {
        let index = self.find(from, to)?;
        let link = &mut self.0[index];
        if !link.up {
            return None;
        }
        let free = &mut link.free_at[usize::from(link.setup.hosts.0 != from)];
        *free = (*free).max(now) + Nanos::from_secs_f64(bytes as f64 / link.setup.bytes_per_second.max(1.0));
        Some(Passage { arrives: *free + Nanos(link.setup.rtt.0 / 2), link: index, outages: link.outages })
    }

    /// Whether a parcel has made it.
    pub(crate) fn arrived(&self, passage: &Passage) -> bool {
        self.0[passage.link].outages == passage.outages
    }

    /// Changes a link; true if it went up or down.
    pub(crate) fn change(&mut self, a: u32, b: u32, bytes_per_second: f64, up: bool) -> bool {
        let Some(index) = self.find(a, b) else { return false };
        let link = &mut self.0[index];
        let changed = link.up != up;
        if changed && !up {
            link.outages += 1;
            link.free_at = [Nanos::ZERO; 2];
        }
        (link.up, link.setup.bytes_per_second) = (up, bytes_per_second);
        changed
    }

    /// Lets the ends look at their links again.
    pub(crate) fn look(&mut self) {
        for link in &mut self.0 {
            link.estimate += SMOOTHING * (link.setup.bytes_per_second - link.estimate);
        }
    }

    /// What the ends of all links say of them, both ways.
    pub(crate) fn reports(&self, now: Nanos) -> Vec<LinkReport> {
        let both = |link: &Link| {
            let (a, b) = link.setup.hosts;
            [(a, b, link.free_at[0]), (b, a, link.free_at[1])].map(|(source, target, free_at)| LinkReport {
                source: HostId(source),
                target: HostId(target),
                up: link.up,
                bytes_per_second: link.estimate as f32,
                rtt: link.setup.rtt,
                backlog_bytes: (free_at.since(now).as_secs_f64() * link.setup.bytes_per_second) as u64,
            })
        };
        self.0.iter().flat_map(both).collect()
    }
}
