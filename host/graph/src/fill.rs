//! Contents of weights: constants, or seeded random numbers that are equal on every platform.

use rand::SeedableRng;
use rand::rand_core::Rng;
use rand_chacha::ChaCha8Rng;

/// What a weight is filled with.
#[derive(Clone, Debug, PartialEq)]
pub enum Fill {
    /// One number everywhere.
    Constant(f32),
    /// These, in row-major order; their number has to fit the shape.
    Values(Vec<f32>),
    /// Normally distributed around 0.
    Normal {
        /// Standard deviation.
        deviation: f32,
    },
    /// Equally distributed.
    Uniform {
        /// Least.
        low: f32,
        /// Most, exclusive.
        high: f32,
    },
}

impl Fill {
    /// He's initialization for layers before a ReLU: `fan_in` is the number of inputs of one output element.
    pub fn he_normal(fan_in: usize) -> Self {
        Self::Normal { deviation: libm::sqrtf(2.0 / fan_in.max(1) as f32) }
    }

    /// `count` numbers as little-endian bytes. Each `stream` of a seed is a sequence of its own.
    pub(crate) fn bytes(&self, count: usize, seed: u64, stream: u64) -> Vec<u8> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(stream);
        match self {
            Self::Constant(value) => value.to_le_bytes().repeat(count),
            Self::Values(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Self::Uniform { low, high } => {
                let values = (0..count).map(|_| low + (high - low) * unit(&mut random));
                values.flat_map(f32::to_le_bytes).collect()
            }
            Self::Normal { deviation } => {
                let mut bytes = Vec::with_capacity(count * 4);
                for index in 0..count.div_ceil(2) {
                    let (a, b) = normal_pair(&mut random);
                    bytes.extend((a * deviation).to_le_bytes());
                    if index * 2 + 1 < count {
                        bytes.extend((b * deviation).to_le_bytes());
                    }
                }
                bytes
            }
        }
    }
}

/// In `[0, 1)`, from 24 bits: every value is exact.
fn unit(random: &mut ChaCha8Rng) -> f32 {
    (random.next_u32() >> 8) as f32 / 16_777_216.0
}

/// Box and Muller's two independent normal numbers.
fn normal_pair(random: &mut ChaCha8Rng) -> (f32, f32) {
    let radius = libm::sqrtf(-2.0 * libm::logf(1.0 - unit(random)));
    let (sine, cosine) = libm::sincosf(std::f32::consts::TAU * unit(random));
    (radius * cosine, radius * sine)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(fill: &Fill, count: usize, stream: u64) -> Vec<f32> {
        let bytes = fill.bytes(count, 7, stream);
        bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    #[test]
    fn normal_numbers_have_their_mean_and_deviation() {
        let drawn = values(&Fill::Normal { deviation: 2.0 }, 20_001, 0);
        let mean = drawn.iter().sum::<f32>() / drawn.len() as f32;
        let variance = drawn.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / drawn.len() as f32;
        assert_eq!(drawn.len(), 20_001);
        assert!(mean.abs() < 0.05 && (variance - 4.0).abs() < 0.15, "mean {mean}, variance {variance}");
    }

    #[test]
    fn uniform_numbers_stay_in_range_and_streams_differ() {
        let fill = Fill::Uniform { low: 0.5, high: 1.5 };
        let drawn = values(&fill, 1000, 0);
        assert!(drawn.iter().all(|v| (0.5..1.5).contains(v)));
        assert_eq!(drawn, values(&fill, 1000, 0));
        assert_ne!(drawn, values(&fill, 1000, 1));
    }

    #[test]
    fn the_sequence_never_changes() {
        // written down once: generated models are part of golden results
        let drawn = values(&Fill::Normal { deviation: 1.0 }, 3, 0);
        let bits: Vec<u32> = drawn.iter().map(|v| v.to_bits()).collect();
        assert_eq!(bits, [1050276716, 1055609367, 1050670211]);
    }
}
