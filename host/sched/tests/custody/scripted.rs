//! The policies, which may do anything that a policy can do.

use crate::world::{CUTS, DEVICES};
use bps_sched::{Briefing, Candidate, Fault, FaultClass, Policy};
use bps_types::Nanos;
use bps_types::policy::{
    Decision, Dispatch, Join, Manifest, Origin, Outcome, Selection, Snapshot, Stage, Table, WorldInfo,
};
use std::sync::Arc;

/// A policy that does whatever its script says: good, idle, nonsense, or a fault.
pub(crate) struct Scripted {
    manifest: Manifest,
    digest: String,
    script: Vec<u8>,
    at: usize,
}

impl Scripted {
    pub(crate) fn candidate(script: Vec<u8>, name: u8, briefing: Arc<Briefing>) -> Box<Candidate> {
        let manifest = Manifest { name: format!("p{name}"), version: "0.1.0".into(), ..Manifest::default() };
        let policy = Box::new(Self { manifest, digest: format!("{name:02x}"), script, at: 0 });
        Box::new(Candidate { policy, config: "{}".into(), seed: 0, briefing, carry_state: true })
    }

    fn next(&mut self) -> u8 {
        self.at += 1;
        self.script.get(self.at % self.script.len().max(1)).copied().unwrap_or(0)
    }
}

impl Policy for Scripted {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }
    fn digest(&self) -> &str {
        &self.digest
    }
    fn world_changed(&mut self, _: &WorldInfo) -> Result<(), Fault> {
        if self.next() == 250 { Err(Fault::new(FaultClass::Trap, "world")) } else { Ok(()) }
    }
    fn table_changed(&mut self, _: &Table) -> Result<(), Fault> {
        Ok(())
    }
    fn decide(&mut self, snapshot: &Snapshot) -> Result<Decision, Fault> {
        let mut decision = Decision::default();
        for queue in &snapshot.queues {
            let roll = self.next();
            let device = u32::from(self.next()) % (DEVICES + 1); // one too many: sometimes nonsense
            let count = 1 + u32::from(roll) % 4;
            let stages = match roll % 5 {
                0 => vec![
                    Stage { device, until_cut: 2, codec: 0, rate: 0 },
                    Stage { device: (device + 1) % DEVICES, until_cut: CUTS - 1, codec: 0, rate: 0 },
                ],
                1 => vec![Stage { device, until_cut: u32::from(roll), codec: 0, rate: 0 }],
                _ => vec![Stage { device, until_cut: CUTS - 1, codec: 0, rate: 0 }],
            };
            let requests = if roll.is_multiple_of(7) {
                Selection::These(vec![u64::from(roll), u64::from(roll)])
            } else {
                Selection::Head(count)
            };
            match roll {
                0..=20 => {}
                21..=30 => decision.shed.push(snapshot.ids.first().copied().unwrap_or(u64::from(roll))),
                245..=249 => return Err(Fault::new(FaultClass::Trap, "scripted")),
                _ => decision.dispatches.push(Dispatch {
                    queue: queue.id,
                    requests,
                    stages,
                    micro_batch: u32::from(roll) % 3,
                    tag: u64::from(roll),
                    why: 0,
                }),
            }
        }
        for group in &snapshot.arrived {
            let roll = self.next();
            let nonsense = u32::from(roll == 9);
            if roll > 100 {
                decision.joins.push(Join { arrived: group.id + nonsense, take_rows: u32::from(roll) % 7 });
            }
        }
        decision.wake_after = Some(Nanos::from_millis(u64::from(self.next()) % 5));
        Ok(decision)
    }
    fn observe(&mut self, _: &[Outcome], _: u32) -> Result<(), Fault> {
        if self.next() == 251 { Err(Fault::new(FaultClass::Deadline, "observe")) } else { Ok(()) }
    }
    fn save(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        match self.next() {
            252 => Err(Fault::new(FaultClass::Trap, "save")),
            n if n % 2 == 0 => Ok(Some(vec![n])),
            _ => Ok(None),
        }
    }
    fn restore(&mut self, _: &Origin, _: &[u8]) -> Result<bool, Fault> {
        match self.next() {
            253 => Err(Fault::new(FaultClass::Trap, "restore")),
            n => Ok(n % 3 == 0),
        }
    }
}
