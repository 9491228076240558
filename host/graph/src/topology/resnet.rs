//! ResNet-18 and ResNet-50 (He et al., 2015).

use super::ConvShape;
use crate::build::ModelBuilder;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Block {
    /// Two 3 x 3 convolutions.
    Basic,
    /// 1 x 1, 3 x 3 and 1 x 1, the last with four times the channels.
    Bottleneck,
}

pub(super) fn describe(name: &str, depths: [usize; 4], block: Block) -> ModelBuilder {
    let mut b = ModelBuilder::new(name);
    let input = b.input("input", &[3, 224, 224]);
    let mut x = b.conv("conv1", &input, ConvShape::new(3, 64, 7, 2), false);
    x = b.batch_norm("bn1", &x, 64);
    x = b.relu("relu", &x);
    x = b.max_pool("maxpool", &x, 3, 2, 1);
    let mut channels = 64;
    for (stage, depth) in depths.into_iter().enumerate() {
        let width = 64 << stage;
        for place in 0..depth {
            let stride = if stage > 0 && place == 0 { 2 } else { 1 };
            let module = format!("layer{}.{place}", stage + 1);
            (x, channels) = residual(&mut b, &module, &x, channels, width, stride, block);
        }
    }
    x = b.node("GlobalAveragePool", "/avgpool/GlobalAveragePool", &[&x], &[]);
    x = b.flatten(&x);
    x = b.linear("fc", &x, channels, 1000);
    b.output(&x, "logits", &[1000]);
    b
}

/// Returns the tensor and its channels.
fn residual(
    b: &mut ModelBuilder,
    module: &str,
    x: &str,
    from: usize,
    width: usize,
    stride: usize,
    block: Block,
) -> (String, usize) {
    let to = if block == Block::Basic { width } else { 4 * width };
    let convolutions = match block {
        Block::Basic => vec![ConvShape::new(from, width, 3, stride), ConvShape::new(width, to, 3, 1)],
        Block::Bottleneck => vec![
            ConvShape::new(from, width, 1, 1),
            ConvShape::new(width, width, 3, stride),
            ConvShape::new(width, to, 1, 1),
        ],
    };
    let last = convolutions.len();
    let mut y = x.to_owned();
    for (shape, place) in convolutions.into_iter().zip(1..) {
        y = b.conv(&format!("{module}.conv{place}"), &y, shape, false);
        y = b.batch_norm(&format!("{module}.bn{place}"), &y, shape.channels.1);
        if place < last {
            y = b.relu(&format!("{module}.relu{place}"), &y);
        }
    }
    let mut shortcut = x.to_owned();
    if stride != 1 || from != to {
        shortcut = b.conv(&format!("{module}.downsample.0"), x, ConvShape::new(from, to, 1, stride), false);
        shortcut = b.batch_norm(&format!("{module}.downsample.1"), &shortcut, to);
    }
    y = b.node("Add", &format!("/{module}/Add"), &[&y, &shortcut], &[]);
    (b.relu(&format!("{module}.relu"), &y), to)
}
