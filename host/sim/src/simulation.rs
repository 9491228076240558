//! The event heap, the modelled devices, and the loop.

use crate::report::{Report, Tally};
use crate::workload::Arrival;
use bps_sched::{Action, Candidate, Config, Event, Failure, FailureKind, Request, Run, Scheduler, World};
use bps_types::policy::{
    CodecInfo, DeviceInfo, DeviceKind, HostInfo, ModelInfo, TABLE_BATCHES, Table, TableKind, WorldInfo,
};
use bps_types::{DeviceId, ExecutionId, Nanos};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

/// A device of the simulated host.
#[derive(Clone, Debug, PartialEq)]
pub struct SimDevice {
    /// For people.
    pub name: String,
    /// What it is.
    pub kind: DeviceKind,
    /// Executions really take this many times what the tables say.
    pub slowdown: f64,
}

/// A model of the simulated host.
#[derive(Clone, Debug, PartialEq)]
pub struct SimModel {
    /// For people.
    pub name: String,
    /// Latency asked for; zero for none.
    pub slo: Nanos,
    /// Most rows together.
    pub batch_max: u32,
    /// Per device: time from the input to each cut, for the batch sizes 1, 2, 4, 8, 16, 32.
    pub stage_nanos: Vec<Vec<Vec<f32>>>,
}

impl SimModel {
    /// A model of one layer that takes `fixed + rows * per_row` on every one of `devices` devices.
    pub fn linear(name: &str, slo: Nanos, fixed: Nanos, per_row: Nanos, devices: usize) -> Self {
        let cost = |rows: u32| (fixed.0 + per_row.0 * u64::from(rows)) as f32;
        let rows = TABLE_BATCHES.iter().map(|b| vec![0.0, cost(*b)]).collect();
        Self { name: name.into(), slo, batch_max: 32, stage_nanos: vec![rows; devices] }
    }

    fn cut_count(&self) -> u32 {
        self.stage_nanos.first().and_then(|d| d.first()).map_or(2, |cuts| cuts.len() as u32)
    }
}

/// What there is to schedule on.
#[derive(Clone, Debug, PartialEq)]
pub struct Setup {
    /// Ids are positions.
    pub devices: Vec<SimDevice>,
    /// Ids are positions.
    pub models: Vec<SimModel>,
    /// Of the scheduler.
    pub config: Config,
}

/// Something that happens at a time of its own.
pub enum Step {
    /// A new policy, briefed with [`Simulation::briefing`].
    Swap(Box<Candidate>),
    /// A device goes down or comes back. What runs on one that goes down is lost.
    Device(DeviceId, bool),
}

enum Happening {
    Arrival(Arrival),
    Step(Step),
    Finished { execution: ExecutionId, device: DeviceId, elapsed: Nanos },
    Wake,
}

struct Lane {
    up: bool,
    free_at: Nanos,
    running: BTreeSet<ExecutionId>,
}

/// A run of the scheduler in virtual time.
pub struct Simulation {
    setup: Setup,
    scheduler: Scheduler,
    now: Nanos,
    happenings: BTreeMap<u64, Happening>,
    order: BinaryHeap<Reverse<(Nanos, u64)>>,
    made: u64,
    lanes: Vec<Lane>,
    wake: Option<Nanos>,
    tally: Tally,
}

impl Simulation {
    /// A host at rest, deciding with the fallback until the first [`Step::Swap`].
    pub fn new(setup: Setup) -> Self {
        let lane = |_: &SimDevice| Lane { up: true, free_at: Nanos::ZERO, running: BTreeSet::new() };
        let mut simulation = Self {
            scheduler: Scheduler::new(setup.config.clone(), || Nanos::ZERO, None),
            now: Nanos::ZERO,
            happenings: BTreeMap::new(),
            order: BinaryHeap::new(),
            made: 0,
            lanes: setup.devices.iter().map(lane).collect(),
            wake: None,
            tally: Tally::default(),
            setup,
        };
        let world = simulation.world();
        simulation.feed(Event::World(world));
        for table in simulation.tables() {
            simulation.feed(Event::Table(table));
        }
        simulation
    }

    /// What a candidate must be told before it is handed in.
    pub fn briefing(&self) -> std::sync::Arc<bps_sched::Briefing> {
        self.scheduler.briefing()
    }

    /// Adds arrivals.
    pub fn arrive(&mut self, arrivals: impl IntoIterator<Item = Arrival>) {
        for arrival in arrivals {
            self.at(arrival.at, Happening::Arrival(arrival));
        }
    }

    /// Adds a step.
    pub fn schedule(&mut self, at: Nanos, step: Step) {
        self.at(at, Happening::Step(step));
    }

    /// Runs until nothing is left to happen, or until `end`; says what became of it.
    pub fn run(&mut self, end: Nanos) -> Report {
        while let Some(Reverse((at, id))) = self.order.pop() {
            if at > end {
                self.order.push(Reverse((at, id)));
                break;
            }
            let Some(happening) = self.happenings.remove(&id) else { continue };
            self.now = self.now.max(at);
            self.happen(happening);
        }
        self.tally.report(self.now, self.scheduler.ledger())
    }

