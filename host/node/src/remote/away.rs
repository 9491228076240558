//! Stages of this host's own plans on other hosts: how they are handed over, and what of an answer is believed.

use super::{Courier, Departed, Load, Parcel};
use crate::clock;
use crate::models::ServedModel;
use crate::peers::Peers;
use bps_sched::{Failure, FailureKind, Forward, PlanStage, StageTime};
use bps_types::{ExecutionId, HostId, HostTensor, Nanos};
use bps_wire::{Answer, DeniedKind, Execute, OUTPUT_CUT, Route, StageReport};
use std::sync::{Arc, OnceLock};

/// What is remembered of a plan that left.
pub(crate) struct Away {
    /// Hosts that may answer.
    hosts: Vec<HostId>,
    stages: usize,
    /// What went, once it has.
    sent: Arc<OnceLock<Departed>>,
}

/// Numbers of dispatches on the wire: an answer to an earlier run of this host must not fit one of this run.
#[derive(Clone, Copy)]
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(salt: u64) -> Self {
        Self(salt)
    }

    pub(crate) fn on_wire(self, execution: ExecutionId) -> u64 {
        execution.0.wrapping_add(self.0)
    }

    pub(crate) fn of_wire(self, dispatch: u64) -> ExecutionId {
        ExecutionId(dispatch.wrapping_sub(self.0))
    }
}

/// Hands a plan over. `failed` hears if it cannot be sent.
pub(crate) fn hand_over(
    peers: &Peers,
    courier: &Courier,
    numbers: Numbers,
    model: Arc<ServedModel>,
    forward: &Forward,
    load: Load,
    failed: Box<dyn FnOnce(Failure) + Send>,
) -> Result<Away, Failure> {
    let route = forward.stages.iter().map(|s| route(peers, s, model.cut_count())).collect::<Option<Vec<_>>>();
    let unknown = || Failure { kind: FailureKind::Unreachable, message: "a host of the plan is unknown by now".into() };
    let dispatch = numbers.on_wire(forward.execution);
    let execute = Execute {
        dispatch,
        origin: peers.self_key(),
        model: model.graph.digest,
        cut_list: model.cut_list,
        route: route.ok_or_else(unknown)?,
        rows: forward.rows,
        budget: forward.deadline.map(|d| d.since(clock::now())),
        priority: forward.priority,
        trace: forward.trace,
        reports: vec![],
        tensors: vec![],
    };
    let sent = Arc::new(OnceLock::new());
    let hears = {
        let sent = sent.clone();
        Box::new(move |result: Result<Departed, Failure>| match result {
            Ok(departed) => _ = sent.set(departed),
            Err(failure) => failed(failure),
        })
    };
    let cap = forward.cap.map(super::size_cap);
    courier.send(Parcel::Stage { to: forward.host, execute: Box::new(execute), load, model, cap, sent: hears });
    let hosts = forward.stages.iter().map(|s| s.host).collect();
    Ok(Away { hosts, stages: forward.stages.len(), sent })
}

fn route(peers: &Peers, stage: &PlanStage, cut_count: u32) -> Option<Route> {
    let (host, device) = peers.route_of(stage.device)?;
    let PlanStage { from_cut, until_cut, codec, rate, .. } = *stage;
    // The output's number is another on a host that numbers the cuts differently.
    let until_cut = if until_cut + 1 == cut_count { OUTPUT_CUT } else { until_cut };
    Some(Route { host, device, from_cut, until_cut, codec, rate })
}

/// What an answer is worth.
pub(crate) enum Verdict {
    /// Outputs, how the stages went, and the bytes that were sent for it.
    Done(Vec<HostTensor>, Vec<StageTime>, Departed),
    /// It failed.
    Failed(Failure),
    /// It is not from a host of the plan.
    Foreign,
}

impl Away {
    /// Judges an answer.
    pub(crate) fn judge(&self, peers: &Peers, from: HostId, model: &ServedModel, rows: u32, answer: Answer) -> Verdict {
        if !self.hosts.contains(&from) {
            return Verdict::Foreign;
        }
        let packed = match answer.outcome {
            Ok(packed) => packed,
            Err(denied) => {
                let kind = match denied.kind {
                    DeniedKind::Busy | DeniedKind::Forbidden | DeniedKind::Mismatch => FailureKind::Refused,
                    DeniedKind::Execution => FailureKind::Execution,
                    DeniedKind::OutOfMemory => FailureKind::OutOfMemory,
                    DeniedKind::Lost | DeniedKind::Expired => FailureKind::Unreachable,
                };
                return Verdict::Failed(Failure { kind, message: format!("host {from}: {}", denied.message) });
            }
        };
        let outputs = &model.graph.outputs;
        let wrong = |message: String| Verdict::Failed(Failure { kind: FailureKind::Execution, message });
        if packed.len() != outputs.len() {
            return wrong(format!("host {from} answered {} outputs of {}", packed.len(), outputs.len()));
        }
        let mut tensors = Vec::with_capacity(packed.len());
        for (packed, spec) in packed.iter().zip(outputs) {
            let fits = packed.data_type == spec.data_type
                && packed.shape.len() == spec.shape.len()
                && (!model.graph.batchable || packed.rows() == rows as usize)
                && packed.shape.iter().zip(&spec.shape).skip(1).all(|(got, wanted)| wanted.is_none_or(|w| w == *got));
            if !fits {
                return wrong(format!("host {from} answered output `{}` as {:?}", spec.name, packed.shape));
            }
            match bps_codec::decode(packed, &packed.shape) {
                Ok(tensor) => tensors.push(tensor),
                Err(error) => return wrong(format!("host {from}, output `{}`: {error}", spec.name)),
            }
        }
        let reports = answer.reports.iter().rev().take(self.stages).rev();
        let times = reports.map(|r| time(peers, r)).collect();
        // An answer may be here before the courier has said that it is done.
        let sent = self.sent.get().copied().unwrap_or_default();
        Verdict::Done(tensors, times, sent)
    }
}

/// In this host's time, as far as the clocks can be compared.
fn time(peers: &Peers, report: &StageReport) -> StageTime {
    let offset = peers.id_of(report.host).and_then(|h| peers.clock_offset(h)).unwrap_or(0);
    let began = i128::from(report.began.0) - i128::from(offset);
    let began = Nanos(u64::try_from(began.max(0)).unwrap_or(u64::MAX));
    let waited = Some(report.began.since(report.arrived));
    StageTime { waited, began, elapsed: report.elapsed, batch_rows: report.batch_rows }
}
