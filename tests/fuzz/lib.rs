//! What the targets share: the bound on memory, the first inputs, and reading an input piece by piece.
//!
//! A target is a function of bytes. It ends the process where a parser panics, takes more than ten seconds, allocates more
//! than its bound, or gives something that is not what was said.

#![forbid(unsafe_code)]

use cap::Cap;
use std::alloc::System;
use std::path::PathBuf;

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

/// Runs `work`, which may hold `bytes` of memory at a time beside what is held already. An allocation beyond that ends the
/// process at its place. What C code allocates (zstd) is not counted here, but by the fuzzer's `-rss_limit_mb`.
pub fn within<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let limit = MEMORY.allocated().saturating_add(bytes);
    assert!(MEMORY.set_limit(limit).is_ok(), "more is held than a moment ago");
    let out = work();
    assert!(MEMORY.set_limit(usize::MAX).is_ok(), "a limit can always be raised");
    out
}

/// Writes the first inputs into the folder that the variable `BPS_SEEDS` names, and words that mean something into the
/// file beside it, `<folder>.words`; a byte of a word may stand there as `\xff`. The fuzzer reads both after this.
pub fn seed(inputs: impl IntoIterator<Item = Vec<u8>>, words: &[&str]) {
    let Some(folder) = std::env::var_os("BPS_SEEDS").map(PathBuf::from) else { return };
    for (index, input) in inputs.into_iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{index:03}")), input).expect("the seeds' folder can be written");
    }
    let list: String = words.iter().map(|word| format!("\"{}\"\n", word.replace('"', "\\\""))).collect();
    std::fs::write(folder.with_extension("words"), list).expect("the words can be written");
}

/// An input that is read from its front. What is not there is zero.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// The whole of it.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// As many bytes as that, or as there are.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (front, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        front
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }

    /// A number below 240 in one byte, and now and then one of those at which arithmetic breaks.
    pub fn number(&mut self) -> i64 {
        const EXTREME: [i64; 15] = [
            -1,
            -2,
            256,
            1 << 12,
            1 << 16,
            1 << 20,
            1 << 30,
            (1 << 31) - 1,
            1 << 31,
            1 << 32,
            1 << 40,
            1 << 62,
            i64::MIN,
            i64::MIN + 1,
            i64::MAX,
        ];
        match self.byte() {
            255 => i64::from_le_bytes(std::array::from_fn(|_| self.byte())),
            byte @ 240.. => EXTREME[usize::from(byte - 240)],
            byte => i64::from(byte),
        }
    }

    /// An extent, as [`Self::number`].
    pub fn extent(&mut self) -> usize {
        self.number() as usize
    }

    /// Everything that is left.
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }
}

/// What a host does with a model's file before a device sees it: reads it, asks for shapes, costs and cuts.
pub mod graph {
    use bps_graph::{Graph, GraphError, Limits, Source};

    /// The default limits, but for constants that are computed: the fuzzer would be slow with a gigabyte of them.
    pub fn limits() -> Limits {
        Limits { folded_bytes: 4 << 20, ..Limits::default() }
    }

    /// Uses a model as far as there is no device. Memory stays within a part of the file's size and what may be computed.
    pub fn exercise(file: &[u8]) -> Result<Graph, GraphError> {
        super::within((32 << 20) + 256 * file.len(), || {
            let graph = Graph::parse(file, &limits())?;
            check(&graph);
            // Where an extent stays open there are none.
            if let Ok(shapes) = graph.row_shapes() {
                (0..graph.layers.len()).for_each(|layer| _ = graph.flops(layer, &shapes));
                (0..graph.cuts.len()).for_each(|cut| _ = graph.cut_bytes(cut, &shapes));
                graph.values.iter().enumerate().for_each(|(id, value)| {
                    let shape = shapes.of(bps_graph::ValueId(id as u32));
                    if let Source::Constant(tensor) = &value.source {
                        assert_eq!(shape, tensor.shape(), "{}", value.name);
                    }
                });
            }
            let fixed: Option<Vec<Vec<usize>>> = graph.inputs.iter().map(|spec| rows(&spec.shape, 3)).collect();
            if let Some(shapes) = fixed.map(|inputs| graph.infer(&inputs))
                && graph.batchable
            {
                let shapes = shapes.expect("batchable models take several rows");
                assert!(graph.output_values.iter().all(|v| shapes.of(*v).first() == Some(&3)));
            }
            graph.cut_list_hash();
            Ok(graph)
        })
    }

    fn rows(shape: &[Option<usize>], rows: usize) -> Option<Vec<usize>> {
        std::iter::once(Some(rows)).chain(shape.iter().skip(1).copied()).collect()
    }

    /// Whatever an executor relies on.
    fn check(graph: &Graph) {
        assert!(!graph.layers.is_empty() && graph.inputs.len() == graph.input_values.len());
        assert!(!graph.outputs.is_empty() && graph.outputs.len() == graph.output_values.len());
        let mut made = vec![false; graph.values.len()];
        let given = |v: &bps_graph::Value| !matches!(v.source, Source::Layer(_));
        made.iter_mut().zip(&graph.values).for_each(|(made, value)| *made = given(value));
        for (index, layer) in graph.layers.iter().enumerate() {
            assert!(layer.inputs.iter().flatten().all(|v| made[v.index()]), "layer {index} reads what is there");
            for value in &layer.outputs {
                assert!(matches!(graph.values[value.index()].source, Source::Layer(from) if from == index));
                made[value.index()] = true;
            }
        }
        assert!(graph.output_values.iter().all(|v| made[v.index()]));
        let (first, last) = (graph.cuts.first().expect("the input"), graph.cuts.last().expect("the output"));
        assert_eq!((first.layer, last.layer), (0, graph.layers.len()));
        assert!(graph.cuts.is_sorted_by(|a, b| a.layer < b.layer));
    }
}
