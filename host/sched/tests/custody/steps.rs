//! What clients, devices, links, other hosts and whoever swaps policies do, in any order.

use crate::driver::Driver;
use crate::scripted::Scripted;
use crate::world::{CUTS, DEVICES, MODELS, REMOTE, world};
use bps_sched::{Arrival, Event, Failure, FailureKind, PlanStage, Request};
use bps_types::{ArrivalId, DeviceId, HostId, ModelId, Nanos, RequestId};
use proptest::prelude::*;

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Submit {
        model: u32,
        shape: u64,
        rows: u32,
        deadline_ms: Option<u64>,
        priority: u8,
    },
    Cancel(usize),
    Finish(usize),
    Fail(usize, u8),
    Device(u32, bool),
    Swap(u8, Vec<u8>),
    Rebuild(bool, Vec<u8>),
    Rollback,
    World(u32),
    Pass(u64),
    Link(bool, bool),
    Standing(bool),
    Arrive {
        model: u32,
        rows: u32,
        stages: u8,
        deadline_ms: Option<u64>,
    },
    Withdraw(usize),
    /// The next events come together: the policy is asked after the last of them.
    Together(u8),
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let submit = (0..=MODELS, 0..2u64, 0..10u32, proptest::option::of(0..50u64), 0..3u8).prop_map(
        |(model, shape, rows, deadline_ms, priority)| Step::Submit { model, shape, rows, deadline_ms, priority },
    );
    let script = || proptest::collection::vec(any::<u8>(), 1..40);
    let step = prop_oneof![
        12 => submit,
        2 => any::<usize>().prop_map(Step::Cancel),
        10 => any::<usize>().prop_map(Step::Finish),
        2 => (any::<usize>(), 0..5u8).prop_map(|(at, kind)| Step::Fail(at, kind)),
        1 => (0..DEVICES, any::<bool>()).prop_map(|(d, up)| Step::Device(d, up)),
        2 => (0..4u8, script()).prop_map(|(name, script)| Step::Swap(name, script)),
        2 => (any::<bool>(), script()).prop_map(|(ok, script)| Step::Rebuild(ok, script)),
        1 => Just(Step::Rollback),
        1 => (1..=MODELS).prop_map(Step::World),
        8 => (0..40u64).prop_map(Step::Pass),
        1 => (1_000..40_000u64).prop_map(Step::Pass),
        2 => any::<(bool, bool)>().prop_map(|(there, back)| Step::Link(there, back)),
        2 => (0..4u8).prop_map(|n| Step::Link(n > 0, n > 0)),
        1 => any::<bool>().prop_map(Step::Standing),
        5 => (0..=MODELS, 0..10u32, 0..6u8, proptest::option::of(0..50u64)).prop_map(
            |(model, rows, stages, deadline_ms)| Step::Arrive { model, rows, stages, deadline_ms },
        ),
        1 => any::<usize>().prop_map(Step::Withdraw),
        3 => (1..8u8).prop_map(Step::Together),
    ];
    proptest::collection::vec(step, 1..250)
}

impl Driver {
    pub(crate) fn step(&mut self, step: Step) {
        match step {
            Step::Submit { model, shape, rows, deadline_ms, priority } => {
                self.asked += 1;
                let id = RequestId(self.asked);
                self.open.insert(id);
                let deadline = deadline_ms.map(|ms| self.now + Nanos::from_millis(ms));
                let model = ModelId(model);
                self.feed(Event::Submit(Request {
                    id,
                    model,
                    shape_key: shape,
                    rows,
                    bytes: 10,
                    priority,
                    deadline,
                    constraints: 0,
                    trace: None,
                }));
            }
            Step::Cancel(at) => {
                let id = RequestId(at as u64 % (self.asked + 2));
                self.feed(Event::Cancel(id));
            }
            Step::Finish(at) => {
                if let Some(execution) = self.pick(at) {
                    self.finish(execution);
                }
            }
            Step::Fail(at, kind) => {
                let kinds = [
                    FailureKind::Execution,
                    FailureKind::OutOfMemory,
                    FailureKind::DeviceLost,
                    FailureKind::Refused,
                    FailureKind::Unreachable,
                ];
                if let Some(execution) = self.pick(at) {
                    self.outputs.remove(&execution);
                    self.feed(Event::Failed {
                        execution,
                        failure: Failure { kind: kinds[kind as usize], message: "scripted".into() },
                    });
                }
            }
            Step::Device(device, up) => self.feed(Event::Device { device: DeviceId(device), up }),
            Step::Swap(name, script) => {
                let candidate = Scripted::candidate(script, name, self.scheduler.briefing());
                self.feed(Event::Swap(candidate));
            }
            Step::Rebuild(ok, script) => {
                if let Some(generation) = self.rebuild.take() {
                    let candidate = if ok {
                        Ok(Scripted::candidate(script, 0, self.scheduler.briefing()))
                    } else {
                        Err("no".into())
                    };
                    self.feed(Event::Rebuilt { generation, candidate });
                }
            }
            Step::Rollback => self.feed(Event::Rollback),
            Step::World(models) => {
                self.epoch += 1;
                self.feed(Event::World(world(self.epoch, models)));
            }
            Step::Link(there, back) => {
                self.link(0, 1, there);
                self.link(1, 0, back);
            }
            Step::Standing(up) => self.stand(up),
            Step::Arrive { model, rows, stages, deadline_ms } => {
                self.guests_seen += 1;
                let id = ArrivalId(self.guests_seen);
                self.guests.insert(id);
                let stage = |device: u32, from_cut, until_cut| PlanStage {
                    device: DeviceId(device),
                    host: HostId(u32::from(device == REMOTE)),
                    from_cut,
                    until_cut,
                    codec: 0,
                    rate: 0,
                };
                let stages = match stages {
                    0 => vec![],
                    1 => vec![stage(0, 1, 2), stage(1, 2, CUTS - 1)],
                    2 => vec![stage(0, 1, 2), stage(REMOTE, 2, CUTS - 1)],
                    3 => vec![stage(0, 3, 2)],
                    _ => vec![stage(u32::from(stages) % 3, 2, CUTS - 1)],
                };
                let deadline = deadline_ms.map(|ms| self.now + Nanos::from_millis(ms));
                self.feed(Event::Arrive(Arrival {
                    id,
                    host: HostId(1),
                    origin: HostId(1),
                    model: ModelId(model),
                    stages,
                    rows,
                    bytes: 10,
                    priority: 0,
                    deadline,
                    trace: None,
                }));
            }
            Step::Withdraw(at) => {
                // As the node does it: it lets go of the input, then tells the scheduler.
                if let Some(id) = self.guests.iter().nth(at % self.guests.len().max(1)).copied() {
                    self.guests.remove(&id);
                    self.withdrawn.insert(id);
                    self.feed(Event::Withdraw(id));
                }
            }
            Step::Together(count) => self.together = count,
            Step::Pass(ms) => {
                self.now += Nanos::from_millis(ms);
                self.feed(Event::Tick);
            }
        }
    }
}
