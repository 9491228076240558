//! Who is better, cell by cell. Pure.
//!
//! FF is one line, `ff-c` as hosts use it (where it has no directions it does what `ff-h` does); against it stands, in every cell anew, the best of all that are not FF.
//!
//! **Bits at equal error.** A cell is a value and an error of the outputs: bits of FF over bits of the best rival, each read
//! between its points, linear in the logarithm of the error. A line is not drawn on beyond its ends: where a rival's
//! coarsest setting is better than asked for, it has the bits of that one, and so has FF. Where FF is never so good, the
//! cell is lost.
//!
//! **Loss at equal bits.** A cell is a value and a number of bits: the best that FF and that any rival have for at most so
//! many, at a setting that was measured. The ratio is one of accuracy lost only where the rival that loses least loses at
//! least a point, with an interval above nothing; elsewhere it is one of output errors, and says so.

use super::line::{Line, Point};
use serde::Serialize;

/// The line of FF.
pub(super) const FF: &str = "ff-c";
/// Names of FF begin so.
const FF_FAMILY: &str = "ff-";
/// Errors of the outputs at which bits are compared.
pub(super) const ERRORS: [f32; 5] = [0.001, 0.003, 0.01, 0.03, 0.1];
/// Bits of an element at which losses are compared.
pub(super) const BITS: [f32; 8] = [0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0];
/// A rival that loses less is not a base for a ratio of losses.
const LOSS_MIN: f32 = 0.01;
/// Errors below this are alike.
const ERROR_MIN: f32 = 1e-12;

/// Bits at equal error.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct BitsCell {
    pub(super) error: f32,
    /// None where FF is never so good.
    pub(super) ff_bits: Option<f32>,
    pub(super) rival: String,
    pub(super) rival_bits: f32,
    /// Of FF's bits to the rival's.
    pub(super) ratio: Option<f32>,
}

/// Loss at equal bits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct LossCell {
    /// At most so many an element.
    pub(super) bits: f32,
    /// `accuracy` or `output error`.
    pub(super) of: &'static str,
    pub(super) ff: f32,
    /// FF's interval, of accuracy.
    pub(super) ff_interval: Option<[f32; 2]>,
    pub(super) rival: String,
    pub(super) rival_loses: f32,
    pub(super) rival_interval: Option<[f32; 2]>,
    pub(super) ratio: f32,
}

/// Over the cells of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Summary {
    /// Cells that were compared.
    pub(super) cells: usize,
    /// Of which FF lost so many.
    pub(super) lost: usize,
    /// Ratios; none where there is no cell with one.
    pub(super) best: Option<f32>,
    pub(super) median: Option<f32>,
    pub(super) mean: Option<f32>,
    pub(super) worst: Option<f32>,
}

fn rivals(lines: &[Line]) -> impl Iterator<Item = &Line> {
    lines.iter().filter(|line| !line.codec.starts_with(FF_FAMILY))
}

fn ff(lines: &[Line]) -> Option<&Line> {
    lines.iter().find(|line| line.codec == FF)
}

/// The cell of an error; none where no rival is so good.
pub(super) fn bits_at_error(lines: &[Line], error: f32) -> Option<BitsCell> {
    let known = rivals(lines).filter_map(|line| Some((line, line.bits_at(error)?)));
    let (rival, rival_bits) = known.min_by(|a, b| a.1.total_cmp(&b.1))?;
    let ff_bits = ff(lines).and_then(|line| line.bits_at(error));
    let ratio = ff_bits.map(|bits| bits / rival_bits.max(1e-6));
    Some(BitsCell { error, ff_bits, rival: rival.codec.clone(), rival_bits, ratio })
}

/// The cell of a number of bits; none where FF or every rival needs more.
pub(super) fn loss_at_bits(lines: &[Line], bits: f32) -> Option<LossCell> {
    let within = |line: &Line| line.points.iter().filter(|p| p.bits <= bits).cloned().collect::<Vec<Point>>();
    let all: Vec<(&str, Point)> =
        rivals(lines).flat_map(|line| within(line).into_iter().map(|point| (line.codec.as_str(), point))).collect();
    let own = within(ff(lines)?).into_iter().min_by(|a, b| a.output_nmse.total_cmp(&b.output_nmse))?;
    let lost = |(_, point): &&(&str, Point)| point.loss.map_or(f32::INFINITY, |loss| loss[0]);
    let least = all.iter().min_by(|a, b| lost(a).total_cmp(&lost(b)))?;
    if let (Some(loss), Some(of_ff)) = (least.1.loss, own.loss)
        && loss[0] >= LOSS_MIN
        && loss[1] > 0.0
    {
        return Some(LossCell {
            bits,
            of: "accuracy",
            ff: of_ff[0],
            ff_interval: Some([of_ff[1], of_ff[2]]),
            rival: least.0.to_owned(),
            rival_loses: loss[0],
            rival_interval: Some([loss[1], loss[2]]),
            ratio: of_ff[0].max(0.0) / loss[0],
        });
    }
    let (rival, point) = all.iter().min_by(|a, b| a.1.output_nmse.total_cmp(&b.1.output_nmse))?;
    Some(LossCell {
        bits,
        of: "output error",
        ff: own.output_nmse,
        ff_interval: None,
        rival: (*rival).to_owned(),
        rival_loses: point.output_nmse,
        rival_interval: None,
        ratio: own.output_nmse.max(ERROR_MIN) / point.output_nmse.max(ERROR_MIN),
    })
}

