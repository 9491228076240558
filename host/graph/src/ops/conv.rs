//! Conv.

use super::{Operands, Parsed, elements, product, window};
use crate::dim::{Dim, Dims, Refusal, show};
use crate::ir::{Conv, Op};
use crate::node::{Flaw, Node};

pub(super) fn parse(node: &Node<'_>) -> Result<Parsed, Flaw> {
    let weight = node.dims(1)?;
    let &[_, _, Dim::Known(h), Dim::Known(w)] = weight else {
        return Err(Flaw::Node(format!(
            "only two-dimensional convolutions are supported; the weight is {}",
            show(weight)
        )));
    };
    let kernel = node.extents("kernel_shape", 1, 1)?;
    let kernel = if node.has("kernel_shape") { kernel } else { [h, w] };
    if kernel != [h, w] || h == 0 || w == 0 || h.max(w) > 1 << 20 {
        return Err(Flaw::Attribute("kernel_shape", format!("is {kernel:?}, the weight is {}", show(weight))));
    }
    let group = node.int_or("group", 1)?;
    let groups = usize::try_from(group).ok().filter(|g| *g > 0);
    let groups = groups.ok_or_else(|| Flaw::Attribute("group", format!("is {group}, must be positive")))?;
    let window = window::parse(node, kernel)?;
    let conv = Conv { kernel, stride: window.stride, pads: window.pads, dilation: window.dilation, groups };
    Ok(Parsed::first(Op::Conv(conv), 3))
}

pub(super) fn shape(conv: &Conv, operands: &Operands<'_>) -> Result<Vec<Dims>, Refusal> {
    let (data, weight) = (operands.get(0)?, operands.get(1)?);
    let plane = window::plane(data)?;
    let &[Dim::Known(out_channels), Dim::Known(group_channels), Dim::Known(h), Dim::Known(w)] = weight else {
        return Err(format!("needs a weight of 4 known dimensions, got {}", show(weight)));
    };
    if [h, w] != conv.kernel {
        return Err(format!("kernel {:?} does not fit the weight {}", conv.kernel, show(weight)));
    }
    let in_channels = group_channels.checked_mul(conv.groups).ok_or("too many channels")?;
    if data[1].agree(Dim::Known(in_channels)).is_none() || !out_channels.is_multiple_of(conv.groups) {
        return Err(format!("data {} does not fit the weight {} in {} groups", show(data), show(weight), conv.groups));
    }
    if let Some(bias) = operands.optional(2).filter(|b| *b != [Dim::Known(out_channels)]) {
        return Err(format!("bias {} does not fit {out_channels} channels", show(bias)));
    }
    let extent = |i: usize| {
        let span = window::span(conv.kernel[i], conv.dilation[i]);
        window::positions(plane[i], span, conv.stride[i], (conv.pads[i], conv.pads[i + 2]), false)
    };
    Ok(vec![vec![data[0], Dim::Known(out_channels), extent(0)?, extent(1)?]])
}

/// One multiply-add per weight of a filter and output element.
pub(super) fn flops(weight: &[usize], output: &[usize]) -> u64 {
    product(&[2, elements(output), elements(weight.get(1..).unwrap_or_default())])
}
