//! Where a model may be cut, and whether its rows may be batched.

use crate::dim::{Dim, Dims};
use crate::error::GraphError;
use crate::ir::{Cut, Graph, Source, ValueId};
use crate::ops::mixes_rows;
use crate::shapes::Shapes;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// Most values that may cross a cut. Inside a dense block dozens are alive; sending them all is never a good plan.
const CROSSING_MAX: usize = 4;

/// Counts the ways this crate has lowered models: hosts whose numbers differ may number layers differently. Raise it
/// with any change to the layers or cuts that a file gives.
const LOWERING_VERSION: u32 = 1;

impl Graph {
    /// Finds the legal cuts and whether rows may be batched; the last step of lowering.
    pub(crate) fn find_cuts(&mut self) -> Result<(), GraphError> {
        let dims = self.symbolic_shapes()?;
        self.batchable = self.rows_stay_apart(&dims);
        let mut cuts = self.crossing_values();
        if self.batchable {
            // a value of several rows per request cannot be divided among requests by counting
            let end = self.layers.len();
            let divisible = |cut: &Cut| cut.values.iter().all(|v| dims[v.index()].first() == Some(&Dim::Rows(1)));
            cuts.retain(|cut| cut.layer == 0 || cut.layer == end || divisible(cut));
        }
        self.cuts = cuts;
        Ok(())
    }

    /// Every position with few enough living values, one sweep over the layers.
    fn crossing_values(&self) -> Vec<Cut> {
        let end = self.layers.len();
        let mut last_use: Vec<Option<usize>> = vec![None; self.values.len()];
        for (index, layer) in self.layers.iter().enumerate() {
            layer.inputs.iter().flatten().for_each(|v| last_use[v.index()] = Some(index));
        }
        self.output_values.iter().for_each(|v| last_use[v.index()] = Some(end));

        let mut cuts = vec![Cut { layer: 0, values: sorted(&self.input_values) }];
        let needed = |v: &ValueId, position: usize| last_use[v.index()].is_some_and(|last| last >= position);
        let mut alive: BTreeSet<ValueId> = self.input_values.iter().copied().filter(|v| needed(v, 0)).collect();
        for (index, layer) in self.layers.iter().enumerate() {
            let position = index + 1;
            alive.extend(layer.outputs.iter().copied().filter(|v| needed(v, position)));
            for value in layer.inputs.iter().flatten().filter(|v| !needed(v, position)) {
                alive.remove(value);
            }
            if position < end && alive.len() <= CROSSING_MAX {
                cuts.push(Cut { layer: position, values: alive.iter().copied().collect() });
            }
        }
        cuts.push(Cut { layer: end, values: sorted(&self.output_values) });
        cuts
    }

    /// Whether each row of every result follows from the same row of the inputs alone.
    fn rows_stay_apart(&self, dims: &[Dims]) -> bool {
        if self.layers.iter().any(|layer| mixes_rows(&layer.op)) {
            return false;
        }
        let open = self.inputs.iter().any(|spec| spec.shape.iter().skip(1).any(Option::is_none));
        let led_by_rows = |dims: &Dims| match dims.split_first() {
            Some((Dim::Rows(_), rest)) => {
                rest.iter().all(|d| matches!(d, Dim::Known(_)) || (open && *d == Dim::Unknown))
            }
            _ => false,
        };
        let activations = self.values.iter().zip(dims).filter(|(v, _)| !matches!(v.source, Source::Constant(_)));
        let apart = activations.into_iter().all(|(_, dims)| led_by_rows(dims));
        let whole = self.output_values.iter().all(|v| dims[v.index()].first() == Some(&Dim::Rows(1)));
        apart && whole && (open || self.serves_several_rows())
    }

    /// The proof by example: one, two and three rows pass every shape rule, and outputs have as many.
    fn serves_several_rows(&self) -> bool {
        (1..=3).all(|rows| {
            let shapes = self.shapes_of_rows(rows);
            shapes.is_ok_and(|s| self.output_values.iter().all(|v| s.of(*v).first() == Some(&rows)))
        })
    }

    /// What a stage that begins at a cut is given, in this order: at the first cut the model's inputs in theirs. Nothing where
    /// there is no such cut.
    pub fn entering(&self, cut: usize) -> &[ValueId] {
        match cut {
            0 => &self.input_values,
            _ => self.cuts.get(cut).map(|c| c.values.as_slice()).unwrap_or_default(),
        }
    }

    /// Bytes that cross a cut as FP32, for the given shapes. Zero where there is no such cut.
    pub fn cut_bytes(&self, cut: usize, shapes: &Shapes) -> u64 {
        let values = self.cuts.get(cut).map(|c| c.values.as_slice()).unwrap_or_default();
        let bytes = |v: &ValueId| shapes.of(*v).iter().fold(4, |n: u64, d| n.saturating_mul(*d as u64));
        values.iter().map(bytes).fold(0, u64::saturating_add)
    }

    /// Equal on two hosts exactly if cut numbers mean the same on both: same file, same lowering, same cuts.
    pub fn cut_list_hash(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(b"bps cut list");
        hasher.update(LOWERING_VERSION.to_le_bytes());
        hasher.update(self.digest);
        for cut in &self.cuts {
            hasher.update((cut.layer as u64).to_le_bytes());
            hasher.update((cut.values.len() as u64).to_le_bytes());
            cut.values.iter().for_each(|v| hasher.update(v.0.to_le_bytes()));
        }
        hasher.finalize().into()
    }
}

/// In id order, each once.
fn sorted(values: &[ValueId]) -> Vec<ValueId> {
    values.iter().copied().collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests;
