//! W3C trace context: what tells tools that follow a request through programs whose request a piece of work belongs to.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// Bytes of a `traceparent` of version 00.
const TRACEPARENT_BYTES: usize = 55;
/// The `trace-flags` that have a meaning: sampled, and an id made at random. All others are to be zero.
const FLAGS: u8 = 0b11;
/// The one that every version has.
const SAMPLED: u8 = 0b01;

/// A trace context as `traceparent` brings it (<https://www.w3.org/TR/trace-context/>), and as which it is written.
///
/// It is handed on as it came: bps reports no spans of its own, and a parent that nobody reports would cut the trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// `trace-id`; all zero where there is none.
    pub trace_id: [u8; 16],
    /// `parent-id`.
    pub span_id: [u8; 8],
    /// `trace-flags`.
    pub flags: u8,
}

impl Trace {
    /// Reads a `traceparent`. None where it is malformed: then it is to be treated as if it were not there.
    ///
    /// Of a version that does not exist yet, what version 00 has is read, and what follows it is left alone.
    pub fn parse(header: &[u8]) -> Option<Self> {
        let (known, more) = header.split_at_checked(TRACEPARENT_BYTES)?;
        if [2, 35, 52].iter().any(|at| known[*at] != b'-') {
            return None;
        }
        let [version] = hex(&known[..2])?;
        let [flags] = hex(&known[53..])?;
        let flags = match (version, more) {
            (0, []) => flags,
            (0 | 0xff, _) => return None,
            (_, [] | [b'-', ..]) => flags & SAMPLED,
            _ => return None,
        };
        Self { trace_id: hex(&known[3..35])?, span_id: hex(&known[36..52])?, flags }.known()
    }

    /// Itself without flags that have no meaning; none where it names no trace or no parent.
    pub fn known(self) -> Option<Self> {
        let names = self.trace_id != [0; 16] && self.span_id != [0; 8];
        names.then_some(Self { flags: self.flags & FLAGS, ..self })
    }
}

/// Lower-case digits, two a byte; `text` has as many as are wanted.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
    }
    Some(bytes)
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span) = (u128::from_be_bytes(self.trace_id), u64::from_be_bytes(self.span_id));
        write!(f, "00-{trace:032x}-{span:016x}-{:02x}", self.flags)
    }
}

impl Serialize for Trace {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Trace {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(text.as_bytes()).ok_or_else(|| D::Error::custom("not a trace context"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn flags(header: &str) -> Option<u8> {
        Trace::parse(header.as_bytes()).map(|t| t.flags)
    }

    #[test]
    fn what_is_read_is_written_again() {
        let trace = Trace::parse(GOOD.as_bytes()).unwrap();
        assert_eq!((trace.trace_id[0], trace.trace_id[15], trace.span_id[0], trace.flags), (0x0a, 0x9c, 0xb7, 1));
        assert_eq!(trace.to_string(), GOOD);
        let small = Trace { trace_id: 5u128.to_be_bytes(), span_id: 6u64.to_be_bytes(), flags: 0 };
        assert_eq!(Trace::parse(small.to_string().as_bytes()), Some(small));
    }

    #[test]
    fn versions_and_flags() {
        let ids = &GOOD[2..53];
        #[rustfmt::skip]
        let table = [
            ("00", "00", Some(0)), ("00", "02", Some(2)), ("00", "ff", Some(3)), ("00", "0A", None), ("00", "1", None),
            ("00", "01-", None), ("00", "01-more", None), ("00", "01 ", None), ("00", "", None),
            ("ff", "01", None), ("ff", "01-more", None), ("0F", "01", None), ("0", "01", None), ("+1", "01", None),
            ("01", "01", Some(1)), ("cc", "ff", Some(1)), ("fe", "02", Some(0)), ("01", "01-", Some(1)),
            ("cc", "01-what-is-to-come", Some(1)), ("cc", "01.what-is-to-come", None), ("cc", "011", None),
        ];
        for (version, end, expected) in table {
            let header = format!("{version}{ids}{end}");
            assert_eq!(flags(&header), expected, "{header}");
        }
    }

    #[test]
    fn nothing_is_named_by_zeros() {
        let (zero_trace, zero_span) = ("0".repeat(32), "0".repeat(16));
        for version in ["00", "01"] {
            assert_eq!(flags(&format!("{version}-{zero_trace}-{}-01", &GOOD[36..52])), None);
            assert_eq!(flags(&format!("{version}-{}-{zero_span}-01", &GOOD[3..35])), None);
        }
        assert_eq!(Trace::default().known(), None);
    }

    #[test]
    fn every_length_but_one_is_wrong() {
        let long = format!("{GOOD}{GOOD}");
        for length in 0..long.len() {
            assert_eq!(flags(&long[..length]).is_some(), length == GOOD.len(), "{length}");
        }
    }

    /// Each byte in each place: exactly lower-case digits are taken, and dashes where they belong.
    #[test]
    fn every_byte_in_every_place() {
        for place in 0..GOOD.len() {
            for byte in 0..=u8::MAX {
                let mut header = GOOD.as_bytes().to_vec();
                header[place] = byte;
                let fits = match place {
                    2 | 35 | 52 => byte == b'-',
                    _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
                };
                let read = Trace::parse(&header);
                assert_eq!(read.is_some(), fits, "{}", header.escape_ascii());
                // The version that is written is always ours, and flags without a meaning are not handed on.
                let told = read.map(|t| t.to_string().into_bytes()[2..53].to_vec());
                assert!(told.is_none_or(|told| told == header[2..53]), "{}", header.escape_ascii());
            }
        }
    }
}
