//! Along which directions of a value its errors reach the model's outputs.
//!
//! What errors `e` of an activation cost at the model's end is `|J e|^2`, `J` the Jacobian of the outputs by element; in the
//! mean over rows `e^T M e` with `M = E[J^T J]`. Few directions hold most of it:
//!
//! ```text
//! e^T M e  ~  sum over k of (d_k . e)^2  +  sum over planes p of rest_p |e_p|^2
//! ```
//!
//! `d_k` are the first eigenvectors of `M`, each times the root of its value, and `rest_p` is what is left of the mean
//! diagonal in plane `p`, as if errors there had nothing to do with each other. Everything is relative: the mean diagonal of
//! `M` is 1. An encoder that knows them can choose symbols whose errors cancel along the directions ([`super::cancel`]); a
//! decoder needs nothing of it.

use super::geometry::{Bands, Dims};
use super::{FfError, Mode, Order, haar};
use serde::{Deserialize, Serialize};

/// Most directions of a value.
pub(super) const DIRECTIONS_MAX: usize = 16;
/// Rounds of subspace iteration: an eigenvalue is told from one half as large to one part in a million.
const ROUNDS: usize = 20;
/// The greatest number a stored direction has.
const WHOLE: f32 = 127.0;
/// Scales and rests are at most this: what is larger is no share of a mean of 1.
const GREATEST: f32 = 1e6;

/// The directions of one value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Directions {
    /// What 127 stands for, by direction.
    scales: Vec<f32>,
    /// Direction after direction, each with the elements of a row.
    values: Vec<i8>,
    /// By plane of two levels, or of as many as the map has: band after band, channels inside.
    rest: Vec<f32>,
}

/// Whether rows of this shape may have any: they are chosen with the whole row in sight, which must be one chunk.
fn fits(dims: Dims) -> bool {
    dims.row_elements() > 0 && Dims { rows: 1, ..dims }.chunk_count() == 1
}

impl Directions {
    /// Whether rows of this NCHW shape may have any.
    pub fn fit(shape: &[usize]) -> bool {
        Dims::of(shape, Order::Nchw).is_ok_and(fits)
    }

    /// From rows of the Jacobian, one behind another, each with the elements of a row of this NCHW shape. None where they
    /// are all zero. Errors where the shape does not [fit](Self::fit), or lengths do not.
    pub fn of(jacobian: &[f32], shape: &[usize]) -> Result<Option<Self>, FfError> {
        let no = |message: &str| Err(FfError::Calibration { what: "directions", message: message.to_owned() });
        let dims = Dims::of(shape, Order::Nchw)?;
        let elements = dims.row_elements();
        if !fits(dims) {
            return no("a row is more than one chunk");
        }
        if jacobian.is_empty() || !jacobian.len().is_multiple_of(elements) {
            return no("the Jacobian has no whole number of rows");
        }
        if !jacobian.iter().all(|slope| slope.is_finite()) {
            return no("the Jacobian has what is no number");
        }
        let squares: f64 = jacobian.iter().map(|slope| f64::from(*slope).powi(2)).sum();
        let mean = (squares / elements as f64).sqrt() as f32;
        if !(mean.is_normal() && mean.recip().is_normal()) {
            return Ok(None);
        }
        // In parts of the mean, so that no square is without end.
        let rows: Vec<f32> = jacobian.iter().map(|slope| slope / mean).collect();
        let axes = axes(&rows, elements, DIRECTIONS_MAX);
        let (mut scales, mut values) = (Vec::new(), Vec::new());
        for axis in &axes {
            let length = rows.chunks_exact(elements).map(|row| f64::from(dot(row, axis)).powi(2)).sum::<f64>().sqrt();
            let direction = axis.iter().map(|part| part * length as f32);
            let scale = direction.clone().fold(0.0f32, |most, part| most.max(part.abs()));
            if scale > 0.0 {
                scales.push(scale);
                values.extend(direction.map(|part| (part / scale * WHOLE).round() as i8));
            }
        }
        Ok(Some(Self { scales, values, rest: rest(rows, &axes, dims) }))
    }

