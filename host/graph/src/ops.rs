//! The operators: for each its parser, its shape rule and its cost, side by side in one file per family.
//!
//! A shape rule checks everything it uses and names what does not fit; it works on extents that may be symbolic, so the
//! same rule serves loading and execution. Costs are floating-point operations, two per multiply-add.

mod conv;
mod elementwise;
mod join;
mod layout;
mod matrix;
mod normal;
mod pool;
mod reduce;
mod reshape;
mod window;

use crate::dim::{Dim, Dims, Refusal};
use crate::ir::{Binary, Op, Unary};
use crate::node::{Flaw, Node};

/// What a parser makes of a node.
pub(crate) struct Parsed {
    /// The operation.
    pub(crate) op: Op,
    /// Which of the node's operands it takes.
    pub(crate) take: Take,
}

/// Operands that a layer takes of its node's; the others are in the attributes.
pub(crate) enum Take {
    /// The first so many.
    First(usize),
    /// All, two at a time from the left: one layer less than there are operands.
    Chain,
}

impl Parsed {
    fn first(op: Op, count: usize) -> Self {
        Self { op, take: Take::First(count) }
    }

    fn chain(op: Op) -> Self {
        Self { op, take: Take::Chain }
    }
}

type Parse = fn(&Node<'_>) -> Result<Parsed, Flaw>;

/// ONNX's name and our parser.
const TABLE: &[(&str, Parse)] = &[
    ("Abs", |_| elementwise::unary(Unary::Abs)),
    ("Add", |_| elementwise::binary(Binary::Add)),
    ("AveragePool", pool::parse_average),
    ("BatchNormalization", normal::parse_batch),
    ("Clip", elementwise::parse_clip),
    ("Concat", join::parse_concat),
    ("Conv", conv::parse),
    ("Div", |_| elementwise::binary(Binary::Div)),
    ("Elu", elementwise::parse_elu),
    ("Erf", |_| elementwise::unary(Unary::Erf)),
    ("Exp", |_| elementwise::unary(Unary::Exp)),
    ("Flatten", layout::parse_flatten),
    ("Gemm", matrix::parse_gemm),
    ("GlobalAveragePool", pool::parse_global_average),
    ("GlobalMaxPool", pool::parse_global_max),
    ("HardSigmoid", elementwise::parse_hard_sigmoid),
    ("HardSwish", |_| elementwise::unary(Unary::HardSwish)),
    ("LRN", normal::parse_lrn),
    ("LeakyRelu", elementwise::parse_leaky_relu),
    ("Log", |_| elementwise::unary(Unary::Log)),
    ("MatMul", matrix::parse_matmul),
    ("Max", |_| elementwise::variadic(Binary::Max)),
    ("MaxPool", pool::parse_max),
    ("Min", |_| elementwise::variadic(Binary::Min)),
    ("Mul", |_| elementwise::binary(Binary::Mul)),
    ("Neg", |_| elementwise::unary(Unary::Neg)),
    ("Pad", layout::parse_pad),
    ("Pow", |_| elementwise::binary(Binary::Pow)),
    ("ReduceMean", reduce::parse_mean),
    ("Relu", |_| elementwise::unary(Unary::Relu)),
    ("Reshape", reshape::parse),
    ("Sigmoid", |_| elementwise::unary(Unary::Sigmoid)),
    ("Slice", join::parse_slice),
    ("Softmax", reduce::parse_softmax),
    ("Softplus", |_| elementwise::unary(Unary::Softplus)),
    ("Split", join::parse_split),
    ("Sqrt", |_| elementwise::unary(Unary::Sqrt)),
    ("Squeeze", layout::parse_squeeze),
    ("Sub", |_| elementwise::binary(Binary::Sub)),
    ("Sum", |_| elementwise::variadic(Binary::Add)),
    ("Tanh", |_| elementwise::unary(Unary::Tanh)),
    ("Transpose", layout::parse_transpose),
    ("Unsqueeze", layout::parse_unsqueeze),
];

/// The parser of an operator of ONNX's own domain.
pub(crate) fn parser(op_type: &str) -> Option<Parse> {
    TABLE.binary_search_by_key(&op_type, |(name, _)| *name).ok().map(|i| TABLE[i].1)
}

/// Extents of a layer's operands, absent ones included.
pub(crate) struct Operands<'a>(&'a [Option<&'a [Dim]>]);

impl<'a> Operands<'a> {
    pub(crate) fn new(dims: &'a [Option<&'a [Dim]>]) -> Self {
        Self(dims)
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, index: usize) -> Result<&'a [Dim], Refusal> {
        self.optional(index).ok_or_else(|| format!("input {index} is missing"))
    }

    fn optional(&self, index: usize) -> Option<&'a [Dim]> {
        self.0.get(index).copied().flatten()
    }
}

