//! Stands for the node, and keeps its own account of who is owed what.

use crate::world::{CUTS, DEVICES, MODELS, REMOTE, world};
use bps_sched::{Action, Config, Crossing, Event, Input, LinkReport, Next, Scheduler, StageTime, Standing, Stopwatch};
use bps_types::{ArrivalId, DeviceId, ExecutionId, HostId, Nanos, RequestId};
use std::collections::{BTreeMap, BTreeSet};

/// Stands for the node: keeps what runs, and checks that every request is answered or refused exactly once.
pub(crate) struct Driver {
    pub(crate) scheduler: Scheduler,
    pub(crate) now: Nanos,
    pub(crate) epoch: u32,
    pub(crate) asked: u64,
    pub(crate) open: BTreeSet<RequestId>,
    pub(crate) outputs: BTreeMap<ExecutionId, bool>,
    pub(crate) running: Vec<ExecutionId>,
    pub(crate) away: BTreeSet<ExecutionId>,
    pub(crate) guests: BTreeSet<ArrivalId>,
    pub(crate) withdrawn: BTreeSet<ArrivalId>,
    pub(crate) guests_seen: u64,
    /// Executions for other hosts that have no receipt yet.
    pub(crate) joints: u64,
    pub(crate) rebuild: Option<bps_types::Generation>,
    /// Events that are still to be noted before the policy is asked.
    pub(crate) together: u8,
}

impl Driver {
    pub(crate) fn new() -> Self {
        let mut driver = Self {
            scheduler: Scheduler::new(Config::default(), Stopwatch::STILL, None),
            now: Nanos::ZERO,
            epoch: 1,
            asked: 0,
            open: BTreeSet::new(),
            outputs: BTreeMap::new(),
            running: Vec::new(),
            away: BTreeSet::new(),
            guests: BTreeSet::new(),
            withdrawn: BTreeSet::new(),
            guests_seen: 0,
            joints: 0,
            rebuild: None,
            together: 0,
        };
        driver.feed(Event::World(world(1, MODELS)));
        driver
    }

