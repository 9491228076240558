//! A plot over a logarithmic axis, as SVG.

use std::fmt::Write;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 560.0;
/// Left, right, top, bottom.
const MARGINS: [f64; 4] = [80.0, 220.0, 20.0, 60.0];
const COLOURS: [&str; 10] =
    ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"];

/// Most labels of a linear axis.
const TICKS: f64 = 10.0;

/// How heights are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::commands) enum Heights {
    /// By their logarithm; only positive ones are drawn.
    Logarithmic,
    /// As they are, from 0 (or the least) to the greatest.
    Linear,
}

/// Points that are joined.
pub(in crate::commands) struct Line {
    pub(in crate::commands) name: String,
    /// Only what has a logarithm is drawn, see [`Heights`].
    pub(in crate::commands) points: Vec<(f64, f64)>,
    /// Drawn thicker.
    pub(in crate::commands) stands_out: bool,
}

/// Decades that hold all values.
fn decades(values: impl Iterator<Item = f64>) -> (i32, i32) {
    let drawn = values.filter(|v| v.is_finite() && *v > 0.0).map(f64::log10);
    let (low, high) = drawn.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
    if low > high { (0, 1) } else { (low.floor() as i32, (high.floor() as i32 + 1).max(low.floor() as i32 + 1)) }
}

/// The least and the greatest of a linear axis, and what lies between two labels: 1, 2 or 5 times a power of ten.
fn span(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let (low, high) = values.filter(|v| v.is_finite()).fold((0.0f64, 0.0f64), |(l, h), v| (l.min(v), h.max(v)));
    let least = ((high - low) / TICKS).max(1e-9);
    let decade = 10f64.powf(least.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * decade).into_iter().find(|s| *s >= least).unwrap_or(10.0 * decade);
    ((low / step).floor() * step, ((high / step).floor() + 1.0) * step, step)
}

