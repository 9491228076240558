//! VGG-16 (Simonyan and Zisserman, 2014). The adaptive pool before the classifier does nothing at 224 pixels and is left
//! out, as is dropout.

use super::ConvShape;
use crate::build::ModelBuilder;

/// Channels of the convolutions; each group ends in a pool.
const GROUPS: [&[usize]; 5] = [&[64, 64], &[128, 128], &[256, 256, 256], &[512, 512, 512], &[512, 512, 512]];

pub(super) fn describe(name: &str) -> ModelBuilder {
    let mut b = ModelBuilder::new(name);
    let mut x = b.input("input", &[3, 224, 224]);
    let (mut channels, mut place) = (3, 0);
    for group in GROUPS {
        for to in group {
            x = b.conv(&format!("features.{place}"), &x, ConvShape::new(channels, *to, 3, 1), true);
            x = b.relu(&format!("features.{}", place + 1), &x);
            (channels, place) = (*to, place + 2);
        }
        x = b.max_pool(&format!("features.{place}"), &x, 2, 2, 0);
        place += 1;
    }
    x = b.flatten(&x);
    for (module, from, to) in [("classifier.0", channels * 7 * 7, 4096), ("classifier.3", 4096, 4096)] {
        x = b.linear(module, &x, from, to);
        x = b.relu(module, &x);
    }
    x = b.linear("classifier.6", &x, 4096, 1000);
    b.output(&x, "logits", &[1000]);
    b
}
