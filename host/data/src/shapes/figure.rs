//! The ten forms, and how one of them looks.

use super::ground::{Ground, dot};
use super::{Colour, colour, covered, mix, wave};
use crate::draw::Draw;
use crate::set::CLASSES;

/// A border around the origin, within 1 of it.
enum Form {
    Disc,
    Ring,
    Crescent,
    Polygon(&'static [[f32; 2]]),
    /// A line along a polygon, so wide to both sides.
    Frame(&'static [[f32; 2]], f32),
}

const SQUARE: &[[f32; 2]] = &[[-0.72, -0.72], [0.72, -0.72], [0.72, 0.72], [-0.72, 0.72]];
const TRIANGLE: &[[f32; 2]] = &[[0.0, -0.95], [0.9, 0.65], [-0.9, 0.65]];
const STAR: &[[f32; 2]] = &[
    [0.0, -1.0],
    [0.247, -0.34],
    [0.951, -0.309],
    [0.4, 0.13],
    [0.588, 0.809],
    [0.0, 0.42],
    [-0.588, 0.809],
    [-0.4, 0.13],
    [-0.951, -0.309],
    [-0.247, -0.34],
];
const CROSS: &[[f32; 2]] = &[
    [-0.3, -0.95],
    [0.3, -0.95],
    [0.3, -0.3],
    [0.95, -0.3],
    [0.95, 0.3],
    [0.3, 0.3],
    [0.3, 0.95],
    [-0.3, 0.95],
    [-0.3, 0.3],
    [-0.95, 0.3],
    [-0.95, -0.3],
    [-0.3, -0.3],
];
const HOURGLASS: &[[f32; 2]] = &[[-0.75, -0.85], [0.75, -0.85], [0.15, 0.0], [0.75, 0.85], [-0.75, 0.85], [-0.15, 0.0]];
const ARROW: &[[f32; 2]] = &[[0.0, -1.0], [0.8, 0.0], [0.3, 0.0], [0.3, 0.9], [-0.3, 0.9], [-0.3, 0.0], [-0.8, 0.0]];

/// By label.
const FORMS: [Form; CLASSES] = [
    Form::Disc,
    Form::Ring,
    Form::Crescent,
    Form::Polygon(SQUARE),
    Form::Frame(SQUARE, 0.16),
    Form::Polygon(TRIANGLE),
    Form::Polygon(STAR),
    Form::Polygon(CROSS),
    Form::Polygon(HOURGLASS),
    Form::Polygon(ARROW),
];

/// How far a place lies outside a form; negative inside.
fn distance(form: &Form, place: [f32; 2]) -> f32 {
    let from = |centre: [f32; 2]| {
        let off = [place[0] - centre[0], place[1] - centre[1]];
        dot(off, off).sqrt()
    };
    match form {
        Form::Disc => from([0.0; 2]) - 0.82,
        Form::Ring => (from([0.0; 2]) - 0.68).abs() - 0.2,
        Form::Crescent => (from([0.0; 2]) - 0.9).max(0.72 - from([0.42, 0.0])),
        Form::Polygon(corners) => polygon(corners, place),
        Form::Frame(corners, reach) => (polygon(corners, place) + reach).abs() - reach,
    }
}

/// To the nearest side; inside is where a line to the right crosses an odd number of them.
fn polygon(corners: &[[f32; 2]], place: [f32; 2]) -> f32 {
    let (mut nearest, mut inside) = (f32::MAX, false);
    let mut last = corners[corners.len() - 1];
    for &corner in corners {
        let side = [corner[0] - last[0], corner[1] - last[1]];
        let apart = [place[0] - last[0], place[1] - last[1]];
        let at = (dot(apart, side) / dot(side, side)).clamp(0.0, 1.0);
        let off = [apart[0] - at * side[0], apart[1] - at * side[1]];
        nearest = nearest.min(dot(off, off));
        if (last[1] > place[1]) != (corner[1] > place[1]) && place[0] < last[0] + side[0] * apart[1] / side[1] {
            inside = !inside;
        }
        last = corner;
    }
    if inside { -nearest.sqrt() } else { nearest.sqrt() }
}

/// What covers a figure.
#[derive(Clone, Copy)]
enum Surface {
    Plain,
    /// So many stripes for its radius.
    Stripes(f32),
    /// So many squares for its radius.
    Checks(f32),
}

/// How far a figure leans to either side, in radians.
const TILT: f32 = 0.35;

/// A form somewhere, in a size, turned, mirrored, stretched, coloured.
pub(super) struct Figure {
    form: &'static Form,
    centre: [f32; 2],
    radius: f32,
    /// Rows that turn a place into the form's coordinates.
    inverse: [[f32; 2]; 2],
    colours: [Colour; 2],
    surface: Surface,
}

impl Figure {
    pub(super) fn draw(draw: &mut Draw, label: usize, ground: &Ground) -> Self {
        let radius = draw.between(0.5, 0.85);
        let room = 1.0 - 0.95 * radius;
        let centre = [(); 2].map(|()| draw.between(-room, room));
        let (sine, cosine) = libm::sincosf(draw.between(-TILT, TILT));
        let stretch = draw.between(0.8, 1.25).sqrt();
        let mirrored = if draw.happens(0.5) { -1.0 } else { 1.0 };
        let (along, across) = (1.0 / (radius * stretch), mirrored * stretch / radius);
        let inverse = [[cosine * along, sine * along], [-sine * across, cosine * across]];
        let behind = ground.at(centre);
        // A few attempts at a colour that is seen before this ground; the last one stays.
        let mut front = own_colour(draw, label);
        for _ in 0..4 {
            if apart(front, behind) > 0.4 {
                break;
            }
            front = own_colour(draw, label);
        }
        let shade = 1.0 + draw.between(-0.35, 0.35);
        let surface = match draw.below(3) {
            0 => Surface::Plain,
            1 => Surface::Stripes(draw.between(1.0, 2.5)),
            _ => Surface::Checks(draw.between(1.0, 2.5)),
        };
        Self { form: &FORMS[label], centre, radius, inverse, colours: [front, front.map(|v| v * shade)], surface }
    }

    pub(super) fn centre(&self) -> [f32; 2] {
        self.centre
    }

    pub(super) fn radius(&self) -> f32 {
        self.radius
    }

    /// What is seen of a colour that it stands before.
    pub(super) fn over(&self, under: Colour, place: [f32; 2], pixel: f32) -> Colour {
        let off = [place[0] - self.centre[0], place[1] - self.centre[1]];
        let inner = self.inverse.map(|row| dot(row, off));
        if dot(inner, inner) > 2.0 {
            return under; // beyond every form
        }
        let share = covered(distance(self.form, inner), pixel / self.radius);
        if share == 0.0 { under } else { mix(under, self.own(inner), share) }
    }

    fn own(&self, inner: [f32; 2]) -> Colour {
        let share = match self.surface {
            Surface::Plain => 0.0,
            Surface::Stripes(often) => wave(often * inner[0]),
            Surface::Checks(often) => wave(often * inner[0]) * wave(often * inner[1]),
        };
        mix(self.colours[0], self.colours[1], (2.0 * share).clamp(0.0, 1.0))
    }
}

/// Every form has a hue that it prefers, but not for certain.
fn own_colour(draw: &mut Draw, label: usize) -> Colour {
    let hue = label as f32 / CLASSES as f32 + 0.07 * draw.noise();
    colour(hue, draw.between(0.35, 1.0), draw.between(0.35, 1.0))
}

fn apart(a: Colour, b: Colour) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_where_they_should_be() {
        // Label, a place, whether it is inside.
        let table = [
            (0, [0.0, 0.0], true),
            (0, [0.6, 0.6], false),
            (1, [0.0, 0.0], false),
            (1, [0.7, 0.0], true),
            (2, [-0.6, 0.0], true),
            (2, [0.3, 0.0], false),
            (3, [0.7, 0.7], true),
            (4, [0.0, 0.0], false),
            (4, [0.6, 0.6], true),
            (5, [0.0, -0.8], true),
            (5, [0.7, -0.5], false),
            (6, [0.0, -0.9], true),
            (6, [0.4, -0.7], false),
            (7, [0.9, 0.0], true),
            (7, [0.6, 0.6], false),
            (8, [0.5, -0.8], true),
            (8, [0.5, 0.0], false),
            (9, [0.0, 0.8], true),
            (9, [0.6, 0.5], false),
        ];
        for (label, place, inside) in table {
            let got = distance(&FORMS[label], place);
            assert_eq!(got < 0.0, inside, "form {label} at {place:?}: {got}");
        }
    }

    #[test]
    fn distances_are_lengths() {
        assert!((polygon(SQUARE, [1.72, 0.0]) - 1.0).abs() < 1e-6);
        assert!((polygon(SQUARE, [0.0, 0.0]) + 0.72).abs() < 1e-6);
        assert!((distance(&Form::Disc, [0.0, 1.82]) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn no_form_leaves_the_circle_that_is_looked_at() {
        for (label, form) in FORMS.iter().enumerate() {
            for step in 0..64 {
                let (sine, cosine) = libm::sincosf(step as f32 / 64.0 * std::f32::consts::TAU);
                assert!(distance(form, [1.41 * cosine, 1.41 * sine]) > 0.0, "form {label}");
            }
        }
    }
}
