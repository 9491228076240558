//! Operators that work element by element: functions of one or two operands, Clip.

use super::{Operands, Parsed, elements};
use crate::dim::{self, Dims, Refusal};
use crate::ir::{Binary, Op, Unary};
use crate::node::{Flaw, Node};

/// A function without attributes.
pub(super) fn unary(function: Unary) -> Result<Parsed, Flaw> {
    Ok(Parsed::first(Op::Unary(function), 1))
}

pub(super) fn parse_leaky_relu(node: &Node<'_>) -> Result<Parsed, Flaw> {
    unary(Unary::LeakyRelu { alpha: node.float_or("alpha", 0.01)? })
}

pub(super) fn parse_elu(node: &Node<'_>) -> Result<Parsed, Flaw> {
    unary(Unary::Elu { alpha: node.float_or("alpha", 1.0)? })
}

pub(super) fn parse_hard_sigmoid(node: &Node<'_>) -> Result<Parsed, Flaw> {
    unary(Unary::HardSigmoid { alpha: node.float_or("alpha", 0.2)?, beta: node.float_or("beta", 0.5)? })
}

/// Exactly two operands.
pub(super) fn binary(function: Binary) -> Result<Parsed, Flaw> {
    Ok(Parsed::first(Op::Binary(function), 2))
}

/// One or more operands, taken from the left.
pub(super) fn variadic(function: Binary) -> Result<Parsed, Flaw> {
    Ok(Parsed::chain(Op::Binary(function)))
}

/// Limits are attributes before opset 11, inputs since.
pub(super) fn parse_clip(node: &Node<'_>) -> Result<Parsed, Flaw> {
    let (min, max) = if node.opset < 11 {
        (node.float_or("min", f32::NEG_INFINITY)?, node.float_or("max", f32::INFINITY)?)
    } else {
        let (min, max) = (node.constant_float(1)?, node.constant_float(2)?);
        (min.unwrap_or(f32::NEG_INFINITY), max.unwrap_or(f32::INFINITY))
    };
    if min.is_nan() || max.is_nan() {
        return Err("a limit is not a number".into());
    }
    Ok(Parsed::first(Op::Clip { min, max }, 1))
}

/// The shape of the only operand.
pub(super) fn same_shape(operands: &Operands<'_>) -> Result<Vec<Dims>, Refusal> {
    Ok(vec![operands.get(0)?.to_vec()])
}

pub(super) fn binary_shape(operands: &Operands<'_>) -> Result<Vec<Dims>, Refusal> {
    Ok(vec![dim::broadcast(operands.get(0)?, operands.get(1)?)?])
}

/// One operation per element, whatever the function: what matters is the memory.
pub(super) fn flops(output: &[usize]) -> u64 {
    elements(output)
}
