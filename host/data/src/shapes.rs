//! Figures of ten forms in colour: what is told apart is the form; hue is a hint, everything else is in the way.
//!
//! A scene is ground, clutter, the figure, and often a stroke before it. Coordinates run from -1 to 1 to the right and down.

mod figure;
mod ground;

use crate::camera::{Camera, place};
use crate::draw::Draw;
use crate::set::{CLASSES, Picture, Set, Split};
use figure::Figure;
use ground::{Ground, Stroke};

/// How often a stroke lies before the figure.
const COVERED: f32 = 0.25;

type Colour = [f32; 3];

pub(crate) fn picture(split: Split, side: usize, seed: u64, index: u64) -> Picture {
    let mut draw = Draw::new(Set::Shapes, split, seed, index);
    let label = draw.below(CLASSES);
    let ground = Ground::draw(&mut draw);
    let clutter: Vec<Stroke> = (0..draw.below(3)).map(|_| Stroke::draw(&mut draw, [0.0; 2], 1.0)).collect();
    let figure = Figure::draw(&mut draw, label, &ground);
    let before = draw.happens(COVERED).then(|| Stroke::draw(&mut draw, figure.centre(), 0.8 * figure.radius()));
    let camera = Camera::draw(&mut draw, split);
    let pixel = 2.0 / side as f32;
    let mut scene = Vec::with_capacity(side * side * 3);
    for at in 0..side * side {
        let place = place(at, side);
        let mut colour = ground.at(place);
        for stroke in &clutter {
            colour = stroke.over(colour, place, pixel);
        }
        colour = figure.over(colour, place, pixel);
        if let Some(stroke) = &before {
            colour = stroke.over(colour, place, pixel);
        }
        scene.extend(colour);
    }
    Picture { pixels: camera.take(scene, side, 3, &mut draw), label: label as u8, origin: index }
}

/// From hue (in turns), saturation and brightness.
fn colour(hue: f32, saturation: f32, brightness: f32) -> Colour {
    let turn = |shift: f32| {
        let at = 6.0 * (hue + shift - (hue + shift).floor());
        ((at - 3.0).abs() - 1.0).clamp(0.0, 1.0)
    };
    [turn(0.0), turn(2.0 / 3.0), turn(1.0 / 3.0)].map(|full| brightness * (1.0 - saturation + saturation * full))
}

/// `a` where `share` is 0, `b` where it is 1.
fn mix(a: Colour, b: Colour, share: f32) -> Colour {
    [0, 1, 2].map(|c| a[c] + (b[c] - a[c]) * share)
}

/// How much of a pixel lies within a border that is so far outside it.
fn covered(distance: f32, pixel: f32) -> f32 {
    (0.5 - distance / pixel).clamp(0.0, 1.0)
}

/// Rises and falls between -1 and 1, once in a length of 1.
fn wave(at: f32) -> f32 {
    4.0 * (at - (at + 0.5).floor()).abs() - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_what_their_hues_say() {
        let near = |a: Colour, b: Colour| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
        let table = [
            ((0.0, 1.0, 1.0), [1.0, 0.0, 0.0]),
            ((1.0 / 3.0, 1.0, 1.0), [0.0, 1.0, 0.0]),
            ((2.0 / 3.0, 1.0, 0.5), [0.0, 0.0, 0.5]),
            ((-1.0, 1.0, 1.0), [1.0, 0.0, 0.0]),
            ((0.4, 0.0, 0.7), [0.7, 0.7, 0.7]),
        ];
        for ((hue, saturation, brightness), wanted) in table {
            let got = colour(hue, saturation, brightness);
            assert!(near(got, wanted), "{hue} {saturation} {brightness}: {got:?}");
        }
    }

    #[test]
    fn waves_and_borders() {
        assert_eq!([0.0, 0.25, 0.5, 0.75, 1.0, -0.5].map(wave), [-1.0, 0.0, 1.0, 0.0, -1.0, 1.0]);
        assert_eq!([-0.2, 0.0, 0.2].map(|d| covered(d, 0.1)), [1.0, 0.5, 0.0]);
    }
}
