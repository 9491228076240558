//! Small networks for small pictures, each the essence of a family: they are trained here, in minutes, to judge codecs on.
//!
//! No normalisation stands in the files: it is there while a network learns and is folded into the convolutions at the end,
//! as exporters do. Every convolution therefore has a bias.

use super::ConvShape;
use crate::build::{Fill, ModelBuilder};
use std::fmt;

/// A family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Small {
    /// Plain: pairs of convolutions and pools, most weights in the first full layer.
    Vgg,
    /// Residual blocks of two convolutions.
    Resnet,
    /// Inverted residual blocks with depthwise convolutions and ReLU6.
    Mobilenet,
}

/// What a small network sees and says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pictures {
    /// 1 or 3.
    pub channels: usize,
    /// Lines, and pixels of a line; a multiple of 8.
    pub side: usize,
    /// Classes that are told apart.
    pub classes: usize,
}

impl Small {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Vgg, Self::Resnet, Self::Mobilenet];

    /// Its name on command lines and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vgg => "vgg-small",
            Self::Resnet => "resnet-small",
            Self::Mobilenet => "mobilenet-small",
        }
    }

    /// The network, its weights not drawn yet: `[N, channels, side, side]` becomes `[N, classes]` logits.
    pub fn describe(self, pictures: Pictures) -> ModelBuilder {
        let mut b = ModelBuilder::new(self.name());
        let input = b.input("pixels", &[pictures.channels, pictures.side, pictures.side]);
        let logits = match self {
            Self::Vgg => vgg(&mut b, &input, pictures),
            Self::Resnet => resnet(&mut b, &input, pictures),
            Self::Mobilenet => mobilenet(&mut b, &input, pictures),
        };
        b.output(&logits, "logits", &[pictures.classes]);
        b
    }
}