    /// Directions that mean nothing, for rows of this NCHW shape: what choosing symbols costs can be seen with them. Errors
    /// where the shape does not [fit](Self::fit), or the count is none.
    pub fn made_up(shape: &[usize], count: usize) -> Result<Self, FfError> {
        let dims = Dims::of(shape, Order::Nchw)?;
        let elements = dims.row_elements();
        let planes = Bands::of(Mode::Haar2, dims.height, dims.width).count() * dims.channels;
        // Any sequence without a pattern that rows or columns share.
        let value = |i: usize| (i.wrapping_mul(0x9e37_79b9) >> 7) as i8;
        let values = (0..count.saturating_mul(elements)).map(value).collect();
        let made = Self { scales: vec![1.0; count], values, rest: vec![0.5; planes] };
        made.check(Some(dims.row_shape().map(|extent| extent as u32)))?;
        Ok(made)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.scales.len()
    }

    /// Refuses what no calibration makes.
    pub(super) fn check(&self, shape: Option<[u32; 3]>) -> Result<(), FfError> {
        let no = |message: String| Err(FfError::Calibration { what: "directions", message });
        let Some([channels, height, width]) = shape else { return no("of a package for any shape".to_owned()) };
        let dims = Dims::of(&[1, channels as usize, height as usize, width as usize], Order::Nchw)?;
        if !fits(dims) {
            return no("a row is more than one chunk".to_owned());
        }
        if !(1..=DIRECTIONS_MAX).contains(&self.scales.len()) {
            return no(format!("{}, not 1 to {DIRECTIONS_MAX}", self.scales.len()));
        }
        if self.values.len() != self.scales.len() * dims.row_elements() {
            return no("not one number for each element".to_owned());
        }
        if self.rest.len() != Bands::of(Mode::Haar2, dims.height, dims.width).count() * dims.channels {
            return no("not one rest for each plane".to_owned());
        }
        match self.scales.iter().chain(&self.rest).find(|number| !(0.0..=GREATEST).contains(*number)) {
            Some(number) => no(format!("{number} is out of range")),
            None => Ok(()),
        }
    }

    /// The directions in the coefficients of a mode, direction after direction: band after band, channels inside.
    pub(super) fn coefficients(&self, dims: Dims, bands: Bands) -> Vec<Vec<f32>> {
        let one = |(scale, values): (&f32, &[i8])| {
            let row: Vec<f32> = values.iter().map(|value| f32::from(*value) * (scale / WHOLE)).collect();
            transposed(&row, dims, bands)
        };
        self.scales.iter().zip(self.values.chunks_exact(dims.row_elements())).map(one).collect()
    }

