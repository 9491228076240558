//! Holds the kernels of `shaders/` against their references on a real device.

mod ff;

use crate::device::OpenDevice;
use crate::host::{Tensor, read_back, upload};
use crate::model::PixelInput;
use crate::{JobError, kernel};
use bps_codec::{Layout, f16, int8, normalize_u8};
use burn::backend::Dispatch;
use burn::backend::ops::FloatTensorOps;
use serde::Serialize;

/// A kernel's largest deviation from its reference, in units that its tolerance is given in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KernelCheck {
    /// Names of the shaders.
    pub kernel: String,
    /// What they ran on.
    pub data: String,
    /// Elements compared.
    pub element_count: usize,
    /// Largest deviation; infinite where one is not a number and the other is.
    pub deviation: f64,
    /// Largest deviation that passes, as `shaders/README.md` states it.
    pub tolerance: f64,
}

impl KernelCheck {
    /// Whether the deviation is within the tolerance.
    pub fn passed(&self) -> bool {
        self.deviation <= self.tolerance
    }
}

/// Element counts that meet every edge: part of a word, of a workgroup, several workgroups, a reduction's stride.
const LENGTHS: [usize; 6] = [1, 3, 255, 1_024, 70_001, 300_000];

pub(crate) fn check_kernels(device: &OpenDevice) -> Result<Vec<KernelCheck>, JobError> {
    if device.is_cpu() {
        return Ok(vec![]);
    }
    let mut checks = vec![];
    for (rows, height, width, channels) in [(1, 1, 1, 1), (2, 5, 7, 3), (3, 96, 128, 3), (1, 8, 8, 1)] {
        checks.push(check_normalize(device, rows, height, width, channels)?);
    }
    let wave = |count: usize| (0..count).map(|i| (i as f32 * 0.37).sin() * 3.0 + 0.25).collect::<Vec<f32>>();
    for count in LENGTHS {
        check_int8(device, &format!("{count} values"), 1, &wave(count), &mut checks)?;
        check_f16(device, &format!("{count} values"), &wave(count), &mut checks)?;
    }
    for (rows, row_elements) in [(2, 1), (5, 3), (3, 70_001), (300, 257)] {
        // Rows of unlike size: a row must not see its neighbours.
        let size = |i: usize| 10f32.powi((i / row_elements % 7) as i32 - 3);
        let values: Vec<f32> = wave(rows * row_elements).iter().enumerate().map(|(i, v)| v * size(i)).collect();
        check_int8(device, &format!("{rows} rows of {row_elements}"), rows, &values, &mut checks)?;
    }
    check_int8(device, "one value many times", 1, &[2.5; 300], &mut checks)?;
    let special = [f32::NAN, f32::INFINITY, -1.0, f32::NEG_INFINITY, 1.0, 0.0, -0.0];
    check_int8(device, "special values", 1, &special, &mut checks)?;
    check_int8(device, "nothing finite", 1, &[f32::NAN, f32::INFINITY], &mut checks)?;
    check_int8(device, "the whole range", 1, &[f32::MAX, f32::MIN, 1.0, 0.0], &mut checks)?;
    // Every sign and exponent, with the mantissas at which rounding turns.
    let mantissas = [0, 1, 0xfff, 0x1000, 0x1001, 0x1fff, 0x2000, 0x3000, 0x3001, 0x40_0000, 0x7f_efff, 0x7f_ffff];
    let edges = (0..512u32).flat_map(|top| mantissas.map(|m| f32::from_bits(top << 23 | m)));
    check_f16(device, "every exponent", &edges.collect::<Vec<_>>(), &mut checks)?;
    checks.push(check_every_half(device)?);
    checks.push(check_permuted(device)?);
    ff::check(device, &mut checks)?;
    Ok(checks)
}

fn check_normalize(
    device: &OpenDevice,
    rows: usize,
    height: usize,
    width: usize,
    channels: usize,
) -> Result<KernelCheck, JobError> {
    let mean = (0..channels).map(|c| 120.0 + c as f32 * 3.5).collect();
    let scale = (0..channels).map(|c| 1.0 / (57.0 + c as f32)).collect();
    let pixels = PixelInput { input: 0, height, width, channels, mean, scale };
    let element_count = rows * height * width * channels;
    let bytes: Vec<u8> = (0..element_count).map(|i| (i * 7 + i / 251) as u8).collect();
    let wanted = normalize_u8(&bytes, pixels.shape(rows), &pixels.mean, &pixels.scale)
        .map_err(|e| JobError::failed(e.to_string()))?;
    let tensor = kernel::normalize(device, bytes, &pixels, rows)?;
    let got = from_device(device, tensor, &[rows, channels, height, width])?;
    Ok(KernelCheck {
        kernel: "normalize_u8".into(),
        data: format!("{rows} x {height} x {width} x {channels}"),
        element_count,
        deviation: largest(&got, &wanted, |w| f64::from(w.abs().max(f32::MIN_POSITIVE) * f32::EPSILON)),
        tolerance: 2.0,
    })
}

