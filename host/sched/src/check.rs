//! From proposal to proof: every row of a decision is checked before anything runs.

use crate::WholeOnly;
use crate::plan::{Plan, PlanStage};
use bps_types::policy::{
    CodecInfo, Dispatch, ModelInfo, Selection, Snapshot, Table, TableKind, WorldInfo, bound, constraint,
};
use bps_types::{DeviceId, HostId, ModelId, QueueId, RequestId};
use std::collections::BTreeSet;

/// A waiting request, as far as the check is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub id: RequestId,
    /// Its rows.
    pub rows: u32,
    /// Its constraint bits.
    pub constraints: u8,
}

/// Who waits: the scheduler's queues, or the part of them that a snapshot shows.
pub trait Waitlist {
    /// The model of a queue that is not empty.
    fn model(&self, queue: QueueId) -> Option<ModelId>;
    /// The first `count` of a queue; none if fewer wait.
    fn head(&self, queue: QueueId, count: u32) -> Option<Vec<Candidate>>;
    /// A request, if it waits in this queue.
    fn find(&self, queue: QueueId, id: RequestId) -> Option<Candidate>;
}

/// How a device stands, as far as the check is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceStanding {
    /// Which.
    pub id: DeviceId,
    /// Takes work.
    pub up: bool,
    /// Dispatches it still takes.
    pub credits: u32,
    /// Free memory where known.
    pub memory_free: Option<u64>,
}

/// A link between hosts that is up, in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Who sends.
    pub source: HostId,
    /// Who receives.
    pub target: HostId,
}

/// The ground on which a decision is checked; credits and requests are used up row by row.
pub struct Ground<'a, W> {
    /// What there is.
    pub world: &'a WorldInfo,
    /// Who waits.
    pub waitlist: &'a W,
    /// How devices stand.
    pub devices: Vec<DeviceStanding>,
    /// Which hosts reach which.
    pub hops: Vec<Hop>,
    /// What codecs cost in accuracy, where tables say.
    pub losses: &'a [Table],
    /// Where models are not split.
    pub whole_only: &'a [WholeOnly],
    taken: BTreeSet<RequestId>,
}

/// Why a row is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum InvalidRow {
    #[error("more than {max} {what} in one decision")]
    TooMany { what: &'static str, max: usize },
    #[error("queue {0} does not exist or is empty")]
    UnknownQueue(u32),
    #[error("queue {queue} has no {count} requests waiting")]
    TooFewWaiting { queue: u32, count: u32 },
    #[error("no requests selected")]
    Empty,
    #[error("request {request} does not wait in queue {queue}")]
    NotWaiting { queue: u32, request: u64 },
    #[error("request {0} is named twice")]
    Twice(u64),
    #[error("{0} stages; 1 to 8 are allowed")]
    StageCount(usize),
    #[error("device {0} does not exist")]
    UnknownDevice(u32),
    #[error("device {0} is down")]
    DeviceDown(u32),
    #[error("device {0} has no credits left")]
    NoCredits(u32),
    #[error("model {model} may not run on device {device}")]
    Placement { model: u32, device: u32 },
    #[error("device {device} takes model {model} whole or not at all: its host numbers the cuts differently")]
    WholeOnly { model: u32, device: u32 },
    #[error("stage {index} ends at cut {until}, which does not follow cut {from}")]
    CutOrder { index: usize, from: u32, until: u32 },
    #[error("the last stage ends at cut {until}; the model ends at cut {last}")]
    NotCovered { until: u32, last: u32 },
    #[error("codec {0} does not exist")]
    UnknownCodec(u8),
    #[error("codec {codec} does not offer rate {rate}")]
    UnknownRate { codec: u8, rate: u8 },
    #[error("codec {codec} is for a model's input, stage {index} takes an activation")]
    InputCodec { codec: u8, index: usize },
    #[error("request {0} must stay on this host")]
    LocalOnly(u64),
    #[error("request {0} must not meet a lossy codec")]
    LosslessOnly(u64),
    #[error("codecs would cost {loss_ppm} ppm accuracy, the model allows {budget_ppm}")]
    AccuracyBudget { loss_ppm: u64, budget_ppm: u32 },
    #[error("{rows} rows at once, the model allows {max}")]
    BatchTooLarge { rows: u64, max: u32 },
    #[error("device {device} has {free} bytes free, the batch needs {needed}")]
    Memory { device: u32, free: u64, needed: u64 },
    #[error("arrived stage {0} does not exist")]
    UnknownArrived(u32),
    #[error("no rows are to be joined")]
    NothingToJoin,
    #[error("there is no link up from host {source_host} to host {target}")]
    NoLink { source_host: u32, target: u32 },
    #[error("stage {index} comes back to this host; a plan that has left it stays away")]
    ComesBack { index: usize },
}

