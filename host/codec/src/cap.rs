//! What becomes of values that encode to more than was expected.

use crate::spec;
use bps_types::Packed;

/// Values that encode to more bytes than this are encoded again, at coarser rates that the codec offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeCap {
    /// Of all values together.
    pub bytes: u64,
    /// The coarsest rate that may be used; at that one values are taken however large they are.
    pub coarsest: u8,
}

/// Encodes, and again at coarser rates while the result is larger than its cap. Each time twice as many of the rates that
/// the codec offers are passed over, so that a few tries reach the coarsest: a link waits for what comes out. `encode` is
/// given a rate; its first error is the result, later ones end the tries.
pub fn encode_capped<E>(
    codec: u8,
    rate: u8,
    cap: Option<SizeCap>,
    encode: impl Fn(u8) -> Result<Vec<Packed>, E>,
) -> Result<Vec<Packed>, E> {
    let mut packed = encode(rate)?;
    let Some((cap, spec)) = cap.zip(spec(codec)) else { return Ok(packed) };
    let coarser: Vec<u8> = spec.rates.iter().copied().filter(|r| *r > rate && *r <= cap.coarsest).collect();
    let (mut at, mut step) = (0, 1);
    while packed.iter().map(|one| one.data.len() as u64).sum::<u64>() > cap.bytes && at < coarser.len() {
        // What is there already is good, if large.
        let Ok(smaller) = encode(coarser[at]) else { break };
        packed = smaller;
        // From the last one there is nowhere to go.
        at = if at + 1 == coarser.len() { coarser.len() } else { (at + step).min(coarser.len() - 1) };
        step *= 2;
    }
    Ok(packed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ff::ID_HAAR;
    use bps_types::DataType;
    use std::cell::RefCell;

    /// Every rate halves what its predecessor takes.
    fn of(rate: u8) -> Packed {
        let data = vec![0; 1 << (16 - rate / 2)].into();
        Packed { codec: ID_HAAR, rate, data_type: DataType::Fp32, shape: vec![1], data }
    }

    #[test]
    fn a_few_tries_reach_what_fits_or_the_coarsest() {
        // Bytes, coarsest: the rates that are tried.
        let table: [(u64, u8, &[u8]); 5] = [
            (1 << 16, 30, &[0]),
            (1 << 15, 30, &[0, 2]),
            (1 << 14, 30, &[0, 2, 4]),
            (1, 30, &[0, 2, 4, 8, 16, 30]),
            (1, 6, &[0, 2, 4, 6]),
        ];
        for (bytes, coarsest, wanted) in table {
            let tried = RefCell::new(Vec::new());
            let encode = |rate| {
                tried.borrow_mut().push(rate);
                Ok::<_, ()>(vec![of(rate)])
            };
            let packed = encode_capped(ID_HAAR, 0, Some(SizeCap { bytes, coarsest }), encode).unwrap();
            assert_eq!((tried.into_inner().as_slice(), wanted.last()), (wanted, Some(&packed[0].rate)), "{bytes}");
        }
    }

    #[test]
    fn without_a_cap_or_a_way_to_go_it_is_as_it_is() {
        let large = |rate| Ok::<_, ()>(vec![of(rate)]);
        assert_eq!(encode_capped(ID_HAAR, 4, None, large).unwrap()[0].rate, 4);
        let cap = Some(SizeCap { bytes: 1, coarsest: 30 });
        assert_eq!(encode_capped(ID_HAAR, 30, cap, large).unwrap()[0].rate, 30);
        let once = |rate| if rate == 4 { large(rate) } else { Err(()) };
        assert_eq!(encode_capped(ID_HAAR, 4, cap, once).unwrap()[0].rate, 4, "a later error ends the tries");
        assert_eq!(encode_capped(ID_HAAR, 2, cap, once), Err(()));
    }
}
