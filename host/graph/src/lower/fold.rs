//! Constant folding: what a node computes from weights alone is computed while loading.

use crate::content::{Content, INTEGERS_MAX, Integers, Scalar};
use crate::dim;
use crate::error::GraphError;
use crate::ir::{Binary, Op, Unary};
use crate::limits::Limits;
use crate::node::{Flaw, Node};
use crate::proto::data_type;
use bps_types::{DataType, HostTensor, element_count};
use std::sync::Arc;

/// Bytes that folding may still take, over the whole model.
pub(super) struct Budget {
    pub(super) bytes_left: u64,
    pub(super) limit: u64,
}

impl Budget {
    /// Takes an FP32 tensor's share; its length in elements.
    fn take(&mut self, shape: &[usize]) -> Result<usize, GraphError> {
        self.take_elements(shape, 4)
    }

    /// Takes the share of integers.
    pub(super) fn take_integers(&mut self, shape: &[usize]) -> Result<usize, GraphError> {
        self.take_elements(shape, 8)
    }

    fn take_elements(&mut self, shape: &[usize], size: u64) -> Result<usize, GraphError> {
        let count = element_count(shape);
        let bytes = count.and_then(|n| (n as u64).checked_mul(size)).unwrap_or(u64::MAX);
        let refused = || GraphError::Limit {
            what: format!("with a constant of shape {shape:?}, what is computed while loading (bytes)"),
            got: bytes.saturating_add(self.limit - self.bytes_left),
            limit: self.limit,
        };
        let left = self.bytes_left.checked_sub(bytes).ok_or_else(refused)?;
        self.bytes_left = left;
        Ok(count.unwrap_or(0))
    }
}

/// `Constant`.
pub(super) fn constant(node: &Node<'_>, limits: &Limits) -> Result<Content, GraphError> {
    let attribute = node.proto.attribute.first();
    let fail = |flaw| node.error(flaw);
    let floats = |shape: Vec<usize>, values: &[f32]| {
        HostTensor::from_f32(shape, values)
            .map(|t| Content::Tensor(Arc::new(t)))
            .map_err(|e| fail(e.to_string().into()))
    };
    match attribute.map(|a| (a.name.as_str(), a)) {
        Some(("value", a)) => {
            let tensor = a.t.as_ref().ok_or_else(|| fail(Flaw::Attribute("value", "is not a tensor".to_owned())))?;
            crate::tensor::content(tensor, limits, None)
        }
        Some(("value_float", _)) => floats(vec![], &[node.float_or("value_float", 0.0).map_err(fail)?]),
        Some(("value_floats", a)) => floats(vec![a.floats.len()], &a.floats),
        Some(("value_int", _)) => {
            let value = node.int_or("value_int", 0).map_err(fail)?;
            Ok(Integers { shape: vec![], values: vec![Scalar::Known(value)] }.into())
        }
        Some(("value_ints", a)) if a.ints.len() <= INTEGERS_MAX => {
            Ok(Integers::list(a.ints.iter().map(|v| Scalar::Known(*v)).collect()).into())
        }
        _ => Err(fail(Flaw::Attribute("value", "is missing or of a kind that is not supported".to_owned()))),
    }
}

/// `ConstantOfShape`.
pub(super) fn constant_of_shape(node: &Node<'_>, limits: &Limits, budget: &mut Budget) -> Result<Content, GraphError> {
    let fail = |flaw| node.error(flaw);
    let target = node.constant_integers(0).map_err(fail)?.ok_or_else(|| fail("input 0 is missing".into()))?;
    let extents: Option<Vec<usize>> = target.iter().map(|d| usize::try_from(*d).ok()).collect();
    let shape = extents.filter(|s| s.len() <= limits.rank);
    let shape = shape.ok_or_else(|| fail(Flaw::Node(format!("{target:?} is not a shape"))))?;
    let value = node.proto.attribute.iter().find(|a| a.name == "value").and_then(|a| a.t.as_ref());
    let value = value.map(|t| crate::tensor::content(t, limits, None)).transpose()?;
    match value {
        Some(Content::Tensor(t)) if t.data_type() == DataType::Int64 => {
            let [one] = t.data().as_chunks::<8>().0 else { return Err(fail("needs a value of one element".into())) };
            let count = element_count(&shape).filter(|n| *n <= INTEGERS_MAX && shape.len() <= 1);
            let count = count.ok_or_else(|| fail(Flaw::Node(format!("{shape:?} integers are too many"))))?;
            budget.take_integers(&shape)?;
            Ok(Integers { shape, values: vec![Scalar::Known(i64::from_le_bytes(*one)); count] }.into())
        }
        Some(Content::Tensor(t)) if t.data().len() != 4 => Err(fail("needs a value of one element".into())),
        Some(Content::Tensor(t)) => filled(shape, t.data(), budget).map_err(|e| e.place(node)),
        Some(_) => Err(fail(Flaw::Attribute("value", "has a type that is not supported".to_owned()))),
        None => filled(shape, &[0; 4], budget).map_err(|e| e.place(node)),
    }
}

