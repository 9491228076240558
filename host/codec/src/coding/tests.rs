//! Every codec, there and back, and with everything wrong that a stranger could send.

use super::*;
use crate::codecs;
use proptest::prelude::*;

fn floats(shape: &[usize], values: &[f32]) -> HostTensor {
    HostTensor::from_f32(shape.to_vec(), values).unwrap()
}

/// Values as activations have them, and every special one.
fn mixture(count: usize) -> Vec<f32> {
    let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 1e-42, f32::MIN_POSITIVE, 65_520.0, -1e30];
    (0..count).map(|i| if i % 11 == 10 { special[i / 11 % 8] } else { (i as f32 * 0.7).sin().max(0.0) * 5.0 }).collect()
}

const SHAPES: [&[usize]; 8] = [&[], &[1], &[7], &[3, 5], &[2, 3, 7, 5], &[0, 4], &[4, 0], &[2, 1_500]];

#[test]
fn raw_returns_every_bit_of_every_type() {
    for data_type in DataType::ALL {
        for shape in SHAPES {
            let bytes = shape.iter().product::<usize>() * data_type.size_bytes().unwrap_or(5);
            let data: Vec<u8> = (0..bytes).map(|i| (i * 37 % 251) as u8).collect();
            let tensor = HostTensor::new(data_type, shape.to_vec(), data.into()).unwrap();
            for codec in [0, 1] {
                let packed = encode(codec, 0, &tensor);
                if data_type == DataType::Bytes && codec == 1 {
                    assert_eq!(packed.unwrap_err().to_string(), "codec raw-zstd does not take BYTES");
                    continue;
                }
                assert_eq!(decode(&packed.unwrap(), shape).unwrap(), tensor, "{data_type} {shape:?} {codec}");
            }
        }
    }
    let tensor = floats(&[2], &[1.0, 2.0]);
    assert_eq!(encode(0, 0, &tensor).unwrap().data.as_ptr(), tensor.data().as_ptr(), "raw shares the bytes");
}

#[test]
fn lossy_codecs_give_what_their_references_give() {
    for shape in SHAPES {
        let (rows, row_elements) = rows_of(shape).unwrap();
        let values = mixture(rows * row_elements);
        let tensor = floats(shape, &values);
        let halves: Vec<u32> =
            f16::unpack(&f16::pack(&values), values.len()).unwrap().iter().map(|v| v.to_bits()).collect();
        let codes: Vec<u32> = (0..rows)
            .flat_map(|r| {
                let row = &values[r * row_elements..][..row_elements];
                int8::dequantize(&int8::quantize(row), row_elements).unwrap()
            })
            .map(f32::to_bits)
            .collect();
        for (codec, wanted) in [(2, &halves), (3, &halves), (4, &codes), (5, &codes)] {
            let packed = encode(codec, 0, &tensor).unwrap();
            assert_eq!(
                (packed.codec, packed.rate, packed.data_type, &packed.shape[..]),
                (codec, 0, DataType::Fp32, shape)
            );
            let back = decode(&packed, shape).unwrap();
            let bits = |values: Vec<f32>| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(&bits(back.to_f32().unwrap()), wanted, "{shape:?} {codec}");
            let mut behind = vec![7.0];
            decode_f32_into(&packed, shape, &mut behind).unwrap();
            assert_eq!((behind.remove(0), &bits(behind)), (7.0, wanted));
        }
    }
}

