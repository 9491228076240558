//! What was measured of one codec at one value: a point for each of its settings.

use crate::commands::calibrate::choose;
use serde::Serialize;

/// A codec at a setting.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Point {
    pub(super) setting: String,
    /// Of an element: the mean over all rows, headers shared by the rows of a message.
    pub(super) bits: f32,
    /// Relative squared error of the model's outputs.
    pub(super) output_nmse: f32,
    /// Share of accuracy that is lost: measured, and its 95 % interval. None where nobody judges.
    pub(super) loss: Option<[f32; 3]>,
    /// Medians over messages, for a row, where they say something.
    pub(super) encode_us: Option<f64>,
    pub(super) decode_us: Option<f64>,
}

/// A codec.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Line {
    pub(super) codec: String,
    /// Part of bps.
    pub(super) ours: bool,
    /// Bits are those of an ideal coder.
    pub(super) ideal: bool,
    pub(super) points: Vec<Point>,
    /// Why settings are missing.
    pub(super) refused: Vec<String>,
}

impl Line {
    /// The fewest bits of an element with which it has at most this error, between its points linear in the error's
    /// logarithm; none where it never has.
    pub(super) fn bits_at(&self, error: f32) -> Option<f32> {
        let curve: Vec<choose::Point> = self.points.iter().map(|p| (p.bits, p.output_nmse)).collect();
        choose::bits_at(&curve, error)
    }

    /// The setting with the fewest bits among those with at most this error.
    pub(super) fn coarsest(&self, error: f32) -> Option<&Point> {
        let good = self.points.iter().filter(|p| p.output_nmse <= error);
        good.min_by(|a, b| a.bits.total_cmp(&b.bits))
    }
}

#[cfg(test)]
pub(super) fn line(codec: &str, points: &[(f32, f32, [f32; 3])]) -> Line {
    let point = |(number, (bits, output_nmse, loss)): (usize, &(f32, f32, [f32; 3]))| Point {
        setting: number.to_string(),
        bits: *bits,
        output_nmse: *output_nmse,
        loss: Some(*loss),
        encode_us: None,
        decode_us: None,
    };
    let points = points.iter().enumerate().map(point).collect();
    Line { codec: codec.into(), ours: codec.starts_with("ff"), ideal: false, points, refused: Vec::new() }
}
