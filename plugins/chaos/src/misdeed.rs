//! The ways to misbehave.

use crate::policy::{Chaos, least_backlog};
use bps_policy_sdk::{Decision, DecisionBuilder, Dispatch, Join, Level, Selection, Snapshot, Stage, log};
use serde::Deserialize;
use std::hint::black_box;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// None: the head of each queue on the least busy device.
    LeastBacklog,
    /// None, and nothing else either: returns at once, for measuring a call.
    Empty,
    /// None: says back what it was told.
    Echo,
    /// None: here up to `cut`, the rest on another host, which it gets to as `codec` and `rate`; all of it here while no
    /// other host can be reached.
    Split,
    /// None, but that it knows no other way: here up to the first of `cuts`, then on the hosts of `way` in turn, each up to
    /// the next cut and the last to the end. All of it here while one of them takes no work; whether one reaches the next is
    /// not looked at.
    Chain,
    /// Never returns.
    Loop,
    /// Calls itself until the stack ends.
    Recursion,
    /// Panics.
    Unreachable,
    /// Takes all the memory there is.
    Memory,
    /// Good, after `us` microseconds.
    Slow,
    /// Rows of random numbers.
    Random,
    /// Ids that do not exist.
    OutOfRange,
    /// Each request twice.
    Duplicate,
    /// Empty decisions, however many wait.
    Never,
    /// Empty decisions with a wake-up, for ever.
    Defer,
    /// Good and empty decisions by turns.
    Oscillate,
    /// Good, and keeps 1 KiB of each call.
    Leak,
    /// Good, with a thousand log lines.
    LogFlood,
    /// Good, with one log line of 1 MiB.
    LogLine,
    /// A decision of a million rows.
    HugeDecision,
    /// Panics in `configure`.
    TrapConfigure,
    /// Refuses every configuration.
    Unsupported,
    /// Panics in `world-changed`.
    TrapWorld,
    /// Panics in `table-changed`.
    TrapTable,
    /// Panics in `observe`.
    TrapObserve,
    /// Panics in `save`.
    TrapSave,
    /// Refuses to save.
    RefuseSave,
    /// Saves `bytes` bytes.
    HugeSave,
    /// Panics in `restore`.
    TrapRestore,
}

pub(crate) fn decide(chaos: &mut Chaos, now: &Snapshot) -> Decision {
    let good = |chaos: &Chaos| least_backlog(&chaos.world, now, chaos.config.stages);
    match chaos.config.mode {
        Mode::Loop => spin(u64::MAX),
        Mode::Recursion => drop(black_box(recurse(now.now))),
        Mode::Unreachable => panic!("chaos in decide"),
        Mode::Memory => eat_memory(),
        Mode::Slow => spin(chaos.config.us),
        Mode::Leak => chaos.leaked.push(vec![chaos.decisions as u8; 1 << 10]),
        Mode::LogFlood => (0..1_000).for_each(|line| log(Level::Info, &format!("chaos line {line}"))),
        Mode::LogLine => log(Level::Info, &"chaos ".repeat((1 << 20) / 6)),
        Mode::Echo => return crate::echo::decide(now),
        Mode::Split => return crate::split::decide(&chaos.world, &chaos.config, now),
        Mode::Chain => return crate::chain::decide(&chaos.world, &chaos.config, now),
        Mode::Random => return random(chaos, now),
        Mode::OutOfRange => return rows(now, |queue| (queue ^ 0x8000_0000, Selection::Head(1), u32::MAX)),
        Mode::Duplicate => return duplicate(chaos, now),
        Mode::HugeDecision => return huge(),
        Mode::Never => return DecisionBuilder::new().finish(),
        Mode::Oscillate if chaos.decisions.is_multiple_of(2) => return DecisionBuilder::new().finish(),
        Mode::Defer => {
            let mut decision = DecisionBuilder::new();
            decision.wake_after(1);
            return decision.finish();
        }
        _ => {}
    }
    good(chaos)
}

/// Roughly so many microseconds of arithmetic; there is no clock.
fn spin(microseconds: u64) {
    let mut word = 1_u64;
    for _ in 0..microseconds {
        for _ in 0..200 {
            word = black_box(word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
}

fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 16]);
    if black_box(true) { recurse(frame[3].wrapping_add(1)).wrapping_add(frame[5]) } else { 0 }
}

fn eat_memory() {
    let mut eaten: Vec<Vec<u8>> = vec![];
    loop {
        eaten.push(black_box(Vec::with_capacity(1 << 20)));
    }
}

fn next(chaos: &mut Chaos) -> u64 {
    // xorshift64: its quality does not matter here, that it is the same everywhere does.
    chaos.random ^= chaos.random << 13;
    chaos.random ^= chaos.random >> 7;
    chaos.random ^= chaos.random << 17;
    chaos.random
}

fn random(chaos: &mut Chaos, now: &Snapshot) -> Decision {
    let mut decision = DecisionBuilder::new().finish();
    for _ in 0..next(chaos) % 8 {
        let pick = next(chaos);
        let queue = now.queues.get(pick as usize % 4).map_or(pick as u32, |queue| queue.id);
        let requests = match pick % 3 {
            0 => Selection::Head((pick >> 8) as u32 % 40),
            1 => Selection::These(now.ids.iter().take(pick as usize % 9).copied().collect()),
            _ => Selection::These((0..pick % 5).map(|_| next(chaos)).collect()),
        };
        let stages = (0..next(chaos) % 10).map(|_| {
            let word = next(chaos);
            Stage {
                device: word as u32 % 6,
                until_cut: (word >> 16) as u32 % 5,
                codec: (word >> 32) as u8 % 4,
                rate: 0,
            }
        });
        let stages = stages.collect();
        decision.dispatches.push(Dispatch { queue, requests, stages, micro_batch: 0, tag: pick, why: pick as u32 });
        decision.joins.push(Join { arrived: pick as u32, take_rows: (pick >> 7) as u32 });
        decision.shed.push(next(chaos));
    }
    decision.wake_after = Some(next(chaos));
    decision
}

fn duplicate(chaos: &Chaos, now: &Snapshot) -> Decision {
    let mut decision = least_backlog(&chaos.world, now, 1);
    let again = decision.dispatches.clone();
    for (row, queue) in decision.dispatches.iter_mut().zip(now.queues()) {
        row.requests = Selection::These(queue.head().flat_map(|request| [request.id, request.id]).collect());
    }
    decision.dispatches.extend(again);
    decision
}

/// One row for each queue.
fn rows(now: &Snapshot, row: impl Fn(u32) -> (u32, Selection, u32)) -> Decision {
    let mut decision = DecisionBuilder::new().finish();
    for queue in &now.queues {
        let (queue, requests, device) = row(queue.id);
        let stages = vec![Stage { device, until_cut: u32::MAX, codec: u8::MAX, rate: u8::MAX }];
        decision.dispatches.push(Dispatch { queue, requests, stages, micro_batch: 0, tag: 0, why: u32::MAX });
    }
    decision
}

fn huge() -> Decision {
    let mut decision = DecisionBuilder::new().finish();
    decision.shed = vec![1; 1_000_000];
    decision
}
