//! The file of `bps codec encode`: a codec's bytes with what a decoder must know of them.
//!
//! ```text
//! byte 0           8       9      10     11     12
//!      +-----------+-------+------+------+------+------------------+
//!      | "BPSCODE1"| codec | rate | type | rank | extents          |
//!      | 8 bytes   | u8    | u8   | u8   | u8   | rank of u64      |
//!      +-----------+-------+------+------+------+------------------+
//!      12 + 8 * rank       + 8                  + payload bytes    + 4
//!      +-------------------+--------------------+------------------+
//!      | payload bytes     | payload: what the  | CRC32C of all    |
//!      | u64               | codec made         | before, u32      |
//!      +-------------------+--------------------+------------------+
//! ```
//!
//! Everything is little-endian; the last digit of the first word is the version. The codec is its number in `bps codec
//! list`, the rate is 0 where it has none. Types: 0 BOOL, 1 to 4 UINT8 to UINT64, 5 to 8 INT8 to INT64, 9 FP16, 10 FP32, 11
//! FP64; those that .npy files hold. Extents are those of the decoded tensor, rows first, in the order of its memory; at
//! most 8. Nothing follows the checksum.

use super::choice;
use crate::npy;
use bps_codec::{VALUE_BYTES_MAX, spec};
use bps_types::{DataType, Packed, element_count};
use bytes::Bytes;
use std::fmt;

/// What every such file begins with, the version aside.
const FAMILY: &[u8; 7] = b"BPSCODE";
const VERSION: u8 = b'1';
/// Bytes before the extents.
const HEAD_BYTES: usize = 12;
const CRC_BYTES: usize = 4;

/// Why a file is not one of ours, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    offset: usize,
    what: &'static str,
    message: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}, {}: {}", self.offset, self.what, self.message)
    }
}

impl std::error::Error for Refused {}

fn refuse<T>(offset: usize, what: &'static str, message: impl Into<String>) -> Result<T, Refused> {
    Err(Refused { offset, what, message: message.into() })
}

/// Whether a file begins as one of ours, of whatever version.
pub(super) fn is_ours(file: &[u8]) -> bool {
    file.starts_with(FAMILY)
}

/// The file. Errors where the type or the shape is none that .npy files hold.
pub(super) fn write(packed: &Packed) -> Result<Vec<u8>, Refused> {
    let (data_type, shape) = (packed.data_type, &packed.shape);
    let Some(number) = DataType::ALL.iter().position(|t| *t == data_type).filter(|_| npy::holds(data_type)) else {
        return refuse(10, "type", format!("{data_type} has no NumPy type"));
    };
    if shape.len() > npy::RANK_MAX {
        return refuse(11, "rank", format!("{} extents, at most {}", shape.len(), npy::RANK_MAX));
    }
    let mut file = Vec::with_capacity(HEAD_BYTES + 8 * shape.len() + 8 + packed.data.len() + CRC_BYTES);
    file.extend_from_slice(FAMILY);
    // Both fit: there are 14 types, and the rank was compared.
    file.extend([VERSION, packed.codec, packed.rate, number as u8, shape.len() as u8]);
    shape.iter().for_each(|extent| file.extend((*extent as u64).to_le_bytes()));
    file.extend((packed.data.len() as u64).to_le_bytes());
    file.extend_from_slice(&packed.data);
    file.extend(crc32c::crc32c(&file).to_le_bytes());
    Ok(file)
}

/// Reads a file, which may be hostile: what it says of itself is possible, and the payload is what was written. The codec
/// has yet to look at the payload.
pub(super) fn read(file: &Bytes) -> Result<Packed, Refused> {
    if !is_ours(file) {
        return refuse(0, "magic", "not a file of `bps codec encode`");
    }
    let Some(head) = file.first_chunk::<HEAD_BYTES>() else {
        return refuse(file.len(), "head", format!("{HEAD_BYTES} bytes expected, got {}", file.len()));
    };
    if head[7] != VERSION {
        return refuse(7, "version", format!("{:?} is not known here", char::from(head[7])));
    }
    let rank = usize::from(head[11]);
    if rank > npy::RANK_MAX {
        return refuse(11, "rank", format!("{rank} extents, at most {}", npy::RANK_MAX));
    }
    let payload_at = HEAD_BYTES + 8 * rank + 8;
    let Some((before, crc)) = file.split_last_chunk::<CRC_BYTES>().filter(|(before, _)| before.len() >= payload_at)
    else {
        return refuse(file.len(), "head", "the file ends inside it");
    };
    let words: Vec<u64> = before[HEAD_BYTES..payload_at].as_chunks().0.iter().map(|w| u64::from_le_bytes(*w)).collect();
    let (declared, payload_bytes) = (words[rank], before.len() - payload_at);
    if declared != payload_bytes as u64 {
        return refuse(payload_at - 8, "payload bytes", format!("{declared}, but the file has {payload_bytes}"));
    }
    let (said, real) = (u32::from_le_bytes(*crc), crc32c::crc32c(before));
    if said != real {
        return refuse(before.len(), "checksum", format!("{said:08x}, but the bytes have {real:08x}"));
    }
    let [codec, rate, number] = [head[8], head[9], head[10]];
    let Some(spec) = spec(codec) else { return refuse(8, "codec", format!("there is no {codec}")) };
    if let Err(message) = choice::offered(spec, rate) {
        return refuse(9, "rate", format!("{rate}, but {message}"));
    }
    let Some(data_type) = DataType::ALL.get(usize::from(number)).copied().filter(|t| npy::holds(*t)) else {
        return refuse(10, "type", format!("there is no {number}"));
    };
    if !spec.takes(data_type) {
        return refuse(10, "type", format!("{} does not take {data_type}", spec.name));
    }
    let shape = shape(&words[..rank], data_type).or_else(|message| refuse(HEAD_BYTES, "extents", message))?;
    Ok(Packed { codec, rate, data_type, shape, data: file.slice(payload_at..before.len()) })
}

