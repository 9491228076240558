//! What a calibration comes to, for people and machines.

use super::value::{Calibrated, Found};
use crate::table::{self, Table};
use bps_codec::ff::{Curve, CutPackage, Loss, Mode};
use serde::Serialize;
use std::path::PathBuf;

/// Points of accuracy at which the table looks.
pub(super) const POINTS: [f32; 3] = [0.1, 0.5, 1.0];

/// Everything.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) file: PathBuf,
    pub(super) bytes: usize,
    /// Where inputs are from.
    pub(super) source: String,
    /// Inputs that were used.
    pub(super) rows: usize,
    /// `labels`, `agreement` or `none`.
    pub(super) loss_by: &'static str,
    /// Nobody gave data.
    pub(super) made_up: bool,
    pub(super) values: Vec<ValueReport>,
    /// Values that FF does not take.
    pub(super) left_out: Vec<String>,
    /// The least loss that hosts count with, as a share of one: the upper end of an interval.
    pub(super) least_loss: Option<f32>,
}

/// One value.
#[derive(Debug, Serialize)]
pub(super) struct ValueReport {
    pub(super) name: String,
    pub(super) cut: usize,
    pub(super) elements: usize,
    /// Rows behind errors and losses.
    pub(super) rows: usize,
    /// FF-H, and FF-C where there is that.
    pub(super) codecs: Vec<CodecReport>,
    pub(super) int8_zstd: Rival,
}

/// One of FF's codecs at a value.
#[derive(Debug, Serialize)]
pub(super) struct CodecReport {
    pub(super) codec: &'static str,
    /// Modes whose steps follow sensitivity.
    pub(super) weighted: Vec<&'static str>,
    /// At 0.1, 0.5 and 1 point.
    pub(super) at_loss: [Option<Choice>; 3],
    /// Bits at int8-zstd's output error.
    pub(super) at_int8: Option<f32>,
    /// That is finer than FF's finest rate: half a bit was added for each halving of the error.
    pub(super) at_int8_guessed: bool,
}

/// The coarsest rate that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Choice {
    /// Of an element.
    pub(super) bits: f32,
    pub(super) rate: u8,
    pub(super) mode: &'static str,
    pub(super) output_nmse: Option<f32>,
}

impl Choice {
    /// Bits and rate.
    pub(super) fn text(self) -> String {
        format!("{:.2} (q{})", self.bits, self.rate)
    }
}

/// int8-zstd.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Rival {
    /// Of an element.
    pub(super) bits: f32,
    pub(super) output_nmse: f32,
    /// As a share of one.
    pub(super) loss: Option<f32>,
}

