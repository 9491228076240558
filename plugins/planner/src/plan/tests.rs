use super::*;
use crate::testing::{Network, Speed, tables, world};
use crate::{Codecs, lanes};

const BUDGET_PPM: u32 = 1_000;

/// A plan for a weak host, a strong one whose batch of `TABLE_BATCHES[n]` rows takes `there[n]` milliseconds, and a link.
fn plan(there: [f32; TABLE_BATCHES.len()], mbit: f64) -> Plan {
    let (network, mut known) = (Network::resnet18(), World::default());
    known.replace(world(&network, 1, BUDGET_PPM));
    let speed = Speed { first: 1_600e6, more: 1_600e6 };
    for mut table in tables(&network, &[speed, speed]) {
        if table.kind == bps_policy_sdk::TableKind::StageNanos && table.device == 2 {
            let row = |millis: f32| network.done.iter().map(move |done| *done as f32 * millis * 1e6);
            table.values = there.into_iter().flat_map(row).collect();
        }
        known.insert(table);
    }
    let model = known.info().models[0].clone();
    let speed = mbit / 8e3;
    let inputs = Inputs { devices: vec![(1, 1.0), (2, 1.0)], links: vec![(1, speed, speed, 1e6)] };
    let whole = lanes(&known, &model, Codecs::Allowed).into_iter().filter(|lane| lane.class() != LaneClass::Split);
    Plan::make(&known, &whole.collect::<Vec<_>>(), &inputs, 32, 0)
}

/// The codec that carries most to the other host, and its share.
fn main_codec(plan: &Plan) -> (u8, f64) {
    let there = plan.lanes.iter().filter(|planned| planned.lane.class() == LaneClass::There);
    let main = there.max_by(|a, b| a.share.total_cmp(&b.share));
    main.map_or((u8::MAX, 0.0), |planned| (planned.lane.codec, planned.share))
}

#[test]
fn the_batch_counts_in_which_a_row_costs_least() {
    // What a processor showed: 86 ms alone, 138 ms for each of many.
    let plan = plan([86.0, 200.0, 500.0, 1_107.0, 2_215.0, 4_431.0], 1_000.0);
    assert!((1e9 / plan.rows_per_second() / 1e6 - 82.0).abs() < 3.0, "{} ms a row", 1e3 / plan.rows_per_second());
}

#[test]
fn a_link_that_is_nearly_full_is_spared() {
    // int8 takes 120 ms of 10 Mbit/s for each row, which a host that takes 125 ms would not notice; JPEG takes a tenth.
    let near = [125.0, 250.0, 500.0, 1_000.0, 2_000.0, 4_000.0];
    let (codec, share) = main_codec(&plan(near, 10.0));
    assert_eq!(codec, 6);
    assert!(share > 0.9, "{share}");
    // Where the link has room for it nothing is lost for nothing.
    let (codec, _) = main_codec(&plan(near, 1_000.0));
    assert_ne!(codec, 6);
}

#[test]
fn small_values_alone_take_the_place_of_a_mixture_that_fills_the_link() {
    // The other host takes 70 ms for each row: of int8 10 Mbit/s carry eight a second, JPEG all fourteen.
    let quick = [70.0, 140.0, 280.0, 560.0, 1_120.0, 2_240.0];
    let plan = plan(quick, 10.0);
    let (codec, share) = main_codec(&plan);
    assert!(codec == 6 && share > 0.9, "{codec}: {share}");
    assert!(plan.rows_per_second() > 13.0, "{}", plan.rows_per_second());
}
