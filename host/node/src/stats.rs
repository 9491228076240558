//! Counts and times of one model version, as Triton's statistics extension names them.

use crate::{BatchStats, DurationStat, InferenceStats, ModelStats};
use bps_types::Nanos;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// Batch sizes told apart; larger ones are counted with the largest. A model's batch-max is at most this.
const BATCH_SIZES_MAX: u32 = 1_024;

/// The counters.
#[derive(Default)]
pub(crate) struct Stats(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    last_inference_ms: u64,
    inference_count: u64,
    execution_count: u64,
    times: InferenceStats,
    batches: BTreeMap<u32, DurationStat>,
}

/// Where the time of an answered request went.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    /// Decoding and arranging its input, before the scheduler knew of it.
    pub(crate) prepare: Nanos,
    pub(crate) wait: Nanos,
    pub(crate) compute: Nanos,
    /// The whole, preparation included.
    pub(crate) total: Nanos,
}

impl Stats {
    pub(crate) fn answered(&self, rows: u64, spent: Spent) {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut counts = self.0.lock();
        counts.last_inference_ms = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
        counts.inference_count += rows;
        let times = &mut counts.times;
        add(&mut times.success, spent.total);
        add(&mut times.queue, spent.wait);
        add(&mut times.compute_input, spent.prepare);
        add(&mut times.compute_infer, spent.compute);
        // What is left is the way back, so that the parts add up to the whole.
        add(&mut times.compute_output, spent.total - spent.prepare - spent.wait - spent.compute);
    }

    pub(crate) fn not_answered(&self, total: Nanos) {
        add(&mut self.0.lock().times.fail, total);
    }

    pub(crate) fn executed(&self, rows: u32, elapsed: Nanos) {
        let mut counts = self.0.lock();
        counts.execution_count += 1;
        add(counts.batches.entry(rows.min(BATCH_SIZES_MAX)).or_default(), elapsed);
    }

    pub(crate) fn view(&self, name: &str, version: &str) -> ModelStats {
        let counts = self.0.lock();
        let batch = |(rows, infer): (&u32, &DurationStat)| BatchStats {
            batch_size: u64::from(*rows),
            compute_infer: *infer,
            compute_input: DurationStat { count: infer.count, ns: 0 },
            compute_output: DurationStat { count: infer.count, ns: 0 },
        };
        ModelStats {
            name: name.to_owned(),
            version: version.to_owned(),
            last_inference: counts.last_inference_ms,
            inference_count: counts.inference_count,
            execution_count: counts.execution_count,
            inference_stats: counts.times,
            batch_stats: counts.batches.iter().map(batch).collect(),
        }
    }
}

fn add(stat: &mut DurationStat, time: Nanos) {
    stat.count += 1;
    stat.ns = stat.ns.saturating_add(time.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_to_the_whole() {
        let stats = Stats::default();
        let spent = Spent { prepare: Nanos(5), wait: Nanos(10), compute: Nanos(20), total: Nanos(50) };
        stats.answered(3, spent);
        stats.not_answered(Nanos(7));
        stats.executed(8, Nanos(20));
        let view = stats.view("m", "1");
        let times = view.inference_stats;
        let parts = times.queue.ns + times.compute_input.ns + times.compute_infer.ns + times.compute_output.ns;
        assert_eq!((parts, times.success.ns, times.fail.ns), (50, 50, 7));
        assert_eq!((view.inference_count, view.execution_count, view.batch_stats[0].batch_size), (3, 1, 8));
    }
}
