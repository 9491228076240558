//! Softmax and ReduceMean.

use super::{Operands, Parsed, elements, product};
use crate::dim::{Dim, Dims, Refusal, show};
use crate::ir::Op;
use crate::node::{self, Flaw, Node};

/// Before opset 13 softmax runs over all axes from `axis` on, since then over `axis` alone.
pub(super) fn parse_softmax(node: &Node<'_>) -> Result<Parsed, Flaw> {
    let dims = node.dims(0)?;
    let flattening = node.opset < 13;
    let value = node.int_or("axis", if flattening { 1 } else { -1 })?;
    let axis = node::axis(value, dims.len()).map_err(|m| Flaw::Attribute("axis", m))?;
    if flattening && dims[axis + 1..].iter().any(|d| *d != Dim::Known(1)) {
        let message = format!("is {axis}; a softmax over several axes of {} is not supported", show(dims));
        return Err(Flaw::Attribute("axis", message));
    }
    Ok(Parsed::first(Op::Softmax { axis }, 1))
}

pub(super) fn softmax_shape(axis: usize, operands: &Operands<'_>) -> Result<Vec<Dims>, Refusal> {
    let data = operands.get(0)?;
    if axis >= data.len() { Err(format!("axis {axis} is not one of {}", show(data))) } else { Ok(vec![data.to_vec()]) }
}

/// Maximum, difference with exponential, sum, quotient.
pub(super) fn softmax_flops(output: &[usize]) -> u64 {
    product(&[4, elements(output)])
}

/// Axes are an attribute before opset 18, an input since; without any, all are meant.
pub(super) fn parse_mean(node: &Node<'_>) -> Result<Parsed, Flaw> {
    let rank = node.dims(0)?.len();
    let listed = if node.opset < 18 { node.ints("axes")?.map(<[i64]>::to_vec) } else { node.constant_integers(1)? };
    let listed = listed.unwrap_or_default();
    if listed.is_empty() && node.int_or("noop_with_empty_axes", 0)? != 0 {
        return Err(Flaw::Attribute("noop_with_empty_axes", "is not supported".to_owned()));
    }
    let axes = if listed.is_empty() { (0..rank).collect() } else { node::axes(&listed, rank)? };
    let keep_dims = node.int_or("keepdims", 1)? != 0;
    Ok(Parsed::first(Op::ReduceMean { axes, keep_dims }, 1))
}

pub(super) fn mean_shape(axes: &[usize], keep_dims: bool, operands: &Operands<'_>) -> Result<Vec<Dims>, Refusal> {
    let data = operands.get(0)?;
    if axes.iter().any(|a| *a >= data.len()) {
        return Err(format!("axes {axes:?} are not all of {}", show(data)));
    }
    let kept = data.iter().enumerate().filter_map(|(i, d)| match (axes.contains(&i), keep_dims) {
        (false, _) => Some(*d),
        (true, true) => Some(Dim::Known(1)),
        (true, false) => None,
    });
    Ok(vec![kept.collect()])
}