    pub(crate) fn feed(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.scheduler.note(event, self.now, &mut actions);
        if self.together == 0 {
            self.scheduler.settle(&mut actions);
        }
        self.together = self.together.saturating_sub(1);
        for action in actions {
            self.carry_out(action);
        }
        let ledger = self.scheduler.ledger();
        assert!(ledger.holds(), "{ledger:?}");
        assert_eq!(ledger.waiting + ledger.running, self.open.len() as u64, "{ledger:?}");
        assert_eq!(ledger.guests.waiting + ledger.guests.running, self.guests.len() as u64, "{ledger:?}");
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Run(run) => {
                assert!(run.rows > 0 && run.from_cut < run.until_cut && run.until_cut < CUTS);
                match &run.input {
                    Input::Requests(parts) => {
                        assert_eq!(run.from_cut, 0);
                        assert!(parts.iter().all(|(id, _)| self.open.contains(id)), "runs a request that has ended");
                        assert_eq!(parts.iter().map(|(_, rows)| rows).sum::<u32>(), run.rows);
                    }
                    Input::Execution(before) => assert_eq!(self.outputs.remove(before), Some(true), "input is there"),
                    Input::Arrivals(parts) => {
                        assert!(parts.iter().all(|(id, _)| self.guests.contains(id)), "runs a guest that has ended");
                        self.joints += 1;
                        assert_eq!(parts.iter().map(|(_, rows)| rows).sum::<u32>(), run.rows);
                    }
                }
                assert!(run.device.0 != REMOTE, "runs here");
                assert!(self.outputs.insert(run.execution, false).is_none(), "execution ids are used once");
                self.running.push(run.execution);
            }
            Action::Forward(forward) => {
                assert!(forward.stages.iter().all(|s| s.host == HostId(1)) && forward.host == HostId(1));
                match &forward.input {
                    Input::Requests(parts) => assert!(parts.iter().all(|(id, _)| self.open.contains(id))),
                    Input::Execution(before) => assert_eq!(self.outputs.remove(before), Some(true), "input is there"),
                    Input::Arrivals(_) => panic!("guests are passed on, not forwarded"),
                }
                assert!(self.outputs.insert(forward.execution, false).is_none(), "execution ids are used once");
                self.running.push(forward.execution);
                self.away.insert(forward.execution);
            }
            Action::Recall { execution, .. } => assert!(self.away.contains(&execution), "recalls what was forwarded"),
            Action::Advance(advance) => {
                assert_eq!(self.outputs.get(&advance.execution), Some(&true), "advanced from a finished execution");
                match advance.next {
                    Next::Here => assert!(self.guests.contains(&advance.arrival)),
                    Next::Origin | Next::Host(..) => assert!(self.guests.remove(&advance.arrival), "answered twice"),
                }
            }
            // One that was withdrawn in the very moment in which its time ran out is given back all the same.
            Action::Reject { arrival, .. } => {
                assert!(
                    self.guests.remove(&arrival) || self.withdrawn.remove(&arrival),
                    "rejected twice or never came"
                );
            }
            Action::Answer(answer) => {
                assert_eq!(self.outputs.get(&answer.execution), Some(&true), "answered from a finished execution");
                assert!(self.open.remove(&answer.request), "answered twice or never asked");
            }
            Action::Refuse { request, .. } => assert!(self.open.remove(&request), "refused twice or never asked"),
            Action::Release(execution) => {
                self.outputs.remove(&execution);
            }
            Action::Rebuild { generation, .. } => self.rebuild = Some(generation),
            Action::Receipt(receipt) if !receipt.is_own() => {
                self.joints = self.joints.checked_sub(1).expect("one receipt for each execution for others");
            }
            Action::Receipt(_) | Action::WakeAt(_) | Action::Swapped(_) | Action::Device { .. } => {}
        }
    }

    pub(crate) fn link(&mut self, source: u32, target: u32, up: bool) {
        let (source, target) = (HostId(source), HostId(target));
        self.feed(Event::Link(LinkReport {
            source,
            target,
            up,
            bytes_per_second: 1e6,
            rtt: Nanos::from_millis(1),
            backlog_bytes: 0,
        }));
    }

    pub(crate) fn stand(&mut self, up: bool) {
        let (device, backlog) = (DeviceId(REMOTE), Nanos::from_millis(1));
        self.feed(Event::Standing(Standing { device, up, backlog, running: 1, memory_free: None }));
    }

    pub(crate) fn finish(&mut self, execution: ExecutionId) {
        if let Some(output) = self.outputs.get_mut(&execution) {
            *output = true;
        }
        let elapsed = Nanos::from_millis(1);
        if self.away.remove(&execution) {
            let stages = vec![StageTime { waited: None, began: self.now, elapsed, batch_rows: 1 }];
            self.feed(Event::Answered {
                execution,
                stages,
                bytes: Crossing { sent: 9, values: 8, received: 1, coarser: None },
            });
        } else {
            self.feed(Event::Done { execution, elapsed, coding: Nanos(1) });
        }
    }

    pub(crate) fn pick(&mut self, at: usize) -> Option<ExecutionId> {
        let count = self.running.len();
        (count > 0).then(|| self.running.remove(at % count))
    }

    /// Lets everything end: devices up, every execution answered, the policy out of the way.
    pub(crate) fn drain(&mut self) {
        self.together = 0;
        for device in 0..DEVICES {
            self.feed(Event::Device { device: DeviceId(device), up: true });
        }
        self.link(0, 1, true);
        self.link(1, 0, true);
        for _ in 0..5_000 {
            if self.open.is_empty() && self.guests.is_empty() {
                return;
            }
            self.now += Nanos::from_millis(300);
            self.feed(Event::Tick);
            while let Some(execution) = self.pick(0) {
                self.finish(execution);
            }
        }
        panic!("left: {:?}, {:?}, {:?}", self.open, self.guests, self.scheduler.ledger());
    }
}
