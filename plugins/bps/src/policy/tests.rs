//! Decisions over link speeds and slow-downs, and what must hold of any of them.

use super::*;
use bps_policy_planner::testing::{Cell, LOCAL, MODEL, Net, Network, REMOTE, Speed, at_rest, rows, told};
use bps_policy_sdk::testing::outcome;
use bps_policy_sdk::{Arrived, Selection, Trigger};

const BUDGET_PPM: u32 = 1_000;

fn cell(slower: f64, mbit: f64, rtt_ms: f64) -> Cell {
    let strong = Speed { first: 30e6, more: 20e6 };
    Cell {
        name: String::new(),
        network: Network::resnet50(4),
        speeds: [strong.slower(slower), strong],
        net: Net { mbit, rtt_ms },
    }
}

fn last_cut(cell: &Cell) -> u32 {
    cell.network.cut_bytes.len() as u32 - 1
}

/// Where one request alone goes: the cut at which it leaves this host.
fn cut_of_one(cell: &Cell, budget_ppm: u32) -> u32 {
    let decision = told::<Bps>(cell, 1, budget_ppm, "").decide(&at_rest(cell, 1, 1));
    let [(1, cut, _)] = rows(&decision, last_cut(cell))[..] else { panic!("{decision:?}") };
    cut
}

#[test]
fn one_request_goes_where_it_is_answered_first() {
    // (this host slower by, Mbit/s, round trip in ms, accuracy budget in ppm, here / there)
    let cases = [
        (1.0, 1_000.0, 1.0, BUDGET_PPM, "here"),
        (1.0, 10.0, 20.0, BUDGET_PPM, "here"),
        (4.0, 1.0, 1.0, BUDGET_PPM, "here"),
        (4.0, 100.0, 1.0, BUDGET_PPM, "there"),
        (16.0, 10.0, 20.0, BUDGET_PPM, "there"),
        (16.0, 1_000.0, 1.0, 0, "there"),
        (4.0, 25.0, 20.0, 0, "here"), // nothing lossy is allowed, and raw takes too long
    ];
    for (slower, mbit, rtt_ms, budget_ppm, expected) in cases {
        let cell = cell(slower, mbit, rtt_ms);
        let place = match cut_of_one(&cell, budget_ppm) {
            0 => "there",
            cut if cut == last_cut(&cell) => "here",
            _ => "split",
        };
        assert_eq!(place, expected, "{slower} x slower, {mbit} Mbit/s, {rtt_ms} ms, {budget_ppm} ppm");
    }
}

#[test]
fn a_slower_link_is_never_sent_more() {
    for slower in [1.0, 4.0, 16.0] {
        let mut before = 0.0;
        for mbit in [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 4_000.0] {
            let cell = cell(slower, mbit, 5.0);
            let decision = told::<Bps>(&cell, 1, BUDGET_PPM, "").decide(&at_rest(&cell, 1, 1));
            let tag = Tag::unpack(decision.dispatches[0].tag).expect("its own");
            assert!(tag.bytes >= before * 0.99, "{slower} x slower, {mbit} Mbit/s: {} after {before}", tag.bytes);
            before = tag.bytes;
        }
    }
}

#[test]
fn a_long_line_keeps_both_hosts_busy() {
    let cell = cell(4.0, 100.0, 1.0);
    let decision = told::<Bps>(&cell, 1, BUDGET_PPM, "").decide(&at_rest(&cell, 1, 200));
    let places: Vec<u32> = rows(&decision, last_cut(&cell)).iter().map(|row| row.1).collect();
    assert!(places.contains(&0) && places.contains(&last_cut(&cell)), "{places:?}");
}

#[test]
fn every_host_that_helps_is_used() {
    let cell = cell(16.0, 1_000.0, 1.0);
    let decision = told::<Bps>(&cell, 2, BUDGET_PPM, "").decide(&at_rest(&cell, 2, 32));
    let tails: Vec<u32> = decision.dispatches.iter().filter_map(|row| row.stages.last()).map(|s| s.device).collect();
    assert!(tails.contains(&REMOTE) && tails.contains(&(REMOTE + 1)), "{tails:?}");
}

