//! What an executor is asked to do and what it answers.

use crate::{JobError, Model};
use bps_types::HostTensor;
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
    /// Takes the result, on the executor's thread: hand it over and return.
    pub done: Box<dyn FnOnce(JobResult) + Send>,
}

/// What goes into a job.
#[derive(Clone, Debug)]
pub enum JobInput {
    /// Per request one tensor for each of the model's inputs: FP32, or UINT8 (NHWC) where the model has a
    /// [`PixelInput`](crate::PixelInput). Their rows are joined in order. Only with `from_cut == 0`.
    Requests(Vec<Vec<HostTensor>>),
    /// The values of cut `from_cut`, FP32, in the cut's order.
    Activation(Vec<HostTensor>),
}

/// What comes out of a job.
#[derive(Clone, Debug)]
pub struct JobOutput {
    /// The values of cut `until_cut` in its order; at the last cut the model's outputs in theirs.
    pub tensors: Vec<HostTensor>,
    /// Time on the device: assembly of the batch, upload, layers, read-back, declared slowdown.
    pub elapsed: Duration,
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
            .finish_non_exhaustive()
    }
}
