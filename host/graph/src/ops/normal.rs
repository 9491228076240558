//! BatchNormalization and LRN.

use super::{Operands, Parsed, elements, product};
use crate::dim::{Dims, Refusal, show};
use crate::ir::{Lrn, Op};
use crate::node::{Flaw, Node};

pub(super) fn parse_batch(node: &Node<'_>) -> Result<Parsed, Flaw> {
    node.results_at_most(1)?;
    if node.int_or("training_mode", 0)? != 0 {
        return Err(Flaw::Attribute("training_mode", "must be 0: the statistics have to be stored".to_owned()));
    }
    if node.int_or("spatial", 1)? != 1 {
        return Err(Flaw::Attribute("spatial", "must be 1: statistics per channel".to_owned()));
    }
    let epsilon = node.float_or("epsilon", 1e-5)?;
    Ok(Parsed::first(Op::BatchNormalization { epsilon }, 5))
}

pub(super) fn batch_shape(operands: &Operands<'_>) -> Result<Vec<Dims>, Refusal> {
    let data = operands.get(0)?;
    let channels = *data.get(1).ok_or_else(|| format!("needs at least 2 dimensions, got {}", show(data)))?;
    for index in 1..5 {
        let parameter = operands.get(index)?;
        if parameter.len() != 1 || parameter[0].agree(channels).is_none() {
            return Err(format!("input {index} is {}, the data {}", show(parameter), show(data)));
        }
    }
    Ok(vec![data.to_vec()])
}

/// One multiply-add per element.
pub(super) fn batch_flops(output: &[usize]) -> u64 {
    product(&[2, elements(output)])
}

pub(super) fn parse_lrn(node: &Node<'_>) -> Result<Parsed, Flaw> {
    let size = node.int("size")?.ok_or_else(|| Flaw::Attribute("size", "is missing".to_owned()))?;
    let fitting = usize::try_from(size).ok().filter(|s| (1..=1 << 20).contains(s));
    let size = fitting.ok_or_else(|| Flaw::Attribute("size", format!("is {size}, must be positive")))?;
    let (alpha, beta, bias) =
        (node.float_or("alpha", 1e-4)?, node.float_or("beta", 0.75)?, node.float_or("bias", 1.0)?);
    Ok(Parsed::first(Op::Lrn(Lrn { size, alpha, beta, bias }), 1))
}

pub(super) fn lrn_shape(operands: &Operands<'_>) -> Result<Vec<Dims>, Refusal> {
    let data = operands.get(0)?;
    super::window::plane(data)?;
    Ok(vec![data.to_vec()])
}

/// One multiply-add per channel of the window, a power and a quotient.
pub(super) fn lrn_flops(lrn: &Lrn, output: &[usize]) -> u64 {
    product(&[elements(output), (2 * lrn.size + 2) as u64])
}
