//! The intermediate representation: what a model is after parsing and lowering, and what the engine interprets.
//!
//! Layers stand in topological order; a layer's index is its identity on every host that holds the same file and lowers
//! it with the same version of this crate. Shapes are not stored: they follow from the inputs' shapes, see
//! [`Graph::infer`](crate::Graph::infer).

use bps_types::{HostTensor, TensorSpec};
use std::sync::Arc;

/// Index into [`Graph::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(pub u32);

impl ValueId {
    /// As a slice index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A tensor of the graph: where it comes from and what people call it.
#[derive(Clone, Debug)]
pub struct Value {
    /// The tensor's name in the file; for a weight taken over unchanged that is its initializer's name.
    pub name: String,
    /// Where it comes from.
    pub source: Source,
}

/// Where a value comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// The model's input with this index.
    Input(usize),
    /// A weight, or what was folded from weights. Always FP32: what layers need of integers is in their attributes.
    Constant(Arc<HostTensor>),
    /// An output of the layer with this index.
    Layer(usize),
}

/// One operation.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The node's name in the file, or `<OpType>_<index>`.
    pub name: String,
    /// What it does.
    pub op: Op,
    /// Operands in ONNX order; none where an optional one is absent.
    pub inputs: Vec<Option<ValueId>>,
    /// Results in ONNX order.
    pub outputs: Vec<ValueId>,
}

/// Where execution may be cut: everything in `layers[..layer]` is before, the rest after. At most four values cross
/// (inputs and outputs aside), and where the graph is batchable each of them has one row per row of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Number of layers before the cut.
    pub layer: usize,
    /// The values that cross, in id order: all that the layers after the cut (or the model's outputs) need, without
    /// constants. At the first cut every input; at the last one the outputs, each once (an executor that reaches the end
    /// answers with [`Graph::output_values`], in that order).
    pub values: Vec<ValueId>,
}

/// A model, ready to execute. Made by [`Graph::load`](crate::Graph::load) or [`Graph::parse`](crate::Graph::parse).
#[derive(Clone, Debug)]
pub struct Graph {
    /// The graph's name in the file.
    pub name: String,
    /// SHA-256 of the file and, after it, of the tensors that are kept in other files, in the order in which it names
    /// them.
    pub digest: [u8; 32],
    /// The files that those tensors were read from, by name: relative to the model's folder, parts joined by `/`.
    pub external: Vec<String>,
    /// What the model takes, all FP32; the first extent is the batch and always `None`.
    pub inputs: Vec<TensorSpec>,
    /// The value of each input.
    pub input_values: Vec<ValueId>,
    /// What the model gives; the first extent is the batch and `None` when it follows the input's.
    pub outputs: Vec<TensorSpec>,
    /// The value of each output.
    pub output_values: Vec<ValueId>,
    /// Every tensor.
    pub values: Vec<Value>,
    /// Every operation, in topological order.
    pub layers: Vec<Layer>,
    /// Legal cuts in order: the first is the input (layer 0), the last the output (layer `layers.len()`).
    pub cuts: Vec<Cut>,
    /// Whether rows may be batched: every cut and output follows the input's batch extent, and no operation works across
    /// rows. Otherwise requests have to be executed one by one, as the file is.
    pub batchable: bool,
}

/// What a layer does, with its attributes checked. Two-dimensional extents are `[height, width]`, pads `[top, left,
/// bottom, right]`.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Convolution over NCHW; inputs: data, weight OIHW, optional bias.
    Conv(Conv),
    /// Largest value in each window.
    MaxPool(Pool),
    /// Mean of each window.
    AveragePool(Pool),
    /// Mean over height and width, which become 1.
    GlobalAveragePool,
    /// Largest value over height and width, which become 1.
    GlobalMaxPool,
    /// Local response normalisation across channels; see [`Lrn`].
    Lrn(Lrn),
    /// Normalisation with stored statistics; inputs: data, scale, bias, mean, variance. Only where it could not be
    /// folded into a convolution.
    BatchNormalization {
        /// Added to the variance.
        epsilon: f32,
    },
    /// `alpha * A' * B' + beta * C`; inputs: A, B, optional C. Both matrices are two-dimensional, C broadcasts.
    Gemm(Gemm),
    /// Matrix product over the last two dimensions, the others broadcast; an operand of one dimension is a row on the left,
    /// a column on the right, and that dimension is dropped from the result.
    MatMul,
    /// Element by element, one operand.
    Unary(Unary),
    /// Element by element, two operands, with multidirectional broadcasting.
    Binary(Binary),
    /// Limits to `[min, max]`: `y = min(max(x, self.min), self.max)`.
    Clip {
        /// Lower limit; minus infinity where the file gives none.
        min: f32,
        /// Upper limit; infinity where the file gives none.
        max: f32,
    },
    /// Normalised exponentials along one axis. (Opset < 13 defines it over all axes from `axis` on; where that differs,
    /// the file is refused.)
    Softmax {
        /// Axis, non-negative.
        axis: usize,
    },
    /// Joins along an axis; any number of operands.
    Concat {
        /// Axis, non-negative.
        axis: usize,
    },
    /// To two dimensions: the product before the axis, the product after.
    Flatten {
        /// Axis, non-negative.
        axis: usize,
    },
    /// To a new shape: 0 copies the extent, -1 is inferred. A batch extent that the file hard-codes as 1 has been
    /// rewritten to 0.
    Reshape {
        /// Target extents.
        shape: Vec<i64>,
    },
    /// Keeps a regular range of some axes.
    Slice {
        /// The ranges, by ascending axis.
        axes: Vec<AxisRange>,
    },
    /// Cuts an axis into consecutive pieces, one output each.
    Split {
        /// Axis, non-negative.
        axis: usize,
        /// Extents of the pieces; their sum is the axis' extent.
        sizes: Vec<usize>,
    },
    /// Reorders dimensions.
    Transpose {
        /// `output[i] = input[perm[i]]`.
        perm: Vec<usize>,
    },
    /// Removes dimensions of extent 1.
    Squeeze {
        /// Axes, ascending.
        axes: Vec<usize>,
    },
    /// Inserts dimensions of extent 1.
    Unsqueeze {
        /// Axes of the result, ascending.
        axes: Vec<usize>,
    },
    /// Mean over axes.
    ReduceMean {
        /// Axes, ascending.
        axes: Vec<usize>,
        /// Keep them with extent 1.
        keep_dims: bool,
    },
    /// Adds a border of a constant.
    Pad {
        /// Before each dimension, then after each: twice the rank.
        pads: Vec<usize>,
        /// The constant.
        value: f32,
    },
}

