//! What the way to another host costs: echoes of activations on loopback, over each carrier and over bare TCP with TLS; or how
//! much of an emulated link's rate each carrier uses.

mod goodput;

use crate::config;
use crate::latency::{median, micros_text};
use crate::link::LinkChoice;
use crate::output::Output;
use crate::progress;
use crate::table::Table;
use anyhow::{Context, Result};
use bps_transport::CarrierChoice;
use bps_transport::bench::{Echoes, echo_link, echo_raw_tls};
use serde::Serialize;
use std::time::Duration;

/// The floor that carriers are compared with.
const BARE: &str = "bare TCP with TLS";
/// What TCP should stay below, of the floor.
const TCP_AIM: f64 = 1.3;

/// What is measured in each round.
#[derive(Clone, Copy)]
enum Way {
    Bare,
    Over(CarrierChoice),
}

const WAYS: [(&str, Way, Option<f64>); 3] = [
    (BARE, Way::Bare, None),
    ("tcp", Way::Over(CarrierChoice::Tcp), Some(TCP_AIM)),
    ("quic", Way::Over(CarrierChoice::Quic), None),
];

#[derive(Debug, Serialize)]
struct Report {
    bytes: usize,
    echoes: u32,
    rounds: u32,
    ways: Vec<Figure>,
}

/// One way, medians over rounds.
#[derive(Debug, Serialize)]
struct Figure {
    name: &'static str,
    p50_us: f64,
    p95_us: f64,
    /// Of the round trip over bare TCP with TLS, within rounds: the median, the least and the most.
    over_bare: [f64; 3],
    /// Processor seconds of both ends for 10^9 bytes; none where the system does not tell.
    processor_seconds_per_gb: Option<f64>,
    aim: Option<f64>,
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct LinkBenchArgs {
    /// Of an activation, each way.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1..=64_000_000))]
    bytes: u32,
    /// Echoes per round and way, one after the other.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    echoes: u32,
    /// Rounds in which the ways take turns [default: 9; with --over 3].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: Option<u32>,
    /// No echoes, but how much of an emulated link's rate activations get one way: RATE/RTT or RATE/RTT/LOSS, as in
    /// 100Mbit/40ms/1%.
    #[arg(long, value_name = "LINK", conflicts_with = "echoes")]
    over: Option<LinkChoice>,
    /// With --over, time of each measurement; the same again goes before it.
    #[arg(long, value_name = "SPAN", default_value = "3s", value_parser = config::span_not_zero, requires = "over")]
    span: Duration,
}

/// Measures in rounds and shows the medians.
pub(super) async fn run(args: &LinkBenchArgs, out: Output) -> Result<()> {
    match args.over {
        Some(link) => goodput::run(link, args.bytes as usize, args.rounds.unwrap_or(3), args.span, out).await,
        None => echo(args.bytes as usize, args.echoes, args.rounds.unwrap_or(9), out).await,
    }
}

async fn echo(bytes: usize, echoes: u32, rounds: u32, out: Output) -> Result<()> {
    let bar = progress::bar(u64::from(rounds) * WAYS.len() as u64, "echoing");
    let mut measured: Vec<Vec<Echoes>> = vec![Vec::new(); WAYS.len()];
    for _ in 0..rounds {
        for ((name, way, _), list) in WAYS.iter().zip(&mut measured) {
            let count = echoes as usize;
            let result = match way {
                Way::Bare => echo_raw_tls(bytes, count).await,
                Way::Over(carrier) => echo_link(*carrier, bytes, count).await,
            };
            list.push(result.with_context(|| format!("no figure for {name}"))?);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    out.emit(&Report { bytes, echoes, rounds, ways: figures(&measured) }, text)
}

fn figures(measured: &[Vec<Echoes>]) -> Vec<Figure> {
    let micros = |echoes: &Echoes, share| echoes.quantile(share).as_secs_f64() * 1e6;
    let middle = |values: Vec<f64>| median(&values).unwrap_or(0.0);
    let one = |((name, _, aim), list): (&(&'static str, Way, Option<f64>), &Vec<Echoes>)| {
        let of_bare = |(echoes, bare): (&Echoes, &Echoes)| micros(echoes, 0.5) / micros(bare, 0.5).max(1e-3);
        let ratios: Vec<f64> = list.iter().zip(&measured[0]).map(of_bare).collect();
        let (least, most) = ratios.iter().fold((f64::MAX, 0.0), |(a, b): (f64, f64), r| (a.min(*r), b.max(*r)));
        let spent: Vec<f64> = list.iter().filter_map(Echoes::processor_seconds_per_gigabyte).collect();
        Figure {
            name,
            p50_us: middle(list.iter().map(|e| micros(e, 0.5)).collect()),
            p95_us: middle(list.iter().map(|e| micros(e, 0.95)).collect()),
            over_bare: [middle(ratios), least, most],
            processor_seconds_per_gb: median(&spent),
            aim: *aim,
        }
    };
    WAYS.iter().zip(measured).map(one).collect()
}

fn text(report: &Report) -> String {
    let mut table = Table::new(&["way", ">p50", ">p95", ">of bare", ">least", ">most", ">CPU s/GB", "aim"]);
    for figure in &report.ways {
        let [middle, least, most] = figure.over_bare.map(|ratio| format!("{ratio:.2}x"));
        table.row([
            figure.name.to_owned(),
            micros_text(figure.p50_us),
            micros_text(figure.p95_us),
            middle,
            least,
            most,
            figure.processor_seconds_per_gb.map_or_else(|| "-".into(), |s| format!("{s:.2}")),
            figure.aim.map(|aim| format!("<= {aim}x")).unwrap_or_default(),
        ]);
    }
    format!(
        "{table}\n{} rounds of {} echoes of {} bytes each way on loopback, both ends in this process; medians; ratios within \
         rounds\n",
        report.rounds, report.echoes, report.bytes
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn ratios_are_taken_within_rounds() {
        let echo = |micros: u64, seconds: f64| Echoes {
            bytes: 500,
            round_trips: vec![Duration::from_micros(micros); 1_000],
            processor_seconds: Some(seconds),
        };
        // The machine halves its speed in the second round: ratios do not move.
        let measured = [
            vec![echo(100, 1.0), echo(200, 2.0), echo(100, 1.0)],
            vec![echo(120, 1.0), echo(240, 2.0), echo(120, 1.0)],
            vec![echo(500, 4.0); 3],
        ];
        let figures = figures(&measured);
        let hundredths = |figure: &Figure| figure.over_bare.map(|ratio| (ratio * 100.0).round());
        assert_eq!(hundredths(&figures[1]), [120.0; 3]);
        assert_eq!(hundredths(&figures[2]), [500.0, 250.0, 500.0]);
        assert_eq!((figures[0].p50_us, figures[0].processor_seconds_per_gb), (100.0, Some(1_000.0)));
        let shown = text(&Report { bytes: 500, echoes: 1_000, rounds: 3, ways: figures });
        assert!(shown.contains("1.20x") && shown.contains("<= 1.3x"), "{shown}");
    }
}
