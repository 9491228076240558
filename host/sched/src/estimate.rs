//! What things cost: tables measured beforehand, corrected by what executions really take.

use crate::PlanStage;
use bps_types::policy::{CodecInfo, TABLE_BATCHES, Table, TableKind};
use bps_types::{DeviceId, HostId, Nanos};
use indexmap::IndexMap;

/// Weight of a new observation in a smoothed ratio.
const SMOOTHING: f32 = 0.2;
/// The same for batch sizes that did not run: what slows one (another program, heat) slows all.
const SMOOTHING_OF_OTHERS: f32 = 0.05;
/// One execution is taken to be at most so many times slower or quicker than believed.
const OBSERVED_STEP: f32 = 4.0;
/// A table is told to policies again when a correction has moved this far from 1.
const REPUBLISH_RATIO: f32 = 1.25;
/// And not more often than this.
const REPUBLISH_EVERY: Nanos = Nanos::from_millis(250);
/// The codec that changes nothing.
const RAW: u8 = 0;
/// Bits of an element that travels as it is.
const RAW_BITS: f32 = 32.0;
/// Arrivals are averaged over this many seconds.
const ARRIVAL_WINDOW_S: f64 = 1.0;

/// After so many windows without arrivals counting begins anew.
const ARRIVAL_PAUSE: f64 = 5.0;
/// What came within so many seconds of that says little of what will come.
const ARRIVAL_LEAST_S: f64 = 0.05;

/// Exponentially weighted arrival rate; a young one is over what it has seen, not over a window that had not begun.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ArrivalRate {
    /// Arrivals in the window, those long ago with less weight.
    weighted: f64,
    last: Nanos,
    /// When the first of them came.
    began: Nanos,
}

impl ArrivalRate {
    pub(crate) fn arrived(&mut self, now: Nanos) {
        let left = self.left(now);
        if self.weighted == 0.0 || left < libm::exp(-ARRIVAL_PAUSE) {
            *self = Self { weighted: 0.0, last: now, began: now };
        }
        self.weighted = self.weighted * left + 1.0;
        self.last = now;
    }

    pub(crate) fn at(&self, now: Nanos) -> f64 {
        let seen = now.since(self.began).as_secs_f64().max(ARRIVAL_LEAST_S);
        self.weighted * self.left(now) / (ARRIVAL_WINDOW_S * (1.0 - libm::exp(-seen / ARRIVAL_WINDOW_S)))
    }

    /// What weight the last arrival still has.
    fn left(&self, now: Nanos) -> f64 {
        libm::exp(-now.since(self.last).as_secs_f64() / ARRIVAL_WINDOW_S)
    }
}

/// Execution times of one model on one device.
#[derive(Clone, Debug)]
struct StageCost {
    table: Table,
    /// Measured over predicted, smoothed, per batch size of the table.
    correction: [f32; TABLE_BATCHES.len()],
    told: Nanos,
}

impl StageCost {
    fn cuts(&self) -> usize {
        self.table.shape.get(1).map_or(0, |c| *c as usize)
    }

    fn entry(&self, batch: usize, cut: u32) -> f64 {
        let value = self.table.values.get(batch * self.cuts() + cut as usize).copied().unwrap_or(0.0);
        f64::from(value) * f64::from(self.correction[batch])
    }

    /// Linear between the table's batch sizes, and beyond the largest with its slope.
    fn nanos(&self, rows: u32, from: u32, until: u32) -> f64 {
        let cost = |batch: usize| (self.entry(batch, until) - self.entry(batch, from)).max(0.0);
        let rows = rows.max(1);
        let upper = TABLE_BATCHES.partition_point(|b| *b < rows).clamp(1, TABLE_BATCHES.len() - 1);
        let (low, high) = (f64::from(TABLE_BATCHES[upper - 1]), f64::from(TABLE_BATCHES[upper]));
        let (at_low, at_high) = (cost(upper - 1), cost(upper));
        (at_low + (at_high - at_low) * (f64::from(rows) - low) / (high - low)).max(0.0)
    }
}

