//! Normalisations across channels.

use super::{Dispatch, Tensor, pool, reshape};
use bps_graph::Lrn;
use burn::backend::TensorMetadata;
use burn::backend::ops::{FloatTensorOps, ModuleOps, PadMode};

/// `x * a + b` with one `a` and one `b` per channel.
pub(super) fn affine(x: Tensor, a: Tensor, b: Tensor) -> Tensor {
    let mut shape = vec![1; x.shape().len()];
    if let Some(channels) = shape.get_mut(1) {
        *channels = a.shape().num_elements();
    }
    let (a, b) = (reshape(a, &shape), reshape(b, &shape));
    Dispatch::float_add(Dispatch::float_mul(x, a), b)
}

/// Operands: data, scale, bias, mean, variance.
pub(super) fn batch_normalization(epsilon: f32, [x, scale, bias, mean, variance]: [Tensor; 5]) -> Tensor {
    let deviation = Dispatch::float_sqrt(Dispatch::float_add_scalar(variance, epsilon.into()));
    let a = Dispatch::float_div(scale, deviation);
    let b = Dispatch::float_sub(bias, Dispatch::float_mul(mean, a.clone()));
    affine(x, a, b)
}

pub(super) fn lrn(lrn: &Lrn, x: Tensor) -> Tensor {
    let shape = x.shape();
    let planes = pool::planes(x.clone());
    let [rows, channels, plane] = [planes.shape()[0], planes.shape()[1], planes.shape()[2]];
    let squares = reshape(Dispatch::float_mul(planes.clone(), planes), &[rows, 1, channels, plane]);
    let pads = [(0, 0), (0, 0), ((lrn.size - 1) / 2, lrn.size / 2), (0, 0)];
    let squares = Dispatch::float_pad(squares, &pads, PadMode::Constant(0.0));
    let means = Dispatch::avg_pool2d(squares, [lrn.size, 1], [1, 1], [0, 0], true, false);
    let base = Dispatch::float_add_scalar(Dispatch::float_mul_scalar(means, lrn.alpha.into()), lrn.bias.into());
    let divisor = reshape(Dispatch::float_powf_scalar(base, lrn.beta.into()), &shape);
    Dispatch::float_div(x, divisor)
}
