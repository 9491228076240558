//! A packed tensor from a peer through every codec of the registry: numbers, shapes and bytes as a peer could send them.

#![no_main]

use bps_codec::{VALUE_BYTES_MAX, codecs, decode, decode_f32_into, encode, seal, spec};
use bps_fuzz::{Input, seed, within};
use bps_types::{DataType, HostTensor, Packed, element_count};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

/// The receiver expects another shape than the sender says.
const OTHER_SHAPE: u8 = 1;
/// The bytes are what is behind zstd, where the codec has it.
const INSIDE: u8 = 2;

/// Tensors between this and the greatest that is taken would only make the fuzzer slow.
const SLOW_BYTES: usize = 1 << 22;

/// Segments of a JPEG, and how a frame of zstd begins.
const WORDS: [&str; 9] = [
    "\\xff\\xd8",
    "\\xff\\xc0",
    "\\xff\\xc2",
    "\\xff\\xc4",
    "\\xff\\xdb",
    "\\xff\\xdd",
    "\\xff\\xda",
    "\\xff\\xd9",
    "\\x28\\xb5\\x2f\\xfd",
];

fuzz_target!(init: seed(seeds(), &WORDS), |data: &[u8]| {
    let mut input = Input::new(data);
    let flags = input.byte();
    let (codec, rate) = (input.byte(), input.byte());
    let data_type = input.pick(&DataType::ALL);
    let shape: Vec<usize> = (0..input.byte() % 7).map(|_| input.extent()).collect();
    let mut expected = shape.clone();
    if flags & OTHER_SHAPE != 0 {
        expected = (0..input.byte() % 7).map(|_| input.extent()).collect();
    }
    let data = Bytes::copy_from_slice(input.rest());
    let mut packed = Packed { codec, rate, data_type, shape, data };
    if let Some(spec) = spec(codec).filter(|_| flags & INSIDE != 0) {
        let inside = packed.data.clone();
        let Ok(sealed) = seal(spec, rate, data_type, &packed.shape, inside) else { return };
        packed = sealed;
    }
    let bytes = element_count(&expected).and_then(|n| n.checked_mul(data_type.size_bytes().unwrap_or(0)));
    let bytes = bytes.filter(|b| *b <= VALUE_BYTES_MAX);
    if bytes.is_some_and(|b| b > SLOW_BYTES) {
        return;
    }
    // Where the receiver expects more than may be, nothing is made. An image has rows of coefficients, 16 bits each.
    let most = bytes.unwrap_or(0);
    let decoded = within((1 << 20) + 16 * (most + packed.data.len()), || decode(&packed, &expected));
    let mut values = vec![7.0f32; 3];
    let into = within((1 << 20) + 16 * (most + packed.data.len()), || decode_f32_into(&packed, &expected, &mut values));
    assert_eq!(values[..3], [7.0; 3]);
    match &decoded {
        Ok(tensor) => {
            assert_eq!((tensor.shape(), tensor.data_type()), (&expected[..], data_type));
            assert_eq!(into.is_ok(), data_type == DataType::Fp32);
            let lossless = spec(codec).is_some_and(|s| s.lossless);
            let again = encode(codec, rate, tensor).expect("what was decoded can be encoded");
            let back = decode(&again, &expected).expect("what was encoded can be decoded");
            assert!(!lossless || back == *tensor, "lossless");
        }
        Err(error) => assert!(into.is_err() && !error.to_string().is_empty()),
    }
    match (into, decoded) {
        (Ok(()), Ok(tensor)) => {
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&values[3..]), bits(&tensor.to_f32().expect("it is FP32")));
        }
        _ => assert_eq!(values.len(), 3, "nothing is left of an error"),
    }
});

/// Tensors of every codec, at every rate and with every type that it takes.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for spec in codecs() {
        for rate in if spec.rates.is_empty() { &[0] } else { spec.rates } {
            for (index, data_type) in DataType::ALL.into_iter().enumerate().filter(|(_, t)| spec.takes(*t)) {
                let shape: &[usize] = if spec.for_input { &[2, 9, 10, 3] } else { &[2, 3, 4] };
                let count = shape.iter().product::<usize>() * data_type.size_bytes().unwrap_or(5);
                let data: Vec<u8> = (0..count).map(|i| (i * i % 113) as u8).collect();
                let tensor = HostTensor::new(data_type, shape.to_vec(), data.into()).expect("as long as it says");
                let packed = encode(spec.id, *rate, &tensor).expect("it is taken");
                let mut head = vec![0, spec.id, *rate, index as u8, shape.len() as u8];
                head.extend(shape.iter().map(|extent| *extent as u8));
                seeds.push([&head[..], &packed.data].concat());
            }
        }
    }
    seeds
}
