//! What a figure stands before, and what lies across it.

use super::{Colour, colour, covered, mix, wave};
use crate::draw::Draw;

/// Two colours that run into each other, and stripes over them.
pub(super) struct Ground {
    colours: [Colour; 2],
    /// From one colour to the other.
    way: [f32; 2],
    /// Of the stripes: across them, how many for a length of 1, how strong.
    stripes: ([f32; 2], f32, f32),
}

impl Ground {
    pub(super) fn draw(draw: &mut Draw) -> Self {
        let colours = [(); 2].map(|()| colour(draw.unit(), draw.between(0.0, 0.7), draw.between(0.15, 0.85)));
        let (way, across) = (direction(draw), direction(draw));
        Self { colours, way, stripes: (across, draw.between(0.6, 4.0), draw.between(0.0, 0.18)) }
    }

    /// Its colour at a place.
    pub(super) fn at(&self, place: [f32; 2]) -> Colour {
        let (across, often, strength) = self.stripes;
        let base = mix(self.colours[0], self.colours[1], 0.5 + 0.35 * dot(place, self.way));
        let light = 1.0 + strength * wave(often * dot(place, across));
        base.map(|value| value * light)
    }
}

/// A line with round ends.
pub(super) struct Stroke {
    from: [f32; 2],
    to: [f32; 2],
    /// Half of its width.
    reach: f32,
    colour: Colour,
}

impl Stroke {
    /// One whose middle lies within `around` of a centre.
    pub(super) fn draw(draw: &mut Draw, centre: [f32; 2], around: f32) -> Self {
        let middle = centre.map(|at| at + draw.between(-around, around));
        let (along, half) = (direction(draw), draw.between(0.05, 0.9));
        let end = |sign: f32| [0, 1].map(|i| middle[i] + sign * half * along[i]);
        let (hue, saturation, brightness) = (draw.unit(), draw.between(0.0, 0.9), draw.between(0.1, 0.95));
        let reach = draw.between(0.04, 0.14);
        Self { from: end(-1.0), to: end(1.0), reach, colour: colour(hue, saturation, brightness) }
    }

    /// What is seen of a colour that it lies before.
    pub(super) fn over(&self, under: Colour, place: [f32; 2], pixel: f32) -> Colour {
        let along = [0, 1].map(|i| self.to[i] - self.from[i]);
        let apart = [0, 1].map(|i| place[i] - self.from[i]);
        let at = (dot(apart, along) / dot(along, along).max(1e-6)).clamp(0.0, 1.0);
        let off = [0, 1].map(|i| apart[i] - at * along[i]);
        let square = dot(off, off);
        if square > (self.reach + pixel) * (self.reach + pixel) {
            return under; // most places are far away: no root for them
        }
        mix(under, self.colour, covered(square.sqrt() - self.reach, pixel))
    }
}

fn direction(draw: &mut Draw) -> [f32; 2] {
    let (sine, cosine) = libm::sincosf(draw.angle());
    [cosine, sine]
}

pub(super) fn dot(a: [f32; 2], b: [f32; 2]) -> f32 {
    a[0] * b[0] + a[1] * b[1]
}