/// Index of the table's batch size nearest to `rows` from below, or the smallest.
fn bucket(rows: u32) -> usize {
    TABLE_BATCHES.partition_point(|b| *b <= rows).saturating_sub(1)
}

/// Every cost table, by what it is about.
#[derive(Default)]
pub(crate) struct Costs {
    stages: IndexMap<(u32, u32), StageCost>,
    others: IndexMap<(u32, u32, u8, TableKind), Table>,
    losses: Vec<Table>,
    rates: IndexMap<u8, Vec<u8>>,
    /// What policies know of bits.
    bits_told: IndexMap<(u32, u32, u8, TableKind), Told>,
}

/// A table as policies know it, and since when.
#[derive(Clone, Debug)]
struct Told {
    at: Nanos,
    values: Vec<f32>,
}

impl Costs {
    /// Takes a table; false if its shape and length do not fit its kind.
    pub(crate) fn insert(&mut self, table: Table) -> bool {
        let product = table.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d as usize));
        if product != Some(table.values.len()) {
            return false;
        }
        if table.kind == TableKind::StageNanos {
            if table.shape.len() != 2 || table.shape[0] as usize != TABLE_BATCHES.len() {
                return false;
            }
            let key = (table.model, table.device);
            self.stages.insert(key, StageCost { table, correction: [1.0; 6], told: Nanos::ZERO });
            return true;
        }
        if table.kind == TableKind::CodecLossPpm {
            self.losses.retain(|t| (t.model, t.codec) != (table.model, table.codec));
            self.losses.push(table.clone());
        }
        let key = (table.model, table.device, table.codec, table.kind);
        if table.kind == TableKind::CodecBits {
            self.bits_told.insert(key, Told { at: Nanos::ZERO, values: table.values.clone() });
        }
        self.others.insert(key, table);
        true
    }

    /// Forgets models that are gone.
    pub(crate) fn retain(&mut self, keep: impl Fn(u32) -> bool) {
        self.stages.retain(|(model, _), _| keep(*model));
        self.others.retain(|(model, ..), _| keep(*model));
        self.losses.retain(|t| keep(t.model));
        self.bits_told.retain(|(model, ..), _| keep(*model));
    }

    /// All tables, stage times first.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &Table> {
        self.stages.values().map(|s| &s.table).chain(self.others.values())
    }

    /// Tables of codec losses.
    pub(crate) fn losses(&self) -> &[Table] {
        &self.losses
    }

    /// How long these rows should take between these cuts; zero where nothing is known.
    pub(crate) fn predict(&self, model: u32, device: u32, rows: u32, from: u32, until: u32) -> Nanos {
        self.stages.get(&(model, device)).map_or(Nanos::ZERO, |s| Nanos(s.nanos(rows, from, until) as u64))
    }

    /// Bytes of `rows` rows of what enters a stage, encoded as the plan says; as the tables have it.
    pub(crate) fn crossing_bytes(&self, model: u32, stage: &PlanStage, rows: u32) -> u64 {
        let raw = self.others.get(&(model, 0, 0, TableKind::CutBytes));
        let raw = raw.and_then(|t| t.values.get(stage.from_cut as usize)).copied().unwrap_or(0.0);
        let bits = self.codec_bits(model, stage).unwrap_or(RAW_BITS);
        (f64::from(raw) * f64::from(rows) * f64::from(bits) / f64::from(RAW_BITS)) as u64
    }

    fn codec_bits(&self, model: u32, stage: &PlanStage) -> Option<f32> {
        let table = self.others.get(&(model, 0, stage.codec, TableKind::CodecBits))?;
        let rates = *table.shape.get(1)? as usize;
        // Rates are told in ascending order; a codec without any has one column.
        let column = if rates == 1 { 0 } else { self.rate_column(stage)? };
        table.values.get(stage.from_cut as usize * rates + column).copied()
    }

    fn rate_column(&self, stage: &PlanStage) -> Option<usize> {
        self.rates.get(&stage.codec)?.iter().position(|r| *r == stage.rate)
    }

    /// Which rates each codec offers, in the order of the tables' columns.
    pub(crate) fn set_rates(&mut self, codecs: &[CodecInfo]) {
        self.rates = codecs.iter().map(|c| (c.id, c.rates.clone())).collect();
    }

    /// Learns how many bytes a stage's input really took on the link. Returns the corrected table when policies should
    /// hear of it.
    pub(crate) fn observe_bytes(
        &mut self,
        model: u32,
        stage: &PlanStage,
        rows: u32,
        bytes: u64,
        now: Nanos,
    ) -> Option<Table> {
        let predicted = self.crossing_bytes(model, stage, rows);
        let column = if self.rates.get(&stage.codec)?.is_empty() { 0 } else { self.rate_column(stage)? };
        let key = (model, 0, stage.codec, TableKind::CodecBits);
        let (table, told) = (self.others.get_mut(&key)?, self.bits_told.get_mut(&key)?);
        let index = stage.from_cut as usize * (*table.shape.get(1)? as usize) + column;
        let (value, known) = (table.values.get_mut(index)?, told.values.get(index)?);
        if predicted == 0 || bytes == 0 {
            return None;
        }
        let ratio = (bytes as f64 / predicted as f64) as f32;
        *value = (*value * (1.0 + SMOOTHING * (ratio - 1.0))).clamp(1e-3, 64.0);
        let moved = !(1.0 / REPUBLISH_RATIO..REPUBLISH_RATIO).contains(&(*value / *known));
        if !moved || now.since(told.at) < REPUBLISH_EVERY {
            return None;
        }
        *told = Told { at: now, values: table.values.clone() };
        Some(table.clone())
    }

    /// Learns how many bytes a request's input takes as it is. Tables say how the model takes it; a client may send an image
    /// as bytes, a quarter of that. A codec that is never used corrects nothing, and what is believed too dear is never
    /// used: so this is learned from every request, wherever it goes.
    pub(crate) fn observe_input(&mut self, model: u32, rows: u32, bytes: u64, now: Nanos) -> Option<Table> {
        let (device, host) = (DeviceId(0), HostId(0));
        let raw = PlanStage { device, host, from_cut: 0, until_cut: 0, codec: RAW, rate: 0 };
        self.observe_bytes(model, &raw, rows, bytes, now)
    }

    /// Learns from an execution. Returns the corrected table when policies should hear of it.
    pub(crate) fn observe(&mut self, seen: Observation, now: Nanos) -> Option<Table> {
        let cost = self.stages.get_mut(&(seen.model, seen.device))?;
        let predicted = cost.nanos(seen.rows, seen.from_cut, seen.until_cut);
        if predicted <= 0.0 {
            return None;
        }
        let seen_size = bucket(seen.rows);
        let step = (seen.elapsed.0 as f64 / predicted) as f32;
        let ratio = step.clamp(1.0 / OBSERVED_STEP, OBSERVED_STEP) * cost.correction[seen_size];
        for (size, slot) in cost.correction.iter_mut().enumerate() {
            let weight = if size == seen_size { SMOOTHING } else { SMOOTHING_OF_OTHERS };
            *slot = (*slot + weight * (ratio - *slot)).clamp(1e-3, 1e3);
        }
        let moved = cost.correction.iter().any(|c| *c > REPUBLISH_RATIO || *c < 1.0 / REPUBLISH_RATIO);
        if !moved || now.since(cost.told) < REPUBLISH_EVERY {
            return None;
        }
        Some(cost.rebase(now))
    }
}

