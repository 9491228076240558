//! The kernels of FF against its processor path.

use super::{KernelCheck, bits, exact, from_device, largest, on_device};
use crate::JobError;
use crate::device::OpenDevice;
use crate::host::Tensor;
use crate::kernel::ff;
use bps_codec::ff::{
    Calibration, CutPackage, Entropy, Frame, FrameReader, Mode, Order, Package, Settings, Weights, calibrate,
};
use bps_codec::{Layout, Opened, frame_writer};
use bps_types::HostTensor;
use burn::backend::Dispatch;
use burn::backend::ops::FloatTensorOps;

/// Shapes that meet every edge: maps of one element and of odd sizes, several rows, several chunks, several groups, more
/// sequences than a workgroup has invocations, more channels than 16 bits count.
const SHAPES: [&[usize]; 14] = [
    &[1, 1, 1, 1],
    &[7],
    &[3, 10],
    &[2, 3, 9],
    &[2, 5, 7, 1],
    &[1, 4, 2, 2],
    &[2, 9, 3, 5],
    &[2, 6, 13, 34],
    &[1, 7, 29, 31],
    &[2, 44, 40, 40],
    &[1, 3, 150, 151],
    &[300, 20],
    &[270, 2, 3, 3],
    &[2, 70_001],
];

/// Step, in units in the last place: squares are added up in another order.
const STEP_TOLERANCE: f64 = 16.0;
/// Symbol: the same, but where a device does not round as IEEE 754 says.
const SYMBOL_TOLERANCE: f64 = 1.0;

pub(super) fn check(device: &OpenDevice, checks: &mut Vec<KernelCheck>) -> Result<(), JobError> {
    for (index, shape) in SHAPES.into_iter().enumerate() {
        let mode = |mode, entropy| Settings { entropy, ..Settings::new(mode, 4 + index as u8) };
        let behind_relu = maps(shape, 0.0);
        for (settings, values) in [
            (mode(Mode::Scalar, Entropy::Pack), &behind_relu),
            (mode(Mode::Haar1, Entropy::Rans), &behind_relu),
            (mode(Mode::Haar2, Entropy::Pack), &maps(shape, -1e9)),
        ] {
            check_one(device, &settings, shape, values, false, checks)?;
            if shape.len() == 4 {
                check_one(device, &settings, shape, values, true, checks)?;
            }
        }
    }
    check_specials(device, checks)?;
    check_widest(device, checks)?;
    check_calibrated(device, checks)
}

/// Soft waves, a phase and a strength to each channel, cut off below `least`.
fn maps(shape: &[usize], least: f32) -> Vec<f32> {
    let count: usize = shape.iter().product();
    let plane: usize = shape.iter().skip(2).product();
    let value = |i: usize| {
        let (channel, place) = ((i / plane.max(1)) as f32, (i % plane.max(1)) as f32);
        (0.31 * place + channel).sin() * (1.0 + (channel * 0.7).cos()) + (0.013 * place).cos()
    };
    (0..count).map(|i| value(i).max(least)).collect()
}

/// What is no number, very large, very small, or at the border of a step.
fn check_specials(device: &OpenDevice, checks: &mut Vec<KernelCheck>) -> Result<(), JobError> {
    let shape = [2, 5, 15, 11];
    let odd = [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MAX,
        f32::from_bits(0xffc0_1234),
        -1e30,
        -0.0,
        1e-41,
        -f32::MIN_POSITIVE,
    ];
    let among_maps = |odd: &[f32]| {
        let mut values = maps(&shape, -1e9);
        odd.iter().enumerate().for_each(|(i, v)| values[i * 97] = *v);
        values
    };
    let scaled = |scale: f32| maps(&shape, -1e9).iter().map(|v| v * scale).collect::<Vec<_>>();
    let constant = |value: f32| vec![value; shape.iter().product()];
    let scales = [1e30, 1e-25, 1e-37].map(scaled);
    let constants = [0.0, -3.0, 1e-44].map(constant);
    // Large ones make steps in which everything else is zero, so that the others are also looked at alone.
    let all = [among_maps(&odd), among_maps(&odd[..3])].into_iter().chain(scales).chain(constants);
    for values in &all.collect::<Vec<_>>() {
        for (mode, entropy) in Mode::ALL.into_iter().zip([Entropy::Zstd, Entropy::Rans, Entropy::Pack]) {
            let settings = Settings { entropy, ..Settings::new(mode, 9) };
            check_one(device, &settings, &shape, values, mode == Mode::Haar1, checks)?;
        }
    }
    Ok(())
}

