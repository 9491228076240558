//! Decisions at the loads that matter, and a small simulation of saturation.

use super::*;
use bps_policy_sdk::Selection;
use bps_policy_sdk::testing::{device, outcome, snapshot, stage_table, world};

const MS: Nanos = 1_000_000;

/// Batch 32 costs five times batch 1.
const COSTS: [f32; 6] = [10e6, 11.3e6, 13.9e6, 19.0e6, 29.4e6, 50e6];

fn policy(config: &str, devices: u32) -> Batching {
    let mut policy = Batching::configure(config, 0).expect("valid");
    policy.world_changed(world(&[(1, "m"), (2, "n")], devices));
    for id in 1..=devices {
        policy.table_changed(stage_table(1, id, &COSTS));
    }
    policy
}

/// (requests, device, why) of each row.
fn rows(decision: &Decision) -> Vec<(u32, u32, u32)> {
    let count = |row: &bps_policy_sdk::Dispatch| match &row.requests {
        Selection::Head(count) => *count,
        Selection::These(ids) => ids.len() as u32,
    };
    decision.dispatches.iter().map(|row| (count(row), row.stages[0].device, row.why)).collect()
}

#[test]
fn at_low_load_a_request_goes_out_at_once() {
    let decision = policy("", 1).decide(&snapshot(&[(1, 1)], vec![device(1, 0, 2)]));
    assert_eq!(rows(&decision), [(1, 1, WHY_IDLE)]);
    assert_eq!(decision.wake_after, None);
}

#[test]
fn requests_gather_while_the_device_is_busy() {
    let decision = policy("", 1).decide(&snapshot(&[(1, 5)], vec![device(1, 8 * MS, 1)]));
    assert!(decision.dispatches.is_empty());
    assert_eq!(decision.wake_after, Some(8 * MS - 300_000), "just before the device is free");
}

#[test]
fn the_next_batch_is_handed_over_just_before_the_device_is_free() {
    let decision = policy("", 1).decide(&snapshot(&[(1, 5)], vec![device(1, 200_000, 1)]));
    assert_eq!(rows(&decision), [(5, 1, WHY_NEXT)]);
}

#[test]
fn a_full_batch_does_not_wait() {
    let decision = policy("", 1).decide(&snapshot(&[(1, 32)], vec![device(1, 8 * MS, 1)]));
    assert_eq!(rows(&decision), [(32, 1, WHY_FULL)]);
}

#[test]
fn idle_devices_share_a_queue() {
    let decision = policy("", 2).decide(&snapshot(&[(1, 9)], vec![device(1, 0, 2), device(2, 0, 2)]));
    assert_eq!(rows(&decision), [(5, 1, WHY_IDLE), (4, 2, WHY_IDLE)]);
}

#[test]
fn more_than_a_snapshot_shows_is_asked_for() {
    let decision = policy("", 2).decide(&snapshot(&[(1, 200)], vec![device(1, 0, 2), device(2, 0, 2)]));
    assert_eq!(rows(&decision), [(32, 1, WHY_IDLE)]);
    assert_eq!(decision.wake_after, Some(0));
}

#[test]
fn a_slow_device_helps_only_with_a_long_queue() {
    let mut policy = policy("", 2);
    policy.table_changed(stage_table(1, 2, &COSTS.map(|nanos| nanos * 8.0)));
    let devices = || vec![device(1, 0, 2), device(2, 0, 2)];
    assert_eq!(rows(&policy.decide(&snapshot(&[(1, 2)], devices()))).iter().map(|row| row.1).collect::<Vec<_>>(), [1]);
    let mut long = snapshot(&[(1, 32)], vec![device(1, 900 * MS, 0), device(2, 0, 2)]);
    long.queues[0].waiting = 400;
    assert!(rows(&policy.decide(&long)).iter().any(|row| row.1 == 2));
}

