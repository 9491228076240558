//! Whole models, small enough to read: what lowering makes of them, and what it says about broken ones.

use crate::build::{Attribute, Fill, ModelBuilder};
use crate::proto::{DimensionProto, DimensionValue, ModelProto, NodeProto, data_type};
use crate::{Binary, Graph, GraphError, Limits, Op, Source, Unary};
use prost::Message;
use std::collections::BTreeMap;

fn parse(model: &ModelProto) -> Result<Graph, GraphError> {
    Graph::parse(&model.encode_to_vec(), &Limits::default())
}

/// `x [N, 3, 8, 8] -> Conv (no border, 4 channels) -> Relu -> y`
fn plain() -> ModelBuilder {
    let mut b = ModelBuilder::new("plain");
    let x = b.input("x", &[3, 8, 8]);
    let w = b.weight("w", &[4, 3, 3, 3], Fill::he_normal(27));
    let c = b.node("Conv", "conv", &[&x, &w], &[]);
    let y = b.node("Relu", "relu", &[&c], &[]);
    b.output(&y, "y", &[4, 6, 6]);
    b
}

/// The model after a change to its message.
fn changed(b: &ModelBuilder, change: impl FnOnce(&mut ModelProto)) -> Result<Graph, GraphError> {
    let mut model = b.blank();
    change(&mut model);
    parse(&model)
}

fn nodes(model: &mut ModelProto) -> &mut Vec<NodeProto> {
    &mut model.graph.as_mut().unwrap().node
}

fn op_names(graph: &Graph) -> Vec<&str> {
    graph.layers.iter().map(|l| l.name.as_str()).collect()
}

#[test]
fn a_plain_model_is_taken_as_it_is() {
    let graph = parse(&plain().blank()).unwrap();
    assert_eq!(op_names(&graph), ["conv", "relu"]);
    assert_eq!((graph.name.as_str(), graph.batchable), ("plain", true));
    assert_eq!(graph.inputs[0].shape, [None, Some(3), Some(8), Some(8)]);
    assert_eq!(graph.outputs[0].shape, [None, Some(4), Some(6), Some(6)]);
    assert_eq!(graph.parameter_count(), 108);
    assert_eq!(graph.digest_hex().len(), 64);
}

#[test]
fn errors_name_the_place() {
    type Change = fn(&mut ModelProto);
    let table: [(Change, &str); 17] = [
        (|m| nodes(m)[1].op_type = "Foo".into(), "operator `Foo` of node `relu` (#1) is not supported"),
        (
            |m| nodes(m)[1].domain = "com.example".into(),
            "operator `com.example.Relu` of node `relu` (#1) is not supported",
        ),
        (|m| nodes(m)[1].input[0] = "z".into(), "node `relu` (#1, Relu): reads tensor `z`, which nothing provides"),
        (|m| nodes(m)[1].output[0] = "w".into(), "node `relu` (#1, Relu): makes tensor `w` a second time"),
        (|m| nodes(m)[0].input[0] = "y".into(), "node `conv` (#0, Conv): stands in or behind a cycle"),
        (|m| nodes(m)[0].input.truncate(1), "node `conv` (#0, Conv): input 1 is missing"),
        (|m| nodes(m)[1].output.clear(), "node `relu` (#1, Relu): has no outputs"),
        (|m| nodes(m)[1].op_type = "MaxPool".into(), "node `relu` (#1, MaxPool): attribute `kernel_shape` is missing"),
        (|m| nodes(m)[1].op_type = "Concat".into(), "node `relu` (#1, Concat): attribute `axis` is missing"),
        (|m| m.opset_import[0].version = 6, "opset 6 is not supported, 7 to 24 are"),
        (|m| m.opset_import.clear(), "opset 1 is not supported, 7 to 24 are"),
        (|m| m.graph = None, "the model has no graph"),
        (|m| m.graph.as_mut().unwrap().input.clear(), "the model has no inputs"),
        (|m| m.graph.as_mut().unwrap().output.clear(), "the model has no outputs"),
        (|m| nodes(m).clear(), "output `y`: is provided by nothing"),
        (
            |m| m.graph.as_mut().unwrap().initializer[0].dims[0] = 5,
            "tensor `w`: FLOAT of shape [5, 3, 3, 3] needs 540 bytes, there are 432",
        ),
        (
            |m| m.graph.as_mut().unwrap().initializer[0].data_type = data_type::INT32,
            "node `conv` (#0, Conv): input 1 (`w`) has integers where floating-point numbers belong",
        ),
    ];
    for (change, expected) in table {
        let message = changed(&plain(), change).map(|g| op_names(&g).join(" ")).unwrap_err().to_string();
        assert_eq!(message, expected);
    }
}

