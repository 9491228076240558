//! Several hosts in virtual time: the same schedulers and component bytes that the nodes run, over links that change.

use crate::seam::candidate;
use bps_sim::{Report, Setup, SimCodec, SimDevice, SimLink, SimModel, Simulation, Step, Workload};
use bps_types::policy::{CodecInfo, DeviceKind, TABLE_BATCHES};
use bps_types::{ModelId, Nanos};

const MODEL: ModelId = ModelId(0);
const MBIT: f64 = 1e6 / 8.0;
/// Whatever is not answered by then is lost.
const END: Nanos = Nanos::from_secs(30);

/// An edge that is `slowdown` times slower than the server, and a network of six layers: the first ones are wide and cheap,
/// the later ones narrow and dear, as in most convolutional networks.
fn setup(slowdown: f64, mbit: f64, rtt_ms: u64) -> Setup {
    let layer_us = [150.0, 250.0, 350.0, 400.0, 450.0, 400.0];
    let table = |factor: f64| -> Vec<Vec<f32>> {
        let row = |batch: u32| {
            let mut sum = 0.0;
            let per_batch = |us: f64| us * 1e3 * factor * (0.4 + 0.6 * f64::from(batch));
            let cuts = layer_us.iter().map(|us| {
                sum += per_batch(*us);
                sum as f32
            });
            std::iter::once(0.0).chain(cuts).collect()
        };
        TABLE_BATCHES.iter().map(|b| row(*b)).collect()
    };
    let device = |name: &str, host| SimDevice { name: name.into(), kind: DeviceKind::Cpu, host, slowdown: 1.0 };
    let model = SimModel {
        name: "net".into(),
        slo: Nanos::from_millis(200),
        batch_max: 32,
        accuracy_budget_ppm: 10_000,
        stage_nanos: vec![table(slowdown), table(1.0)],
        cut_bytes: vec![12_288.0, 65_536.0, 32_768.0, 16_384.0, 8_192.0, 4_096.0, 40.0],
    };
    let codec = |id, name: &str, bits, loss_ppm| SimCodec {
        info: CodecInfo { id, name: name.into(), rates: vec![], lossless: false, for_input: false },
        bits,
        loss_ppm,
    };
    Setup {
        hosts: vec!["edge".into(), "server".into()],
        devices: vec![device("cpu", 0), device("cpu", 1)],
        links: vec![SimLink { hosts: (0, 1), bytes_per_second: mbit * MBIT, rtt: Nanos::from_millis(rtt_ms) }],
        models: vec![model],
        codecs: vec![codec(2, "f16", 16.0, 50.0), codec(4, "int8", 8.0, 5_000.0)],
        ..Setup::default()
    }
}

fn run(setup: Setup, policy: (&str, &str), steps: Vec<(Nanos, Step)>, load: Workload, end: Nanos) -> Report {
    let mut simulation = Simulation::new(setup);
    let candidate = candidate(policy.0, policy.1, simulation.briefing());
    simulation.schedule(Nanos::ZERO, Step::Swap(candidate));
    steps.into_iter().for_each(|(at, step)| simulation.schedule(at, step));
    simulation.arrive(load.arrivals(MODEL, Nanos::from_millis(1), 42));
    simulation.run(end)
}

fn saturated(setup: Setup, policy: (&str, &str)) -> f64 {
    let span = Nanos::from_secs(2);
    let report = run(setup, policy, vec![], Workload::Poisson { per_second: 1_500.0, span }, span);
    assert_eq!(report.ledger.invalid_rows, 0, "{policy:?}\n{report}");
    report.throughput
}