/// One execution, as it went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observation {
    pub(crate) model: u32,
    pub(crate) device: u32,
    pub(crate) rows: u32,
    pub(crate) from_cut: u32,
    pub(crate) until_cut: u32,
    pub(crate) elapsed: Nanos,
}

impl StageCost {
    /// Works the corrections into the table.
    fn rebase(&mut self, now: Nanos) -> Table {
        let cuts = self.cuts();
        for (row, correction) in self.table.values.chunks_mut(cuts.max(1)).zip(&mut self.correction) {
            row.iter_mut().for_each(|v| *v *= *correction);
            *correction = 1.0;
        }
        self.table.measured = true;
        self.told = now;
        self.table.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(per_row: f32) -> Table {
        let values = TABLE_BATCHES.iter().flat_map(|b| [0.0, *b as f32 * per_row, *b as f32 * per_row * 2.0]).collect();
        let shape = vec![6, 3];
        let kind = TableKind::StageNanos;
        Table { epoch: 1, model: 1, device: 2, codec: 0, kind, measured: false, shape, values }
    }

    #[test]
    fn interpolates_between_batches_and_extrapolates() {
        let mut costs = Costs::default();
        assert!(costs.insert(table(100.0)));
        for rows in [1, 2, 3, 7, 16, 31, 32, 64] {
            assert_eq!(costs.predict(1, 2, rows, 0, 2), Nanos(u64::from(rows) * 200), "{rows} rows");
            assert_eq!(costs.predict(1, 2, rows, 1, 2), Nanos(u64::from(rows) * 100), "{rows} rows, tail");
        }
        assert_eq!(costs.predict(1, 9, 1, 0, 2), Nanos::ZERO);
    }

    #[test]
    fn a_table_that_does_not_fit_is_refused() {
        let mut costs = Costs::default();
        assert!(!costs.insert(Table { shape: vec![6, 4], ..table(1.0) }));
        assert!(!costs.insert(Table { shape: vec![u32::MAX, u32::MAX, u32::MAX], ..table(1.0) }));
    }

    #[test]
    fn executions_correct_the_table_and_are_told() {
        let mut costs = Costs::default();
        costs.insert(table(100.0));
        let seen = Observation { model: 1, device: 2, rows: 8, from_cut: 0, until_cut: 2, elapsed: Nanos(3_200) };
        let mut told = None;
        for i in 0..20 {
            told = costs.observe(seen, Nanos::from_millis(300 * i)).or(told);
        }
        let predicted = costs.predict(1, 2, 8, 0, 2).0;
        assert!((3_000..=3_300).contains(&predicted), "{predicted}");
        assert!(told.is_some_and(|t| t.measured));
        let other = costs.predict(1, 2, 1, 0, 2).0;
        assert!((250..=350).contains(&other), "another batch size follows from afar: {other}");
    }

    #[test]
    fn requests_tell_what_an_input_takes_as_it_is() {
        let mut costs = Costs::default();
        let of = |kind, shape, values| Table { kind, shape, values, device: 0, ..table(0.0) };
        costs.insert(of(TableKind::CutBytes, vec![2], vec![256.0, 40.0]));
        costs.insert(of(TableKind::CodecBits, vec![2, 1], vec![32.0, 32.0]));
        costs.rates.insert(RAW, vec![]);
        let mut told = vec![];
        for i in 0..2_000 {
            told.extend(costs.observe_input(1, 1, 64, Nanos::from_millis(1_000 + i)));
        }
        let bits = |table: &Table| table.values.clone();
        assert!(told.len() <= 5, "{told:?}");
        let last = told.last().map(bits).unwrap_or_default();
        assert!((7.9..10.1).contains(&last[0]) && last[1] == 32.0, "a byte for each of 64: {last:?}");
    }

    #[test]
    fn arrival_rate_settles_and_decays() {
        let mut rate = ArrivalRate::default();
        (0..5_000).for_each(|i| rate.arrived(Nanos::from_millis(i)));
        let settled = rate.at(Nanos::from_secs(5));
        assert!((900.0..1_100.0).contains(&settled), "{settled}");
        assert!(rate.at(Nanos::from_secs(15)) < 1.0);
    }

    #[test]
    fn arrival_rate_is_right_from_the_beginning_and_after_a_pause() {
        let mut rate = ArrivalRate::default();
        for begin in [0, 60_000] {
            (0..100).for_each(|i| rate.arrived(Nanos::from_millis(begin + i)));
            let young = rate.at(Nanos::from_millis(begin + 100));
            assert!((900.0..1_100.0).contains(&young), "{young}");
        }
        rate.arrived(Nanos::from_secs(120));
        let one = rate.at(Nanos::from_secs(120));
        assert!((15.0..25.0).contains(&one), "a single one is no flood: {one}");
    }
}
