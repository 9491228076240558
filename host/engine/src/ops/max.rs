//! Largest value in each window, on the processor.
//!
//! Burn's form keeps indices and costs a tenth of a ResNet-18; this one takes the largest of the window's lines first,
//! which the compiler turns into vectors, and then of its columns.

use super::Tensor;
use crate::host::{flex_values, upload};
use bps_graph::Pool;
use burn::backend::TensorMetadata;
use burn::tensor::Device;
use rayon::prelude::*;

/// Output elements below which threads cost more than they save.
const PARALLEL_MIN: usize = 32 * 1024;

pub(super) fn max(pool: &Pool, x: Tensor, output: &[usize]) -> Result<Tensor, String> {
    let shape = x.shape().to_vec();
    let (&[rows, channels, height, width], &[_, _, oh, ow]) = (&shape[..], output) else {
        return Err(format!("pooling from {shape:?} to {output:?}"));
    };
    let (x, start) = flex_values(x)?;
    let input = &x.storage::<f32>()[start..start + rows * channels * height * width];
    let mut result = vec![f32::NEG_INFINITY; rows * channels * oh * ow];
    let plane = |(source, out): (&[f32], &mut [f32])| plane_max(pool, source, width, out, ow);
    if result.len() < PARALLEL_MIN {
        input.chunks_exact(height * width).zip(result.chunks_exact_mut(oh * ow)).for_each(plane);
    } else {
        input.par_chunks_exact(height * width).zip(result.par_chunks_exact_mut(oh * ow)).for_each(plane);
    }
    Ok(upload(result, output, &Device::flex()))
}

/// One plane; `out` holds minus infinity.
fn plane_max(pool: &Pool, source: &[f32], width: usize, out: &mut [f32], ow: usize) {
    let height = source.len() / width;
    let [top, left, ..] = pool.pads;
    let mut lines = vec![0.0; width];
    for (oy, out) in out.chunks_exact_mut(ow).enumerate() {
        lines.fill(f32::NEG_INFINITY);
        for y in inside(oy * pool.stride[0], pool.kernel[0], pool.dilation[0], top, height) {
            let line = &source[y * width..(y + 1) * width];
            lines.iter_mut().zip(line).for_each(|(most, v)| *most = larger(*most, *v));
        }
        for (ox, most) in out.iter_mut().enumerate() {
            for x in inside(ox * pool.stride[1], pool.kernel[1], pool.dilation[1], left, width) {
                *most = larger(*most, lines[x]);
            }
        }
    }
}

/// The positions of a window that are not border.
fn inside(start: usize, kernel: usize, dilation: usize, border: usize, extent: usize) -> impl Iterator<Item = usize> {
    (0..kernel).map(move |k| start + k * dilation).filter_map(move |p| p.checked_sub(border).filter(|p| *p < extent))
}

/// The larger one; not-a-number is larger than all.
fn larger(a: f32, b: f32) -> f32 {
    if b > a || b.is_nan() { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::pool;

    #[test]
    fn it_equals_burns_form() {
        let device = Device::flex();
        // The last is large enough for threads.
        let cases = [
            ([2, 3, 9, 8], [3, 3], [2, 2], [1, 1, 1, 1], [1, 1], [2, 3, 5, 4]),
            ([1, 2, 9, 8], [2, 3], [1, 2], [0, 2, 1, 0], [2, 1], [1, 2, 8, 4]),
            ([1, 2, 7, 7], [3, 3], [2, 2], [0, 0, 0, 0], [1, 1], [1, 2, 3, 3]),
            ([1, 40, 64, 64], [3, 3], [2, 2], [1, 1, 1, 1], [1, 1], [1, 40, 32, 32]),
        ];
        for (shape, kernel, stride, pads, dilation, output) in cases {
            let described = Pool { kernel, stride, pads, dilation, ceil: false, count_include_pad: false };
            let values = (0..shape.iter().product()).map(|i: usize| (i as f32 * 0.37).sin() - 2.0).collect();
            let x = upload(values, &shape, &device);
            let values = |t: Tensor| {
                let (tensor, start) = flex_values(t).unwrap();
                tensor.storage::<f32>()[start..].to_vec()
            };
            let wanted = values(pool::max(&described, x.clone(), &output).unwrap());
            assert_eq!(values(max(&described, x, &output).unwrap()), wanted, "{described:?}");
        }
    }

    #[test]
    fn not_a_number_is_the_largest() {
        let pool = Pool {
            kernel: [2, 2],
            stride: [2, 2],
            pads: [0; 4],
            dilation: [1, 1],
            ceil: false,
            count_include_pad: false,
        };
        let x = upload(
            vec![f32::NAN, 1.0, 5.0, 2.0, 3.0, 4.0, f32::NEG_INFINITY, f32::INFINITY],
            &[1, 2, 2, 2],
            &Device::flex(),
        );
        let (result, start) = flex_values(max(&pool, x, &[1, 2, 1, 1]).unwrap()).unwrap();
        let values = &result.storage::<f32>()[start..];
        assert!(values[0].is_nan() && values[1] == f32::INFINITY, "{values:?}");
    }
}
