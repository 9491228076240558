//! What survives a swap or a restart: corrections and batch sizes, by the names of model and device, since ids change.

use crate::{Aimd, Correction, Estimates, Measured};
use bps_policy_sdk::{Nanos, TABLE_BATCHES, World};
use serde::{Deserialize, Serialize};

/// Names the layout of [`Learned`] as JSON.
pub const STATE_SCHEMA: &str = "bps-batching-2";

/// All that has been learned. Floats travel as their bits: a successor decides exactly as its predecessor would.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Learned {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    model: String,
    device: String,
    /// A factor's bits, and when it was last learned.
    corrections: [Option<(u64, Nanos)>; TABLE_BATCHES.len()],
    aimd_bits: Option<u64>,
}

impl Learned {
    /// What is known about the models and devices of `world`.
    pub fn collect(world: &World, estimates: &Estimates, aimd: &Aimd) -> Self {
        let mut entries = vec![];
        for model in &world.info().models {
            for device in world.local_devices(model.id) {
                let key = (model.id, *device);
                let (correction, size) = (estimates.corrections.get(&key), aimd.sizes.get(&key));
                if let Some(info) = world.device(*device).filter(|_| correction.is_some() || size.is_some()) {
                    entries.push(Entry {
                        model: model.name.clone(),
                        device: info.name.clone(),
                        corrections: correction.copied().unwrap_or_default().0.map(|known| known.map(bits)),
                        aimd_bits: size.map(|size| size.to_bits()),
                    });
                }
            }
        }
        Self { entries }
    }

    /// What of it applies to `world`, at the time of the last snapshot. Values that no run could have learned are left out.
    pub fn apply(&self, world: &World, now: Nanos) -> (Estimates, Aimd) {
        let (mut estimates, mut aimd) = (Estimates { now, ..Estimates::default() }, Aimd::default());
        for entry in &self.entries {
            for model in world.info().models.iter().filter(|model| model.name == entry.model) {
                let is_it = |id: &&u32| world.device(**id).is_some_and(|device| device.name == entry.device);
                for device in world.local_devices(model.id).iter().filter(is_it) {
                    let key = (model.id, *device);
                    let correction = entry.corrections.map(|known| known.and_then(measured));
                    if correction.iter().any(Option::is_some) {
                        estimates.corrections.insert(key, Correction(correction));
                    }
                    if let Some(size) = entry.aimd_bits.and_then(positive) {
                        aimd.sizes.insert(key, size);
                    }
                }
            }
        }
        (estimates, aimd)
    }
}

fn bits(known: Measured) -> (u64, Nanos) {
    (known.factor.to_bits(), known.at)
}

fn measured((bits, at): (u64, Nanos)) -> Option<Measured> {
    positive(bits).map(|factor| Measured { factor, at })
}

fn positive(bits: u64) -> Option<f64> {
    Some(f64::from_bits(bits)).filter(|value| value.is_finite() && *value > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bps_policy_sdk::testing::world;

    #[test]
    fn what_was_learned_follows_the_names() {
        let (mut before, mut after) = (World::default(), World::default());
        before.replace(world(&[(1, "m"), (2, "n")], 2));
        after.replace(world(&[(8, "n"), (9, "m")], 2));
        let mut estimates = Estimates::default();
        let at = |factor: f64| Some(Measured { factor, at: 5 });
        estimates.corrections.insert((1, 2), Correction([at(1.1), None, None, None, None, at(0.3)]));
        let aimd = Aimd { sizes: [((2, 1), 7.3)].into() };
        let (moved, sizes) = Learned::collect(&before, &estimates, &aimd).apply(&after, 7);
        assert_eq!(moved.corrections.get(&(9, 2)), estimates.corrections.get(&(1, 2)));
        assert_eq!(sizes.sizes, [((8, 1), 7.3)].into());
        assert_eq!(moved.corrections.len(), 1);
    }
}
