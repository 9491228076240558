//! The bytes of a model's file, from well-known networks, small models of every operator and the digits model.

#![no_main]

use bps_fuzz::{graph::exercise, seed};
use bps_graph::build::{Attribute, Fill, ModelBuilder};
use bps_graph::topology::{Topology, make};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: seed(seeds(), &WORDS), |data: &[u8]| {
    match exercise(data) {
        Ok(graph) => assert_eq!(graph.digest_hex().len(), 64),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});

const WORDS: [&str; 30] = [
    "Constant",
    "ConstantOfShape",
    "Shape",
    "Gather",
    "Cast",
    "Dropout",
    "Identity",
    "Split",
    "Slice",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "ReduceMean",
    "BatchNormalization",
    "AveragePool",
    "axis",
    "axes",
    "value",
    "value_ints",
    "value_float",
    "auto_pad",
    "SAME_UPPER",
    "SAME_LOWER",
    "VALID",
    "ceil_mode",
    "group",
    "perm",
    "keepdims",
    "location",
    "ai.onnx",
];

fn seeds() -> Vec<Vec<u8>> {
    let digits = include_bytes!("../../../models/digits/model.onnx").to_vec();
    vec![convolutions().write(1), shapes().write(2), elements().write(3), make(Topology::DigitsNet, 4), digits]
}

/// Convolution, normalisation, pools and the chain of integers that an exporter writes.
fn convolutions() -> ModelBuilder {
    let mut b = ModelBuilder::new("convolutions");
    let x = b.input("x", &[2, 6, 6]);
    let w = b.weight("w", &[4, 2, 3, 3], Fill::Normal { deviation: 0.5 });
    let c = b.node("Conv", "conv", &[&x, &w], &[("pads", Attribute::Ints(vec![1; 4]))]);
    for name in ["scale", "shift", "mean", "variance"] {
        b.weight(name, &[4], Fill::Uniform { low: 0.5, high: 1.5 });
    }
    let n = b.node("BatchNormalization", "bn", &[&c, "scale", "shift", "mean", "variance"], &[]);
    let r = b.node("LRN", "lrn", &[&n], &[("size", Attribute::Int(3))]);
    let window = [("kernel_shape", Attribute::Ints(vec![2; 2])), ("auto_pad", Attribute::Text("SAME_UPPER".into()))];
    let p = b.node("MaxPool", "pool", &[&r], &window);
    let s = b.node("Add", "add", &[&p, &r], &[]);
    let window = [("kernel_shape", Attribute::Ints(vec![3, 1])), ("ceil_mode", Attribute::Int(1))];
    let s = b.node("AveragePool", "mean", &[&s], &window);
    let shape = b.node("Shape", "shape", &[&s], &[]);
    let (zero, rest) = (b.integers("zero", &[0]), b.integers("rest", &[-1]));
    let batch = b.node("Gather", "gather", &[&shape, &zero], &[]);
    let target = b.node("Concat", "target", &[&batch, &rest], &[("axis", Attribute::Int(0))]);
    let f = b.node("Reshape", "reshape", &[&s, &target], &[]);
    let length = b.integers("length", &[1]);
    let zeros = b.node("ConstantOfShape", "zeros", &[&length], &[]);
    let a = b.node("Add", "bias", &[&f, &zeros], &[]);
    let y = b.node("Softmax", "softmax", &[&a], &[]);
    b.output(&y, "y", &[96]);
    b
}

/// What moves elements, and integers that say where.
fn shapes() -> ModelBuilder {
    let mut b = ModelBuilder::new("shapes");
    let x = b.input("x", &[4, 3]);
    let (one, two) = (b.integers("one", &[1]), b.integers("two", &[2]));
    let t = b.node("Transpose", "transpose", &[&x], &[("perm", Attribute::Ints(vec![0, 2, 1]))]);
    let u = b.node("Unsqueeze", "unsqueeze", &[&t, &one], &[]);
    let q = b.node("Squeeze", "squeeze", &[&u, &one], &[]);
    let s = b.node("Slice", "slice", &[&q, &one, &two, &two], &[]);
    let pads = b.integers("pads", &[0, 0, 1, 0, 1, 0]);
    let p = b.node("Pad", "pad", &[&s, &pads], &[]);
    let (sum, product) = (b.node("Add", "sum", &[&one, &two], &[]), b.node("Mul", "product", &[&one, &two], &[]));
    let d = b.node("Div", "quotient", &[&product, &sum], &[]);
    let m = b.node("Sub", "difference", &[&d, &one], &[]);
    let r = b.node("ReduceMean", "reduce", &[&p], &[("axes", Attribute::Ints(vec![2]))]);
    let target = b.node("Concat", "join", &[&m, &one, &two], &[("axis", Attribute::Int(0))]);
    let v = b.node("Reshape", "reshape", &[&r, &target], &[]);
    let g = b.node("Flatten", "flatten", &[&v], &[("axis", Attribute::Int(1))]);
    b.output(&g, "y", &[2]);
    b
}

/// Functions of elements and products of matrices, some of them of constants.
fn elements() -> ModelBuilder {
    let mut b = ModelBuilder::new("elements");
    let mut x = b.input("x", &[3]);
    let w = b.weight("w", &[3, 3], Fill::Constant(0.25));
    for op in ["Sigmoid", "Tanh", "Elu", "HardSigmoid", "HardSwish", "LeakyRelu", "Softplus", "Erf"] {
        x = b.node(op, op, &[&x], &[("alpha", Attribute::Float(0.5))]);
    }
    let root = b.node("Sqrt", "root", &[&w], &[]);
    let turned = b.node("Transpose", "turned", &[&root], &[]);
    let power = b.node("Pow", "power", &[&turned, &w], &[]);
    let y = b.node("MatMul", "product", &[&x, &power], &[]);
    let g = b.node("Gemm", "gemm", &[&y, &w], &[("transB", Attribute::Int(1)), ("alpha", Attribute::Float(2.0))]);
    let m = b.node("Max", "most", &[&g, &y, &x], &[]);
    let (low, high) = (b.weight("low", &[], Fill::Constant(0.0)), b.weight("high", &[], Fill::Constant(6.0)));
    let c = b.node("Clip", "clip", &[&m, &low, &high], &[]);
    b.output(&c, "y", &[3]);
    b
}
