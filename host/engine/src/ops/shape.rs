//! Moving elements about.

use super::{Dispatch, Tensor};
use bps_graph::AxisRange;
use burn::backend::TensorMetadata;
use burn::backend::ops::{FloatTensorOps, PadMode};
use burn::tensor::Slice;

pub(super) fn slice(x: Tensor, ranges: &[AxisRange]) -> Tensor {
    let shape = x.shape();
    let slices: Vec<Slice> = (0..shape.len())
        .map(|axis| match ranges.iter().find(|r| r.axis == axis) {
            Some(range) => {
                let (start, end) = range.resolve(shape[axis]);
                Slice::new(start as isize, Some(end as isize), range.step as isize)
            }
            None => Slice::new(0, Some(shape[axis] as isize), 1),
        })
        .collect();
    Dispatch::float_slice(x, &slices)
}

pub(super) fn split(x: Tensor, axis: usize, sizes: &[usize]) -> Vec<Tensor> {
    let mut start = 0i64;
    sizes
        .iter()
        .map(|&size| {
            let range = AxisRange { axis, start, end: start + size as i64, step: 1 };
            start = range.end;
            slice(x.clone(), &[range])
        })
        .collect()
}

/// `pads` are all begins, then all ends.
pub(super) fn pad(x: Tensor, pads: &[usize], value: f32) -> Result<Tensor, String> {
    let rank = x.shape().len();
    if pads.len() != 2 * rank {
        return Err(format!("{} pads for {rank} dimensions", pads.len()));
    }
    let (begins, ends) = pads.split_at(rank);
    let pairs: Vec<_> = begins.iter().copied().zip(ends.iter().copied()).collect();
    Ok(Dispatch::float_pad(x, &pairs, PadMode::Constant(value)))
}