#[test]
fn attributes_are_checked() {
    let conv = |name: &'static str, value: Attribute| {
        let mut b = ModelBuilder::new("m");
        let x = b.input("x", &[3, 8, 8]);
        let w = b.weight("w", &[4, 3, 3, 3], Fill::Constant(0.0));
        let y = b.node("Conv", "conv", &[&x, &w], &[(name, value)]);
        b.output(&y, "y", &[4, 6, 6]);
        parse(&b.blank())
    };
    let table = [
        ("strides", Attribute::Ints(vec![0, 1]), "attribute `strides` has entry 0, out of range"),
        ("strides", Attribute::Ints(vec![1]), "attribute `strides` has 1 entries, needs 2"),
        ("strides", Attribute::Float(1.0), "attribute `strides` is not a list of integers"),
        ("pads", Attribute::Ints(vec![0, -1, 0, 0]), "attribute `pads` has entry -1, out of range"),
        ("pads", Attribute::Ints(vec![i64::MAX; 4]), "out of range"),
        ("kernel_shape", Attribute::Ints(vec![5, 5]), "attribute `kernel_shape` is [5, 5], the weight is [4, 3, 3, 3]"),
        ("group", Attribute::Int(0), "attribute `group` is 0, must be positive"),
        ("group", Attribute::Int(2), "does not fit the weight"),
        ("group", Attribute::Text("1".into()), "attribute `group` is not an integer"),
        ("auto_pad", Attribute::Text("SAME".into()), "attribute `auto_pad` is `SAME`"),
        ("dilations", Attribute::Ints(vec![4, 4]), "a window of 9 does not fit"),
    ];
    for (name, value, part) in table {
        let message = conv(name, value).unwrap_err().to_string();
        assert!(message.starts_with("node `conv` (#0, Conv): ") && message.contains(part), "{message}");
    }
}

#[test]
fn automatic_borders_become_numbers() {
    let table = [
        ("VALID", 2, [0, 0, 0, 0], [3, 3]),
        ("SAME_UPPER", 2, [0, 0, 1, 1], [4, 4]),
        ("SAME_LOWER", 2, [1, 1, 0, 0], [4, 4]),
        ("SAME_UPPER", 1, [1, 1, 1, 1], [8, 8]),
    ];
    for (auto, stride, pads, extent) in table {
        let mut b = ModelBuilder::new("m");
        let x = b.input("x", &[3, 8, 8]);
        let w = b.weight("w", &[4, 3, 3, 3], Fill::Constant(0.0));
        let attributes = [("auto_pad", Attribute::Text(auto.into())), ("strides", Attribute::Ints(vec![stride; 2]))];
        let y = b.node("Conv", "conv", &[&x, &w], &attributes);
        b.output(&y, "y", &[4, 8, 8]);
        let graph = parse(&b.blank()).unwrap();
        let Op::Conv(conv) = &graph.layers[0].op else { panic!("{:?}", graph.layers) };
        assert_eq!(conv.pads, pads, "{auto}");
        assert_eq!(graph.row_shapes().unwrap().of(graph.output_values[0])[2..], extent);
    }
}

#[test]
fn unsorted_nodes_are_sorted() {
    let graph = changed(&plain(), |m| nodes(m).reverse()).unwrap();
    assert_eq!(op_names(&graph), ["conv", "relu"]);
}

