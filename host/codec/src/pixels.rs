//! Image bytes to network input, the reference of `shaders/normalize_u8.wgsl`, and network input to image bytes, for the
//! codecs that carry images.

use crate::{CodecError, check_length};
use bps_types::{DataType, HostTensor};
use bytes::Bytes;

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

/// Undoes [`normalize_u8`]: `value / scale[channel] + mean[channel]`, rounded and clamped to a byte, from NCHW to NHWC.
/// What is not a number becomes 0. Bytes that came from [`normalize_u8`] come back as they were unless `scale` is so
/// small, or `mean` so large, that neighbouring bytes had become equal; other values lose their fractions.
pub fn denormalize(planes: &[f32], shape: PixelShape, mean: &[f32], scale: &[f32]) -> Result<Vec<u8>, CodecError> {
    let byte_count = shape.byte_count()?;
    check_length("image batch", "values", byte_count, planes.len())?;
    check_length("mean", "channels", shape.channels, mean.len())?;
    check_length("scale", "channels", shape.channels, scale.len())?;
    for (what, factors) in [("mean", mean), ("scale", scale)] {
        let unusable = |f: &f32| !f.is_finite() || (what == "scale" && *f == 0.0);
        if let Some(channel) = factors.iter().position(unusable) {
            return Err(CodecError::Factor { what, channel });
        }
    }
    let mut pixels = vec![0; byte_count];
    if byte_count == 0 {
        return Ok(pixels);
    }
    let plane = shape.height * shape.width;
    let images = planes.chunks_exact(plane * shape.channels);
    for (image, out) in images.zip(pixels.chunks_exact_mut(plane * shape.channels)) {
        for (channel, values) in image.chunks_exact(plane).enumerate() {
            let (mean, scale) = (mean[channel], scale[channel]);
            let places = out.iter_mut().skip(channel).step_by(shape.channels);
            // The cast takes what is not a number to 0 and what is beyond a byte to its ends.
            places.zip(values).for_each(|(pixel, value)| *pixel = (value / scale + mean).round() as u8);
        }
    }
    Ok(pixels)
}

/// [`normalize_u8`] for a tensor: UINT8 `[rows, height, width, channels]` to FP32 `[rows, channels, height, width]`.
pub fn normalized(tensor: &HostTensor, mean: &[f32], scale: &[f32]) -> Result<HostTensor, CodecError> {
    let refused = || CodecError::Shape {
        codec: "image",
        got: tensor.shape().to_vec(),
        expected: format!("UINT8 [rows, height, width, {}]", mean.len()),
    };
    let [rows, height, width, channels] = *tensor.shape() else { return Err(refused()) };
    if tensor.data_type() != DataType::Uint8 {
        return Err(refused());
    }
    let planes = normalize_u8(tensor.data(), PixelShape { rows, height, width, channels }, mean, scale)?;
    HostTensor::from_f32(vec![rows, channels, height, width], &planes).map_err(|_| refused())
}

/// [`denormalize`] for a tensor: FP32 `[rows, channels, height, width]` to UINT8 `[rows, height, width, channels]`.
pub fn denormalize_u8(
    tensor: &HostTensor,
    channels: usize,
    mean: &[f32],
    scale: &[f32],
) -> Result<HostTensor, CodecError> {
    let refused = || CodecError::Shape {
        codec: "jpeg",
        got: tensor.shape().to_vec(),
        expected: format!("FP32 [rows, {channels}, height, width]"),
    };
    let [rows, found, height, width] = *tensor.shape() else { return Err(refused()) };
    let planes = tensor.to_f32().map_err(|_| refused())?;
    if found != channels {
        return Err(refused());
    }
    let pixels = denormalize(&planes, PixelShape { rows, height, width, channels }, mean, scale)?;
    HostTensor::new(DataType::Uint8, vec![rows, height, width, channels], Bytes::from(pixels)).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_becomes_planes_and_pixels_again() {
        let (mean, scale) = ([10.0, 20.0], [0.5, 0.25]);
        let pixels = HostTensor::new(DataType::Uint8, vec![1, 1, 2, 2], vec![12, 20, 10, 28].into()).unwrap();
        let planes = normalized(&pixels, &mean, &scale).unwrap();
        assert_eq!((planes.shape(), planes.to_f32().unwrap()), (&[1, 2, 1, 2][..], vec![1.0, 0.0, 0.0, 2.0]));
        assert_eq!(denormalize_u8(&planes, 2, &mean, &scale).unwrap(), pixels);
        assert!(normalized(&planes, &mean, &scale).is_err());
        assert!(normalized(&pixels, &mean[..1], &scale[..1]).is_err());
    }
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

    #[test]
    fn tensors_keep_their_rows() {
        let planes = HostTensor::from_f32(vec![2, 3, 1, 1], &[1., 2., 3., 4., 5., 6.]).unwrap();
        let pixels = denormalize_u8(&planes, 3, &[0.0, 10.0, 20.0], &[1.0; 3]).unwrap();
        assert_eq!((pixels.shape(), &pixels.data()[..]), (&[2, 1, 1, 3][..], &[1, 12, 23, 4, 15, 26][..]));
        let message = denormalize_u8(&planes, 1, &[0.0], &[1.0]).unwrap_err().to_string();
        assert_eq!(message, "codec jpeg: shape [2, 3, 1, 1], expected FP32 [rows, 1, height, width]");
        assert!(denormalize_u8(&pixels, 1, &[0.0], &[1.0]).is_err(), "bytes already");
    }

    #[test]
    fn values_become_bytes_again() {
        let shape = PixelShape { rows: 1, height: 1, width: 4, channels: 1 };
        let planes = [0.499, 1.5, f32::NAN, f32::INFINITY];
        assert_eq!(denormalize(&planes, shape, &[0.0], &[1.0]), Ok(vec![0, 2, 0, 255]));
        assert_eq!(denormalize(&[-9.0, 0.0, 1.0, 2.0], shape, &[100.0], &[0.01]), Ok(vec![0, 100, 200, 255]));
        let refusal = |mean: f32, scale: f32| denormalize(&planes, shape, &[mean], &[scale]).unwrap_err().to_string();
        assert_eq!(refusal(0.0, 0.0), "scale of channel 0 is zero or not finite");
        assert_eq!(refusal(f32::NAN, 1.0), "mean of channel 0 is zero or not finite");
        assert_eq!(
            denormalize(&[0.0], shape, &[0.0], &[1.0]).unwrap_err().to_string(),
            "image batch should have 4 values, got 1"
        );
    }

    proptest! {
        #[test]
        fn denormalizing_undoes_normalizing(
            (rows, height, width, channels) in (0usize..3, 0usize..5, 0usize..5, 1usize..5), seed: u8, divisor in 1f32..300.0,
        ) {
            let shape = PixelShape { rows, height, width, channels };
            let pixels: Vec<u8> = (0..shape.byte_count().unwrap()).map(|i| (i as u8).wrapping_mul(37) ^ seed).collect();
            let mean: Vec<f32> = (0..channels).map(|c| 100.0 + c as f32 * 7.5).collect();
            let scale: Vec<f32> = (0..channels).map(|c| 1.0 / (c as f32 + divisor)).collect();
            let planes = normalize_u8(&pixels, shape, &mean, &scale).unwrap();
            prop_assert_eq!(denormalize(&planes, shape, &mean, &scale).unwrap(), pixels);
        }

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
