//! Batch normalisation behind a convolution, and its end: once learning is over, it is the same as other weights.

use super::fit::Parameter;
use crate::JobError;
use crate::host::Tensor;
use crate::ops::learn::{Learning, Statistics, statistics};
use burn::backend::Dispatch;
use burn::tensor::Device;

/// The least that the newest batch counts for in the statistics that are folded in; while there were few, all count alike.
const NEWEST_MIN: f32 = 0.02;

/// Gain and shift of each channel, and the statistics that batches had.
pub(super) struct Normal {
    gain: Parameter,
    shift: Parameter,
    seen: Option<Statistics>,
    batch_count: u32,
}

impl Normal {
    pub(super) fn new(channels: usize, device: &Device) -> Self {
        let gain = Parameter::new(vec![1.0; channels], device);
        Self { gain, shift: Parameter::new(vec![0.0; channels], device), seen: None, batch_count: 0 }
    }

    pub(super) fn parameters(&mut self) -> [&mut Parameter; 2] {
        [&mut self.gain, &mut self.shift]
    }

    /// Normalises a batch by its own statistics, and remembers them.
    pub(super) fn apply(&mut self, x: Tensor) -> Result<Tensor, JobError> {
        let batch = statistics(x.clone()).map_err(JobError::failed)?;
        self.batch_count += 1;
        let newest = NEWEST_MIN.max(1.0 / self.batch_count as f32);
        match &mut self.seen {
            None => self.seen = Some(batch.clone()),
            Some(seen) => {
                for (old, new) in [(&mut seen.mean, &batch.mean), (&mut seen.variance, &batch.variance)] {
                    old.iter_mut().zip(new).for_each(|(old, new)| *old += newest * (new - *old));
                }
            }
        }
        let [gain, shift] = [&self.gain, &self.shift].map(|p| p.flat.clone().into_dispatch());
        Ok(Dispatch::normalised(x, gain, shift, batch))
    }

    /// Multiplies the convolution's weights by what normalisation does to each channel, and gives the bias that is left.
    pub(super) fn fold(&self, weights: &mut [f32]) -> Result<Vec<f32>, JobError> {
        let (gain, mut bias) = (self.gain.values()?, self.shift.values()?);
        let seen = self.seen.as_ref().ok_or_else(|| JobError::failed("nothing was learned"))?;
        let per_channel = weights.len() / gain.len().max(1);
        let factors = gain.iter().zip(seen.inverse()).map(|(gain, inverse)| gain * inverse);
        let channels = weights.chunks_exact_mut(per_channel.max(1)).zip(&mut bias).zip(&seen.mean);
        for (factor, ((weights, bias), mean)) in factors.zip(channels) {
            weights.iter_mut().for_each(|weight| *weight *= factor);
            *bias -= factor * mean;
        }
        Ok(bias)
    }
}
