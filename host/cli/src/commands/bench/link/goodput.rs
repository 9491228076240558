//! How much of a link's rate activations get, by carrier.

use crate::latency::median;
use crate::link::LinkChoice;
use crate::output::Output;
use crate::progress;
use crate::table::Table;
use anyhow::{Context, Result};
use bps_emulator::{Proxy, ProxyConditions};
use bps_transport::CarrierChoice;
use bps_transport::bench::goodput;
use serde::Serialize;
use std::time::Duration;

/// The emulated link drops datagrams only: in a stream it is the sender's kernel that repeats what is lost.
const CARRIERS: [(&str, CarrierChoice, bool); 2] =
    [("quic", CarrierChoice::Quic, true), ("tcp", CarrierChoice::Tcp, false)];

#[derive(Debug, Serialize)]
struct Report {
    link: LinkChoice,
    bytes: usize,
    rounds: u32,
    span_s: f64,
    carriers: Vec<Figure>,
}

/// One carrier, medians over rounds.
#[derive(Debug, Serialize)]
struct Figure {
    name: &'static str,
    megabits_per_second: f64,
    /// Of the link's rate; none where that has no limit.
    share: Option<f64>,
}

/// Measures in rounds and shows the medians. Carriers that this link cannot judge are left out.
pub(super) async fn run(link: LinkChoice, bytes: usize, rounds: u32, span: Duration, out: Output) -> Result<()> {
    let carriers: Vec<_> = CARRIERS.into_iter().filter(|(_, _, meets_loss)| *meets_loss || link.loss == 0.0).collect();
    let bar = progress::bar(u64::from(rounds) * carriers.len() as u64, "sending");
    let mut measured: Vec<Vec<f64>> = vec![Vec::new(); carriers.len()];
    for _ in 0..rounds {
        for ((name, carrier, _), list) in carriers.iter().zip(&mut measured) {
            let mut proxy = None;
            let through = |target| {
                let proxy = proxy.insert(Proxy::start(target)?);
                proxy.set(ProxyConditions { link: link.conditions(), ..ProxyConditions::default() });
                Ok(proxy.address())
            };
            let bytes_per_second = goodput(*carrier, bytes, span, through).await;
            list.push(bytes_per_second.with_context(|| format!("no figure for {name}"))? * 8e-6);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let figure = |((name, ..), list): (&(&'static str, _, _), &Vec<f64>)| {
        let megabits_per_second = median(list).unwrap_or(0.0);
        Figure { name, megabits_per_second, share: link.rate.map(|rate| megabits_per_second * 1e6 / rate) }
    };
    let carriers = carriers.iter().zip(&measured).map(figure).collect();
    out.emit(&Report { link, bytes, rounds, span_s: span.as_secs_f64(), carriers }, text)
}

fn text(report: &Report) -> String {
    let mut table = Table::new(&["carrier", ">Mbit/s", ">of the rate"]);
    for figure in &report.carriers {
        table.row([
            figure.name.to_owned(),
            format!("{:.1}", figure.megabits_per_second),
            figure.share.map_or_else(|| "-".into(), |share| format!("{:.0} %", share * 100.0)),
        ]);
    }
    let lossy =
        if report.link.loss > 0.0 { "; TCP cannot be judged on an emulated link that loses packets" } else { "" };
    format!(
        "{table}\nactivations of {} bytes one way over {}, {} rounds of {} s, medians{lossy}\n",
        report.bytes,
        report.link.text(),
        report.rounds,
        report.span_s
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lossy_link_says_why_there_is_no_tcp() {
        let link: LinkChoice = "100Mbit/40ms/1%".parse().unwrap();
        let carriers = vec![Figure { name: "quic", megabits_per_second: 76.04, share: Some(0.7604) }];
        let shown = text(&Report { link, bytes: 200_000, rounds: 3, span_s: 3.0, carriers });
        for part in ["76.0", "76 %", "100 Mbit/s, rtt 40 ms, 1 % lost", "TCP cannot be judged"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }
}