/// Ratios of cells, none where FF has nothing to set against the rival.
pub(super) fn summary(ratios: &[Option<f32>]) -> Summary {
    let known: Vec<f64> = ratios.iter().flatten().map(|r| f64::from(*r)).collect();
    let lost = ratios.iter().filter(|ratio| ratio.is_none_or(|ratio| ratio > 1.0)).count();
    Summary {
        cells: ratios.len(),
        lost,
        best: known.iter().copied().reduce(f64::min).map(|r| r as f32),
        median: middle(&known).map(|r| r as f32),
        mean: (!known.is_empty()).then(|| (known.iter().sum::<f64>() / known.len() as f64) as f32),
        worst: known.iter().copied().reduce(f64::max).map(|r| r as f32),
    }
}

/// The middle of some numbers: of an even count the mean of the two, so that no side gains from it.
pub(super) fn middle(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    Some((sorted[last / 2] + sorted[sorted.len() / 2]) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::super::line::line;
    use super::*;

    const NONE: [f32; 3] = [0.0, -0.01, 0.01];

    fn lines() -> Vec<Line> {
        vec![
            line(FF, &[(2.0, 0.001, NONE), (1.0, 0.01, [0.002, -0.001, 0.005]), (0.5, 0.1, [0.03, 0.02, 0.04])]),
            line("ff-s", &[(0.1, 1e-6, NONE)]),
            line("jpeg", &[(4.0, 0.001, NONE), (0.9, 0.1, [0.05, 0.03, 0.07]), (0.4, 0.4, [0.2, 0.1, 0.3])]),
            line("webp", &[(3.0, 0.01, [0.02, 0.01, 0.03]), (0.45, 0.2, [0.02, -0.01, 0.05])]),
            line("raw", &[(32.0, 0.0, NONE)]),
        ]
    }

    #[test]
    fn bits_are_compared_with_the_best_rival_of_each_cell() {
        let at = |error| bits_at_error(&lines(), error).unwrap();
        let cell = at(0.01);
        assert_eq!((cell.ff_bits, cell.rival.as_str()), (Some(1.0), "jpeg"));
        assert!((cell.rival_bits - 2.45).abs() < 1e-4, "halfway between 0.9 and 4: {cell:?}");
        assert_eq!((at(0.2).rival.as_str(), at(0.2).ratio), ("webp", Some(0.5 / 0.45)), "FF is not drawn on");
        let fine = at(1e-4);
        assert_eq!((fine.ff_bits, fine.rival.as_str(), fine.ratio), (None, "raw", None));
        assert_eq!(bits_at_error(&lines()[..2], 0.01), None);
    }

    #[test]
    fn a_ratio_of_losses_needs_a_loss() {
        let at = |bits| loss_at_bits(&lines(), bits);
        assert_eq!(at(0.3), None);
        // webp loses least, but not surely: the errors are compared.
        let cell = at(0.5).unwrap();
        assert_eq!((cell.of, cell.rival.as_str(), cell.ratio), ("output error", "webp", 0.5));
        let without_webp: Vec<Line> = lines().into_iter().filter(|line| line.codec != "webp").collect();
        let cell = loss_at_bits(&without_webp, 1.0).unwrap();
        assert_eq!((cell.of, cell.rival.as_str()), ("accuracy", "jpeg"));
        assert!((cell.ratio - 0.04).abs() < 1e-6 && cell.rival_interval == Some([0.03, 0.07]), "{cell:?}");
    }

    #[test]
    fn nothing_is_left_out_of_a_summary() {
        let found = summary(&[Some(0.5), None, Some(1.5), Some(0.25)]);
        let wanted =
            Summary { cells: 4, lost: 2, best: Some(0.25), median: Some(0.5), mean: Some(0.75), worst: Some(1.5) };
        assert_eq!(found, wanted);
        assert_eq!(summary(&[]), Summary::default());
        assert_eq!([middle(&[]), middle(&[4.0, 1.0]), middle(&[9.0, 1.0, 2.0])], [None, Some(2.5), Some(2.0)]);
    }
}
