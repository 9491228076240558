//! What survives a swap or a restart, by names, since ids change: what was learned, the speeds that plans were made for, and
//! the lanes in use. With it a successor decides exactly as its predecessor would.

use crate::known::{InUse, Known, Planned};
use crate::turns::Turns;
use bps_policy_planner::{Aimd, Estimates, Inputs, Learned, Plan};
use bps_policy_sdk::{Nanos, World};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Names the layout below. A blob of `batching` is welcome too: it is the part `learned`.
pub(crate) const SCHEMA: &str = "bps-joint-2";

/// Everything, floats as their bits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Memory {
    learned: Learned,
    plans: Vec<PlanEntry>,
    lanes: Vec<LaneEntry>,
}

/// A device by its host's name and its own.
type Name = (String, String);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct PlanEntry {
    model: String,
    at: Nanos,
    devices: Vec<(Name, u64)>,
    links: Vec<(String, u64, u64, u64)>,
    /// Whose turn it is among the plan's lanes: how far each is, and the flow.
    turns: (Vec<u64>, u64),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct LaneEntry {
    model: String,
    tail: Name,
    head: Option<Name>,
    cut: u32,
    codec: u8,
    rate: u8,
}

fn host_name(world: &World, id: u32) -> Option<String> {
    world.info().hosts.iter().find(|host| host.id == id).map(|host| host.name.clone())
}

fn host_id(world: &World, name: &str) -> Option<u32> {
    world.info().hosts.iter().find(|host| host.name == name).map(|host| host.id)
}

fn device_name(world: &World, id: u32) -> Option<Name> {
    let device = world.device(id)?;
    Some((host_name(world, device.host)?, device.name.clone()))
}

fn device_id(world: &World, name: &Name) -> Option<u32> {
    let host = host_id(world, &name.0)?;
    world.info().devices.iter().find(|device| device.host == host && device.name == name.1).map(|device| device.id)
}

fn speed(bits: u64) -> Option<f64> {
    Some(f64::from_bits(bits)).filter(|value| value.is_finite() && *value > 0.0)
}

impl Memory {
    pub(crate) fn from_learned(learned: Learned) -> Self {
        Self { learned, ..Self::default() }
    }

    /// What is known about the models of `world`.
    pub(crate) fn collect(world: &World, estimates: &Estimates, models: &BTreeMap<u32, Known>) -> Self {
        let mut memory = Self::from_learned(Learned::collect(world, estimates, &Aimd::default()));
        for model in &world.info().models {
            let Some(known) = models.get(&model.id) else { continue };
            memory.plans.extend(known.planned.as_ref().map(|planned| {
                let devices = planned.inputs.devices.iter();
                let links = planned.inputs.links.iter();
                PlanEntry {
                    model: model.name.clone(),
                    at: planned.at,
                    turns: (
                        known.turns.carried.iter().map(|rows| rows.to_bits()).collect(),
                        known.turns.flow.to_bits(),
                    ),
                    devices: devices
                        .filter_map(|(id, factor)| Some((device_name(world, *id)?, factor.to_bits())))
                        .collect(),
                    links: links
                        .filter_map(|(host, up, down, rtt)| {
                            Some((host_name(world, *host)?, up.to_bits(), down.to_bits(), rtt.to_bits()))
                        })
                        .collect(),
                }
            }));
            memory.lanes.extend(known.in_use.iter().filter_map(|(tail, in_use)| {
                Some(LaneEntry {
                    model: model.name.clone(),
                    tail: device_name(world, *tail)?,
                    head: in_use.head.and_then(|head| device_name(world, head)),
                    cut: in_use.cut,
                    codec: in_use.codec,
                    rate: in_use.rate,
                })
            }));
        }
        memory
    }

    /// What of it applies to `world`; plans still have to be made.
    pub(crate) fn apply(&self, world: &World, now: Nanos, models: &mut BTreeMap<u32, Known>) -> Estimates {
        for model in &world.info().models {
            let Some(known) = models.get_mut(&model.id) else { continue };
            for entry in self.plans.iter().filter(|entry| entry.model == model.name) {
                let device = |(name, bits): &(Name, u64)| Some((device_id(world, name)?, speed(*bits)?));
                let link = |(name, up, down, rtt): &(String, u64, u64, u64)| {
                    let rtt = f64::from_bits(*rtt).max(0.0);
                    Some((host_id(world, name)?, speed(*up)?, speed(*down)?, rtt))
                };
                let inputs = Inputs {
                    devices: entry.devices.iter().filter_map(device).collect(),
                    links: entry.links.iter().filter_map(link).collect(),
                };
                known.planned = Some(Planned { at: entry.at, inputs, plan: Plan::default() });
                let rows = |bits: &u64| Some(f64::from_bits(*bits)).filter(|rows| rows.is_finite()).unwrap_or(0.0);
                known.turns = Turns { carried: entry.turns.0.iter().map(rows).collect(), flow: rows(&entry.turns.1) };
            }
            for entry in self.lanes.iter().filter(|entry| entry.model == model.name) {
                let head = entry.head.as_ref().and_then(|name| device_id(world, name));
                if let Some(tail) = device_id(world, &entry.tail) {
                    let in_use = InUse { head, cut: entry.cut, codec: entry.codec, rate: entry.rate };
                    known.in_use.insert(tail, in_use);
                }
            }
        }
        self.learned.apply(world, now).0
    }
}
