//! Drops what no output needs and numbers the rest without gaps.

use super::batch_norm::remove;
use crate::ir::{Graph, Source, ValueId};
use bps_types::{DataType, HostTensor};
use bytes::Bytes;

/// Stands where a value was that is no layer's operand.
pub(super) fn nothing() -> HostTensor {
    HostTensor::new(DataType::Fp32, vec![0], Bytes::new()).expect("no elements need no bytes")
}

/// Layers that no output needs go, then values that nothing reads and no kept layer makes. Inputs stay, read or not:
/// clients give them. The order of what is kept does not change.
pub(super) fn drop_unused(graph: &mut Graph) {
    let mut needed = vec![false; graph.values.len()];
    graph.output_values.iter().for_each(|v| needed[v.index()] = true);
    let mut dropped = vec![false; graph.layers.len()];
    for (index, layer) in graph.layers.iter().enumerate().rev() {
        if layer.outputs.iter().any(|v| needed[v.index()]) {
            layer.inputs.iter().flatten().for_each(|v| needed[v.index()] = true);
        } else {
            dropped[index] = true;
        }
    }
    remove(&mut graph.layers, &mut graph.values, &dropped);
    // a kept layer keeps all its results, so that their order is the operator's
    graph.layers.iter().flat_map(|l| &l.outputs).for_each(|v| needed[v.index()] = true);

    let mut places = vec![ValueId(0); graph.values.len()];
    let mut kept = Vec::with_capacity(graph.values.len());
    for (index, value) in std::mem::take(&mut graph.values).into_iter().enumerate() {
        if needed[index] || matches!(value.source, Source::Input(_)) {
            places[index] = ValueId(kept.len() as u32);
            kept.push(value);
        }
    }
    graph.values = kept;
    let renumber = |v: &mut ValueId| *v = places[v.index()];
    graph.input_values.iter_mut().for_each(renumber);
    graph.output_values.iter_mut().for_each(renumber);
    for layer in &mut graph.layers {
        layer.inputs.iter_mut().flatten().for_each(renumber);
        layer.outputs.iter_mut().for_each(renumber);
    }
}
