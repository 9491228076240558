//! Puts nodes into an order in which every tensor is there before it is read.

use crate::error::GraphError;
use crate::node::{Flaw, Node};
use crate::proto::NodeProto;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

/// Indices of the nodes in topological order; a file that is sorted already keeps its order. `given` are the inputs and
/// initializers. Fails for tensors that are made twice, or never, and for cycles.
pub(super) fn order(nodes: &[NodeProto], given: &HashSet<&str>) -> Result<Vec<usize>, GraphError> {
    let maker = makers(nodes, given)?;
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    let mut missing: Vec<usize> = vec![0; nodes.len()];
    for (index, node) in nodes.iter().enumerate() {
        for name in node.input.iter().filter(|n| !n.is_empty()) {
            if let Some(&from) = maker.get(name.as_str()) {
                readers[from].push(index);
                missing[index] += 1;
            } else if !given.contains(name.as_str()) {
                return Err(flaw(node, index, format!("reads tensor `{name}`, which nothing provides")));
            }
        }
    }
    let mut ready: BinaryHeap<Reverse<usize>> = (0..nodes.len()).filter(|i| missing[*i] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(Reverse(index)) = ready.pop() {
        order.push(index);
        for &reader in &readers[index] {
            missing[reader] -= 1;
            if missing[reader] == 0 {
                ready.push(Reverse(reader));
            }
        }
    }
    match missing.iter().position(|m| *m > 0) {
        Some(index) => Err(flaw(&nodes[index], index, "stands in or behind a cycle".to_owned())),
        None => Ok(order),
    }
}

/// Which node makes which tensor.
fn makers<'a>(nodes: &'a [NodeProto], given: &HashSet<&str>) -> Result<HashMap<&'a str, usize>, GraphError> {
    let mut maker = HashMap::new();
    for (index, node) in nodes.iter().enumerate() {
        for name in node.output.iter().filter(|n| !n.is_empty()) {
            if given.contains(name.as_str()) || maker.insert(name.as_str(), index).is_some() {
                return Err(flaw(node, index, format!("makes tensor `{name}` a second time")));
            }
        }
    }
    Ok(maker)
}

fn flaw(proto: &NodeProto, index: usize, message: String) -> GraphError {
    Node { proto, index, opset: 0, operands: Vec::new() }.error(Flaw::Node(message))
}
