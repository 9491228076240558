//! What one decision costs.

use crate::latency::median;
use crate::output::Output;
use crate::progress;
use crate::table::{self, Table};
use anyhow::{Context, Result};
use bps_plugin::bench::{self, DecideFigure, DecideFigures};
use serde::Serialize;

#[derive(Debug, Serialize)]
struct Report {
    iterations: u32,
    rounds: u32,
    figures: Vec<Figure>,
    /// Median of the rounds' ratios, full decision through WebAssembly over the same compiled in.
    wasm_over_native: f64,
}

#[derive(Debug, Serialize)]
struct Figure {
    name: String,
    ns_p50: u64,
    ns_p99: u64,
    /// What it should stay below, where something was promised.
    aim: Option<&'static str>,
}

/// Measures in rounds and shows the medians.
pub(super) fn run(iterations: u32, rounds: u32, out: Output) -> Result<()> {
    let bar = progress::bar(rounds.into(), "deciding");
    let mut measured = Vec::new();
    for _ in 0..rounds {
        measured.push(bench::decide(iterations as usize).context("the policies could not be measured")?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let report =
        Report { iterations, rounds, figures: figures(&measured), wasm_over_native: ratio(&measured).unwrap_or(0.0) };
    out.emit(&report, text)
}

fn rows(figures: &DecideFigures) -> Vec<(&DecideFigure, Option<&'static str>)> {
    let fixed = [
        (&figures.empty, Some("p50 <= 1 µs")),
        (&figures.full, Some("p50 <= 6 µs, p99 <= 20 µs")),
        (&figures.native, None),
        (&figures.hosts, Some("p50 <= 50 µs, p99 <= 200 µs")),
    ];
    fixed.into_iter().chain(figures.policies.iter().map(|p| (p, None))).collect()
}

fn figures(measured: &[DecideFigures]) -> Vec<Figure> {
    let Some(first) = measured.first() else { return Vec::new() };
    let middle = |number: usize, of: fn(&DecideFigure) -> u64| {
        let all: Vec<f64> = measured.iter().filter_map(|m| rows(m).get(number).map(|(f, _)| of(f) as f64)).collect();
        median(&all).unwrap_or(0.0) as u64
    };
    let one = |(number, (figure, aim)): (usize, (&DecideFigure, Option<&'static str>))| Figure {
        name: figure.name.clone(),
        ns_p50: middle(number, |f| f.ns_p50),
        ns_p99: middle(number, |f| f.ns_p99),
        aim,
    };
    rows(first).into_iter().enumerate().map(one).collect()
}

fn ratio(measured: &[DecideFigures]) -> Option<f64> {
    let ratios: Vec<f64> = measured.iter().map(|m| m.full.ns_p50 as f64 / m.native.ns_p50.max(1) as f64).collect();
    median(&ratios)
}

fn text(report: &Report) -> String {
    let mut table = Table::new(&["decision", ">p50", ">p99", "aim"]);
    for figure in &report.figures {
        let aim = figure.aim.unwrap_or_default().to_owned();
        table.row([figure.name.clone(), table::nanos(figure.ns_p50), table::nanos(figure.ns_p99), aim]);
    }
    format!(
        "{table}\nmedians of {} rounds of {} decisions; 4 queues of 16 requests, 4 devices, 6 links, but for \"empty\"; on three\n\
         hosts 3 devices, 4 links, 125 cuts, 6 batch sizes and 6 codecs\n\
         WebAssembly over native: {:.1} times\n",
        report.rounds,
        table::count(report.iterations.into()),
        report.wasm_over_native
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_medians_over_rounds() {
        let round = |ns: u64| {
            let figure = |name: &str, ns| DecideFigure { name: name.into(), ns_p50: ns, ns_p99: 2 * ns };
            DecideFigures {
                iterations: 100,
                empty: figure("empty", ns),
                full: figure("full", ns * 10),
                native: figure("native", ns * 5),
                policies: vec![figure("batching", ns * 7)],
                hosts: figure("three hosts", ns * 6),
            }
        };
        let measured = [round(300), round(100), round(200)];
        let figures = figures(&measured);
        let p50: Vec<u64> = figures.iter().map(|f| f.ns_p50).collect();
        assert_eq!(p50, [200, 2_000, 1_000, 1_200, 1_400]);
        assert_eq!((figures[4].ns_p99, figures[4].name.as_str()), (2_800, "batching"));
        assert_eq!(ratio(&measured), Some(2.0));
    }
}
