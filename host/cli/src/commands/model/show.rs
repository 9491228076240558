//! `bps model show`: a model as bps sees it.

use crate::model_file;
use crate::output::Output;
use crate::table::{self, Table, clean};
use anyhow::{Context, Result};
use bps_graph::{Graph, Shapes, ValueId};
use bps_types::TensorSpec;
use serde::Serialize;
use std::path::Path;

/// Everything there is to say.
#[derive(Serialize)]
struct ModelReport {
    name: String,
    digest: String,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    batchable: bool,
    parameters: u64,
    flops: u64,
    layers: Vec<LayerReport>,
}

#[derive(Serialize)]
struct LayerReport {
    index: usize,
    name: String,
    op: String,
    output: Vec<usize>,
    flops: u64,
    /// The legal cut right before this layer, if there is one.
    cut: Option<CutReport>,
}

#[derive(Serialize)]
struct CutReport {
    index: usize,
    tensors: usize,
    bytes: u64,
}

/// Loads the file and shows it.
pub(super) fn run(file: &Path, out: Output) -> Result<()> {
    let graph = model_file::load(file)?;
    let shapes = graph.row_shapes().with_context(|| format!("{} has no fixed shapes", file.display()))?;
    out.emit(&report(&graph, &shapes), text)
}

fn report(graph: &Graph, shapes: &Shapes) -> ModelReport {
    let layers: Vec<LayerReport> = (0..graph.layers.len()).map(|i| layer(graph, shapes, i)).collect();
    ModelReport {
        name: graph.name.clone(),
        digest: graph.digest_hex(),
        inputs: graph.inputs.clone(),
        outputs: graph.outputs.clone(),
        batchable: graph.batchable,
        parameters: graph.parameter_count(),
        flops: layers.iter().map(|l| l.flops).sum(),
        layers,
    }
}

fn layer(graph: &Graph, shapes: &Shapes, index: usize) -> LayerReport {
    let layer = &graph.layers[index];
    let of = |v: &ValueId| shapes.of(*v).to_vec();
    let cut = graph.cuts.iter().position(|c| c.layer == index);
    LayerReport {
        index,
        name: layer.name.clone(),
        op: operation(&format!("{:?}", layer.op)),
        output: layer.outputs.first().map(of).unwrap_or_default(),
        flops: graph.flops(index, shapes),
        cut: cut.map(|c| CutReport {
            index: c,
            tensors: graph.cuts[c].values.len(),
            bytes: graph.cut_bytes(c, shapes),
        }),
    }
}

/// The operation's name without its attributes: what stands before the first bracket of its debug form, or the innermost
/// name of `Unary(Relu)`.
fn operation(debug: &str) -> String {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric()).collect::<String>();
    let outer = word(debug);
    let is_family = outer == "Unary" || outer == "Binary";
    let inner = debug.split_once('(').map(|(_, rest)| word(rest)).filter(|w| is_family && !w.is_empty());
    inner.unwrap_or(outer)
}

fn text(report: &ModelReport) -> String {
    let specs = |list: &[TensorSpec]| list.iter().map(spec).collect::<Vec<_>>().join(", ");
    let mut text = format!(
        "model       {}\nsha256      {}\ninputs      {}\noutputs     {}\nparameters  {} ({} as FP32)\nwork        {} \
         floating point operations per row\nbatching    {}\n\n",
        clean(&report.name),
        report.digest,
        specs(&report.inputs),
        specs(&report.outputs),
        table::count(report.parameters),
        table::bytes(report.parameters * 4),
        table::operations(report.flops),
        if report.batchable { "yes" } else { "no: some value does not follow the batch extent" },
    );
    let mut table = Table::new(&[">cut", ">crosses", ">layer", "operation", "output", ">work", ">share", "name"]);
    for layer in &report.layers {
        let (cut, crosses) = match &layer.cut {
            Some(c) => (c.index.to_string(), table::bytes(c.bytes)),
            None => (String::new(), String::new()),
        };
        table.row([
            cut,
            crosses,
            layer.index.to_string(),
            layer.op.clone(),
            format!("{:?}", layer.output),
            table::operations(layer.flops),
            table::percent(layer.flops as f64 / report.flops.max(1) as f64),
            layer.name.clone(),
        ]);
    }
    text.push_str(&table.to_string());
    text
}

fn spec(spec: &TensorSpec) -> String {
    let extents: Vec<String> = spec.shape.iter().map(|d| d.map_or_else(|| "?".into(), |n| n.to_string())).collect();
    clean(&format!("{} {}[{}]", spec.name, spec.data_type, extents.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_by_name() {
        let cases = [
            ("Conv(Conv { kernel: [3, 3] })", "Conv"),
            ("Unary(Relu)", "Relu"),
            ("Unary(LeakyRelu { alpha: 0.1 })", "LeakyRelu"),
            ("Clip { min: 0.0, max: 6.0 }", "Clip"),
            ("Binary(Add)", "Add"),
            ("GlobalAveragePool", "GlobalAveragePool"),
            ("BatchNormalization { epsilon: 1e-5 }", "BatchNormalization"),
        ];
        for (debug, name) in cases {
            assert_eq!(operation(debug), name);
        }
    }
}
