//! The binary tensor extension: a JSON head, then the raw bytes of the tensors in their order.
//!
//! ```text
//! Inference-Header-Content-Length: 3 digits say 123
//!  0                     123            123 + 784 * 4
//!  +---------------------+--------------+-------------+
//!  | JSON head, UTF-8    | input 0, raw | input 1 ... |
//!  +---------------------+--------------+-------------+
//! ```
//! Little-endian, row-major; BOOL takes one byte; a BYTES element is its length as u32, then that many bytes. A raw
//! section shares the body's memory. No declared length allocates anything.

use bytes::Bytes;

/// What is wrong with the division of the body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BinaryError {
    /// The header is not a plain number.
    #[error("Inference-Header-Content-Length must be a number of bytes, got {0:?}")]
    HeaderValue(String),
    /// The head is longer than the body.
    #[error("Inference-Header-Content-Length says {head_bytes}, the body has {body_bytes} bytes")]
    HeaderLength { head_bytes: usize, body_bytes: usize },
    /// A section reaches past the body's end.
    #[error("binary_data_size says {size}, {left} bytes of the body are left at offset {offset}")]
    SectionLength { size: u64, left: usize, offset: usize },
    /// Bytes that belong to no tensor.
    #[error("{left} bytes after the last tensor, at offset {offset}")]
    Trailing { left: usize, offset: usize },
    /// An element of a BYTES tensor reaches past the tensor's end.
    #[error("element {index} of BYTES data at offset {offset} needs {needed} bytes, {left} are left")]
    Element { index: usize, offset: usize, needed: usize, left: usize },
    /// More or fewer elements than the shape says.
    #[error("BYTES data holds {got} elements, shape needs {needed}")]
    ElementCount { got: String, needed: usize },
}

/// Reads the value of `Inference-Header-Content-Length`.
pub(crate) fn head_bytes(value: &[u8]) -> Result<usize, BinaryError> {
    let digits = str::from_utf8(value).ok().filter(|v| v.bytes().all(|b| b.is_ascii_digit()));
    let wrong = || BinaryError::HeaderValue(String::from_utf8_lossy(&value[..value.len().min(32)]).into_owned());
    digits.and_then(|v| v.parse().ok()).ok_or_else(wrong)
}

/// The raw sections of a body, handed out one after another.
#[derive(Debug)]
pub(crate) struct Sections {
    body: Bytes,
    offset: usize,
}

impl Sections {
    /// Divides the body into head and raw sections. Without a header the whole body is the head.
    pub(crate) fn split(body: &Bytes, head_bytes: Option<usize>) -> Result<(Bytes, Self), BinaryError> {
        let head_bytes = head_bytes.unwrap_or(body.len());
        if head_bytes > body.len() {
            return Err(BinaryError::HeaderLength { head_bytes, body_bytes: body.len() });
        }
        Ok((body.slice(..head_bytes), Self { body: body.clone(), offset: head_bytes }))
    }

    /// The next section, of `size` bytes.
    pub(crate) fn take(&mut self, size: u64) -> Result<Bytes, BinaryError> {
        let left = self.body.len() - self.offset;
        match usize::try_from(size) {
            Ok(bytes) if bytes <= left => {
                let section = self.body.slice(self.offset..self.offset + bytes);
                self.offset += bytes;
                Ok(section)
            }
            _ => Err(BinaryError::SectionLength { size, left, offset: self.offset }),
        }
    }

    /// Refuses bytes that no tensor claimed.
    pub(crate) fn finish(self) -> Result<(), BinaryError> {
        match self.body.len() - self.offset {
            0 => Ok(()),
            left => Err(BinaryError::Trailing { left, offset: self.offset }),
        }
    }
}

/// The first element of BYTES data and what follows it; none at the end or where the length does not fit.
pub(crate) fn next_bytes_element(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = data.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

/// Checks that BYTES data is exactly `count` framed elements.
pub(crate) fn check_bytes(data: &[u8], count: usize) -> Result<(), BinaryError> {
    let (mut left, mut index) = (data, 0);
    while !left.is_empty() {
        if index == count {
            return Err(BinaryError::ElementCount { got: format!("more than {count}"), needed: count });
        }
        let Some((_, rest)) = next_bytes_element(left) else {
            let needed = left.first_chunk().map_or(4, |l| u32::from_le_bytes(*l) as usize + 4);
            return Err(BinaryError::Element { index, offset: data.len() - left.len(), needed, left: left.len() });
        };
        left = rest;
        index += 1;
    }
    if index == count { Ok(()) } else { Err(BinaryError::ElementCount { got: index.to_string(), needed: count }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn header_values() {
        assert_eq!(head_bytes(b"17"), Ok(17));
        for wrong in [&b""[..], b"-1", b"+1", b"1.0", b" 1", b"0x10", b"99999999999999999999999", b"\xff\xff"] {
            assert!(head_bytes(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn sections_in_order() {
        let body = Bytes::from_static(b"{}aabbb");
        let (head, mut sections) = Sections::split(&body, Some(2)).unwrap();
        assert_eq!(head, "{}");
        assert_eq!((sections.take(2).unwrap(), sections.take(0).unwrap()), ("aa".into(), "".into()));
        let error = sections.take(u64::MAX).unwrap_err();
        assert_eq!(error, BinaryError::SectionLength { size: u64::MAX, left: 3, offset: 4 });
        assert_eq!(sections.finish().unwrap_err(), BinaryError::Trailing { left: 3, offset: 4 });
        let error = Sections::split(&body, Some(8)).unwrap_err();
        assert_eq!(error.to_string(), "Inference-Header-Content-Length says 8, the body has 7 bytes");
        let (head, sections) = Sections::split(&body, None).unwrap();
        assert_eq!((head.len(), sections.finish()), (7, Ok(())));
    }

    #[test]
    fn framing() {
        let data = b"\x02\0\0\0ab\0\0\0\0";
        assert_eq!(check_bytes(data, 2), Ok(()));
        assert_eq!(check_bytes(b"", 0), Ok(()));
        #[rustfmt::skip]
        let table = [
            (&data[..], 3, "BYTES data holds 2 elements, shape needs 3"),
            (data, 1, "BYTES data holds more than 1 elements, shape needs 1"),
            (&data[..5], 2, "element 0 of BYTES data at offset 0 needs 6 bytes, 5 are left"),
            (&data[..8], 2, "element 1 of BYTES data at offset 6 needs 4 bytes, 2 are left"),
            (b"\xff\xff\xff\xff", 1, "element 0 of BYTES data at offset 0 needs 4294967299 bytes, 4 are left"),
        ];
        for (data, count, expected) in table {
            assert_eq!(check_bytes(data, count).unwrap_err().to_string(), expected);
        }
    }

    proptest! {
        #[test]
        fn random_bytes_are_answered(data in prop::collection::vec(any::<u8>(), 0..64), count in 0usize..8) {
            let _ = head_bytes(&data);
            if check_bytes(&data, count).is_ok() {
                let (mut left, mut elements) = (&data[..], 0);
                while let Some((_, rest)) = next_bytes_element(left) {
                    (left, elements) = (rest, elements + 1);
                }
                prop_assert_eq!((left.len(), elements), (0, count));
            }
        }
    }
}
