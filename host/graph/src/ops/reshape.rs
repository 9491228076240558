//! Reshape, and how targets that were written for one batch become targets for any.

use super::{Operands, Parsed};
use crate::content::Scalar;
use crate::dim::{self, Dim, Dims, Refusal, show};
use crate::ir::Op;
use crate::node::{Flaw, Node};

pub(super) fn parse(node: &Node<'_>) -> Result<Parsed, Flaw> {
    let data = node.dims(0)?;
    let target = node.integers(1)?.ok_or("the target shape is missing")?;
    if node.int_or("allowzero", 0)? != 0 && target.contains(&Scalar::Known(0)) {
        return Err(Flaw::Attribute("allowzero", "asks for an extent of 0, which is not supported".to_owned()));
    }
    let shape = free_batch(data, written(data, &target)?)?;
    Ok(Parsed::first(Op::Reshape { shape }, 1))
}

/// The target in ONNX's notation: an extent that follows the input's becomes 0, one that follows from the others -1.
fn written(data: &[Dim], target: &[Scalar]) -> Result<Vec<i64>, Flaw> {
    let mut shape = Vec::with_capacity(target.len());
    for (i, entry) in target.iter().enumerate() {
        shape.push(match *entry {
            Scalar::Known(value) if value >= -1 => value,
            Scalar::Known(value) => return Err(format!("the target shape has an extent of {value}").into()),
            Scalar::Rows(k) if data.get(i).is_some_and(|d| Scalar::from(*d) == Scalar::Rows(k)) => 0,
            Scalar::Rows(_) | Scalar::Unknown => -1,
        });
    }
    if shape.iter().filter(|v| **v == -1).count() > 1 {
        return Err(format!("the target shape leaves more than one extent of {} open", show(data)).into());
    }
    Ok(shape)
}

/// Lets the first extent follow the batch where the file fixes it at that of a batch of one.
fn free_batch(data: &[Dim], mut shape: Vec<i64>) -> Result<Vec<i64>, Flaw> {
    let Some(&first) = shape.first().filter(|v| **v > 0) else { return Ok(shape) };
    let follows = |i: usize| matches!(data.get(i), Some(Dim::Rows(_)));
    if shape.iter().enumerate().any(|(i, v)| *v == 0 && follows(i)) {
        return Ok(shape); // the batch has its place already
    }
    if data.first() == Some(&Dim::Rows(1)) && first == 1 {
        shape[0] = 0;
        return Ok(shape);
    }
    // without an inferred extent, the elements of one row must be the target's
    if !shape.contains(&-1)
        && let (Ok(Dim::Rows(row)), Ok(Dim::Known(fixed))) = (dim::count(data), dim::count(&extents(data, &shape)?))
        && row == fixed
    {
        shape[0] = if data.first().is_some_and(|d| Scalar::from(*d) == Scalar::Rows(first)) { 0 } else { -1 };
    }
    Ok(shape)
}

/// The target's extents with copied ones filled in; -1 counts as 1.
fn extents(data: &[Dim], shape: &[i64]) -> Result<Dims, Refusal> {
    let extent = |(i, value): (usize, &i64)| match *value {
        0 => data.get(i).copied().ok_or_else(|| format!("target {shape:?} copies dimension {i} of {}", show(data))),
        -1 => Ok(Dim::Known(1)),
        n => usize::try_from(n).map(Dim::Known).map_err(|_| format!("target {shape:?} has an extent of {n}")),
    };
    shape.iter().enumerate().map(extent).collect()
}

pub(super) fn shape(target: &[i64], operands: &Operands<'_>) -> Result<Vec<Dims>, Refusal> {
    let data = operands.get(0)?;
    if target.len() > dim::RANK_MAX {
        return Err(format!("a target of {} dimensions has too many", target.len()));
    }
    let mut output = extents(data, target)?;
    let (total, given) = (dim::count(data)?, dim::count(&output)?);
    match target.iter().position(|v| *v == -1) {
        Some(open) => {
            output[open] =
                total.over(given).map_err(|m| format!("{} does not reshape to {target:?}: {m}", show(data)))?;
        }
        None if total.agree(given).is_none() => {
            return Err(format!("{} does not reshape to {target:?}: {total} elements are not {given}", show(data)));
        }
        None => {}
    }
    Ok(vec![output])
}

#[cfg(test)]
mod tests {
    use super::Dim::{Known, Rows, Unknown};
    use super::*;

    #[test]
    fn targets_for_one_batch_become_targets_for_any() {
        use Scalar::Known as K;
        type Case = (&'static [Dim], &'static [Scalar], &'static [i64], &'static str);
        let table: [Case; 9] = [
            (&[Rows(1), Known(512), Known(1), Known(1)], &[K(1), K(-1)], &[0, -1], "[N, 512]"),
            (&[Rows(1), Known(512)], &[Scalar::Rows(1), K(-1)], &[0, -1], "[N, 512]"),
            (&[Rows(1), Known(512)], &[K(-1), K(512)], &[-1, 512], "[N, 512]"),
            (&[Rows(1), Known(512)], &[K(0), K(-1)], &[0, -1], "[N, 512]"),
            (&[Rows(1), Known(8), Known(4)], &[K(1), K(2), K(4), K(4)], &[0, 2, 4, 4], "[N, 2, 4, 4]"),
            (&[Rows(1), Known(8), Known(4)], &[K(8), K(4)], &[-1, 4], "[8N, 4]"),
            (&[Rows(8), Known(4)], &[K(1), K(8), K(4)], &[-1, 8, 4], "[N, 8, 4]"),
            (&[Rows(1), Known(8)], &[Scalar::Rows(2), K(4)], &[-1, 4], "[2N, 4]"),
            (&[Rows(1), Known(3), Unknown], &[Scalar::Rows(1), Scalar::Unknown], &[0, -1], "[N, ?]"),
        ];
        for (data, target, expected, dims) in table {
            let got = free_batch(data, written(data, target).unwrap()).unwrap();
            assert_eq!(got, expected, "{} to {target:?}", show(data));
            let shapes = shape(&got, &Operands::new(&[Some(data)])).unwrap();
            assert_eq!(show(&shapes[0]), dims);
        }
    }

    #[test]
    fn impossible_targets_are_refused() {
        let table: [(&[Dim], &[i64]); 5] = [
            (&[Known(2), Known(6)], &[5, -1]),
            (&[Known(2), Known(6)], &[13]),
            (&[Known(2), Known(6)], &[2, 6, 0]),
            (&[Known(2)], &[i64::MAX, i64::MAX]),
            (&[Rows(1), Known(6)], &[5, 6]),
        ];
        for (data, target) in table {
            assert!(shape(target, &Operands::new(&[Some(data)])).is_err(), "{} to {target:?}", show(data));
        }
    }
}
