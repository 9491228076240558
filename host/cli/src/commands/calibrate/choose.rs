//! Which of several curves is better, from points of bits and output error. Pure.
//!
//! A point of one mode is compared with another mode at **equal error**: the other's bits there are found between its points,
//! linear in the logarithm of the error.

/// Errors below this are alike.
const ERROR_MIN: f32 = 1e-12;

/// Bits of an element and relative squared error.
pub(in crate::commands) type Point = (f32, f32);

fn logarithm(error: f32) -> f32 {
    error.max(ERROR_MIN).ln()
}

/// The fewest bits with which a curve has at most this error; none where it never has.
pub(in crate::commands) fn bits_at(curve: &[Point], error: f32) -> Option<f32> {
    let mut points = curve.to_vec();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let at = points.iter().position(|(_, e)| *e <= error)?;
    let (bits, reached) = points[at];
    let Some((fewer, worse)) = at.checked_sub(1).map(|before| points[before]) else { return Some(bits) };
    let span = logarithm(worse) - logarithm(reached);
    let share = if span > 0.0 { (logarithm(worse) - logarithm(error)) / span } else { 1.0 };
    Some(fewer + (bits - fewer) * share.clamp(0.0, 1.0))
}

/// The same, and where the curve is never so fine, half a bit more than its finest point for each halving of the error:
/// what every quantiser pays there, and more than one pays whose symbols are mostly zeros. True: it had to be guessed so.
pub(super) fn bits_at_or_beyond(curve: &[Point], error: f32) -> Option<(f32, bool)> {
    if let Some(bits) = bits_at(curve, error) {
        return Some((bits, false));
    }
    let beyond = |(bits, e): &Point| bits + 0.5 * (logarithm(*e) - logarithm(error)) / std::f32::consts::LN_2;
    curve.iter().map(beyond).min_by(f32::total_cmp).map(|bits| (bits, true))
}

/// Bits that a point has too many: over what the best of the curves needs for the same error. Its own curve is among them.
pub(super) fn excess(point: Point, curves: &[&[Point]]) -> f32 {
    let least = curves.iter().filter_map(|curve| bits_at(curve, point.1)).min_by(f32::total_cmp);
    point.0 - least.unwrap_or(point.0)
}

/// The share of its bits that a curve saves over another at equal error, in the mean over its points that the other
/// spans; 0 where there is none.
pub(super) fn saves(curve: &[Point], other: &[Point]) -> f32 {
    let worst = other.iter().map(|p| p.1).fold(0.0, f32::max);
    let spanned = curve.iter().filter(|(_, error)| *error <= worst);
    let saved: Vec<f32> =
        spanned.filter_map(|(bits, error)| bits_at(other, *error).map(|o| 1.0 - bits / o.max(1e-6))).collect();
    if saved.is_empty() { 0.0 } else { saved.iter().sum::<f32>() / saved.len() as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURVE: [Point; 3] = [(4.0, 0.01), (3.0, 0.04), (1.0, 0.64)];

    #[test]
    fn bits_lie_between_points() {
        let table = [(0.01, Some(4.0)), (0.02, Some(3.5)), (0.04, Some(3.0)), (0.16, Some(2.0)), (5.0, Some(1.0))];
        for (error, wanted) in table {
            let got = bits_at(&CURVE, error);
            assert!(got.zip(wanted).is_some_and(|(a, b)| (a - b).abs() < 1e-5), "{error}: {got:?}");
        }
        assert_eq!((bits_at(&CURVE, 0.009), bits_at(&[], 1.0)), (None, None));
        let (beyond, guessed) = bits_at_or_beyond(&CURVE, 0.0025).unwrap();
        assert!(guessed && (beyond - 5.0).abs() < 1e-5, "{beyond}");
        assert_eq!(bits_at_or_beyond(&CURVE, 0.01), Some((4.0, false)));
    }

    #[test]
    fn a_point_is_judged_by_the_best_curve() {
        let better: Vec<Point> = CURVE.iter().map(|(b, e)| (b * 0.5, *e)).collect();
        let of = |point| excess(point, &[&CURVE, &better]);
        assert!((of((3.0, 0.04)) - 1.5).abs() < 1e-5);
        assert_eq!(of((1.5, 0.04)), 0.0);
        assert_eq!(of((9.0, 0.001)), 0.0, "nobody else is so fine");
    }

    #[test]
    fn savings_are_those_where_both_have_points() {
        let half: Vec<Point> = CURVE.iter().map(|(b, e)| (b * 0.5, *e)).collect();
        assert!((saves(&half, &CURVE) - 0.5).abs() < 1e-5);
        assert!((saves(&CURVE, &half) + 1.0).abs() < 1e-5);
        assert_eq!(saves(&[(9.0, 1e-6)], &CURVE), 0.0);
        assert_eq!(saves(&[(0.1, 3.0)], &CURVE), 0.0);
    }
}
