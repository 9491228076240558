//! How far a decoded tensor is from what went in.

use anyhow::{Result, bail};
use bps_types::{DataType, HostTensor};
use serde::Serialize;

/// Over elements that are finite on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Difference {
    /// Sum of squared errors over the sum of squares; none where nothing but zeros went in and something else came out.
    pub(super) nmse: Option<f64>,
    /// Largest error of an element.
    pub(super) largest: f64,
    /// Elements that are infinite or no numbers on one side, and not the same on the other.
    pub(super) not_finite_changed: u64,
}

/// Compares two tensors of the same type and shape. Errors where they are not, or differ in a type that no lossy codec
/// takes.
pub(super) fn difference(given: &HostTensor, back: &HostTensor) -> Result<Difference> {
    if (given.data_type(), given.shape()) != (back.data_type(), back.shape()) {
        bail!("{given:?} came back as {back:?}");
    }
    if given.data() == back.data() {
        return Ok(Difference { nmse: Some(0.0), largest: 0.0, not_finite_changed: 0 });
    }
    match given.data_type() {
        DataType::Fp32 => Ok(between(floats(given).zip(floats(back)))),
        DataType::Uint8 => Ok(between(bytes(given).zip(bytes(back)))),
        other => bail!("{other} came back with other bytes"),
    }
}

fn floats(tensor: &HostTensor) -> impl Iterator<Item = f64> {
    tensor.data().as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes)))
}

fn bytes(tensor: &HostTensor) -> impl Iterator<Item = f64> {
    tensor.data().iter().map(|byte| f64::from(*byte))
}

fn between(pairs: impl Iterator<Item = (f64, f64)>) -> Difference {
    let (mut errors, mut squares, mut largest, mut not_finite_changed) = (0.0, 0.0, 0.0f64, 0);
    for (given, back) in pairs {
        if given.is_finite() && back.is_finite() {
            errors += (given - back).powi(2);
            squares += given.powi(2);
            largest = largest.max((given - back).abs());
        } else if given != back && !(given.is_nan() && back.is_nan()) {
            not_finite_changed += 1;
        }
    }
    let nmse = if errors == 0.0 { Some(0.0) } else { Some(errors / squares).filter(|nmse| nmse.is_finite()) };
    Difference { nmse, largest, not_finite_changed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_known_values() {
        let tensor = |values: &[f32]| HostTensor::from_f32(vec![values.len()], values).unwrap();
        let of = |given: &[f32], back: &[f32]| difference(&tensor(given), &tensor(back)).unwrap();
        let seen = of(&[3.0, 4.0, f32::NAN, f32::INFINITY], &[3.0, 4.5, f32::NAN, f32::INFINITY]);
        assert_eq!(seen, Difference { nmse: Some(0.01), largest: 0.5, not_finite_changed: 0 });
        assert_eq!(of(&[0.0, 0.0], &[0.0, 1.0]), Difference { nmse: None, largest: 1.0, not_finite_changed: 0 });
        let changed = of(&[f32::NAN, 1.0, f32::INFINITY], &[0.0, f32::INFINITY, f32::NEG_INFINITY]);
        assert_eq!((changed.nmse, changed.not_finite_changed), (Some(0.0), 3));
    }

    #[test]
    fn other_types_are_the_same_or_wrong() {
        let tensor = |data_type, byte| HostTensor::new(data_type, vec![4], vec![byte; 4].into()).unwrap();
        let of = |data_type, byte| difference(&tensor(data_type, 4), &tensor(data_type, byte));
        assert_eq!(of(DataType::Int8, 4).unwrap().nmse, Some(0.0));
        assert!(of(DataType::Int8, 5).unwrap_err().to_string().contains("other bytes"));
        assert_eq!(of(DataType::Uint8, 6).unwrap().nmse, Some(0.25));
        let shaped = HostTensor::new(DataType::Int8, vec![2, 2], vec![4; 4].into()).unwrap();
        assert!(difference(&tensor(DataType::Int8, 4), &shaped).unwrap_err().to_string().contains("came back as"));
    }
}
