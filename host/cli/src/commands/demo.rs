//! `bps demo`: the whole system in half a minute. A host in this process serves a digits model over HTTP on loopback;
//! requests keep coming while the scheduling policy is swapped through the admin port, again and again; at the end every
//! request has been answered and the table says what each policy made of the same load.

mod control;
mod plan;
mod report;

use crate::exit::EXIT_CODES;
use crate::local::{self, LocalHost, Question};
use crate::output::Output;
use crate::progress::{Ticker, say};
use crate::traffic::{self, Hit};
use anyhow::{Context, Result, bail};
use bps_engine::{DeviceRequest, RequestedKind};
use bps_node::{HostConfig, PolicyChoice};
use bps_types::policy::DeviceKind;
use control::{Steering, Steersman};
use report::{Report, Tally};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

const TEACH: &str = "\
What you see
  The processor is split into two devices (plus the GPU, where there is one). 8 x 8 scans of handwritten digits that the
  model was not trained on arrive at random moments (steady), then in bursts. local-only runs each request by itself on the
  device that is free first; batching waits a moment and runs requests together; round-robin takes the devices in turn. Each
  swap happens while requests are in flight. The last phase swaps as fast as it can.
  Latencies count from the moment a request was due, so that a pause would show in all that it delays. The client shares
  the processor with the host, as it would on a small device.
The demo fails (exit code 1) if one request is lost or the answers are wrong more often than the model's training allows.";

/// The demo.
#[derive(Clone, Debug, PartialEq, clap::Args)]
#[command(after_long_help = format!("{TEACH}\n\n{EXIT_CODES}"))]
pub(crate) struct DemoArgs {
    /// What arrivals are drawn from.
    #[arg(long, default_value_t = DemoArgs::default().seed)]
    seed: u64,
    /// Requests per second in the steady phases.
    #[arg(long, value_name = "REQUESTS", default_value_t = DemoArgs::default().rate, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    rate: u32,
    /// Requests in a burst.
    #[arg(long, value_name = "REQUESTS", default_value_t = DemoArgs::default().burst, value_parser = clap::value_parser!(u32).range(1..=500))]
    burst: u32,
    /// Seconds per phase: 4 policies have two each, and there is one of swaps.
    #[arg(long, default_value_t = DemoArgs::default().seconds, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
}

impl Default for DemoArgs {
    fn default() -> Self {
        Self { seed: 7, rate: 150, burst: 64, seconds: 3 }
    }
}

/// A request that has no answer after this long past the last one sent is lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs it.
pub(crate) async fn run(args: DemoArgs, out: Output) -> Result<()> {
    say("starting a host on this machine (devices, digits model, policy local-only) ...");
    let config = HostConfig {
        devices: devices(),
        policy: PolicyChoice { name_or_path: plan::POLICIES[0].into(), ..PolicyChoice::default() },
        state_dir: None,
        builtin_models: vec![local::digits_model()],
        ..HostConfig::default()
    };
    let local = LocalHost::start(config).await?;
    let names: Vec<String> = local.host.devices().iter().map(|d| d.name.clone()).collect();
    say(&format!("serving on {}; devices {}", local.client.endpoint(), names.join(", ")));
    let questions = Arc::new(local::digit_questions(&local.host)?);
    traffic::ask(&local.client, &questions[0]).await.context("the first request failed")?;

    let report = stream(&local, questions, &args).await?;
    let drained = local.stop().await;
    let report = report.with_ledger(drained.ledger);
    out.emit(&report, report::text)?;
    if let Some(wrong) = report.wrong() {
        bail!("{wrong}");
    }
    say(
        "\nnext\n  bps model make resnet18 -o net.onnx && bps serve --model net.onnx\n  bps policy inspect batching\n  bps bench swap",
    );
    Ok(())
}

/// Two halves of the processor, and every real GPU.
fn devices() -> Vec<DeviceRequest> {
    let request = |kind| DeviceRequest { kind, slowdown: 1.0 };
    let mut devices = vec![request(RequestedKind::Cpu { shares: 2 })];
    let gpus = bps_engine::adapters().into_iter().filter(|a| a.kind == DeviceKind::Gpu && a.not_taken.is_none());
    devices.extend(gpus.zip(0..).map(|(_, number)| request(RequestedKind::Gpu(number))));
    devices
}

/// Sends the whole schedule while the policy changes, and counts what comes back.
async fn stream(local: &LocalHost, questions: Arc<Vec<Question>>, args: &DemoArgs) -> Result<Report> {
    let segments = plan::segments(args);
    let shots = plan::shots(&segments, args.seed);
    let sent = shots.len();
    let begun = Instant::now() + Duration::from_millis(100);
    let (hits, received) = mpsc::unbounded_channel();
    let (ended, watched) = watch::channel(0usize);
    let counting = tokio::spawn(count(received, segments.len(), ended));
    let sending = tokio::spawn(traffic::open_loop(local.client.clone(), questions, shots, begun, hits));
    let ticker = Ticker::new();
    let steersman = Steersman { local, begun, ended: watched.clone(), ticker: &ticker, steering: Steering::default() };
    let steering = steersman.steer(&segments).await;
    sending.await??;
    // Every task holds a sender until it has reported: the count ends when the last one has.
    let abort = counting.abort_handle();
    let tallies = match tokio::time::timeout(PATIENCE, counting).await {
        Ok(tallies) => tallies?,
        Err(_) => {
            abort.abort();
            ticker.finish();
            bail!(
                "{} of {sent} requests have no answer {} s after the last was sent",
                sent - *watched.borrow(),
                PATIENCE.as_secs()
            );
        }
    };
    ticker.finish();
    Ok(Report::new(&segments, tallies, steering?, sent))
}

/// Adds up the hits of each segment until no sender is left.
async fn count(mut hits: mpsc::UnboundedReceiver<Hit>, segments: usize, ended: watch::Sender<usize>) -> Vec<Tally> {
    let mut tallies: Vec<Tally> = (0..segments).map(|_| Tally::new()).collect();
    while let Some(hit) = hits.recv().await {
        tallies[hit.segment].add(&hit);
        ended.send_modify(|n| *n += 1);
    }
    tallies
}
