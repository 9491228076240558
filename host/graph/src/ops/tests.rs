//! Shape rules and costs as tables.

use super::*;
use crate::dim::{known, show};
use crate::ir::{AxisRange, Conv, Gemm, Lrn, Pool};

#[test]
fn the_table_is_sorted() {
    assert!(TABLE.is_sorted_by_key(|(name, _)| *name));
}

fn conv(kernel: usize, stride: usize, pad: usize, groups: usize) -> Op {
    Op::Conv(Conv { kernel: [kernel; 2], stride: [stride; 2], pads: [pad; 4], dilation: [1, 1], groups })
}

fn pool(kernel: usize, stride: usize, pad: usize, ceil: bool) -> Op {
    let (kernel, stride, pads) = ([kernel; 2], [stride; 2], [pad; 4]);
    Op::MaxPool(Pool { kernel, stride, pads, dilation: [1, 1], ceil, count_include_pad: false })
}

fn gemm(trans_a: bool, trans_b: bool) -> Op {
    Op::Gemm(Gemm { alpha: 1.0, beta: 1.0, trans_a, trans_b })
}

fn range(axis: usize, start: i64, end: i64, step: usize) -> AxisRange {
    AxisRange { axis, start, end, step }
}

/// An operation, the shapes of its operands, and the shape of its result or a part of the refusal.
type Case = (Op, &'static [&'static [usize]], Result<&'static str, &'static str>);

fn check(cases: Vec<Case>) {
    for (op, operands, expected) in cases {
        let dims: Vec<Dims> = operands.iter().map(|o| known(o)).collect();
        let dims: Vec<Option<&[Dim]>> = dims.iter().map(|d| Some(d.as_slice())).collect();
        let got = shape(&op, &Operands::new(&dims));
        let shown = got.map(|shapes| shapes.iter().map(|d| show(d)).collect::<Vec<_>>().join(" "));
        match (shown, expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{op:?} of {operands:?}"),
            (Err(got), Err(part)) => assert!(got.contains(part), "{op:?} of {operands:?}: {got}"),
            (got, expected) => panic!("{op:?} of {operands:?}: {got:?}, expected {expected:?}"),
        }
    }
}

#[test]
fn windows() {
    check(vec![
        (conv(7, 2, 3, 1), &[&[2, 3, 224, 224], &[64, 3, 7, 7]], Ok("[2, 64, 112, 112]")),
        (conv(3, 1, 1, 1), &[&[2, 3, 5, 9], &[4, 3, 3, 3], &[4]], Ok("[2, 4, 5, 9]")),
        (conv(3, 2, 1, 8), &[&[1, 8, 7, 7], &[8, 1, 3, 3]], Ok("[1, 8, 4, 4]")),
        (conv(3, 1, 0, 1), &[&[1, 3, 2, 2], &[4, 3, 3, 3]], Err("window of 3 does not fit")),
        (conv(3, 1, 1, 1), &[&[1, 4, 8, 8], &[4, 3, 3, 3]], Err("does not fit the weight")),
        (conv(3, 1, 1, 1), &[&[1, 3, 8, 8], &[4, 3, 3, 3], &[5]], Err("bias [5]")),
        (conv(5, 1, 1, 1), &[&[1, 3, 8, 8], &[4, 3, 3, 3]], Err("kernel")),
        (conv(3, 1, 1, 2), &[&[1, 6, 8, 8], &[3, 3, 3, 3]], Err("in 2 groups")),
        (conv(3, 1, 1, usize::MAX), &[&[1, 3, 8, 8], &[4, 3, 3, 3]], Err("too many channels")),
        (conv(3, 1, 1, 1), &[&[3, 8, 8], &[4, 3, 3, 3]], Err("4 dimensions")),
        (conv(3, 1, 1, 1), &[&[1, 3, 8, 8]], Err("input 1 is missing")),
        (pool(3, 2, 1, false), &[&[1, 64, 112, 112]], Ok("[1, 64, 56, 56]")),
        (pool(3, 2, 0, true), &[&[1, 64, 112, 112]], Ok("[1, 64, 56, 56]")),
        (pool(3, 2, 0, false), &[&[1, 64, 112, 112]], Ok("[1, 64, 55, 55]")),
        (pool(3, 2, 0, false), &[&[1, 64, 2, 2]], Err("does not fit")),
        (Op::GlobalAveragePool, &[&[2, 8, 7, 7]], Ok("[2, 8, 1, 1]")),
        (Op::GlobalMaxPool, &[&[2, 8]], Err("4 dimensions")),
        (Op::Lrn(Lrn { size: 5, alpha: 1.0, beta: 1.0, bias: 1.0 }), &[&[2, 8, 7, 7]], Ok("[2, 8, 7, 7]")),
    ]);
}

