//! The arithmetic, on plain slices in NCHW.

use super::{Statistics, tensor, values};
use crate::ops::conv::{copy_spread, segments};
use bps_graph::Conv;
use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::Shape;

/// Elements of patches that are made at once: they stay in a core's own cache between being made and being multiplied.
const PATCHES: usize = 128 * 1024;

/// A convolution between extents.
pub(super) struct ConvPlan<'a> {
    conv: &'a Conv,
    pub(super) rows: usize,
    channels_in: usize,
    pub(super) channels_out: usize,
    input: [usize; 2],
    output: [usize; 2],
}

impl<'a> ConvPlan<'a> {
    pub(super) fn new(conv: &'a Conv, x: &[usize], weight: &[usize], output: [usize; 2]) -> Self {
        Self { conv, rows: x[0], channels_in: x[1], channels_out: weight[0], input: [x[2], x[3]], output }
    }

    fn taps(&self) -> usize {
        self.conv.kernel[0] * self.conv.kernel[1]
    }

    fn in_plane(&self) -> usize {
        self.input[0] * self.input[1]
    }

    fn out_plane(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Lines of the patches: one for each channel and position of the kernel.
    fn lines(&self) -> usize {
        self.channels_in * self.taps()
    }

    /// Rows that are worked on at once.
    fn group(&self) -> usize {
        (PATCHES / (self.lines() * self.out_plane()).max(1)).clamp(1, self.rows.max(1))
    }

    fn is_depthwise(&self) -> bool {
        self.conv.groups > 1
    }

    /// `[rows, out, output]`.
    pub(super) fn forward(&self, x: &[f32], weight: &FlexTensor) -> Vec<f32> {
        let plane = self.out_plane();
        let mut out = vec![0.0; self.rows * self.channels_out * plane];
        if self.is_depthwise() {
            let weight = weight.to_contiguous();
            let weights = values(&weight).chunks_exact(self.taps()).cycle();
            let planes = x.chunks_exact(self.in_plane()).zip(weights);
            for (out, (x, weights)) in out.chunks_exact_mut(plane).zip(planes) {
                self.each_segment(|tap, to, from, count, step| {
                    let (out, weight) = (&mut out[to..to + count], weights[tap]);
                    match step {
                        1 => out.iter_mut().zip(&x[from..]).for_each(|(o, x)| *o += weight * x),
                        step => out.iter_mut().zip(x[from..].iter().step_by(step)).for_each(|(o, x)| *o += weight * x),
                    }
                });
            }
            return out;
        }
        let weight = weight.reshape(Shape::from([self.channels_out, self.lines()]));
        let (x_row, out_row) = (self.channels_in * self.in_plane(), self.channels_out * plane);
        for (x, out) in x.chunks(self.group() * x_row).zip(out.chunks_mut(self.group() * out_row)) {
            let patches = self.patches(x);
            let product = Flex::float_matmul(weight.clone(), patches);
            let rows = out.len() / out_row;
            for (channel, line) in values(&product).chunks_exact(rows * plane).enumerate() {
                for (row, part) in line.chunks_exact(plane).enumerate() {
                    out[(row * self.channels_out + channel) * plane..][..plane].copy_from_slice(part);
                }
            }
        }
        out
    }

    /// Gradients of `x`, where it is wanted, and of the weights, from that of the result.
    pub(super) fn back(
        &self,
        x: &[f32],
        weight: &FlexTensor,
        gradient: &[f32],
        of_x: bool,
    ) -> (Option<Vec<f32>>, Vec<f32>) {
        if self.is_depthwise() {
            return self.depthwise_back(x, weight, gradient);
        }
        let plane = self.out_plane();
        let (x_row, out_row) = (self.channels_in * self.in_plane(), self.channels_out * plane);
        let weight = weight.reshape(Shape::from([self.channels_out, self.lines()]));
        let mut x_back = vec![0.0; if of_x { x.len() } else { 0 }];
        let mut weight_back = vec![0.0; self.channels_out * self.lines()];
        let group = self.group();
        for (at, (x, gradient)) in x.chunks(group * x_row).zip(gradient.chunks(group * out_row)).enumerate() {
            let rows = x.len() / x_row;
            let mut lines = Vec::with_capacity(gradient.len());
            for channel in 0..self.channels_out {
                for row in 0..rows {
                    lines.extend_from_slice(&gradient[(row * self.channels_out + channel) * plane..][..plane]);
                }
            }
            let gradient = tensor(lines, &[self.channels_out, rows * plane]);
            let part = Flex::float_matmul(gradient.clone(), self.patches(x).transpose(0, 1));
            weight_back.iter_mut().zip(values(&part.to_contiguous())).for_each(|(sum, part)| *sum += part);
            if of_x {
                let patches = Flex::float_matmul(weight.transpose(0, 1), gradient);
                self.gather(values(&patches.to_contiguous()), &mut x_back[at * group * x_row..][..x.len()]);
            }
        }
        (of_x.then_some(x_back), weight_back)
    }

    fn depthwise_back(&self, x: &[f32], weight: &FlexTensor, gradient: &[f32]) -> (Option<Vec<f32>>, Vec<f32>) {
        let weight = weight.to_contiguous();
        let (weights, taps) = (values(&weight), self.taps());
        let mut x_back = vec![0.0; x.len()];
        let mut weight_back = vec![0.0; weights.len()];
        let planes = x.chunks_exact(self.in_plane()).zip(x_back.chunks_exact_mut(self.in_plane()));
        for (at, ((x, x_back), gradient)) in planes.zip(gradient.chunks_exact(self.out_plane())).enumerate() {
            let first = at % self.channels_out * taps;
            let (weights, weight_back) = (&weights[first..][..taps], &mut weight_back[first..][..taps]);
            self.each_segment(|tap, to, from, count, step| {
                let (gradient, weight) = (&gradient[to..to + count], weights[tap]);
                if step == 1 {
                    x_back[from..].iter_mut().zip(gradient).for_each(|(back, g)| *back += weight * g);
                    weight_back[tap] += dot(&x[from..from + count], gradient);
                } else {
                    let (x, back) = (x[from..].iter().step_by(step), x_back[from..].iter_mut().step_by(step));
                    for ((x, back), g) in x.zip(back).zip(gradient) {
                        *back += weight * g;
                        weight_back[tap] += x * g;
                    }
                }
            });
        }
        (Some(x_back), weight_back)
    }

    /// Tap, where in the output, where in the input, how many, and the step in the input.
    fn each_segment(&self, mut work: impl FnMut(usize, usize, usize, usize, usize)) {
        for tap in 0..self.taps() {
            for segment in segments(self.conv, self.input, self.output, tap) {
                work(tap, segment.output, segment.input, segment.count, self.conv.stride[1]);
            }
        }
    }

    /// What each position of the kernel sees, for some rows: `[lines, rows * output]`.
    fn patches(&self, x: &[f32]) -> FlexTensor {
        let (in_plane, out_plane) = (self.in_plane(), self.out_plane());
        let rows = x.len() / (self.channels_in * in_plane);
        let mut patches = vec![0.0; self.lines() * rows * out_plane];
        for (line, patches) in patches.chunks_exact_mut(rows * out_plane).enumerate() {
            let (channel, tap) = (line / self.taps(), line % self.taps());
            for (row, patches) in patches.chunks_exact_mut(out_plane).enumerate() {
                let plane = &x[(row * self.channels_in + channel) * in_plane..][..in_plane];
                for segment in segments(self.conv, self.input, self.output, tap) {
                    let out = &mut patches[segment.output..segment.output + segment.count];
                    copy_spread(out, &plane[segment.input..], self.conv.stride[1]);
                }
            }
        }
        tensor(patches, &[self.lines(), rows * out_plane])
    }

    /// The reverse of [`Self::patches`]: each element of the input gets the sum of what was seen of it.
    fn gather(&self, patches: &[f32], x: &mut [f32]) {
        let (in_plane, out_plane) = (self.in_plane(), self.out_plane());
        let rows = x.len() / (self.channels_in * in_plane);
        for (line, patches) in patches.chunks_exact(rows * out_plane).enumerate() {
            let (channel, tap) = (line / self.taps(), line % self.taps());
            for (row, patches) in patches.chunks_exact(out_plane).enumerate() {
                let plane = &mut x[(row * self.channels_in + channel) * in_plane..][..in_plane];
                for segment in segments(self.conv, self.input, self.output, tap) {
                    let seen = &patches[segment.output..segment.output + segment.count];
                    // Apart, so that the compiler may use vectors where neighbours follow each other.
                    match self.conv.stride[1] {
                        1 => plane[segment.input..].iter_mut().zip(seen).for_each(|(x, p)| *x += p),
                        step => plane[segment.input..].iter_mut().step_by(step).zip(seen).for_each(|(x, p)| *x += p),
                    }
                }
            }
        }
    }
}

/// Gradients of a normalisation.
pub(super) struct NormalisedBack {
    pub(super) x: Vec<f32>,
    pub(super) gain: Vec<f32>,
    pub(super) shift: Vec<f32>,
}

/// With `n = (x - mean) * inverse` and the means over a channel of `g` and of `g * n`:
/// `gain * inverse * (g - mean(g) - n * mean(g * n))`.
pub(super) fn normalised_back(
    x: &[f32],
    gradient: &[f32],
    gain: &[f32],
    statistics: &Statistics,
    plane: usize,
) -> NormalisedBack {
    let channels = gain.len();
    let count = (x.len() / channels) as f32;
    let inverse = statistics.inverse();
    let (sums, products) = channel_sums(gradient, x, channels, plane);
    let shift: Vec<f32> = sums.iter().map(|sum| *sum as f32).collect();
    let of_gain = |c: usize| ((products[c] - f64::from(statistics.mean[c]) * sums[c]) * f64::from(inverse[c])) as f32;
    let of_gain: Vec<f32> = (0..channels).map(of_gain).collect();
    let mut out = Vec::with_capacity(x.len());
    for (at, (x, gradient)) in x.chunks_exact(plane).zip(gradient.chunks_exact(plane)).enumerate() {
        let c = at % channels;
        let a = gain[c] * inverse[c];
        let of_x = -a * inverse[c] * of_gain[c] / count;
        let constant = -a * shift[c] / count - of_x * statistics.mean[c];
        out.extend(x.iter().zip(gradient).map(|(x, g)| a * g + of_x * x + constant));
    }
    NormalisedBack { x: out, gain: of_gain, shift }
}

/// Over each channel of `[rows, channels, plane]`: the sums of `a`, and of `a * b`.
pub(super) fn channel_sums(a: &[f32], b: &[f32], channels: usize, plane: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut sums, mut products) = (vec![0.0; channels], vec![0.0; channels]);
    for (at, (a, b)) in a.chunks_exact(plane).zip(b.chunks_exact(plane)).enumerate() {
        sums[at % channels] += f64::from(sum(a));
        products[at % channels] += f64::from(dot(a, b));
    }
    (sums, products)
}

/// Lanes that are added separately, so that the compiler may use vectors.
const LANES: usize = 16;

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut lanes = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        (0..LANES).for_each(|lane| lanes[lane] += a[lane] * b[lane]);
    }
    lanes.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

fn sum(a: &[f32]) -> f32 {
    let (a, rest) = a.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for a in a {
        (0..LANES).for_each(|lane| lanes[lane] += a[lane]);
    }
    lanes.iter().sum::<f32>() + rest.iter().sum::<f32>()
}
