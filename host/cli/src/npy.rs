//! Tensors in NumPy's `.npy` files: what `numpy.save` writes, read with every length checked.

use bps_types::{DataType, HostTensor, element_count};
use bytes::Bytes;
use std::fmt;

const MAGIC: &[u8] = b"\x93NUMPY";
/// Headers are a line of text; NumPy itself refuses more than 10,000 bytes unless told to trust the file.
const HEADER_BYTES_MAX: usize = 10_000;
/// NumPy 2 allows 64 dimensions, no model takes more than a few.
pub(crate) const RANK_MAX: usize = 8;

/// Why a file is not a tensor we take, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NpyError(String);

impl fmt::Display for NpyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a usable .npy file: {}", self.0)
    }
}

impl std::error::Error for NpyError {}

fn refuse<T>(why: impl Into<String>) -> Result<T, NpyError> {
    Err(NpyError(why.into()))
}

/// Reads a whole file.
pub(crate) fn parse(file: Bytes) -> Result<HostTensor, NpyError> {
    if !file.starts_with(MAGIC) {
        return refuse("it does not start with \\x93NUMPY");
    }
    let length_bytes = match file.get(6) {
        Some(1) => 2,
        Some(2 | 3) => 4,
        Some(v) => return refuse(format!("format version {v} is unknown")),
        None => return refuse("it ends inside the preamble"),
    };
    let Some(length) = file.get(8..8 + length_bytes) else { return refuse("it ends inside the preamble") };
    let header_bytes = length.iter().rev().fold(0usize, |n, &b| n << 8 | usize::from(b));
    if header_bytes > HEADER_BYTES_MAX {
        return refuse(format!("its header claims {header_bytes} bytes, {HEADER_BYTES_MAX} are allowed"));
    }
    let start = 8 + length_bytes;
    let Some(header) = file.get(start..start + header_bytes) else { return refuse("it ends inside the header") };
    let Ok(header) = std::str::from_utf8(header) else { return refuse("its header is not text") };
    let header = Header::parse(header)?;
    let data = file.slice(start + header_bytes..);
    HostTensor::new(header.data_type, header.shape, data).or_else(|e| refuse(e.to_string()))
}

/// Whether files hold tensors of this type.
pub(crate) fn holds(data_type: DataType) -> bool {
    TYPES.iter().any(|(held, _)| *held == data_type)
}

/// The file that holds `tensor`. A BYTES tensor has no NumPy type.
pub(crate) fn encode(tensor: &HostTensor) -> Result<Vec<u8>, NpyError> {
    let Some((_, descr)) = TYPES.iter().find(|(t, _)| *t == tensor.data_type()) else {
        return refuse(format!("{} has no NumPy type", tensor.data_type()));
    };
    let extents: Vec<String> = tensor.shape().iter().map(|d| format!("{d},")).collect();
    let dict = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}), }}", extents.join(" "));
    // NumPy pads so that the data starts at a multiple of 64.
    let padded = (10 + dict.len() + 1).next_multiple_of(64);
    let header_bytes = u16::try_from(padded - 10).or_else(|_| refuse("too many dimensions"))?;
    let mut file = Vec::with_capacity(padded + tensor.data().len());
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&[1, 0]);
    file.extend_from_slice(&header_bytes.to_le_bytes());
    file.extend_from_slice(dict.as_bytes());
    file.resize(padded - 1, b' ');
    file.push(b'\n');
    file.extend_from_slice(tensor.data());
    Ok(file)
}

/// NumPy's name of each type we take. Big-endian data is refused rather than swapped: nobody has it.
const TYPES: [(DataType, &str); 12] = [
    (DataType::Bool, "|b1"),
    (DataType::Uint8, "|u1"),
    (DataType::Int8, "|i1"),
    (DataType::Uint16, "<u2"),
    (DataType::Int16, "<i2"),
    (DataType::Uint32, "<u4"),
    (DataType::Int32, "<i4"),
    (DataType::Uint64, "<u8"),
    (DataType::Int64, "<i8"),
    (DataType::Fp16, "<f2"),
    (DataType::Fp32, "<f4"),
    (DataType::Fp64, "<f8"),
];

struct Header {
    data_type: DataType,
    shape: Vec<usize>,
}