impl fmt::Display for Small {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Channels of the convolutions; each pair ends in a pool.
const VGG_WIDTHS: [usize; 3] = [12, 24, 48];
/// Features of the full layer before the last.
const VGG_FEATURES: usize = 64;

fn vgg(b: &mut ModelBuilder, input: &str, pictures: Pictures) -> String {
    let (mut x, mut channels) = (input.to_owned(), pictures.channels);
    for (stage, width) in VGG_WIDTHS.into_iter().enumerate() {
        for place in 1..=2 {
            let module = format!("stage{}.conv{place}", stage + 1);
            x = b.conv(&module, &x, ConvShape::new(channels, width, 3, 1), true);
            x = b.relu(&module, &x);
            channels = width;
        }
        x = b.max_pool(&format!("stage{}", stage + 1), &x, 2, 2, 0);
    }
    x = b.flatten(&x);
    let side = pictures.side >> VGG_WIDTHS.len();
    x = b.linear("features", &x, channels * side * side, VGG_FEATURES);
    x = b.relu("features", &x);
    b.linear("head", &x, VGG_FEATURES, pictures.classes)
}

/// Channels of the stages, and their blocks; all but the first stage begin at half the extent.
const RESNET_STAGES: [(usize, usize); 3] = [(12, 1), (24, 2), (48, 1)];

fn resnet(b: &mut ModelBuilder, input: &str, pictures: Pictures) -> String {
    let mut channels = RESNET_STAGES[0].0;
    let mut x = b.conv("stem", input, ConvShape::new(pictures.channels, channels, 3, 1), true);
    x = b.relu("stem", &x);
    for (stage, (width, depth)) in RESNET_STAGES.into_iter().enumerate() {
        for place in 0..depth {
            let stride = if stage > 0 && place == 0 { 2 } else { 1 };
            x = residual(b, &format!("layer{}.{place}", stage + 1), &x, (channels, width), stride);
            channels = width;
        }
    }
    pooled_head(b, &x, channels, pictures.classes)
}

/// `relu(shortcut(x) + conv2(relu(conv1(x))))`
fn residual(b: &mut ModelBuilder, module: &str, x: &str, (from, to): (usize, usize), stride: usize) -> String {
    let y = b.conv(&format!("{module}.conv1"), x, ConvShape::new(from, to, 3, stride), true);
    let y = b.relu(&format!("{module}.relu1"), &y);
    let y = b.conv(&format!("{module}.conv2"), &y, ConvShape::new(to, to, 3, 1), true);
    let shortcut = if stride != 1 || from != to {
        b.conv(&format!("{module}.downsample"), x, ConvShape::new(from, to, 1, stride), true)
    } else {
        x.to_owned()
    };
    let y = b.node("Add", &format!("/{module}/Add"), &[&shortcut, &y], &[]);
    b.relu(module, &y)
}

/// Expansion, channels, stride.
const MOBILENET_BLOCKS: [(usize, usize, usize); 5] = [(1, 12, 1), (3, 20, 2), (3, 20, 1), (3, 36, 2), (3, 36, 1)];
/// Channels of the first and of the last convolution.
const MOBILENET_ENDS: (usize, usize) = (12, 96);

fn mobilenet(b: &mut ModelBuilder, input: &str, pictures: Pictures) -> String {
    b.weight("relu6.min", &[], Fill::Constant(0.0));
    b.weight("relu6.max", &[], Fill::Constant(6.0));
    let (mut channels, last) = MOBILENET_ENDS;
    let mut x = conv_relu6(b, "stem", input, ConvShape::new(pictures.channels, channels, 3, 1));
    for (place, (expansion, to, stride)) in MOBILENET_BLOCKS.into_iter().enumerate() {
        let (module, hidden) = (format!("block{}", place + 1), channels * expansion);
        let mut y = x.clone();
        if expansion != 1 {
            y = conv_relu6(b, &format!("{module}.expand"), &y, ConvShape::new(channels, hidden, 1, 1));
        }
        y = conv_relu6(b, &format!("{module}.depthwise"), &y, ConvShape::depthwise(hidden, stride));
        y = b.conv(&format!("{module}.project"), &y, ConvShape::new(hidden, to, 1, 1), true);
        if stride == 1 && channels == to {
            y = b.node("Add", &format!("/{module}/Add"), &[&x, &y], &[]);
        }
        (x, channels) = (y, to);
    }
    x = conv_relu6(b, "last", &x, ConvShape::new(channels, last, 1, 1));
    pooled_head(b, &x, last, pictures.classes)
}

fn conv_relu6(b: &mut ModelBuilder, module: &str, x: &str, shape: ConvShape) -> String {
    let y = b.conv(module, x, shape, true);
    b.node("Clip", &format!("/{module}/Clip"), &[&y, "relu6.min", "relu6.max"], &[])
}

fn pooled_head(b: &mut ModelBuilder, x: &str, channels: usize, classes: usize) -> String {
    let x = b.node("GlobalAveragePool", "/GlobalAveragePool", &[x], &[]);
    let x = b.flatten(&x);
    b.linear("head", &x, channels, classes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Graph, Limits, Op};

    #[test]
    fn sizes_are_as_intended() {
        // Parameters at 32 pixels in colour, million multiply-adds there and at 64 pixels.
        let table = [
            (Small::Vgg, 90_534, 5.7, 22.8),
            (Small::Resnet, 54_394, 9.76, 39.0),
            (Small::Mobilenet, 22_838, 3.31, 13.2),
        ];
        for (net, parameters, small, large) in table {
            for (side, millions) in [(32, small), (64, large)] {
                let pictures = Pictures { channels: 3, side, classes: 10 };
                let graph = Graph::parse(&net.describe(pictures).write(1), &Limits::default()).unwrap();
                let shapes = graph.row_shapes().unwrap();
                let heavy = |op: &Op| matches!(op, Op::Conv(_) | Op::Gemm(_));
                let layers = graph.layers.iter().enumerate().filter(|(_, l)| heavy(&l.op));
                let got = layers.map(|(i, _)| graph.flops(i, &shapes)).sum::<u64>() as f64 / 2e6;
                assert!((got / millions - 1.0).abs() < 0.05, "{net} at {side}: {got} million multiply-adds");
                assert_eq!(shapes.of(graph.output_values[0]), [1, 10]);
                assert!(graph.batchable, "{net}");
                if side == 32 {
                    assert_eq!(graph.parameter_count(), parameters, "{net}");
                }
            }
        }
    }

    #[test]
    fn families_have_what_makes_them_families() {
        let pictures = Pictures { channels: 1, side: 32, classes: 10 };
        let count = |net: Small, wanted: fn(&Op) -> bool| {
            let graph = Graph::parse(&net.describe(pictures).write(1), &Limits::default()).unwrap();
            graph.layers.iter().filter(|layer| wanted(&layer.op)).count()
        };
        assert_eq!(count(Small::Vgg, |op| matches!(op, Op::MaxPool(_))), 3);
        assert_eq!(count(Small::Resnet, |op| matches!(op, Op::Binary(_))), 4);
        assert_eq!(count(Small::Mobilenet, |op| matches!(op, Op::Conv(conv) if conv.groups > 1)), 5);
        assert_eq!(count(Small::Mobilenet, |op| matches!(op, Op::Clip { min: 0.0, max: 6.0 })), 11);
    }
}
