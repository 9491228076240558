//! Gemm and MatMul.

use super::{Operands, Parsed, elements, product};
use crate::dim::{self, Dim, Dims, Refusal, show};
use crate::ir::{Gemm, Op};
use crate::node::{Flaw, Node};

pub(super) fn parse_gemm(node: &Node<'_>) -> Result<Parsed, Flaw> {
    let gemm = Gemm {
        alpha: node.float_or("alpha", 1.0)?,
        beta: node.float_or("beta", 1.0)?,
        trans_a: node.int_or("transA", 0)? != 0,
        trans_b: node.int_or("transB", 0)? != 0,
    };
    Ok(Parsed::first(Op::Gemm(gemm), 3))
}

pub(super) fn gemm_shape(gemm: &Gemm, operands: &Operands<'_>) -> Result<Vec<Dims>, Refusal> {
    let (a, b) = (operands.get(0)?, operands.get(1)?);
    let matrix = |dims: &[Dim], transposed: bool| match *dims {
        [rows, columns] => Ok(if transposed { (columns, rows) } else { (rows, columns) }),
        _ => Err(format!("needs matrices, got {} and {}", show(a), show(b))),
    };
    let ((rows, inner_a), (inner_b, columns)) = (matrix(a, gemm.trans_a)?, matrix(b, gemm.trans_b)?);
    if inner_a.agree(inner_b).is_none() {
        return Err(format!("{} and {} cannot be multiplied: {inner_a} is not {inner_b}", show(a), show(b)));
    }
    let output = vec![rows, columns];
    if let Some(c) = operands.optional(2) {
        let fits = c.len() <= 2 && dim::broadcast(&output, c).is_ok_and(|d| fits_into(&d, &output));
        if !fits {
            return Err(format!("addend {} does not broadcast to {}", show(c), show(&output)));
        }
    }
    Ok(vec![output])
}

/// Whether broadcasting left the target as it was.
fn fits_into(broadcast: &[Dim], target: &[Dim]) -> bool {
    broadcast.len() == target.len() && broadcast.iter().zip(target).all(|(b, t)| b == t || *t == Dim::Unknown)
}

pub(super) fn gemm_flops(gemm: &Gemm, a: &[usize], output: &[usize]) -> u64 {
    let inner = a.get(usize::from(!gemm.trans_a)).copied().unwrap_or(0);
    product(&[2, elements(output), inner as u64])
}

pub(super) fn parse_matmul(_: &Node<'_>) -> Result<Parsed, Flaw> {
    Ok(Parsed::first(Op::MatMul, 2))
}

pub(super) fn matmul_shape(operands: &Operands<'_>) -> Result<Vec<Dims>, Refusal> {
    let (a, b) = (operands.get(0)?, operands.get(1)?);
    let refuse = || format!("{} and {} cannot be multiplied", show(a), show(b));
    let (row, column) = (a.len() == 1, b.len() == 1);
    let a_matrix = if row { vec![Dim::Known(1), a[0]] } else { a.to_vec() };
    let b_matrix = if column { vec![b[0], Dim::Known(1)] } else { b.to_vec() };
    let ([a_outer @ .., rows, inner_a], [b_outer @ .., inner_b, columns]) = (&a_matrix[..], &b_matrix[..]) else {
        return Err(refuse());
    };
    if inner_a.agree(*inner_b).is_none() {
        return Err(refuse());
    }
    let mut output = dim::broadcast(a_outer, b_outer).map_err(|_| refuse())?;
    if !row {
        output.push(*rows);
    }
    if !column {
        output.push(*columns);
    }
    Ok(vec![output])
}

pub(super) fn matmul_flops(a: &[usize], output: &[usize]) -> u64 {
    product(&[2, elements(output), a.last().copied().unwrap_or(0) as u64])
}
