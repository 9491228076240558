//! Convolution: Burn's on GPUs and for gradients, our own arrangement of one matrix product on the processor.

use super::{Dispatch, Tensor, reshape};
use crate::host::flex_values;
use bps_graph::Conv;
use burn::backend::TensorMetadata;
use burn::backend::ops::{ConvOptions, FloatTensorOps, ModuleOps};
use burn::tensor::{Device, TensorData};
use rayon::prelude::*;

/// The general form; weights are OIHW.
pub(super) fn conv(conv: &Conv, x: Tensor, weight: Tensor, bias: Option<Tensor>) -> Tensor {
    let [top, left, bottom, right] = conv.pads;
    let pads = [(top, bottom), (left, right)];
    let options = ConvOptions::new_with_padding(conv.stride, pads, conv.dilation, conv.groups);
    Dispatch::conv2d(x, weight, bias, options)
}

/// A convolution as one matrix product per row of the batch: weights `[out, in * kh * kw + 1]` times the input's
/// patches, whose last line is ones and meets the bias. The product is the output in NCHW as it stands.
///
/// Burn rearranges weights and input at every call, serially; this form has the weights ready and fills the patches
/// along contiguous lines.
#[derive(Clone, Debug)]
pub(crate) struct PreparedConv {
    conv: Conv,
    weight: Tensor,
    channels_in: usize,
    channels_out: usize,
}

impl PreparedConv {
    /// None where Burn's own form is at least as good: groups, and 1x1 without stride, which needs no patches.
    pub(crate) fn new(conv: &Conv, weight: &[f32], shape: &[usize], bias: Option<&[f32]>) -> Option<Self> {
        let &[channels_out, channels_in, kh, kw] = shape else { return None };
        let pointwise = [kh, kw] == [1, 1] && conv.stride == [1, 1] && conv.pads == [0; 4];
        if conv.groups != 1 || pointwise || conv.kernel != [kh, kw] || weight.is_empty() {
            return None;
        }
        let line = channels_in * kh * kw;
        let mut lines = Vec::with_capacity(channels_out * (line + 1));
        for (out, weights) in weight.chunks_exact(line).enumerate() {
            lines.extend_from_slice(weights);
            lines.push(bias.map_or(Some(0.0), |b| b.get(out).copied())?);
        }
        let data = TensorData::new(lines, [channels_out, line + 1]);
        let weight = Dispatch::float_from_data(data, Device::flex().as_dispatch());
        Some(Self { conv: conv.clone(), weight, channels_in, channels_out })
    }

    pub(super) fn run(&self, x: Tensor, output: &[usize]) -> Result<Tensor, String> {
        let shape: Vec<usize> = x.shape().to_vec();
        let (&[rows, channels, height, width], &[_, _, oh, ow]) = (&shape[..], output) else {
            return Err(format!("convolution from {shape:?} to {output:?}"));
        };
        if channels != self.channels_in {
            return Err(format!("{channels} channels, the weights have {}", self.channels_in));
        }
        let (x, start) = flex_values(x)?;
        let input = &x.storage::<f32>()[start..start + rows * channels * height * width];
        let (lines, plane) = (self.channels_in * self.conv.kernel[0] * self.conv.kernel[1] + 1, oh * ow);
        let row_elements = channels * height * width;
        let group = (PATCHES_MAX / (lines * plane).max(1)).clamp(1, rows);
        if group == rows {
            return Ok(reshape(self.product(input, rows, [height, width], [oh, ow]), output));
        }
        let mut values = Vec::with_capacity(rows * self.channels_out * plane);
        for group in input.chunks(group * row_elements) {
            let product = self.product(group, group.len() / row_elements, [height, width], [oh, ow]);
            let (product, start) = flex_values(product)?;
            values.extend_from_slice(&product.storage::<f32>()[start..]);
        }
        let data = TensorData::new(values, output.to_vec());
        Ok(Dispatch::float_from_data(data, Device::flex().as_dispatch()))
    }

    /// Weights times patches for some rows.
    fn product(&self, input: &[f32], rows: usize, [height, width]: [usize; 2], [oh, ow]: [usize; 2]) -> Tensor {
        let (lines, plane) = (self.channels_in * self.conv.kernel[0] * self.conv.kernel[1] + 1, oh * ow);
        let mut patches = vec![0.0; rows * lines * plane];
        let fill = |(i, line): (usize, &mut [f32])| {
            let (row, k) = (i / lines, i % lines);
            if k + 1 == lines {
                return line.fill(1.0);
            }
            let (channel, tap) = (k / (lines / self.channels_in), k % (lines / self.channels_in));
            let start = (row * self.channels_in + channel) * height * width;
            self.fill_line(line, &input[start..start + height * width], width, tap, ow);
        };
        if patches.len() < PARALLEL_MIN {
            patches.chunks_exact_mut(plane).enumerate().for_each(fill);
        } else {
            patches.par_chunks_exact_mut(plane).enumerate().for_each(fill);
        }
        let device = Device::flex();
        let product = |weight: Tensor, shape: Vec<usize>| {
            let patches = Dispatch::float_from_data(TensorData::new(patches, shape), device.as_dispatch());
            Dispatch::float_matmul(weight, patches)
        };
        if rows == 1 {
            product(self.weight.clone(), vec![lines, plane])
        } else {
            let weight = reshape(self.weight.clone(), &[1, self.channels_out, lines]);
            product(weight, vec![rows, lines, plane])
        }
    }

