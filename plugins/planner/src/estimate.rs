//! How long an execution will take: the cost table, corrected by what executions took.
//!
//! A correction must not lock itself in: a device that was slow once is given nothing, and what is given nothing is never
//! measured again. So one execution moves a correction only so far, and what has not been measured for a while fades
//! back to the table; one batch size of several to those that have been measured, since what slows one slows all.

use bps_policy_sdk::{ModelInfo, Nanos, Outcome, TABLE_BATCHES, Table, TableKind, World};
use std::collections::BTreeMap;

/// Weight of the newest measurement in a correction.
const NEWEST: f64 = 0.3;

/// One execution is taken to be at most so many times slower or quicker than believed, where there is a table to believe.
const STEP_MAX: f64 = 3.0;

/// A correction stands for so long; after as long again half of it is gone, after twice as long two thirds.
const FRESH: Nanos = 1_000_000_000;

/// A correction beyond this says that something else is wrong.
const CORRECTION_RANGE: (f64, f64) = (0.02, 50.0);

/// Without a table: a row takes this long, and each further one a fifth of it. Wrong, but corrected from the first batch.
const GUESS_ROW_NANOS: f64 = 1e6;
const GUESS_SLOPE: f64 = 0.2;

/// What executions of one batch size took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Measured over predicted.
    pub factor: f64,
    /// When the last of them was heard of; [`Nanos::MAX`] where there is no table to fade to.
    pub at: Nanos,
}

/// Per batch size of the tables.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Correction(
    /// None where nothing of that size has run.
    pub [Option<Measured>; TABLE_BATCHES.len()],
);

/// The corrections of every (model, device) that anything has run on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Estimates {
    /// By model and device.
    pub corrections: BTreeMap<(u32, u32), Correction>,
    /// The time of the last snapshot; 0 before the first.
    pub now: Nanos,
}

/// The batch size of the tables that speaks for `rows`.
fn bucket(rows: u32) -> usize {
    TABLE_BATCHES.iter().position(|batch| *batch >= rows).unwrap_or(TABLE_BATCHES.len() - 1)
}

fn uncorrected(world: &World, model: u32, device: u32, rows: u32, cuts: (u32, u32)) -> f64 {
    match world.costs().stage_nanos(model, device, rows, cuts.0, cuts.1) {
        Some(nanos) => nanos.max(1) as f64,
        None => guess_nanos(rows),
    }
}

/// The time of a whole model of which nothing is known.
pub(crate) fn guess_nanos(rows: u32) -> f64 {
    GUESS_ROW_NANOS * (1.0 - GUESS_SLOPE + GUESS_SLOPE * f64::from(rows))
}

/// The host's own correction as a factor.
pub(crate) fn sane(slowdown: f32) -> f64 {
    if slowdown.is_finite() && slowdown > 0.0 { f64::from(slowdown) } else { 1.0 }
}

impl Correction {
    /// The measurements for a batch size: its own, else those of the nearest size with any.
    fn nearest(&self, at: usize) -> Option<Measured> {
        let distance = |known: &usize| known.abs_diff(at);
        (0..self.0.len()).filter(|known| self.0[*known].is_some()).min_by_key(distance).and_then(|known| self.0[known])
    }

    /// The factor for a batch size as it counts now: what has not run for a while fades to what has.
    fn factor(&self, at: usize, now: Nanos) -> Option<f64> {
        let nearest = self.nearest(at)?;
        let newest = self.0.iter().flatten().copied().max_by_key(|known| known.at).unwrap_or(nearest);
        if newest.at == nearest.at {
            return Some(nearest.factor(now));
        }
        let now_is = newest.factor(now);
        Some(now_is + (nearest.factor - now_is) * nearest.weight(now))
    }
}

impl Measured {
    /// How much of it still counts: from 1 when fresh towards 0.
    fn weight(&self, now: Nanos) -> f64 {
        let stale = now.saturating_sub(self.at).saturating_sub(FRESH);
        1.0 / (1.0 + stale as f64 / FRESH as f64)
    }

    /// The factor as it counts now.
    fn factor(&self, now: Nanos) -> f64 {
        1.0 + (self.factor - 1.0) * self.weight(now)
    }
}

impl Estimates {
    /// The time is `now`. Measurements of another run, whose clock was ahead, count from here.
    pub fn begin(&mut self, now: Nanos) {
        if self.now == 0 || now < self.now {
            let all = self.corrections.values_mut().flat_map(|known| known.0.iter_mut().flatten());
            all.filter(|known| known.at != Nanos::MAX).for_each(|known| known.at = known.at.min(now));
        }
        self.now = now;
    }

