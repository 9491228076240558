//! Measures what codecs cost on a device, through the same functions that jobs use.

use crate::JobError;
use crate::arrive::arrived;
use crate::device::OpenDevice;
use crate::host::upload;
use crate::passage::pack;
use bps_codec::{CodecSpec, CodecTiming, Ends, Layout, codecs, fit, measure_one, sample};
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
        // JPEG is made and read by the processor everywhere.
        let timing = if device.is_cpu() || codec.layout == Layout::Jpeg {
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
    let shape = sample.shape();
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
        let packed = pack(tensor.clone(), shape, device, codec.id, 0, "sample")?;
        let encoded = clock();
        let back = arrived(&packed, device).map_err(failed)?;
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
