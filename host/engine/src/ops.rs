//! The table of operators: what each layer of the graph is on a device.
//!
//! One function per operator, mirroring `bps_graph::Op`. They work on tensors of any rank and on any device, recording
//! gradients where the device does: training runs through the same table. Operands have been checked against inferred
//! shapes before; what still does not fit is an error with words.

mod conv;
mod element;
pub(crate) mod learn;
mod max;
mod norm;
mod pool;
mod product;
mod shape;

pub(crate) use conv::PreparedConv;

use crate::host::{Tensor, device_shape};
use bps_graph::{Op, Pool};
use burn::backend::ops::{ActivationOps, FloatTensorOps};
use burn::backend::{Dispatch, TensorMetadata};
use burn::tensor::Shape;

/// What a step of a program does.
#[derive(Clone, Debug)]
pub(crate) enum Kernel {
    /// The graph's operation as it is.
    Graph(Op),
    /// `x * a + b` per channel: a batch normalisation whose statistics are constants.
    Affine,
    /// A convolution whose weights were laid out for this processor when the model was loaded.
    Conv(Box<PreparedConv>),
    /// A maximum over windows, on the processor.
    Max(Pool),
}

/// A layer's operands in ONNX order.
pub(crate) struct Operands(Vec<Option<Tensor>>);

impl Operands {
    pub(crate) fn new(tensors: Vec<Option<Tensor>>) -> Self {
        Self(tensors)
    }

    /// Operand `i`, which is taken out; an error if it is absent.
    fn take(&mut self, i: usize) -> Result<Tensor, String> {
        self.optional(i).ok_or_else(|| format!("operand {i} is missing"))
    }

    /// Operand `i`, if there is one.
    fn optional(&mut self, i: usize) -> Option<Tensor> {
        self.0.get_mut(i).and_then(Option::take)
    }

    fn all(self) -> Vec<Tensor> {
        self.0.into_iter().flatten().collect()
    }
}

/// Runs one step; `outputs` are the inferred shapes of its results.
pub(crate) fn run(kernel: &Kernel, mut operands: Operands, outputs: &[&[usize]]) -> Result<Vec<Tensor>, String> {
    let op = match kernel {
        Kernel::Graph(op) => op,
        Kernel::Affine => return Ok(vec![norm::affine(operands.take(0)?, operands.take(1)?, operands.take(2)?)]),
        Kernel::Max(pool) => return Ok(vec![max::max(pool, operands.take(0)?, output(outputs)?)?]),
        Kernel::Conv(conv) => return Ok(vec![conv.run(operands.take(0)?, output(outputs)?)?]),
    };
    let one = match op {
        Op::Concat { axis } => Dispatch::float_cat(operands.all(), *axis),
        Op::Split { axis, sizes } => return Ok(shape::split(operands.take(0)?, *axis, sizes)),
        Op::Conv(c) => conv::conv(c, operands.take(0)?, operands.take(1)?, operands.optional(2)),
        Op::Gemm(g) => product::gemm(g, operands.take(0)?, operands.take(1)?, operands.optional(2)),
        Op::MatMul => product::matmul(operands.take(0)?, operands.take(1)?, output(outputs)?),
        Op::Binary(b) => element::binary(*b, operands.take(0)?, operands.take(1)?),
        Op::BatchNormalization { epsilon } => {
            let mut next = |i| operands.take(i);
            norm::batch_normalization(*epsilon, [next(0)?, next(1)?, next(2)?, next(3)?, next(4)?])
        }
        op => unary(op, operands.take(0)?, output(outputs)?)?,
    };
    Ok(vec![one])
}

/// Operators of one operand and one result.
fn unary(op: &Op, x: Tensor, output: &[usize]) -> Result<Tensor, String> {
    Ok(match op {
        Op::Unary(u) => element::unary(*u, x),
        Op::Clip { min, max } => element::clip(x, *min, *max),
        Op::MaxPool(p) => pool::max(p, x, output)?,
        Op::AveragePool(p) => pool::average(p, x, output)?,
        Op::GlobalAveragePool => reshape(Dispatch::float_mean_dim(pool::planes(x), 2), output),
        Op::GlobalMaxPool => reshape(Dispatch::float_max_dim(pool::planes(x), 2), output),
        Op::Lrn(l) => norm::lrn(l, x),
        Op::Softmax { axis } => Dispatch::softmax(x, *axis),
        Op::Flatten { .. } | Op::Reshape { .. } | Op::Squeeze { .. } | Op::Unsqueeze { .. } => reshape(x, output),
        Op::Transpose { perm } => Dispatch::float_permute(x, perm),
        Op::Slice { axes } => shape::slice(x, axes),
        Op::Pad { pads, value } => shape::pad(x, pads, *value)?,
        Op::ReduceMean { axes, .. } => {
            let mean = axes.iter().fold(x, |x, &axis| Dispatch::float_mean_dim(x, axis));
            reshape(mean, output)
        }
        other => return Err(format!("{other:?} does not have one operand")),
    })
}

/// The only result's shape.
fn output<'a>(outputs: &[&'a [usize]]) -> Result<&'a [usize], String> {
    match outputs {
        [only] => Ok(only),
        _ => Err(format!("one result expected, the layer has {}", outputs.len())),
    }
}

/// To a graph shape; free where nothing changes.
fn reshape(x: Tensor, shape: &[usize]) -> Tensor {
    let shape = device_shape(shape);
    if x.shape()[..] == shape[..] { x } else { Dispatch::float_reshape(x, Shape::from(shape)) }
}