#[test]
fn matrices() {
    check(vec![
        (gemm(false, true), &[&[2, 512], &[1000, 512], &[1000]], Ok("[2, 1000]")),
        (gemm(false, false), &[&[2, 512], &[512, 10]], Ok("[2, 10]")),
        (gemm(true, false), &[&[512, 2], &[512, 10], &[2, 1]], Ok("[2, 10]")),
        (gemm(false, false), &[&[2, 512], &[512, 10], &[11]], Err("addend")),
        (gemm(false, false), &[&[1, 512], &[512, 10], &[2, 10]], Err("addend")),
        (gemm(false, false), &[&[2, 512], &[511, 10]], Err("512 is not 511")),
        (gemm(false, false), &[&[2, 512, 1], &[512, 10]], Err("matrices")),
        (Op::MatMul, &[&[2, 3], &[3, 4]], Ok("[2, 4]")),
        (Op::MatMul, &[&[5, 1, 2, 3], &[7, 3, 4]], Ok("[5, 7, 2, 4]")),
        (Op::MatMul, &[&[3], &[3, 4]], Ok("[4]")),
        (Op::MatMul, &[&[2, 3], &[3]], Ok("[2]")),
        (Op::MatMul, &[&[3], &[3]], Ok("[]")),
        (Op::MatMul, &[&[2, 3], &[4, 3]], Err("cannot be multiplied")),
        (Op::MatMul, &[&[], &[4, 3]], Err("cannot be multiplied")),
    ]);
}

#[test]
fn elements_and_axes() {
    check(vec![
        (Op::Unary(Unary::Relu), &[&[2, 3]], Ok("[2, 3]")),
        (Op::Binary(Binary::Add), &[&[2, 3, 4], &[3, 1]], Ok("[2, 3, 4]")),
        (Op::Binary(Binary::Add), &[&[2, 3], &[2]], Err("do not broadcast")),
        (Op::BatchNormalization { epsilon: 0.0 }, &[&[2, 3, 4], &[3], &[3], &[3], &[3]], Ok("[2, 3, 4]")),
        (Op::BatchNormalization { epsilon: 0.0 }, &[&[2, 3, 4], &[3], &[3], &[4], &[3]], Err("input 3")),
        (Op::BatchNormalization { epsilon: 0.0 }, &[&[2], &[2], &[2], &[2], &[2]], Err("2 dimensions")),
        (Op::Softmax { axis: 1 }, &[&[2, 3]], Ok("[2, 3]")),
        (Op::Softmax { axis: 2 }, &[&[2, 3]], Err("axis 2")),
        (Op::ReduceMean { axes: vec![2, 3], keep_dims: true }, &[&[2, 8, 7, 7]], Ok("[2, 8, 1, 1]")),
        (Op::ReduceMean { axes: vec![2, 3], keep_dims: false }, &[&[2, 8, 7, 7]], Ok("[2, 8]")),
        (Op::ReduceMean { axes: vec![4], keep_dims: false }, &[&[2, 8, 7, 7]], Err("axes [4]")),
    ]);
}

