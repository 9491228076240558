use super::*;
use bps_policy_planner::testing::{Bench, Load, grid, tables, world};
use bps_policy_planner::*;

#[test]
fn bench_grid() {
    let span = 20_000_000_000;
    for cell in grid().iter().filter(|c| c.net.rtt_ms == 1.0) {
        let mut w = World::default();
        w.replace(world(&cell.network, 1, 1_000));
        tables(&cell.network, &cell.speeds).into_iter().for_each(|t| w.insert(t));
        let all = lanes(&w, w.model(1).unwrap(), Codecs::Allowed);
        let n = all.len();
        let f = frontier(all);
        let b = cell.net.mbit / 8e3;
        let inputs = Inputs { devices: vec![(1, 1.0), (2, 1.0)], links: vec![(1, b, b, cell.net.rtt_ms * 1e6)] };
        let plan = Plan::make(&w, &f, &inputs, 32, 0);
        let mix: Vec<_> = plan.lanes.iter().filter(|l| l.share > 0.0).map(|l| format!("{:?}@{} c{} {:.2}", l.lane.class(), l.lane.cut, l.lane.codec, l.share)).collect();
        println!("== {} LP {:.2}/s lanes {n} frontier {} short {} {mix:?}", cell.name, plan.rows_per_second(), f.len(), plan.lanes.len());
        for clients in [64, 200] {
            let ran = Bench::<Bps>::new(cell, 1_000, "").run(Load::Clients(clients), span);
            let here = Bench::<Bps>::new(cell, 1_000, r#"{"splits":false}"#).run(Load::Clients(clients), span);
            println!("  {clients:3} | {:8.2}/s ({:.2}) p50 {:8.1} ms p95 {:8.1} | nosplit {:8.2}/s p50 {:8.1} | {:?} refused {} {:?}", ran.per_second, ran.per_second/plan.rows_per_second(), ran.latency_p50 / 1e6, ran.latency_p95/1e6, here.per_second, here.latency_p50/1e6, ran.cuts, ran.refused.len(), ran.refused.first());
        }
    }
}
