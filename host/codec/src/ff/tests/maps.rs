//! Made-up feature maps: soft spots on a floor, a little noise, and a ReLU. Not the maps that the data-free package was
//! made from.

/// A sequence without pattern.
pub struct Dice(pub u64);

impl Dice {
    /// The next number, below one.
    pub fn roll(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mixed = (self.0 ^ self.0 >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed >> 40) as f32 / 16_777_216.0
    }
}

/// `rows` maps of so many channels, lines and columns, NCHW. A channel has its own threshold and strength in all rows.
pub fn spots(seed: u64, [rows, channels, height, width]: [usize; 4]) -> Vec<f32> {
    let mut out = Vec::with_capacity(rows * channels * height * width);
    let mut dice = Dice(seed.wrapping_mul(977).wrapping_add(1));
    for _ in 0..rows {
        for channel in 0..channels {
            let mut fixed = Dice(channel as u64 * 7_919 + 3);
            let (floor, strength) = (fixed.roll() * 0.9 - 0.1, 0.3 + 2.0 * fixed.roll());
            let reach = 0.04 + 0.16 * fixed.roll();
            let count = 2 + (fixed.roll() * 8.0) as usize;
            let spots: Vec<[f32; 3]> = (0..count).map(|_| [dice.roll(), dice.roll(), 0.4 + dice.roll()]).collect();
            for y in 0..height {
                for x in 0..width {
                    let (v, u) = ((y as f32 + 0.5) / height as f32, (x as f32 + 0.5) / width as f32);
                    let far = |s: &[f32; 3]| ((v - s[0]).powi(2) + (u - s[1]).powi(2)) / (reach * reach);
                    let sum: f32 = spots.iter().map(|s| s[2] / (1.0 + far(s)).powi(2)).sum();
                    let grain = 0.12 * (dice.roll() + dice.roll() - 1.0);
                    out.push(((sum + grain - floor) * strength).max(0.0));
                }
            }
        }
    }
    out
}

/// Squared error over squares.
pub fn nmse(values: &[f32], back: &[f32]) -> f64 {
    let square = |v: f32| f64::from(v) * f64::from(v);
    let error: f64 = values.iter().zip(back).map(|(a, b)| square(a - b)).sum();
    error / values.iter().map(|v| square(*v)).sum::<f64>().max(1e-40)
}
