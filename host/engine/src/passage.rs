//! A batch on its way through a range of layers: in, through, and out in the form that is wanted.

use crate::batch::{Staged, join_rows};
use crate::device::OpenDevice;
use crate::executor::{At, guard};
use crate::host::{Tensor, read_back};
use crate::program::{Program, Values, constant};
use crate::{JobError, Leave, Model, kernel};
use bps_codec::ff::{CutPackage, settings_of};
use bps_codec::{Layout, encode_capped, encode_with, seal, spec};
use bps_graph::{Shapes, ValueId};
use bps_types::{DataType, HostTensor, Packed};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What every lane of a job does.
pub(crate) struct Passage<'a> {
    pub(crate) model: &'a Model,
    pub(crate) program: &'a Program,
    pub(crate) device: &'a OpenDevice,
    /// The values that go in, in the order of what is staged.
    pub(crate) enter: &'a [ValueId],
    /// The values that come out.
    pub(crate) leave: &'a [ValueId],
    pub(crate) layers: Range<usize>,
}

/// Some rows of a job.
pub(crate) struct Lane {
    pub(crate) staged: Vec<Staged>,
    pub(crate) shapes: Arc<Shapes>,
}

/// What a job gives, slowdown aside.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) tensors: Vec<HostTensor>,
    pub(crate) packed: Vec<Packed>,
    pub(crate) decode: Duration,
    pub(crate) encode: Duration,
}

impl Passage<'_> {
    /// Runs all lanes and joins their rows. `timed` has the upload measured as part of decoding.
    pub(crate) fn carry_out(&self, lanes: Vec<Lane>, leave: Leave, timed: bool, at: &At) -> Result<Outcome, JobError> {
        if !self.device.is_cpu() {
            // A GPU shares the rows out itself: there is one lane.
            let mut outcomes = lanes.into_iter().map(|lane| self.on_gpu(lane, leave, timed, at));
            return outcomes.next().unwrap_or_else(|| Err(JobError::failed("a batch without rows")));
        }
        let tensors = if lanes.len() == 1 {
            let mut results = lanes.into_iter().map(|lane| self.results(lane, at));
            results.next().unwrap_or_else(|| Ok(vec![]))?
        } else {
            let parts = lanes.into_par_iter().map(|lane| guard(self.model, |at| self.results(lane, at)));
            join_rows(parts.collect::<Result<_, _>>()?)?
        };
        let Leave::Packed { codec, rate, calibrated, cap } = leave else {
            return Ok(Outcome { tensors, ..Outcome::default() });
        };
        let started = Instant::now();
        let packed = encode_capped(codec, rate, cap, |rate| {
            let form = Form { codec, rate, calibrated };
            self.leave.iter().zip(&tensors).map(|(id, tensor)| self.encode(*id, form, tensor)).collect()
        })?;
        Ok(Outcome { packed, encode: started.elapsed(), ..Outcome::default() })
    }

    fn on_gpu(&self, lane: Lane, leave: Leave, timed: bool, at: &At) -> Result<Outcome, JobError> {
        let started = Instant::now();
        let mut values = self.upload(lane.staged)?;
        let mut outcome = Outcome::default();
        if timed {
            // What is queued would otherwise count as the first layer's.
            self.device.sync()?;
            outcome.decode = started.elapsed();
        }
        self.program.run(&mut values, self.layers.clone(), &lane.shapes, at, &mut |_| Ok(()))?;
        let Leave::Packed { codec, rate, calibrated, cap } = leave else {
            let tensors = self.leave.iter().map(|id| self.result(&values, *id, &lane.shapes));
            outcome.tensors = tensors.collect::<Result<_, _>>()?;
            return Ok(outcome);
        };
        // Layers that still run would otherwise count as encoding.
        self.device.sync()?;
        let started = Instant::now();
        outcome.packed = encode_capped(codec, rate, cap, |rate| {
            let form = Form { codec, rate, calibrated };
            self.leave.iter().map(|id| self.pack(&values, *id, &lane.shapes, form)).collect()
        })?;
        outcome.encode = started.elapsed();
        Ok(outcome)
    }

    fn upload(&self, staged: Vec<Staged>) -> Result<Values, JobError> {
        let mut values = self.program.values();
        for (id, staged) in self.enter.iter().zip(staged) {
            values.set(*id, staged.upload(self.model.pixels(), self.device)?);
        }
        Ok(values)
    }

    fn results(&self, lane: Lane, at: &At) -> Result<Vec<HostTensor>, JobError> {
        let mut values = self.upload(lane.staged)?;
        self.program.run(&mut values, self.layers.clone(), &lane.shapes, at, &mut |_| Ok(()))?;
        self.leave.iter().map(|id| self.result(&values, *id, &lane.shapes)).collect()
    }

    /// Reads a result back. A model may hand an input or a constant through.
    fn result(&self, values: &Values, id: ValueId, shapes: &Shapes) -> Result<HostTensor, JobError> {
        match constant(&self.program.graph, id) {
            Some(host) => Ok(host.clone()),
            None => read_back(self.computed(values, id)?, shapes.of(id), self.device),
        }
    }

    fn computed(&self, values: &Values, id: ValueId) -> Result<Tensor, JobError> {
        values.get(id).ok_or_else(|| JobError::failed(format!("value `{}` was not computed", self.name(id))))
    }

    fn encode(&self, id: ValueId, form: Form, tensor: &HostTensor) -> Result<Packed, JobError> {
        let packed = encode_with(form.codec, form.rate, tensor, self.calibrated(id, form));
        packed.map_err(|e| JobError::failed(format!("value `{}`: {e}", self.name(id))))
    }

    /// What was calibrated for a value, where that is to be used.
    fn calibrated(&self, id: ValueId, form: Form) -> Option<&CutPackage> {
        self.model.calibration().filter(|_| form.calibrated)?.cut(self.name(id))
    }

    /// Encodes a result where it lies, if there is a kernel for the codec.
    fn pack(&self, values: &Values, id: ValueId, shapes: &Shapes, form: Form) -> Result<Packed, JobError> {
        if !has_kernel(form.codec, form.rate) || constant(&self.program.graph, id).is_some() {
            return self.encode(id, form, &self.result(values, id, shapes)?);
        }
        let (tensor, calibrated) = (self.computed(values, id)?, self.calibrated(id, form));
        pack(tensor, shapes.of(id), self.device, (form.codec, form.rate), calibrated, self.name(id))
    }

    fn name(&self, id: ValueId) -> &str {
        &self.program.graph.values[id.index()].name
    }
}

