//! Codecs on a device outside of jobs, through the same functions that jobs use: measuring what they cost, and one tensor
//! alone.

use crate::JobError;
use crate::arrive::arrived;
use crate::device::OpenDevice;
use crate::executor::text_of;
use crate::host::{read_back, upload};
use crate::passage::pack;
use bps_codec::ff::{self, CutPackage, Package};
use bps_codec::{CodecSpec, CodecTiming, Ends, Layout, codecs, decode_with, encode_with, fit, measure_one, sample};
use bps_types::{DataType, HostTensor, Packed};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Elements of the small and the large tensor.
const SIZES: [usize; 2] = [4_096, 131_072];
/// Most repetitions that count, of each codec at each size.
const REPETITIONS_MAX: usize = 3;
/// Time after which a size gets no further repetition: some ten such measurements are to fit into 100 ms.
const BUDGET: Duration = Duration::from_millis(8);

/// Runs on the device's thread.
pub(crate) fn measure(device: &OpenDevice) -> Result<Vec<CodecTiming>, JobError> {
    let origin = Instant::now();
    let clock = || u64::try_from(origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let slowdown = device.description.slowdown;
    let timing = |codec: &CodecSpec| {
        // JPEG is made and read by the processor everywhere, and FF-C's symbols are chosen there.
        let timing = if device.is_cpu() || codec.layout == Layout::Jpeg || codec.id == ff::ID_CANCELLING {
            measure_one(codec, &clock).map_err(|e| JobError::failed(e.to_string()))?
        } else {
            let [small, large] = SIZES;
            fit(codec.id, time(device, codec, small, &clock)?, time(device, codec, large, &clock)?)
        };
        Ok(CodecTiming {
            encode_nanos_per_element: timing.encode_nanos_per_element * slowdown,
            decode_nanos_per_element: timing.decode_nanos_per_element * slowdown,
            fixed_nanos: timing.fixed_nanos * slowdown,
            ..timing
        })
    };
    codecs().iter().map(timing).collect()
}

/// The quickest of a few, since whatever else runs only adds.
fn time(device: &OpenDevice, codec: &CodecSpec, elements: usize, clock: &dyn Fn() -> u64) -> Result<Ends, JobError> {
    let failed = |message: String| JobError::failed(format!("codec {}: {message}", codec.name));
    let sample = sample(codec, elements).map_err(|e| failed(e.to_string()))?;
    let (shape, rate) = (sample.shape(), codec.usual_rate());
    let tensor = upload(sample.to_f32().map_err(|e| failed(e.to_string()))?, shape, device.burn());
    let mut best = Ends { elements, encode_nanos: u64::MAX, decode_nanos: u64::MAX };
    let mut started = Instant::now();
    // The first one compiles kernels and does not count.
    for repetition in 0..=REPETITIONS_MAX {
        if repetition > 1 && started.elapsed() > BUDGET {
            break;
        }
        device.sync()?;
        let begin = clock();
        let packed = pack(tensor.clone(), shape, device, (codec.id, rate), None, "sample")?;
        let encoded = clock();
        let back = arrived(&packed, device, None).map_err(failed)?;
        device.sync()?;
        let decoded = clock();
        drop(back);
        if repetition == 0 {
            started = Instant::now();
        } else {
            best.encode_nanos = best.encode_nanos.min(encoded.saturating_sub(begin));
            best.decode_nanos = best.decode_nanos.min(decoded.saturating_sub(encoded));
        }
    }
    Ok(best)
}

/// Encodes a tensor that lies on the device, and says how long that takes until the packed bytes are in host memory.
/// Runs on the device's thread.
pub(crate) fn encode_one(
    device: &OpenDevice,
    codec: u8,
    rate: u8,
    tensor: &HostTensor,
    calibrated: Option<&CutPackage>,
) -> Result<(Packed, Duration), JobError> {
    let shape = tensor.shape();
    if !lies_on(device, tensor.data_type(), shape) {
        let started = Instant::now();
        let packed = encode_with(codec, rate, tensor, calibrated).map_err(|e| JobError::failed(e.to_string()))?;
        return Ok((packed, slowed(device, started.elapsed())));
    }
    protected(|| {
        let values = tensor.to_f32().map_err(|e| JobError::failed(e.to_string()))?;
        let lying = upload(values, shape, device.burn());
        device.sync()?;
        let started = Instant::now();
        let packed = pack(lying, shape, device, (codec, rate), calibrated, "tensor")?;
        Ok((packed, slowed(device, started.elapsed())))
    })
}

/// Decodes packed bytes in host memory, and says how long that takes until the tensor lies on the device; reading it back
/// from there does not count. Runs on the device's thread.
pub(crate) fn decode_one(
    device: &OpenDevice,
    packed: &Packed,
    calibrated: Option<&Package>,
) -> Result<(HostTensor, Duration), JobError> {
    let shape = &packed.shape[..];
    if !lies_on(device, packed.data_type, shape) {
        let started = Instant::now();
        let tensor = decode_with(packed, shape, calibrated).map_err(|e| JobError::failed(e.to_string()))?;
        return Ok((tensor, slowed(device, started.elapsed())));
    }
    protected(|| {
        device.sync()?;
        let started = Instant::now();
        let lying = arrived(packed, device, calibrated).map_err(JobError::failed)?;
        device.sync()?;
        let time = slowed(device, started.elapsed());
        Ok((read_back(lying, shape, device)?, time))
    })
}

/// Whether such a tensor is ever anywhere but in host memory.
fn lies_on(device: &OpenDevice, data_type: DataType, shape: &[usize]) -> bool {
    !device.is_cpu() && data_type == DataType::Fp32 && !shape.contains(&0)
}

fn slowed(device: &OpenDevice, time: Duration) -> Duration {
    time.mul_f32(device.description.slowdown)
}

/// Tensors of any size come here, and the tensor library panics where a device cannot hold one.
fn protected<T>(work: impl FnOnce() -> Result<T, JobError>) -> Result<T, JobError> {
    let outcome = catch_unwind(AssertUnwindSafe(work));
    outcome.unwrap_or_else(|panic| Err(JobError::classify(None, text_of(&*panic))))
}
