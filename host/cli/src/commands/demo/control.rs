//! The administrator of the demo: swaps policies through the admin port at the planned moments and notes what the host
//! says about each phase.

use super::plan::{POLICIES, Segment};
use crate::client::Client;
use crate::latency::micros_text;
use crate::local::LocalHost;
use crate::progress::Ticker;
use crate::table::count;
use anyhow::{Context, Result};
use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Receipts a host keeps; a segment of the demo leaves fewer.
const RECEIPTS: usize = 4_096;
/// Pause between two swaps of the last phase: each is to meet requests in flight, not the previous swap.
const SWAP_EVERY: Duration = Duration::from_millis(15);

/// What the host said over the run.
#[derive(Debug, Default)]
pub(super) struct Steering {
    /// One per segment.
    pub(super) phases: Vec<PhaseNote>,
    /// Pause of every swap, microseconds.
    pub(super) pauses_us: Vec<f64>,
    /// Swaps that met requests in the house, waiting or running.
    pub(super) met_requests: u64,
}

/// What the host said about one segment.
#[derive(Clone, Debug, Default)]
pub(super) struct PhaseNote {
    /// Name of the policy that decided at the end.
    pub(super) policy: String,
    /// Its digest.
    pub(super) digest: String,
    /// Rows per execution, mean.
    pub(super) mean_batch: f64,
    /// Median decision, microseconds.
    pub(super) decide_p50_us: f64,
    /// 99th percentile of decisions, microseconds.
    pub(super) decide_p99_us: f64,
}

#[derive(Deserialize)]
struct Status {
    active: Active,
    decide: Decide,
}

#[derive(Deserialize)]
struct Active {
    name: String,
    digest: String,
}

#[derive(Deserialize)]
struct Decide {
    p50_us: f64,
    p99_us: f64,
}

#[derive(Deserialize)]
struct Receipt {
    at: u64,
    rows: u64,
}

/// The administrator at work.
pub(super) struct Steersman<'a> {
    /// The host, for the one figure that must not wait for an exchange: how many requests are in the house.
    pub(super) local: &'a LocalHost,
    /// When the run began.
    pub(super) begun: Instant,
    /// Requests that have ended.
    pub(super) ended: watch::Receiver<usize>,
    /// Where progress is shown.
    pub(super) ticker: &'a Ticker,
    /// What it has noted.
    pub(super) steering: Steering,
}

impl Steersman<'_> {
    /// Goes through the segments as time passes.
    pub(super) async fn steer(mut self, segments: &[Segment]) -> Result<Steering> {
        let mut seen_until = 0;
        let mut active = POLICIES[0];
        for segment in segments {
            tokio::time::sleep_until((self.begun + segment.begins).into()).await;
            match segment.policy {
                Some(policy) if policy != active => {
                    self.swap_and_say(active, policy).await?;
                    active = policy;
                }
                Some(_) => {}
                None => self.swaps(self.begun + segment.ends()).await?,
            }
            self.watch_over(segment).await;
            let note = note(&self.local.admin, &mut seen_until).await;
            self.steering.phases.push(note.context("the host did not say how the phase went")?);
        }
        Ok(self.steering)
    }

    /// Waits for the end of a segment, saying how far it is.
    async fn watch_over(&self, segment: &Segment) {
        let ends = self.begun + segment.ends();
        let name = segment.policy.unwrap_or("swapping");
        while Instant::now() < ends {
            let done = count(*self.ended.borrow() as u64);
            self.ticker.tick(&format!("{name}, {}: {done} requests answered", segment.load_name()));
            let next = Instant::now() + Duration::from_millis(100);
            tokio::time::sleep_until(next.min(ends).into()).await;
        }
    }

    /// A swap as a careful administrator makes it, with rehearsal and state.
    async fn swap_and_say(&mut self, from: &str, to: &str) -> Result<()> {
        let (before, began) = (*self.ended.borrow(), Instant::now());
        let pause_us = self.swap(to, true).await?;
        let (meanwhile, took) = (*self.ended.borrow() - before, began.elapsed());
        let pause = micros_text(pause_us);
        self.ticker.say(&format!(
            "swapped {from} -> {to} in {} ms; {meanwhile} requests were answered meanwhile, dispatch paused {pause}",
            took.as_millis()
        ));
        Ok(())
    }

    /// Swaps to and fro until then.
    async fn swaps(&mut self, until: Instant) -> Result<()> {
        let (before, met_before) = (self.steering.pauses_us.len(), self.steering.met_requests);
        for policy in [POLICIES[0], POLICIES[1]].into_iter().cycle() {
            if Instant::now() + SWAP_EVERY > until {
                break;
            }
            self.swap(policy, false).await?;
            self.ticker.tick(&format!("swapping: {} swaps", self.steering.pauses_us.len() - before));
            tokio::time::sleep(SWAP_EVERY).await;
        }
        let (swaps, met) = (self.steering.pauses_us.len() - before, self.steering.met_requests - met_before);
        self.ticker.say(&format!("swapped {swaps} times in a row; {met} of them met requests waiting or running"));
        Ok(())
    }

    /// One swap through the admin port. Gives the pause in microseconds.
    async fn swap(&mut self, policy: &str, rehearse: bool) -> Result<f64> {
        let in_house = || {
            let ledger = self.local.host.ledger();
            ledger.waiting + ledger.running
        };
        let before = in_house();
        let request = json!({ "policy": policy, "carry_state": true, "rehearse": rehearse });
        let report = self.local.admin.json(Method::POST, "/v1/policy/swap", Some(&request)).await;
        let report = report.with_context(|| format!("the swap to {policy} failed"))?;
        let pause_us = report["pause_us"].as_f64().context("the host did not say how long the swap paused dispatch")?;
        let met = before + in_house() > 0;
        self.steering.pauses_us.push(pause_us);
        self.steering.met_requests += u64::from(met);
        Ok(pause_us)
    }
}

async fn status(admin: &Client) -> Result<Status> {
    let answer = admin.json(Method::GET, "/v1/status", None).await?;
    let inner = answer.get("policy").unwrap_or(&answer);
    Status::deserialize(inner).context("the status is not understood")
}

/// How it went since the last note. `seen_until` is the host's time of the last receipt that was counted.
async fn note(admin: &Client, seen_until: &mut u64) -> Result<PhaseNote> {
    let status = status(admin).await?;
    let answer: Value = admin.json(Method::GET, &format!("/v1/receipts?last={RECEIPTS}"), None).await?;
    let receipts: Vec<Receipt> = Vec::deserialize(answer.get("receipts").unwrap_or(&answer))?;
    let new: Vec<&Receipt> = receipts.iter().filter(|r| r.at > *seen_until).collect();
    let rows: u64 = new.iter().map(|r| r.rows).sum();
    *seen_until = receipts.iter().map(|r| r.at).max().unwrap_or(*seen_until);
    Ok(PhaseNote {
        policy: status.active.name,
        digest: status.active.digest,
        mean_batch: rows as f64 / new.len().max(1) as f64,
        decide_p50_us: status.decide.p50_us,
        decide_p99_us: status.decide.p99_us,
    })
}
