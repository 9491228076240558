use super::*;
use bps_policy_planner::testing::{Cell, Net, Network, Speed, at_rest, rows, told};

fn cell(mbit: f64) -> Cell {
    let strong = Speed { first: 30e6, more: 20e6 };
    let (network, net) = (Network::resnet50(4), Net { mbit, rtt_ms: 1.0 });
    Cell { name: String::new(), network, speeds: [strong, strong], net }
}

#[test]
fn everything_goes_there_with_the_codec_asked_for() {
    // (config, accuracy budget in ppm, codec, rate)
    let cases = [
        ("", 5_000, 0, 0),
        (r#"{"codec":"jpeg","rate":75}"#, 5_000, 6, 75),
        (r#"{"codec":"jpeg","rate":50}"#, 5_000, 0, 0), // costs 9,000 ppm: raw instead
        (r#"{"codec":"jpeg"}"#, 5_000, 6, 75),          // the rate that answers first among those allowed
        (r#"{"codec":"auto"}"#, 5_000, 6, 75),
        (r#"{"codec":"int8"}"#, 5_000, 4, 0),
        (r#"{"codec":"no-such"}"#, 5_000, 0, 0),
        (r#"{"codec":"auto"}"#, 0, 1, 0),
    ];
    for (config, budget_ppm, codec, rate) in cases {
        let cell = cell(10.0);
        let decision = told::<RemoteOnly>(&cell, 1, budget_ppm, config).decide(&at_rest(&cell, 1, 1));
        let [row] = &decision.dispatches[..] else { panic!("{decision:?}") };
        assert_eq!((row.stages.len(), row.stages[0].device, row.why), (1, 2, WHY_THERE));
        assert_eq!((row.stages[0].codec, row.stages[0].rate), (codec, rate), "{config}");
    }
}

#[test]
fn it_stays_here_only_while_nobody_can_be_reached() {
    let cell = cell(100.0);
    let mut policy = told::<RemoteOnly>(&cell, 1, 0, "");
    let mut down = at_rest(&cell, 1, 3);
    down.links[0].up = false;
    assert_eq!(rows(&policy.decide(&down), 20), [(3, 20, 0)]);
    assert_eq!(policy.decide(&down).dispatches[0].why, WHY_HERE);
    let mut full = at_rest(&cell, 1, 3);
    full.devices[1].credits = 0;
    assert!(policy.decide(&full).dispatches.is_empty(), "full is not down");
}

#[test]
fn the_next_batch_waits_until_the_link_is_nearly_free() {
    let cell = cell(8.0);
    let mut now = at_rest(&cell, 1, 3);
    now.links[0].backlog_bytes = 1_000_000;
    let decision = told::<RemoteOnly>(&cell, 1, 0, "").decide(&now);
    assert!(decision.dispatches.is_empty());
    assert!(decision.wake_after.is_some_and(|after| (900_000_000..1_000_000_000).contains(&after)), "{decision:?}");
}

#[test]
fn configs_out_of_range_are_named() {
    for (config, word) in [(r#"{"batch_max":40}"#, "batch_max"), (r#"{"quality":75}"#, "quality")] {
        let Err(ConfigError::Invalid(reason)) = RemoteOnly::configure(config, 0) else { panic!("{config}") };
        assert!(reason.contains(word), "{reason}");
    }
}
