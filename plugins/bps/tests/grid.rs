//! `bps` against every other policy, in virtual time, over links and slow-downs.

use baselines::Baselines;
use batching::Batching;
use bps::Bps;
use bps_policy_planner::testing::{Bench, Cell, Load, Ran, grid, tables, world};
use bps_policy_planner::{Codecs, Inputs, Plan, lanes};
use bps_policy_sdk::World;
use data_parallel::DataParallel;
use pipelining::Pipelining;
use remote_only::RemoteOnly;
use surgeon::Surgeon;

const BUDGET_PPM: u32 = 1_000;

/// Rows a second that all lanes together can do at most: no policy can do more in the long run.
fn bound(cell: &Cell) -> f64 {
    let mut known = World::default();
    known.replace(world(&cell.network, 1, BUDGET_PPM));
    tables(&cell.network, &cell.speeds).into_iter().for_each(|table| known.insert(table));
    let model = known.info().models[0].clone();
    let speed = cell.net.mbit / 8e3;
    let inputs = Inputs { devices: vec![(1, 1.0), (2, 1.0)], links: vec![(1, speed, speed, cell.net.rtt_ms * 1e6)] };
    Plan::make(&known, &lanes(&known, &model, Codecs::Allowed), &inputs, 32, 0).rows_per_second()
}

type Runner = fn(&Cell, Load, u64) -> Ran;

fn others() -> Vec<(&'static str, Runner)> {
    vec![
        ("batching", |cell, load, span| Bench::<Batching>::new(cell, BUDGET_PPM, "").run(load, span)),
        ("surgeon", |cell, load, span| Bench::<Surgeon>::new(cell, BUDGET_PPM, "").run(load, span)),
        ("pipelining", |cell, load, span| Bench::<Pipelining>::new(cell, BUDGET_PPM, "").run(load, span)),
        ("data-parallel", |cell, load, span| Bench::<DataParallel>::new(cell, BUDGET_PPM, "").run(load, span)),
        ("remote-only", |cell, load, span| Bench::<RemoteOnly>::new(cell, BUDGET_PPM, "").run(load, span)),
        ("remote-only auto", |cell, load, span| {
            Bench::<RemoteOnly>::new(cell, BUDGET_PPM, r#"{"codec":"auto","batch_max":32}"#).run(load, span)
        }),
        ("neurosurgeon", |cell, load, span| Bench::<Baselines>::new(cell, BUDGET_PPM, "").run(load, span)),
        ("dads", |cell, load, span| Bench::<Baselines>::new(cell, BUDGET_PPM, r#"{"mode":"dads"}"#).run(load, span)),
        ("static", |cell, load, span| {
            Bench::<Baselines>::new(cell, BUDGET_PPM, r#"{"mode":"static"}"#).run(load, span)
        }),
        ("greedy", |cell, load, span| {
            Bench::<Baselines>::new(cell, BUDGET_PPM, r#"{"mode":"greedy"}"#).run(load, span)
        }),
        ("aimd", |cell, load, span| Bench::<Baselines>::new(cell, BUDGET_PPM, r#"{"mode":"aimd"}"#).run(load, span)),
    ]
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A half of the grid, so that it ends in seconds; `--ignored` runs it all.
fn some() -> Vec<Cell> {
    grid().into_iter().filter(|cell| [5.0, 25.0, 100.0, 1000.0].contains(&cell.net.mbit)).collect()
}

/// `floor`: what of the best other policy it must reach in each cell.
fn at_full_load(cells: &[Cell], floor: f64) {
    let (mut of_bound, mut of_best, mut losing) = (vec![], vec![], vec![]);
    for cell in cells {
        let bound = bound(cell);
        let (load, span) = (Load::Clients(64), (1_500.0 / bound * 1e9) as u64);
        let mine = Bench::<Bps>::new(cell, BUDGET_PPM, "").run(load, span);
        assert_eq!(mine.refused, Vec::<String>::new(), "{}", cell.name);
        let theirs = others().into_iter().map(|(name, run)| (run(cell, load, span).per_second, name));
        let Some((best, name)) = theirs.max_by(|a, b| a.0.total_cmp(&b.0)) else { panic!("there are others") };
        if mine.per_second < floor * best {
            losing.push(format!("{}: {:.2}, {name} {best:.2}", cell.name, mine.per_second));
        }
        of_bound.push(mine.per_second / bound);
        of_best.push(mine.per_second / best);
    }
    assert_eq!(losing, Vec::<String>::new());
    let median_of_bound = median(of_bound);
    assert!(median_of_bound >= 0.95, "median {median_of_bound:.3} of what all devices and links can do");
    assert!(median(of_best) >= 1.0, "in the median at least as good as the best of the others");
}

fn alone(cells: &[Cell]) {
    for cell in cells {
        let (load, span) = (Load::Clients(1), (300.0 / bound(cell) * 1e9) as u64);
        let mine = Bench::<Bps>::new(cell, BUDGET_PPM, "").run(load, span).latency_p50;
        let theirs = others().into_iter().map(|(name, run)| (run(cell, load, span).latency_p50, name));
        let Some((best, name)) = theirs.min_by(|a, b| a.0.total_cmp(&b.0)) else { panic!("there are others") };
        assert!(mine <= 1.05 * best, "{}: {:.1} ms, {name} {:.1} ms", cell.name, mine / 1e6, best / 1e6);
    }
}

#[test]
fn at_full_load_it_is_near_the_bound_and_no_worse_than_any() {
    at_full_load(&some(), 0.97);
}

#[test]
fn one_request_at_a_time_is_answered_as_quickly_as_by_any() {
    alone(&some());
}

#[test]
#[ignore = "a minute"]
fn the_whole_grid() {
    at_full_load(&grid(), 0.96);
    alone(&grid());
}
