//! Holds the kernels of `shaders/` against their references on a real device.

use crate::device::OpenDevice;
use crate::host::read_back;
use crate::model::PixelInput;
use crate::{JobError, kernel};
use bps_codec::{int8, normalize_u8};
use serde::Serialize;

/// A kernel's largest deviation from its reference, in units that its tolerance is given in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KernelCheck {
    /// Name of the shader and of the data.
    pub kernel: String,
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
    for count in LENGTHS {
        let wave: Vec<f32> = (0..count).map(|i| (i as f32 * 0.37).sin() * 3.0 + 0.25).collect();
        check_int8(device, &format!("{count} values"), &wave, &mut checks)?;
    }
    check_int8(device, "one value many times", &[2.5; 300], &mut checks)?;
    let special = [f32::NAN, f32::INFINITY, -1.0, f32::NEG_INFINITY, 1.0, 0.0, -0.0];
    check_int8(device, "special values", &special, &mut checks)?;
    check_int8(device, "nothing finite", &[f32::NAN, f32::INFINITY], &mut checks)?;
    check_int8(device, "the whole range", &[f32::MAX, f32::MIN, 1.0, 0.0], &mut checks)?;
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
    let got = read_back(tensor, &[rows, channels, height, width], device)?;
    let got = got.to_f32().map_err(|e| JobError::failed(e.to_string()))?;
    Ok(KernelCheck {
        kernel: format!("normalize_u8, {rows} x {height} x {width} x {channels}"),
        element_count,
        deviation: largest(&got, &wanted, |w| f64::from(w.abs().max(f32::MIN_POSITIVE) * f32::EPSILON)),
        tolerance: 2.0,
    })
}

fn check_int8(device: &OpenDevice, data: &str, values: &[f32], checks: &mut Vec<KernelCheck>) -> Result<(), JobError> {
    let wanted = int8::quantize(values);
    let got = kernel::int8_pack(device, values)?;
    let header = |words: &[u32]| [f32::from_bits(words[0]), f32::from_bits(words[1])];
    let unit = |w: f32| f64::from(w.abs().max(f32::MIN_POSITIVE) * f32::EPSILON);
    let mut push = |kernel: &str, element_count, deviation, tolerance| {
        checks.push(KernelCheck { kernel: format!("{kernel}, {data}"), element_count, deviation, tolerance });
    };
    push("int8_range", values.len(), largest(&header(&got)[1..], &header(&wanted)[1..], unit), 0.0);
    push("int8_pack, scale", 1, largest(&header(&got)[..1], &header(&wanted)[..1], unit), 3.0);
    let codes = |words: &[u32]| -> Vec<f32> {
        words[int8::HEADER_WORDS..].iter().flat_map(|w| w.to_le_bytes()).map(f32::from).collect()
    };
    push("int8_pack, codes", values.len(), largest(&codes(&got), &codes(&wanted), |_| 1.0), 1.0);
    let unpacked = kernel::int8_unpack(device, &wanted, values.len())?;
    let reference = int8::dequantize(&wanted, values.len()).map_err(|e| JobError::failed(e.to_string()))?;
    let magnitude = reference.iter().filter(|v| v.is_finite()).fold(0.0f32, |m, v| m.max(v.abs()));
    push("int8_unpack", values.len(), largest(&unpacked, &reference, |_| unit(magnitude)), 2.0);
    Ok(())
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
