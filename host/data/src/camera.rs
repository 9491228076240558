//! From a scene to bytes: light, lens and sensor.

use crate::draw::Draw;
use crate::set::Split;

/// The conditions that one picture is taken under.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Camera {
    /// Factor of all light.
    exposure: f32,
    /// Factor of each channel.
    tint: [f32; 3],
    /// How much brighter it gets from the centre to the edge, to the right and down.
    slope: [f32; 2],
    /// Deviation of the blur, in parts of 1/32 of the picture.
    blur: f32,
    /// Deviation of the noise, of a full scale of 1.
    noise: f32,
}

impl Camera {
    /// Daylight for most splits; dusk, lamplight and a cheap lens for the shifted one.
    pub(crate) fn draw(draw: &mut Draw, split: Split) -> Self {
        let shifted = split == Split::Shifted;
        let (dark, bright) = if shifted { (0.5, 0.85) } else { (0.8, 1.2) };
        let tinted = if shifted { 0.25 } else { 0.08 };
        let steep = if shifted { 0.5 } else { 0.25 };
        let (sharp, soft) = if shifted { (0.5, 1.0) } else { (0.0, 0.6) };
        let (quiet, loud) = if shifted { (0.04, 0.08) } else { (0.01, 0.04) };
        let exposure = draw.between(dark, bright);
        let tint = [(); 3].map(|()| 1.0 + draw.between(-tinted, tinted));
        let slope = [(); 2].map(|()| draw.between(-steep, steep));
        Self { exposure, tint, slope, blur: draw.between(sharp, soft), noise: draw.between(quiet, loud) }
    }

    /// The bytes of a scene of `channels` values a pixel, each around 0 to 1.
    pub(crate) fn take(&self, mut scene: Vec<f32>, side: usize, channels: usize, draw: &mut Draw) -> Vec<u8> {
        for (pixel, values) in scene.chunks_exact_mut(channels).enumerate() {
            let [x, y] = place(pixel, side);
            let light = self.exposure * (1.0 + self.slope[0] * x + self.slope[1] * y);
            values.iter_mut().zip(&self.tint).for_each(|(value, tint)| *value *= light * tint);
        }
        blur(&mut scene, side, channels, self.blur * side as f32 / 32.0);
        // A saturating cast is what clamping would do.
        scene.into_iter().map(|value| (255.0 * (value + self.noise * draw.noise())).round() as u8).collect()
    }
}

/// The centre of a pixel, from -1 to 1 to the right and down.
pub(crate) fn place(pixel: usize, side: usize) -> [f32; 2] {
    [pixel % side, pixel / side].map(|at| (2 * at + 1) as f32 / side as f32 - 1.0)
}

/// A Gaussian of this deviation in pixels, along lines and then along columns; the edge goes on outside.
fn blur(scene: &mut [f32], side: usize, channels: usize, deviation: f32) {
    let reach = (2.0 * deviation).ceil() as usize;
    if deviation < 0.2 || reach >= side {
        return; // too little to be seen
    }
    let weights: Vec<f32> =
        (0..=reach).map(|at| libm::expf(-0.5 * (at * at) as f32 / (deviation * deviation))).collect();
    let sum = weights[0] + 2.0 * weights[1..].iter().sum::<f32>();
    let mut line = vec![0.0; side];
    for (step, across) in [(channels, side * channels), (side * channels, channels)] {
        for first in (0..side).flat_map(|at| (0..channels).map(move |channel| at * across + channel)) {
            line.iter_mut().enumerate().for_each(|(at, value)| *value = scene[first + at * step]);
            for at in 0..side {
                let tail = |(far, weight): (usize, &f32)| {
                    weight * (line[at.saturating_sub(far)] + line[(at + far).min(side - 1)])
                };
                let tails = weights.iter().enumerate().skip(1).map(tail).sum::<f32>();
                scene[first + at * step] = (weights[0] * line[at] + tails) / sum;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blur_keeps_light_and_spreads_it_alike() {
        let (side, channels) = (9, 2);
        let mut scene = vec![0.0; side * side * channels];
        scene[(4 * side + 4) * channels] = 1.0;
        blur(&mut scene, side, channels, 1.0);
        let at = |x: usize, y: usize| scene[(y * side + x) * channels];
        assert!((scene.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        assert!(at(4, 4) > at(3, 4) && at(3, 4) > at(3, 3));
        for (a, b) in [(at(3, 4), at(5, 4)), (at(3, 4), at(4, 3)), (at(4, 5), at(4, 3))] {
            assert!((a - b).abs() < 1e-6);
        }
        assert!(scene.iter().skip(1).step_by(2).all(|v| *v == 0.0), "channels do not mix");
    }

    #[test]
    fn places_are_symmetric() {
        assert_eq!((place(0, 4), place(15, 4), place(1, 4)), ([-0.75, -0.75], [0.75, 0.75], [-0.25, -0.75]));
    }
}