#[test]
fn arrangements() {
    check(vec![
        (Op::Concat { axis: 1 }, &[&[2, 3, 4], &[2, 5, 4], &[2, 1, 4]], Ok("[2, 9, 4]")),
        (Op::Concat { axis: 1 }, &[&[2, 3, 4], &[2, 5, 5]], Err("do not join")),
        (Op::Concat { axis: 1 }, &[&[2, 3, 4], &[2, 5]], Err("do not join")),
        (Op::Concat { axis: 1 }, &[&[2, usize::MAX], &[2, 1]], Err("do not join")),
        (Op::Flatten { axis: 1 }, &[&[2, 3, 4]], Ok("[2, 12]")),
        (Op::Flatten { axis: 0 }, &[&[2, 3, 4]], Ok("[1, 24]")),
        (Op::Flatten { axis: 3 }, &[&[2, 3, 4]], Ok("[24, 1]")),
        (Op::Flatten { axis: 4 }, &[&[2, 3, 4]], Err("axis 4")),
        (Op::Reshape { shape: vec![0, -1] }, &[&[2, 3, 4]], Ok("[2, 12]")),
        (Op::Reshape { shape: vec![5, -1] }, &[&[2, 3, 4]], Err("do not divide")),
        (Op::Transpose { perm: vec![0, 2, 1] }, &[&[2, 3, 4]], Ok("[2, 4, 3]")),
        (Op::Transpose { perm: vec![0, 1] }, &[&[2, 3, 4]], Err("does not fit")),
        (Op::Squeeze { axes: vec![2, 3] }, &[&[2, 3, 1, 1]], Ok("[2, 3]")),
        (Op::Squeeze { axes: vec![1] }, &[&[2, 3, 1, 1]], Err("is not 1")),
        (Op::Unsqueeze { axes: vec![1, 3] }, &[&[2, 3]], Ok("[2, 1, 3, 1]")),
        (Op::Unsqueeze { axes: vec![5] }, &[&[2, 3]], Err("inserted")),
        (Op::Unsqueeze { axes: (0..7).collect() }, &[&[2, 3]], Err("too many")),
        (Op::Reshape { shape: vec![1; 9] }, &[&[1]], Err("9 dimensions")),
        (Op::Pad { pads: vec![0, 0, 1, 2, 0, 0, 3, 4], value: 0.0 }, &[&[1, 2, 8, 8]], Ok("[1, 2, 12, 14]")),
        (Op::Pad { pads: vec![0, usize::MAX], value: 0.0 }, &[&[8]], Err("too large")),
        (Op::Pad { pads: vec![0, 1], value: 0.0 }, &[&[8, 8]], Err("do not fit")),
        (Op::Slice { axes: vec![range(1, 1, i64::MAX, 2)] }, &[&[2, 8]], Ok("[2, 4]")),
        (Op::Slice { axes: vec![range(1, -3, -1, 1)] }, &[&[2, 8]], Ok("[2, 2]")),
        (Op::Slice { axes: vec![range(1, i64::MIN, i64::MAX, 3)] }, &[&[2, 8]], Ok("[2, 3]")),
        (Op::Slice { axes: vec![range(2, 0, 1, 1)] }, &[&[2, 8]], Err("axis 2")),
        (Op::Split { axis: 1, sizes: vec![3, 5] }, &[&[2, 8]], Ok("[2, 3] [2, 5]")),
        (Op::Split { axis: 1, sizes: vec![3, 4] }, &[&[2, 8]], Err("does not split")),
    ]);
}

#[test]
fn costs() {
    type Case = (Op, &'static [&'static [usize]], &'static [usize], u64);
    let cases: [Case; 7] = [
        (conv(3, 1, 1, 1), &[&[1, 3, 8, 8], &[4, 3, 3, 3]], &[1, 4, 8, 8], 2 * 4 * 64 * 27),
        (conv(3, 1, 1, 8), &[&[1, 8, 8, 8], &[8, 1, 3, 3]], &[1, 8, 8, 8], 2 * 8 * 64 * 9),
        (gemm(false, true), &[&[2, 512], &[10, 512]], &[2, 10], 2 * 2 * 512 * 10),
        (gemm(true, true), &[&[512, 2], &[10, 512]], &[2, 10], 2 * 2 * 512 * 10),
        (pool(3, 2, 1, false), &[&[1, 2, 8, 8]], &[1, 2, 4, 4], 32 * 9),
        (Op::Unary(Unary::Relu), &[&[2, 8]], &[2, 8], 16),
        (Op::Flatten { axis: 1 }, &[&[2, 8]], &[2, 8], 0),
    ];
    for (op, operands, output, expected) in cases {
        let operands: Vec<Option<&[usize]>> = operands.iter().map(|o| Some(*o)).collect();
        assert_eq!(flops(&op, &operands, output), expected, "{op:?}");
    }
    let huge: &[usize] = &[usize::MAX, usize::MAX];
    assert_eq!(flops(&Op::MatMul, &[Some(huge), Some(huge)], huge), u64::MAX);
}
