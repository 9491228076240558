//! Concat, Split and Slice.

use super::{Operands, Parsed};
use crate::dim::{Dim, Dims, Refusal, show};
use crate::ir::{AxisRange, Op};
use crate::node::{self, Flaw, Node};

pub(super) fn parse_concat(node: &Node<'_>) -> Result<Parsed, Flaw> {
    let rank = node.dims(0)?.len();
    let value = node.int("axis")?.ok_or_else(|| Flaw::Attribute("axis", "is missing".to_owned()))?;
    let axis = node::axis(value, rank).map_err(|m| Flaw::Attribute("axis", m))?;
    Ok(Parsed::first(Op::Concat { axis }, node.operands.len()))
}

pub(super) fn concat_shape(axis: usize, operands: &Operands<'_>) -> Result<Vec<Dims>, Refusal> {
    let mut output = operands.get(0)?.to_vec();
    for index in 1..operands.len() {
        let next = operands.get(index)?;
        let refuse = || format!("{} and {} do not join along axis {axis}", show(&output), show(next));
        if next.len() != output.len() {
            return Err(refuse());
        }
        let joined = output.iter().zip(next).enumerate();
        let joined = joined.map(|(i, (a, b))| if i == axis { a.plus(*b).ok() } else { a.agree(*b) });
        output = joined.collect::<Option<Dims>>().ok_or_else(refuse)?;
    }
    if axis >= output.len() { Err(format!("axis {axis} is not one of {}", show(&output))) } else { Ok(vec![output]) }
}

/// Sizes are an attribute before opset 13, an input since; without them, the pieces are equal.
pub(super) fn parse_split(node: &Node<'_>) -> Result<Parsed, Flaw> {
    let dims = node.dims(0)?;
    let axis = node::axis(node.int_or("axis", 0)?, dims.len()).map_err(|m| Flaw::Attribute("axis", m))?;
    let pieces = node.proto.output.len();
    let listed = if node.opset < 13 { node.ints("split")?.map(<[i64]>::to_vec) } else { node.constant_integers(1)? };
    let sizes = match listed {
        Some(sizes) => sizes.iter().map(|s| usize::try_from(*s).ok().filter(|s| *s > 0)).collect::<Option<Vec<_>>>(),
        None => {
            let extent =
                dims[axis].known().ok_or_else(|| format!("axis {axis} of {} has no fixed extent", show(dims)))?;
            let each = extent.div_ceil(pieces.max(1)).max(1);
            let last = extent.checked_sub(each * pieces.saturating_sub(1)).filter(|n| *n > 0 && *n <= each);
            last.map(|last| [vec![each; pieces.saturating_sub(1)], vec![last]].concat())
        }
    };
    let sizes =
        sizes.filter(|s| s.len() == pieces).ok_or_else(|| format!("{} has no {pieces} such pieces", show(dims)))?;
    Ok(Parsed::first(Op::Split { axis, sizes }, 1))
}

pub(super) fn split_shape(axis: usize, sizes: &[usize], operands: &Operands<'_>) -> Result<Vec<Dims>, Refusal> {
    let data = operands.get(0)?;
    let total = sizes.iter().try_fold(0usize, |n, s| n.checked_add(*s));
    let fits = data.get(axis).is_some_and(|d| total.is_some_and(|t| d.agree(Dim::Known(t)).is_some()));
    if !fits {
        return Err(format!("{} does not split into {sizes:?} along axis {axis}", show(data)));
    }
    let piece = |size: &usize| {
        let mut dims = data.to_vec();
        dims[axis] = Dim::Known(*size);
        dims
    };
    Ok(sizes.iter().map(piece).collect())
}

/// Ranges are attributes before opset 10, inputs since.
pub(super) fn parse_slice(node: &Node<'_>) -> Result<Parsed, Flaw> {
    let rank = node.dims(0)?.len();
    let listed = |name: &'static str, input: usize| {
        if node.opset < 10 { Ok(node.ints(name)?.map(<[i64]>::to_vec)) } else { node.constant_integers(input) }
    };
    let starts = listed("starts", 1)?.ok_or("starts are missing")?;
    let ends = listed("ends", 2)?.ok_or("ends are missing")?;
    let axes = listed("axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = if node.opset < 10 { None } else { node.constant_integers(4)? };
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err("starts, ends, axes and steps differ in length".into());
    }
    node::axes(&axes, rank)?;
    let mut ranges = Vec::with_capacity(starts.len());
    for i in 0..starts.len() {
        let step = usize::try_from(steps[i]).ok().filter(|s| *s > 0);
        let step = step.ok_or_else(|| format!("step {} is not supported, only positive ones are", steps[i]))?;
        ranges.push(AxisRange { axis: node::axis(axes[i], rank)?, start: starts[i], end: ends[i], step });
    }
    ranges.sort_by_key(|r| r.axis);
    Ok(Parsed::first(Op::Slice { axes: ranges }, 1))
}

pub(super) fn slice_shape(ranges: &[AxisRange], operands: &Operands<'_>) -> Result<Vec<Dims>, Refusal> {
    let mut dims = operands.get(0)?.to_vec();
    for range in ranges {
        let shown = show(&dims);
        let dim = dims.get_mut(range.axis).ok_or_else(|| format!("axis {} is not one of {shown}", range.axis))?;
        *dim = match *dim {
            Dim::Known(extent) => Dim::Known(range.count(extent)),
            whole if range.start == 0 && range.end >= i64::from(i32::MAX) && range.step == 1 => whole,
            Dim::Rows(_) | Dim::Unknown => Dim::Unknown,
        };
    }
    Ok(vec![dims])
}