impl<'a, W: Waitlist> Ground<'a, W> {
    /// A ground on which nothing has been taken yet and every model may be split.
    pub fn new(
        world: &'a WorldInfo,
        waitlist: &'a W,
        devices: Vec<DeviceStanding>,
        hops: Vec<Hop>,
        losses: &'a [Table],
    ) -> Self {
        Self { world, waitlist, devices, hops, losses, whole_only: &[], taken: BTreeSet::new() }
    }

    /// Checks a dispatch and, if it is in order, takes its requests and credits.
    pub fn check(&mut self, dispatch: &Dispatch) -> Result<Plan, InvalidRow> {
        let queue = QueueId(dispatch.queue);
        let unknown = InvalidRow::UnknownQueue(dispatch.queue);
        let model_id = self.waitlist.model(queue).ok_or(unknown.clone())?;
        let model = self.world.models.iter().find(|m| m.id == model_id.0).ok_or(unknown)?;
        let chosen = self.select(queue, &dispatch.requests)?;
        let stages = self.stages(dispatch, model, &chosen)?;
        check_batch(&chosen, dispatch.micro_batch, model)?;
        self.check_memory(&stages, &chosen, model)?;
        self.take_credits(&stages)?;
        self.taken.extend(chosen.iter().map(|c| c.id));
        Ok(Plan {
            queue,
            requests: chosen.iter().map(|c| c.id).collect(),
            stages,
            micro_batch: dispatch.micro_batch,
            tag: dispatch.tag,
            why: dispatch.why,
        })
    }

    /// Checks that a request may be shed and takes it.
    pub fn check_shed(&mut self, id: RequestId, waits: bool) -> Result<(), InvalidRow> {
        if !waits {
            return Err(InvalidRow::NotWaiting { queue: 0, request: id.0 });
        }
        if self.taken.insert(id) { Ok(()) } else { Err(InvalidRow::Twice(id.0)) }
    }

    fn select(&self, queue: QueueId, selection: &Selection) -> Result<Vec<Candidate>, InvalidRow> {
        let chosen = match selection {
            Selection::Head(0) => return Err(InvalidRow::Empty),
            // A head counts what is left of the queue after the rows before this one.
            Selection::Head(count) => {
                let taken_here =
                    self.taken.iter().filter(|id| self.waitlist.find(queue, **id).is_some()).count() as u32;
                let head = self.waitlist.head(queue, count.saturating_add(taken_here));
                let head = head.ok_or(InvalidRow::TooFewWaiting { queue: queue.0, count: *count })?;
                head.into_iter().filter(|c| !self.taken.contains(&c.id)).take(*count as usize).collect()
            }
            Selection::These(ids) => {
                let mut chosen = Vec::with_capacity(ids.len().min(bound::SHED));
                let mut seen = BTreeSet::new();
                for &id in ids {
                    let candidate = self.waitlist.find(queue, RequestId(id));
                    chosen.push(candidate.ok_or(InvalidRow::NotWaiting { queue: queue.0, request: id })?);
                    if !seen.insert(id) || self.taken.contains(&RequestId(id)) {
                        return Err(InvalidRow::Twice(id));
                    }
                }
                chosen
            }
        };
        if chosen.is_empty() { Err(InvalidRow::Empty) } else { Ok(chosen) }
    }

