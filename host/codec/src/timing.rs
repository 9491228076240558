//! What codecs cost: the measurement that cost tables begin with, before real transfers correct them.

use crate::registry::{CodecSpec, Layout, codecs};
use crate::{CodecError, decode_with, encode_with, ff};
use bps_types::{DataType, HostTensor};

/// Repetitions of each measurement; the quickest counts, since whatever else runs only adds.
const REPETITIONS: usize = 3;

/// Channels of the sample.
const MAPS: usize = 16;

/// Directions along which FF-C makes errors cancel while it is timed: as many as ten classes have.
const DIRECTIONS: usize = 9;

/// What a codec costs on a device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CodecTiming {
    /// The codec.
    pub codec: u8,
    /// To encode one element, in nanoseconds.
    pub encode_nanos_per_element: f32,
    /// To decode one element, in nanoseconds.
    pub decode_nanos_per_element: f32,
    /// What a tensor costs besides, encoded or decoded, whichever is more: nanoseconds.
    pub fixed_nanos: f32,
}

/// A codec timed at one tensor size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ends {
    /// Elements of the tensor.
    pub elements: usize,
    /// To encode it, in nanoseconds.
    pub encode_nanos: u64,
    /// To decode it, in nanoseconds.
    pub decode_nanos: u64,
}

/// A line through a small and a large tensor. Never below zero, whatever the clock's noise says.
pub fn fit(codec: u8, small: Ends, large: Ends) -> CodecTiming {
    let elements = large.elements.saturating_sub(small.elements).max(1) as f32;
    let line = |small_nanos: u64, large_nanos: u64| {
        let slope = large_nanos.saturating_sub(small_nanos) as f32 / elements;
        (slope, (small_nanos as f32 - slope * small.elements as f32).max(0.0))
    };
    let (encode, encode_fixed) = line(small.encode_nanos, large.encode_nanos);
    let (decode, decode_fixed) = line(small.decode_nanos, large.decode_nanos);
    CodecTiming {
        codec,
        encode_nanos_per_element: encode,
        decode_nanos_per_element: decode,
        fixed_nanos: encode_fixed.max(decode_fixed),
    }
}

/// Times every codec on this thread, some 50 ms in all, most of it for FF-C. `clock` gives nanoseconds from any origin.
pub fn measure(clock: &dyn Fn() -> u64) -> Result<Vec<CodecTiming>, CodecError> {
    codecs().iter().map(|codec| measure_one(codec, clock)).collect()
}

/// Times one codec on this thread, with made-up tensors of 4,096 and 65,536 elements (JPEG: images of about that size) and
/// the middle one of its rates.
pub fn measure_one(codec: &CodecSpec, clock: &dyn Fn() -> u64) -> Result<CodecTiming, CodecError> {
    let ends = |elements| time(codec.id, codec.usual_rate(), &sample(codec, elements)?, clock);
    Ok(fit(codec.id, ends(4_096)?, ends(65_536)?))
}

fn time(codec: u8, rate: u8, tensor: &HostTensor, clock: &dyn Fn() -> u64) -> Result<Ends, CodecError> {
    let elements = tensor.shape().iter().product();
    let package = sample_package(codec, rate, tensor)?;
    let mut best = Ends { elements, encode_nanos: u64::MAX, decode_nanos: u64::MAX };
    // The first one fills caches and does not count.
    for repetition in 0..=REPETITIONS {
        let begin = clock();
        let packed = encode_with(codec, rate, tensor, package.as_ref().and_then(|package| package.cut(SAMPLE)))?;
        let encoded = clock();
        let back = decode_with(&packed, tensor.shape(), package.as_ref())?;
        let decoded = clock();
        drop(back);
        if repetition > 0 {
            best.encode_nanos = best.encode_nanos.min(encoded.saturating_sub(begin));
            best.decode_nanos = best.decode_nanos.min(decoded.saturating_sub(encoded));
        }
    }
    Ok(best)
}

/// The cut's name in a package for a sample.
const SAMPLE: &str = "sample";

/// What FF-C needs to choose symbols for a sample, since without it does less; the other codecs do the same work with and
/// without calibration.
fn sample_package(codec: u8, rate: u8, sample: &HostTensor) -> Result<Option<ff::Package>, CodecError> {
    if codec != ff::ID_CANCELLING {
        return Ok(None);
    }
    let made = || {
        let directions = ff::Directions::made_up(sample.shape(), DIRECTIONS)?;
        let model = [0; 32];
        let what = ff::Calibration {
            name: SAMPLE,
            model,
            samples: std::slice::from_ref(sample),
            order: ff::Order::Nchw,
            modes: &[ff::Mode::Haar1],
            rates: &[rate],
            weights: &ff::Weights::default(),
            directions: None,
        };
        let plain = ff::calibrate(&what)?;
        let aimed = ff::calibrate(&ff::Calibration { directions: Some(&directions), ..what })?;
        ff::Package::new(model, vec![plain.with_cancelling(aimed)?])
    };
    made().map(Some).map_err(|e| e.named("ff-c"))
}

