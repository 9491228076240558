//! The built-in policy that answers when no other can: simple, total, and never wrong.

use crate::policy::{Fault, Policy};
use bps_types::policy::{
    Decision, Dispatch, Join, Manifest, Origin, Outcome, Selection, Snapshot, Stage, Table, WorldInfo,
};

/// Runs what waits, as much as fits, on the least loaded device of this host. Keeps nothing but the world.
#[derive(Debug, Default)]
pub struct Fallback {
    manifest: Manifest,
    world: WorldInfo,
}

impl Fallback {
    /// A fallback that knows no world yet.
    pub fn new() -> Self {
        let manifest = Manifest {
            name: "fallback".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: "Everything that fits, on the least loaded local device.".into(),
            config_schema: "{}".into(),
            reasons: vec!["built-in fallback".into()],
            ..Manifest::default()
        };
        Self { manifest, world: WorldInfo::default() }
    }

    fn local(&self, device: u32) -> bool {
        let host = self.world.devices.iter().find(|d| d.id == device).map(|d| d.host);
        self.world.hosts.iter().any(|h| h.is_self && Some(h.id) == host)
    }
}

impl Policy for Fallback {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn digest(&self) -> &str {
        "native"
    }

    fn world_changed(&mut self, world: &WorldInfo) -> Result<(), Fault> {
        self.world = world.clone();
        Ok(())
    }

    fn table_changed(&mut self, _table: &Table) -> Result<(), Fault> {
        Ok(())
    }

    fn decide(&mut self, snapshot: &Snapshot) -> Result<Decision, Fault> {
        let mut decision = Decision::default();
        let mut credits: Vec<(u32, u32, u64)> = snapshot
            .devices
            .iter()
            .filter(|d| d.up && d.credits > 0 && self.local(d.id))
            .map(|d| (d.id, d.credits, d.backlog.0))
            .collect();
        credits.sort_by_key(|(id, _, backlog)| (*backlog, *id));
        // What others sent has been waiting longer than it looks: it goes first, the most pressing before the rest.
        let mut arrived: Vec<_> = snapshot.arrived.iter().collect();
        arrived.sort_by_key(|a| (a.least_slack, std::cmp::Reverse(a.oldest_wait), a.id));
        for group in arrived {
            let Some(free) = credits.iter_mut().find(|(id, n, _)| *n > 0 && *id == group.device) else { continue };
            free.1 -= 1;
            decision.joins.push(Join { arrived: group.id, take_rows: group.waiting_rows });
        }
        for queue in &snapshot.queues {
            let Some(model) = self.world.models.iter().find(|m| m.id == queue.model) else { continue };
            let rows = &snapshot.rows[queue.head_start as usize..][..queue.head_count as usize];
            let mut taken = 0;
            while taken < rows.len() {
                let Some(free) = credits.iter_mut().find(|(id, n, _)| *n > 0 && model.devices.contains(id)) else {
                    break;
                };
                let count = fitting(&rows[taken..], model.batch_max);
                free.1 -= 1;
                decision.dispatches.push(Dispatch {
                    queue: queue.id,
                    requests: Selection::Head(count as u32),
                    stages: vec![Stage {
                        device: free.0,
                        until_cut: model.cut_count.saturating_sub(1),
                        codec: 0,
                        rate: 0,
                    }],
                    micro_batch: 0,
                    tag: 0,
                    why: 0,
                });
                taken += count;
            }
        }
        Ok(decision)
    }

    fn observe(&mut self, _outcomes: &[Outcome], _dropped: u32) -> Result<(), Fault> {
        Ok(())
    }

    fn save(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        Ok(None)
    }

    fn restore(&mut self, _origin: &Origin, _blob: &[u8]) -> Result<bool, Fault> {
        Ok(false)
    }
}

/// How many of the first requests fit into a batch of `rows_max` rows; at least one.
fn fitting(rows: &[u32], rows_max: u32) -> usize {
    let mut sum = 0u64;
    let fit = rows.iter().take_while(|r| {
        sum += u64::from(**r);
        sum <= u64::from(rows_max)
    });
    fit.count().max(1)
}
