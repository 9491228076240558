//! A plot with logarithmic axes, as SVG.

use std::fmt::Write;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 560.0;
/// Left, right, top, bottom.
const MARGINS: [f64; 4] = [80.0, 220.0, 20.0, 60.0];
const COLOURS: [&str; 10] =
    ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"];

/// Points that are joined.
pub(super) struct Line {
    pub(super) name: String,
    /// Only positive numbers are drawn.
    pub(super) points: Vec<(f64, f64)>,
}

/// Decades that hold all values.
fn decades(values: impl Iterator<Item = f64>) -> (i32, i32) {
    let drawn = values.filter(|v| v.is_finite() && *v > 0.0).map(f64::log10);
    let (low, high) = drawn.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
    if low > high { (0, 1) } else { (low.floor() as i32, (high.floor() as i32 + 1).max(low.floor() as i32 + 1)) }
}

fn escaped(text: &str) -> String {
    let shown: String = text.chars().filter(|c| !c.is_control()).take(40).collect();
    shown.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The plot.
pub(super) fn plot(lines: &[Line], x_title: &str, y_title: &str) -> String {
    let [left, right, top, bottom] = MARGINS;
    let (wide, high) = (WIDTH - left - right, HEIGHT - top - bottom);
    let xs = decades(lines.iter().flat_map(|l| l.points.iter().map(|p| p.0)));
    let ys = decades(lines.iter().flat_map(|l| l.points.iter().map(|p| p.1)));
    let along = |value: f64, (low, high): (i32, i32)| (value.log10() - f64::from(low)) / f64::from(high - low);
    let x = |value: f64| left + along(value, xs) * wide;
    let y = |value: f64| top + (1.0 - along(value, ys)) * high;
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
    for decade in ys.0..=ys.1 {
        let at = y(10f64.powi(decade));
        let _ = writeln!(out, "<path d=\"M{left} {at:.1}H{:.1}\" stroke=\"#ddd\"/>", left + wide);
        let _ = writeln!(out, "<text x=\"{:.1}\" y=\"{at:.1}\" text-anchor=\"end\">1e{decade}</text>", left - 6.0);
    }
    let middle = left + wide / 2.0;
    let _ = writeln!(out, "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{x_title}</text>", HEIGHT - 15.0);
    let turned = top + high / 2.0;
    let _ =
        writeln!(out, "<text transform=\"translate(18 {turned}) rotate(-90)\" text-anchor=\"middle\">{y_title}</text>");
    for (number, line) in lines.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        // The second ten have dashes.
        let dash = if number / COLOURS.len() % 2 == 1 { " stroke-dasharray=\"4 3\"" } else { "" };
        let drawn = line.points.iter().filter(|(a, b)| a.is_finite() && b.is_finite() && *a > 0.0 && *b > 0.0);
        let points: Vec<String> = drawn.map(|(a, b)| format!("{:.1},{:.1}", x(*a), y(*b))).collect();
        let shown = points.join(" ");
        let _ = writeln!(out, "<polyline points=\"{shown}\" fill=\"none\" stroke=\"{colour}\"{dash}/>");
        let (at, height) = (left + wide + 12.0, top + 14.0 + 15.0 * number as f64);
        if height < HEIGHT - bottom {
            let name = escaped(&line.name);
            let _ = writeln!(out, "<text x=\"{at:.1}\" y=\"{height:.1}\" fill=\"{colour}\">{name}</text>");
        }
    }
    out + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_lie_inside_and_names_cannot_break_out() {
        let line = Line { name: "<b>&".into(), points: vec![(0.1, 1e-3), (2.0, 0.0), (4.0, 0.5), (f64::NAN, 1.0)] };
        let plot = plot(&[line], "x", "y");
        assert!(plot.contains("&lt;b&gt;&amp;") && !plot.contains("<b>"), "{plot}");
        let points = plot.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(points.split(' ').count(), 2, "what has no logarithm is left out: {points}");
        for number in points.split([' ', ',']) {
            assert!((0.0..=WIDTH).contains(&number.parse::<f64>().unwrap()), "{points}");
        }
    }

    #[test]
    fn decades_hold_their_values() {
        assert_eq!(decades([0.5, 20.0].into_iter()), (-1, 2));
        assert_eq!(decades([1.0].into_iter()), (0, 1));
        assert_eq!(decades([-1.0, f64::NAN].into_iter()), (0, 1));
    }
}
