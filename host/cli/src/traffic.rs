//! Load on a host through its HTTP port. Open loop: requests leave when the schedule says, whatever the answers do, and
//! latency counts from the scheduled moment, so that a stall shows in every request it delays. Closed loop: a fixed number
//! of clients, each asking again as soon as it is answered.

use crate::client::Client;
use crate::infer_wire::{self, Timing};
use crate::local::{DIGITS, Question, best_class};
use anyhow::{Result, bail};
use hyper::Method;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// A request to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shot {
    /// When, since the start of the run.
    pub(crate) at: Duration,
    /// To which part of the run it counts.
    pub(crate) segment: usize,
}

/// What became of a request.
#[derive(Clone, Debug)]
pub(crate) struct Hit {
    /// To which part of the run it counts.
    pub(crate) segment: usize,
    /// From its scheduled moment to the whole answer.
    pub(crate) latency: Duration,
    /// The answer, or why there is none.
    pub(crate) outcome: Result<Answered, String>,
}

/// An answered request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    /// The answer names the right digit.
    pub(crate) right: bool,
    /// Where the host says the time went.
    pub(crate) timing: Option<Timing>,
}

/// Sends every shot at its time, questions in turn, and reports each one's end exactly once. Returns when all were sent.
pub(crate) async fn open_loop(
    client: Client,
    questions: Arc<Vec<Question>>,
    shots: Vec<Shot>,
    begun: Instant,
    hits: mpsc::UnboundedSender<Hit>,
) -> Result<()> {
    let runtime = tokio::runtime::Handle::current();
    // A thread of its own: the runtime's timer is a millisecond coarse, which would show in every latency.
    let pacing = tokio::task::spawn_blocking(move || {
        for (number, shot) in shots.into_iter().enumerate() {
            let due = begun + shot.at;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let (client, questions, hits) = (client.clone(), Arc::clone(&questions), hits.clone());
            runtime.spawn(async move {
                let outcome = ask(&client, &questions[number % questions.len()]).await.map_err(|e| format!("{e:#}"));
                let latency = due.elapsed();
                // A run that is over has nobody left to tell.
                let _ = hits.send(Hit { segment: shot.segment, latency, outcome });
            });
        }
    });
    Ok(pacing.await?)
}

/// Asks one question.
pub(crate) async fn ask(client: &Client, question: &Question) -> Result<Answered> {
    let path = infer_wire::path(DIGITS, None);
    let request = &question.request;
    let answer = client.send(Method::POST, &path, &request.headers, request.body.clone()).await?;
    if !answer.status.is_success() {
        bail!("{}", client.refusal(&answer));
    }
    let reply = infer_wire::decode(&answer)?;
    let class = reply.outputs.first().and_then(|o| best_class(&o.tensor));
    Ok(Answered { right: class == Some(question.label), timing: reply.timing })
}

/// Keeps `clients` requests under way for a while. Returns requests answered per second.
pub(crate) async fn closed_loop(
    client: &Client,
    questions: &Arc<Vec<Question>>,
    clients: usize,
    span: Duration,
) -> Result<f64> {
    let answered = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..clients {
        let (client, questions, answered) = (client.clone(), Arc::clone(questions), Arc::clone(&answered));
        tasks.spawn(async move {
            let mut next = number * 7;
            while begun.elapsed() < span {
                ask(&client, &questions[next % questions.len()]).await?;
                next += 1;
                answered.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(answered.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64())
}