    fn stages(
        &self,
        dispatch: &Dispatch,
        model: &ModelInfo,
        chosen: &[Candidate],
    ) -> Result<Vec<PlanStage>, InvalidRow> {
        let count = dispatch.stages.len();
        if count == 0 || count > bound::STAGES {
            return Err(InvalidRow::StageCount(count));
        }
        let mut stages: Vec<PlanStage> = Vec::with_capacity(count);
        let last = model.cut_count.saturating_sub(1);
        let mut loss_ppm = 0;
        let mut from = 0;
        for (index, stage) in dispatch.stages.iter().enumerate() {
            let device = self.device(stage.device, model)?;
            if stage.until_cut <= from {
                return Err(InvalidRow::CutOrder { index, from, until: stage.until_cut });
            }
            let here = WholeOnly { model: ModelId(model.id), device };
            if (from, stage.until_cut) != (0, last) && self.whole_only.contains(&here) {
                return Err(InvalidRow::WholeOnly { model: model.id, device: device.0 });
            }
            let codec = self.codec(stage.codec, stage.rate, index)?;
            if !codec.lossless {
                if let Some(c) = chosen.iter().find(|c| c.constraints & constraint::LOSSLESS_ONLY != 0) {
                    return Err(InvalidRow::LosslessOnly(c.id.0));
                }
                loss_ppm += codec_loss_ppm(codec, self.losses, model.id, from, stage.rate);
            }
            if !self.is_local(device)
                && let Some(c) = chosen.iter().find(|c| c.constraints & constraint::LOCAL_ONLY != 0)
            {
                return Err(InvalidRow::LocalOnly(c.id.0));
            }
            let (codec, rate, host) = (stage.codec, stage.rate, self.host_of(device));
            stages.push(PlanStage { device, host, from_cut: from, until_cut: stage.until_cut, codec, rate });
            from = stage.until_cut;
        }
        self.check_way(&stages)?;
        if from != last {
            return Err(InvalidRow::NotCovered { until: from, last });
        }
        if loss_ppm > u64::from(model.accuracy_budget_ppm) {
            return Err(InvalidRow::AccuracyBudget { loss_ppm, budget_ppm: model.accuracy_budget_ppm });
        }
        Ok(stages)
    }

    fn device(&self, id: u32, model: &ModelInfo) -> Result<DeviceId, InvalidRow> {
        let standing = self.devices.iter().find(|d| d.id.0 == id).ok_or(InvalidRow::UnknownDevice(id))?;
        if !standing.up {
            return Err(InvalidRow::DeviceDown(id));
        }
        if !model.devices.contains(&id) {
            return Err(InvalidRow::Placement { model: model.id, device: id });
        }
        Ok(standing.id)
    }

    fn own_host(&self) -> HostId {
        HostId(self.world.hosts.iter().find(|h| h.is_self).map_or(0, |h| h.id))
    }

    fn host_of(&self, device: DeviceId) -> HostId {
        // A device of nobody is nobody's: no link leads there.
        HostId(self.world.devices.iter().find(|d| d.id == device.0).map_or(u32::MAX, |d| d.host))
    }

    fn is_local(&self, device: DeviceId) -> bool {
        self.host_of(device) == self.own_host()
    }

    /// Each host must reach the next, and the last one this host, which waits for the answer. Stages on this host come
    /// first: what has left is out of its hands until it is answered.
    fn check_way(&self, stages: &[PlanStage]) -> Result<(), InvalidRow> {
        let own = self.own_host();
        let mut here = own;
        for (index, stage) in stages.iter().enumerate() {
            if stage.host == own && here != own {
                return Err(InvalidRow::ComesBack { index });
            }
            self.check_hop(here, stage.host)?;
            here = stage.host;
        }
        self.check_hop(here, own)
    }

    fn check_hop(&self, source: HostId, target: HostId) -> Result<(), InvalidRow> {
        if source == target || self.hops.contains(&Hop { source, target }) {
            return Ok(());
        }
        Err(InvalidRow::NoLink { source_host: source.0, target: target.0 })
    }

    fn codec(&self, id: u8, rate: u8, index: usize) -> Result<&CodecInfo, InvalidRow> {
        let codec = self.world.codecs.iter().find(|c| c.id == id).ok_or(InvalidRow::UnknownCodec(id))?;
        let offered = if codec.rates.is_empty() { rate == 0 } else { codec.rates.contains(&rate) };
        if !offered {
            return Err(InvalidRow::UnknownRate { codec: id, rate });
        }
        if codec.for_input && index > 0 {
            return Err(InvalidRow::InputCodec { codec: id, index });
        }
        Ok(codec)
    }