#[test]
fn a_link_that_is_down_or_silent_is_not_waited_for() {
    let cell = cell(16.0, 1_000.0, 1.0);
    type Spoil = fn(&mut Snapshot);
    let cases: [(&str, Spoil); 5] = [
        ("down", |now| now.links[0].up = false),
        ("no way back", |now| now.links[1].up = false),
        ("silent", |now| now.links[0].age = 2_000_000_000),
        ("the device is silent", |now| now.devices[1].age = 2_000_000_000),
        ("no speed", |now| now.links[0].bytes_per_second = f32::NAN),
    ];
    for (what, spoil) in cases {
        let mut policy = told::<Bps>(&cell, 1, BUDGET_PPM, "");
        assert_eq!(
            rows(&policy.decide(&at_rest(&cell, 1, 1)), last_cut(&cell))[0].1,
            0,
            "the link is used while it is up"
        );
        let mut now = at_rest(&cell, 1, 1);
        spoil(&mut now);
        let there: Vec<_> = rows(&policy.decide(&now), last_cut(&cell));
        assert_eq!(there.iter().map(|row| row.1).collect::<Vec<_>>(), [last_cut(&cell)], "{what}");
    }
}

#[test]
fn a_few_rows_wait_for_others_and_never_for_ever() {
    let cell = cell(4.0, 1_000.0, 20.0);
    let mut policy = told::<Bps>(&cell, 1, BUDGET_PPM, "");
    let mut now = at_rest(&cell, 1, 2);
    // Nothing here can answer, nothing more comes although much did: only the clock asks again.
    now.devices[0].up = false;
    now.queues[0].arrivals_per_second = 20_000.0;
    let first = policy.decide(&now);
    assert!(first.dispatches.is_empty(), "{first:?}");
    let pause = first.wake_after.unwrap();
    // The device there takes four dispatches in the 36 ms that each is on its way.
    assert!((1..=10_000_000).contains(&pause), "{pause}");
    now.now += pause;
    now.queues[0].oldest_wait = pause;
    now.waits.iter_mut().for_each(|wait| *wait = pause);
    assert_eq!(policy.decide(&now).dispatches.len(), 1);
}

/// A network whose rows take 0.13 ms alone, and 0.05 ms more in a batch, on the other host.
fn quick_cell(slower: f64, rtt_ms: f64) -> Cell {
    let strong = Speed { first: 130e3, more: 50e3 };
    let net = Net { mbit: 200.0, rtt_ms };
    Cell { name: String::new(), network: Network::digits(), speeds: [strong.slower(slower), strong], net }
}

#[test]
fn messages_leave_no_quicker_than_places_come_back() {
    let cell = quick_cell(16.0, 20.0);
    let mut policy = told::<Bps>(&cell, 1, BUDGET_PPM, "");
    let mut now = at_rest(&cell, 1, 2);
    (now.devices[0].up, now.devices[1].credits) = (false, 4);
    // Four places for about 21 ms each: one every 5 ms, in which 6 rows come.
    now.queues[0].arrivals_per_second = 1_200.0;
    let pause = policy.decide(&now).wake_after.unwrap();
    assert!((4_000_000..6_000_000).contains(&pause), "{pause}");
    // In which hardly one comes.
    now.queues[0].arrivals_per_second = 100.0;
    assert_eq!(policy.decide(&now).dispatches.len(), 1);
}

#[test]
fn messages_are_even_where_the_way_is_long() {
    let cell = quick_cell(16.0, 5.0);
    // (waiting, time to each deadline in ms or 0, rows of the dispatches; 32 are seen)
    let cases: [(u32, i64, &[u32]); 4] =
        [(5, 0, &[5]), (20, 0, &[8, 8, 4]), (32, 50, &[8, 8, 8, 8]), (64, 0, &[16, 12, 4])];
    for (waiting, deadline_ms, expected) in cases {
        let mut policy = told::<Bps>(&cell, 1, BUDGET_PPM, "");
        let mut now = at_rest(&cell, 1, waiting);
        (now.devices[0].up, now.devices[1].credits) = (false, 4);
        if deadline_ms > 0 {
            now.slacks.iter_mut().for_each(|slack| *slack = deadline_ms * 1_000_000);
        }
        let found: Vec<u32> = rows(&policy.decide(&now), last_cut(&cell)).iter().map(|row| row.0).collect();
        assert_eq!(found, expected, "{waiting} wait");
    }
}

