//! Pictures in the order in which they are learned from.

use crate::digits::{self, Digit, SIDE};
use crate::set::{Picture, Set, Split};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Epoch after epoch of pictures.
pub struct Lessons(Kind);

enum Kind {
    /// The scans themselves: in another order every time, moved by up to a pixel.
    Scans { scans: Vec<Digit>, order: Vec<usize>, random: Box<ChaCha8Rng> },
    /// Pictures that nobody has seen before.
    Fresh { set: Set, side: usize, seed: u64, per_epoch: usize, next: u64 },
}

impl Lessons {
    /// The 1,297 scans for training, of 8 x 8 pixels.
    pub fn scans(seed: u64) -> Self {
        let scans = digits::train();
        let order = (0..scans.len()).collect();
        Self(Kind::Scans { scans, order, random: Box::new(ChaCha8Rng::seed_from_u64(seed)) })
    }

    /// So many new pictures of a set in every epoch.
    pub fn fresh(set: Set, side: usize, seed: u64, per_epoch: usize) -> Self {
        Self(Kind::Fresh { set, side, seed, per_epoch, next: 0 })
    }

    /// Pictures of an epoch.
    pub fn per_epoch(&self) -> usize {
        match &self.0 {
            Kind::Scans { scans, .. } => scans.len(),
            Kind::Fresh { per_epoch, .. } => *per_epoch,
        }
    }

    /// The next epoch.
    pub fn epoch(&mut self) -> Box<dyn Iterator<Item = Picture> + '_> {
        match &mut self.0 {
            Kind::Scans { scans, order, random } => {
                let random = &mut **random;
                order.shuffle(random);
                Box::new(order.iter().map(|&at| moved(&scans[at], at, random)))
            }
            Kind::Fresh { set, side, seed, per_epoch, next } => {
                let first = *next;
                *next += *per_epoch as u64;
                let (set, side, seed) = (*set, *side, *seed);
                Box::new((first..*next).map(move |index| set.picture(Split::Train, side, seed, index)))
            }
        }
    }
}

/// The digit moved by up to a pixel in each direction: scans are not centred to the pixel.
fn moved(digit: &Digit, origin: usize, random: &mut ChaCha8Rng) -> Picture {
    let (down, right) = (random.random_range(0..3usize), random.random_range(0..3usize));
    let mut pixels = vec![0; SIDE * SIDE];
    for (i, pixel) in pixels.iter_mut().enumerate() {
        let (y, x) = (i / SIDE + down, i % SIDE + right);
        if (1..=SIDE).contains(&y) && (1..=SIDE).contains(&x) {
            *pixel = digit.pixels[(y - 1) * SIDE + x - 1];
        }
    }
    Picture { pixels, label: digit.label, origin: origin as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scans_come_all_in_another_order_and_moved() {
        let mut lessons = Lessons::scans(3);
        let first: Vec<Picture> = lessons.epoch().collect();
        let second: Vec<Picture> = lessons.epoch().collect();
        assert_eq!((first.len(), lessons.per_epoch()), (1_297, 1_297));
        let origins = |pictures: &[Picture]| pictures.iter().map(|p| p.origin).collect::<Vec<_>>();
        assert_ne!(origins(&first), origins(&second));
        let mut sorted = origins(&second);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1_297).collect::<Vec<_>>());
        assert_eq!(Lessons::scans(3).epoch().next(), first.first().cloned());
        let scans = digits::train();
        let unmoved = first.iter().filter(|p| p.pixels[..] == scans[p.origin as usize].pixels[..]).count();
        assert!((50..400).contains(&unmoved), "a ninth stays in place, {unmoved} of 1,297 did");
    }

    #[test]
    fn fresh_pictures_never_come_again() {
        let mut lessons = Lessons::fresh(Set::Shapes, 32, 1, 20);
        let mut all: Vec<Picture> = lessons.epoch().collect();
        all.extend(lessons.epoch());
        assert_eq!(all.len(), 40);
        for (i, picture) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|other| other.pixels != picture.pixels));
        }
    }
}
