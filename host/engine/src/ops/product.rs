//! Matrix products.

use super::{Dispatch, Tensor, reshape};
use bps_graph::Gemm;
use burn::backend::TensorMetadata;
use burn::backend::ops::FloatTensorOps;

/// Factors and transpositions of constants have been applied when the model was loaded; what is left is left here.
pub(super) fn gemm(gemm: &Gemm, a: Tensor, b: Tensor, c: Option<Tensor>) -> Tensor {
    let transposed = |t: Tensor, yes: bool| if yes { Dispatch::float_swap_dims(t, 0, 1) } else { t };
    let product = Dispatch::float_matmul(transposed(a, gemm.trans_a), transposed(b, gemm.trans_b));
    let product = scaled(product, gemm.alpha);
    match c {
        Some(c) => Dispatch::float_add(product, scaled(with_rank(c, 2), gemm.beta)),
        None => product,
    }
}

fn scaled(x: Tensor, factor: f32) -> Tensor {
    if factor == 1.0 { x } else { Dispatch::float_mul_scalar(x, factor.into()) }
}

pub(super) fn matmul(a: Tensor, b: Tensor, output: &[usize]) -> Tensor {
    let (left, right) = (a.shape(), b.shape());
    // A vector on the right is a column, one on the left a row.
    let b = if right.len() == 1 { reshape(b, &[right[0], 1]) } else { b };
    let a = with_rank(a, 2);
    if b.shape().len() == 2 {
        // One matrix for all: a single product is faster than a batch of small ones.
        let inner = b.shape()[0];
        let rows = left.num_elements() / inner.max(1);
        return reshape(Dispatch::float_matmul(reshape(a, &[rows, inner]), b), output);
    }
    let rank = left.len().max(right.len());
    reshape(Dispatch::float_matmul(with_rank(a, rank), with_rank(b, rank)), output)
}

/// Dimensions of extent 1 in front, as broadcasting has it.
pub(super) fn with_rank(x: Tensor, rank: usize) -> Tensor {
    let shape = x.shape();
    if shape.len() >= rank {
        return x;
    }
    let mut wide = vec![1; rank - shape.len()];
    wide.extend(shape.iter().copied());
    reshape(x, &wide)
}
