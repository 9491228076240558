//! What a dispatch's mark holds: enough to know, while its head still runs here, what is going to come down the line, and
//! afterwards which layers ran where. Nothing has to be remembered for it, so it survives a swap.

/// The mark of a dispatch along a lane.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tag {
    /// Place of the tail's device in the world's list; none for a whole model here.
    pub tail: Option<u8>,
    /// Where the model is cut.
    pub cut: u16,
    /// Bytes of a row on the link.
    pub bytes: f64,
    /// Nanoseconds of a row on the tail's device.
    pub tail_nanos: f64,
}

/// Says that a mark is one of these. A foreign one that looks the same costs a wrong estimate, no more.
const MAGIC: u64 = 0xB5;

impl Tag {
    /// From high to low: magic 8 bits, tail 8 (255: none), cut 16, bytes 16, nanoseconds 16.
    pub fn pack(self) -> u64 {
        let tail = self.tail.map_or(0xff, u64::from);
        MAGIC << 56 | tail << 48 | u64::from(self.cut) << 32 | short(self.bytes) << 16 | short(self.tail_nanos)
    }

    /// None for a mark that is not one of these.
    pub fn unpack(mark: u64) -> Option<Self> {
        let tail = (mark >> 48) as u8;
        (mark >> 56 == MAGIC).then(|| Self {
            tail: (tail != 0xff).then_some(tail),
            cut: (mark >> 32) as u16,
            bytes: long(mark >> 16 & 0xffff),
            tail_nanos: long(mark & 0xffff),
        })
    }
}

/// The upper half of an `f32`: enough for three digits.
fn short(value: f64) -> u64 {
    u64::from((value.max(0.0) as f32).to_bits() >> 16)
}

fn long(half: u64) -> f64 {
    let value = f64::from(f32::from_bits((half as u32) << 16));
    if value.is_finite() && value >= 0.0 { value } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_back_to_a_hundredth() {
        for (tail, cut, bytes, tail_nanos) in
            [(None, 0, 0.0, 0.0), (Some(3), 117, 802_816.0, 5.43e8), (Some(254), 65_535, 1.0, 9.0)]
        {
            let tag = Tag { tail, cut, bytes, tail_nanos };
            let back = Tag::unpack(tag.pack()).expect("its own");
            assert_eq!((back.tail, back.cut), (tail, cut));
            assert!((back.bytes - bytes).abs() <= bytes * 0.01, "{back:?}");
            assert!((back.tail_nanos - tail_nanos).abs() <= tail_nanos * 0.01, "{back:?}");
        }
    }

    #[test]
    fn foreign_marks_are_not_read() {
        assert_eq!(Tag::unpack(0), None);
        assert_eq!(Tag::unpack(7), None);
        assert_eq!(Tag::unpack(0xB5 << 56 | 0x7f80_7f80).map(|tag| tag.bytes), Some(0.0), "infinity is nothing");
    }
}
