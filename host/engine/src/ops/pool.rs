//! Pooling. Burn pads both ends alike and has its own idea of rounding up; everything else is padded by hand.

use super::{Dispatch, Tensor, reshape};
use bps_graph::Pool;
use burn::backend::TensorMetadata;
use burn::backend::ops::{FloatTensorOps, ModuleOps, PadMode};
use burn::tensor::TensorData;

/// A window's way along one axis.
struct Axis {
    input: usize,
    output: usize,
    kernel: usize,
    stride: usize,
    /// First to last element of a window.
    span: usize,
    /// Declared border.
    begin: usize,
    end: usize,
}

impl Axis {
    /// Border at the end so that the last window fits; rounding up makes it larger than declared.
    fn reach(&self) -> usize {
        ((self.output - 1) * self.stride + self.span).saturating_sub(self.input + self.begin)
    }

    /// Whether Burn's own padding says the same.
    fn is_plain(&self) -> bool {
        self.begin == self.end && self.reach() <= self.end
    }

    /// How many elements of window `o` count for a mean.
    fn counted(&self, o: usize, include_border: bool) -> usize {
        let (first, last) = if include_border {
            (0, self.begin + self.input + self.end)
        } else {
            (self.begin, self.begin + self.input)
        };
        let start = o * self.stride;
        (start + self.kernel).min(last).saturating_sub(start.max(first))
    }
}

fn axes(pool: &Pool, x: &Tensor, output: &[usize]) -> Result<[Axis; 2], String> {
    let input = x.shape();
    if input.len() != 4 || output.len() != 4 || output[2] == 0 || output[3] == 0 {
        return Err(format!("pooling from {input:?} to {output:?}"));
    }
    Ok([0, 1].map(|i| Axis {
        input: input[2 + i],
        output: output[2 + i],
        kernel: pool.kernel[i],
        stride: pool.stride[i],
        span: pool.dilation[i] * (pool.kernel[i] - 1) + 1,
        begin: pool.pads[i],
        end: pool.pads[2 + i],
    }))
}

/// Adds the border that the windows reach.
fn bordered(x: Tensor, [h, w]: &[Axis; 2], value: f32) -> Tensor {
    let pads = [(0, 0), (0, 0), (h.begin, h.reach()), (w.begin, w.reach())];
    Dispatch::float_pad(x, &pads, PadMode::Constant(value))
}

pub(super) fn max(pool: &Pool, x: Tensor, output: &[usize]) -> Result<Tensor, String> {
    let axes = axes(pool, &x, output)?;
    let (x, border) = if axes.iter().all(Axis::is_plain) {
        (x, [axes[0].begin, axes[1].begin])
    } else {
        (bordered(x, &axes, f32::NEG_INFINITY), [0, 0])
    };
    Ok(Dispatch::max_pool2d(x, pool.kernel, pool.stride, border, pool.dilation, false))
}

pub(super) fn average(pool: &Pool, x: Tensor, output: &[usize]) -> Result<Tensor, String> {
    if pool.dilation != [1, 1] {
        return Err("average pooling with dilation".into());
    }
    let axes = axes(pool, &x, output)?;
    if axes.iter().all(Axis::is_plain) {
        let border = [axes[0].begin, axes[1].begin];
        return Ok(Dispatch::avg_pool2d(x, pool.kernel, pool.stride, border, pool.count_include_pad, false));
    }
    // Means over whole windows with zeros, then each scaled by how much of its window counts.
    let window = (pool.kernel[0] * pool.kernel[1]) as f32;
    let device = x.device();
    let sums = Dispatch::avg_pool2d(bordered(x, &axes, 0.0), pool.kernel, pool.stride, [0, 0], true, false);
    let [h, w] = &axes;
    let counts = |axis: &Axis| (0..axis.output).map(|o| axis.counted(o, pool.count_include_pad)).collect::<Vec<_>>();
    let (rows, columns) = (counts(h), counts(w));
    let factors: Vec<f32> = rows.iter().flat_map(|r| columns.iter().map(move |c| window / (r * c) as f32)).collect();
    let factors = Dispatch::float_from_data(TensorData::new(factors, vec![1, 1, h.output, w.output]), &device);
    Ok(Dispatch::float_mul(sums, factors))
}

/// `[rows, channels, everything else]`.
pub(super) fn planes(x: Tensor) -> Tensor {
    let shape = x.shape();
    let plane = shape.iter().skip(2).product();
    let (rows, channels) = (shape[0], shape[1]);
    reshape(x, &[rows, channels, plane])
}