impl ValueReport {
    pub(super) fn of(value: &Calibrated) -> Self {
        let codec = |((codec, package), found): ((&'static str, &CutPackage), &Found)| CodecReport {
            codec,
            weighted: found.weighted.iter().map(|mode| mode.name()).collect(),
            at_loss: POINTS.map(|points| coarsest(&curves(package), points / 100.0)),
            at_int8: found.at_int8.map(|(bits, _)| bits),
            at_int8_guessed: found.at_int8.is_some_and(|(_, guessed)| guessed),
        };
        Self {
            name: value.place.name.clone(),
            cut: value.place.cut,
            elements: value.place.elements(),
            rows: value.rows,
            codecs: codecs(&value.package).zip(&value.found).map(codec).collect(),
            int8_zstd: Rival {
                bits: value.int8.bits,
                output_nmse: value.int8.output_nmse,
                loss: value.int8.loss.map(|loss| loss.mean),
            },
        }
    }
}

/// The codecs that a cut was calibrated for by size: FF-H, and FF-C where there is that.
pub(super) fn codecs(package: &CutPackage) -> impl Iterator<Item = (&'static str, &CutPackage)> {
    [("ff-h", Some(package)), ("ff-c", package.cancelling())].into_iter().filter_map(|(name, part)| Some((name, part?)))
}

/// The best mode of each rate, fine to coarse.
pub(super) fn curves(package: &CutPackage) -> Vec<(Mode, u8, Curve)> {
    let best = |(mode, q, _): &(Mode, u8, Curve)| package.best_mode(*q) == Some(*mode);
    let mut curves: Vec<_> = package.curves().filter(best).collect();
    curves.sort_by_key(|(_, q, _)| *q);
    curves
}

/// The coarsest rate at which, and at all finer ones, no more than this share is lost.
pub(super) fn coarsest(curves: &[(Mode, u8, Curve)], share: f32) -> Option<Choice> {
    let fits = |loss: Option<Loss>| loss.is_some_and(|loss| loss.mean <= share);
    let (mode, rate, curve) = curves.iter().take_while(|(_, _, curve)| fits(curve.loss)).last()?;
    Some(Choice { bits: curve.bits_mean, rate: *rate, mode: mode.name(), output_nmse: curve.output_nmse })
}

impl Report {
    /// For people.
    pub(super) fn text(&self) -> String {
        let mut headings = vec![">cut", "value", ">elements", "codec", "weighted"];
        let judged = self.loss_by != "none";
        if judged {
            headings.extend([">bits at 0.1", ">0.5", ">1", "mode"]);
        }
        headings.extend([">int8-zstd", ">its loss", ">its error", ">FF at that"]);
        let mut table = Table::new(&headings);
        let lines = self.values.iter().flat_map(|value| value.codecs.iter().map(move |codec| (value, codec)));
        for (value, codec) in lines {
            let rival = &value.int8_zstd;
            let at = |choice: Option<Choice>| choice.map_or_else(|| "-".into(), |choice| choice.text());
            let [a, b, c] = codec.at_loss;
            let mut cells = vec![
                value.cut.to_string(),
                value.name.clone(),
                table::count(value.elements as u64),
                codec.codec.to_owned(),
                if codec.weighted.is_empty() { "none".into() } else { codec.weighted.join(" ").replace("ff-", "") },
            ];
            if judged {
                cells.extend([at(a), at(b), at(c), b.or(c).map_or_else(|| "-".into(), |c| c.mode.to_owned())]);
            }
            let about = if codec.at_int8_guessed { "~" } else { "" };
            cells.extend([
                format!("{:.2}", rival.bits),
                rival.loss.map_or_else(|| "-".into(), |loss| format!("{:.2}", loss * 100.0)),
                format!("{:.1e}", rival.output_nmse),
                codec.at_int8.map_or_else(|| "-".into(), |bits| format!("{about}{bits:.2}")),
            ]);
            table.row(cells);
        }
        format!("{table}\n{}", self.notes())
    }

    fn notes(&self) -> String {
        let loss = match (self.loss_by, self.made_up) {
            ("labels", _) => "lost: points of accuracy, by labels",
            ("agreement", _) => "lost: points of agreement with the uncompressed model; no labels were given",
            (_, true) => {
                "no loss was measured: inputs are MADE UP, so these are figures of the model, not of your data"
            }
            _ => "no loss was measured: the output is no list of classes",
        };
        let fewest = self.values.iter().map(|value| value.rows).min().unwrap_or(0);
        let half = self.rows / 2;
        let time = if fewest < half {
            format!("time allowed for {fewest} to {half} of the rows behind each figure; more --seconds measure more\n")
        } else {
            String::new()
        };
        let left_out = match self.left_out.as_slice() {
            [] => String::new(),
            names => format!("FF does not take: {}\n", table::clean(&names.join(", "))),
        };
        let least = self.least_loss.filter(|loss| *loss >= 1e-4).map_or_else(String::new, |loss| {
            format!(
                "hosts count with the upper ends of intervals, here {:.2} points or more: with a smaller --max-accuracy-loss they \
                 use none of this; more --rows make intervals smaller\n",
                loss * 100.0
            )
        });
        format!(
            "{} rows of {}: half for tables, half for errors and losses\nff-c: ff-h with symbols whose errors \
             cancel, which takes several times as long to encode\nweighted: modes whose steps follow the model's \
             sensitivity, since that saves bits\n{loss}\n{least}~ beyond FF's finest rate: half a bit more for each halving of the \
             error\n{time}{left_out}{} in {file}; `bps calibrate --show {file}` has the curves\n",
            self.rows,
            table::clean(&self.source),
            table::bytes(self.bytes as u64),
            file = self.file.display(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lucky_coarse_rate_does_not_count() {
        let of = |q: u8, loss: f32| {
            let curve =
                Curve { bits_mean: 5.0 - f32::from(q), loss: Some(Loss::around(loss, 0.01)), ..Curve::default() };
            (Mode::Haar1, q, curve)
        };
        let curves = [of(0, 0.0), of(1, 0.004), of(2, 0.012), of(3, 0.003)];
        let at = |share| coarsest(&curves, share).map(|c| (c.rate, c.bits));
        assert_eq!([at(0.001), at(0.005), at(0.02)], [Some((0, 5.0)), Some((1, 4.0)), Some((3, 2.0))]);
        assert_eq!(coarsest(&[(Mode::Haar1, 0, Curve::default())], 0.5), None, "not measured");
    }
}
