//! Functions of single elements and of pairs. Not-a-number stays what it is.

use super::{Dispatch, Tensor, product::with_rank};
use bps_graph::{Binary, Unary};
use burn::backend::ops::{ActivationOps, BoolTensorOps, FloatTensorOps};
use burn::backend::{TensorMetadata, get_device_settings};
use burn::tensor::{BoolDType, Shape};

pub(super) fn unary(function: Unary, x: Tensor) -> Tensor {
    match function {
        Unary::Relu => Dispatch::relu(x),
        Unary::LeakyRelu { alpha } => Dispatch::leaky_relu(x, alpha.into()),
        Unary::Elu { alpha } => {
            let below = Dispatch::float_exp(Dispatch::float_clamp_max(x.clone(), 0.0.into()));
            let below = Dispatch::float_mul_scalar(Dispatch::float_sub_scalar(below, 1.0.into()), alpha.into());
            Dispatch::float_add(Dispatch::float_clamp_min(x, 0.0.into()), below)
        }
        Unary::Sigmoid => Dispatch::sigmoid(x),
        Unary::HardSigmoid { alpha, beta } => hard_sigmoid(x, alpha, beta),
        Unary::HardSwish => Dispatch::float_mul(x.clone(), hard_sigmoid(x, 1.0 / 6.0, 0.5)),
        Unary::Softplus => {
            // ln(1 + e^x) without overflow.
            let tail = Dispatch::float_exp(Dispatch::float_neg(Dispatch::float_abs(x.clone())));
            Dispatch::float_add(Dispatch::float_clamp_min(x, 0.0.into()), Dispatch::float_log1p(tail))
        }
        Unary::Tanh => Dispatch::float_tanh(x),
        Unary::Erf => Dispatch::float_erf(x),
        Unary::Exp => Dispatch::float_exp(x),
        Unary::Log => Dispatch::float_log(x),
        Unary::Sqrt => Dispatch::float_sqrt(x),
        Unary::Neg => Dispatch::float_neg(x),
        Unary::Abs => Dispatch::float_abs(x),
    }
}

fn hard_sigmoid(x: Tensor, alpha: f32, beta: f32) -> Tensor {
    let line = Dispatch::float_add_scalar(Dispatch::float_mul_scalar(x, alpha.into()), beta.into());
    Dispatch::float_clamp(line, 0.0.into(), 1.0.into())
}

/// `min(max(x, min), max)`, which also says what happens where the limits are in the wrong order.
pub(super) fn clip(x: Tensor, min: f32, max: f32) -> Tensor {
    let x = if min == f32::NEG_INFINITY { x } else { Dispatch::float_clamp_min(x, min.into()) };
    if max == f32::INFINITY { x } else { Dispatch::float_clamp_max(x, max.into()) }
}

pub(super) fn binary(function: Binary, a: Tensor, b: Tensor) -> Tensor {
    let rank = a.shape().len().max(b.shape().len());
    let (a, b) = (with_rank(a, rank), with_rank(b, rank));
    match function {
        Binary::Add => Dispatch::float_add(a, b),
        Binary::Sub => Dispatch::float_sub(a, b),
        Binary::Mul => Dispatch::float_mul(a, b),
        Binary::Div => Dispatch::float_div(a, b),
        Binary::Pow => Dispatch::float_powf(a, b),
        Binary::Max => chosen(a, b, Dispatch::float_greater),
        Binary::Min => chosen(a, b, Dispatch::float_lower),
    }
}

/// `b` where it is better than `a`, `a` elsewhere; not-a-number is better than all.
fn chosen(a: Tensor, b: Tensor, better: fn(Tensor, Tensor, BoolDType) -> Tensor) -> Tensor {
    let shape: Vec<usize> = a.shape().iter().zip(b.shape().iter()).map(|(x, y)| *x.max(y)).collect();
    let expand = |t: Tensor| Dispatch::float_expand(t, Shape::from(shape.clone()));
    let (a, b) = (expand(a), expand(b));
    let bools = get_device_settings::<Dispatch>(&a.device()).bool_dtype;
    let unknown = Dispatch::float_is_nan(b.clone(), bools);
    let mask = Dispatch::bool_or(better(b.clone(), a.clone(), bools), unknown);
    Dispatch::float_mask_where(a, mask, b)
}
