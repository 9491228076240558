//! Encoded images as input: a BYTES tensor of PNGs and JPEGs becomes a UINT8 tensor of pixels, which the device turns
//! into what the network was trained on.
//!
//! ```text
//! BYTES element:  length u32 LE | that many bytes of PNG or JPEG      one image is one row
//! becomes:        UINT8 [rows, height, width, channels]
//! ```
//! Decoding runs on a blocking thread, as many at once as there are cores. What the images of a request may ask for is
//! bounded by their headers before anything is decoded, and a request that ends meanwhile gives its seat back at the next
//! image.

use super::arrange::{Arranged, invalid};
use crate::ServeError;
use crate::models::ServedModel;
use bps_engine::PixelInput;
use bps_types::{DataType, HostTensor};
use bytes::{Buf, Bytes};
use image::imageops::FilterType;
use image::{DynamicImage, ImageFormat, ImageReader, Limits};
use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Longest side of an image that is decoded.
const SIDE_MAX: u32 = 16_384;
/// Pixels that the images of one request may have together: seconds of decoding on a small processor.
const PIXELS_MAX: u64 = 64 << 20;
/// Memory that decoding one image may take: [`PIXELS_MAX`] of RGB and some.
const DECODE_BYTES_MAX: u64 = 256 << 20;

/// Replaces encoded images by pixels; what has none passes through without leaving this thread.
pub(super) async fn decode(
    decoders: &Arc<Semaphore>,
    model: &Arc<ServedModel>,
    arranged: Arranged,
    timeout: Option<Duration>,
) -> Result<Arranged, ServeError> {
    let encoded = arranged.tensors.iter().position(|t| t.data_type() == DataType::Bytes);
    let Some((index, pixels)) = encoded.zip(model.pixels.clone()) else { return Ok(arranged) };
    let tensor = arranged.tensors[index].clone();
    let ended = EndOnDrop::default();
    let flag = ended.0.clone();
    let decoding = async {
        let turn = decoders.clone().acquire_owned().await;
        let turn = turn.map_err(|_| ServeError::Unavailable("the host is stopping".into()))?;
        let work = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            pixels_of(&tensor, &pixels, &flag)
        });
        Ok(work.await.unwrap_or_else(|_| Err("the decoder failed".into())))
    };
    let decoded = match timeout {
        None => decoding.await,
        Some(timeout) => {
            let expired = |_| Err(ServeError::Expired(timeout.into()));
            tokio::time::timeout(timeout, decoding).await.unwrap_or_else(expired)
        }
    }?;
    let tensor = decoded.map_err(|message| {
        let name = &model.graph.inputs[index].name;
        invalid(model, format!("cannot use input {name}: {message}"))
    })?;
    let mut tensors = arranged.tensors;
    tensors[index] = tensor;
    Ok(Arranged { bytes: tensors.iter().map(|t| t.data().len()).sum(), tensors, rows: arranged.rows })
}

