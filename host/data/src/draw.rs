//! The random numbers of a picture.

use crate::set::{Set, Split};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Numbers that only one picture draws from.
pub(crate) struct Draw(ChaCha8Rng);

impl Draw {
    /// Set, split and seed are the key of a stream cipher, the index is the number of its stream: no two pictures share a
    /// stream.
    pub(crate) fn new(set: Set, split: Split, seed: u64, index: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(b"bps data");
        key[8] = match set {
            Set::Digits => 1,
            Set::Shapes => 2,
        };
        key[9] = match split {
            Split::Train => 1,
            Split::Calibration => 2,
            Split::Test => 3,
            Split::Shifted => 4,
            Split::Validation => 5,
        };
        key[16..24].copy_from_slice(&seed.to_le_bytes());
        let mut random = ChaCha8Rng::from_seed(key);
        random.set_stream(index);
        Self(random)
    }

    /// In `[0, 1)`, from 24 bits: every value is exact.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 / 16_777_216.0
    }

    /// In `[low, high)`, all alike.
    pub(crate) fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// One of `0 .. count`, of at most some thousands.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        ((u64::from(self.0.next_u32()) * count as u64) >> 32) as usize
    }

    /// Whether something of this probability happens.
    pub(crate) fn happens(&mut self, probability: f32) -> bool {
        self.unit() < probability
    }

    /// A direction in radians.
    pub(crate) fn angle(&mut self) -> f32 {
        self.between(0.0, std::f32::consts::TAU)
    }

    /// Mean 0, deviation 1, nothing beyond 3.5: the sum of the four bytes of one draw, as pictures need thousands of these.
    pub(crate) fn noise(&mut self) -> f32 {
        let sum: u32 = self.0.next_u32().to_le_bytes().into_iter().map(u32::from).sum();
        // A byte has variance (256^2 - 1) / 12.
        (sum as f32 - 510.0) / 147.798
    }
}
