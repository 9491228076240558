//! The eight bytes before each piece of a lane.

use crate::link::LinkError;

pub(super) const RECORD_HEADER_BYTES: usize = 8;
/// With its header, four TLS records of the largest size.
pub(super) const RECORD_BYTES_MAX: usize = (64 << 10) - RECORD_HEADER_BYTES;
/// Lane 0 is for control messages; each other one is taken by a frame until it is written whole.
pub(super) const LANES: usize = 8;
const GIVEN_UP: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) lane: usize,
    /// None: the lane's frame is given up.
    pub(super) bytes: Option<usize>,
}

impl Record {
    pub(super) fn to_bytes(self) -> [u8; RECORD_HEADER_BYTES] {
        let mut bytes = [0; RECORD_HEADER_BYTES];
        bytes[0] = self.lane as u8;
        bytes[1] = if self.bytes.is_none() { GIVEN_UP } else { 0 };
        bytes[4..].copy_from_slice(&(self.bytes.unwrap_or(0) as u32).to_le_bytes());
        bytes
    }

    pub(super) fn parse(bytes: [u8; RECORD_HEADER_BYTES]) -> Result<Self, LinkError> {
        let [lane, flags, 0, 0, length @ ..] = bytes else { return Err(LinkError::Rules("a record's zeros are not")) };
        let (lane, length) = (usize::from(lane), u32::from_le_bytes(length) as usize);
        if lane >= LANES {
            return Err(LinkError::Rules("a record on a lane that is not there"));
        }
        match (flags, length) {
            (GIVEN_UP, 0) if lane > 0 => Ok(Self { lane, bytes: None }),
            (0, 1..=RECORD_BYTES_MAX) => Ok(Self { lane, bytes: Some(length) }),
            _ => Err(LinkError::Rules("a record with flags or a length that make no sense")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_pinned_and_bounded() {
        for (record, bytes) in [
            (Record { lane: 0, bytes: Some(0x1234) }, [0, 0, 0, 0, 0x34, 0x12, 0, 0]),
            (Record { lane: 7, bytes: Some(RECORD_BYTES_MAX) }, [7, 0, 0, 0, 0xf8, 0xff, 0, 0]),
            (Record { lane: 3, bytes: None }, [3, 1, 0, 0, 0, 0, 0, 0]),
        ] {
            assert_eq!(record.to_bytes(), bytes);
            assert_eq!(Record::parse(bytes).expect("is one"), record);
        }
        for bad in [
            [8, 0, 0, 0, 1, 0, 0, 0],
            [1, 0, 0, 0, 0, 0, 0, 0],
            [1, 0, 0, 0, 0xf9, 0xff, 0, 0],
            [1, 2, 0, 0, 1, 0, 0, 0],
            [1, 1, 0, 0, 1, 0, 0, 0],
            [0, 1, 0, 0, 0, 0, 0, 0],
            [1, 0, 1, 0, 1, 0, 0, 0],
            [1, 0, 0, 1, 1, 0, 0, 0],
            [1, 0, 0, 0, 1, 0, 0, 1],
        ] {
            assert!(Record::parse(bad).is_err(), "{bad:?}");
        }
    }
}
