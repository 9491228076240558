//! Cuts of small graphs, written out.

use crate::build::{Attribute, ModelBuilder};
use crate::topology::{Topology, make};
use crate::{Graph, Limits};

fn parse(b: &ModelBuilder) -> Graph {
    Graph::parse(&b.write(0), &Limits::default()).unwrap()
}

/// Each cut as `layer: names of the values that cross`.
fn shown(graph: &Graph) -> Vec<String> {
    let name = |v: &crate::ValueId| graph.values[v.index()].name.trim_end_matches("_output_0");
    let names = |c: &crate::Cut| c.values.iter().map(name).collect::<Vec<_>>().join(" ");
    graph.cuts.iter().map(|c| format!("{}: {}", c.layer, names(c))).collect()
}

#[test]
fn cuts_inside_a_residual_block_carry_both_branches() {
    let mut b = ModelBuilder::new("m");
    let x = b.input("x", &[4]);
    let stem = b.node("Relu", "stem", &[&x], &[]);
    let one = b.node("Sigmoid", "one", &[&stem], &[]);
    let two = b.node("Tanh", "two", &[&one], &[]);
    let sum = b.node("Add", "sum", &[&two, &stem], &[]);
    let y = b.node("Relu", "last", &[&sum], &[]);
    b.output(&y, "y", &[4]);
    let graph = parse(&b);
    assert_eq!(shown(&graph), ["0: x", "1: stem", "2: stem one", "3: stem two", "4: sum", "5: y"]);
    let shapes = graph.infer(&[vec![3, 4]]).unwrap();
    let bytes: Vec<u64> = (0..7).map(|c| graph.cut_bytes(c, &shapes)).collect();
    assert_eq!(bytes, [48, 48, 96, 96, 48, 48, 0]);
}

#[test]
fn positions_with_many_values_are_no_cuts() {
    let mut b = ModelBuilder::new("m");
    let x = b.input("x", &[4]);
    let branches: Vec<String> = (0..6).map(|i| b.node("Relu", &format!("r{i}"), &[&x], &[])).collect();
    let branches: Vec<&str> = branches.iter().map(String::as_str).collect();
    let y = b.node("Concat", "join", &branches, &[("axis", Attribute::Int(1))]);
    b.output(&y, "y", &[24]);
    let expected = ["0: x", "1: x r0", "2: x r0 r1", "3: x r0 r1 r2", "7: y"];
    assert_eq!(shown(&parse(&b)), expected);
}

#[test]
fn early_outputs_cross_every_later_cut() {
    let mut b = ModelBuilder::new("m");
    let (x, unread) = (b.input("x", &[4]), b.input("unread", &[4]));
    let early = b.node("Relu", "a", &[&x], &[]);
    let late = b.node("Tanh", "b", &[&early], &[]);
    let last = b.node("Relu", "c", &[&late], &[]);
    b.output(&early, "early", &[4]);
    b.output(&last, "last", &[4]);
    let graph = parse(&b);
    assert_eq!(unread, graph.inputs[1].name);
    assert_eq!(shown(&graph), ["0: x unread", "1: early", "2: early b", "3: early last"]);
}

#[test]
fn values_of_several_rows_each_are_not_cut() {
    let mut b = ModelBuilder::new("m");
    let x = b.input("x", &[6]);
    let (narrow, wide) = (b.integers("narrow", &[-1, 2]), b.integers("wide", &[-1, 6]));
    let a = b.node("Reshape", "a", &[&x, &narrow], &[]);
    let r = b.node("Relu", "r", &[&a], &[]);
    let y = b.node("Reshape", "b", &[&r, &wide], &[]);
    b.output(&y, "y", &[6]);
    let graph = parse(&b);
    assert!(graph.batchable);
    assert_eq!(shown(&graph), ["0: x", "3: y"]);
}

#[test]
fn the_hash_follows_file_and_cuts() {
    let graph = Graph::parse(&make(Topology::DigitsNet, 1), &Limits::default()).unwrap();
    let other = Graph::parse(&make(Topology::DigitsNet, 2), &Limits::default()).unwrap();
    let mut fewer = graph.clone();
    fewer.cuts.remove(3);
    assert_eq!(graph.cut_list_hash(), graph.clone().cut_list_hash());
    assert_ne!(graph.cut_list_hash(), other.cut_list_hash());
    assert_ne!(graph.cut_list_hash(), fewer.cut_list_hash());
}

/// What crosses a cut has been made before it, and everything that is read after it crosses.
#[test]
fn cuts_of_a_network_are_complete() {
    let graph = Graph::parse(&make(Topology::DigitsNet, 1), &Limits::default()).unwrap();
    assert!(graph.cuts.iter().any(|c| c.values.len() > 1));
    for cut in &graph.cuts {
        let made_before = |v: crate::ValueId| match graph.values[v.index()].source {
            crate::Source::Layer(layer) => layer < cut.layer,
            _ => true,
        };
        assert!(cut.values.iter().all(|v| made_before(*v)));
        let read_after = graph.layers[cut.layer..].iter().flat_map(|l| l.inputs.iter().flatten());
        let constant = |v: crate::ValueId| matches!(graph.values[v.index()].source, crate::Source::Constant(_));
        let needed = read_after.chain(&graph.output_values).filter(|v| made_before(**v) && !constant(**v));
        assert!(needed.into_iter().all(|v| cut.values.contains(v)), "cut at {}", cut.layer);
    }
}