/// The largest symbols there are: patches far above a map of zeros, just small enough to be no exceptions.
fn check_widest(device: &OpenDevice, checks: &mut Vec<KernelCheck>) -> Result<(), JobError> {
    let shape = [1, 4, 256, 256];
    for other in [3.0, -3.0] {
        let mut values = vec![0.0; shape.iter().product()];
        for (channel, value) in [(1, 3.0), (2, other)] {
            // Of one place behind two levels.
            (8..12).for_each(|line| values[(channel * 256 + line) * 256 + 16..][..4].fill(value));
        }
        let settings = Settings { entropy: Entropy::Pack, ..Settings::new(Mode::Haar2, 3) };
        check_one(device, &settings, &shape, &values, other > 0.0, checks)?;
    }
    Ok(())
}

/// Steps and offsets of a package, by channel.
fn check_calibrated(device: &OpenDevice, checks: &mut Vec<KernelCheck>) -> Result<(), JobError> {
    let failed = |e: bps_codec::ff::FfError| JobError::failed(e.to_string());
    let shape = [2, 6, 21, 26];
    let values = maps(&shape, 0.0);
    let sample = HostTensor::from_f32(shape.to_vec(), &values).map_err(|e| JobError::failed(e.to_string()))?;
    // Weights by channel and band, so that steps differ.
    let weights = |bands: usize| (0..6 * bands).map(|i| 1.0 + (i * 5 % 7) as f32).collect();
    let package = calibrate(&Calibration {
        name: "checked",
        model: [0; 32],
        samples: &[sample],
        order: Order::Nchw,
        modes: &Mode::ALL,
        rates: &[8],
        weights: &Weights(vec![(Mode::Scalar, weights(1)), (Mode::Haar1, weights(4)), (Mode::Haar2, weights(7))]),
        directions: None,
    })
    .map_err(failed)?;
    for mode in Mode::ALL {
        for (entropy, inside) in [(Entropy::Pack, false), (Entropy::Rans, true)] {
            let settings = Settings { entropy, package: Some(&package), ..Settings::new(mode, 8) };
            check_one(device, &settings, &shape, &values, inside, checks)?;
        }
    }
    Ok(())
}