    /// What is left in the planes of a mode. A coarse band is made of the four of the next level, as many coefficients each.
    pub(super) fn rest(&self, channels: usize, bands: Bands) -> Vec<f32> {
        let mut levels: Vec<Vec<f32>> = self.rest.chunks_exact(channels.max(1)).map(<[f32]>::to_vec).collect();
        while levels.len() > bands.count() {
            let mean = |channel: usize| levels[..4].iter().map(|band| band[channel]).sum::<f32>() / 4.0;
            let coarse = (0..channels).map(mean).collect();
            levels.splice(..4, [coarse]);
        }
        levels.concat()
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    const WIDE: usize = 8;
    let (a, a_rest) = a.as_chunks::<WIDE>();
    let (b, b_rest) = b.as_chunks::<WIDE>();
    let mut sums = [0.0f32; WIDE];
    for (a, b) in a.iter().zip(b) {
        (0..WIDE).for_each(|i| sums[i] += a[i] * b[i]);
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

/// Orthonormal axes along which `rows` are longest, the longest first, by subspace iteration.
fn axes(rows: &[f32], elements: usize, count: usize) -> Vec<Vec<f32>> {
    let row_count = rows.len() / elements;
    let count = count.min(row_count).min(elements);
    // Begins with sums of rows with signs that are as good as random, and the same every time.
    let mut state = 0x9e37_79b9u32;
    let mut sign = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        if state & 0x100 == 0 { 1.0 } else { -1.0 }
    };
    let shares = (0..count).map(|_| (0..row_count).map(|_| sign()).collect::<Vec<f32>>()).collect::<Vec<_>>();
    let sums = |shares: &[f32]| -> Vec<f32> {
        let mut sum = vec![0.0; elements];
        for (row, share) in rows.chunks_exact(elements).zip(shares) {
            sum.iter_mut().zip(row).for_each(|(sum, part)| *sum += share * part);
        }
        sum
    };
    let mut axes = orthonormal(shares.iter().map(|shares| sums(shares)).collect());
    for _ in 0..ROUNDS {
        let turned = axes.iter().map(|axis| {
            let along: Vec<f32> = rows.chunks_exact(elements).map(|row| dot(row, axis)).collect();
            sums(&along)
        });
        axes = orthonormal(turned.collect());
    }
    axes
}

/// Gram and Schmidt's, twice for the sake of rounding; what is no direction of its own is left out.
fn orthonormal(given: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
    let mut out: Vec<Vec<f32>> = Vec::with_capacity(given.len());
    for mut axis in given {
        let before = dot(&axis, &axis).sqrt();
        for other in out.iter().chain(&out) {
            let share = dot(&axis, other);
            axis.iter_mut().zip(other).for_each(|(part, other)| *part -= share * other);
        }
        let length = dot(&axis, &axis).sqrt();
        if length.is_normal() && length > 1e-4 * before {
            axis.iter_mut().for_each(|part| *part /= length);
            out.push(axis);
        }
    }
    out
}

/// What rows have beside the axes: the mean square of a coefficient, by plane of two levels.
fn rest(mut rows: Vec<f32>, axes: &[Vec<f32>], dims: Dims) -> Vec<f32> {
    let bands = Bands::of(Mode::Haar2, dims.height, dims.width);
    let mut sums = vec![0.0f64; bands.count() * dims.channels];
    for row in rows.chunks_exact_mut(dims.row_elements()) {
        for axis in axes {
            let share = dot(row, axis);
            row.iter_mut().zip(axis).for_each(|(part, axis)| *part -= share * axis);
        }
        let coefficients = transposed(row, dims, bands);
        for (band, shape) in bands.all().iter().enumerate() {
            let planes = coefficients[bands.start(band, dims.channels)..].chunks_exact(shape.plane());
            for (sum, plane) in sums[band * dims.channels..][..dims.channels].iter_mut().zip(planes) {
                *sum += f64::from(dot(plane, plane)) / shape.plane() as f64;
            }
        }
    }
    sums.into_iter().map(|sum| (sum as f32).min(GREATEST)).collect()
}

/// What each coefficient of a row is worth where its elements are worth `row`: the transpose of the inverse transform. Gives
/// band after band, channels inside.
fn transposed(row: &[f32], dims: Dims, bands: Bands) -> Vec<f32> {
    let mut out = vec![0.0; bands.symbols * dims.channels];
    let mut put = |band: usize, channel: usize, plane: &[f32]| {
        let from = bands.start(band, dims.channels) + channel * plane.len();
        out[from..from + plane.len()].copy_from_slice(plane);
    };
    for (channel, map) in row.chunks_exact(dims.plane()).enumerate() {
        let (mut coarse, mut height, mut width) = (map.to_vec(), dims.height, dims.width);
        for level in 1..=bands.levels {
            // Beyond the edge nothing is kept of what the inverse makes.
            let (half_height, half_width) = (height.div_ceil(2), width.div_ceil(2));
            let mut whole = vec![0.0; 4 * half_height * half_width];
            for (line, to) in coarse.chunks_exact(width).zip(whole.chunks_exact_mut(2 * half_width)) {
                to[..width].copy_from_slice(line);
            }
            let mut four = vec![0.0; whole.len()];
            haar::forward(&whole, 2 * half_width, &mut four);
            let quarter = half_height * half_width;
            for detail in 0..3 {
                put(bands.count() - 3 * level + detail, channel, &four[(detail + 1) * quarter..][..quarter]);
            }
            four.truncate(quarter);
            (coarse, height, width) = (four, half_height, half_width);
        }
        put(0, channel, &coarse);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ff::transform::Workspace;

    #[test]
    fn what_rows_share_is_found() {
        // Two axes, one three times as long as the other, in eight rows.
        let shape = [1, 2, 4, 4];
        let long: Vec<f32> = (0..32).map(|i| if i % 3 == 0 { 1.0 } else { -0.25 }).collect();
        let short: Vec<f32> = (0..32).map(|i| if i < 16 { 0.25 } else { -0.5 }).collect();
        let mut rows = Vec::new();
        for row in 0..8 {
            let sign = if row % 2 == 0 { 1.0 } else { -1.0 };
            rows.extend(long.iter().zip(&short).map(|(long, short)| 3.0 * long + sign * short));
        }
        let found = Directions::of(&rows, &shape).unwrap().unwrap();
        assert_eq!(found.count(), 2);
        assert!(found.rest.iter().all(|rest| *rest < 1e-4), "{:?}", found.rest);
        let dims = Dims::of(&shape, Order::Nchw).unwrap();
        let back = found.coefficients(dims, Bands::of(Mode::Scalar, 4, 4));
        let energy: f32 = back.iter().map(|direction| dot(direction, direction)).sum();
        assert!((energy / 32.0 - 1.0).abs() < 0.02, "the mean diagonal is {energy} / 32");
        let turned = found.coefficients(dims, Bands::of(Mode::Haar2, 4, 4));
        for (a, b) in back.iter().zip(&turned) {
            assert!((dot(a, a) / dot(b, b) - 1.0).abs() < 1e-4, "the transform is orthonormal");
        }
        assert_eq!(Directions::of(&[0.0; 64], &shape), Ok(None));
        for wrong in [&[][..], &[1.0; 33], &[f32::NAN; 32]] {
            assert!(Directions::of(wrong, &shape).is_err());
        }
    }

    #[test]
    fn coefficients_are_worth_what_they_do_to_elements() {
        // Of odd extents, so that something lies beyond the edge.
        let shape = [1, 2, 5, 7];
        let dims = Dims::of(&shape, Order::Nchw).unwrap();
        let row: Vec<f32> = (0..70).map(|i| ((i * i) % 11) as f32 - 5.0).collect();
        for mode in Mode::ALL {
            let bands = Bands::of(mode, 5, 7);
            let worth = transposed(&row, dims, bands);
            let mut space = Workspace::new(bands, 5, 7);
            for (band, shape) in bands.all().iter().enumerate() {
                for place in 0..shape.plane() {
                    for other in 0..bands.count() {
                        let one = |at: usize| i16::from(other == band && at == place);
                        let symbols: Vec<i16> = (0..bands.all()[other].plane()).map(one).collect();
                        space.dequantise(other, 1.0, [0; 4], &symbols);
                    }
                    space.inverse();
                    let wanted = dot(&space.values, &row[35..]);
                    let got = worth[bands.start(band, 2) + shape.plane() + place];
                    assert!((got - wanted).abs() < 1e-4, "{mode:?}, band {band}, {place}: {got}, not {wanted}");
                }
            }
        }
    }

    #[test]
    fn what_no_calibration_makes_is_refused() {
        let shape = Some([2, 4, 4]);
        let good = Directions { scales: vec![1.0], values: vec![3; 32], rest: vec![0.5; 14] };
        assert_eq!(good.check(shape), Ok(()));
        let table = [
            (Directions { scales: vec![1.0; 17], ..good.clone() }, shape, "17, not 1 to 16"),
            (Directions { scales: vec![], values: vec![], ..good.clone() }, shape, "0, not 1 to 16"),
            (Directions { values: vec![3; 31], ..good.clone() }, shape, "not one number for each element"),
            (Directions { rest: vec![0.5; 13], ..good.clone() }, shape, "not one rest for each plane"),
            (Directions { rest: vec![f32::NAN; 14], ..good.clone() }, shape, "NaN is out of range"),
            (Directions { scales: vec![-1.0], ..good.clone() }, shape, "-1 is out of range"),
            (good.clone(), None, "of a package for any shape"),
            (good.clone(), Some([65, 32, 32]), "a row is more than one chunk"),
        ];
        for (wrong, shape, message) in table {
            assert_eq!(wrong.check(shape).unwrap_err().to_string(), format!("package, directions: {message}"));
        }
    }
}