    /// Predicted time of `rows` rows of the whole model on a device; `slowdown` is the host's own correction, used while
    /// there is none here.
    pub fn nanos(&self, world: &World, model: &ModelInfo, device: u32, slowdown: f32, rows: u32) -> Nanos {
        let learned = self.corrections.get(&(model.id, device)).and_then(|known| known.factor(bucket(rows), self.now));
        let factor = learned.unwrap_or_else(|| sane(slowdown));
        (uncorrected(world, model.id, device, rows, (0, model.last_cut())) * factor) as Nanos
    }

    /// Measured over predicted for each batch size of the tables, as `nanos` takes it.
    pub fn factors(&self, model: u32, device: u32, slowdown: f32) -> [f64; TABLE_BATCHES.len()] {
        let known = self.corrections.get(&(model, device));
        std::array::from_fn(|at| known.and_then(|known| known.factor(at, self.now)).unwrap_or_else(|| sane(slowdown)))
    }

    /// Takes in one execution of a whole model on one device.
    pub fn learn(&mut self, world: &World, outcome: &Outcome) {
        let (&[nanos], &[device]) = (&outcome.stage_nanos[..], &outcome.stage_devices[..]) else { return };
        let Some(model) = world.model(outcome.model) else { return };
        if outcome.failed == 0 {
            self.learn_stage(world, model.id, device, (0, model.last_cut()), outcome.rows, nanos);
        }
    }

    /// Takes in one stage. Only those of this host teach: elsewhere rows of others may have been in the same execution.
    /// A short head teaches little: what each execution costs besides its layers weighs more in it than in the whole.
    pub fn learn_stage(&mut self, world: &World, model: u32, device: u32, cuts: (u32, u32), rows: u32, nanos: Nanos) {
        if rows == 0 || nanos == 0 || !world.local_devices(model).contains(&device) {
            return;
        }
        let predicted = uncorrected(world, model, device, rows, cuts);
        let measured = (nanos as f64 / predicted).clamp(CORRECTION_RANGE.0, CORRECTION_RANGE.1);
        let last = world.model(model).map_or(cuts.1, ModelInfo::last_cut);
        let part = (predicted / uncorrected(world, model, device, rows, (0, last))).min(1.0);
        let is_tabled = world.costs().stage_nanos(model, device, rows, cuts.0, cuts.1).is_some();
        let now = self.now;
        let known = &mut self.corrections.entry((model, device)).or_default().0[bucket(rows)];
        // What has faded, or is the table's, gives way sooner.
        let (believed, weight) = known.map_or((1.0, 0.0), |known| (known.factor(now), known.weight(now)));
        let newest = (1.0 - (1.0 - NEWEST) * weight) * part;
        let (measured, at) = match is_tabled {
            true => (measured.clamp(believed / STEP_MAX, believed * STEP_MAX), now),
            false => (measured, Nanos::MAX),
        };
        *known = Some(Measured { factor: believed + newest * (measured - believed), at });
    }

