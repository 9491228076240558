//! Convolution and batch normalisation for training on the processor, with gradients of our own.
//!
//! Burn's gradient of a convolution's weights is a convolution with the whole batch as its kernel, and goes channel by
//! channel where channels do not mix; normalisation put together from single operators passes over the data a dozen times.
//! Here the first is two matrix products over patches, and the second two passes.

mod arithmetic;

use super::Tensor;
use crate::host::flex_values;
use arithmetic::{ConvPlan, channel_sums, normalised_back};
use bps_graph::Conv;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, TensorMetadata, backend_extension};
use burn::tensor::TensorData;

/// What a batch says about each channel.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Statistics {
    pub(crate) mean: Vec<f32>,
    pub(crate) variance: Vec<f32>,
}

/// Added to variances: a channel that is the same everywhere has none.
pub(crate) const EPSILON: f32 = 1e-5;

/// Operators that learn. All tensors are FP32.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait Learning: Backend {
    /// A convolution without bias of `[rows, in, height, width]` with weights `[out, in / groups, kernel, kernel]`, to planes
    /// of `output`. Either all channels mix or none do.
    fn learning_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        conv: Conv,
        output: [usize; 2],
    ) -> FloatTensor<Self>;

    /// Each channel less its mean, over its deviation, times `gain`, plus `shift`. The statistics are those of `x`, and
    /// gradients pass through them.
    fn normalised(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        statistics: Statistics,
    ) -> FloatTensor<Self>;
}

/// Whether [`Learning::learning_conv`] takes it.
pub(crate) fn takes(conv: &Conv, weight_shape: &[usize]) -> bool {
    conv.groups == 1 || (weight_shape.first() == Some(&conv.groups) && weight_shape.get(1) == Some(&1))
}

/// The statistics of `[rows, channels, ...]`.
pub(crate) fn statistics(x: Tensor) -> Result<Statistics, String> {
    let shape = x.shape();
    let (channels, plane) = (shape[1], shape.iter().skip(2).product());
    let count = (shape[0] * plane) as f64;
    let (x, start) = flex_values(burn::tensor::Tensor::<1>::from_dispatch(x).inner().into_dispatch())?;
    let x = &x.storage::<f32>()[start..start + shape.num_elements()];
    let (sums, squares) = channel_sums(x, x, channels, plane);
    let mean: Vec<f64> = sums.iter().map(|sum| sum / count).collect();
    let variance = squares.iter().zip(&mean).map(|(square, mean)| (square / count - mean * mean).max(0.0) as f32);
    Ok(Statistics { variance: variance.collect(), mean: mean.iter().map(|mean| *mean as f32).collect() })
}

impl Statistics {
    /// One over the deviation of each channel.
    pub(crate) fn inverse(&self) -> Vec<f32> {
        self.variance.iter().map(|variance| 1.0 / (variance + EPSILON).sqrt()).collect()
    }
}

impl Learning for Flex {
    fn learning_conv(x: FlexTensor, weight: FlexTensor, conv: Conv, output: [usize; 2]) -> FlexTensor {
        let plan = ConvPlan::new(&conv, &x.shape(), &weight.shape(), output);
        let values = plan.forward(values(&x.to_contiguous()), &weight);
        tensor(values, &[plan.rows, plan.channels_out, output[0], output[1]])
    }

    fn normalised(x: FlexTensor, gain: FlexTensor, shift: FlexTensor, statistics: Statistics) -> FlexTensor {
        let (x, gain, shift) = (x.to_contiguous(), gain.to_contiguous(), shift.to_contiguous());
        let shape = x.shape();
        let plane = shape.iter().skip(2).product();
        let (gain, shift, inverse) = (values(&gain), values(&shift), statistics.inverse());
        let mut out = Vec::with_capacity(shape.num_elements());
        for (at, plane) in values(&x).chunks_exact(plane).enumerate() {
            let channel = at % shape[1];
            let a = gain[channel] * inverse[channel];
            let b = shift[channel] - statistics.mean[channel] * a;
            out.extend(plane.iter().map(|x| x * a + b));
        }
        tensor(out, &shape)
    }
}

impl<C: CheckpointStrategy> Learning for Autodiff<Flex, C> {
    fn learning_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        conv: Conv,
        output: [usize; 2],
    ) -> FloatTensor<Self> {
        let ((x, x_node), (weight, weight_node)) = (x.into_parts(), weight.into_parts());
        let result = Flex::learning_conv(x.clone(), weight.clone(), conv.clone(), output);
        match ConvBack.prepare::<C>([x_node, weight_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, weight, conv, output), result),
            OpsKind::UnTracked(prep) => prep.finish(result),
        }
    }

    fn normalised(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        statistics: Statistics,
    ) -> FloatTensor<Self> {
        let ((x, x_node), (gain, gain_node)) = (x.into_parts(), gain.into_parts());
        let (shift, shift_node) = shift.into_parts();
        let result = Flex::normalised(x.clone(), gain.clone(), shift, statistics.clone());
        match NormalisedBack.prepare::<C>([x_node, gain_node, shift_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, gain, statistics), result),
            OpsKind::UnTracked(prep) => prep.finish(result),
        }
    }
}

#[derive(Debug)]
struct ConvBack;

impl Backward<Flex, 2> for ConvBack {
    type State = (FlexTensor, FlexTensor, Conv, [usize; 2]);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let [x_node, weight_node] = ops.parents;
        let gradient = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let (x, weight, conv, output) = ops.state;
        let plan = ConvPlan::new(&conv, &x.shape(), &weight.shape(), output);
        let of_x = x_node.is_some();
        let (x_back, weight_back) = plan.back(values(&x.to_contiguous()), &weight, values(&gradient), of_x);
        if let Some((node, back)) = x_node.zip(x_back) {
            gradients.register::<Flex>(node.id, tensor(back, &x.shape()));
        }
        if let Some(node) = weight_node {
            gradients.register::<Flex>(node.id, tensor(weight_back, &weight.shape()));
        }
    }
}

#[derive(Debug)]
struct NormalisedBack;

impl Backward<Flex, 3> for NormalisedBack {
    type State = (FlexTensor, FlexTensor, Statistics);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let [x_node, gain_node, shift_node] = ops.parents;
        let gradient = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let (x, gain, statistics) = ops.state;
        let (x, gain, shape) = (x.to_contiguous(), gain.to_contiguous(), x.shape());
        let back =
            normalised_back(values(&x), values(&gradient), values(&gain), &statistics, shape.iter().skip(2).product());
        let channels = [shape[1]];
        let parts =
            [(x_node, back.x, &shape[..]), (gain_node, back.gain, &channels), (shift_node, back.shift, &channels)];
        for (node, back, shape) in parts {
            if let Some(node) = node {
                gradients.register::<Flex>(node.id, tensor(back, shape));
            }
        }
    }
}

/// The values of a contiguous tensor.
fn values(tensor: &FlexTensor) -> &[f32] {
    let start = tensor.layout().start_offset();
    &tensor.storage::<f32>()[start..start + tensor.shape().num_elements()]
}

fn tensor(values: Vec<f32>, shape: &[usize]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape.to_vec()))
}

#[cfg(test)]
mod tests;
