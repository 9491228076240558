//! What a package says, for people and machines.

use super::report::{Choice, POINTS, coarsest, codecs, curves};
use super::svg::{self, Heights, Line};
use crate::table::{self, Table};
use bps_codec::ff::{Curve, CutPackage, Origin, Package, Rival};
use serde::Serialize;

/// A package.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    /// SHA-256 of the model it belongs to, hex.
    model: String,
    cuts: Vec<ShownCut>,
}

#[derive(Debug, Serialize)]
struct ShownCut {
    name: String,
    /// Channels, height, width.
    shape: Option<[usize; 3]>,
    /// Where its figures are from.
    origin: &'static str,
    rows: u32,
    /// FF-H, and FF-C where there is that.
    codecs: Vec<ShownCodec>,
    /// Codecs that need no calibration, where they were measured.
    rivals: Vec<ShownCodec>,
}

#[derive(Debug, Serialize)]
struct ShownCodec {
    codec: &'static str,
    /// The coarsest rates that lose at most 0.1, 0.5 and 1 point; of FF's codecs.
    at_loss: [Option<Choice>; 3],
    rates: Vec<Rate>,
}

#[derive(Debug, Serialize)]
struct Rate {
    rate: u8,
    mode: &'static str,
    bits: f32,
    bits_p95: f32,
    nmse: f32,
    output_nmse: Option<f32>,
    /// Share of accuracy: measured, and its 95 % interval.
    loss: Option<[f32; 3]>,
}

impl Shown {
    /// The best mode of each rate.
    pub(super) fn of(package: &Package) -> Self {
        Self { model: bps_types::hex(package.model()), cuts: package.cuts().iter().map(cut).collect() }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = format!("model {}\n\n{}", self.model, self.summary());
        text += "bits of an element at the coarsest rate up to which at most so many points were lost\n";
        for cut in &self.cuts {
            let shape = cut.shape.map(|s| format!("{s:?}")).unwrap_or_default();
            text += &format!("\n{} {shape}, {} of {} rows\n", table::clean(&cut.name), cut.origin, cut.rows);
            let headings =
                ["codec", ">rate", "mode", ">bits", ">95 %", ">NMSE", ">output NMSE", ">loss", "95 % interval"];
            let mut table = Table::new(&headings);
            for (codec, rate) in
                cut.codecs.iter().chain(&cut.rivals).flat_map(|of| of.rates.iter().map(move |rate| (of.codec, rate)))
            {
                let points = |share: f32| format!("{:.2}", share * 100.0);
                table.row([
                    codec.to_owned(),
                    rate.rate.to_string(),
                    rate.mode.to_owned(),
                    format!("{:.3}", rate.bits),
                    format!("{:.3}", rate.bits_p95),
                    format!("{:.1e}", rate.nmse),
                    rate.output_nmse.map_or_else(|| "-".into(), |e| format!("{e:.1e}")),
                    rate.loss.map_or_else(|| "-".into(), |l| points(l[0])),
                    rate.loss.map_or_else(String::new, |l| format!("{} to {}", points(l[1]), points(l[2]))),
                ]);
            }
            text += &table.to_string();
        }
        text + "\nbits: of an element, with contexts and rANS; NMSE: of the values; loss: points of accuracy, hosts count with \
                its upper end, where there is none with the greatest of the NMSE and what they assume of the codec.\nA rate without output NMSE was not measured: it has the loss of the next coarser one that \
                was, the coarsest ones that of the last.\n"
    }

    /// A line for each cut and codec of FF.
    fn summary(&self) -> Table {
        let mut table = Table::new(&["value", "codec", ">bits at 0.1", ">0.5", ">1"]);
        for (cut, of) in self.cuts.iter().flat_map(|cut| cut.codecs.iter().map(move |of| (cut, of))) {
            let [a, b, c] = of.at_loss.map(|choice| choice.map_or_else(|| "-".into(), Choice::text));
            table.row([table::clean(&cut.name), of.codec.to_owned(), a, b, c]);
        }
        table
    }

    /// Bits over the error of the outputs (of the values, where no outputs were measured), a line for each cut: of FF-C
    /// where there is that, else of FF-H.
    pub(super) fn svg(&self) -> String {
        let measured = self.cuts.iter().flat_map(ShownCut::fewest).any(|rate| rate.output_nmse.is_some());
        let line = |cut: &ShownCut| {
            let error = |rate: &Rate| if measured { rate.output_nmse } else { Some(rate.nmse) };
            let point = |rate: &Rate| Some((f64::from(rate.bits), f64::from(error(rate)?)));
            Line { name: cut.name.clone(), points: cut.fewest().iter().filter_map(point).collect(), stands_out: false }
        };
        let lines: Vec<Line> = self.cuts.iter().map(line).collect();
        let what =
            if measured { "relative squared error of the outputs" } else { "relative squared error of the values" };
        svg::plot(&lines, Heights::Logarithmic, "bits per element", what)
    }
}

impl ShownCut {
    /// The rates of the codec with the fewest bits: FF-C's where there is that.
    fn fewest(&self) -> &[Rate] {
        self.codecs.last().map_or(&[], |codec| &codec.rates)
    }
}

fn cut(cut: &CutPackage) -> ShownCut {
    let (origin, rows) = match cut.origin() {
        Origin::DataFree => ("without calibration", 0),
        Origin::Calibrated { rows } => ("calibrated with data", rows),
        Origin::MadeUp { rows } => ("made-up inputs", rows),
    };
    let shown = |(codec, package)| {
        let curves = curves(package);
        let at_loss = POINTS.map(|points| coarsest(&curves, points / 100.0));
        let rates = curves.into_iter().map(|(mode, q, curve)| rate(mode.name(), q, &curve)).collect();
        ShownCodec { codec, at_loss, rates }
    };
    ShownCut {
        name: cut.name().to_owned(),
        shape: cut.row_shape(),
        origin,
        rows,
        codecs: codecs(cut).map(shown).collect(),
        rivals: rivals(cut.rivals()),
    }
}

/// By codec, rates from fine to coarse.
fn rivals(list: &[Rival]) -> Vec<ShownCodec> {
    let name = |rival: &Rival| bps_codec::spec(rival.codec).map_or("?", |spec| spec.name);
    let of = |some: &[Rival]| ShownCodec {
        codec: some.first().map_or("?", name),
        at_loss: [None; 3],
        rates: some.iter().map(|rival| rate("", rival.rate, &rival.curve)).collect(),
    };
    list.chunk_by(|a, b| a.codec == b.codec).map(of).collect()
}

fn rate(mode: &'static str, q: u8, curve: &Curve) -> Rate {
    Rate {
        rate: q,
        mode,
        bits: curve.bits_mean,
        bits_p95: curve.bits_p95,
        nmse: curve.nmse,
        output_nmse: curve.output_nmse,
        loss: curve.loss.map(|loss| [loss.mean, loss.low, loss.high]),
    }
}
