//! MaxPool, AveragePool and their global forms.

use super::{Operands, Parsed, elements, product, window};
use crate::dim::{Dim, Dims, Refusal};
use crate::ir::{Op, Pool};
use crate::node::{Flaw, Node};

pub(super) fn parse_max(node: &Node<'_>) -> Result<Parsed, Flaw> {
    Ok(Parsed::first(Op::MaxPool(parse(node)?), 1))
}

pub(super) fn parse_average(node: &Node<'_>) -> Result<Parsed, Flaw> {
    let pool = parse(node)?;
    if pool.dilation != [1, 1] {
        return Err(Flaw::Attribute("dilations", "is supported for MaxPool only".to_owned()));
    }
    Ok(Parsed::first(Op::AveragePool(pool), 1))
}

pub(super) fn parse_global_average(node: &Node<'_>) -> Result<Parsed, Flaw> {
    window::plane(node.dims(0)?)?;
    Ok(Parsed::first(Op::GlobalAveragePool, 1))
}

pub(super) fn parse_global_max(node: &Node<'_>) -> Result<Parsed, Flaw> {
    window::plane(node.dims(0)?)?;
    Ok(Parsed::first(Op::GlobalMaxPool, 1))
}

fn parse(node: &Node<'_>) -> Result<Pool, Flaw> {
    node.results_at_most(1)?;
    window::plane(node.dims(0)?)?;
    if !node.has("kernel_shape") {
        return Err(Flaw::Attribute("kernel_shape", "is missing".to_owned()));
    }
    let kernel: [usize; 2] = node.extents("kernel_shape", 1, 1)?;
    let window = window::parse(node, kernel)?;
    for i in 0..4 {
        // a window that lies in the border altogether has no maximum and no mean
        if window.pads[i] >= window::span(kernel[i % 2], window.dilation[i % 2]) {
            return Err(Flaw::Attribute("pads", format!("has {}, as wide as the window", window.pads[i])));
        }
    }
    Ok(Pool {
        kernel,
        stride: window.stride,
        pads: window.pads,
        dilation: window.dilation,
        ceil: node.int_or("ceil_mode", 0)? != 0,
        count_include_pad: node.int_or("count_include_pad", 0)? != 0,
    })
}

pub(super) fn shape(pool: &Pool, operands: &Operands<'_>) -> Result<Vec<Dims>, Refusal> {
    let data = operands.get(0)?;
    let plane = window::plane(data)?;
    let extent = |i: usize| {
        let span = window::span(pool.kernel[i], pool.dilation[i]);
        window::positions(plane[i], span, pool.stride[i], (pool.pads[i], pool.pads[i + 2]), pool.ceil)
    };
    Ok(vec![vec![data[0], data[1], extent(0)?, extent(1)?]])
}

pub(super) fn global_shape(operands: &Operands<'_>) -> Result<Vec<Dims>, Refusal> {
    let data = operands.get(0)?;
    window::plane(data)?;
    Ok(vec![vec![data[0], data[1], Dim::Known(1), Dim::Known(1)]])
}

/// One operation per window element.
pub(super) fn flops(pool: &Pool, output: &[usize]) -> u64 {
    product(&[elements(output), pool.kernel[0] as u64, pool.kernel[1] as u64])
}
