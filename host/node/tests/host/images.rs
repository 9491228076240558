//! Encoded images as input.

use crate::stand::{assert_close, call, settled, start, values};
use bps_node::{InferReply, ServeError};
use bps_types::{DataType, HostTensor};
use image::{DynamicImage, GrayImage, ImageFormat, Luma};
use std::io::Cursor;

fn picture(side: u32) -> GrayImage {
    GrayImage::from_fn(side, side, |x, y| Luma([((x * 8 / side) * 30 + (y * 8 / side) * 3) as u8]))
}

fn encoded(format: ImageFormat, side: u32) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::ImageLuma8(picture(side)).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn elements(images: &[Vec<u8>]) -> HostTensor {
    let with_length = |image: &Vec<u8>| [&(image.len() as u32).to_le_bytes()[..], image].concat();
    let data: Vec<u8> = images.iter().flat_map(with_length).collect();
    HostTensor::new(DataType::Bytes, vec![images.len()], data.into()).unwrap()
}

fn argmax(reply: &InferReply) -> usize {
    let values = values(reply);
    (0..values.len()).max_by(|a, b| values[*a].total_cmp(&values[*b])).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn png_jpeg_pixels_and_numbers_agree() {
    let host = start(|_| {}).await;
    let small = picture(8);
    let numbers: Vec<f32> = small.as_raw().iter().map(|p| f32::from(*p) / 255.0).collect();
    let fp32 = HostTensor::from_f32(vec![1, 1, 8, 8], &numbers).unwrap();
    let pixels = HostTensor::new(DataType::Uint8, vec![1, 8, 8, 1], small.into_raw().into()).unwrap();
    let exact = host.infer(call(&host, fp32)).await.unwrap();
    let raw = host.infer(call(&host, pixels)).await.unwrap();
    let png = host.infer(call(&host, elements(&[encoded(ImageFormat::Png, 8)]))).await.unwrap();
    assert_close(&values(&exact), &values(&raw));
    assert_close(&values(&raw), &values(&png));
    let jpeg = host.infer(call(&host, elements(&[encoded(ImageFormat::Jpeg, 64)]))).await.unwrap();
    assert_eq!(argmax(&jpeg), argmax(&exact), "larger and compressed, still the same picture");
    settled(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_element_is_a_row() {
    let host = start(|_| {}).await;
    let images = [encoded(ImageFormat::Png, 8), encoded(ImageFormat::Png, 100), encoded(ImageFormat::Jpeg, 8)];
    let reply = host.infer(call(&host, elements(&images))).await.unwrap();
    assert_eq!(reply.outputs[0].tensor.shape(), [3, 10]);
    let one = host.infer(call(&host, elements(&images[1..2]))).await.unwrap();
    assert_close(&values(&one), &values(&reply)[10..20]);
    settled(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_image_is_the_clients_fault() {
    let host = start(|_| {}).await;
    let good = encoded(ImageFormat::Png, 8);
    let mut corrupt = good.clone();
    let middle = corrupt.len() / 2;
    corrupt[middle..].fill(0);
    let jpeg = encoded(ImageFormat::Jpeg, 64);
    let cases = [vec![good.clone(), corrupt], vec![jpeg[..20].to_vec()], vec![b"not an image".to_vec()]];
    for images in cases {
        let error = host.infer(call(&host, elements(&images))).await.unwrap_err();
        assert!(matches!(&error, ServeError::Invalid(m) if m.contains("element")), "{error:?}");
    }
    assert_eq!(settled(&host).await.submitted, 0);
    host.infer(call(&host, elements(&[good]))).await.unwrap();
    settled(&host).await;
}
