//! What is written down of executions that ended: of this host's own dispatches, and of stages executed for others.

use super::Scheduler;
use crate::arrivals::{Held, Range};
use crate::flight::{Author, Flight};
use crate::{Action, Clamp, Receipt, ReceiptStage, StageTime, Verdict};
use bps_types::policy::{Outcome, bound};
use bps_types::{DeviceId, HostId, ModelId, Nanos};
use std::sync::Arc;

impl Scheduler {
    /// Writes the receipt and the outcome of a flight that has ended.
    pub(super) fn close(
        &mut self,
        flight: &Flight,
        verdict: Verdict,
        missed: u32,
        failed: u32,
        actions: &mut Vec<Action>,
    ) {
        let receipt = Receipt {
            at: flight.at,
            ended: self.now,
            for_hosts: Vec::new(),
            trace: flight.trace,
            policy: flight.author.label.clone(),
            generation: flight.author.generation,
            tag: flight.plan.tag,
            why: flight.author.reasons.get(flight.plan.why as usize).cloned().unwrap_or_default(),
            model: self.model_name(flight.model),
            requests: flight.members.len() as u32,
            rows: flight.rows,
            wait: flight.at.since(flight.oldest),
            stages: self.receipt_stages(flight),
            bytes_predicted: self.link_bytes(flight),
            bytes: flight.bytes,
            clamps: flight.clamps.clone(),
            verdict,
        };
        self.hand_out(receipt, actions);
        if flight.author.generation.0 == 0 {
            return; // the fallback does not learn
        }
        if self.outcomes.len() >= bound::OUTCOMES {
            self.outcomes.remove(0);
            self.outcomes_dropped = self.outcomes_dropped.saturating_add(1);
        }
        self.outcomes.push(Outcome {
            tag: flight.plan.tag,
            generation: flight.author.generation.0,
            model: flight.model.0,
            rows: flight.rows,
            wait: flight.at.since(flight.oldest),
            total: self.now.since(flight.oldest),
            bytes: flight.bytes,
            stage_nanos: flight.times.iter().map(|t| t.unwrap_or_default().elapsed.0).collect(),
            stage_devices: flight.plan.stages.iter().map(|s| s.device.0).collect(),
            missed,
            failed,
        });
    }

    /// To the recording, and to whoever shows it.
    fn hand_out(&mut self, receipt: Receipt, actions: &mut Vec<Action>) {
        self.slot.log(self.now, crate::LogEntry::Receipt(&receipt));
        actions.push(Action::Receipt(receipt));
    }

    /// The receipt of arrived rows as they are joined; [`Scheduler::close_joint`] adds how it went. Whoever is taken back
    /// meanwhile has been executed and stays in it.
    pub(super) fn joint_receipt(
        &self,
        range: Range,
        held: &[Held],
        predicted: Nanos,
        (author, why): (&Author, &str),
        clamps: Vec<Clamp>,
    ) -> Receipt {
        let arrivals = || held.iter().map(|h| &h.arrival);
        let crossed = || held.iter().filter(|h| h.crossed).map(|h| &h.arrival);
        let first = arrivals().next().map(|a| a.stages[0]);
        let mut origins: Vec<HostId> = Vec::new();
        for origin in arrivals().map(|a| a.origin) {
            if !origins.contains(&origin) {
                origins.push(origin);
            }
        }
        let oldest = held.iter().map(|h| h.arrived).min().unwrap_or(self.now);
        let traced = held.iter().filter(|h| h.arrival.trace.is_some());
        Receipt {
            at: self.now,
            ended: self.now,
            for_hosts: origins.into_iter().map(|id| self.host_name(id)).collect(),
            trace: traced.min_by_key(|h| (h.arrived, h.sequence)).and_then(|h| h.arrival.trace),
            policy: author.label.clone(),
            generation: author.generation,
            tag: 0,
            why: why.to_owned(),
            model: self.model_name(range.model),
            requests: held.len() as u32,
            rows: arrivals().map(|a| a.rows).sum(),
            wait: self.now.since(oldest),
            stages: vec![ReceiptStage {
                device: range.device.0,
                on: self.device_name(range.device, first.map(|s| s.host).unwrap_or_default()),
                from_cut: range.from_cut,
                until_cut: range.until_cut,
                via: crossed().next().and_then(|a| self.codec_name(a.stages[0].codec)),
                codec: first.map_or(0, |s| s.codec),
                rate: first.map_or(0, |s| s.rate),
                predicted,
                measured: None,
                waited: None,
                began: None,
            }],
            bytes_predicted: crossed().map(|a| self.costs.crossing_bytes(range.model.0, &a.stages[0], a.rows)).sum(),
            bytes: crossed().map(|a| a.bytes).sum(),
            clamps,
            verdict: Verdict::Done,
        }
    }