/// The extents of a layer's results.
pub(crate) fn shape(op: &Op, operands: &Operands<'_>) -> Result<Vec<Dims>, Refusal> {
    match op {
        Op::Conv(conv) => conv::shape(conv, operands),
        Op::MaxPool(pool) | Op::AveragePool(pool) => pool::shape(pool, operands),
        Op::GlobalAveragePool | Op::GlobalMaxPool => pool::global_shape(operands),
        Op::Lrn(_) => normal::lrn_shape(operands),
        Op::BatchNormalization { .. } => normal::batch_shape(operands),
        Op::Gemm(gemm) => matrix::gemm_shape(gemm, operands),
        Op::MatMul => matrix::matmul_shape(operands),
        Op::Unary(_) | Op::Clip { .. } => elementwise::same_shape(operands),
        Op::Binary(_) => elementwise::binary_shape(operands),
        Op::Softmax { axis } => reduce::softmax_shape(*axis, operands),
        Op::Concat { axis } => join::concat_shape(*axis, operands),
        Op::Flatten { axis } => layout::flatten_shape(*axis, operands),
        Op::Reshape { shape } => reshape::shape(shape, operands),
        Op::Slice { axes } => join::slice_shape(axes, operands),
        Op::Split { axis, sizes } => join::split_shape(*axis, sizes, operands),
        Op::Transpose { perm } => layout::transpose_shape(perm, operands),
        Op::Squeeze { axes } => layout::squeeze_shape(axes, operands),
        Op::Unsqueeze { axes } => layout::unsqueeze_shape(axes, operands),
        Op::ReduceMean { axes, keep_dims } => reduce::mean_shape(axes, *keep_dims, operands),
        Op::Pad { pads, .. } => layout::pad_shape(pads, operands),
    }
}

/// Floating-point operations of a layer; what only moves elements costs none.
pub(crate) fn flops(op: &Op, operands: &[Option<&[usize]>], output: &[usize]) -> u64 {
    let operand = |i: usize| operands.get(i).copied().flatten().unwrap_or_default();
    match op {
        Op::Conv(_) => conv::flops(operand(1), output),
        Op::MaxPool(pool) | Op::AveragePool(pool) => pool::flops(pool, output),
        Op::GlobalAveragePool | Op::GlobalMaxPool | Op::ReduceMean { .. } => elements(operand(0)),
        Op::Lrn(lrn) => normal::lrn_flops(lrn, output),
        Op::BatchNormalization { .. } => normal::batch_flops(output),
        Op::Gemm(gemm) => matrix::gemm_flops(gemm, operand(0), output),
        Op::MatMul => matrix::matmul_flops(operand(0), output),
        Op::Unary(_) | Op::Binary(_) | Op::Clip { .. } => elementwise::flops(output),
        Op::Softmax { .. } => reduce::softmax_flops(output),
        Op::Concat { .. }
        | Op::Flatten { .. }
        | Op::Reshape { .. }
        | Op::Slice { .. }
        | Op::Split { .. }
        | Op::Transpose { .. }
        | Op::Squeeze { .. }
        | Op::Unsqueeze { .. }
        | Op::Pad { .. } => 0,
    }
}

/// Whether the operation may read or write across rows: it works along the first axis, or moves it.
pub(crate) fn mixes_rows(op: &Op) -> bool {
    match op {
        Op::Softmax { axis } | Op::Concat { axis } | Op::Split { axis, .. } => *axis == 0,
        Op::Flatten { axis } => *axis == 0,
        Op::Slice { axes } => axes.iter().any(|a| a.axis == 0),
        Op::Transpose { perm } => perm.first().is_some_and(|p| *p != 0),
        Op::Squeeze { axes } | Op::Unsqueeze { axes } | Op::ReduceMean { axes, .. } => axes.contains(&0),
        Op::Pad { pads, .. } => {
            pads.first().is_some_and(|p| *p > 0) || pads.get(pads.len() / 2).is_some_and(|p| *p > 0)
        }
        Op::Gemm(gemm) => gemm.trans_a,
        _ => false,
    }
}

/// Elements of a shape.
fn elements(shape: &[usize]) -> u64 {
    shape.iter().fold(1, |n: u64, d| n.saturating_mul(*d as u64))
}

/// A product that stops at the largest number.
fn product(factors: &[u64]) -> u64 {
    factors.iter().fold(1, |n: u64, f| n.saturating_mul(*f))
}

#[cfg(test)]
#[path = "ops/tests.rs"]
mod tests;
