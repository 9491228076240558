//! The cost tables that the host pushes, and the times between their entries.

use crate::{Nanos, Table, TableKind};
use std::collections::BTreeMap;

/// Batch sizes that tables are made for: the outer extent of a `stage-nanos` table.
pub const TABLE_BATCHES: [u32; 6] = [1, 2, 4, 8, 16, 32];

/// All tables, by what they are about.
#[derive(Clone, Debug, Default)]
pub struct Costs {
    tables: BTreeMap<(u32, u32, u8, u8), Table>,
}

impl Costs {
    /// Keeps a table; it replaces the one about the same thing. One whose shape does not fit its values is ignored.
    pub fn insert(&mut self, table: Table) {
        let count: u64 = table.shape.iter().map(|extent| u64::from(*extent)).product();
        if count == table.values.len() as u64 {
            self.tables.insert((table.model, table.device, table.codec, table.kind as u8), table);
        }
    }

    /// Forgets what `keep(model, device)` does not want.
    pub fn retain(&mut self, keep: impl Fn(u32, u32) -> bool) {
        self.tables.retain(|(model, device, ..), _| keep(*model, *device));
    }

    /// A table as it came.
    pub fn table(&self, model: u32, device: u32, codec: u8, kind: TableKind) -> Option<&Table> {
        self.tables.get(&(model, device, codec, kind as u8))
    }

    /// Predicted time of one execution of `rows` rows from `from_cut` to `until_cut` on `device`; none without a table
    /// or outside it. Linear between the batch sizes of the table, and beyond the last along its last slope.
    pub fn stage_nanos(&self, model: u32, device: u32, rows: u32, from_cut: u32, until_cut: u32) -> Option<Nanos> {
        let table = self.table(model, device, 0, TableKind::StageNanos)?;
        let [batches, cuts] = table.shape[..] else { return None };
        if batches == 0 || until_cut >= cuts || from_cut > until_cut {
            return None;
        }
        // A table's first column is what entering costs; it is part of a stage that begins there.
        let at = |batch: usize| {
            let row = &table.values[batch * cuts as usize..];
            f64::from(row[until_cut as usize]) - if from_cut == 0 { 0.0 } else { f64::from(row[from_cut as usize]) }
        };
        let nanos = interpolate(&TABLE_BATCHES[..(batches as usize).min(TABLE_BATCHES.len())], at, rows);
        Some(nanos.max(0.0) as Nanos)
    }

    /// Bytes of one row of the activations that cross `cut`.
    pub fn cut_bytes(&self, model: u32, cut: u32) -> Option<u64> {
        let table = self.table(model, 0, 0, TableKind::CutBytes)?;
        table.values.get(cut as usize).map(|bytes| *bytes as u64)
    }

    /// Bytes of one row that crosses `cut` encoded with `codec` at its `rate`-th rate (0 where it has none). Raw needs no
    /// table of its own; another codec without one has no size.
    pub fn crossing_bytes(&self, model: u32, codec: u8, cut: u32, rate: usize) -> Option<f32> {
        let raw = *self.table(model, 0, 0, TableKind::CutBytes)?.values.get(cut as usize)?;
        match self.by_rate(model, 0, codec, TableKind::CodecBits, cut, rate) {
            Some(bits) => Some(raw * bits / RAW_BITS),
            None => (codec == 0).then_some(raw),
        }
    }

    /// Accuracy that `codec` costs at `cut`, in parts per million; none where no table says so.
    pub fn codec_loss_ppm(&self, model: u32, codec: u8, cut: u32, rate: usize) -> Option<f32> {
        self.by_rate(model, 0, codec, TableKind::CodecLossPpm, cut, rate)
    }

    /// Nanoseconds to encode one row that leaves `device` at `cut`; 0 where nothing is known.
    pub fn encode_nanos(&self, model: u32, device: u32, codec: u8, cut: u32, rate: usize) -> f32 {
        self.by_rate(model, device, codec, TableKind::EncodeNanos, cut, rate).unwrap_or(0.0).max(0.0)
    }

    /// Nanoseconds to decode one row that enters `device` at `cut`; 0 where nothing is known.
    pub fn decode_nanos(&self, model: u32, device: u32, codec: u8, cut: u32, rate: usize) -> f32 {
        self.by_rate(model, device, codec, TableKind::DecodeNanos, cut, rate).unwrap_or(0.0).max(0.0)
    }

    /// Whether the stage times of a model on a device were measured; false for an estimate and for none at all.
    pub fn is_measured(&self, model: u32, device: u32) -> bool {
        self.table(model, device, 0, TableKind::StageNanos).is_some_and(|table| table.measured)
    }

    /// An entry of a `[cut][rate]` table.
    fn by_rate(&self, model: u32, device: u32, codec: u8, kind: TableKind, cut: u32, rate: usize) -> Option<f32> {
        let table = self.table(model, device, codec, kind)?;
        let rates = *table.shape.get(1)? as usize;
        let value = table.values.get((cut as usize).checked_mul(rates)?.checked_add(rate)?)?;
        (rate < rates && value.is_finite()).then_some(*value)
    }
}

/// Bits of an element that travels as it is.
const RAW_BITS: f32 = 32.0;

