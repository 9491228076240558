//! MobileNetV2 (Sandler et al., 2018).

use super::ConvShape;
use crate::build::{Fill, ModelBuilder};

/// Expansion, channels, blocks, stride of the first block.
const STAGES: [(usize, usize, usize, usize); 7] =
    [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)];

pub(super) fn describe(name: &str) -> ModelBuilder {
    let mut b = ModelBuilder::new(name);
    let input = b.input("input", &[3, 224, 224]);
    b.weight("relu6.min", &[], Fill::Constant(0.0));
    b.weight("relu6.max", &[], Fill::Constant(6.0));
    let mut x = conv_bn(&mut b, "features.0", &input, ConvShape::new(3, 32, 3, 2));
    let (mut channels, mut place) = (32, 1);
    for (expansion, to, depth, first_stride) in STAGES {
        for block in 0..depth {
            let stride = if block == 0 { first_stride } else { 1 };
            x = inverted_residual(&mut b, &format!("features.{place}"), &x, (channels, to), expansion, stride);
            (channels, place) = (to, place + 1);
        }
    }
    x = conv_bn(&mut b, &format!("features.{place}"), &x, ConvShape::new(channels, 1280, 1, 1));
    x = b.node("GlobalAveragePool", "/GlobalAveragePool", &[&x], &[]);
    x = b.flatten(&x);
    x = b.linear("classifier.1", &x, 1280, 1000);
    b.output(&x, "logits", &[1000]);
    b
}

/// Convolution, normalisation, and a ReLU that ends at 6.
fn conv_bn(b: &mut ModelBuilder, module: &str, x: &str, shape: ConvShape) -> String {
    let y = b.conv(&format!("{module}.0"), x, shape, false);
    let y = b.batch_norm(&format!("{module}.1"), &y, shape.channels.1);
    b.node("Clip", &format!("/{module}/Clip"), &[&y, "relu6.min", "relu6.max"], &[])
}

fn inverted_residual(
    b: &mut ModelBuilder,
    module: &str,
    x: &str,
    (from, to): (usize, usize),
    expansion: usize,
    stride: usize,
) -> String {
    let hidden = from * expansion;
    let (mut y, mut place) = (x.to_owned(), 0);
    if expansion != 1 {
        y = conv_bn(b, &format!("{module}.conv.0"), &y, ConvShape::new(from, hidden, 1, 1));
        place = 1;
    }
    y = conv_bn(b, &format!("{module}.conv.{place}"), &y, ConvShape::depthwise(hidden, stride));
    y = b.conv(&format!("{module}.conv.{}", place + 1), &y, ConvShape::new(hidden, to, 1, 1), false);
    y = b.batch_norm(&format!("{module}.conv.{}", place + 2), &y, to);
    if stride == 1 && from == to {
        y = b.node("Add", &format!("/{module}/Add"), &[x, &y], &[]);
    }
    y
}
