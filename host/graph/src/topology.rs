//! Well-known networks with seeded random weights: something to measure with where no trained model is at hand.
//!
//! The forms and names are torchvision's, at 224 pixels and 1000 classes; DigitsNet is our own, small enough to be trained in
//! seconds, and [`small`] holds three that are trained in minutes.

mod digits;
mod mobilenet;
mod resnet;
pub mod small;
mod vgg;

use crate::build::{Attribute, Fill, ModelBuilder};
use std::fmt;
use std::str::FromStr;

/// A network that can be generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// 18 layers of residual blocks of two convolutions.
    Resnet18,
    /// 50 layers of residual blocks of three convolutions.
    Resnet50,
    /// Inverted residual blocks with depthwise convolutions.
    MobilenetV2,
    /// 16 layers without branches, most weights in the last three.
    Vgg16,
    /// Residual network for 8 x 8 images of digits: `[N, 1, 8, 8]` in 0 to 1 becomes `[N, 10]` logits.
    DigitsNet,
}

impl Topology {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Resnet18, Self::Resnet50, Self::MobilenetV2, Self::Vgg16, Self::DigitsNet];

    /// Its name on command lines and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Resnet18 => "resnet18",
            Self::Resnet50 => "resnet50",
            Self::MobilenetV2 => "mobilenet-v2",
            Self::Vgg16 => "vgg16",
            Self::DigitsNet => "digits",
        }
    }

    /// The network, its weights not drawn yet.
    pub fn describe(self) -> ModelBuilder {
        match self {
            Self::Resnet18 => resnet::describe(self.name(), [2, 2, 2, 2], resnet::Block::Basic),
            Self::Resnet50 => resnet::describe(self.name(), [3, 4, 6, 3], resnet::Block::Bottleneck),
            Self::MobilenetV2 => mobilenet::describe(self.name()),
            Self::Vgg16 => vgg::describe(self.name()),
            Self::DigitsNet => digits::describe(self.name()),
        }
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Topology {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|t| t.name() == name)
            .ok_or_else(|| format!("no network `{name}`; there are {known}"))
    }
}

/// The ONNX file; equal seeds give equal bytes.
pub fn make(topology: Topology, seed: u64) -> Vec<u8> {
    topology.describe().write(seed)
}

/// A convolution to be added: square kernel, border that keeps the extent at stride 1.
#[derive(Clone, Copy)]
struct ConvShape {
    channels: (usize, usize),
    kernel: usize,
    stride: usize,
    groups: usize,
}

impl ConvShape {
    fn new(from: usize, to: usize, kernel: usize, stride: usize) -> Self {
        Self { channels: (from, to), kernel, stride, groups: 1 }
    }

    fn depthwise(channels: usize, stride: usize) -> Self {
        Self { channels: (channels, channels), kernel: 3, stride, groups: channels }
    }
}

/// What torchvision's modules become when exported, on top of single nodes.
impl ModelBuilder {
    /// `<module>.weight`, and `<module>.bias` where asked for.
    fn conv(&mut self, module: &str, x: &str, shape: ConvShape, bias: bool) -> String {
        let ConvShape { channels: (from, to), kernel, stride, groups } = shape;
        let group_channels = from / groups;
        let fill = Fill::he_normal(group_channels * kernel * kernel);
        let weight = self.weight(&format!("{module}.weight"), &[to, group_channels, kernel, kernel], fill);
        let mut inputs = vec![x.to_owned(), weight];
        if bias {
            inputs.push(self.weight(&format!("{module}.bias"), &[to], Fill::Constant(0.0)));
        }
        let attributes = [
            ("dilations", Attribute::Ints(vec![1, 1])),
            ("group", Attribute::Int(groups as i64)),
            ("kernel_shape", Attribute::Ints(vec![kernel as i64; 2])),
            ("pads", Attribute::Ints(vec![(kernel / 2) as i64; 4])),
            ("strides", Attribute::Ints(vec![stride as i64; 2])),
        ];
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        self.node("Conv", &format!("/{module}/Conv"), &inputs, &attributes)
    }

    /// Statistics as training might leave them, so that folding them is no empty exercise.
    fn batch_norm(&mut self, module: &str, x: &str, channels: usize) -> String {
        let mut add =
            |name: &str, low, high| self.weight(&format!("{module}.{name}"), &[channels], Fill::Uniform { low, high });
        let (scale, shift) = (add("weight", 0.5, 1.0), add("bias", -0.1, 0.1));
        let (mean, variance) = (add("running_mean", -0.1, 0.1), add("running_var", 0.5, 1.5));
        let name = format!("/{module}/BatchNormalization");
        self.node(
            "BatchNormalization",
            &name,
            &[x, &scale, &shift, &mean, &variance],
            &[("epsilon", Attribute::Float(1e-5))],
        )
    }

    fn relu(&mut self, name: &str, x: &str) -> String {
        self.node("Relu", &format!("/{name}/Relu"), &[x], &[])
    }

    fn max_pool(&mut self, name: &str, x: &str, kernel: i64, stride: i64, pad: i64) -> String {
        let attributes = [
            ("kernel_shape", Attribute::Ints(vec![kernel; 2])),
            ("pads", Attribute::Ints(vec![pad; 4])),
            ("strides", Attribute::Ints(vec![stride; 2])),
        ];
        self.node("MaxPool", &format!("/{name}/MaxPool"), &[x], &attributes)
    }

    fn flatten(&mut self, x: &str) -> String {
        self.node("Flatten", "/Flatten", &[x], &[("axis", Attribute::Int(1))])
    }

    fn linear(&mut self, module: &str, x: &str, from: usize, to: usize) -> String {
        let weight = self.weight(&format!("{module}.weight"), &[to, from], Fill::he_normal(from));
        let bias = self.weight(&format!("{module}.bias"), &[to], Fill::Constant(0.0));
        self.node("Gemm", &format!("/{module}/Gemm"), &[x, &weight, &bias], &[("transB", Attribute::Int(1))])
    }
}

#[cfg(test)]
mod tests;
