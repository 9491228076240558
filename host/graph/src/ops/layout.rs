//! Flatten, Transpose, Squeeze, Unsqueeze and Pad: the same elements in another arrangement.

use super::{Operands, Parsed};
use crate::dim::{self, Dim, Dims, Refusal, show};
use crate::ir::Op;
use crate::node::{self, Flaw, Node};

pub(super) fn parse_flatten(node: &Node<'_>) -> Result<Parsed, Flaw> {
    let rank = node.dims(0)?.len();
    let value = node.int_or("axis", 1)?;
    // the axis may stand behind the last dimension
    let axis = if value < 0 { node::axis(value, rank) } else { node::axis(value, rank + 1) };
    Ok(Parsed::first(Op::Flatten { axis: axis.map_err(|m| Flaw::Attribute("axis", m))? }, 1))
}

pub(super) fn flatten_shape(axis: usize, operands: &Operands<'_>) -> Result<Vec<Dims>, Refusal> {
    let data = operands.get(0)?;
    let (before, after) = data.split_at_checked(axis).ok_or_else(|| format!("axis {axis} is not in {}", show(data)))?;
    Ok(vec![vec![dim::count(before)?, dim::count(after)?]])
}

pub(super) fn parse_transpose(node: &Node<'_>) -> Result<Parsed, Flaw> {
    let rank = node.dims(0)?.len();
    let perm = match node.ints("perm")? {
        None => (0..rank).rev().collect(),
        Some(listed) => listed.iter().map(|p| node::axis(*p, rank)).collect::<Result<Vec<_>, _>>()?,
    };
    let mut seen = perm.clone();
    seen.sort_unstable();
    if !seen.into_iter().eq(0..rank) {
        return Err(Flaw::Attribute("perm", format!("is {perm:?}, not an order of {rank} dimensions")));
    }
    Ok(Parsed::first(Op::Transpose { perm }, 1))
}

pub(super) fn transpose_shape(perm: &[usize], operands: &Operands<'_>) -> Result<Vec<Dims>, Refusal> {
    let data = operands.get(0)?;
    let order: Option<Dims> = perm.iter().map(|p| data.get(*p).copied()).collect();
    let order = order.filter(|o| o.len() == data.len());
    Ok(vec![order.ok_or_else(|| format!("order {perm:?} does not fit {}", show(data)))?])
}

/// Axes are an attribute before opset 13, an input since.
fn listed_axes(node: &Node<'_>) -> Result<Option<Vec<i64>>, Flaw> {
    if node.opset < 13 { Ok(node.ints("axes")?.map(<[i64]>::to_vec)) } else { node.constant_integers(1) }
}

/// Without axes, every fixed extent of 1 goes; the batch stays.
pub(super) fn parse_squeeze(node: &Node<'_>) -> Result<Parsed, Flaw> {
    let dims = node.dims(0)?;
    let axes = match listed_axes(node)? {
        Some(listed) => node::axes(&listed, dims.len())?,
        None if dims.contains(&Dim::Unknown) => {
            return Err(format!("without axes, {} leaves open which dimensions go", show(dims)).into());
        }
        None => (0..dims.len()).filter(|i| dims[*i] == Dim::Known(1)).collect(),
    };
    Ok(Parsed::first(Op::Squeeze { axes }, 1))
}

pub(super) fn squeeze_shape(axes: &[usize], operands: &Operands<'_>) -> Result<Vec<Dims>, Refusal> {
    let data = operands.get(0)?;
    for axis in axes {
        let one = data.get(*axis).is_some_and(|d| d.agree(Dim::Known(1)).is_some());
        if !one {
            return Err(format!("dimension {axis} of {} is not 1", show(data)));
        }
    }
    let kept = data.iter().enumerate().filter(|(i, _)| !axes.contains(i)).map(|(_, d)| *d);
    Ok(vec![kept.collect()])
}

pub(super) fn parse_unsqueeze(node: &Node<'_>) -> Result<Parsed, Flaw> {
    let listed = listed_axes(node)?.ok_or("axes are missing")?;
    let axes = node::axes(&listed, node.dims(0)?.len() + listed.len())?;
    Ok(Parsed::first(Op::Unsqueeze { axes }, 1))
}

pub(super) fn unsqueeze_shape(axes: &[usize], operands: &Operands<'_>) -> Result<Vec<Dims>, Refusal> {
    let mut dims = operands.get(0)?.to_vec();
    if dims.len() + axes.len() > dim::RANK_MAX {
        return Err(format!("{} with {} more dimensions has too many", show(&dims), axes.len()));
    }
    for axis in axes {
        if *axis > dims.len() {
            return Err(format!("dimension {axis} cannot be inserted into {}", show(&dims)));
        }
        dims.insert(*axis, Dim::Known(1));
    }
    Ok(vec![dims])
}

/// Borders are an attribute before opset 11, an input since.
pub(super) fn parse_pad(node: &Node<'_>) -> Result<Parsed, Flaw> {
    let rank = node.dims(0)?.len();
    let mode = node.text_or("mode", "constant")?;
    if mode != "constant" {
        return Err(Flaw::Attribute("mode", format!("is `{mode}`; only `constant` is supported")));
    }
    let attributes = node.opset < 11;
    let listed = if attributes { node.ints("pads")?.map(<[i64]>::to_vec) } else { node.constant_integers(1)? };
    let listed = listed.ok_or("pads are missing")?;
    let axes = match if attributes { None } else { node.constant_integers(3)? } {
        Some(axes) => axes.iter().map(|a| node::axis(*a, rank)).collect::<Result<Vec<_>, _>>()?,
        None => (0..rank).collect(),
    };
    if listed.len() != 2 * axes.len() {
        return Err(format!("{} pads do not fit {} axes", listed.len(), axes.len()).into());
    }
    let mut pads = vec![0; 2 * rank];
    for (i, value) in listed.iter().enumerate() {
        let place = axes[i % axes.len()] + if i < axes.len() { 0 } else { rank };
        pads[place] =
            usize::try_from(*value).map_err(|_| format!("pad {value} is negative, which is not supported"))?;
    }
    let value = if attributes { node.float_or("value", 0.0)? } else { node.constant_float(2)?.unwrap_or(0.0) };
    Ok(Parsed::first(Op::Pad { pads, value }, 1))
}

pub(super) fn pad_shape(pads: &[usize], operands: &Operands<'_>) -> Result<Vec<Dims>, Refusal> {
    let data = operands.get(0)?;
    let rank = data.len();
    if pads.len() != 2 * rank {
        return Err(format!("{} pads do not fit {}", pads.len(), show(data)));
    }
    let extent = |i: usize| data[i].plus(Dim::Known(pads[i]))?.plus(Dim::Known(pads[rank + i]));
    Ok(vec![(0..rank).map(extent).collect::<Result<_, _>>()?])
}
