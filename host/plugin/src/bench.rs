//! What a decision costs: through WebAssembly, and in the same terms natively.

mod hosts;

use crate::{Corpus, GuestLimits, LoadError, LoadedPolicy, PluginError, PolicyEngine, prebuilt};
use bps_sched::{Fault, Policy};
use bps_types::Nanos;
use bps_types::policy::{Decision, Device, Dispatch, Link, NO_DEADLINE, Queue, Selection, Snapshot, Stage, WorldInfo};
use serde::Serialize;
use std::hint::black_box;
use std::time::Instant;

/// Times of one kind of decision.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DecideFigure {
    /// What was measured.
    pub name: String,
    /// Half the decisions took less.
    pub ns_p50: u64,
    /// 99 of 100 took less.
    pub ns_p99: u64,
}

/// The figures of [`decide`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DecideFigures {
    /// Decisions measured for each figure.
    pub iterations: usize,
    /// An empty snapshot, an empty decision: the crossing alone. Aim: p50 at most 1 us.
    pub empty: DecideFigure,
    /// 4 queues of 16, 4 devices, 6 links; four dispatches of two stages back. Aim: p50 at most 6 us, p99 at most 20 us.
    pub full: DecideFigure,
    /// The same rule on the same snapshot, compiled into the host.
    pub native: DecideFigure,
    /// Each policy that comes with bps, on the same snapshot.
    pub policies: Vec<DecideFigure>,
    /// The policy `bps` with tables of ResNet-50's size on three hosts, 16 requests waiting in each of 4 queues. Aim: p50 at
    /// most 50 us, p99 at most 200 us.
    pub hosts: DecideFigure,
}

