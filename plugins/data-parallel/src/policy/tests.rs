use super::*;
use bps_policy_planner::testing::{Bench, Cell, Load, Net, Network, Speed, at_rest, rows, told};

fn cell(slower: f64, mbit: f64) -> Cell {
    let strong = Speed { first: 30e6, more: 20e6 };
    let (network, net) = (Network::resnet50(4), Net { mbit, rtt_ms: 1.0 });
    Cell { name: String::new(), network, speeds: [strong.slower(slower), strong], net }
}

#[test]
fn shares_follow_the_speed_of_the_way() {
    // (this host slower by, Mbit/s, least and most of the dispatches that stay here)
    for (slower, mbit, least, most) in [(1.0, 1_000.0, 0.4, 0.6), (4.0, 1_000.0, 0.1, 0.3), (1.0, 1.0, 0.9, 1.0)] {
        let ran = Bench::<DataParallel>::new(&cell(slower, mbit), 0, "").run(Load::Clients(64), 60_000_000_000);
        let all: u32 = ran.cuts.values().sum();
        let here = f64::from(ran.cuts.get(&20).copied().unwrap_or(0)) / f64::from(all);
        assert!((least..=most).contains(&here), "{slower} x slower, {mbit} Mbit/s: {here:.2} stay");
        assert_eq!(ran.refused, Vec::<String>::new());
    }
}

#[test]
fn nothing_is_ever_cut() {
    let cell = cell(4.0, 100.0);
    let decision = told::<DataParallel>(&cell, 1, 1_000, "").decide(&at_rest(&cell, 1, 64));
    assert!(rows(&decision, 20).iter().all(|(_, cut, _)| [0, 20].contains(cut)), "{decision:?}");
    assert!(decision.dispatches.iter().all(|row| row.stages.len() == 1) && decision.dispatches.len() > 1);
}

#[test]
fn a_host_that_is_down_gets_nothing() {
    let cell = cell(16.0, 1_000.0);
    let mut now = at_rest(&cell, 1, 9);
    now.devices[1].up = false;
    let decision = told::<DataParallel>(&cell, 1, 0, "").decide(&now);
    assert!(rows(&decision, 20).iter().all(|row| row.1 == 20) && !decision.dispatches.is_empty());
}

#[test]
fn a_batch_size_out_of_range_is_named() {
    let Err(ConfigError::Invalid(reason)) = DataParallel::configure(r#"{"batch_max": 0}"#, 0) else {
        panic!("accepted")
    };
    assert!(reason.starts_with("batch_max"), "{reason}");
}
