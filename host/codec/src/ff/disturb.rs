//! Small errors where quantisation makes its own: in the coefficients. Calibration sends them through a model to see which
//! bands matter at its end.

use super::geometry::{Bands, Dims};
use super::transform::Workspace;
use super::{FfError, Mode, Order};
use bps_types::{DataType, HostTensor};

/// Bands and channels of NCHW tensors of this shape: there are `bands * channels` planes, band after band, channels inside.
/// Errors where FF does not take the shape.
pub fn planes(mode: Mode, shape: &[usize]) -> Result<(usize, usize), FfError> {
    let dims = Dims::of(shape, Order::Nchw)?;
    Ok((Bands::of(mode, dims.height, dims.width).count(), dims.channels))
}

/// Adds `amount`, each time with a sign of its own, to every coefficient of the chosen planes of every row of an FP32
/// tensor in NCHW, and transforms back. `sign` is asked coefficient after coefficient, true for minus. Gives the tensor and
/// the number of coefficients of a row that were changed. Errors where type or shape do not fit, or `chosen` does not have
/// one entry for each plane.
pub fn disturb(
    tensor: &HostTensor,
    mode: Mode,
    amount: f32,
    chosen: &[bool],
    sign: &mut dyn FnMut() -> bool,
) -> Result<(HostTensor, usize), FfError> {
    if tensor.data_type() != DataType::Fp32 {
        return Err(FfError::Type(tensor.data_type()));
    }
    let dims = Dims::of(tensor.shape(), Order::Nchw)?;
    let bands = Bands::of(mode, dims.height, dims.width);
    if chosen.len() != bands.count() * dims.channels {
        return Err(FfError::Calibration { what: "planes", message: "not one entry for each".to_owned() });
    }
    let is_chosen = |band: usize, channel: usize| chosen[band * dims.channels + channel];
    let mut space = Workspace::new(bands, dims.height, dims.width);
    let mut data = tensor.data().to_vec();
    let (elements, _) = data.as_chunks_mut::<4>();
    for row in elements.chunks_exact_mut(dims.row_elements().max(1)) {
        for (channel, plane) in row.chunks_exact_mut(dims.plane().max(1)).enumerate() {
            if !(0..bands.count()).any(|band| is_chosen(band, channel)) {
                continue;
            }
            for (band, shape) in bands.all().iter().enumerate() {
                let mut symbol = || if !is_chosen(band, channel) { 0 } else { 1 - 2 * i16::from(sign()) };
                let symbols: Vec<i16> = (0..shape.plane()).map(|_| symbol()).collect();
                space.dequantise(band, amount, [0; 4], &symbols);
            }
            space.inverse();
            for (element, change) in plane.iter_mut().zip(&space.values) {
                *element = (f32::from_le_bytes(*element) + change).to_le_bytes();
            }
        }
    }
    let counts = bands.all().iter().enumerate().flat_map(|(band, shape)| {
        (0..dims.channels).filter(move |channel| is_chosen(band, *channel)).map(|_| shape.plane())
    });
    let tensor = HostTensor::new(DataType::Fp32, tensor.shape().to_vec(), data.into())
        .map_err(|e| FfError::Calibration { what: "tensor", message: e.to_string() })?;
    Ok((tensor, counts.sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_energy_of_a_change_is_that_of_its_coefficients() {
        let shape = [2, 3, 8, 8];
        let given = HostTensor::from_f32(shape.to_vec(), &[1.0; 384]).unwrap();
        assert_eq!(planes(Mode::Haar2, &shape).unwrap(), (7, 3));
        for (band, coefficients) in [(0, 4), (3, 4), (4, 16), (6, 16)] {
            let mut chosen = [false; 21];
            chosen[band * 3 + 1] = true;
            let mut count = 0;
            let mut sign = || {
                count += 1;
                count % 3 == 0
            };
            let (changed, per_row) = disturb(&given, Mode::Haar2, 0.5, &chosen, &mut sign).unwrap();
            assert_eq!((per_row, count), (coefficients, 2 * coefficients));
            let changed = changed.to_f32().unwrap();
            let energy = |at: usize| changed[64 * at..64 * (at + 1)].iter().map(|v| (v - 1.0).powi(2)).sum::<f32>();
            let wanted = 0.25 * coefficients as f32;
            for channel in 0..6 {
                let wanted = if channel % 3 == 1 { wanted } else { 0.0 };
                assert!((energy(channel) - wanted).abs() < 1e-4, "band {band}, channel {channel}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let given = HostTensor::from_f32(vec![1, 2, 4, 4], &[0.0; 32]).unwrap();
        let error = disturb(&given, Mode::Haar1, 1.0, &[true; 7], &mut || false).unwrap_err();
        assert_eq!(error.to_string(), "package, planes: not one entry for each");
        assert!(planes(Mode::Haar1, &[1; 5]).is_err());
        assert_eq!(planes(Mode::Haar2, &[4, 10]).unwrap(), (1, 10));
    }
}
