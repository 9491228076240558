//! Stage times on this host's devices as executions have corrected them: which of them others should hear of again.

use bps_types::policy::{TABLE_BATCHES, Table, TableKind};
use std::collections::BTreeMap;

/// A table is told again when a whole model takes so many times what was told of it, or that part.
const MOVED: f32 = 1.2;

/// What is told in place of what was measured or assumed before traffic.
#[derive(Default)]
pub(super) struct Corrected {
    /// By model and device.
    told: BTreeMap<(u32, u32), Table>,
    changes: u64,
}

impl Corrected {
    /// Grows with each table that others should hear of.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Takes in the tables that this host plans with. `first` is what a model on one of its own devices was taken to cost
    /// before traffic; none for what is not here.
    pub(super) fn take<'a>(&mut self, tables: &[Table], first: impl Fn(u32, u32) -> Option<&'a [f32]>) {
        self.told.retain(|(model, device), _| first(*model, *device).is_some());
        for table in tables.iter().filter(|t| t.kind == TableKind::StageNanos) {
            let Some(first) = first(table.model, table.device) else { continue };
            let key = (table.model, table.device);
            if has_moved(self.told.get(&key).map_or(first, |told| &told.values), &table.values) {
                self.told.insert(key, table.clone());
                self.changes += 1;
            }
        }
    }

    /// A table of this host as others are told it.
    pub(super) fn latest(&self, table: Table) -> Table {
        let known = self.told.get(&(table.model, table.device)).filter(|_| table.kind == TableKind::StageNanos);
        match known {
            Some(known) => Table { measured: known.measured, values: known.values.clone(), ..table },
            None => table,
        }
    }
}

/// Whether the whole model takes another time, at any batch size.
fn has_moved(told: &[f32], now: &[f32]) -> bool {
    let cuts = (now.len() / TABLE_BATCHES.len()).max(1);
    let mut wholes = told.chunks_exact(cuts).zip(now.chunks_exact(cuts)).filter_map(|(a, b)| a.last().zip(b.last()));
    wholes.any(|(told, now)| *now > told * MOVED || *told > now * MOVED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(model: u32, device: u32, factor: f32) -> Table {
        let values = TABLE_BATCHES.iter().flat_map(|rows| [0.0, 10.0, *rows as f32 * factor]).collect();
        let (kind, shape) = (TableKind::StageNanos, vec![6, 3]);
        Table { epoch: 0, model, device, codec: 0, kind, measured: factor != 100.0, shape, values }
    }

    #[test]
    fn a_table_is_told_again_when_it_has_moved_by_a_fifth() {
        let before = table(1, 0, 100.0);
        let first = |model, device| (model == 1 && device == 0).then_some(&before.values[..]);
        let mut corrected = Corrected::default();
        // (how much a row takes by now, what is told of it)
        for (now, told, changes) in [(110.0, 100.0, 0), (125.0, 125.0, 1), (140.0, 125.0, 1), (100.0, 100.0, 2)] {
            corrected.take(&[table(1, 0, now)], first);
            let latest = corrected.latest(before.clone());
            assert_eq!((latest.values, corrected.changes()), (table(1, 0, told).values, changes), "{now}");
            assert_eq!(latest.measured, told != 100.0);
        }
    }

    #[test]
    fn only_stage_times_of_what_is_here_count() {
        let before = table(1, 0, 100.0);
        let mut corrected = Corrected::default();
        let bits = Table { kind: TableKind::CodecBits, ..table(1, 0, 900.0) };
        let others = [table(1, 7, 900.0), table(2, 0, 900.0), bits.clone()];
        corrected.take(&others, |model, device| (model == 1 && device == 0).then_some(&before.values[..]));
        assert_eq!(corrected.changes(), 0);
        corrected.take(&[table(1, 0, 900.0)], |_, _| Some(&before.values[..]));
        assert_eq!((corrected.changes(), corrected.latest(bits.clone())), (1, bits));
        corrected.take(&[], |_, _| None);
        assert_eq!(corrected.latest(before.clone()), before, "a model that is gone is forgotten");
    }
}
