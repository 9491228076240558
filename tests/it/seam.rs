//! The seam between scheduler and policy, driven in virtual time: the same scheduler and the same component bytes that the
//! node runs, over scripted arrivals and cost tables.

use bps_plugin::{GuestLimits, PolicyEngine, prebuilt};
use bps_sched::{Briefing, Candidate};
use bps_sim::{Report, Setup, SimDevice, SimModel, Simulation, Step, Workload};
use bps_types::policy::DeviceKind;
use bps_types::{DeviceId, ModelId, Nanos};
use std::sync::Arc;

const MODEL: ModelId = ModelId(0);

pub(crate) fn candidate(name: &str, config: &str, briefing: Arc<Briefing>) -> Box<Candidate> {
    let engine = PolicyEngine::new(GuestLimits::default()).expect("a policy engine starts");
    let component = prebuilt::find(name).unwrap_or_else(|| panic!("{name} is prebuilt"));
    let loaded = engine.load(component.wasm).expect("a prebuilt policy loads");
    let mut policy = loaded.instantiate(config, 1).expect("a prebuilt policy takes its config");
    briefing.tell(&mut policy).expect("a prebuilt policy takes a briefing");
    Box::new(Candidate { policy: Box::new(policy), config: config.into(), seed: 1, briefing, carry_state: true })
}

/// Two equal CPU halves and a model whose batch of 32 costs about six times a single row.
fn setup() -> Setup {
    let device = |name: &str| SimDevice { name: name.into(), kind: DeviceKind::Cpu, host: 0, slowdown: 1.0 };
    let model = SimModel::linear("m", Nanos::from_millis(50), Nanos::from_micros(850), Nanos::from_micros(150), 2);
    Setup::alone(vec![device("cpu:0/2"), device("cpu:1/2")], vec![model])
}

fn run(policies: &[(&str, &str, Nanos)], load: Workload, end: Nanos) -> Report {
    let mut simulation = Simulation::new(setup());
    for (name, config, at) in policies {
        let candidate = candidate(name, config, simulation.briefing());
        simulation.schedule(*at, Step::Swap(candidate));
    }
    simulation.arrive(load.arrivals(MODEL, Nanos::from_millis(1), 42));
    simulation.run(end)
}

fn whole_run(policies: &[(&str, &str, Nanos)], load: Workload) -> Report {
    let report = run(policies, load, Nanos::MAX);
    let ledger = report.ledger;
    assert_eq!(ledger.waiting + ledger.running, 0, "nothing is left: {ledger:?}");
    assert_eq!(ledger.submitted, ledger.answered, "nothing is lost: {ledger:?}");
    report
}

#[test]
fn the_same_seed_and_bytes_give_the_same_report() {
    let load = Workload::Poisson { per_second: 1_500.0, span: Nanos::from_secs(2) };
    let once = whole_run(&[("batching", "{}", Nanos::ZERO)], load);
    assert_eq!(once.to_string(), whole_run(&[("batching", "{}", Nanos::ZERO)], load).to_string());
    assert_eq!(once.ledger.invalid_rows + once.ledger.fallback_decisions, 0, "{once}");
}

#[test]
fn batching_serves_three_times_what_local_only_does_at_saturation() {
    let load = Workload::Poisson { per_second: 20_000.0, span: Nanos::from_secs(1) };
    let end = Nanos::from_secs(1);
    let alone = run(&[("local-only", "{}", Nanos::ZERO)], load, end);
    let batched = run(&[("batching", "{}", Nanos::ZERO)], load, end);
    assert!(batched.throughput >= 3.0 * alone.throughput, "alone:\n{alone}\nbatched:\n{batched}");
}

#[test]
fn batching_is_no_slower_than_local_only_when_there_is_little_to_do() {
    let load = Workload::Poisson { per_second: 50.0, span: Nanos::from_secs(5) };
    let alone = whole_run(&[("local-only", "{}", Nanos::ZERO)], load);
    let batched = whole_run(&[("batching", "{}", Nanos::ZERO)], load);
    assert!(batched.latency[0] <= alone.latency[0] + Nanos::from_micros(100), "alone:\n{alone}\nbatched:\n{batched}");
}

#[test]
fn adaptive_batching_is_at_least_as_good_as_aimd() {
    for per_second in [300.0, 1_500.0, 6_000.0] {
        let load = Workload::Poisson { per_second, span: Nanos::from_secs(3) };
        let end = Nanos::from_secs(3);
        let aimd = run(&[("batching", r#"{"mode":"aimd"}"#, Nanos::ZERO)], load, end);
        let adaptive = run(&[("batching", "{}", Nanos::ZERO)], load, end);
        let (a, b) = (adaptive.latency[2].0 as f64, aimd.latency[2].0 as f64);
        assert!(
            adaptive.throughput >= 0.99 * aimd.throughput,
            "at {per_second}/s\naimd:\n{aimd}\nadaptive:\n{adaptive}"
        );
        assert!(a <= 1.05 * b, "at {per_second}/s\naimd:\n{aimd}\nadaptive:\n{adaptive}");
    }
}

#[test]
fn every_prebuilt_policy_takes_over_from_every_other_under_load() {
    let order = ["local-only", "batching", "round-robin", "batching", "local-only"];
    let swaps: Vec<_> =
        order.iter().enumerate().map(|(i, name)| (*name, "{}", Nanos::from_millis(200 * i as u64))).collect();
    let report = whole_run(&swaps, Workload::Poisson { per_second: 1_200.0, span: Nanos::from_secs(1) });
    assert_eq!(report.swaps.len(), order.len(), "{report}");
    assert!(report.swaps.iter().zip(order).all(|(swap, name)| swap.starts_with(name)), "{report}");
}

#[test]
fn a_device_that_goes_down_costs_no_request() {
    let mut simulation = Simulation::new(setup());
    let candidate = candidate("batching", "{}", simulation.briefing());
    simulation.schedule(Nanos::ZERO, Step::Swap(candidate));
    for i in 0..8u64 {
        let device = DeviceId((i % 2) as u32);
        simulation.schedule(Nanos::from_millis(100 * i + 50), Step::Device(device, false));
        simulation.schedule(Nanos::from_millis(100 * i + 90), Step::Device(device, true));
    }
    let load = Workload::Poisson { per_second: 2_000.0, span: Nanos::from_secs(1) };
    simulation.arrive(load.arrivals(MODEL, Nanos::from_millis(1), 3));
    let report = simulation.run(Nanos::MAX);
    assert_eq!(report.ledger.submitted, report.ledger.answered, "{report}");
    assert!(report.ledger.retried > 0, "something was running when it went down\n{report}");
}
