//! What an executor is asked to do and what it answers.

use crate::{JobError, Model};
use bps_codec::SizeCap;
use bps_types::{HostTensor, Packed};
use std::fmt;
use std::time::Duration;

/// One batch through one range of layers on one device.
pub struct Job {
    /// The model.
    pub model: Model,
    /// Index of the cut that execution starts at; 0 is the input.
    pub from_cut: usize,
    /// Index of the cut that it stops at; the last is the output.
    pub until_cut: usize,
    /// What goes in.
    pub input: JobInput,
    /// In which form the result is wanted.
    pub leave: Leave,
    /// Takes the result, on the executor's thread: hand it over and return.
    pub done: Box<dyn FnOnce(JobResult) + Send>,
}

/// What goes into a job.
#[derive(Clone, Debug)]
pub enum JobInput {
    /// Per request one tensor for each of the model's inputs: FP32, or UINT8 (NHWC) where the model has a
    /// [`PixelInput`](crate::PixelInput). Their rows are joined in order. Only with `from_cut == 0`.
    Requests(Vec<Vec<HostTensor>>),
    /// The values of cut `from_cut`, FP32, in the cut's order; at cut 0 the model's inputs in theirs, as the network takes
    /// them.
    Activation(Vec<HostTensor>),
    /// What came from other hosts, per arrival the values of cut `from_cut` in the cut's order (at cut 0 the model's
    /// inputs in theirs, image bytes as for requests). Rows are joined in order. Hostile: whatever is wrong with it is
    /// [`JobError::Failed`].
    Arrived(Vec<Vec<Packed>>),
}

/// In which form a job's result leaves the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// As tensors in host memory.
    Tensors,
    /// Encoded for another host; on a GPU, f16, int8 and FF are packed there, so that only packed bytes are read back.
    Packed {
        /// A codec of `bps_codec` that takes FP32.
        codec: u8,
        /// Its rate; 0 where it has none.
        rate: u8,
        /// With the model's calibration, which whoever decodes must have too.
        calibrated: bool,
        /// What becomes of a result that is larger than expected; none: it is as large as it is.
        cap: Option<SizeCap>,
    },
}

/// What comes out of a job.
#[derive(Clone, Debug)]
pub struct JobOutput {
    /// The values of cut `until_cut` in its order; at the last cut the model's outputs in theirs. Empty where packed
    /// ones were asked for.
    pub tensors: Vec<HostTensor>,
    /// The same encoded; empty unless asked for.
    pub packed: Vec<Packed>,
    /// Time on the device: assembly of the batch or decoding, upload, layers, read-back, encoding, declared slowdown.
    pub elapsed: Duration,
    /// The part of it that decoding took, until what arrived was on the device; zero for other inputs.
    pub decode: Duration,
    /// The part of it that encoding took, on a GPU read-back included; zero unless packed ones were asked for.
    pub encode: Duration,
}

/// What `done` gets.
pub type JobResult = Result<JobOutput, JobError>;

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("model", &self.model.graph().name)
            .field("from_cut", &self.from_cut)
            .field("until_cut", &self.until_cut)
            .field("input", &self.input)
            .field("leave", &self.leave)
            .finish_non_exhaustive()
    }
}
