//! Files made to do harm. Whatever the bytes, the answer is a graph or an error, and memory stays bounded.

use crate::build::{Attribute, Fill, ModelBuilder};
use crate::proto::{DATA_LOCATION_EXTERNAL, ModelProto, StringStringEntryProto, data_type};
use crate::{Graph, GraphError, Limits};
use proptest::prelude::*;
use prost::Message;
use std::path::Path;

/// Tight enough that a test which allocates what a file declares would be noticed.
fn limits() -> Limits {
    let small = 1 << 20;
    let (file_bytes, message_bytes, tensor_bytes, folded_bytes) = (small, small, small, small);
    Limits { file_bytes, message_bytes, layer_count: 1000, tensor_bytes, folded_bytes, rank: 8 }
}

/// A model with something of everything: attributes, integers, folded constants, a branch.
fn small() -> ModelBuilder {
    let mut b = ModelBuilder::new("small");
    let x = b.input("x", &[2, 6, 6]);
    let w = b.weight("w", &[4, 2, 3, 3], Fill::Normal { deviation: 0.5 });
    let c = b.node("Conv", "conv", &[&x, &w], &[("pads", Attribute::Ints(vec![1; 4]))]);
    for name in ["scale", "shift", "mean", "variance"] {
        b.weight(name, &[4], Fill::Uniform { low: 0.5, high: 1.5 });
    }
    let n = b.node("BatchNormalization", "bn", &[&c, "scale", "shift", "mean", "variance"], &[]);
    let r = b.node("Relu", "relu", &[&n], &[]);
    let window = [("kernel_shape", Attribute::Ints(vec![2; 2])), ("auto_pad", Attribute::Text("SAME_UPPER".into()))];
    let p = b.node("MaxPool", "pool", &[&r], &window);
    let s = b.node("Add", "add", &[&p, &r], &[]);
    let shape = b.node("Shape", "shape", &[&s], &[]);
    let (zero, rest) = (b.integers("zero", &[0]), b.integers("rest", &[-1]));
    let batch = b.node("Gather", "gather", &[&shape, &zero], &[]);
    let target = b.node("Concat", "target", &[&batch, &rest], &[("axis", Attribute::Int(0))]);
    let f = b.node("Reshape", "reshape", &[&s, &target], &[]);
    let length = b.integers("length", &[1]);
    let zeros = b.node("ConstantOfShape", "zeros", &[&length], &[]);
    let a = b.node("Add", "bias", &[&f, &zeros], &[]);
    let y = b.node("Softmax", "softmax", &[&a], &[]);
    b.output(&y, "y", &[144]);
    b
}

/// Uses the model as far as this crate goes.
fn exercise(bytes: &[u8]) -> Result<(), GraphError> {
    let graph = Graph::parse(bytes, &limits())?;
    let shapes = graph.row_shapes()?;
    (0..graph.layers.len()).for_each(|layer| _ = graph.flops(layer, &shapes));
    (0..graph.cuts.len()).for_each(|cut| _ = graph.cut_bytes(cut, &shapes));
    graph.cut_list_hash();
    Ok(())
}

#[test]
fn every_truncation_is_answered() {
    let bytes = small().write(1);
    assert!(exercise(&bytes).is_ok());
    let failed = (0..bytes.len()).filter(|end| exercise(&bytes[..*end]).is_err()).count();
    assert!(failed > bytes.len() * 9 / 10, "{failed} of {}", bytes.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bytes_are_answered(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = small().write(1);
        for (place, value) in flips {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        let _ = exercise(&bytes);
    }

    #[test]
    fn noise_is_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(exercise(&bytes).is_err());
    }

    #[test]
    fn extreme_integers_are_answered(
        node in 0usize..11,
        attribute in 0usize..2,
        values in prop::collection::vec(extreme(), 0..9),
        dims in prop::collection::vec(extreme(), 0..5),
        initializer in 0usize..8,
    ) {
        let mut model = small().blank();
        let graph = model.graph.as_mut().unwrap();
        if let Some(a) = graph.node[node].attribute.get_mut(attribute) {
            a.i = a.i.map(|_| values.first().copied().unwrap_or(i64::MIN));
            a.ints = values.clone();
        }
        exercise_quietly(&model);
        let graph = model.graph.as_mut().unwrap();
        let tensor = &mut graph.initializer[initializer];
        if tensor.data_type == data_type::INT64 {
            tensor.raw_data = Some(values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>().into());
            tensor.dims = vec![values.len() as i64];
        } else {
            tensor.dims = dims;
        }
        exercise_quietly(&model);
    }
}

fn exercise_quietly(model: &ModelProto) {
    let _ = exercise(&model.encode_to_vec());
}

fn extreme() -> impl Strategy<Value = i64> {
    prop_oneof![-3i64..10, Just(i64::MIN), Just(i64::MAX), Just(1 << 20), Just(1 << 32), Just(-(1 << 32)), any::<i64>(),]
}

#[test]
fn declared_lengths_allocate_nothing() {
    // graph (field 7) of 2^62 bytes; initializer (5) of 2^40; the same at the end of a valid model
    let huge = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40];
    for prefix in
        [vec![0x3a], [vec![0x3a, 0x0b, 0x2a], huge.to_vec()].concat(), [small().write(1), vec![0x3a]].concat()]
    {
        let bytes = [prefix, huge.to_vec()].concat();
        assert!(matches!(exercise(&bytes), Err(GraphError::Decode(_))));
    }
}