/// Says, however the request ends, that nobody waits for its pixels any more.
#[derive(Default)]
struct EndOnDrop(Arc<AtomicBool>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn pixels_of(tensor: &HostTensor, to: &PixelInput, ended: &AtomicBool) -> Result<HostTensor, String> {
    let mut rest = tensor.data().clone();
    let rows = tensor.rows();
    let mut images = Vec::new();
    let mut pixel_count = 0;
    for row in 0..rows {
        let image = element(&mut rest).ok_or_else(|| format!("element {row} is longer than the data that is left"))?;
        pixel_count += pixel_count_of(&image).map_err(|message| format!("element {row}: {message}"))?;
        if pixel_count > PIXELS_MAX {
            return Err(format!("element {row}: the images have more than {PIXELS_MAX} pixels together"));
        }
        images.push(image);
    }
    if !rest.is_empty() {
        return Err(format!("{} bytes are left after {rows} elements", rest.len()));
    }
    let mut pixels = Vec::new();
    for (row, image) in images.iter().enumerate() {
        if ended.load(Ordering::Relaxed) {
            return Err("the request has ended".into());
        }
        pixels.extend(one_image(image, to).map_err(|message| format!("element {row}: {message}"))?);
    }
    let shape = vec![rows, to.height, to.width, to.channels];
    HostTensor::new(DataType::Uint8, shape, pixels.into()).map_err(|e| e.to_string())
}

/// The next element's bytes; none where the data ends before it does.
fn element(rest: &mut Bytes) -> Option<Bytes> {
    let length = rest.try_get_u32_le().ok()? as usize;
    (length <= rest.len()).then(|| rest.split_to(length))
}

fn reader(encoded: &[u8]) -> Result<ImageReader<Cursor<&[u8]>>, String> {
    let reader = ImageReader::new(Cursor::new(encoded)).with_guessed_format().map_err(|e| e.to_string())?;
    match reader.format() {
        Some(ImageFormat::Png | ImageFormat::Jpeg) => Ok(reader),
        _ => Err("neither PNG nor JPEG".into()),
    }
}

/// As many as the header promises.
fn pixel_count_of(encoded: &[u8]) -> Result<u64, String> {
    let (width, height) = reader(encoded)?.into_dimensions().map_err(|e| e.to_string())?;
    Ok(u64::from(width) * u64::from(height))
}

/// Decodes, resizes to the input's extents (whatever that does to the aspect ratio), converts to its channels.
fn one_image(encoded: &[u8], to: &PixelInput) -> Result<Vec<u8>, String> {
    let mut reader = reader(encoded)?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    limits.max_alloc = Some(DECODE_BYTES_MAX);
    reader.limits(limits);
    let image = reader.decode().map_err(|e| e.to_string())?;
    let extent = |pixels: usize| u32::try_from(pixels).map_err(|_| "the model's image is too large".to_owned());
    let (width, height) = (extent(to.width)?, extent(to.height)?);
    // Converted before it is resized: 16-bit and transparent images take two to four times the memory.
    let image = match to.channels {
        1 => DynamicImage::ImageLuma8(image.into_luma8()),
        _ => DynamicImage::ImageRgb8(image.into_rgb8()),
    };
    let same = (image.width(), image.height()) == (width, height);
    let image = if same { image } else { image.resize_exact(width, height, FilterType::Triangle) };
    Ok(image.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(channels: usize) -> PixelInput {
        let per_channel = vec![0.0; channels];
        PixelInput { input: 0, height: 4, width: 6, channels, mean: per_channel.clone(), scale: per_channel }
    }

    fn pixels(tensor: &HostTensor, channels: usize) -> Result<HostTensor, String> {
        pixels_of(tensor, &target(channels), &AtomicBool::new(false))
    }

    fn encoded(format: ImageFormat, width: u32, height: u32) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::ImageRgb8(image::RgbImage::from_pixel(width, height, image::Rgb([200, 100, 50])))
            .write_to(&mut bytes, format)
            .unwrap();
        bytes.into_inner()
    }

    fn elements(images: &[Vec<u8>]) -> HostTensor {
        let mut data = Vec::new();
        for image in images {
            data.extend((image.len() as u32).to_le_bytes());
            data.extend(image);
        }
        HostTensor::new(DataType::Bytes, vec![images.len()], data.into()).unwrap()
    }

    #[test]
    fn png_and_jpeg_become_pixels_of_the_inputs_size() {
        let images = [encoded(ImageFormat::Png, 6, 4), encoded(ImageFormat::Jpeg, 30, 20)];
        let tensor = pixels(&elements(&images), 3).unwrap();
        assert_eq!((tensor.data_type(), tensor.shape()), (DataType::Uint8, &[2, 4, 6, 3][..]));
        assert_eq!(tensor.data()[..3], [200, 100, 50]);
        for pixel in tensor.data()[72..].chunks(3) {
            let near = pixel.iter().zip([200u8, 100, 50]).all(|(a, b)| a.abs_diff(b) < 6);
            assert!(near, "a JPEG of one colour keeps it: {pixel:?}");
        }
        let grey = pixels(&elements(&images[..1]), 1).unwrap();
        assert_eq!(grey.shape(), [1, 4, 6, 1]);
    }

    #[test]
    fn what_is_no_image_is_refused_with_the_element() {
        let good = encoded(ImageFormat::Png, 6, 4);
        let truncated = good[..good.len() / 2].to_vec();
        let cases = [
            (elements(&[good.clone(), b"GIF89a....".to_vec()]), "element 1: neither PNG nor JPEG"),
            (elements(&[truncated]), "element 0: "),
            (elements(&[vec![]]), "element 0: neither PNG nor JPEG"),
        ];
        for (tensor, expected) in cases {
            let message = pixels(&tensor, 3).unwrap_err();
            assert!(message.starts_with(expected), "{message}");
        }
    }

    #[test]
    fn lengths_are_checked_before_they_are_used() {
        let tensor = |rows, data: &[u8]| HostTensor::new(DataType::Bytes, vec![rows], data.to_vec().into()).unwrap();
        let cases = [
            (tensor(1, &[255, 255, 255, 255, 1]), "element 0 is longer"),
            (tensor(1, &[1, 0]), "element 0 is longer"),
            (tensor(0, &[1, 2, 3]), "3 bytes are left"),
        ];
        for (tensor, expected) in cases {
            let message = pixels(&tensor, 3).unwrap_err();
            assert!(message.contains(expected), "{message}");
        }
    }

    /// A PNG header may promise 16 gigapixels in 60 bytes.
    #[test]
    fn a_decompression_bomb_is_refused_by_its_header() {
        let mut png = encoded(ImageFormat::Png, 1, 1);
        png[16..20].copy_from_slice(&60_000u32.to_be_bytes());
        png[20..24].copy_from_slice(&60_000u32.to_be_bytes());
        assert!(pixels(&elements(&[png]), 3).is_err());
    }

    #[test]
    fn the_images_of_a_request_are_bounded_together() {
        // Each is within bounds; the header is all that is looked at.
        let mut png = encoded(ImageFormat::Png, 1, 1);
        png[16..20].copy_from_slice(&8_000u32.to_be_bytes());
        png[20..24].copy_from_slice(&8_000u32.to_be_bytes());
        let crc = crc32(&png[12..29]);
        png[29..33].copy_from_slice(&crc.to_be_bytes());
        let message = pixels(&elements(&[png.clone(), png]), 3).unwrap_err();
        assert!(message.starts_with("element 1: the images have more than"), "{message}");
    }

    #[test]
    fn a_request_that_has_ended_is_not_decoded() {
        let images = elements(&[encoded(ImageFormat::Png, 6, 4)]);
        let message = pixels_of(&images, &target(3), &AtomicBool::new(true)).unwrap_err();
        assert_eq!(message, "the request has ended");
    }

    /// As PNG chunks end with.
    fn crc32(bytes: &[u8]) -> u32 {
        let step = |crc: u32, byte: &u8| {
            (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 })
        };
        !bytes.iter().fold(!0, step)
    }
}