    /// What kernel position `tap` sees of one input plane; `line` holds zeros, which is what lies outside.
    fn fill_line(&self, line: &mut [f32], plane: &[f32], width: usize, tap: usize, ow: usize) {
        let extents = [[plane.len() / width.max(1), width], [line.len() / ow.max(1), ow]];
        for segment in segments(&self.conv, extents[0], extents[1], tap) {
            let out = &mut line[segment.output..segment.output + segment.count];
            copy_spread(out, &plane[segment.input..], self.conv.stride[1]);
        }
    }
}

/// Neighbours in a line of the output, and what a position of the kernel sees for the first of them.
pub(super) struct Segment {
    pub(super) output: usize,
    pub(super) input: usize,
    pub(super) count: usize,
}

/// Where kernel position `tap` sees the input rather than its border, line by line. Extents are `[height, width]`.
pub(super) fn segments(
    conv: &Conv,
    [height, width]: [usize; 2],
    [oh, ow]: [usize; 2],
    tap: usize,
) -> impl Iterator<Item = Segment> {
    let Conv { kernel, stride, dilation, pads, .. } = conv;
    let [dy, dx] = [tap / kernel[1] * dilation[0], tap % kernel[1] * dilation[1]];
    let ([step, step_x], [top, left]) = (*stride, [pads[0], pads[1]]);
    // Output columns whose input column is inside: left <= ox * step + dx < left + width. Lines likewise.
    let first = left.saturating_sub(dx).div_ceil(step_x).min(ow);
    let last = (left + width).saturating_sub(dx).div_ceil(step_x).min(ow);
    let first_line = top.saturating_sub(dy).div_ceil(step);
    let last_line = (top + height).saturating_sub(dy).div_ceil(step).min(oh);
    let lines = if first < last { first_line..last_line } else { 0..0 };
    lines.map(move |oy| Segment {
        output: oy * ow + first,
        input: (oy * step + dy - top) * width + first * step_x + dx - left,
        count: last - first,
    })
}

/// Every `step`th element of `source`.
pub(super) fn copy_spread(out: &mut [f32], source: &[f32], step: usize) {
    match step {
        1 => out.copy_from_slice(&source[..out.len()]),
        // The common case with its distance known to the compiler.
        2 => {
            let (pairs, odd) = source.as_chunks::<2>();
            let firsts = pairs.iter().map(|p| p[0]).chain(odd.first().copied());
            out.iter_mut().zip(firsts).for_each(|(o, s)| *o = s);
        }
        step => out.iter_mut().zip(source.chunks(step)).for_each(|(o, s)| *o = s[0]),
    }
}

/// Elements of patches that are held at once (64 MiB): the patches of a whole batch of a large network would be many
/// times its activations.
const PATCHES_MAX: usize = 16 << 20;

/// Elements below which threads cost more than they save.
const PARALLEL_MIN: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::upload;

    fn wave(count: usize, step: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * step).sin()).collect()
    }

    #[test]
    fn the_arranged_form_equals_burns() {
        let device = Device::flex();
        // rows, channels, height, width | out, kernel | stride, pads, dilation: some large enough for threads.
        let cases = [
            ([1, 3, 67, 65], [8, 7, 7], [2, 2], [3, 3, 3, 3], [1, 1]),
            ([2, 16, 30, 31], [12, 3, 3], [1, 1], [1, 1, 1, 1], [1, 1]),
            ([3, 5, 9, 40], [7, 1, 5], [3, 2], [0, 4, 1, 2], [1, 2]),
            ([1, 6, 12, 12], [4, 3, 3], [1, 3], [2, 0, 2, 5], [2, 1]),
            ([4, 32, 14, 14], [16, 1, 1], [2, 2], [0, 0, 0, 0], [1, 1]),
            ([1, 2, 2, 2], [3, 5, 5], [1, 1], [2, 2, 2, 2], [1, 1]),
        ];
        for (shape, [out, kh, kw], stride, pads, dilation) in cases {
            let described = Conv { kernel: [kh, kw], stride, pads, dilation, groups: 1 };
            let [rows, channels, height, width] = shape;
            let extent = |i: usize, input: usize, kernel: usize| {
                (input + pads[i] + pads[i + 2] - dilation[i] * (kernel - 1) - 1) / stride[i] + 1
            };
            let output = [rows, out, extent(0, height, kh), extent(1, width, kw)];
            let x = upload(wave(shape.iter().product(), 0.37), &shape, &device);
            let (weight, bias) = (wave(out * channels * kh * kw, 0.73), wave(out, 1.3));
            let prepared = PreparedConv::new(&described, &weight, &[out, channels, kh, kw], Some(&bias)).unwrap();
            let weight = upload(weight, &[out, channels, kh, kw], &device);
            let wanted = conv(&described, x.clone(), weight, Some(upload(bias, &[out], &device)));
            let got = prepared.run(x, &output).unwrap();
            assert_eq!((&got.shape()[..], &wanted.shape()[..]), (&output[..], &output[..]));
            let values = |t: Tensor| {
                let (tensor, start) = flex_values(t).unwrap();
                tensor.storage::<f32>()[start..].to_vec()
            };
            for (g, w) in values(got).iter().zip(values(wanted)) {
                assert!((g - w).abs() < 1e-4 * w.abs().max(1.0), "{described:?}: {g} for {w}");
            }
        }
    }
}