/// What a row may cost more in a smaller batch.
const NEARLY: f64 = 1.05;

/// The fewest rows, of at most `most`, whose batch costs nearly as little for each as any does; `most` where nothing is
/// known. On many a processor a large batch makes no row cheaper, and each of them later.
pub fn economical_rows(most: u32, cost: impl Fn(u32) -> f64) -> u32 {
    let each = |rows: u32| cost(rows) / f64::from(rows);
    let sizes = || TABLE_BATCHES.into_iter().filter(|rows| *rows < most).chain([most]);
    let least = sizes().map(each).fold(f64::MAX, f64::min);
    sizes().find(|rows| each(*rows) <= least * NEARLY).filter(|_| least > 0.0).unwrap_or(most)
}

/// The value at `rows` of a function known at `batches`.
fn interpolate(batches: &[u32], at: impl Fn(usize) -> f64, rows: u32) -> f64 {
    let last = batches.len() - 1;
    if last == 0 {
        return at(0) * f64::from(rows);
    }
    let above = batches.iter().position(|batch| *batch >= rows).unwrap_or(last).max(1);
    let (low, high) = (f64::from(batches[above - 1]), f64::from(batches[above]));
    let slope = (at(above) - at(above - 1)) / (high - low);
    at(above - 1) + slope * (f64::from(rows) - low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::stage_table;

    #[test]
    fn times_between_and_beyond_the_entries() {
        let mut costs = Costs::default();
        costs.insert(stage_table(3, 9, &[10.0, 20.0, 40.0, 60.0, 100.0, 180.0]));
        // (rows, nanoseconds): entries, between two, beyond the last
        for (rows, nanos) in [(1, 10), (2, 20), (3, 30), (12, 80), (32, 180), (64, 340)] {
            assert_eq!(costs.stage_nanos(3, 9, rows, 0, 1), Some(nanos), "{rows} rows");
        }
    }

    #[test]
    fn a_stage_is_the_difference_of_its_cuts() {
        let mut costs = Costs::default();
        let values = vec![1.0, 5.0, 11.0];
        let table = Table { shape: vec![1, 3], values, ..stage_table(1, 1, &[0.0]) };
        costs.insert(table);
        assert_eq!(costs.stage_nanos(1, 1, 1, 0, 2), Some(11));
        assert_eq!(costs.stage_nanos(1, 1, 1, 1, 2), Some(6));
        assert_eq!(costs.stage_nanos(1, 1, 1, 2, 3), None, "outside the table");
        assert_eq!(costs.stage_nanos(1, 2, 1, 0, 2), None, "another device");
    }

    #[test]
    fn codec_tables_are_read_by_cut_and_rate() {
        let table = |codec, kind, values: &[f32]| Table {
            codec,
            kind,
            shape: vec![values.len() as u32 / 2, 2],
            values: values.to_vec(),
            ..stage_table(1, 0, &[0.0])
        };
        let mut costs = Costs::default();
        assert_eq!(costs.crossing_bytes(1, 0, 0, 0), None, "no sizes yet");
        costs.insert(Table { shape: vec![2], ..table(0, TableKind::CutBytes, &[400.0, 800.0]) });
        costs.insert(table(4, TableKind::CodecBits, &[8.0, 4.0, 16.0, f32::NAN]));
        costs.insert(Table { device: 9, ..table(4, TableKind::EncodeNanos, &[1.0, 2.0, 3.0, 4.0]) });
        // (codec, cut, rate, bytes of a row)
        let cases = [
            (0, 1, 0, Some(800.0)),
            (4, 0, 0, Some(100.0)),
            (4, 0, 1, Some(50.0)),
            (4, 1, 0, Some(400.0)),
            (4, 1, 1, None),
            (4, 0, 2, None),
            (5, 0, 0, None),
        ];
        for (codec, cut, rate, bytes) in cases {
            assert_eq!(costs.crossing_bytes(1, codec, cut, rate), bytes, "codec {codec}, cut {cut}, rate {rate}");
        }
        assert_eq!((costs.encode_nanos(1, 9, 4, 1, 1), costs.encode_nanos(1, 8, 4, 1, 1)), (4.0, 0.0));
        assert_eq!(costs.codec_loss_ppm(1, 4, 0, 0), None);
    }

    #[test]
    fn a_batch_is_as_large_as_it_makes_rows_cheaper() {
        // (most rows, first row, each further one, rows)
        let cases =
            [(32, 100.0, 0.0, 32), (32, 100.0, 100.0, 1), (32, 200.0, 100.0, 16), (5, 1e3, 1.0, 5), (7, 0.0, 0.0, 7)];
        for (most, first, more, rows) in cases {
            let cost = |rows: u32| first + more * f64::from(rows - 1);
            assert_eq!(economical_rows(most, cost), rows, "{first} and {more} more");
        }
    }

    #[test]
    fn a_table_that_contradicts_itself_is_ignored() {
        let mut costs = Costs::default();
        costs.insert(Table { shape: vec![u32::MAX, u32::MAX], ..stage_table(1, 1, &[1.0]) });
        assert_eq!(costs.stage_nanos(1, 1, 1, 0, 1), None);
    }
}