#[test]
fn a_model_for_one_row_serves_many() {
    let mut b = ModelBuilder::new("m");
    let x = b.input("x", &[3, 8, 8]);
    let p = b.node("GlobalAveragePool", "pool", &[&x], &[]);
    let shape = b.integers("shape", &[1, -1]);
    let y = b.node("Reshape", "reshape", &[&p, &shape], &[]);
    b.output(&y, "y", &[3]);
    let fix = |d: &mut DimensionProto| d.value = Some(DimensionValue::Value(1));
    let graph = changed(&b, |m| {
        let info = m.graph.as_mut().unwrap().input[0].r#type.as_mut().unwrap().tensor_type.as_mut().unwrap();
        fix(&mut info.shape.as_mut().unwrap().dim[0]);
    })
    .unwrap();
    assert_eq!(graph.layers[1].op, Op::Reshape { shape: vec![0, -1] });
    assert!(graph.batchable);
    assert_eq!(graph.infer(&[vec![5, 3, 8, 8]]).unwrap().of(graph.output_values[0]), [5, 3]);
}

/// `x.view(x.size(0), -1)` and `x.view(-1, x.size(1))` as PyTorch writes them.
#[test]
fn shape_chains_keep_the_batch_open() {
    for (axis, constant_first, expected) in [(0, false, vec![0, -1]), (1, true, vec![-1, 3])] {
        let mut b = ModelBuilder::new("m");
        let x = b.input("x", &[3, 8, 8]);
        let p = b.node("GlobalAveragePool", "pool", &[&x], &[]);
        let s = b.node("Shape", "shape", &[&p], &[]);
        let at = b.integers("at", &[axis]);
        let g = b.node("Gather", "gather", &[&s, &at], &[("axis", Attribute::Int(0))]);
        let zero = b.integers("zero", &[0]);
        let flat = b.node("Squeeze", "squeeze", &[&g, &zero], &[]);
        let n = b.node("Unsqueeze", "unsqueeze", &[&flat, &zero], &[]);
        let rest = b.integers("rest", &[-1]);
        let parts = if constant_first { [rest.as_str(), &n] } else { [n.as_str(), &rest] };
        let target = b.node("Concat", "concat", &parts, &[("axis", Attribute::Int(0))]);
        let cast = b.node("Cast", "cast", &[&target], &[("to", Attribute::Int(7))]);
        let y = b.node("Reshape", "reshape", &[&p, &cast], &[]);
        b.output(&y, "y", &[3]);
        let graph = parse(&b.blank()).unwrap();
        assert_eq!(op_names(&graph), ["pool", "reshape"]);
        assert_eq!(graph.layers[1].op, Op::Reshape { shape: expected });
        assert!(graph.batchable);
    }
}

#[test]
fn nodes_that_do_nothing_go() {
    let mut b = ModelBuilder::new("m");
    let x = b.input("x", &[4]);
    let a = b.node("Identity", "identity", &[&x], &[]);
    let r = b.node("Relu", "relu", &[&a], &[]);
    let d = b.node("Dropout", "dropout", &[&r], &[]);
    let y = b.node("Cast", "cast", &[&d], &[("to", Attribute::Int(1))]);
    b.node("Sigmoid", "unused", &[&d], &[]);
    b.output(&y, "y", &[4]);
    let graph = parse(&b.blank()).unwrap();
    assert_eq!(op_names(&graph), ["relu"]);
    assert_eq!(graph.outputs[0].name, "y");
    assert_eq!(graph.values.len(), 2);
}

#[test]
fn constants_are_folded() {
    let mut b = ModelBuilder::new("m");
    let x = b.input("x", &[2, 3, 3]);
    let three = b.weight("three", &[1], Fill::Constant(3.0));
    let shape = b.integers("shape", &[2]);
    let zeros = b.node("ConstantOfShape", "zeros", &[&shape], &[]);
    let sum = b.node("Add", "sum", &[&zeros, &three], &[]);
    let axes = b.integers("axes", &[1, 2]);
    let wide = b.node("Unsqueeze", "wide", &[&sum, &axes], &[]);
    let y = b.node("Mul", "mul", &[&x, &wide], &[]);
    b.output(&y, "y", &[2, 3, 3]);
    let graph = parse(&b.blank()).unwrap();
    assert_eq!(op_names(&graph), ["mul"]);
    let operand = graph.layers[0].inputs[1].unwrap();
    let Source::Constant(folded) = &graph.values[operand.index()].source else { panic!("not constant") };
    assert_eq!((folded.shape(), folded.to_f32().unwrap()), (&[2, 1, 1][..], vec![0.0; 2]), "blank weights are zeros");
    let graph = Graph::parse(&b.write(0), &Limits::default()).unwrap();
    let Source::Constant(folded) = &graph.values[operand.index()].source else { panic!("not constant") };
    assert_eq!(folded.to_f32().unwrap(), [3.0, 3.0]);
}

