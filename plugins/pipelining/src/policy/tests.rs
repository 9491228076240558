use super::*;
use bps_policy_planner::testing::{Cell, Net, Network, Speed, at_rest, rows, told};

fn cell(slower: f64, mbit: f64) -> Cell {
    let strong = Speed { first: 30e6, more: 20e6 };
    let (network, net) = (Network::resnet50(4), Net { mbit, rtt_ms: 1.0 });
    Cell { name: String::new(), network, speeds: [strong.slower(slower), strong], net }
}

#[test]
fn the_cut_balances_the_parts() {
    // (this host slower by, Mbit/s, least and most of the cut)
    for (slower, mbit, least, most) in
        [(1.0, 1_000.0, 8, 14), (3.0, 4_000.0, 4, 9), (16.0, 4_000.0, 0, 2), (1.0, 0.1, 20, 20)]
    {
        let cell = cell(slower, mbit);
        let decision = told::<Pipelining>(&cell, 1, 1_000, "").decide(&at_rest(&cell, 1, 4));
        let [(4, cut, _)] = rows(&decision, 20)[..] else { panic!("{decision:?}") };
        assert!((least..=most).contains(&cut), "{slower} x slower, {mbit} Mbit/s: cut {cut}");
    }
}

#[test]
fn pieces_are_micro_batches_and_depth_bounds_them() {
    let cell = cell(1.0, 1_000.0);
    let mut policy = told::<Pipelining>(&cell, 1, 1_000, r#"{"micro_batch":3,"depth":4}"#);
    let decision = policy.decide(&at_rest(&cell, 1, 32));
    let [row] = &decision.dispatches[..] else { panic!("{decision:?}") };
    assert_eq!((row.micro_batch, rows(&decision, 20)[0].0), (3, 12));
    let mut busy = at_rest(&cell, 1, 32);
    (busy.flight_tags, busy.flight_stages) = (vec![1; 4], vec![0; 4]);
    (busy.flight_devices, busy.flight_rows) = (vec![1; 4], vec![3; 4]);
    assert!(policy.decide(&busy).dispatches.is_empty());
}

#[test]
fn configs_out_of_range_are_named() {
    for (config, word) in [(r#"{"micro_batch":33}"#, "micro_batch"), (r#"{"depth":0}"#, "depth"), (r#"{"x":0}"#, "x")] {
        let Err(ConfigError::Invalid(reason)) = Pipelining::configure(config, 0) else { panic!("{config}") };
        assert!(reason.contains(word), "{reason}");
    }
}