#[test]
fn constraints_are_kept_and_hold_up_nobody_else() {
    let cell = cell(16.0, 100.0, 1.0);
    let mut now = at_rest(&cell, 1, 4);
    (now.constraints, now.devices[0].credits) = (vec![1, 0, 2, 0], 0);
    let decision = told::<Bps>(&cell, 1, BUDGET_PPM, "").decide(&now);
    for row in &decision.dispatches {
        let Selection::These(ids) = &row.requests else { panic!("the first in line stays: {row:?}") };
        assert!(!ids.contains(&now.ids[0]), "it must stay on this host, which has no room");
        let lossy = row.stages.iter().any(|stage| stage.codec > 1);
        assert!(!lossy || !ids.contains(&now.ids[2]), "{row:?}");
    }
    assert!(!decision.dispatches.is_empty());
}

#[test]
fn what_failed_once_is_answered_here() {
    let cell = cell(16.0, 1_000.0, 1.0);
    let mut now = at_rest(&cell, 1, 1);
    now.attempts = vec![1];
    let decision = told::<Bps>(&cell, 1, BUDGET_PPM, "").decide(&now);
    assert_eq!(rows(&decision, last_cut(&cell)), [(1, last_cut(&cell), 0)]);
}

#[test]
fn another_cut_must_gain_a_tenth() {
    // (Mbit/s it was first decided at, then, whether the lane changes)
    for (before, after, changes) in [(100.0, 104.0, false), (100.0, 1.0, true)] {
        let first = cell(4.0, before, 1.0);
        let mut policy = told::<Bps>(&first, 1, BUDGET_PPM, "");
        let one = policy.decide(&at_rest(&first, 1, 1));
        let mut later = at_rest(&cell(4.0, after, 1.0), 1, 1);
        later.now += 1_000_000_000;
        let two = policy.decide(&later);
        assert_eq!(one.dispatches[0].stages != two.dispatches[0].stages, changes, "{before} to {after} Mbit/s");
    }
}

#[test]
fn a_device_that_nobody_measured_is_tried_with_one_request() {
    let cell = cell(1.0, 100.0, 1.0);
    let mut policy = told::<Bps>(&cell, 1, BUDGET_PPM, "");
    let pessimistic = Speed { first: 9e9, more: 9e9 };
    for mut table in bps_policy_planner::testing::tables(&cell.network, &[cell.speeds[0], pessimistic]) {
        table.measured = table.device != REMOTE;
        policy.table_changed(table);
    }
    let busy = || {
        let mut now = at_rest(&cell, 1, 3);
        (now.devices[0].running, now.devices[0].credits, now.devices[0].backlog) = (1, 1, 500_000_000);
        now
    };
    let decision = policy.decide(&busy());
    let there: Vec<_> = decision.dispatches.iter().filter(|row| row.stages[0].device != LOCAL).collect();
    assert_eq!(there.iter().map(|row| row.why).collect::<Vec<_>>(), [why::PROBE]);
    let mut known = busy();
    known.devices[1].slowdown = 0.9;
    assert!(
        policy.decide(&known).dispatches.iter().all(|row| row.stages[0].device == LOCAL),
        "its times are known now"
    );
}