#[test]
fn rows_travel_alone_as_in_company() {
    let values = mixture(4 * 33);
    let tensor = floats(&[4, 33], &values);
    for codec in [0, 2, 4] {
        let whole = encode(codec, 0, &tensor).unwrap();
        let row = whole.data.len() / 4;
        for r in 0..4 {
            let alone = encode(codec, 0, &tensor.slice_rows(r..r + 1)).unwrap();
            assert_eq!(alone.data, whole.data[r * row..][..row], "codec {codec}, row {r}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_with_its_name() {
    let good = |codec| encode(codec, 0, &floats(&[2, 6], &[0.5; 12])).unwrap();
    let refusal = |packed: &Packed, shape: &[usize]| decode(packed, shape).unwrap_err().to_string();
    let raw = good(0);
    let cases = [
        (Packed { codec: 9, ..raw.clone() }, "codec 9 does not exist"),
        (Packed { rate: 1, ..raw.clone() }, "codec raw does not offer rate 1"),
        (Packed { rate: 50, ..good(3) }, "codec f16-zstd does not offer rate 50"),
        (Packed { shape: vec![6, 2], ..raw.clone() }, "codec raw: shape [6, 2], expected [2, 6]"),
        (Packed { data: raw.data.slice(1..), ..raw.clone() }, "codec raw, data: 48 bytes expected, got 47"),
        (Packed { data_type: DataType::Int64, ..raw.clone() }, "codec raw, data: 96 bytes expected, got 48"),
        (Packed { data_type: DataType::Int64, ..good(4) }, "codec int8 does not take INT64"),
        (Packed { data: raw.data.clone(), ..good(2) }, "codec f16, data: 24 bytes expected, got 48"),
        (Packed { data: raw.data.clone(), ..good(4) }, "codec int8, data: 32 bytes expected, got 48"),
        (Packed { data: raw.data.clone(), ..good(5) }, "codec int8-zstd, zstd: not a zstd frame"),
        (Packed { data: good(1).data, ..good(3) }, "codec f16-zstd, zstd: the frame holds 48 bytes, expected 24"),
        (Packed { data: vec![0xff; 32].into(), ..good(4) }, "codec int8, row 0: scale or zero is not a number"),
    ];
    for (packed, wanted) in &cases {
        assert_eq!(&refusal(packed, &[2, 6]), wanted);
    }
    let mut kept = vec![1.0];
    assert!(decode_f32_into(&cases[4].0, &[2, 6], &mut kept).is_err());
    assert!(decode_f32_into(&Packed { data_type: DataType::Uint8, ..raw }, &[2, 6], &mut kept).is_err());
    assert_eq!(kept, [1.0]);
    let integers = HostTensor::new(DataType::Int64, vec![1], vec![0; 8].into()).unwrap();
    for (codec, rate, wanted) in [
        (2, 0, "codec f16 does not take INT64"),
        (5, 0, "codec int8-zstd does not take INT64"),
        (6, 50, "codec jpeg does not take INT64"),
        (6, 51, "codec jpeg does not offer rate 51"),
        (7, 0, "codec 7 does not exist"),
    ] {
        assert_eq!(encode(codec, rate, &integers).unwrap_err().to_string(), wanted);
    }
}

#[test]
fn a_row_that_is_not_there_is_not_allocated() {
    for codec in codecs().iter().filter(|c| matches!(c.layout, Layout::F16 | Layout::Int8)) {
        let empty = HostTensor::new(DataType::Fp32, vec![0, 1 << 61], Bytes::new()).unwrap();
        let packed = encode(codec.id, 0, &empty).unwrap();
        assert_eq!(decode(&packed, empty.shape()).unwrap(), empty, "{}", codec.name);
        decode_f32_into(&packed, empty.shape(), &mut Vec::new()).unwrap();
    }
}

#[test]
fn no_shape_makes_the_receiver_allocate() {
    // Both sides agree on an absurd shape: the receiver was talked into it.
    for shape in
        [vec![1 << 28, 4], vec![usize::MAX, 2], vec![1 << 40, 0], vec![usize::MAX, 0, 3], vec![0, usize::MAX, 2]]
    {
        for codec in codecs() {
            let data_type = if codec.layout == Layout::Jpeg { DataType::Uint8 } else { DataType::Fp32 };
            for data in [vec![], vec![0; 64], squeeze(&[0; 64]).unwrap()] {
                let rate = codec.rates.first().copied().unwrap_or(0);
                let packed = Packed { codec: codec.id, rate, data_type, shape: shape.clone(), data: data.into() };
                // Nothing but an empty tensor has nothing to it.
                if let Ok(tensor) = decode(&packed, &shape) {
                    assert!(tensor.data().is_empty(), "{} {shape:?}", codec.name);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn bytes_that_were_changed_are_an_error_or_a_tensor_of_the_right_shape(
        which in 0usize..7,
        rows in 1usize..4,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let codec = &codecs()[which];
        let (shape, rate) = match codec.layout {
            Layout::Jpeg => (vec![rows, 9, 11, 3], 75),
            _ => (vec![rows, 3, 7], 0),
        };
        let count: usize = shape.iter().product();
        let tensor = match codec.layout {
            Layout::Jpeg => HostTensor::new(DataType::Uint8, shape.clone(), mixture(count).iter().map(|v| *v as u8).collect()).unwrap(),
            _ => floats(&shape, &mixture(count)),
        };
        let packed = encode(codec.id, rate, &tensor).unwrap();
        let mut data = packed.data.to_vec();
        for (place, byte) in changes {
            *place.get_mut(&mut data) = byte;
        }
        data.truncate(cut.map_or(data.len(), |c| c.index(data.len())));
        let changed = Packed { data: data.into(), ..packed };
        if let Ok(got) = decode(&changed, &shape) {
            prop_assert_eq!(got.shape(), &shape[..]);
            prop_assert_eq!(got.data_type(), tensor.data_type());
        }
    }

    #[test]
    fn any_bytes_at_all_are_an_error_or_a_tensor(
        codec in 0u8..9, rate in prop::sample::select(vec![0u8, 50, 75, 1]),
        data_type in prop::sample::select(DataType::ALL.to_vec()),
        shape in prop::collection::vec(0usize..5, 0..5), data in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let packed = Packed { codec, rate, data_type, shape: shape.clone(), data: data.into() };
        if let Ok(got) = decode(&packed, &shape) {
            prop_assert_eq!(got.shape(), &shape[..]);
        }
    }

    #[test]
    fn any_values_survive_within_the_stated_error(bits in prop::collection::vec(any::<u32>(), 0..120), rows in 1usize..4) {
        let row = bits.len() / rows;
        let values: Vec<f32> = bits[..row * rows].iter().map(|b| f32::from_bits(*b)).collect();
        let tensor = floats(&[rows, row], &values);
        for codec in &codecs()[..6] {
            let back = decode(&encode(codec.id, 0, &tensor).unwrap(), &[rows, row]).unwrap();
            if codec.lossless {
                prop_assert_eq!(&back, &tensor);
            }
            for (x, y) in values.iter().zip(back.to_f32().unwrap()) {
                prop_assert_eq!(x.is_nan(), y.is_nan(), "{}: {} became {}", codec.name, x, y);
            }
        }
    }
}
