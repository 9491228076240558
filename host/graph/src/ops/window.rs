//! Sliding windows: what convolutions and pools share.

use crate::dim::{Dim, Refusal};
use crate::node::{Flaw, Node};

/// Steps, borders and distances of a window.
pub(super) struct Window {
    pub(super) stride: [usize; 2],
    pub(super) pads: [usize; 4],
    pub(super) dilation: [usize; 2],
}

/// Height and width of an NCHW operand.
pub(super) fn plane(dims: &[Dim]) -> Result<[Dim; 2], Refusal> {
    match dims {
        [_, _, h, w] => Ok([*h, *w]),
        _ => Err(format!("needs an operand of 4 dimensions (NCHW), got {}", crate::dim::show(dims))),
    }
}

/// Reads the attributes; automatic borders become numbers, for which the input's extents have to be known.
pub(super) fn parse(node: &Node<'_>, kernel: [usize; 2]) -> Result<Window, Flaw> {
    let stride = node.extents("strides", 1, 1)?;
    let dilation = node.extents("dilations", 1, 1)?;
    let pads = match node.text_or("auto_pad", "NOTSET")? {
        "NOTSET" | "" => node.extents("pads", 0, 0)?,
        "VALID" => [0; 4],
        "SAME_UPPER" => same(node, kernel, stride, dilation, false)?,
        "SAME_LOWER" => same(node, kernel, stride, dilation, true)?,
        other => return Err(Flaw::Attribute("auto_pad", format!("is `{other}`, which ONNX does not define"))),
    };
    Ok(Window { stride, pads, dilation })
}

/// Borders such that the output has `ceil(input / stride)` positions.
fn same(
    node: &Node<'_>,
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    more_before: bool,
) -> Result<[usize; 4], Flaw> {
    let plane = plane(node.dims(0)?)?;
    let mut pads = [0; 4];
    for i in 0..2 {
        let Some(extent) = plane[i].known().filter(|n| *n > 0) else {
            let message =
                "needs the input's height and width, which the model leaves open; export it with explicit pads";
            return Err(Flaw::Attribute("auto_pad", message.to_owned()));
        };
        let covered = (extent.div_ceil(stride[i]) - 1)
            .checked_mul(stride[i])
            .and_then(|n| n.checked_add(span(kernel[i], dilation[i])));
        let total = covered.ok_or("window is too large")?.saturating_sub(extent);
        let (less, more) = (total / 2, total - total / 2);
        (pads[i], pads[i + 2]) = if more_before { (more, less) } else { (less, more) };
    }
    Ok(pads)
}

/// Positions from a window's first element to its last. Both factors are at most 2^20, see [`Node::extents`].
pub(super) fn span(kernel: usize, dilation: usize) -> usize {
    (kernel - 1) * dilation + 1
}

/// How many windows fit along one dimension. With `ceil` a last, partial window counts if it begins within the input or
/// the border before it.
pub(super) fn positions(
    input: Dim,
    span: usize,
    stride: usize,
    pads: (usize, usize),
    ceil: bool,
) -> Result<Dim, Refusal> {
    let Some(extent) = input.known() else { return Ok(Dim::Unknown) };
    let padded = extent.checked_add(pads.0).and_then(|n| n.checked_add(pads.1));
    let padded = padded.ok_or_else(|| format!("extent {extent} with its border is too large"))?;
    let Some(room) = padded.checked_sub(span) else {
        return Err(format!(
            "a window of {span} does not fit an extent of {extent} with borders {} and {}",
            pads.0, pads.1
        ));
    };
    let mut count = if ceil { room.div_ceil(stride) } else { room / stride } + 1;
    if ceil && (count - 1).saturating_mul(stride) >= extent + pads.0 {
        count -= 1;
    }
    Ok(Dim::Known(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_table() {
        // extent, span, stride, borders, ceil -> positions; the ceil cases are onnxruntime's
        let table = [
            (224, 7, 2, (3, 3), false, Some(112)),
            (112, 3, 2, (1, 1), false, Some(56)),
            (32, 3, 2, (1, 1), true, Some(17)),
            (3, 2, 2, (0, 0), true, Some(2)),
            (4, 1, 3, (0, 0), true, Some(2)),
            (2, 1, 2, (0, 1), true, Some(1)),
            (5, 5, 1, (0, 0), false, Some(1)),
            (4, 5, 1, (0, 0), false, None),
            (usize::MAX, 3, 1, (1, 1), false, None),
        ];
        for (extent, span, stride, pads, ceil, expected) in table {
            let got = positions(Dim::Known(extent), span, stride, pads, ceil).ok();
            assert_eq!(
                got,
                expected.map(Dim::Known),
                "extent {extent}, span {span}, stride {stride}, {pads:?}, {ceil}"
            );
        }
    }
}