#[test]
fn alone_it_decides_as_batching_does() {
    let info = || bps_policy_sdk::testing::world(&[(1, "m"), (2, "n")], 2);
    let table = |device| bps_policy_sdk::testing::stage_table(1, device, &[10e6, 11.3e6, 13.9e6, 19.0e6, 29.4e6, 50e6]);
    let mut mine = Bps::configure("", 1).expect("valid");
    let mut theirs = batching::Batching::configure("", 1).expect("valid");
    mine.world_changed(info());
    theirs.world_changed(info());
    for device in [1, 2] {
        mine.table_changed(table(device));
        theirs.table_changed(table(device));
    }
    for (waiting, backlog) in [(1, 0), (9, 0), (32, 5_000_000), (200, 100_000)] {
        let devices = [1, 2].map(|id| bps_policy_sdk::testing::device(id, backlog, 1)).to_vec();
        let now = bps_policy_sdk::testing::snapshot(&[(1, waiting), (2, 3)], devices);
        assert_eq!(mine.decide(&now), theirs.decide(&now), "{waiting} waiting behind {backlog}");
        mine.observe(&[outcome(1, 1, 8, 25_000_000)], 0);
        theirs.observe(&[outcome(1, 1, 8, 25_000_000)], 0);
    }
    let origin =
        |name: &str, schema: &str| Origin { name: name.into(), version: "0".into(), state_schema: schema.into() };
    let blob = theirs.save().expect("state");
    assert_eq!(mine.restore(&origin("batching", STATE_SCHEMA), &blob), Ok(true), "it takes over what batching learned");
    assert_eq!(mine.restore(&origin("other", "other-1"), &blob), Ok(false));
    assert!(mine.restore(&origin("bps", memory::SCHEMA), b"{").is_err());
}

#[test]
fn what_arrived_from_other_hosts_is_joined_first() {
    let cell = cell(1.0, 100.0, 1.0);
    let mut now = at_rest(&cell, 1, 9);
    let (id, model, from_cut, until_cut, device) = (7, MODEL, 0, last_cut(&cell), LOCAL);
    let (waiting_rows, oldest_wait, least_slack) = (40, 0, 0);
    now.arrived = vec![Arrived { id, model, from_cut, until_cut, device, waiting_rows, oldest_wait, least_slack }];
    let decision = told::<Bps>(&cell, 1, BUDGET_PPM, "").decide(&now);
    // A row of more costs this device as much.
    assert_eq!(decision.joins.iter().map(|join| join.take_rows).collect::<Vec<_>>(), [8]);
    assert!(decision.dispatches.iter().all(|row| row.stages[0].device != LOCAL), "the device is busy with them");
}

#[test]
fn a_saved_and_restored_policy_decides_the_same() {
    let steps = |policy: &mut Bps, from: u32| -> Vec<Decision> {
        let step = |at: u32| {
            let cell = cell(4.0, 20.0 + f64::from(at * 37 % 100), 1.0);
            let mut now = at_rest(&cell, 1, 1 + at * 13 % 60);
            (now.now, now.trigger) = (u64::from(at) * 30_000_000, Trigger::Arrival);
            now.devices[0].slowdown = 1.0 + (at % 5) as f32 * 0.2;
            now
        };
        (from..from + 40).map(|at| policy.decide(&step(at))).collect()
    };
    let fresh = || told::<Bps>(&cell(4.0, 100.0, 1.0), 1, BUDGET_PPM, "");
    let (mut before, mut twin) = (fresh(), fresh());
    assert_eq!(steps(&mut before, 0), steps(&mut twin, 0), "the same calls give the same decisions");
    before.observe(&[outcome(MODEL, LOCAL, 8, 900_000_000)], 0);
    let blob = before.save().expect("state");
    let mut after = fresh();
    let origin = Origin { name: "bps".into(), version: "0".into(), state_schema: memory::SCHEMA.into() };
    assert_eq!(after.restore(&origin, &blob), Ok(true));
    assert_eq!(steps(&mut after, 40), steps(&mut before, 40));
}

#[test]
fn decisions_are_quick_with_large_tables_on_three_hosts() {
    let cell = Cell { network: Network::resnet50(28), ..cell(4.0, 100.0, 5.0) };
    let mut policy = told::<Bps>(&cell, 2, BUDGET_PPM, "");
    let now = at_rest(&cell, 2, 64);
    policy.decide(&now);
    let mut times = vec![];
    for _ in 0..1_000 {
        let begun = std::time::Instant::now();
        assert!(!policy.decide(&now).dispatches.is_empty());
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    // Figures to read (`--nocapture`), not to hold: machines differ.
    eprintln!("a decision with 115 cuts on three hosts: quickest {:?}, p50 {:?}", times[0], times[500]);
}
