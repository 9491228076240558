//! The measurement: cells, and in each the policies in turn, run by run.

use super::dispatch::{self, Dispatch};
use super::figures::{self, Event, Figures};
use super::host::HostProcess;
use super::load::{self, Answer, Shape, Work};
use super::plan::{Cell, Contender, ModelChoice, variant};
use super::report::{CellReport, Row};
use super::session::{HostPlan, Session, client};
use super::statistics;
use super::trace::{HostPart, Moment, Trace};
use super::{load::Questions, network::Network};
use crate::link::LinkChoice;
use anyhow::{Context, Result};
use bps_emulator::{Fault, Script};
use indicatif::ProgressBar;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How often a policy is tried again after the host went back to another.
const TRIES: usize = 3;
/// How often receipts are read in a run in which something is done to the system: a host keeps 4,096.
const KEEP_EVERY: Duration = Duration::from_millis(1_000);
/// How long hosts and link are under load before the first run of a cell.
const WARM_UP: Duration = Duration::from_secs(2);
/// From now to the beginning of a run: threads have started by then.
const AHEAD: Duration = Duration::from_millis(50);

/// What is measured, and how.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    /// Policies in the order of the table.
    pub(super) contenders: Vec<Contender>,
    /// The one that is compared with the others.
    pub(super) subject: String,
    /// Models.
    pub(super) models: Vec<ModelChoice>,
    /// Slow-downs of the weak hosts.
    pub(super) slowdowns: Vec<f64>,
    /// Links.
    pub(super) links: Vec<LinkChoice>,
    /// How requests come.
    pub(super) shape: Shape,
    /// Interleaved runs.
    pub(super) runs: u32,
    /// Of each.
    pub(super) span: Duration,
    /// Before it.
    pub(super) settle: Duration,
    /// How long an answer is of use.
    pub(super) deadline: Option<Duration>,
    /// What changes the links in each run.
    pub(super) script: Script,
    /// When the server is killed in each run.
    pub(super) kill_at: Option<Duration>,
    /// When it is started again; none: after the run.
    pub(super) restart_at: Option<Duration>,
    /// What arrivals are drawn from.
    pub(super) seed: u64,
}

impl Setup {
    /// Measurements in all.
    pub(super) fn measurements(&self) -> u64 {
        let cells = self.models.len() * self.slowdowns.len() * self.links.len();
        (cells * self.contenders.len()) as u64 * u64::from(self.runs)
    }

    /// Nothing is done to the system during a run.
    fn is_steady(&self) -> bool {
        self.script.is_empty() && self.kill_at.is_none()
    }
}

/// Something to be done during a run.
enum Deed {
    Link(bps_emulator::Step),
    Kill,
    Restart,
}

/// A measurement under way.
pub(super) struct Measure<'a> {
    /// What.
    pub(super) setup: &'a Setup,
    /// The beginning of the time line.
    pub(super) epoch: Instant,
    /// How far it is.
    pub(super) bar: &'a ProgressBar,
    /// The last run of each policy and cell, where a trace is wanted.
    pub(super) trace: Option<Trace>,
}