/// Both directions; `inside` has channels innermost in memory.
fn check_one(
    device: &OpenDevice,
    settings: &Settings<'_>,
    shape: &[usize],
    values: &[f32],
    inside: bool,
    checks: &mut Vec<KernelCheck>,
) -> Result<(), JobError> {
    let failed = |e: bps_codec::ff::FfError| JobError::failed(e.to_string());
    let given = HostTensor::from_f32(shape.to_vec(), values).map_err(|e| JobError::failed(e.to_string()))?;
    let lying = if inside { channels_inside(device, values, shape) } else { on_device(device, values, shape) };
    let missing = || JobError::failed("a device made no frame");
    let frame = ff::encode(lying, shape, settings)?.ok_or_else(missing)?;
    let order = Frame::read(&frame).map_err(failed)?.order;
    let kind = if settings.package.is_some() { "calibrated" } else { "data-free" };
    let data = format!("{} {:?} {kind}, {shape:?} {order:?}", settings.mode.name(), settings.entropy);
    let mut push = |kernel: &str, element_count, deviation, tolerance| {
        let (kernel, data) = (kernel.to_owned(), data.clone());
        checks.push(KernelCheck { kernel, data, element_count, deviation, tolerance });
    };

    // The processor's frame in the steps of the device's one.
    let writer = frame_writer(&Settings { order, ..*settings }, shape).map_err(failed)?.ok_or_else(missing)?;
    let own = bps_codec::ff::encode(settings, &given).map_err(failed)?;
    let (steps, own_steps) = (row_steps(&frame, shape, settings)?, row_steps(&own, shape, settings)?);
    let ulp = |step: f32| f64::from(step * f32::EPSILON);
    push("ff_power, ff_step", values.len(), largest(&steps, &own_steps, ulp), STEP_TOLERANCE);
    let wanted = writer.reference(&given, &steps).map_err(failed)?;

    let reader = FrameReader::new(&frame, shape, settings.package).map_err(failed)?;
    let reference = FrameReader::new(&wanted, shape, settings.package).map_err(failed)?;
    let floats = |reader: &FrameReader<'_>| -> Result<Vec<f32>, JobError> {
        Ok(reader.symbols().map_err(failed)?.into_iter().map(f32::from).collect())
    };
    let symbols = floats(&reader)?;
    let deviation = largest(&symbols, &floats(&reference)?, |_| 1.0);
    push("ff_quantise", symbols.len(), deviation, SYMBOL_TOLERANCE);
    let rewritten = reader.rewritten().map_err(failed)?;
    let packing = exact("ff_widths, ff_scan, ff_clear, ff_pack", &data, &frame[..], &rewritten);

    // The way back, of the processor's frame.
    let decoded = bps_codec::ff::decode(&wanted, shape, Order::Nchw, settings.package).map_err(failed)?;
    let decoded = decoded.to_f32().map_err(|e| JobError::failed(e.to_string()))?;
    let package = settings.package.map(package_of).transpose()?;
    let opened = Opened { layout: Layout::Ff, bytes: wanted.into() };
    let arrived = ff::open(&opened, shape, package.as_ref()).map_err(|e| JobError::failed(e.to_string()))?;
    let restored = ff::restore(device, vec![arrived.ok_or_else(missing)?], shape)?;
    let restored = from_device(device, restored, shape)?;
    let coded = settings.entropy == Entropy::Rans;
    let kernels = if coded { "ff_dequantise, ff_restore" } else { "ff_unpack, ff_dequantise, ff_restore" };
    let back = exact(kernels, &data, &bits(&restored), &bits(&decoded));
    checks.extend([packing, back]);
    Ok(())
}

fn package_of(cut: &CutPackage) -> Result<Package, JobError> {
    Package::new(*cut.model(), vec![cut.clone()]).map_err(|e| JobError::failed(e.to_string()))
}

/// The step of every row's first plane.
fn row_steps(frame: &[u8], shape: &[usize], settings: &Settings<'_>) -> Result<Vec<f32>, JobError> {
    let failed = |e: bps_codec::ff::FfError| JobError::failed(e.to_string());
    let reader = FrameReader::new(frame, shape, settings.package).map_err(failed)?;
    let row_chunks = reader.geometry().row_chunks().max(1);
    let chunks = reader.chunks(usize::MAX).map_err(failed)?;
    Ok(chunks.iter().step_by(row_chunks).map(|chunk| reader.plane(chunk, 0, 0).0).collect())
}

/// The tensor as a convolution leaves it on a GPU: NCHW by its shape, NHWC in memory.
fn channels_inside(device: &OpenDevice, values: &[f32], shape: &[usize]) -> Tensor {
    let &[rows, channels, height, width] = shape else { return on_device(device, values, shape) };
    let (plane, row) = (height * width, channels * height * width);
    let turned = |i: usize| values[i / row * row + i % channels * plane + i % row / channels];
    let turned: Vec<f32> = (0..values.len()).map(turned).collect();
    Dispatch::float_permute(on_device(device, &turned, &[rows, height, width, channels]), &[0, 3, 1, 2])
}