    /// Writes the receipt of arrived rows whose execution has ended; `time` is when it began and what it took.
    pub(super) fn close_joint(
        &mut self,
        mut receipt: Receipt,
        time: Option<(Nanos, Nanos)>,
        verdict: Verdict,
        actions: &mut Vec<Action>,
    ) {
        let oldest = receipt.at - receipt.wait;
        let batch_rows = receipt.rows;
        if let (Some(stage), Some((began, elapsed))) = (receipt.stages.first_mut(), time) {
            stage.went(StageTime { waited: Some(began.since(oldest)), began, elapsed, batch_rows });
        }
        receipt.ended = self.now;
        receipt.verdict = verdict;
        self.hand_out(receipt, actions);
    }

    fn receipt_stages(&self, flight: &Flight) -> Vec<ReceiptStage> {
        let mut here = self.world.own_host();
        let mut stages = Vec::with_capacity(flight.plan.stages.len());
        for (index, stage) in flight.plan.stages.iter().enumerate() {
            let crosses = Some(stage.host) != here;
            here = Some(stage.host);
            let mut row = ReceiptStage {
                device: stage.device.0,
                on: self.device_name(stage.device, stage.host),
                from_cut: stage.from_cut,
                until_cut: stage.until_cut,
                via: self.codec_name(stage.codec).filter(|_| crosses),
                codec: stage.codec,
                rate: stage.rate,
                predicted: flight.predicted[index],
                measured: None,
                waited: None,
                began: None,
            };
            flight.times[index].into_iter().for_each(|time| row.went(time));
            stages.push(row);
        }
        stages
    }

    fn codec_name(&self, id: u8) -> Option<Arc<str>> {
        self.world.info.codecs.iter().find(|c| c.id == id).map(|c| c.name.as_str().into())
    }

    fn host_name(&self, id: HostId) -> Arc<str> {
        let host = self.world.info.hosts.iter().find(|h| h.id == id.0);
        host.map_or_else(|| format!("host {id}").into(), |h| h.name.as_str().into())
    }

    fn device_name(&self, device: DeviceId, host: HostId) -> Arc<str> {
        let name = self.world.info.devices.iter().find(|d| d.id == device.0).map_or("?", |d| d.name.as_str());
        match self.world.info.hosts.iter().find(|h| h.id == host.0 && !h.is_self) {
            Some(host) => format!("{}/{name}", host.name).into(),
            None => name.into(),
        }
    }

    /// Bytes that cross links on the plan's way and back, as the tables say.
    fn link_bytes(&self, flight: &Flight) -> u64 {
        let Some(own) = self.world.own_host() else { return 0 };
        let (mut here, mut sum) = (own, 0);
        for stage in &flight.plan.stages {
            if stage.host != here {
                sum += self.costs.crossing_bytes(flight.model.0, stage, flight.rows);
            }
            here = stage.host;
        }
        let output = self.world.model(flight.model).map_or(0, |m| m.output_bytes);
        sum + if here == own { 0 } else { output * u64::from(flight.rows) }
    }

    fn model_name(&self, id: ModelId) -> Arc<str> {
        let model = self.world.info.models.iter().find(|m| m.id == id.0);
        model.map_or_else(|| format!("model {id}").into(), |m| m.name.as_str().into())
    }
}