/// A refusal that is either placed already or needs its node.
pub(super) enum Refused {
    Limit(GraphError),
    Flaw(Flaw),
}

impl Refused {
    pub(super) fn place(self, node: &Node<'_>) -> GraphError {
        match self {
            Self::Limit(error) => error,
            Self::Flaw(flaw) => node.error(flaw),
        }
    }
}

fn filled(shape: Vec<usize>, element: &[u8], budget: &mut Budget) -> Result<Content, Refused> {
    let count = budget.take(&shape).map_err(Refused::Limit)?;
    let tensor = HostTensor::new(DataType::Fp32, shape, element.repeat(count).into());
    tensor.map(|t| Content::Tensor(Arc::new(t))).map_err(|e| Refused::Flaw(e.to_string().into()))
}

/// `Cast` of something known. Numbers that no 64-bit integer holds saturate.
pub(super) fn cast(node: &Node<'_>, content: &Content, budget: &mut Budget) -> Result<Content, Refused> {
    let flaw = |message: String| Refused::Flaw(message.into());
    let to = node.int_or("to", 0).map_err(Refused::Flaw)?;
    let to = i32::try_from(to).unwrap_or(0);
    let to_float = to == data_type::FLOAT;
    if !to_float && !matches!(to, data_type::INT64 | data_type::INT32 | data_type::BOOL) {
        return Err(Refused::Flaw(Flaw::Attribute(
            "to",
            format!("is {}, which is not supported", data_type::name(to)),
        )));
    }
    match (content.floats(), to_float) {
        (Ok(_), true) => Ok(content.clone()),
        (Ok(tensor), false) => {
            let values = tensor.to_f32().map_err(|e| flaw(e.to_string()))?;
            if values.len() > INTEGERS_MAX || tensor.shape().len() > 1 {
                return Err(flaw(format!("{:?} numbers are too many to become integers", tensor.shape())));
            }
            budget.take_integers(tensor.shape()).map_err(Refused::Limit)?;
            let values = values.into_iter().map(|v| Scalar::Known(v as i64)).collect();
            Ok(Integers { shape: tensor.shape().to_vec(), values }.into())
        }
        (Err(_), false) => {
            let integers = content.integers().map_err(flaw)?;
            budget.take_integers(&integers.shape).map_err(Refused::Limit)?;
            Ok(integers.into())
        }
        (Err(_), true) => {
            let integers = content.integers().map_err(flaw)?;
            budget.take(&integers.shape).map_err(Refused::Limit)?;
            let number = |s: &Scalar| if let Scalar::Known(v) = s { Some(*v as f32) } else { None };
            let numbers: Option<Vec<f32>> = integers.values.iter().map(number).collect();
            let numbers = numbers.ok_or_else(|| flaw("turns the batch into a floating-point number".to_owned()))?;
            let tensor = HostTensor::from_f32(integers.shape, &numbers);
            tensor.map(|t| Content::Tensor(Arc::new(t))).map_err(|e| flaw(e.to_string()))
        }
    }
}

/// Computes an operation on weights; none where it is better left to the device.
pub(super) fn evaluate(
    op: &Op,
    operands: &[&Arc<HostTensor>],
    shape: &[usize],
    budget: &mut Budget,
) -> Result<Option<HostTensor>, Refused> {
    let made = |tensor: Result<HostTensor, bps_types::TensorError>| {
        tensor.map(Some).map_err(|e| Refused::Flaw(e.to_string().into()))
    };
    match (op, operands) {
        (Op::Reshape { .. } | Op::Flatten { .. } | Op::Squeeze { .. } | Op::Unsqueeze { .. }, [data, ..]) => {
            made(HostTensor::new(DataType::Fp32, shape.to_vec(), data.data().clone()))
        }
        (Op::Transpose { perm }, [data]) => {
            budget.take(shape).map_err(Refused::Limit)?;
            let strides = strides(data.shape());
            let strides: Vec<usize> = perm.iter().map(|p| strides[*p]).collect();
            let source = data.data().as_chunks::<4>().0;
            let bytes: Vec<[u8; 4]> = Walk::new(shape, &strides).map(|i| source[i]).collect();
            made(HostTensor::new(DataType::Fp32, shape.to_vec(), bytes.as_flattened().to_vec().into()))
        }
        (Op::Unary(function), [data]) => {
            let Some(function) = unary(*function) else { return Ok(None) };
            budget.take(shape).map_err(Refused::Limit)?;
            made(HostTensor::from_f32(shape.to_vec(), &numbers(data).map(function).collect::<Vec<f32>>()))
        }
        (Op::Binary(function), [a, b]) => {
            if budget.take(shape).map_err(Refused::Limit)? == 0 {
                // costs nothing of the budget, so it must not cost the reading of an operand
                return made(HostTensor::from_f32(shape.to_vec(), &[]));
            }
            let (left, right): (Vec<f32>, Vec<f32>) = (numbers(a).collect(), numbers(b).collect());
            let places = Walk::new(shape, &spread(a.shape(), shape)).zip(Walk::new(shape, &spread(b.shape(), shape)));
            let values: Vec<f32> = places.map(|(i, j)| binary(*function, left[i], right[j])).collect();
            made(HostTensor::from_f32(shape.to_vec(), &values))
        }
        _ => Ok(None),
    }
}