/// Why a benchmark could not run.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum BenchError {
    #[error(transparent)]
    Engine(#[from] PluginError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("a policy failed while it was measured: {0}")]
    Fault(#[from] Fault),
}

/// Measures; a tenth of the iterations more go first, unmeasured.
pub fn decide(iterations: usize) -> Result<DecideFigures, BenchError> {
    let engine = PolicyEngine::new(GuestLimits::default())?;
    let corpus = Corpus::synthetic(1, 0);
    let snapshot = snapshot();
    let chaos = engine.load(prebuilt::CHAOS.wasm)?;
    let least = r#"{"mode":"least-backlog","stages":2}"#;
    let mut policies = vec![];
    for known in prebuilt::all() {
        policies.push(measure(known.name, &engine.load(known.wasm)?, "", &corpus, &snapshot, iterations)?);
    }
    let world = &corpus.world;
    let default = prebuilt::all().first().map_or(prebuilt::CHAOS.wasm, |policy| policy.wasm);
    let (three, present) = hosts::three(&snapshot);
    Ok(DecideFigures {
        iterations,
        empty: measure("empty", &chaos, r#"{"mode":"empty"}"#, &corpus, &Snapshot::default(), iterations)?,
        full: measure("least backlog", &chaos, least, &corpus, &snapshot, iterations)?,
        native: time("least backlog, native", iterations, || Ok(least_backlog(world, black_box(&snapshot))))?,
        policies,
        hosts: measure("bps, ResNet-50 on three hosts", &engine.load(default)?, "", &three, &present, iterations)?,
    })
}

fn measure(
    name: &str,
    loaded: &LoadedPolicy,
    config: &str,
    corpus: &Corpus,
    snapshot: &Snapshot,
    iterations: usize,
) -> Result<DecideFigure, BenchError> {
    let mut policy = loaded.instantiate(config, 1)?;
    policy.world_changed(&corpus.world)?;
    corpus.tables.iter().try_for_each(|table| policy.table_changed(table))?;
    Ok(time(name, iterations, || policy.decide(black_box(snapshot)))?)
}

fn time(
    name: &str,
    iterations: usize,
    mut call: impl FnMut() -> Result<Decision, Fault>,
) -> Result<DecideFigure, Fault> {
    for _ in 0..iterations / 10 {
        black_box(call()?);
    }
    let mut times = Vec::with_capacity(iterations);
    for _ in 0..iterations {
        let started = Instant::now();
        black_box(call()?);
        times.push(u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    times.sort_unstable();
    let rank = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or(0);
    Ok(DecideFigure { name: name.into(), ns_p50: rank(0.5), ns_p99: rank(0.99) })
}

/// 4 queues of 16 requests, 4 devices, 6 links, nothing in flight but four executions.
fn snapshot() -> Snapshot {
    let queue = |id: u32| Queue {
        id: id + 1,
        model: [1, 3][id as usize % 2],
        waiting: 16,
        waiting_rows: 16,
        oldest_wait: Nanos::from_millis(3),
        arrivals_per_second: 100.0,
        head_start: id * 16,
        head_count: 16,
    };
    let device = |id: u32| Device {
        id: id + 1,
        up: true,
        backlog: Nanos::ZERO,
        running: 0,
        credits: 2,
        memory_free: Some(8 << 30),
        slowdown: 1.0,
        age: Nanos::ZERO,
    };
    let link = |id: u32| Link {
        source: id % 3,
        target: (id + 1) % 3,
        up: true,
        bytes_per_second: 1e8,
        rtt: Nanos::from_micros(500),
        backlog_bytes: 0,
        age: Nanos::ZERO,
    };
    Snapshot {
        now: Nanos::from_secs(1),
        world_epoch: 1,
        queues: (0..4).map(queue).collect(),
        devices: (0..4).map(device).collect(),
        links: (0..6).map(link).collect(),
        ids: (1..=64).collect(),
        rows: vec![1; 64],
        waits: vec![3_000_000; 64],
        slacks: vec![NO_DEADLINE; 64],
        priorities: vec![100; 64],
        attempts: vec![0; 64],
        constraints: vec![0; 64],
        flight_tags: vec![1, 2, 3, 4],
        flight_stages: vec![0; 4],
        flight_devices: vec![1, 2, 3, 4],
        flight_rows: vec![8; 4],
        ..Snapshot::default()
    }
}

/// What the guest `chaos` does as `least-backlog` with two stages, written against the host's types.
fn least_backlog(world: &WorldInfo, now: &Snapshot) -> Decision {
    let mut devices: Vec<Device> = now.devices.iter().filter(|device| device.up).copied().collect();
    let mut decision = Decision::default();
    let mut least = |allowed: &[u32]| {
        let free = devices.iter_mut().filter(|device| device.credits > 0 && allowed.contains(&device.id));
        let device = free.min_by_key(|device| device.backlog)?;
        device.credits -= 1;
        device.backlog += Nanos::from_millis(1);
        Some(device.id)
    };
    for queue in &now.queues {
        let Some(model) = world.models.iter().find(|model| model.id == queue.model) else { continue };
        let last = model.cut_count - 1;
        let (Some(first), Some(second)) = (least(&model.devices), least(&model.devices)) else { continue };
        let stage = |device, until_cut| Stage { device, until_cut, codec: 0, rate: 0 };
        decision.dispatches.push(Dispatch {
            queue: queue.id,
            requests: Selection::Head(queue.head_count.min(model.batch_max)),
            stages: vec![stage(first, last / 2), stage(second, last)],
            micro_batch: model.batch_max,
            tag: 0,
            why: 0,
        });
    }
    decision
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_decide_the_same_four_dispatches() {
        let engine = PolicyEngine::new(GuestLimits::default()).expect("engine");
        let corpus = Corpus::synthetic(1, 0);
        let loaded = engine.load(prebuilt::CHAOS.wasm).expect("chaos");
        let mut policy = loaded.instantiate(r#"{"stages":2}"#, 1).expect("configured");
        policy.world_changed(&corpus.world).expect("told");
        let through_wasm = policy.decide(&snapshot()).expect("decided");
        assert_eq!(through_wasm, least_backlog(&corpus.world, &snapshot()));
        assert_eq!(through_wasm.dispatches.len(), 4);
        assert!(through_wasm.dispatches.iter().all(|row| row.stages.len() == 2));
    }

    #[test]
    fn every_figure_is_measured() {
        let figures = decide(50).expect("figures");
        assert!(figures.empty.ns_p50 > 0 && figures.full.ns_p99 >= figures.full.ns_p50);
        assert_eq!(figures.policies.len(), prebuilt::all().len());
        assert_eq!(prebuilt::all()[0].name, "bps", "the figure for three hosts is of this one");
    }
}
