//! Curves of every value as SVG: bits over the error of the outputs, and over the accuracy that is lost.

use super::line::{Line, Point};
use super::report::Report;
use super::verdict::FF;
use crate::commands::calibrate::svg::{self, Heights};
use crate::model_file;
use anyhow::Result;
use std::path::Path;

/// Longest part of a value's name in that of a file.
const NAME_CHARS_MAX: usize = 60;

/// Two plots for each value, in this folder.
pub(super) fn write(report: &Report, folder: &Path) -> Result<()> {
    for (number, value) in report.values.iter().enumerate() {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let name: String = value.name.chars().take(NAME_CHARS_MAX).map(|c| if is_plain(c) { c } else { '_' }).collect();
        let file = |what: &str| folder.join(format!("{number:02}-{name}-{what}.svg"));
        let error = |point: &Point| Some(f64::from(point.output_nmse));
        let errors = lines(&value.lines, error);
        let title = "relative squared error of the outputs";
        let plot = svg::plot(&errors, Heights::Logarithmic, "bits per element", title);
        model_file::write(&file("error"), plot.as_bytes())?;
        let losses = lines(&value.lines, |point| point.loss.map(|loss| 100.0 * f64::from(loss[0])));
        if losses.iter().any(|line| !line.points.is_empty()) {
            let plot = svg::plot(&losses, Heights::Linear, "bits per element", "points of accuracy lost");
            model_file::write(&file("loss"), plot.as_bytes())?;
        }
    }
    Ok(())
}

/// FF first.
fn lines(of: &[Line], height: impl Fn(&Point) -> Option<f64>) -> Vec<svg::Line> {
    let one = |line: &Line| {
        let mut points: Vec<(f64, f64)> =
            line.points.iter().filter_map(|point| Some((f64::from(point.bits), height(point)?))).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        svg::Line { name: line.codec.clone(), points, stands_out: line.codec == FF }
    };
    let (own, others): (Vec<&Line>, Vec<&Line>) = of.iter().partition(|line| line.codec == FF);
    own.into_iter().chain(others).map(one).collect()
}