/// Every policy that `bps` must not lose to, with its config.
const RIVALS: &[(&str, &str)] = &[
    ("local-only", "{}"),
    ("batching", "{}"),
    ("remote-only", "{}"),
    ("data-parallel", "{}"),
    ("surgeon", "{}"),
    ("pipelining", "{}"),
    ("baselines", r#"{"mode":"neurosurgeon"}"#),
    ("baselines", r#"{"mode":"dads"}"#),
    ("baselines", r#"{"mode":"static"}"#),
    ("baselines", r#"{"mode":"greedy"}"#),
    ("baselines", r#"{"mode":"aimd"}"#),
];

#[test]
fn bps_is_never_worse_than_the_best_of_the_others() {
    let (mut gains, mut table) = (Vec::new(), String::new());
    for slowdown in [4.0, 16.0] {
        for mbit in [10.0, 50.0, 200.0] {
            for rtt_ms in [1, 20] {
                let cell = || setup(slowdown, mbit, rtt_ms);
                let ours = saturated(cell(), ("bps", "{}"));
                let rivals = RIVALS.iter().map(|rival| (saturated(cell(), *rival), rival));
                let (best, who) = rivals.max_by(|a, b| a.0.total_cmp(&b.0)).expect("there are rivals");
                gains.push(ours / best);
                let line =
                    format!("x{slowdown} {mbit} Mbit/s {rtt_ms} ms: bps {ours:.0}/s, best {best:.0}/s {who:?}\n");
                table.push_str(&line);
            }
        }
    }
    eprintln!("{table}");
    gains.sort_by(f64::total_cmp);
    assert!(gains[0] >= 0.97, "{table}");
}

#[test]
fn a_step_in_the_links_rate_is_answered_with_another_plan() {
    let span = Nanos::from_secs(4);
    let drop = Nanos::from_secs(2);
    let step = Step::Link { hosts: (0, 1), bytes_per_second: 10.0 * MBIT, up: true };
    let load = Workload::Poisson { per_second: 250.0, span };
    let report = run(setup(16.0, 100.0, 5), ("bps", "{}"), vec![(drop, step)], load, END);
    let ledger = report.ledger;
    assert_eq!(ledger.submitted, ledger.answered, "{report}");
    let late = report.answers.iter().filter(|a| a.at > drop + Nanos::from_millis(500));
    let misses = late.clone().filter(|a| a.total > Nanos::from_millis(200)).count();
    assert!(misses * 20 < late.count(), "{misses} late answers half a second after the step\n{report}");
}

#[test]
fn a_peer_that_is_lost_at_full_load_costs_no_request() {
    let span = Nanos::from_secs(4);
    let rate = 50.0 * MBIT;
    let cut = |up| Step::Link { hosts: (0, 1), bytes_per_second: rate, up };
    let steps = vec![(Nanos::from_secs(1), cut(false)), (Nanos::from_secs(3), cut(true))];
    let load = Workload::Poisson { per_second: 150.0, span };
    let report = run(setup(4.0, 50.0, 5), ("bps", "{}"), steps, load, END);
    assert_eq!(report.ledger.submitted, report.ledger.answered, "{report}");
    assert!(report.ledger.retried > 0, "something was away when the link went down\n{report}");
    let alone = saturated(setup(4.0, 50.0, 5), ("batching", "{}"));
    let within = |from: u64, to: u64| {
        let (from, to) = (Nanos::from_millis(from), Nanos::from_millis(to));
        report.answers.iter().filter(|a| a.at > from && a.at <= to).count() as f64 / (to - from).as_secs_f64()
    };
    let wanted = alone.min(150.0);
    assert!(within(2_000, 3_000) >= 0.9 * wanted, "alone again: {} of {wanted}\n{report}", within(2_000, 3_000));
}

#[test]
fn every_policy_takes_over_from_every_other_while_plans_are_away() {
    let mut simulation = Simulation::new(setup(4.0, 50.0, 5));
    let mut policies: Vec<_> = RIVALS.to_vec();
    policies.push(("bps", "{}"));
    for (index, (name, config)) in policies.iter().enumerate() {
        let candidate = candidate(name, config, simulation.briefing());
        simulation.schedule(Nanos::from_millis(150 * index as u64), Step::Swap(candidate));
    }
    let span = Nanos::from_millis(150 * policies.len() as u64);
    let load = Workload::Poisson { per_second: 150.0, span };
    simulation.arrive(load.arrivals(MODEL, Nanos::from_millis(1), 1));
    let report = simulation.run(END);
    assert_eq!(report.ledger.submitted, report.ledger.answered, "{report}");
    assert_eq!(report.swaps.len(), policies.len(), "{report}");
}

#[test]
fn the_same_seed_and_bytes_give_the_same_report_over_links() {
    let one = || {
        let load = Workload::Poisson { per_second: 100.0, span: Nanos::from_secs(1) };
        run(setup(4.0, 50.0, 5), ("bps", "{}"), vec![], load, END).to_string()
    };
    assert_eq!(one(), one());
}