#[test]
fn constants_cannot_grow_without_bound() {
    let grow = |node: fn(&mut ModelBuilder, &str, &str) -> String| {
        let mut b = ModelBuilder::new("bomb");
        let x = b.input("x", &[4]);
        let length = b.integers("length", &[1 << 17]);
        let mut c = b.node("ConstantOfShape", "c", &[&length], &[]);
        for step in 0..40 {
            c = node(&mut b, &c, &format!("n{step}"));
        }
        let y = b.node("Add", "add", &[&x, &c], &[]);
        b.output(&y, "y", &[4]);
        Graph::parse(&b.write(0), &limits()).unwrap_err()
    };
    let error = grow(|b, c, name| b.node("Neg", name, &[c], &[]));
    assert!(matches!(error, GraphError::Limit { limit: 1_048_576, .. }), "{error}");
    let outer = grow(|b, c, name| {
        let (a, z) = (b.integers(&format!("{name}a"), &[1]), b.integers(&format!("{name}z"), &[0]));
        let (column, row) = (
            b.node("Unsqueeze", &format!("{name}c"), &[c, &a], &[]),
            b.node("Unsqueeze", &format!("{name}r"), &[c, &z], &[]),
        );
        b.node("Mul", name, &[&column, &row], &[])
    });
    assert!(matches!(outer, GraphError::Limit { .. }), "{outer}");
}

#[test]
fn integer_lists_cannot_grow_without_bound() {
    let mut b = ModelBuilder::new("bomb");
    let x = b.input("x", &[4]);
    let mut list = b.node("Shape", "shape", &[&x], &[]);
    for step in 0..60 {
        list = b.node("Concat", &format!("n{step}"), &[&list, &list], &[("axis", Attribute::Int(0))]);
    }
    let y = b.node("Reshape", "reshape", &[&x, &list], &[]);
    b.output(&y, "y", &[4]);
    let message = Graph::parse(&b.write(0), &limits()).unwrap_err().to_string();
    assert!(message.contains("cannot join 2 lists"), "{message}");
}

#[test]
fn integers_of_many_nodes_cannot_grow_without_bound() {
    let mut b = ModelBuilder::new("bomb");
    let x = b.input("x", &[4]);
    let list = b.integers("list", &[1; 60_000]);
    for step in 0..40 {
        b.node("Neg", &format!("n{step}"), &[&list], &[]);
    }
    let y = b.node("Relu", "relu", &[&x], &[]);
    b.output(&y, "y", &[4]);
    let error = Graph::parse(&b.write(0), &limits()).unwrap_err();
    assert!(matches!(error, GraphError::Limit { limit: 1_048_576, .. }), "{error}");
}

#[test]
fn activations_cannot_grow_without_bound() {
    let mut b = ModelBuilder::new("bomb");
    let mut x = b.input("x", &[4]);
    for step in 0..70 {
        x = b.node("Concat", &format!("n{step}"), &[&x, &x], &[("axis", Attribute::Int(1))]);
    }
    b.output(&x, "y", &[4]);
    let message = Graph::parse(&b.write(0), &limits()).unwrap_err().to_string();
    assert!(message.contains("too many elements"), "{message}");
}

#[test]
fn more_nodes_than_the_limit_are_refused() {
    let mut b = ModelBuilder::new("long");
    let mut x = b.input("x", &[4]);
    for step in 0..1001 {
        x = b.node("Relu", &format!("n{step}"), &[&x], &[]);
    }
    b.output(&x, "y", &[4]);
    let message = Graph::parse(&b.write(0), &limits()).unwrap_err().to_string();
    assert_eq!(message, "the number of nodes is 1001, the limit is 1000");
}