impl Measure<'_> {
    /// All cells.
    pub(super) async fn all(
        &mut self,
        plan: &HostPlan,
        network: &Arc<Network>,
        known: Session,
    ) -> Result<Vec<CellReport>> {
        let setup = self.setup;
        let mut cells = Vec::new();
        let mut running = Some((setup.slowdowns[0], known));
        for &slowdown in &setup.slowdowns {
            let mut session = match running.take() {
                Some((of, session)) if of == slowdown => session,
                // The old hosts end before the new ones take their ports.
                other => {
                    drop(other);
                    self.bar.set_message("starting hosts");
                    Session::start(plan, network, slowdown).await?
                }
            };
            for model in &setup.models {
                let mut questions = Vec::with_capacity(setup.contenders.len());
                for contender in &setup.contenders {
                    let name = variant(&model.name(), &contender.codecs);
                    let asked = session.questions(&name, model.content(plan.data), setup.deadline).await?;
                    questions.push(Arc::new(asked));
                }
                for link in &setup.links {
                    let cell = Cell { model: model.name(), slowdown, link: *link };
                    let place = cell.text();
                    cells.push(self.cell(&mut session, cell, &questions).await.with_context(|| place)?);
                }
            }
        }
        Ok(cells)
    }

    /// `questions` are those of each contender.
    async fn cell(&mut self, session: &mut Session, cell: Cell, questions: &[Arc<Questions>]) -> Result<CellReport> {
        let setup = self.setup;
        let mut rows: Vec<Row> = setup
            .contenders
            .iter()
            .map(|c| Row { policy: c.label.clone(), throughput: None, rolled_back: Vec::new(), runs: Vec::new() })
            .collect();
        self.bar.set_message("warming up");
        self.warm_up(session, &cell, &questions[0]).await?;
        for round in 0..setup.runs {
            for ((contender, questions), row) in setup.contenders.iter().zip(questions).zip(&mut rows) {
                self.bar.set_message(contender.label.clone());
                let (run, rolled_back) = self.run(session, &cell, questions, contender, round).await?;
                row.runs.push(run);
                row.rolled_back.extend(rolled_back);
                self.bar.inc(1);
            }
        }
        for row in &mut rows {
            let throughputs: Vec<f64> = row.runs.iter().map(|f| f.throughput).collect();
            row.throughput = statistics::interval(&throughputs);
        }
        // Less than one answer in a run cannot be told from none.
        let floor = 0.5 / setup.span.as_secs_f64();
        Ok(CellReport::new(cell, rows, &setup.subject, floor))
    }

    /// Load that is not counted. The first one over a new link, on hosts that have just started, says more of these than of
    /// the policy that happens to come first.
    async fn warm_up(&self, session: &mut Session, cell: &Cell, questions: &Arc<Questions>) -> Result<()> {
        let setup = self.setup;
        session.network.set(cell.link.conditions(), Fault::None);
        session.heal().await?;
        session.swap(&setup.contenders[0], setup.seed).await?;
        let begins = Instant::now() + AHEAD;
        let (span, opens) = (Duration::ZERO, begins + WARM_UP);
        let work = Work { shape: setup.shape, settle: WARM_UP, span, seed: setup.seed, opens };
        for load in loads(session, questions, work, begins).await? {
            load.await.context("a thread of load panicked")??;
        }
        Ok(())
    }

    /// One run of one policy; again where the host went back to another policy under way, with what it said of that.
    async fn run(
        &mut self,
        session: &mut Session,
        cell: &Cell,
        questions: &Arc<Questions>,
        contender: &Contender,
        round: u32,
    ) -> Result<(Figures, Vec<String>)> {
        let mut rolled_back = Vec::new();
        loop {
            let (figures, active) = self.once(session, cell, questions, contender, round).await?;
            if active == contender.policy.split('@').next().unwrap_or_default() || rolled_back.len() == TRIES {
                return Ok((figures, rolled_back));
            }
            let said = session.edges[0].said_last("rolled back");
            rolled_back.push(said.unwrap_or_else(|| format!("{active} decided in the end")));
        }
    }

    async fn once(
        &mut self,
        session: &mut Session,
        cell: &Cell,
        questions: &Arc<Questions>,
        contender: &Contender,
        round: u32,
    ) -> Result<(Figures, String)> {
        let setup = self.setup;
        let start = cell.link.conditions();
        session.network.set(start, Fault::None);
        session.heal().await?;
        let swap_pause_us = session.swap(contender, setup.seed).await?;
        let begins = Instant::now() + AHEAD;
        let opens = begins + setup.settle;
        self.moment(begins, "policy", format!("{} decides", contender.label));
        self.moment(opens, "run", format!("{}: run {} of {}", cell.text(), round + 1, setup.runs));
        let carried_before = session.network.carried_bytes();
        let seed = setup.seed.wrapping_add(u64::from(round));
        let work = Work { shape: setup.shape, settle: setup.settle, span: setup.span, seed, opens };
        let loads = loads(session, questions, work, begins).await?;
        let (events, early) = self.under_way(session, start, opens).await?;
        let mut answers = Vec::new();
        for load in loads {
            answers.extend(load.await.context("a thread of load panicked")??);
        }
        answers.sort_by(|a, b| a.at.total_cmp(&b.at));
        let carried = session.network.carried_bytes() - carried_before;
        let mut figures = figures::of_answers(&answers, setup.span, setup.deadline, setup.is_steady());
        figures.swap_pause_us = swap_pause_us;
        figures.wire_bytes_per_request = (!answers.is_empty()).then(|| carried as f64 / answers.len() as f64);
        let status = session.edges[0].ask("/v1/status").await?;
        figures.decide_p50_us = status["policy"]["decide"]["p50_us"].as_f64();
        figures.decide_p99_us = status["policy"]["decide"]["p99_us"].as_f64();
        let parts = self.parts(session, begins, early).await?;
        let (mut own, mut plans) = (Vec::new(), Vec::new());
        let opened = nanos(opens, self.epoch);
        for part in parts.iter().take(session.edges.len()) {
            for one in part.dispatches.iter().filter(|d| d.is_own()) {
                let at = (one.at as i64 - part.clock_offset - opened) as f64 / 1e9;
                if at >= 0.0 && at < setup.span.as_secs_f64() {
                    own.push(one.clone());
                }
                plans.push((at, one.plan()));
            }
        }
        plans.sort_by(|a, b| a.0.total_cmp(&b.0));
        figures::add_dispatches(&mut figures, &own);
        figures.reactions = figures::reactions(&events, &answers, &plans, setup.span, setup.deadline);
        if round + 1 == setup.runs
            && let Some(trace) = &mut self.trace
        {
            trace.stretch(&parts);
        }
        let active = status["policy"]["active"]["name"].as_str().unwrap_or_default().to_owned();
        Ok((figures, active))
    }

    /// Does to the system what the run asks for, at its times, and meanwhile keeps the receipts of the weak hosts: what
    /// is done early in a long run would else be forgotten by its end. A steady run is left alone.
    async fn under_way(
        &mut self,
        session: &mut Session,
        start: bps_emulator::Conditions,
        opens: Instant,
    ) -> Result<(Vec<Event>, Vec<Vec<Dispatch>>)> {
        let setup = self.setup;
        let Session { network, edges, server } = session;
        if setup.is_steady() {
            return Ok((Vec::new(), vec![Vec::new(); edges.len()]));
        }
        let closes = opens + setup.span;
        tokio::try_join!(self.deeds(network, server, start, opens), keep_receipts(edges, closes))
    }

    async fn deeds(
        &mut self,
        network: &Network,
        server: &mut HostProcess,
        start: bps_emulator::Conditions,
        opens: Instant,
    ) -> Result<Vec<Event>> {
        let setup = self.setup;
        let steps = setup.script.steps(start).into_iter();
        let mut deeds: Vec<(Duration, Deed)> = steps.map(|s| (s.at.duration(), Deed::Link(s))).collect();
        deeds.extend(setup.kill_at.map(|at| (at, Deed::Kill)));
        deeds.extend(setup.restart_at.map(|at| (at, Deed::Restart)));
        deeds.sort_by_key(|(at, _)| *at);
        let mut events = Vec::new();
        for (at, deed) in deeds.into_iter().filter(|(at, _)| *at < setup.span) {
            tokio::time::sleep_until((opens + at).into()).await;
            let begun = Instant::now();
            let (done, kind, text) = match deed {
                Deed::Link(step) => {
                    network.set(step.conditions, step.fault);
                    if step.corrupt {
                        network.corrupt();
                    }
                    if step.readdress {
                        network.roam()?;
                    }
                    (begun, "link", step.text)
                }
                Deed::Kill => {
                    server.kill();
                    (begun, "host", "server killed".to_owned())
                }
                Deed::Restart => {
                    server.restart().await?;
                    // It takes its time, and counts from when it serves.
                    (Instant::now(), "host", "server serves again".to_owned())
                }
            };
            self.moment(done, kind, text.clone());
            events.push(Event { at: done.saturating_duration_since(opens).as_secs_f64(), text });
        }
        Ok(events)
    }

    /// What each host dispatched since, or executed for others, the server last where it lives.
    async fn parts(&self, session: &mut Session, since: Instant, early: Vec<Vec<Dispatch>>) -> Result<Vec<HostPart>> {
        let alive = session.server.is_alive();
        let hosts = session.edges.iter().chain(alive.then_some(&session.server));
        let mut early = early.into_iter();
        let mut parts = Vec::new();
        for host in hosts {
            let clock_offset = host.clock_offset(self.epoch).await?;
            let mut dispatches = early.next().unwrap_or_default();
            dispatch::add(&mut dispatches, dispatch::read(&host.receipts().await?));
            dispatches.retain(|d| d.at as i64 - clock_offset >= nanos(since, self.epoch));
            parts.push(HostPart { name: host.spec.name.clone(), clock_offset, dispatches });
        }
        Ok(parts)
    }

    fn moment(&mut self, at: Instant, kind: &'static str, text: String) {
        let at = nanos(at, self.epoch).max(0) as u64;
        if let Some(trace) = &mut self.trace {
            trace.moment(Moment { at, kind, text });
        }
    }
}

/// Starts the load on every weak host.
async fn loads(
    session: &Session,
    questions: &Arc<Questions>,
    work: Work,
    begins: Instant,
) -> Result<Vec<oneshot::Receiver<Result<Vec<Answer>>>>> {
    tokio::time::sleep_until(begins.into()).await;
    let start = |edge: &HostProcess| {
        let address = edge.spec.ports.client;
        load::start(&edge.spec.site, move || client(address), questions, work)
    };
    session.edges.iter().map(start).collect()
}

/// Every dispatch that these hosts tell of until then.
async fn keep_receipts(hosts: &[HostProcess], until: Instant) -> Result<Vec<Vec<Dispatch>>> {
    let mut kept = vec![Vec::new(); hosts.len()];
    while Instant::now() < until {
        tokio::time::sleep(KEEP_EVERY).await;
        for (host, kept) in hosts.iter().zip(&mut kept) {
            dispatch::add(kept, dispatch::read(&host.receipts().await?));
        }
    }
    Ok(kept)
}

/// On the test bed's clock.
fn nanos(at: Instant, epoch: Instant) -> i64 {
    i64::try_from(at.saturating_duration_since(epoch).as_nanos()).unwrap_or(i64::MAX)
}