fn numbers(tensor: &HostTensor) -> impl Iterator<Item = f32> + '_ {
    tensor.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b))
}

/// The functions that exporters apply to weights.
fn unary(function: Unary) -> Option<fn(f32) -> f32> {
    match function {
        Unary::Sqrt => Some(libm::sqrtf),
        Unary::Exp => Some(libm::expf),
        Unary::Neg => Some(|v| -v),
        Unary::Abs => Some(f32::abs),
        _ => None,
    }
}

fn binary(function: Binary, a: f32, b: f32) -> f32 {
    match function {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Max => a.max(b),
        Binary::Min => a.min(b),
        Binary::Pow => libm::powf(a, b),
    }
}

/// Elements from one position to the next, per dimension.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i];
    }
    strides
}

/// Strides of an operand that is broadcast to `target`: 0 where it repeats.
fn spread(shape: &[usize], target: &[usize]) -> Vec<usize> {
    let own = strides(shape);
    let lead = target.len() - shape.len();
    (0..target.len()).map(|i| if i < lead || shape[i - lead] == 1 { 0 } else { own[i - lead] }).collect()
}

/// Positions in an operand, in the result's order.
struct Walk<'a> {
    shape: &'a [usize],
    strides: Vec<usize>,
    counters: Vec<usize>,
    position: usize,
    left: usize,
}

impl<'a> Walk<'a> {
    fn new(shape: &'a [usize], strides: &[usize]) -> Self {
        let left = element_count(shape).unwrap_or(0);
        Self { shape, strides: strides.to_vec(), counters: vec![0; shape.len()], position: 0, left }
    }
}

impl Iterator for Walk<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let here = self.position;
        for i in (0..self.shape.len()).rev() {
            self.counters[i] += 1;
            self.position += self.strides[i];
            if self.counters[i] < self.shape[i] {
                break;
            }
            self.position -= self.strides[i] * self.shape[i];
            self.counters[i] = 0;
        }
        Some(here)
    }
}

/// The shape of an operation on weights.
pub(super) fn shape(op: &Op, operands: &[&Arc<HostTensor>]) -> Result<Vec<usize>, String> {
    let dims: Vec<_> = operands.iter().map(|t| dim::known(t.shape())).collect();
    let dims: Vec<_> = dims.iter().map(|d| Some(d.as_slice())).collect();
    let results = crate::ops::shape(op, &crate::ops::Operands::new(&dims))?;
    let first = results.into_iter().next().ok_or("gives no result")?;
    first.into_iter().map(|d| d.known().ok_or_else(|| "a constant's shape stays open".to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(op: &Op, operands: &[(&[usize], &[f32])]) -> (Vec<usize>, Vec<f32>) {
        let tensors: Vec<_> =
            operands.iter().map(|(s, v)| Arc::new(HostTensor::from_f32(s.to_vec(), v).unwrap())).collect();
        let tensors: Vec<_> = tensors.iter().collect();
        let shape = shape(op, &tensors).unwrap();
        let mut budget = Budget { bytes_left: 1 << 20, limit: 1 << 20 };
        let made = evaluate(op, &tensors, &shape, &mut budget).ok().flatten().unwrap();
        (made.shape().to_vec(), made.to_f32().unwrap())
    }

    #[test]
    fn weights_are_computed_with() {
        let six: (&[usize], &[f32]) = (&[2, 3], &[1., 2., 3., 4., 5., 6.]);
        let transposed = run(&Op::Transpose { perm: vec![1, 0] }, &[six]);
        assert_eq!(transposed, (vec![3, 2], vec![1., 4., 2., 5., 3., 6.]));
        let sum = run(&Op::Binary(Binary::Add), &[six, (&[2, 1], &[10., 20.])]);
        assert_eq!(sum, (vec![2, 3], vec![11., 12., 13., 24., 25., 26.]));
        let quotient = run(&Op::Binary(Binary::Div), &[(&[], &[6.]), (&[2], &[2., 3.])]);
        assert_eq!(quotient, (vec![2], vec![3., 2.]));
        let root = run(&Op::Unary(Unary::Sqrt), &[(&[1], &[9.])]);
        assert_eq!(root, (vec![1], vec![3.]));
        let flat = run(&Op::Flatten { axis: 0 }, &[six]);
        assert_eq!(flat.0, [1, 6]);
        let empty = run(&Op::Binary(Binary::Add), &[(&[2, 1], &[1., 2.]), (&[1, 0], &[])]);
        assert_eq!(empty, (vec![2, 0], vec![]));
    }

    #[test]
    fn the_budget_ends() {
        let mut budget = Budget { bytes_left: 100, limit: 100 };
        assert!(budget.take(&[20]).is_ok() && budget.take(&[6]).is_err() && budget.take(&[5]).is_ok());
        assert!(budget.take(&[usize::MAX, 2]).is_err());
        assert!(budget.take_integers(&[]).is_err() && Budget { bytes_left: 8, limit: 8 }.take_integers(&[]).is_ok());
    }
}