#[test]
fn a_burst_is_given_a_moment_and_no_more() {
    let mut now = snapshot(&[(1, 1)], vec![device(1, 0, 2)]);
    now.queues[0].arrivals_per_second = 2_000.0;
    let decision = policy("", 1).decide(&now);
    assert!(decision.dispatches.is_empty());
    assert_eq!(decision.wake_after, Some(MS), "a tenth of a one-row execution");
    now.queues[0].oldest_wait = MS;
    assert_eq!(rows(&policy("", 1).decide(&now)).len(), 1);
    assert_eq!(rows(&policy(r#"{"wait_share":0}"#, 1).decide(&now)).len(), 1);
}

#[test]
fn deadlines_bound_the_batch() {
    let mut now = snapshot(&[(1, 32)], vec![device(1, 0, 2)]);
    now.slacks = vec![34 * MS as i64; 32];
    let [(count, ..)] = rows(&policy("", 1).decide(&now))[..] else { panic!("one row") };
    assert_eq!(count, 16, "16 rows take 29.4 ms, 24 would take 40");
}

#[test]
fn what_was_observed_corrects_what_was_predicted() {
    let mut policy = policy("", 1);
    let mut now = snapshot(&[(1, 32)], vec![device(1, 0, 2)]);
    now.slacks = vec![34 * MS as i64; 32];
    policy.observe(&[outcome(1, 1, 16, 60 * MS)], 0);
    let [(count, ..)] = rows(&policy.decide(&now))[..] else { panic!("one row") };
    assert!(count < 16, "executions take twice as long as the table says: {count}");
}

#[test]
fn saved_state_makes_the_same_decisions() {
    let mut before = policy("", 1);
    before.observe(&[outcome(1, 1, 16, 60 * MS)], 0);
    let blob = before.save().expect("state");
    let origin = |schema: &str| Origin { name: "batching".into(), version: "0".into(), state_schema: schema.into() };
    let mut after = policy("", 1);
    assert_eq!(after.restore(&origin(STATE_SCHEMA), &blob), Ok(true));
    let mut now = snapshot(&[(1, 32)], vec![device(1, 0, 2)]);
    now.slacks = vec![34 * MS as i64; 32];
    assert_eq!(after.decide(&now), before.decide(&now));
    assert_eq!(after.restore(&origin("another"), &blob), Ok(false));
    assert!(after.restore(&origin(STATE_SCHEMA), b"{").is_err());
}

#[test]
fn aimd_starts_at_one_and_uses_only_idle_devices() {
    let mut policy = policy(r#"{"mode":"aimd"}"#, 1);
    let now = snapshot(&[(1, 8)], vec![device(1, 0, 2)]);
    assert_eq!(rows(&policy.decide(&now)), [(1, 1, WHY_AIMD)]);
    policy.observe(&[outcome(1, 1, 1, 10 * MS)], 0);
    assert_eq!(rows(&policy.decide(&now)), [(2, 1, WHY_AIMD)]);
    assert!(rows(&policy.decide(&snapshot(&[(1, 8)], vec![device(1, MS, 1)]))).is_empty());
}

/// Requests answered in a second of virtual time by one device with `clients` that each send again when answered.
fn answered_in_a_second(policy: &mut Batching, clients: u32) -> u32 {
    let (mut clock, mut waiting, mut answered) = (0, clients, 0);
    let mut running: Option<(Nanos, u32)> = None;
    let mut prefetched: Option<u32> = None;
    while clock < 1_000 * MS {
        let backlog = running.map_or(0, |(until, _)| until - clock);
        let busy = u32::from(running.is_some()) + u32::from(prefetched.is_some());
        let mut standing = device(1, backlog, 2 - busy);
        standing.running = busy;
        let decision = policy.decide(&snapshot(&[(1, waiting)], vec![standing]));
        for (count, ..) in rows(&decision) {
            waiting -= count;
            match running {
                None => running = Some((clock + cost(count), count)),
                Some(_) => prefetched = Some(count),
            }
        }
        let ends = running.map(|(until, _)| until);
        let wakes = decision.wake_after.map(|span| clock + span.max(1));
        clock = ends.into_iter().chain(wakes).min().unwrap_or(clock + MS);
        if let Some((until, count)) = running.filter(|(until, _)| *until <= clock) {
            (answered, waiting) = (answered + count, waiting + count);
            running = prefetched.take().map(|count| (until + cost(count), count));
        }
    }
    answered
}

fn cost(rows: u32) -> Nanos {
    let mut costs = bps_policy_sdk::Costs::default();
    costs.insert(stage_table(1, 1, &COSTS));
    costs.stage_nanos(1, 1, rows, 0, 1).expect("a table")
}

#[test]
fn saturation_gives_three_times_what_single_requests_would() {
    let one_by_one = (1_000 * MS / cost(1)) as u32;
    // (clients, least gain over one request at a time)
    for (clients, gain) in [(1, 0.9), (16, 3.0), (64, 5.5), (128, 6.0)] {
        let answered = answered_in_a_second(&mut policy("", 1), clients);
        assert!(f64::from(answered) >= gain * f64::from(one_by_one), "{clients} clients: {answered} of {one_by_one}");
    }
}
