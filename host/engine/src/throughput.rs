//! How quick the kernels of codecs are on a device, against one pass over the same tensor.

use crate::JobError;
use crate::arrive::arrived;
use crate::device::OpenDevice;
use crate::host::upload;
use crate::kernel;
use crate::passage::pack;
use bps_codec::ff::settings_of;
use bps_codec::{codecs, sample};
use burn::backend::Dispatch;
use burn::backend::ops::FloatTensorOps;
use serde::Serialize;
use std::time::Instant;

/// A piece of work on a tensor of so many FP32 elements.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KernelTiming {
    /// What was done.
    pub work: String,
    /// Elements of the tensor.
    pub element_count: usize,
    /// Bytes that it was packed to; none where nothing was.
    pub packed_bytes: Option<usize>,
    /// Time of each round, in nanoseconds.
    pub nanos: Vec<u64>,
}

impl KernelTiming {
    /// FP32 bytes that go in or come out, per nanosecond of the middle round: GB/s.
    pub fn gigabytes_per_second(&self) -> f64 {
        let mut nanos = self.nanos.clone();
        nanos.sort_unstable();
        let middle = nanos.get(nanos.len() / 2).copied().unwrap_or(0).max(1);
        4.0 * self.element_count as f64 / middle as f64
    }
}

/// Everything once per round, in turns, after a round that does not count; empty on a processor.
pub(crate) fn measure(device: &OpenDevice, elements: usize, rounds: usize) -> Result<Vec<KernelTiming>, JobError> {
    if device.is_cpu() {
        return Ok(vec![]);
    }
    let raw = &codecs()[0];
    let made = sample(raw, elements).map_err(|e| JobError::failed(e.to_string()))?;
    let (shape, values) = (made.shape(), made.to_f32().map_err(|e| JobError::failed(e.to_string()))?);
    let element_count = values.len();
    let lying = upload(values, shape, device.burn());
    let mut timings: Vec<KernelTiming> = Vec::new();
    for round in 0..=rounds {
        let mut row = 0;
        let mut time = |work: String, one: &mut dyn FnMut() -> Result<Option<usize>, JobError>| {
            device.sync()?;
            let started = Instant::now();
            let packed_bytes = one()?;
            device.sync()?;
            let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
            match timings.get_mut(row) {
                Some(timing) if round > 0 => timing.nanos.push(nanos),
                Some(_) => {}
                None => timings.push(KernelTiming { work, element_count, packed_bytes, nanos: vec![] }),
            }
            row += 1;
            Ok::<_, JobError>(())
        };
        time("read and write once".into(), &mut || {
            drop(Dispatch::float_neg(lying.clone()));
            Ok(None)
        })?;
        for codec in codecs().iter().filter(|codec| kernel::packs(codec) && !codec.squeezed) {
            let (name, rate) = (codec.name, codec.usual_rate());
            if let Some(settings) = settings_of(codec.id, rate, None) {
                time(format!("{name} encode, kernels alone"), &mut || {
                    kernel::ff::queue(lying.clone(), shape, &settings)?;
                    Ok(None)
                })?;
            }
            let mut packed = None;
            time(format!("{name} encode"), &mut || {
                let made = pack(lying.clone(), shape, device, (codec.id, rate), None, "sample")?;
                Ok(Some(packed.insert(made).data.len()))
            })?;
            if let Some(packed) = packed {
                time(format!("{name} decode"), &mut || {
                    drop(arrived(&packed, device, None).map_err(JobError::failed)?);
                    Ok(Some(packed.data.len()))
                })?;
            }
        }
    }
    Ok(timings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_round_counts() {
        let timing = |nanos: &[u64]| KernelTiming {
            work: "f16 encode".into(),
            element_count: 1_000,
            packed_bytes: None,
            nanos: nanos.to_vec(),
        };
        assert_eq!(timing(&[8_000, 1_000, 2_000]).gigabytes_per_second(), 2.0);
        assert_eq!(timing(&[4_000]).gigabytes_per_second(), 1.0);
    }
}
