//! Shape arithmetic: the integer chains that exporters write around Reshape, with the batch as a symbol.

use crate::content::{INTEGERS_MAX, Integers, Scalar};
use crate::node::{Flaw, Node};

/// Computes a node whose first operand is integers.
pub(super) fn evaluate(node: &Node<'_>) -> Result<Integers, Flaw> {
    let all: Vec<Integers> = (0..node.operands.len()).map(|i| read(node, i)).collect::<Result<_, _>>()?;
    let first = all.first().ok_or("has no operands")?;
    match node.proto.op_type.as_str() {
        "Add" => pairwise(&all, add),
        "Sub" => pairwise(&all, |a, b| add(a, negate(b))),
        "Mul" => pairwise(&all, multiply),
        "Div" => pairwise(&all, divide),
        "Neg" => Ok(Integers { shape: first.shape.clone(), values: first.values.iter().map(|v| negate(*v)).collect() }),
        "Unsqueeze" if first.shape.is_empty() => Ok(Integers::list(first.values.clone())),
        "Squeeze" if first.values.len() == 1 => Ok(Integers { shape: vec![], values: first.values.clone() }),
        "Reshape" if all.len() == 2 => reshape(first, &all[1]),
        "Concat" => concat(&all),
        "Gather" if all.len() == 2 => gather(first, &all[1]),
        "Slice" => slice(node, first),
        other => Err(format!("`{other}` of integers {:?} is not supported", first.shape).into()),
    }
}

fn read(node: &Node<'_>, index: usize) -> Result<Integers, Flaw> {
    let operand = node.operand(index)?;
    let content = operand.content.ok_or_else(|| format!("mixes integers with the computed `{}`", operand.name))?;
    content.integers().map_err(|m| Flaw::Node(format!("input {index} (`{}`) {m}", operand.name)))
}

fn add(a: Scalar, b: Scalar) -> Scalar {
    match (a, b) {
        (Scalar::Known(0), other) | (other, Scalar::Known(0)) => other,
        (Scalar::Known(a), Scalar::Known(b)) => a.checked_add(b).map_or(Scalar::Unknown, Scalar::Known),
        (Scalar::Rows(a), Scalar::Rows(b)) => match a.checked_add(b) {
            Some(0) => Scalar::Known(0),
            Some(sum) => Scalar::Rows(sum),
            None => Scalar::Unknown,
        },
        _ => Scalar::Unknown,
    }
}

fn negate(a: Scalar) -> Scalar {
    match a {
        Scalar::Known(v) => v.checked_neg().map_or(Scalar::Unknown, Scalar::Known),
        Scalar::Rows(v) => v.checked_neg().map_or(Scalar::Unknown, Scalar::Rows),
        Scalar::Unknown => Scalar::Unknown,
    }
}

fn multiply(a: Scalar, b: Scalar) -> Scalar {
    match (a, b) {
        (Scalar::Known(0), _) | (_, Scalar::Known(0)) => Scalar::Known(0),
        (Scalar::Known(a), Scalar::Known(b)) => a.checked_mul(b).map_or(Scalar::Unknown, Scalar::Known),
        (Scalar::Rows(a), Scalar::Known(b)) | (Scalar::Known(a), Scalar::Rows(b)) => {
            a.checked_mul(b).map_or(Scalar::Unknown, Scalar::Rows)
        }
        _ => Scalar::Unknown,
    }
}

/// Rounds towards zero, as ONNX does. A multiple of the batch stays one only if it divides.
fn divide(a: Scalar, b: Scalar) -> Scalar {
    match (a, b) {
        (Scalar::Known(a), Scalar::Known(b)) => a.checked_div(b).map_or(Scalar::Unknown, Scalar::Known),
        (Scalar::Rows(a), Scalar::Known(b)) if a.checked_rem(b) == Some(0) => Scalar::Rows(a / b),
        (Scalar::Rows(a), Scalar::Rows(b)) if a.checked_rem(b) == Some(0) => Scalar::Known(a / b),
        _ => Scalar::Unknown,
    }
}

fn pairwise(operands: &[Integers], function: fn(Scalar, Scalar) -> Scalar) -> Result<Integers, Flaw> {
    let [a, b] = operands else { return Err("needs two operands".into()) };
    let length = match (a.values.len(), b.values.len()) {
        (n, m) if n == m => n,
        (1, n) | (n, 1) => n,
        (n, m) => return Err(format!("lists of {n} and {m} integers do not broadcast").into()),
    };
    let at = |list: &Integers, i: usize| list.values[if list.values.len() == 1 { 0 } else { i }];
    let values = (0..length).map(|i| function(at(a, i), at(b, i))).collect();
    let shape = if a.shape.is_empty() && b.shape.is_empty() { vec![] } else { vec![length] };
    Ok(Integers { shape, values })
}