#[test]
fn long_sums_become_chains() {
    let mut b = ModelBuilder::new("m");
    let x = b.input("x", &[4]);
    let y = b.node("Sum", "sum", &[&x, &x, &x], &[]);
    b.output(&y, "y", &[4]);
    let graph = parse(&b.blank()).unwrap();
    assert_eq!(op_names(&graph), ["sum_0", "sum"]);
    assert!(graph.layers.iter().all(|l| l.op == Op::Binary(Binary::Add)));
    assert_eq!(graph.layers[1].inputs, [Some(graph.layers[0].outputs[0]), Some(graph.input_values[0])]);
}

#[test]
fn rows_that_meet_are_not_batched() {
    let cases: [fn(&mut ModelBuilder, &str) -> String; 4] = [
        |b, x| b.node("Softmax", "n", &[x], &[("axis", Attribute::Int(0))]),
        |b, x| b.node("Transpose", "n", &[x], &[("perm", Attribute::Ints(vec![1, 0]))]),
        |b, x| b.node("ReduceMean", "n", &[x], &[("axes", Attribute::Ints(vec![0]))]),
        |b, x| b.node("Concat", "n", &[x, x], &[("axis", Attribute::Int(0))]),
    ];
    for node in cases {
        let mut b = ModelBuilder::new("m");
        let x = b.input("x", &[4]);
        let y = node(&mut b, &x);
        b.output(&y, "y", &[4]);
        let graph = parse(&b.blank()).unwrap();
        assert!(!graph.batchable, "{:?}", graph.layers[0].op);
        assert!(graph.row_shapes().is_ok());
    }
}

#[test]
fn open_extents_are_left_to_the_request() {
    let graph = changed(&plain(), |m| {
        let info = m.graph.as_mut().unwrap().input[0].r#type.as_mut().unwrap().tensor_type.as_mut().unwrap();
        info.shape.as_mut().unwrap().dim[2].value = Some(DimensionValue::Param("height".into()));
    })
    .unwrap();
    assert!(graph.batchable);
    assert_eq!(graph.inputs[0].shape, [None, Some(3), None, Some(8)]);
    assert_eq!(graph.outputs[0].shape, [None, Some(4), None, Some(6)]);
    let message = graph.row_shapes().unwrap_err().to_string();
    assert_eq!(message, "input `x`: leaves extents open besides the batch ([N, 3, ?, 8]); give a shape");
    assert_eq!(graph.infer(&[vec![2, 3, 20, 8]]).unwrap().of(graph.output_values[0]), [2, 4, 18, 6]);
    let message = graph.infer(&[vec![2, 3, 2, 8]]).unwrap_err().to_string();
    assert!(message.starts_with("layer `conv` (#0): a window of 3 does not fit"), "{message}");
}

