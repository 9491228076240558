use super::*;
use bps_policy_planner::testing::{Cell, Net, Network, Speed, at_rest, rows, told};

fn cell(slower: f64, mbit: f64) -> Cell {
    let strong = Speed { first: 30e6, more: 20e6 };
    let (network, net) = (Network::resnet50(4), Net { mbit, rtt_ms: 1.0 });
    Cell { name: String::new(), network, speeds: [strong.slower(slower), strong], net }
}

#[test]
fn the_cut_follows_link_and_slow_down() {
    let last = 20;
    // (this host slower by, Mbit/s, config, cut and codec)
    let cases = [
        (1.0, 1_000.0, "", (last, 0)),
        (4.0, 1.0, "", (last, 0)),
        (16.0, 1_000.0, "", (0, 4)),
        (16.0, 10.0, "", (0, 6)),
        (16.0, 10.0, r#"{"classic":true}"#, (last, 0)),
        (16.0, 1_000.0, r#"{"classic":true}"#, (0, 0)),
    ];
    for (slower, mbit, config, expected) in cases {
        let cell = cell(slower, mbit);
        let decision = told::<Surgeon>(&cell, 1, 1_000, config).decide(&at_rest(&cell, 1, 1));
        let [(1, cut, codec)] = rows(&decision, last)[..] else { panic!("{decision:?}") };
        assert_eq!((cut, codec), expected, "{slower} x slower, {mbit} Mbit/s, {config}");
    }
}

#[test]
fn classic_runs_one_at_a_time() {
    let cell = cell(4.0, 1_000.0);
    let mut policy = told::<Surgeon>(&cell, 1, 0, r#"{"classic":true}"#);
    assert_eq!(policy.decide(&at_rest(&cell, 1, 9)).dispatches.len(), 1);
    let mut busy = at_rest(&cell, 1, 9);
    (busy.flight_tags, busy.flight_stages) = (vec![1], vec![0]);
    (busy.flight_devices, busy.flight_rows) = (vec![1], vec![1]);
    assert!(policy.decide(&busy).dispatches.is_empty());
}

#[test]
fn queues_count_unless_it_is_classic() {
    let cell = cell(1.5, 1_000.0);
    let decision = told::<Surgeon>(&cell, 1, 0, "").decide(&at_rest(&cell, 1, 4));
    let cuts: Vec<u32> = rows(&decision, 20).iter().map(|row| row.1).collect();
    assert!(cuts.contains(&20) && cuts.iter().any(|cut| *cut < 20), "a busy host makes the other one better: {cuts:?}");
}

#[test]
fn configs_that_contradict_themselves_are_refused() {
    for (config, word) in
        [(r#"{"batch_max":0}"#, "batch_max"), (r#"{"classic":true,"batch_max":4}"#, "classic"), (r#"{"cut":3}"#, "cut")]
    {
        let Err(ConfigError::Invalid(reason) | ConfigError::Unsupported(reason)) = Surgeon::configure(config, 0) else {
            panic!("{config} was accepted")
        };
        assert!(reason.contains(word), "{config}: {reason}");
    }
}