fn reshape(data: &Integers, target: &Integers) -> Result<Integers, Flaw> {
    match (target.values.as_slice(), data.values.len()) {
        ([], 1) => Ok(Integers { shape: vec![], values: data.values.clone() }),
        ([Scalar::Known(n)], length) if *n == -1 || usize::try_from(*n) == Ok(length) => {
            Ok(Integers::list(data.values.clone()))
        }
        _ => Err("integers can be reshaped to a list or to a single number only".into()),
    }
}

fn concat(operands: &[Integers]) -> Result<Integers, Flaw> {
    let total: usize = operands.iter().map(|o| o.values.len()).sum();
    if total > INTEGERS_MAX || operands.iter().any(|o| o.shape.is_empty()) {
        return Err(format!("cannot join {} lists to {total} integers", operands.len()).into());
    }
    Ok(Integers::list(operands.iter().flat_map(|o| o.values.iter().copied()).collect()))
}

fn gather(data: &Integers, indices: &Integers) -> Result<Integers, Flaw> {
    let length = i64::try_from(data.values.len()).unwrap_or(i64::MAX);
    let pick = |index: &Scalar| match *index {
        Scalar::Known(i) if (-length..length).contains(&i) => Ok(data.values[i.rem_euclid(length) as usize]),
        other => Err(Flaw::Node(format!("index {other:?} is not one of {length}"))),
    };
    Ok(Integers { shape: indices.shape.clone(), values: indices.values.iter().map(pick).collect::<Result<_, _>>()? })
}

fn slice(node: &Node<'_>, data: &Integers) -> Result<Integers, Flaw> {
    let bound = |name: &'static str, input: usize| {
        let list = if node.opset < 10 { node.ints(name)?.map(<[i64]>::to_vec) } else { node.constant_integers(input)? };
        match list.as_deref() {
            None => Ok(None),
            Some([one]) => Ok(Some(*one)),
            Some(many) => Err(Flaw::Node(format!("{name} has {} entries, a list has one dimension", many.len()))),
        }
    };
    let start = bound("starts", 1)?.ok_or("starts are missing")?;
    let end = bound("ends", 2)?.ok_or("ends are missing")?;
    let step = if node.opset < 10 { 1 } else { bound("steps", 4)?.unwrap_or(1) };
    let step = usize::try_from(step).ok().filter(|s| *s > 0).ok_or("only positive steps are supported")?;
    let (from, to) = crate::ir::AxisRange { axis: 0, start, end, step }.resolve(data.values.len());
    Ok(Integers::list(data.values[from..to].iter().step_by(step).copied().collect()))
}

#[cfg(test)]
mod tests {
    use super::Scalar::{Known, Rows, Unknown};
    use super::*;

    #[test]
    fn arithmetic_keeps_the_batch() {
        assert_eq!(add(Rows(1), Rows(2)), Rows(3));
        assert_eq!(add(Rows(1), Rows(-1)), Known(0));
        assert_eq!(add(Rows(1), Known(1)), Unknown);
        assert_eq!(multiply(Rows(2), Known(3)), Rows(6));
        assert_eq!(multiply(Unknown, Known(0)), Known(0));
        assert_eq!(divide(Rows(6), Known(4)), Unknown);
        assert_eq!(divide(Rows(6), Rows(2)), Known(3));
        assert_eq!(divide(Known(-7), Known(2)), Known(-3));
        assert_eq!(divide(Known(1), Known(0)), Unknown);
        assert_eq!(divide(Known(i64::MIN), Known(-1)), Unknown);
        assert_eq!(divide(Rows(i64::MIN), Known(-1)), Unknown);
    }

    #[test]
    fn gathering_counts_from_both_ends() {
        let data = Integers::list(vec![Rows(1), Known(3), Known(8)]);
        let pick = |i| gather(&data, &Integers { shape: vec![], values: vec![Known(i)] }).map(|g| g.values[0]);
        assert_eq!((pick(0).unwrap(), pick(-1).unwrap()), (Rows(1), Known(8)));
        assert!(pick(3).is_err() && pick(-4).is_err());
        assert!(gather(&Integers::list(vec![]), &Integers::list(vec![Known(0)])).is_err());
    }
}