#[test]
fn wrong_inputs_are_refused() {
    let graph = parse(&plain().blank()).unwrap();
    let table: [(&[&[usize]], &str); 5] = [
        (&[], "the model takes 1 inputs, got 0"),
        (&[&[1, 3, 8, 9]], "input `x`: takes shape [N, 3, 8, 8], got [1, 3, 8, 9]"),
        (&[&[1, 3, 8]], "input `x`: takes shape [N, 3, 8, 8], got [1, 3, 8]"),
        (&[&[0, 3, 8, 8]], "has no elements"),
        (&[&[usize::MAX, 3, 8, 8]], "too many elements"),
    ];
    for (inputs, part) in table {
        let inputs: Vec<Vec<usize>> = inputs.iter().map(|i| i.to_vec()).collect();
        let message = graph.infer(&inputs).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}

/// `Conv -> BatchNormalization`, with a second reader of the convolution where asked for.
fn normalised(bias: bool, second_reader: bool) -> ModelBuilder {
    let mut b = ModelBuilder::new("bn");
    let x = b.input("x", &[2, 5, 5]);
    let w = b.weight("w", &[3, 2, 3, 3], Fill::Normal { deviation: 0.5 });
    let mut operands = vec![x, w];
    if bias {
        operands.push(b.weight("b", &[3], Fill::Normal { deviation: 0.5 }));
    }
    let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
    let c = b.node("Conv", "conv", &operands, &[("pads", Attribute::Ints(vec![1; 4]))]);
    for (name, low, high) in [("scale", 0.5, 1.5), ("shift", -1.0, 1.0), ("mean", -1.0, 1.0), ("var", 0.1, 2.0)] {
        b.weight(name, &[3], Fill::Uniform { low, high });
    }
    let n = b.node("BatchNormalization", "bn", &[&c, "scale", "shift", "mean", "var"], &[]);
    b.output(&n, "y", &[3, 5, 5]);
    if second_reader {
        let z = b.node("Relu", "relu", &[&c], &[]);
        b.output(&z, "z", &[3, 5, 5]);
    }
    b
}

/// A direct convolution of one image, 3 x 3 with a border of 1.
fn convolve(x: &[f32], w: &[f32], channels: (usize, usize), side: usize) -> Vec<f64> {
    let mut out = vec![0.0; channels.1 * side * side];
    for (place, sum) in out.iter_mut().enumerate() {
        let (o, row, column) = (place / (side * side), place / side % side, place % side);
        for (tap, weight) in w[o * channels.0 * 9..][..channels.0 * 9].iter().enumerate() {
            let (i, r, c) = (tap / 9, row + tap / 3 % 3, column + tap % 3);
            if (1..=side).contains(&r) && (1..=side).contains(&c) {
                *sum += f64::from(*weight) * f64::from(x[(i * side + r - 1) * side + c - 1]);
            }
        }
    }
    out
}

fn constants(graph: &Graph) -> BTreeMap<&str, Vec<f32>> {
    let constant = |v: &'_ crate::Value| if let Source::Constant(t) = &v.source { t.to_f32().ok() } else { None };
    graph.values.iter().filter_map(|v| Some((v.name.as_str(), constant(v)?))).collect()
}

#[test]
fn a_folded_normalisation_computes_the_same() {
    for bias in [false, true] {
        let folded = Graph::parse(&normalised(bias, false).write(3), &Limits::default()).unwrap();
        let apart = Graph::parse(&normalised(bias, true).write(3), &Limits::default()).unwrap();
        assert_eq!((op_names(&folded), op_names(&apart)), (vec!["conv"], vec!["conv", "bn", "relu"]));
        let (new, old) = (constants(&folded), constants(&apart));
        assert!(!new.contains_key("w"), "the name is the initializer's, the contents are not");

        let x: Vec<f32> = (0..50).map(|v| (v as f32 * 0.7).sin()).collect();
        let got = convolve(&x, &new["y/folded_weight"], (2, 3), 5);
        let expected = convolve(&x, &old["w"], (2, 3), 5);
        for (place, (got, expected)) in got.iter().zip(expected).enumerate() {
            let channel = place / 25;
            let at = |name: &str| f64::from(old[name][channel]);
            let sum = expected + if bias { at("b") } else { 0.0 };
            let normal = (sum - at("mean")) / (at("var") + 1e-5).sqrt() * at("scale") + at("shift");
            let got = got + f64::from(new["y/folded_bias"][channel]);
            assert!((got - normal).abs() < 1e-5, "channel {channel}: {got} is not {normal}");
        }
    }
}

#[test]
fn operators_since_their_opsets() {
    let mut b = ModelBuilder::new("m");
    let x = b.input("x", &[4, 2, 2]);
    let (low, high) = (b.weight("low", &[], Fill::Constant(0.0)), b.weight("high", &[], Fill::Constant(6.0)));
    let c = b.node("Clip", "clip", &[&x, &low, &high], &[]);
    let h = b.node("HardSwish", "swish", &[&c], &[]);
    let m =
        b.node("ReduceMean", "mean", &[&h], &[("axes", Attribute::Ints(vec![2, 3])), ("keepdims", Attribute::Int(0))]);
    b.output(&m, "y", &[4]);
    let graph = Graph::parse(&b.write(0), &Limits::default()).unwrap();
    assert_eq!(graph.layers[0].op, Op::Clip { min: 0.0, max: 6.0 });
    assert_eq!(graph.layers[0].inputs.len(), 1);
    assert_eq!(graph.layers[1].op, Op::Unary(Unary::HardSwish));
    assert_eq!(graph.layers[2].op, Op::ReduceMean { axes: vec![2, 3], keep_dims: false });
}