    fn at(&mut self, at: Nanos, happening: Happening) {
        self.made += 1;
        self.happenings.insert(self.made, happening);
        self.order.push(Reverse((at, self.made)));
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrival(arrival) => {
                let id = self.tally.asked();
                let deadline = arrival.patience.map(|p| self.now + p);
                let request = Request {
                    id,
                    model: arrival.model,
                    shape_key: 0,
                    rows: arrival.rows,
                    bytes: 0,
                    priority: 0,
                    deadline,
                    constraints: 0,
                };
                self.feed(Event::Submit(request));
            }
            Happening::Step(Step::Swap(candidate)) => self.feed(Event::Swap(candidate)),
            Happening::Step(Step::Device(device, up)) => self.switch_device(device, up),
            Happening::Finished { execution, device, elapsed } => {
                let Some(lane) = self.lanes.get_mut(device.0 as usize) else { return };
                if lane.running.remove(&execution) {
                    self.feed(Event::Done { execution, elapsed });
                }
            }
            Happening::Wake => {
                self.wake = None;
                self.feed(Event::Tick);
            }
        }
    }

    fn switch_device(&mut self, device: DeviceId, up: bool) {
        let Some(lane) = self.lanes.get_mut(device.0 as usize) else { return };
        lane.up = up;
        let lost = std::mem::take(&mut lane.running);
        if up {
            lane.free_at = self.now;
        }
        self.feed(Event::Device { device, up });
        for execution in lost {
            let failure = Failure { kind: FailureKind::DeviceLost, message: "device went down".into() };
            if !up {
                self.feed(Event::Failed { execution, failure });
            }
        }
    }

    fn feed(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.scheduler.handle(event, self.now, &mut actions);
        for action in actions {
            match action {
                Action::Run(run) => self.execute(&run),
                Action::Answer(answer) => self.tally.answered(&answer),
                Action::Receipt(receipt) => self.tally.receipt(&receipt),
                Action::Swapped(report) => self.tally.swapped(&report),
                Action::WakeAt(at) => self.wake_at(at),
                // Nobody holds inputs or outputs here (the ledger counts refusals), and a policy that fails is not
                // built again: its failure is the finding.
                Action::Refuse { .. } | Action::Release(_) | Action::Rebuild { .. } | Action::Device { .. } => {}
            }
        }
    }

    fn wake_at(&mut self, at: Nanos) {
        if self.wake.is_none_or(|wake| at < wake) {
            self.wake = Some(at);
            self.at(at.max(self.now), Happening::Wake);
        }
    }

    /// A device takes executions one after another.
    fn execute(&mut self, run: &Run) {
        let (device, execution) = (run.device, run.execution);
        let cost = self.cost(run);
        let Some(lane) = self.lanes.get_mut(device.0 as usize) else { return };
        let ends = lane.free_at.max(self.now) + cost;
        lane.free_at = ends;
        lane.running.insert(execution);
        self.at(ends, Happening::Finished { execution, device, elapsed: cost });
    }

    /// What an execution really takes: the table's figure for the next batch size, times the device's slowdown.
    fn cost(&self, run: &Run) -> Nanos {
        let device = run.device.0 as usize;
        let slowdown = self.setup.devices.get(device).map_or(1.0, |d| d.slowdown);
        let Some(rows) = self.setup.models.get(run.model.0 as usize).and_then(|m| m.stage_nanos.get(device)) else {
            return Nanos::ZERO;
        };
        let upper = TABLE_BATCHES.partition_point(|b| *b < run.rows).clamp(1, TABLE_BATCHES.len() - 1);
        let until = |batch: usize| rows[batch].get(run.until_cut as usize).copied().unwrap_or(0.0);
        let span =
            |batch: usize| f64::from(until(batch) - rows[batch].get(run.from_cut as usize).copied().unwrap_or(0.0));
        let (low, high) = (f64::from(TABLE_BATCHES[upper - 1]), f64::from(TABLE_BATCHES[upper]));
        let share = (f64::from(run.rows) - low) / (high - low);
        Nanos(((span(upper - 1) + (span(upper) - span(upper - 1)) * share) * slowdown).max(0.0) as u64)
    }

    fn world(&self) -> World {
        let device = |(id, d): (usize, &SimDevice)| DeviceInfo {
            id: id as u32,
            host: 0,
            name: d.name.clone(),
            kind: d.kind,
            memory_bytes: None,
        };
        let everywhere: Vec<u32> = (0..self.setup.devices.len() as u32).collect();
        let model = |(id, m): (usize, &SimModel)| ModelInfo {
            id: id as u32,
            name: m.name.clone(),
            cut_count: m.cut_count(),
            input_bytes: 256,
            output_bytes: 40,
            batch_max: m.batch_max,
            slo: m.slo,
            accuracy_budget_ppm: 0,
            priority: 0,
            devices: everywhere.clone(),
        };
        let info = WorldInfo {
            epoch: 1,
            hosts: vec![HostInfo { id: 0, name: "simulated".into(), is_self: true }],
            devices: self.setup.devices.iter().enumerate().map(device).collect(),
            models: self.setup.models.iter().enumerate().map(model).collect(),
            codecs: vec![CodecInfo { id: 0, name: "raw".into(), rates: vec![], lossless: true, for_input: false }],
        };
        World { info, queue_limits: Vec::new() }
    }

    fn tables(&self) -> Vec<Table> {
        let table = |model: usize, device: usize, rows: &[Vec<f32>]| Table {
            epoch: 1,
            model: model as u32,
            device: device as u32,
            codec: 0,
            kind: TableKind::StageNanos,
            measured: true,
            shape: vec![rows.len() as u32, rows.first().map_or(0, |r| r.len() as u32)],
            values: rows.concat(),
        };
        let models = self.setup.models.iter().enumerate();
        models
            .flat_map(|(m, model)| model.stage_nanos.iter().enumerate().map(move |(d, rows)| table(m, d, rows)))
            .collect()
    }
}