/// A made-up tensor of about so many elements as the codec takes them: one row of 16 maps behind a ReLU (half zeros), for
/// JPEG one square image of soft shades. The same at every call.
pub fn sample(codec: &CodecSpec, elements: usize) -> Result<HostTensor, CodecError> {
    let made = if codec.layout == Layout::Jpeg {
        let side = (elements / 3).isqrt().max(1);
        let shade = |i: usize| (i / 3 % side + i / (3 * side) + 40 * (i % 3)) as u8 / 2 + noise(i, 8) as u8;
        let pixels: Vec<u8> = (0..side * side * 3).map(shade).collect();
        HostTensor::new(DataType::Uint8, vec![1, side, side, 3], pixels.into())
    } else {
        // A sum of uniform numbers, near enough to a bell.
        let bell = |i: usize| (0..4).map(|k| noise(4 * i + k, 1 << 16) as f32).sum::<f32>() / f32::from(u16::MAX) - 2.0;
        let side = (elements / MAPS).isqrt().max(1);
        let values: Vec<f32> = (0..MAPS * side * side).map(|i| bell(i).max(0.0)).collect();
        HostTensor::from_f32(vec![1, MAPS, side, side], &values)
    };
    made.map_err(|_| CodecError::TooLarge { what: "sample" })
}

/// Number `i` of a fixed sequence without pattern, below `limit`.
fn noise(i: usize, limit: u32) -> u32 {
    let mut x = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (x >> 33) as u32 % limit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{encode, spec};
    use std::cell::Cell;

    #[test]
    fn a_line_goes_through_both_ends() {
        let ends = |elements, encode_nanos, decode_nanos| Ends { elements, encode_nanos, decode_nanos };
        let line = fit(4, ends(100, 1_200, 500), ends(1_100, 3_200, 500));
        let wanted = CodecTiming {
            codec: 4,
            encode_nanos_per_element: 2.0,
            decode_nanos_per_element: 0.0,
            fixed_nanos: 1_000.0,
        };
        assert_eq!(line, wanted);
        // A large one that seems quicker, and a small one that seems free.
        let noisy = fit(4, ends(100, 900, 0), ends(1_100, 800, 3_000));
        assert_eq!((noisy.encode_nanos_per_element, noisy.decode_nanos_per_element), (0.0, 3.0));
        assert_eq!(noisy.fixed_nanos, 900.0);
    }

    #[test]
    fn every_codec_is_timed_by_the_clock_that_is_handed_in() {
        // Two readings are 61,440 ns apart the first time a size is measured and twice that for the large one.
        let now = Cell::new(0);
        let readings = Cell::new(0u64);
        let per_size = 3 * (REPETITIONS as u64 + 1);
        let clock = || {
            let large = readings.get() / per_size % 2;
            readings.set(readings.get() + 1);
            now.set(now.get() + 61_440 * (1 + large));
            now.get()
        };
        let timings = measure(&clock).unwrap();
        assert_eq!(timings.iter().map(|t| t.codec).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 16, 17, 18]);
        for timing in timings.iter().filter(|t| t.codec != 6) {
            assert_eq!((timing.encode_nanos_per_element, timing.decode_nanos_per_element), (1.0, 1.0));
            assert_eq!(timing.fixed_nanos, 61_440.0 - 4_096.0);
        }
    }

    #[test]
    fn samples_look_like_what_travels() {
        let activations = sample(&codecs()[0], 10_000).unwrap().to_f32().unwrap();
        let zeros = activations.iter().filter(|v| **v == 0.0).count();
        assert!((4_000..6_000).contains(&zeros), "{zeros} of 10,000");
        assert!(activations.iter().all(|v| (0.0..=2.0).contains(v)));
        let image = sample(&codecs()[6], 12_288).unwrap();
        assert_eq!(image.shape(), [1, 64, 64, 3]);
        let packed = encode(6, 90, &image).unwrap();
        assert!(packed.data.len() < image.data().len() / 2, "{} bytes", packed.data.len());
    }

    #[test]
    fn errors_cancel_in_what_ff_c_is_timed_with() {
        let (plain, cancelling) = (spec(ff::ID_HAAR).unwrap(), spec(ff::ID_CANCELLING).unwrap());
        let (rate, sample) = (cancelling.usual_rate(), sample(cancelling, 4_096).unwrap());
        assert_eq!(sample_package(plain.id, rate, &sample), Ok(None));
        let package = sample_package(cancelling.id, rate, &sample).unwrap().unwrap();
        let cut = package.cut(SAMPLE).unwrap();
        assert_eq!(cut.cancelling().and_then(ff::CutPackage::directions).map(ff::Directions::count), Some(DIRECTIONS));
        let frame = |codec| encode_with(codec, rate, &sample, Some(cut)).unwrap().data;
        assert_ne!(ff::package_of(&frame(plain.id)), ff::package_of(&frame(cancelling.id)));
    }
}