fn check_int8(
    device: &OpenDevice,
    data: &str,
    rows: usize,
    values: &[f32],
    checks: &mut Vec<KernelCheck>,
) -> Result<(), JobError> {
    let shape = [rows, values.len() / rows];
    let wanted: Vec<u32> = values.chunks(shape[1]).flat_map(int8::quantize).collect();
    let got = words(&kernel::pack(Layout::Int8, on_device(device, values, &shape), &shape)?);
    let row_words = int8::word_count(shape[1]);
    let unit = |w: f32| f64::from(w.abs().max(f32::MIN_POSITIVE) * f32::EPSILON);
    let mut push = |kernel: &str, element_count, deviation, tolerance| {
        checks.push(KernelCheck { kernel: kernel.into(), data: data.into(), element_count, deviation, tolerance });
    };
    // Word `k` of each row's header.
    let header = |words: &[u32], k: usize| -> Vec<f32> {
        words.chunks(row_words).filter_map(|row| row.get(k)).map(|w| f32::from_bits(*w)).collect()
    };
    push("int8_range", values.len(), largest(&header(&got, 1), &header(&wanted, 1), unit), 0.0);
    push("int8_pack, scale", rows, largest(&header(&got, 0), &header(&wanted, 0), unit), 3.0);
    let codes = |words: &[u32]| -> Vec<f32> {
        let codes = words.chunks(row_words).flat_map(|row| row.iter().skip(int8::HEADER_WORDS));
        codes.flat_map(|w| w.to_le_bytes()).map(f32::from).collect()
    };
    push("int8_pack, codes", values.len(), largest(&codes(&got), &codes(&wanted), |_| 1.0), 1.0);
    let packed: Vec<u8> = wanted.iter().flat_map(|w| w.to_le_bytes()).collect();
    let unpacked = from_device(device, kernel::unpack(device, Layout::Int8, &packed, &shape)?, &shape)?;
    let mut deviation = 0.0;
    for (row, got) in wanted.chunks(row_words).zip(unpacked.chunks(shape[1])) {
        let reference = int8::dequantize(row, shape[1]).map_err(|e| JobError::failed(e.to_string()))?;
        let magnitude = reference.iter().filter(|v| v.is_finite()).fold(0.0f32, |m, v| m.max(v.abs()));
        deviation = largest(got, &reference, |_| unit(magnitude)).max(deviation);
    }
    push("int8_unpack", values.len(), deviation, 2.0);
    Ok(())
}

fn check_f16(device: &OpenDevice, data: &str, values: &[f32], checks: &mut Vec<KernelCheck>) -> Result<(), JobError> {
    let shape = [1, values.len()];
    let wanted = f16::pack(values);
    let got = kernel::pack(Layout::F16, on_device(device, values, &shape), &shape)?;
    checks.push(exact("f16_pack", data, got.as_chunks::<2>().0, wanted.as_chunks::<2>().0));
    let reference = f16::unpack(&wanted, values.len()).map_err(|e| JobError::failed(e.to_string()))?;
    let unpacked = from_device(device, kernel::unpack(device, Layout::F16, &wanted, &shape)?, &shape)?;
    checks.push(exact("f16_unpack", data, &bits(&unpacked), &bits(&reference)));
    Ok(())
}

fn check_every_half(device: &OpenDevice) -> Result<KernelCheck, JobError> {
    let halves: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    let shape = [1, halves.len() / 2];
    let reference = f16::unpack(&halves, shape[1]).map_err(|e| JobError::failed(e.to_string()))?;
    let unpacked = from_device(device, kernel::unpack(device, Layout::F16, &halves, &shape)?, &shape)?;
    Ok(exact("f16_unpack", "every half", &bits(&unpacked), &bits(&reference)))
}

/// A tensor whose elements do not lie in the order of its shape.
fn check_permuted(device: &OpenDevice) -> Result<KernelCheck, JobError> {
    let values: Vec<f32> = (0..2 * 3 * 5).map(|i| i as f32).collect();
    let permuted = Dispatch::float_permute(on_device(device, &values, &[2, 3, 5]), &[2, 0, 1]);
    let wanted: Vec<f32> = (0..values.len()).map(|i| values[i % 6 * 5 + i / 6]).collect();
    let got = kernel::pack(Layout::F16, permuted, &[5, 2, 3])?;
    Ok(exact("f16_pack", "permuted", got.as_chunks::<2>().0, f16::pack(&wanted).as_chunks::<2>().0))
}

fn on_device(device: &OpenDevice, values: &[f32], shape: &[usize]) -> Tensor {
    upload(values.to_vec(), shape, device.burn())
}

fn from_device(device: &OpenDevice, tensor: Tensor, shape: &[usize]) -> Result<Vec<f32>, JobError> {
    read_back(tensor, shape, device)?.to_f32().map_err(|e| JobError::failed(e.to_string()))
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Counts elements that differ in any bit; none may.
fn exact<T: PartialEq>(kernel: &str, data: &str, got: &[T], wanted: &[T]) -> KernelCheck {
    let differing = got.iter().zip(wanted).filter(|(g, w)| g != w).count();
    let deviation = if got.len() == wanted.len() { differing as f64 } else { f64::INFINITY };
    let (kernel, data) = (kernel.into(), data.into());
    KernelCheck { kernel, data, element_count: wanted.len(), deviation, tolerance: 0.0 }
}

/// Largest difference in units of `unit(wanted)`.
fn largest(got: &[f32], wanted: &[f32], unit: impl Fn(f32) -> f64) -> f64 {
    if got.len() != wanted.len() {
        return f64::INFINITY;
    }
    let differences = got.iter().zip(wanted).map(|(&g, &w)| match (g.is_nan(), w.is_nan()) {
        (true, true) => 0.0,
        (false, false) if g == w => 0.0,
        (false, false) => (f64::from(g) - f64::from(w)).abs() / unit(w),
        _ => f64::INFINITY,
    });
    differences.fold(0.0, f64::max)
}