fn escaped(text: &str) -> String {
    let shown: String = text.chars().filter(|c| !c.is_control()).take(40).collect();
    shown.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The plot.
pub(in crate::commands) fn plot(lines: &[Line], heights: Heights, x_title: &str, y_title: &str) -> String {
    let [left, right, top, bottom] = MARGINS;
    let (wide, high) = (WIDTH - left - right, HEIGHT - top - bottom);
    let xs = decades(lines.iter().flat_map(|l| l.points.iter().map(|p| p.0)));
    let all = || lines.iter().flat_map(|l| l.points.iter().map(|p| p.1));
    let (decades_up, (lowest, highest, step)) = (decades(all()), span(all()));
    let along = |value: f64, (low, high): (i32, i32)| (value.log10() - f64::from(low)) / f64::from(high - low);
    let x = |value: f64| left + along(value, xs) * wide;
    let y = |value: f64| match heights {
        Heights::Logarithmic => top + (1.0 - along(value, decades_up)) * high,
        Heights::Linear => top + (1.0 - (value - lowest) / (highest - lowest)) * high,
    };
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    // Writing to a string cannot fail.
    for mark in xs.0 * 3..=xs.1 * 3 {
        let value = [1.0, 2.0, 5.0][mark.rem_euclid(3) as usize] * 10f64.powi(mark.div_euclid(3));
        let (at, foot) = (x(value), top + high);
        let _ = writeln!(out, "<path d=\"M{at:.1} {top}V{foot}\" stroke=\"#ddd\"/>");
        let _ = writeln!(out, "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value}</text>", foot + 18.0);
    }
    let labels: Vec<(f64, String)> = match heights {
        Heights::Logarithmic => (decades_up.0..=decades_up.1).map(|d| (10f64.powi(d), format!("1e{d}"))).collect(),
        Heights::Linear => {
            let count = ((highest - lowest) / step).round() as usize;
            let label = |i| lowest + i as f64 * step;
            (0..=count).map(|i| (label(i), format!("{:.4}", label(i)))).collect()
        }
    };
    for (value, label) in labels {
        let label = if label.contains('.') { label.trim_end_matches('0').trim_end_matches('.') } else { &label };
        let at = y(value);
        let _ = writeln!(out, "<path d=\"M{left} {at:.1}H{:.1}\" stroke=\"#ddd\"/>", left + wide);
        let _ = writeln!(out, "<text x=\"{:.1}\" y=\"{at:.1}\" text-anchor=\"end\">{label}</text>", left - 6.0);
    }
    let middle = left + wide / 2.0;
    let _ = writeln!(out, "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{x_title}</text>", HEIGHT - 15.0);
    let turned = top + high / 2.0;
    let _ =
        writeln!(out, "<text transform=\"translate(18 {turned}) rotate(-90)\" text-anchor=\"middle\">{y_title}</text>");
    let spacing = (high / lines.len().max(1) as f64).min(15.0);
    for (number, line) in lines.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        // The second ten have dashes, the third dots.
        let dashes = ["", " stroke-dasharray=\"4 3\"", " stroke-dasharray=\"1 3\""];
        let dash = dashes[number / COLOURS.len() % dashes.len()];
        let (thick, weight) = if line.stands_out { (" stroke-width=\"3\"", " font-weight=\"bold\"") } else { ("", "") };
        let drawn = line
            .points
            .iter()
            .filter(|(a, b)| a.is_finite() && b.is_finite() && *a > 0.0)
            .filter(|(_, b)| heights == Heights::Linear || *b > 0.0);
        let points: Vec<String> = drawn.map(|(a, b)| format!("{:.1},{:.1}", x(*a), y(*b))).collect();
        let shown = points.join(" ");
        let _ = writeln!(out, "<polyline points=\"{shown}\" fill=\"none\" stroke=\"{colour}\"{dash}{thick}/>");
        let (at, height) = (left + wide + 12.0, top + spacing * (number as f64 + 0.9));
        let (name, size) = (escaped(&line.name), (spacing - 1.0).clamp(5.0, 12.0));
        let _ = writeln!(
            out,
            "<text x=\"{at:.1}\" y=\"{height:.1}\" font-size=\"{size:.1}\" fill=\"{colour}\"{weight}>{name}</text>"
        );
    }
    out + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_lie_inside_and_names_cannot_break_out() {
        let points = vec![(0.1, 1e-3), (2.0, 0.0), (4.0, 0.5), (f64::NAN, 1.0)];
        let line = Line { name: "<b>&".into(), points, stands_out: true };
        let plot = plot(&[line], Heights::Logarithmic, "x", "y");
        assert!(plot.contains("&lt;b&gt;&amp;") && !plot.contains("<b>"), "{plot}");
        let points = plot.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(points.split(' ').count(), 2, "what has no logarithm is left out: {points}");
        for number in points.split([' ', ',']) {
            assert!((0.0..=WIDTH).contains(&number.parse::<f64>().unwrap()), "{points}");
        }
    }

    #[test]
    fn a_linear_axis_holds_nothing_and_less_than_nothing() {
        assert_eq!(span([0.0, 8.0].into_iter()), (0.0, 9.0, 1.0));
        assert_eq!(span([-1.0, 33.0].into_iter()), (-5.0, 35.0, 5.0));
        let points = vec![(1.0, 0.0), (2.0, -1.0), (3.0, 20.0)];
        let plot = plot(&[Line { name: "a".into(), points, stands_out: false }], Heights::Linear, "x", "y");
        let drawn = plot.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(drawn.split(' ').count(), 3, "{drawn}");
        for number in drawn.split([' ', ',']) {
            assert!((0.0..=WIDTH).contains(&number.parse::<f64>().unwrap()), "{drawn}");
        }
    }

    #[test]
    fn decades_hold_their_values() {
        assert_eq!(decades([0.5, 20.0].into_iter()), (-1, 2));
        assert_eq!(decades([1.0].into_iter()), (0, 1));
        assert_eq!(decades([-1.0, f64::NAN].into_iter()), (0, 1));
    }
}