    /// A table of `world` is about to become another: what was learned on top of its predecessor is void, or on top of the
    /// guess where it is the first. The same one again changes nothing.
    pub fn table_changes(&mut self, world: &World, table: &Table) {
        if table.kind != TableKind::StageNanos {
            return;
        }
        match world.costs().table(table.model, table.device, table.codec, table.kind) {
            Some(known) if known.values == table.values => {}
            Some(_) => _ = self.corrections.remove(&(table.model, table.device)),
            None => {
                if let Some(known) = self.corrections.get_mut(&(table.model, table.device)) {
                    known.0.iter_mut().for_each(|size| *size = size.filter(|known| known.at != Nanos::MAX));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bps_policy_sdk::testing::{outcome, stage_table, world};

    fn known() -> World {
        let mut known = World::default();
        known.replace(world(&[(1, "m")], 1));
        known.insert(stage_table(1, 1, &[100.0, 120.0, 160.0, 240.0, 400.0, 720.0]));
        known
    }

    fn predict(estimates: &Estimates, world: &World, rows: u32) -> Nanos {
        let Some(model) = world.model(1) else { panic!("one model") };
        estimates.nanos(world, model, 1, 2.0, rows)
    }

    #[test]
    fn measurements_take_the_place_of_the_hosts_slowdown() {
        let (world, mut estimates) = (known(), Estimates::default());
        assert_eq!(predict(&estimates, &world, 1), 200, "the host says it is twice as slow");
        estimates.learn(&world, &outcome(1, 1, 1, 300));
        assert_eq!(predict(&estimates, &world, 1), 300);
        assert_eq!(predict(&estimates, &world, 32), 2160, "the nearest size with a measurement speaks for the others");
        estimates.learn(&world, &outcome(1, 1, 32, 720));
        assert_eq!(predict(&estimates, &world, 32), 720);
    }

    #[test]
    fn one_slow_execution_is_not_believed_and_what_is_not_used_fades() {
        let (world, mut estimates) = (known(), Estimates::default());
        estimates.learn(&world, &outcome(1, 1, 1, 10_000));
        assert_eq!(predict(&estimates, &world, 1), 300, "three times the table's, not a hundred times");
        (0..20).for_each(|_| estimates.learn(&world, &outcome(1, 1, 1, 10_000)));
        assert!(predict(&estimates, &world, 1) > 4_500, "but twenty of them are");
        let slow = predict(&estimates, &world, 1);
        estimates.now += FRESH;
        assert_eq!(predict(&estimates, &world, 1), slow);
        estimates.now += 4 * FRESH;
        assert!(predict(&estimates, &world, 1) < slow / 4);
        estimates.learn(&world, &outcome(1, 1, 1, 100));
        assert!(predict(&estimates, &world, 1) < slow / 8, "and gives way at once");
    }

    #[test]
    fn a_short_head_says_little_of_the_whole() {
        let (mut world, mut estimates) = (World::default(), Estimates::default());
        let mut info = bps_policy_sdk::testing::world(&[(1, "m")], 1);
        info.models[0].cut_count = 3;
        world.replace(info);
        let mut table = stage_table(1, 1, &[]);
        (table.shape, table.values) = (vec![1, 3], vec![0.0, 10.0, 1000.0]);
        world.insert(table);
        estimates.learn_stage(&world, 1, 1, (0, 1), 1, 500);
        assert_eq!(predict(&estimates, &world, 1), 1_020, "2 % of the whole move it by 2 % of what they say");
    }

    #[test]
    fn without_a_table_the_first_batch_teaches() {
        let mut world = known();
        world.replace(bps_policy_sdk::testing::world(&[(1, "m")], 2));
        let mut estimates = Estimates::default();
        estimates.learn(&world, &outcome(1, 2, 4, 8_000_000));
        let Some(model) = world.model(1) else { panic!("one model") };
        assert_eq!(estimates.nanos(&world, model, 2, 1.0, 4), 8_000_000);
    }

    #[test]
    fn a_first_table_ends_what_was_learned_of_the_guess() {
        let mut world = known();
        world.replace(bps_policy_sdk::testing::world(&[(1, "m")], 2));
        let mut estimates = Estimates::default();
        estimates.learn(&world, &outcome(1, 2, 1, 8_000_000));
        let table = stage_table(1, 2, &[100.0, 120.0, 160.0, 240.0, 400.0, 720.0]);
        estimates.table_changes(&world, &table);
        world.insert(table.clone());
        let Some(model) = world.model(1) else { panic!("one model") };
        assert_eq!(estimates.nanos(&world, model, 2, 1.0, 1), 100);
        estimates.learn(&world, &outcome(1, 2, 1, 200));
        estimates.table_changes(&world, &table);
        assert_eq!(estimates.nanos(&world, model, 2, 1.0, 1), 200, "the same one again changes nothing");
        estimates.table_changes(&world, &stage_table(1, 2, &[50.0, 60.0, 80.0, 120.0, 200.0, 360.0]));
        assert_eq!(estimates.nanos(&world, model, 2, 1.0, 1), 100, "another one does");
    }

    #[test]
    fn what_another_run_measured_fades_by_this_ones_clock() {
        let (world, mut estimates) = (known(), Estimates::default());
        estimates.begin(1_000 * FRESH);
        (0..9).for_each(|_| estimates.learn(&world, &outcome(1, 1, 1, 300)));
        let mut restored = Estimates { now: 0, ..estimates };
        restored.begin(FRESH);
        assert_eq!(predict(&restored, &world, 1), 300);
        restored.begin(3 * FRESH);
        assert_eq!(predict(&restored, &world, 1), 200, "half of what it was above the table");
    }

    #[test]
    fn a_batch_size_that_does_not_run_follows_those_that_do() {
        let (world, mut estimates) = (known(), Estimates::default());
        estimates.begin(FRESH);
        (0..30).for_each(|_| estimates.learn(&world, &outcome(1, 1, 1, 300)));
        estimates.begin(3 * FRESH);
        (0..30).for_each(|_| estimates.learn(&world, &outcome(1, 1, 32, 7_200)));
        // 32 rows take tenfold their table's; half of one row's threefold has faded to that.
        let factors = estimates.factors(1, 1, 1.0);
        assert!((factors[0] - 6.5).abs() < 0.1, "{factors:?}");
    }

    #[test]
    fn failures_and_splits_teach_nothing() {
        let (world, mut estimates) = (known(), Estimates::default());
        let mut failed = outcome(1, 1, 1, 999);
        failed.failed = 1;
        estimates.learn(&world, &failed);
        let mut split = outcome(1, 1, 1, 999);
        split.stage_nanos.push(1);
        split.stage_devices.push(1);
        estimates.learn(&world, &split);
        assert_eq!(estimates, Estimates::default());
    }
}
