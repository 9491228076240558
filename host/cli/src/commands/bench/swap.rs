//! Thousands of swaps under load: what they cost, and whether anything is lost.

use crate::latency::{Latencies, LatencySummary, micros_text};
use crate::local::{self, DIGITS, Question};
use crate::output::Output;
use crate::progress;
use crate::table;
use anyhow::{Context, Result, bail};
use bps_node::{Host, HostConfig, InferCall, NamedTensor, PolicyChoice, SwapRequest};
use bps_sched::Ledger;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The policies that take turns.
const POLICIES: [&str; 2] = ["local-only", "batching"];

#[derive(Debug, Serialize)]
struct Report {
    swaps: u64,
    seconds: f64,
    pause: LatencySummary,
    prepare: LatencySummary,
    requests: u64,
    replies: u64,
    lost: u64,
    /// Answers that the host counted and nobody received.
    duplicated: u64,
    latency: LatencySummary,
    rss_before_bytes: Option<u64>,
    rss_after_bytes: Option<u64>,
    ledger: Ledger,
}

/// What the clients count.
#[derive(Default)]
struct Counts {
    asked: AtomicU64,
    replied: AtomicU64,
    stop: AtomicBool,
}

/// Swaps while clients ask.
pub(super) async fn run(swaps: u32, clients: usize, out: Output) -> Result<()> {
    let config = HostConfig {
        devices: vec!["cpu".parse()?],
        policy: PolicyChoice { name_or_path: POLICIES[0].into(), ..PolicyChoice::default() },
        state_dir: None,
        builtin_models: vec![local::digits_model()],
        ..HostConfig::default()
    };
    let host = Host::start(config).await.context("the host did not start")?;
    let questions = Arc::new(local::digit_questions(&host)?);
    let counts = Arc::new(Counts::default());
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..clients {
        tasks.spawn(client(host.clone(), Arc::clone(&questions), Arc::clone(&counts), number));
    }
    // Every pool and both policies are warm before memory is read the first time.
    for number in 0..200.min(swaps) {
        swap(&host, number).await?;
    }
    let rss_before_bytes = resident_bytes();
    let (mut pause, mut prepare) = (Latencies::new(), Latencies::new());
    let bar = progress::bar(swaps.into(), "swapping");
    let begun = Instant::now();
    for number in 0..swaps {
        let report = swap(&host, number).await?;
        pause.record(Duration::from_secs_f64(report.pause_us.max(0.0) / 1e6));
        prepare.record(Duration::from_secs_f64(report.prepare_ms.max(0.0) / 1e3));
        bar.inc(1);
    }
    let seconds = begun.elapsed().as_secs_f64();
    bar.finish_and_clear();
    let rss_after_bytes = resident_bytes();
    counts.stop.store(true, Ordering::Release);
    let mut latency = Latencies::new();
    while let Some(ended) = tasks.join_next().await {
        latency.merge(&ended??);
    }
    let ledger = host.drain().await.ledger;
    let (requests, replies) = (counts.asked.load(Ordering::Acquire), counts.replied.load(Ordering::Acquire));
    let report = Report {
        swaps: swaps.into(),
        seconds,
        pause: pause.summary(),
        prepare: prepare.summary(),
        requests,
        replies,
        lost: requests.saturating_sub(replies),
        duplicated: ledger.answered.saturating_sub(replies),
        latency: latency.summary(),
        rss_before_bytes,
        rss_after_bytes,
        ledger,
    };
    out.emit(&report, text)?;
    if report.lost + report.duplicated > 0 {
        bail!("{} requests were lost and {} answered twice", report.lost, report.duplicated);
    }
    Ok(())
}

async fn swap(host: &Host, number: u32) -> Result<bps_node::SwapReport> {
    let policy = POLICIES[(number as usize + 1) % POLICIES.len()].to_owned();
    let request = SwapRequest { policy, rehearse: false, ..SwapRequest::default() };
    host.swap_policy(request).await.with_context(|| format!("swap {number} failed"))
}

/// Asks until told to stop; a request that is not answered ends the benchmark.
async fn client(host: Host, questions: Arc<Vec<Question>>, counts: Arc<Counts>, number: usize) -> Result<Latencies> {
    let mut latency = Latencies::new();
    let mut next = number * 7;
    while !counts.stop.load(Ordering::Acquire) {
        let input = questions[next % questions.len()].input.clone();
        let inputs = vec![NamedTensor { name: input.name, tensor: input.tensor }];
        let begun = Instant::now();
        counts.asked.fetch_add(1, Ordering::AcqRel);
        host.infer(InferCall { model: DIGITS.into(), inputs, ..InferCall::default() })
            .await
            .context("a request failed")?;
        counts.replied.fetch_add(1, Ordering::AcqRel);
        latency.record(begun.elapsed());
        next += 1;
    }
    Ok(latency)
}

/// Memory of this process that is in use; only Linux tells so simply.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

fn text(report: &Report) -> String {
    let memory = match (report.rss_before_bytes, report.rss_after_bytes) {
        (Some(before), Some(after)) => {
            let growth = after.saturating_sub(before) as f64 / report.swaps.max(1) as f64;
            format!("{} before, {} after: {growth:.0} bytes a swap", table::bytes(before), table::bytes(after))
        }
        _ => "this system does not tell".into(),
    };
    let line = |s: &LatencySummary| {
        format!("p50 {}, p99 {}, max {}", micros_text(s.p50_us), micros_text(s.p99_us), micros_text(s.max_us))
    };
    format!(
        "swaps       {} in {:.1} s, between {} and {}\npause       {}\nprepare     {}\nrequests    {} asked, {} answered, {} lost, \
         {} answered twice\nlatency     {}\nmemory      {memory}\n",
        table::count(report.swaps),
        report.seconds,
        POLICIES[0],
        POLICIES[1],
        line(&report.pause),
        line(&report.prepare),
        table::count(report.requests),
        table::count(report.replies),
        report.lost,
        report.duplicated,
        line(&report.latency),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_is_read() {
        assert!(resident_bytes().unwrap() > 1 << 20);
    }
}