/// Attributes of a convolution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conv {
    /// Extent of the kernel.
    pub kernel: [usize; 2],
    /// Step.
    pub stride: [usize; 2],
    /// Zeros around the input.
    pub pads: [usize; 4],
    /// Distance between kernel elements.
    pub dilation: [usize; 2],
    /// Groups of channels that do not mix.
    pub groups: usize,
}

/// Attributes of a pooling window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Extent of the window.
    pub kernel: [usize; 2],
    /// Step.
    pub stride: [usize; 2],
    /// Border around the input.
    pub pads: [usize; 4],
    /// Distance between window elements (MaxPool only).
    pub dilation: [usize; 2],
    /// Round the output extent up, so that a last window may reach past the border. It counts only if it begins within
    /// the input or the border before it; what is past the border counts neither as a maximum nor in a mean.
    pub ceil: bool,
    /// Count the border in means (AveragePool only).
    pub count_include_pad: bool,
}

/// Local response normalisation: `y = x / (bias + alpha / size * sum)^beta`, where `sum` adds the squares of channels
/// `c - (size - 1) / 2 ..= c + size / 2` (rounded down, limited to those there are) of the same position.
#[derive(Clone, Debug, PartialEq)]
pub struct Lrn {
    /// Channels in the window, at least 1.
    pub size: usize,
    /// Factor of the mean square.
    pub alpha: f32,
    /// Exponent.
    pub beta: f32,
    /// Added before the power.
    pub bias: f32,
}

/// Positions of one axis that a slice keeps, as ONNX writes them. Steps are positive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AxisRange {
    /// Axis, non-negative.
    pub axis: usize,
    /// First position; negative counts from the end.
    pub start: i64,
    /// Past the last position; negative counts from the end, too large means the end.
    pub end: i64,
    /// Distance between positions, at least 1.
    pub step: usize,
}

impl AxisRange {
    /// First position, position past the last, both within `extent`; empty if they are equal.
    pub fn resolve(&self, extent: usize) -> (usize, usize) {
        let limit = i64::try_from(extent).unwrap_or(i64::MAX);
        let place = |p: i64| if p < 0 { p.saturating_add(limit) } else { p }.clamp(0, limit) as usize;
        let start = place(self.start);
        (start, place(self.end).max(start))
    }

    /// How many positions are kept of `extent`.
    pub fn count(&self, extent: usize) -> usize {
        let (start, end) = self.resolve(extent);
        (end - start).div_ceil(self.step.max(1))
    }
}

/// Attributes of a general matrix product.
#[derive(Clone, Debug, PartialEq)]
pub struct Gemm {
    /// Factor of the product.
    pub alpha: f32,
    /// Factor of the addend.
    pub beta: f32,
    /// Transpose A first.
    pub trans_a: bool,
    /// Transpose B first.
    pub trans_b: bool,
}

/// Functions of one element.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are ONNX's")]
pub enum Unary {
    Relu,
    LeakyRelu {
        alpha: f32,
    },
    /// `x` where positive, `alpha * (exp(x) - 1)` elsewhere.
    Elu {
        alpha: f32,
    },
    Sigmoid,
    /// `max(0, min(1, alpha * x + beta))`.
    HardSigmoid {
        alpha: f32,
        beta: f32,
    },
    /// `x * max(0, min(1, x / 6 + 0.5))`.
    HardSwish,
    /// `ln(1 + exp(x))`.
    Softplus,
    Tanh,
    Erf,
    Exp,
    Log,
    Sqrt,
    Neg,
    Abs,
}

/// Functions of two elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are ONNX's")]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
    Pow,
}