#[test]
fn chains_cannot_grow_without_bound() {
    let chain = |operands: usize| {
        let mut b = ModelBuilder::new("chain");
        let x = b.input("x", &[4]);
        let y = b.node("Sum", &"n".repeat(100_000), &vec![x.as_str(); operands], &[]);
        b.output(&y, "y", &[4]);
        Graph::parse(&b.write(0), &limits())
    };
    let message = chain(1002).unwrap_err().to_string();
    assert_eq!(message, "the number of layers is 1001, the limit is 1000");
    let graph = chain(1001).unwrap();
    assert!(graph.layers.iter().map(|layer| layer.name.len()).sum::<usize>() < 200_000, "names are not multiplied");
}

/// The model with its first weight in another file.
fn external(location: &str, offset: &str, length: Option<&str>) -> Vec<u8> {
    let mut model = small().blank();
    let tensor = &mut model.graph.as_mut().unwrap().initializer[0];
    tensor.raw_data = None;
    tensor.data_location = DATA_LOCATION_EXTERNAL;
    let entry = |key: &str, value: &str| StringStringEntryProto { key: key.to_owned(), value: value.to_owned() };
    tensor.external_data = vec![entry("location", location), entry("offset", offset)];
    tensor.external_data.extend(length.map(|l| entry("length", l)));
    model.encode_to_vec()
}

fn load(folder: &Path, model: &[u8]) -> Result<Graph, GraphError> {
    let path = folder.join("model.onnx");
    std::fs::write(&path, model).unwrap();
    Graph::load(&path, &limits())
}

#[test]
fn external_data_is_read_and_digested() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    let file = folder.path().join("data/w.bin");
    std::fs::write(&file, [1; 300]).unwrap();
    let model = external("data/w.bin", "12", Some("288"));
    let first = load(folder.path(), &model).unwrap();
    assert_eq!(load(folder.path(), &model).unwrap().digest, first.digest);
    std::fs::write(&file, [2; 300]).unwrap();
    assert_ne!(load(folder.path(), &model).unwrap().digest, first.digest, "other weights, other model");
    let message = Graph::parse(&model, &limits()).unwrap_err().to_string();
    assert_eq!(message, "tensor `w`: has external data, which needs the model's folder");
}

#[test]
fn external_data_stays_inside_the_folder() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("model");
    std::fs::create_dir(&folder).unwrap();
    let secret = outer.path().join("secret.bin");
    std::fs::write(&secret, [0; 300]).unwrap();
    std::fs::write(folder.join("w.bin"), [0; 300]).unwrap();
    let absolute = secret.display().to_string();
    let mut table = vec![
        (absolute.as_str(), "0", None, "outside the model's folder"),
        ("../secret.bin", "0", None, "outside the model's folder"),
        ("sub/../../secret.bin", "0", None, "outside the model's folder"),
        ("", "0", None, "outside the model's folder"),
        ("missing.bin", "0", None, "missing.bin"),
        (".", "0", None, "needs 288 from 0"),
        ("w.bin", "13", None, "needs 288 from 13"),
        ("w.bin", "18446744073709551615", None, "needs 288 from"),
        ("w.bin", "-1", None, "no number for `offset`"),
        ("w.bin", "0", Some("287"), "needs 288 bytes, its external data has 287"),
    ];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&secret, folder.join("link.bin")).unwrap();
        std::os::unix::fs::symlink(outer.path(), folder.join("up")).unwrap();
        table.push(("link.bin", "0", None, "outside the model's folder"));
        table.push(("up/secret.bin", "0", None, "outside the model's folder"));
    }
    for (location, offset, length, part) in table {
        let message = load(&folder, &external(location, offset, length)).unwrap_err().to_string();
        assert!(message.starts_with("tensor `w`: ") && message.contains(part), "{location}: {message}");
    }
}

#[test]
fn unreadable_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.onnx");
    assert!(Graph::load(&missing, &limits()).unwrap_err().to_string().contains("missing.onnx"));
    assert!(Graph::load(folder.path(), &limits()).unwrap_err().to_string().contains("not a plain file"));
    let large = folder.path().join("large.onnx");
    std::fs::File::create(&large).unwrap().set_len(1 << 40).unwrap();
    let message = Graph::load(&large, &limits()).unwrap_err().to_string();
    assert!(message.ends_with("large.onnx (bytes) is 1099511627776, the limit is 1048576"), "{message}");
}
