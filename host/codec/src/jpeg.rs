//! Images as JPEG, one a row: for a model's input, as cameras would send it.
//!
//! ```text
//! u32 x rows   bytes ..
//! +-----------+--------+--------+--
//! | lengths,  | first  | second |
//! | LE        | JPEG   | JPEG   |
//! +-----------+--------+--------+--
//! ```
//!
//! UINT8, `[rows, height, width, channels]` with 1 (gray) or 3 (RGB) channels. The rate is the quality. There is no WebP:
//! in pure Rust it can be written without loss only, and then it does not compete with JPEG.

use crate::CodecError;
use bps_types::{DataType, HostTensor, Packed};
use image::codecs::jpeg::{JpegDecoder, JpegEncoder};
use image::{ExtendedColorType, ImageDecoder};
use std::io::Cursor;

const NAME: &str = "jpeg";
/// What ends every image.
const END_OF_IMAGE: [u8; 2] = [0xff, 0xd9];

/// Extents of a batch that JPEG can carry.
struct Extents {
    rows: usize,
    height: u16,
    width: u16,
    color: ExtendedColorType,
    /// Bytes of an image's pixels.
    image_bytes: usize,
}

fn extents(shape: &[usize]) -> Result<Extents, CodecError> {
    let refused = || CodecError::Shape {
        codec: NAME,
        got: shape.to_vec(),
        expected: "[rows, 1 to 65535, 1 to 65535, 1 or 3]".to_owned(),
    };
    let [rows, height, width, channels] = *shape else { return Err(refused()) };
    let color = match channels {
        1 => ExtendedColorType::L8,
        3 => ExtendedColorType::Rgb8,
        _ => return Err(refused()),
    };
    let side = |extent: usize| u16::try_from(extent).ok().filter(|e| *e > 0).ok_or_else(refused);
    let (height, width) = (side(height)?, side(width)?);
    Ok(Extents { rows, height, width, color, image_bytes: usize::from(height) * usize::from(width) * channels })
}

fn corrupt(place: String, message: impl ToString) -> CodecError {
    CodecError::Corrupt { codec: NAME, place, message: message.to_string() }
}

/// One JPEG a row.
pub(crate) fn encode(quality: u8, tensor: &HostTensor) -> Result<Vec<u8>, CodecError> {
    let Extents { rows, height, width, color, image_bytes } = extents(tensor.shape())?;
    let mut data = vec![0; rows.saturating_mul(4)];
    for (row, pixels) in tensor.data().chunks_exact(image_bytes).enumerate() {
        let start = data.len();
        JpegEncoder::new_with_quality(&mut data, quality)
            .encode(pixels, u32::from(width), u32::from(height), color)
            .map_err(|e| corrupt(format!("row {row}"), e))?;
        let length = u32::try_from(data.len() - start).map_err(|_| CodecError::TooLarge { what: "image" })?;
        data[4 * row..][..4].copy_from_slice(&length.to_le_bytes());
    }
    Ok(data)
}