/// How values leave.
#[derive(Clone, Copy)]
struct Form {
    codec: u8,
    rate: u8,
    calibrated: bool,
}

/// Whether a GPU packs with this codec itself.
fn has_kernel(codec: u8, rate: u8) -> bool {
    spec(codec).is_some_and(|spec| kernel::packs(spec) && spec.offers(rate))
}

/// Encodes a tensor that is on a GPU at a codec's rate; `calibrated` is for FF, `name` for messages.
pub(crate) fn pack(
    tensor: Tensor,
    shape: &[usize],
    device: &OpenDevice,
    (codec, rate): (u8, u8),
    calibrated: Option<&CutPackage>,
    name: &str,
) -> Result<Packed, JobError> {
    let named = |e: bps_codec::CodecError| JobError::failed(format!("value `{name}`: {e}"));
    let laid_out = match spec(codec).filter(|_| has_kernel(codec, rate)) {
        Some(spec) if spec.layout == Layout::Ff => match settings_of(codec, rate, calibrated) {
            Some(settings) => kernel::ff::encode(tensor.clone(), shape, &settings)?.map(|frame| (spec, frame)),
            None => None,
        },
        Some(spec) => Some((spec, kernel::pack(spec.layout, tensor.clone(), shape)?)),
        // The rest has no kernel, or is refused by its name.
        None => None,
    };
    match laid_out {
        Some((spec, bytes)) => seal(spec, rate, DataType::Fp32, shape, bytes).map_err(named),
        None => encode_with(codec, rate, &read_back(tensor, shape, device)?, calibrated).map_err(named),
    }
}
