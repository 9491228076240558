//! Digits in gray at 32 and 64 pixels: each from one of the real scans of 8 x 8, enlarged, turned, stretched, bent, written
//! with a broader or finer pen, and photographed.

use crate::camera::{Camera, place};
use crate::digits::{self, SIDE};
use crate::draw::Draw;
use crate::set::{Picture, Set, Split};

/// How a scan is laid onto the paper.
struct Pose {
    /// Rows that turn a place of the picture into one of the scan, both from -1 to 1.
    inverse: [[f32; 2]; 2],
    centre: [f32; 2],
    /// How far the middle of a vertical line goes sideways, and of a horizontal one downwards.
    bend: [f32; 2],
}

impl Pose {
    fn draw(draw: &mut Draw) -> Self {
        let (sine, cosine) = libm::sincosf(draw.between(-0.25, 0.25));
        let (width, height) = (draw.between(0.62, 0.95), draw.between(0.7, 0.95));
        let slant = draw.between(-0.25, 0.25);
        let inverse =
            [[(cosine - slant * sine) / width, (sine + slant * cosine) / width], [-sine / height, cosine / height]];
        Self {
            inverse,
            centre: [(); 2].map(|()| draw.between(-0.18, 0.18)),
            bend: [(); 2].map(|()| draw.between(-0.15, 0.15)),
        }
    }

    /// The place of the scan that is seen at a place of the picture.
    fn inner(&self, at: [f32; 2]) -> [f32; 2] {
        let off = [at[0] - self.centre[0], at[1] - self.centre[1]];
        let [x, y] = self.inverse.map(|row| row[0] * off[0] + row[1] * off[1]);
        [x + self.bend[0] * (1.0 - y * y), y + self.bend[1] * (1.0 - x * x)]
    }
}

/// Scans are taken in turn, so that each is seen as often as any other; the origin is the scan's row.
pub(crate) fn picture(split: Split, side: usize, seed: u64, index: u64) -> Picture {
    let rows = digits::of(split);
    let row = rows[(index % rows.len() as u64) as usize];
    let digit = digits::row(row);
    let mut draw = Draw::new(Set::Digits, split, seed, index);
    let pose = Pose::draw(&mut draw);
    let (paper, ink) = (draw.between(0.0, 0.3), draw.between(0.65, 1.0));
    // Where ink begins, and how sharp its edge is.
    let (threshold, edge) = (draw.between(0.3, 0.55), draw.between(1.5, 4.0));
    let camera = Camera::draw(&mut draw, split);
    let shade = |at: usize| {
        let seen = interpolated(&digit.pixels, pose.inner(place(at, side)));
        let share = (0.5 + edge * (seen - threshold)).clamp(0.0, 1.0);
        paper + (ink - paper) * share
    };
    let scene = (0..side * side).map(shade).collect();
    Picture { pixels: camera.take(scene, side, 1, &mut draw), label: digit.label, origin: row as u64 }
}

/// Between the four nearest pixels; paper outside.
fn interpolated(pixels: &[u8; SIDE * SIDE], at: [f32; 2]) -> f32 {
    let [x, y] = at.map(|at| (at + 1.0) * 0.5 * SIDE as f32 - 0.5);
    let (left, top) = (x.floor(), y.floor());
    let (right_share, low_share) = (x - left, y - top);
    let pixel = |dx: f32, dy: f32| {
        let (x, y) = (left + dx, top + dy);
        let inside = (0.0..SIDE as f32).contains(&x) && (0.0..SIDE as f32).contains(&y);
        if inside { f32::from(pixels[y as usize * SIDE + x as usize]) / 255.0 } else { 0.0 }
    };
    let line = |dy: f32| pixel(0.0, dy) + (pixel(1.0, dy) - pixel(0.0, dy)) * right_share;
    line(0.0) + (line(1.0) - line(0.0)) * low_share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_met_at_their_centres_and_paper_is_outside() {
        let mut pixels = [0; SIDE * SIDE];
        pixels[3 * SIDE + 5] = 255;
        let centre = |at: usize| (2 * at + 1) as f32 / SIDE as f32 - 1.0;
        assert!((interpolated(&pixels, [centre(5), centre(3)]) - 1.0).abs() < 1e-6);
        assert!((interpolated(&pixels, [centre(5) + 0.125, centre(3)]) - 0.5).abs() < 1e-6);
        for far in [[9.0, 0.0], [-9.0, 0.0], [0.0, f32::MAX], [f32::NAN, 0.0]] {
            let got = interpolated(&pixels, far);
            assert!(got == 0.0 || got.is_nan(), "{far:?}: {got}");
        }
    }
}
