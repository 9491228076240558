use super::*;
use bps_policy_planner::testing::{Cell, Net, Network, Speed, at_rest, rows, told};
use bps_policy_sdk::testing::outcome;

fn cell(slower: f64, mbit: f64) -> Cell {
    let strong = Speed { first: 30e6, more: 20e6 };
    let (network, net) = (Network::resnet50(4), Net { mbit, rtt_ms: 1.0 });
    Cell { name: String::new(), network, speeds: [strong.slower(slower), strong], net }
}

fn policy(cell: &Cell, mode: &str) -> Baselines {
    told(cell, 1, 1_000, &format!(r#"{{"mode":"{mode}"}}"#))
}

fn busy(now: &mut Snapshot) {
    (now.flight_tags, now.flight_stages) = (vec![1], vec![0]);
    (now.flight_devices, now.flight_rows) = (vec![1], vec![1]);
}

#[test]
fn neurosurgeon_is_sequential_and_uncompressed() {
    let cell = cell(16.0, 1_000.0);
    let mut policy = policy(&cell, "neurosurgeon");
    assert_eq!(rows(&policy.decide(&at_rest(&cell, 1, 9)), 20), [(1, 0, 0)]);
    let mut now = at_rest(&cell, 1, 9);
    busy(&mut now);
    assert!(policy.decide(&now).dispatches.is_empty());
}

#[test]
fn dads_changes_its_cut_with_the_load() {
    let cell = cell(1.5, 1_000.0);
    let mut policy = policy(&cell, "dads");
    let light = rows(&policy.decide(&at_rest(&cell, 1, 1)), 20);
    let heavy = rows(&policy.decide(&at_rest(&cell, 1, 9)), 20);
    assert_eq!(light.len(), 1);
    assert!((1..20).contains(&heavy[0].1) && heavy[0].1 != light[0].1, "{light:?} then {heavy:?}");
    assert!(heavy.iter().all(|(count, _, codec)| (*count, *codec) == (1, 0)), "one by one, uncompressed: {heavy:?}");
}

#[test]
fn static_never_changes_its_mind() {
    let before = cell(4.0, 100.0);
    let mut policy = policy(&before, "static");
    let first = policy.decide(&at_rest(&before, 1, 32));
    let after = cell(4.0, 1.0);
    assert_eq!(policy.decide(&at_rest(&after, 1, 32)).dispatches, first.dispatches, "a link a hundred times slower");
    let mut down = at_rest(&before, 1, 32);
    down.links[0].up = false;
    assert!(policy.decide(&down).dispatches.iter().all(|row| row.stages[0].device == 1 && row.stages.len() == 1));
}

#[test]
fn greedy_goes_where_the_busiest_part_is_least_busy() {
    let cell = cell(1.0, 1_000.0);
    let mut now = at_rest(&cell, 1, 8);
    (now.devices[0].backlog, now.devices[0].running) = (900_000_000, 1);
    let decision = policy(&cell, "greedy").decide(&now);
    assert_eq!(rows(&decision, 20)[0].1, 0, "this host is busy: {decision:?}");
}

#[test]
fn aimd_grows_and_stays_here() {
    let cell = cell(16.0, 1_000.0);
    let mut policy = policy(&cell, "aimd");
    assert_eq!(rows(&policy.decide(&at_rest(&cell, 1, 8)), 20), [(1, 20, 0)]);
    policy.observe(&[outcome(1, 1, 1, 10_000_000)], 0);
    assert_eq!(rows(&policy.decide(&at_rest(&cell, 1, 8)), 20), [(2, 20, 0)]);
}

#[test]
fn modes_and_ranges_are_checked() {
    for (config, word) in
        [(r#"{"mode":"best"}"#, "best"), (r#"{"batch_max":0}"#, "batch_max"), (r#"{"latency_ms":0}"#, "latency_ms")]
    {
        let Err(ConfigError::Invalid(reason)) = Baselines::configure(config, 0) else { panic!("{config}") };
        assert!(reason.contains(word), "{reason}");
    }
}