impl Header {
    /// The header is a Python dictionary with three keys; this finds their values without being a Python parser.
    fn parse(text: &str) -> Result<Self, NpyError> {
        let descr = value(text, "descr")?;
        let quoted = descr.strip_prefix('\'').and_then(|d| d.split_once('\'')).map(|(d, _)| d);
        let Some(descr) = quoted else { return refuse("its 'descr' is not a simple type") };
        let Some((data_type, _)) = TYPES.iter().find(|(_, d)| *d == descr) else {
            return refuse(format!("element type {descr:?} is not one of {}", TYPES.map(|(_, d)| d).join(", ")));
        };
        if !value(text, "fortran_order")?.starts_with("False") {
            return refuse("it is in Fortran order; save numpy.ascontiguousarray(x) instead");
        }
        let shape = value(text, "shape")?;
        let inner = shape.strip_prefix('(').and_then(|s| s.split_once(')')).map(|(s, _)| s);
        let Some(inner) = inner else { return refuse("its 'shape' is not a tuple") };
        let mut extents = Vec::new();
        for extent in inner.split(',').map(str::trim).filter(|e| !e.is_empty()) {
            let Ok(extent) = extent.parse() else { return refuse(format!("extent {extent:?} is not a number")) };
            if extents.len() == RANK_MAX {
                return refuse(format!("more than {RANK_MAX} dimensions"));
            }
            extents.push(extent);
        }
        if element_count(&extents).is_none() {
            return refuse(format!("shape {extents:?} has too many elements"));
        }
        Ok(Self { data_type: *data_type, shape: extents })
    }
}

/// What follows `'key':`.
fn value<'a>(text: &'a str, key: &str) -> Result<&'a str, NpyError> {
    let quoted = format!("'{key}'");
    let rest = text.split_once(&quoted).and_then(|(_, rest)| rest.trim_start().strip_prefix(':'));
    rest.map(str::trim_start).map_or_else(|| refuse(format!("its header has no {quoted}")), Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(header: &str, data: &[u8]) -> Bytes {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&[1, 0]);
        out.extend_from_slice(&(header.len() as u16).to_le_bytes());
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(data);
        out.into()
    }

    #[test]
    fn reads_what_numpy_writes() {
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }          \n";
        let tensor = parse(file(header, &[0, 0, 128, 63, 0, 0, 0, 64])).unwrap();
        assert_eq!((tensor.shape(), tensor.to_f32().unwrap()), (&[1, 2][..], vec![1.0, 2.0]));
        let scalar = parse(file("{'descr': '|u1', 'fortran_order': False, 'shape': (), }\n", &[7])).unwrap();
        assert_eq!((scalar.shape().len(), scalar.data()[0]), (0, 7));
    }

    #[test]
    fn writes_what_it_reads() {
        for shape in [vec![], vec![3], vec![1, 3], vec![3, 1, 1]] {
            let values = vec![1.5; shape.iter().product()];
            let tensor = HostTensor::from_f32(shape, &values).unwrap();
            let encoded = encode(&tensor).unwrap();
            assert_eq!((encoded.len() - tensor.data().len()) % 64, 0);
            assert_eq!(parse(encoded.into()).unwrap(), tensor);
        }
    }

    #[test]
    fn hostile_files_are_refused_with_a_reason() {
        let dict = |descr: &str, order: &str, shape: &str| {
            file(&format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"), &[0; 4])
        };
        let cases: [(Bytes, &str); 14] = [
            (Bytes::new(), "does not start"),
            (Bytes::from_static(b"\x93NUMPY"), "preamble"),
            (Bytes::from_static(b"\x93NUMPY\x01\x00\xff"), "preamble"),
            (Bytes::from_static(b"\x93NUMPY\x09\x00\x00\x00"), "version 9"),
            (Bytes::from_static(b"\x93NUMPY\x02\x00\xff\xff\xff\xff"), "claims 4294967295"),
            (Bytes::from_static(b"\x93NUMPY\x01\x00\x10\x00{'descr'"), "inside the header"),
            (file("{}", &[]), "no 'descr'"),
            (dict("'>f4'", "False", "(1,)"), "element type"),
            (dict("[('a', '<f4')]", "False", "(1,)"), "simple type"),
            (dict("'<f4'", "True", "(1,)"), "Fortran"),
            (dict("'<f4'", "False", "(2,)"), "needs 8 bytes, got 4"),
            (dict("'<f4'", "False", "(-1,)"), "not a number"),
            (dict("'<f4'", "False", "(18446744073709551615, 2)"), "too many elements"),
            (dict("'<f4'", "False", "(1,1,1,1,1,1,1,1,1)"), "more than 8"),
        ];
        for (bytes, expected) in cases {
            let error = parse(bytes).unwrap_err().to_string();
            assert!(error.contains(expected), "{error:?} lacks {expected:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_tensor_or_an_error(tail in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
            bytes.extend(tail);
            let _ = parse(bytes.into());
        }
    }
}
