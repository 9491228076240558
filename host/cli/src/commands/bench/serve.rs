//! What serving costs over HTTP, and how much goes through, policy by policy.

use crate::arrivals::{Load, schedule};
use crate::exit::usage;
use crate::latency::{Latencies, median, micros_text};
use crate::local::{self, LocalHost, Question};
use crate::output::Output;
use crate::progress;
use crate::table::Table;
use crate::traffic::{self, Answered, Shot};
use anyhow::{Context, Result, anyhow, bail};
use bps_engine::DeviceRequest;
use bps_node::{HostConfig, PolicyStatusView, SwapRequest};
use bytes::Bytes;
use hyper::Method;
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Name in the table, policy, configuration. The first is what the others are compared with.
const CONTENDERS: [(&str, &str, &str); 4] = [
    ("local-only", "local-only", ""),
    ("batching", "batching", ""),
    ("batching, aimd", "batching", r#"{"mode":"aimd"}"#),
    ("round-robin", "round-robin", ""),
];

/// How often a policy is tried again after the host went back to another.
const TRIES: u32 = 3;

/// What is measured, and for how long.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    /// Requests per second of the low load.
    pub(super) rate: u32,
    /// Clients at saturation.
    pub(super) clients: usize,
    /// Time for each measurement.
    pub(super) span: Duration,
    /// How often the policies take turns.
    pub(super) rounds: u32,
    /// Devices as written.
    pub(super) devices: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Report {
    devices: Vec<String>,
    rate: u32,
    clients: usize,
    span_seconds: f64,
    rounds: u32,
    /// What HTTP alone takes here: a health request, one after another.
    bare_http_p50_us: f64,
    policies: Vec<Row>,
}

/// Medians over the rounds.
#[derive(Debug, Serialize)]
struct Row {
    policy: &'static str,
    /// One client, one request after another: nothing ever waits.
    alone: Quiet,
    alone_overhead_max_us: f64,
    /// Requests at random moments, the machine idle between them.
    sparse: Quiet,
    requests_per_second: f64,
    requests_per_second_min: f64,
    /// Median of the ratios within each round.
    throughput_over_first: f64,
    /// Measurements that were thrown away since the host had gone back to another policy.
    rolled_back: u32,
}

/// Medians of single requests at a load that fills nothing.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Quiet {
    total_us: f64,
    device_us: f64,
    /// Total less device, request by request.
    overhead_us: f64,
}

/// One policy in one round.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    alone: Quiet,
    sparse: Quiet,
    per_second: f64,
}

