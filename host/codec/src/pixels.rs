//! Image bytes to network input. The reference of `shaders/normalize_u8.wgsl`.

use crate::{CodecError, check_length};

/// Extents of interleaved (NHWC) image bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelShape {
    /// Images.
    pub rows: usize,
    /// Lines of an image.
    pub height: usize,
    /// Pixels of a line.
    pub width: usize,
    /// Bytes of a pixel.
    pub channels: usize,
}

impl PixelShape {
    /// Number of bytes; an error where it does not fit in memory.
    pub fn byte_count(&self) -> Result<usize, CodecError> {
        [self.height, self.width, self.channels]
            .into_iter()
            .try_fold(self.rows, usize::checked_mul)
            .ok_or(CodecError::TooLarge { what: "image batch" })
    }
}

/// `(x - mean[channel]) * scale[channel]` for every byte, from NHWC to NCHW. `mean` and `scale` have one entry per
/// channel.
pub fn normalize_u8(pixels: &[u8], shape: PixelShape, mean: &[f32], scale: &[f32]) -> Result<Vec<f32>, CodecError> {
    let byte_count = shape.byte_count()?;
    check_length("image batch", "bytes", byte_count, pixels.len())?;
    check_length("mean", "channels", shape.channels, mean.len())?;
    check_length("scale", "channels", shape.channels, scale.len())?;
    let mut planes = vec![0.0; byte_count];
    if byte_count == 0 {
        return Ok(planes);
    }
    let plane = shape.height * shape.width;
    let images = pixels.chunks_exact(plane * shape.channels);
    for (image, out) in images.zip(planes.chunks_exact_mut(plane * shape.channels)) {
        for (channel, out) in out.chunks_exact_mut(plane).enumerate() {
            let (mean, scale) = (mean[channel], scale[channel]);
            let values = image.iter().skip(channel).step_by(shape.channels);
            out.iter_mut().zip(values).for_each(|(y, &x)| *y = (f32::from(x) - mean) * scale);
        }
    }
    Ok(planes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn interleaved_becomes_planar() {
        let shape = PixelShape { rows: 1, height: 1, width: 2, channels: 3 };
        let got = normalize_u8(&[10, 20, 30, 11, 21, 31], shape, &[10., 20., 30.], &[1., 2., 3.]).unwrap();
        assert_eq!(got, [0., 1., 0., 2., 0., 3.]);
    }

    #[test]
    fn lengths_are_checked() {
        let shape = PixelShape { rows: 1, height: 2, width: 2, channels: 1 };
        // (pixels, mean, scale, a word of the refusal)
        type Case<'a> = (&'a [u8], &'a [f32], &'a [f32], &'a str);
        let cases: [Case<'_>; 3] = [
            (&[0; 3], &[0.], &[1.], "image batch should have 4 bytes, got 3"),
            (&[0; 4], &[], &[1.], "mean should have 1 channels, got 0"),
            (&[0; 4], &[0.], &[1., 1.], "scale should have 1 channels, got 2"),
        ];
        for (pixels, mean, scale, message) in cases {
            assert_eq!(normalize_u8(pixels, shape, mean, scale).unwrap_err().to_string(), message);
        }
        let huge = PixelShape { rows: usize::MAX, ..shape };
        assert_eq!(normalize_u8(&[], huge, &[0.], &[1.]), Err(CodecError::TooLarge { what: "image batch" }));
    }

    proptest! {
        #[test]
        fn every_byte_lands_where_its_index_says(
            (rows, height, width, channels) in (0usize..3, 0usize..5, 0usize..5, 1usize..5), seed: u8,
        ) {
            let shape = PixelShape { rows, height, width, channels };
            let pixels: Vec<u8> = (0..shape.byte_count().unwrap()).map(|i| (i as u8).wrapping_mul(31) ^ seed).collect();
            let mean: Vec<f32> = (0..channels).map(|c| c as f32 * 7.5).collect();
            let scale: Vec<f32> = (0..channels).map(|c| 1.0 / (c as f32 + 2.0)).collect();
            let got = normalize_u8(&pixels, shape, &mean, &scale).unwrap();
            for (i, &y) in got.iter().enumerate() {
                let (x, i) = (i % width, i / width);
                let (line, i) = (i % height, i / height);
                let (channel, row) = (i % channels, i / channels);
                let byte = pixels[((row * height + line) * width + x) * channels + channel];
                prop_assert_eq!(y, (f32::from(byte) - mean[channel]) * scale[channel]);
            }
        }
    }
}
