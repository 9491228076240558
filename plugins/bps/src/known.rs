//! What is kept for each model: its lanes, the plan for the present speeds, and the lanes in use.

use crate::turns::Turns;
use bps_policy_planner::{Codecs, Inputs, Lane, LaneClass, Now, Plan, frontier, lanes};
use bps_policy_sdk::{ModelInfo, Nanos, World};
use std::collections::BTreeMap;

/// Speeds must move by this much before they are planned for anew.
const MOVED_SHARE: f64 = 0.2;
/// And not more often than this: estimates swing.
const PLAN_EVERY: Nanos = 50_000_000;

/// A model.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) frontier: Vec<Lane>,
    pub(crate) planned: Option<Planned>,
    /// Device of another host -> the lane last taken to it.
    pub(crate) in_use: BTreeMap<u32, InUse>,
    /// Whose turn it is among the plan's lanes.
    pub(crate) turns: Turns,
}

/// A plan and what it was made for.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) at: Nanos,
    pub(crate) inputs: Inputs,
    pub(crate) plan: Plan,
}

/// Which lane to a device is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InUse {
    pub(crate) head: Option<u32>,
    pub(crate) cut: u32,
    pub(crate) codec: u8,
    pub(crate) rate: u8,
}

impl InUse {
    pub(crate) fn of(lane: &Lane) -> Self {
        Self { head: lane.head, cut: lane.cut, codec: lane.codec, rate: lane.rate }
    }
}

impl Known {
    /// Tables or the world changed: the lanes are found anew, and the plan for the speeds it was made for.
    pub(crate) fn rebuild(&mut self, world: &World, model: &ModelInfo, splits: bool, rows_max: u32) {
        let mut all = lanes(world, model, Codecs::Allowed);
        all.retain(|lane| splits || lane.class() != LaneClass::Split);
        self.frontier = frontier(all);
        let frontier = &self.frontier;
        if let Some(planned) = &mut self.planned {
            planned.plan = Plan::make(world, frontier, &planned.inputs, rows_max, model.slo);
            self.turns = Turns::default();
        }
    }

    /// Plans anew where devices or links came or went, or have become faster or slower.
    pub(crate) fn refresh(&mut self, world: &World, model: &ModelInfo, now: &Now, clock: Nanos, rows_max: u32) {
        let inputs = Inputs::of(now, &model.devices);
        let due = self.planned.as_ref().is_none_or(|planned| {
            let rested = clock < planned.at || clock - planned.at >= PLAN_EVERY;
            planned.inputs.differs(&inputs) || (rested && planned.inputs.moved(&inputs, MOVED_SHARE))
        });
        if due {
            let plan = Plan::make(world, &self.frontier, &inputs, rows_max, model.slo);
            self.planned = Some(Planned { at: clock, inputs, plan });
            self.turns = Turns::default();
        }
    }

    /// The plan, if it leads anywhere but to this host's own devices.
    pub(crate) fn plan(&self) -> Option<&Plan> {
        let plan = &self.planned.as_ref()?.plan;
        plan.lanes.iter().any(|planned| planned.lane.tail.is_some()).then_some(plan)
    }
}
