//! Lists of a file that may not be longer than they make sense.

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// Reads a list of at most so many. An element behind them is an error before it is read, and nothing is allocated from a
/// declared length.
pub(super) fn at_most<'de, D, T, const MOST: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_seq(AtMost::<T, MOST>(PhantomData))
}

struct AtMost<T, const MOST: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for AtMost<T, MOST> {
    type Value = Vec<T>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "at most {MOST}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let declared = list.size_hint().unwrap_or(0);
        if declared > MOST {
            return Err(A::Error::invalid_length(declared, &self));
        }
        let mut all = Vec::new();
        while let Some(one) = list.next_element()? {
            if all.len() == MOST {
                return Err(A::Error::invalid_length(MOST + 1, &self));
            }
            all.push(one);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Three(#[serde(deserialize_with = "at_most::<_, _, 3>")] Vec<Option<[u64; 4]>>);

    #[test]
    fn longer_lists_end_early() {
        assert_eq!(postcard::from_bytes(&[2, 0, 0]), Ok(Three(vec![None, None])));
        assert_eq!(postcard::from_bytes(&[3, 0, 0, 0]), Ok(Three(vec![None; 3])));
        // Their length is declared, and none of them is read.
        assert!(postcard::from_bytes::<Three>(&[4, 0, 0, 0, 0]).is_err());
        assert!(postcard::from_bytes::<Three>(&[0xff, 0xff, 0xff, 0x7f]).is_err());
        assert!(postcard::from_bytes::<Three>(&[3, 0]).is_err(), "cut off");
    }
}