/// The pixels of every row. The shape is the receiver's own, and bounded.
pub(crate) fn decode(packed: &Packed, byte_count: usize) -> Result<HostTensor, CodecError> {
    let Extents { rows, image_bytes, .. } = extents(&packed.shape)?;
    let whole = || "lengths".to_owned();
    let Some((lengths, mut rest)) = rows.checked_mul(4).and_then(|n| packed.data.split_at_checked(n)) else {
        return Err(corrupt(whole(), format!("{} bytes do not hold {rows} lengths", packed.data.len())));
    };
    let lengths: Vec<usize> = lengths.as_chunks::<4>().0.iter().map(|l| u32::from_le_bytes(*l) as usize).collect();
    let sum = lengths.iter().try_fold(0usize, |sum, l| sum.checked_add(*l));
    if sum != Some(rest.len()) {
        return Err(corrupt(whole(), format!("they do not add up to the {} bytes that follow", rest.len())));
    }
    let mut pixels = vec![0; byte_count];
    for (row, (length, pixels)) in lengths.into_iter().zip(pixels.chunks_exact_mut(image_bytes)).enumerate() {
        let (image, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        rest = after;
        decode_row(image, &packed.shape, pixels).map_err(|message| corrupt(format!("row {row}"), message))?;
    }
    HostTensor::new(DataType::Uint8, packed.shape.clone(), pixels.into()).map_err(|e| corrupt("pixels".to_owned(), e))
}

/// One image over `pixels`; size and colours are compared before any pixel is decoded.
fn decode_row(image: &[u8], shape: &[usize], pixels: &mut [u8]) -> Result<(), String> {
    if !image.ends_with(&END_OF_IMAGE) {
        return Err("the image does not end".to_owned());
    }
    let decoder = JpegDecoder::new(Cursor::new(image)).map_err(|e| e.to_string())?;
    let (width, height) = decoder.dimensions();
    let channels = decoder.color_type().channel_count();
    let got = [height as usize, width as usize, usize::from(channels)];
    if got[..] != shape[1..] || decoder.total_bytes() != pixels.len() as u64 {
        return Err(format!("the image has extents {got:?}, expected {:?}", &shape[1..]));
    }
    decoder.read_image(pixels).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use crate::{decode, encode};
    use bps_types::{DataType, HostTensor, Packed};

    /// Soft shades, as photographs have.
    fn shades(shape: [usize; 4]) -> HostTensor {
        let [rows, height, width, channels] = shape;
        let pixel = |i: usize| {
            let (c, x) = (i % channels, i / channels % width);
            let (y, row) = (i / (channels * width) % height, i / (channels * width * height));
            (x * 3 + y * 2 + c * 20 + row * 30).min(255) as u8
        };
        let data: Vec<u8> = (0..rows * height * width * channels).map(pixel).collect();
        HostTensor::new(DataType::Uint8, shape.to_vec(), data.into()).unwrap()
    }

    #[test]
    fn pictures_come_back_nearly_and_smaller() {
        for shape in [[2, 40, 48, 3], [3, 33, 17, 1], [1, 1, 1, 3], [0, 8, 8, 3]] {
            let picture = shades(shape);
            for quality in [50, 75, 90, 95] {
                let packed = encode(6, quality, &picture).unwrap();
                let back = decode(&packed, &shape).unwrap();
                assert_eq!((back.shape(), back.data_type()), (&shape[..], DataType::Uint8));
                let off = picture.data().iter().zip(back.data()).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0);
                assert!(off <= 12, "{shape:?} at {quality}: off by {off}");
            }
        }
        let large = shades([1, 64, 64, 3]);
        assert!(encode(6, 75, &large).unwrap().data.len() < large.data().len() / 4);
        let size = |quality| encode(6, quality, &large).unwrap().data.len();
        assert!(size(50) <= size(95));
    }

    #[test]
    fn a_row_is_the_same_alone_and_in_company() {
        let pictures = shades([3, 20, 20, 3]);
        let together = decode(&encode(6, 75, &pictures).unwrap(), &[3, 20, 20, 3]).unwrap();
        let alone = encode(6, 75, &pictures.slice_rows(1..2)).unwrap();
        assert_eq!(decode(&alone, &[1, 20, 20, 3]).unwrap(), together.slice_rows(1..2));
    }

    #[test]
    fn what_is_not_as_described_is_refused() {
        let good = encode(6, 75, &shades([2, 16, 16, 3])).unwrap();
        let with = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut data = good.data.to_vec();
            change(&mut data);
            Packed { data: data.into(), ..good.clone() }
        };
        let refusal = |packed: &Packed, shape: &[usize]| decode(packed, shape).unwrap_err().to_string();
        let cases = [
            (with(&|d| d.truncate(7)), "codec jpeg, lengths: 7 bytes do not hold 2 lengths"),
            (with(&|d| d[0] ^= 1), "do not add up"),
            (with(&|d| d.truncate(d.len() - 1)), "do not add up"),
            (with(&|d| *d.last_mut().unwrap() = 0), "codec jpeg, row 1: the image does not end"),
            (with(&|d| d[8] = 0), "codec jpeg, row 0"),
        ];
        for (packed, wanted) in cases {
            let message = refusal(&packed, &[2, 16, 16, 3]);
            assert!(message.contains(wanted), "{message}");
        }
        // Larger and other pictures than the receiver expects.
        let large = encode(6, 75, &shades([2, 32, 8, 3])).unwrap();
        let lying = Packed { shape: vec![2, 16, 16, 3], ..large };
        assert!(refusal(&lying, &[2, 16, 16, 3]).contains("extents [32, 8, 3], expected [16, 16, 3]"));
        let gray = encode(6, 75, &shades([2, 16, 16, 1])).unwrap();
        let lying = Packed { shape: vec![2, 16, 16, 3], ..gray };
        assert!(refusal(&lying, &[2, 16, 16, 3]).contains("expected [16, 16, 3]"));
        for shape in [vec![1, 16, 16, 4], vec![1, 0, 16, 3], vec![16, 16, 3], vec![1, 70_000, 1, 1]] {
            let tensor = HostTensor::new(DataType::Uint8, shape.clone(), vec![0; shape.iter().product()].into());
            let message = encode(6, 75, &tensor.unwrap()).unwrap_err().to_string();
            assert!(message.contains("expected [rows, 1 to 65535"), "{message}");
        }
    }
}