/// Measures and shows.
pub(super) async fn run(setup: &Setup, out: Output) -> Result<()> {
    let devices: Result<Vec<DeviceRequest>, _> = setup.devices.iter().map(|d| d.parse::<DeviceRequest>()).collect();
    let config = HostConfig {
        devices: devices.map_err(|e| usage(format!("--device {e}")))?,
        state_dir: None,
        builtin_models: vec![local::digits_model()],
        ..HostConfig::default()
    };
    let local = LocalHost::start(config).await?;
    let questions = Arc::new(local::digit_questions(&local.host)?);
    let mut samples = vec![Vec::new(); CONTENDERS.len()];
    let bare_http_p50_us = bare_http(&local, setup).await?;
    let mut rolled_back = [0; CONTENDERS.len()];
    let bar = progress::bar(u64::from(setup.rounds) * CONTENDERS.len() as u64, "serving");
    for round in 0..setup.rounds {
        for (number, (name, policy, config)) in CONTENDERS.into_iter().enumerate() {
            bar.set_message(name);
            let measured = one(&local, &questions, setup, round, (policy, config)).await;
            let (taken, back) = measured.with_context(|| format!("measuring {name}"))?;
            samples[number].push(taken);
            rolled_back[number] += back;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let names = local.host.devices().into_iter().map(|d| d.name).collect();
    local.stop().await;
    let report = Report {
        devices: names,
        rate: setup.rate,
        clients: setup.clients,
        span_seconds: setup.span.as_secs_f64(),
        rounds: setup.rounds,
        bare_http_p50_us,
        policies: (0..CONTENDERS.len())
            .map(|n| row(CONTENDERS[n].0, &samples[n], &samples[0], rolled_back[n]))
            .collect(),
    };
    out.emit(&report, text)
}

/// One policy's turn. A host that finds a policy too slow, or broken, goes back to the one before, which must not be
/// measured in its place: then it is tried again. Also gives how often that was.
async fn one(
    local: &LocalHost,
    questions: &Arc<Vec<Question>>,
    setup: &Setup,
    round: u32,
    (policy, config): (&str, &str),
) -> Result<(Sample, u32)> {
    let mut last = String::new();
    for rolled_back in 0..TRIES {
        let generation = swap(local, policy, config).await?;
        let taken = sample(local, questions, setup, round).await?;
        match decided_to_the_end(generation, &local.host.policy_status()) {
            Ok(()) => return Ok((taken, rolled_back)),
            Err(instead) => last = instead,
        }
    }
    bail!(
        "{policy} was not left to decide in any of {TRIES} tries, the last time {last}; a figure would be another policy's. Is the \
         machine busy with something else?"
    )
}

/// Whether the generation that was measured still decides; what happened instead, otherwise. Not by name: the policy that a
/// host goes back to may be the same one set up in another way.
fn decided_to_the_end(generation: u32, after: &PolicyStatusView) -> Result<(), String> {
    if after.generation == generation {
        return Ok(());
    }
    let fault = after.last_fault.as_ref().map_or_else(String::new, |fault| format!(" (last fault: {fault})"));
    let (name, now) = (&after.active.name, after.generation);
    Err(format!("generation {now} of {name} decided at the end in place of generation {generation}{fault}"))
}

/// The generation that decides from now on.
async fn swap(local: &LocalHost, policy: &str, config: &str) -> Result<u32> {
    let request =
        SwapRequest { policy: policy.into(), config: config.into(), rehearse: false, ..SwapRequest::default() };
    let report = local.host.swap_policy(request).await.with_context(|| format!("the swap to {policy} failed"))?;
    Ok(report.generation)
}

async fn sample(local: &LocalHost, questions: &Arc<Vec<Question>>, setup: &Setup, round: u32) -> Result<Sample> {
    let alone = alone(local, questions, setup).await?;
    let sparse = sparse(local, questions, setup, round).await?;
    let per_second = traffic::closed_loop(&local.client, questions, setup.clients, setup.span).await?;
    Ok(Sample { alone, sparse, per_second })
}

/// Collects single requests.
struct Collector {
    total: Latencies,
    device: Latencies,
    overhead: Latencies,
}

impl Collector {
    fn new() -> Self {
        Self { total: Latencies::new(), device: Latencies::new(), overhead: Latencies::new() }
    }

    fn add(&mut self, latency: Duration, answered: Answered) -> Result<()> {
        let compute_ms = answered.timing.context("the host does not say how long the device took")?.compute_ms;
        let compute = Duration::from_secs_f64(compute_ms.max(0.0) / 1e3);
        self.total.record(latency);
        self.device.record(compute);
        self.overhead.record(latency.saturating_sub(compute));
        Ok(())
    }

    fn medians(&self) -> Quiet {
        Quiet {
            total_us: self.total.summary().p50_us,
            device_us: self.device.summary().p50_us,
            overhead_us: self.overhead.summary().p50_us,
        }
    }
}

async fn alone(local: &LocalHost, questions: &[Question], setup: &Setup) -> Result<Quiet> {
    let mut collected = Collector::new();
    let begun = Instant::now();
    for question in questions.iter().cycle() {
        let sent = Instant::now();
        let answered = traffic::ask(&local.client, question).await?;
        collected.add(sent.elapsed(), answered)?;
        if begun.elapsed() >= setup.span {
            break;
        }
    }
    Ok(collected.medians())
}

async fn sparse(local: &LocalHost, questions: &Arc<Vec<Question>>, setup: &Setup, round: u32) -> Result<Quiet> {
    let times = schedule(Load::Poisson { rate: setup.rate.into() }, setup.span, round.into());
    let shots = times.into_iter().map(|at| Shot { at, segment: 0 }).collect();
    let (hits, mut received) = mpsc::unbounded_channel();
    let begun = Instant::now() + Duration::from_millis(20);
    traffic::open_loop(local.client.clone(), Arc::clone(questions), shots, begun, hits).await?;
    let mut collected = Collector::new();
    while let Some(hit) = received.recv().await {
        collected.add(hit.latency, hit.outcome.map_err(|e| anyhow!(e))?)?;
    }
    Ok(collected.medians())
}

/// Median time of a request that reaches no model.
async fn bare_http(local: &LocalHost, setup: &Setup) -> Result<f64> {
    let mut times = Latencies::new();
    let begun = Instant::now();
    while begun.elapsed() < setup.span {
        let sent = Instant::now();
        local.client.send(Method::GET, "/v2/health/live", &[], Bytes::new()).await?;
        times.record(sent.elapsed());
    }
    Ok(times.summary().p50_us)
}

fn row(policy: &'static str, own: &[Sample], first: &[Sample], rolled_back: u32) -> Row {
    let all = |of: fn(&Sample) -> f64| own.iter().map(of).collect::<Vec<f64>>();
    let middle = |of: fn(&Sample) -> f64| median(&all(of)).unwrap_or(0.0);
    let ratios: Vec<f64> = own.iter().zip(first).map(|(a, b)| a.per_second / b.per_second).collect();
    let quiet = |of: fn(&Sample) -> Quiet| {
        let middle =
            |part: fn(&Quiet) -> f64| median(&own.iter().map(|s| part(&of(s))).collect::<Vec<_>>()).unwrap_or(0.0);
        Quiet {
            total_us: middle(|q| q.total_us),
            device_us: middle(|q| q.device_us),
            overhead_us: middle(|q| q.overhead_us),
        }
    };
    Row {
        policy,
        alone: quiet(|s| s.alone),
        alone_overhead_max_us: all(|s| s.alone.overhead_us).into_iter().fold(0.0, f64::max),
        sparse: quiet(|s| s.sparse),
        requests_per_second: middle(|s| s.per_second),
        requests_per_second_min: all(|s| s.per_second).into_iter().fold(f64::INFINITY, f64::min),
        throughput_over_first: median(&ratios).unwrap_or(0.0),
        rolled_back,
    }
}

fn text(report: &Report) -> String {
    let first = format!(">vs {}", CONTENDERS[0].0);
    let mut table = Table::new(&[
        "policy",
        ">alone p50",
        ">device",
        ">overhead",
        ">worst round",
        ">sparse p50",
        ">overhead",
        ">saturated req/s",
        ">worst round",
        &first,
    ]);
    for row in &report.policies {
        table.row([
            row.policy.to_owned(),
            micros_text(row.alone.total_us),
            micros_text(row.alone.device_us),
            micros_text(row.alone.overhead_us),
            micros_text(row.alone_overhead_max_us),
            micros_text(row.sparse.total_us),
            micros_text(row.sparse.overhead_us),
            format!("{:.0}", row.requests_per_second),
            format!("{:.0}", row.requests_per_second_min),
            format!("{:.2}x", row.throughput_over_first),
        ]);
    }
    let rolled_back: u32 = report.policies.iter().map(|p| p.rolled_back).sum();
    let thrown_away = if rolled_back == 0 {
        String::new()
    } else {
        format!(
            "\n{rolled_back} measurements were thrown away: the host had found the policy too slow and gone back to another"
        )
    };
    format!(
        "{table}\nmedians of {} rounds of {:.1} s; digits over HTTP on loopback, client in the same process, devices {}\n\
         alone: one client, one request after another; sparse: {} requests/s at random moments, from the moment each was due\n\
         saturated: {} clients, each asking again at once; overhead: a request's time less its time on the device\n\
         a request that reaches no model takes {} here{thrown_away}\n",
        report.rounds,
        report.span_seconds,
        report.devices.join(", "),
        report.rate,
        report.clients,
        micros_text(report.bare_http_p50_us),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use bps_node::ProfileChoice;

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_measured_is_never_another_policys() {
        let config = HostConfig {
            devices: vec!["cpu".parse().expect("a device")],
            state_dir: None,
            profile: ProfileChoice::Off,
            builtin_models: vec![local::digits_model()],
            ..HostConfig::default()
        };
        let local = LocalHost::start(config).await.expect("it starts");
        let questions = Arc::new(local::digit_questions(&local.host).expect("digits are served"));
        local.host.load_policy(bps_plugin::prebuilt::CHAOS.wasm.to_vec(), "test".into()).await.expect("it loads");
        let span = Duration::from_millis(50);
        let setup = Setup { rate: 100, clients: 2, span, rounds: 1, devices: vec![] };
        let (sample, _) = one(&local, &questions, &setup, 0, ("chaos", "")).await.expect("it is measured");
        assert!(sample.per_second > 0.0);
        // The same policy set up so that it fails: the host goes back to the one above, of the same name.
        let failing = r#"{"mode": "unreachable", "after": 3}"#;
        let error = one(&local, &questions, &setup, 0, ("chaos", failing)).await.expect_err("another one decided");
        let error = format!("{error:#}");
        assert!(error.contains("another policy's") && error.contains("of chaos decided at the end"), "{error}");
        local.stop().await;
    }

    #[test]
    fn ratios_are_within_rounds() {
        let samples = |list: [f64; 3]| {
            list.map(|per_second| {
                let alone = Quiet { overhead_us: 10.0, ..Quiet::default() };
                Sample { per_second, alone, ..Sample::default() }
            })
        };
        // The machine slows down over the rounds; the second policy is always twice as fast.
        let (first, second) = (samples([300.0, 200.0, 100.0]), samples([600.0, 400.0, 200.0]));
        let row = row("b", &second, &first, 0);
        assert_eq!(
            (row.throughput_over_first, row.requests_per_second, row.requests_per_second_min),
            (2.0, 400.0, 200.0)
        );
        assert_eq!((row.alone.overhead_us, row.alone_overhead_max_us), (10.0, 10.0));
    }
}