    /// A batch must at least hold its own input and output; more is only known by trying.
    fn check_memory(&self, stages: &[PlanStage], chosen: &[Candidate], model: &ModelInfo) -> Result<(), InvalidRow> {
        let rows: u64 = chosen.iter().map(|c| u64::from(c.rows)).sum();
        let needed = rows.saturating_mul(model.input_bytes.saturating_add(model.output_bytes));
        for stage in stages {
            let free = self.devices.iter().find(|d| d.id == stage.device).and_then(|d| d.memory_free);
            if let Some(free) = free.filter(|free| *free < needed) {
                return Err(InvalidRow::Memory { device: stage.device.0, free, needed });
            }
        }
        Ok(())
    }

    fn take_credits(&mut self, stages: &[PlanStage]) -> Result<(), InvalidRow> {
        for standing in &self.devices {
            let wanted = stages.iter().filter(|s| s.device == standing.id).count();
            if wanted > standing.credits as usize {
                return Err(InvalidRow::NoCredits(standing.id.0));
            }
        }
        for standing in &mut self.devices {
            standing.credits -= stages.iter().filter(|s| s.device == standing.id).count() as u32;
        }
        Ok(())
    }
}

fn check_batch(chosen: &[Candidate], micro_batch: u32, model: &ModelInfo) -> Result<(), InvalidRow> {
    let rows: u64 = chosen.iter().map(|c| u64::from(c.rows)).sum();
    let at_once = if micro_batch == 0 { rows } else { rows.min(u64::from(micro_batch)) };
    if at_once > u64::from(model.batch_max) {
        return Err(InvalidRow::BatchTooLarge { rows: at_once, max: model.batch_max });
    }
    Ok(())
}

/// The part of the queues that a snapshot shows; lets a decision be checked without a scheduler (rehearsal, tests).
impl Waitlist for Snapshot {
    fn model(&self, queue: QueueId) -> Option<ModelId> {
        self.queues.iter().find(|q| q.id == queue.0).map(|q| ModelId(q.model))
    }

    fn head(&self, queue: QueueId, count: u32) -> Option<Vec<Candidate>> {
        let queue = self.queues.iter().find(|q| q.id == queue.0 && q.waiting >= count)?;
        let start = queue.head_start as usize;
        (start..start + queue.head_count.min(count) as usize).map(|i| self.candidate(i)).collect()
    }

    fn find(&self, queue: QueueId, id: RequestId) -> Option<Candidate> {
        let queue = self.queues.iter().find(|q| q.id == queue.0)?;
        let start = queue.head_start as usize;
        let at = (start..start + queue.head_count as usize).find(|&i| self.ids.get(i) == Some(&id.0))?;
        self.candidate(at)
    }
}

/// How devices stand in a snapshot.
pub fn standings(snapshot: &Snapshot) -> Vec<DeviceStanding> {
    let standing = |d: &bps_types::policy::Device| DeviceStanding {
        id: DeviceId(d.id),
        up: d.up,
        credits: d.credits,
        memory_free: d.memory_free,
    };
    snapshot.devices.iter().map(standing).collect()
}

/// Which hosts reach which in a snapshot.
pub fn hops(snapshot: &Snapshot) -> Vec<Hop> {
    let up = snapshot.links.iter().filter(|l| l.up);
    up.map(|l| Hop { source: HostId(l.source), target: HostId(l.target) }).collect()
}

trait Columns {
    fn candidate(&self, index: usize) -> Option<Candidate>;
}

impl Columns for Snapshot {
    fn candidate(&self, index: usize) -> Option<Candidate> {
        Some(Candidate {
            id: RequestId(*self.ids.get(index)?),
            rows: *self.rows.get(index)?,
            constraints: *self.constraints.get(index)?,
        })
    }
}

/// Loss of a codec at a cut, as its table says; without a table a lossy codec is taken to cost everything.
pub(crate) fn codec_loss_ppm(codec: &CodecInfo, losses: &[Table], model: u32, cut: u32, rate: u8) -> u64 {
    let is_it = |t: &&Table| t.kind == TableKind::CodecLossPpm && t.model == model && t.codec == codec.id;
    let column = codec.rates.iter().position(|r| *r == rate).unwrap_or(0);
    let value = losses.iter().find(is_it).and_then(|t| {
        let columns = *t.shape.get(1)? as usize;
        t.values.get((cut as usize).checked_mul(columns)?.checked_add(column)?).copied()
    });
    // What is no number says nothing good.
    value.filter(|v| !v.is_nan()).map_or(1_000_000, |v| v.max(0.0) as u64)
}

#[cfg(test)]
mod tests;