/// Extents of a tensor that is not too large to be decoded.
fn shape(extents: &[u64], data_type: DataType) -> Result<Vec<usize>, String> {
    let shape: Option<Vec<usize>> = extents.iter().map(|extent| usize::try_from(*extent).ok()).collect();
    let shape = shape.filter(|shape| fits(shape, data_type));
    shape.ok_or_else(|| format!("{extents:?} is more than {VALUE_BYTES_MAX} bytes"))
}

/// Whether a tensor is one that codecs decode.
pub(super) fn fits(shape: &[usize], data_type: DataType) -> bool {
    let bytes = element_count(shape).and_then(|count| count.checked_mul(data_type.size_bytes()?));
    bytes.is_some_and(|bytes| bytes <= VALUE_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packed() -> Packed {
        Packed { codec: 2, rate: 0, data_type: DataType::Fp32, shape: vec![2, 3], data: Bytes::from_static(&[7; 12]) }
    }

    fn sealed(mut file: Vec<u8>) -> Bytes {
        let at = file.len() - CRC_BYTES;
        let crc = crc32c::crc32c(&file[..at]);
        file[at..].copy_from_slice(&crc.to_le_bytes());
        file.into()
    }

    #[test]
    fn the_layout_is_pinned() {
        let file = write(&packed()).unwrap();
        assert_eq!(&file[..12], b"BPSCODE1\x02\x00\x0a\x02");
        assert_eq!((file[12], file[20], file[28], &file[36..48], file.len()), (2, 3, 12, &[7; 12][..], 52));
        assert_eq!(read(&file.into()).unwrap(), packed());
    }

    #[test]
    fn types_and_shapes_come_back() {
        for (data_type, shape) in [(DataType::Bool, vec![]), (DataType::Fp64, vec![0, 5]), (DataType::Int8, vec![1; 8])]
        {
            let data = vec![1; element_count(&shape).unwrap() * data_type.size_bytes().unwrap()].into();
            let packed = Packed { codec: 0, data_type, shape, data, ..packed() };
            assert_eq!(read(&write(&packed).unwrap().into()).unwrap(), packed);
        }
        let refused = |packed: Packed| write(&packed).unwrap_err().to_string();
        assert_eq!(refused(Packed { data_type: DataType::Bf16, ..packed() }), "byte 10, type: BF16 has no NumPy type");
        assert_eq!(refused(Packed { shape: vec![1; 9], ..packed() }), "byte 11, rank: 9 extents, at most 8");
    }

    #[test]
    fn hostile_files_are_refused_at_a_named_place() {
        let good = write(&packed()).unwrap();
        let with = |at: usize, bytes: &[u8]| {
            let mut file = good.clone();
            file[at..at + bytes.len()].copy_from_slice(bytes);
            sealed(file)
        };
        let cases = [
            (Bytes::new(), "byte 0, magic"),
            (Bytes::from_static(b"\x93NUMPY\x01\x00"), "byte 0, magic"),
            (Bytes::from_static(b"BPSCODE1\x02"), "byte 9, head: 12 bytes expected, got 9"),
            (Bytes::copy_from_slice(&good[..35]), "byte 35, head: the file ends inside it"),
            (Bytes::copy_from_slice(&good[..51]), "byte 28, payload bytes: 12, but the file has 11"),
            (with(7, b"2"), "byte 7, version: '2' is not known here"),
            (with(8, &[7]), "byte 8, codec: there is no 7"),
            (with(9, &[1]), "byte 9, rate: 1, but f16 has no rates"),
            (with(10, &[13]), "byte 10, type: there is no 13"),
            (with(10, &[1]), "byte 10, type: f16 does not take UINT8"),
            (with(11, &[9]), "byte 11, rank: 9 extents, at most 8"),
            (with(12, &[0xff; 8]), "byte 12, extents: [18446744073709551615, 3] is more than"),
            (with(16, &[1]), "byte 12, extents: [4294967298, 3] is more than 1073741824 bytes"),
            (with(28, &[0xff; 8]), "byte 28, payload bytes: 18446744073709551615"),
        ];
        for (file, wanted) in cases {
            let got = read(&file).unwrap_err().to_string();
            assert!(got.starts_with(wanted), "{got:?} is not {wanted:?}");
        }
        let mut flipped = good.clone();
        flipped[40] ^= 1;
        assert!(read(&flipped.into()).unwrap_err().to_string().starts_with("byte 48, checksum"));
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_tensor_or_an_error(tail in proptest::collection::vec(any::<u8>(), 0..300)) {
            let file = [&b"BPSCODE1"[..], &tail].concat();
            let _ = read(&file.into());
        }
    }
}
