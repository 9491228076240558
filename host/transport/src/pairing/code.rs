//! The one-time code: how it is made, written, and proven without being said.

use super::PairingError;
use bps_wire::HostKey;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt;
use std::str::FromStr;

/// Crockford's base 32: no I, L, O or U, so that a code survives being read aloud and typed.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Symbols of a code: 12 of 5 bits are 60 bits.
const SYMBOLS: usize = 12;
/// Symbols between two dashes.
const GROUP: usize = 4;
/// Bytes of a proof.
pub(super) const PROOF_BYTES: usize = 32;
/// Bytes of a nonce.
pub(super) const NONCE_BYTES: usize = 32;

/// A one-time code of 60 bits, for example `K7QF-2M9X-8RTD`.
#[derive(Clone, PartialEq, Eq)]
pub struct Code([u8; SYMBOLS]);

/// It is not a code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a code has 12 letters and digits, like K7QF-2M9X-8RTD; {0}")]
pub struct CodeError(&'static str);

impl Code {
    /// A new one.
    ///
    /// # Errors
    /// [`PairingError::Random`] where the system has no randomness.
    pub(super) fn random() -> Result<Self, PairingError> {
        let bits = u64::from_be_bytes(random()?);
        Ok(Self(std::array::from_fn(|i| ALPHABET[(bits >> (5 * i)) as usize % ALPHABET.len()])))
    }

    /// What `side` shows the other to prove that it knows the code, on this connection and no other.
    pub(super) fn proof(&self, side: Side, ends: &Ends) -> [u8; PROOF_BYTES] {
        let mut proof = [0; PROOF_BYTES];
        proof.copy_from_slice(hmac::sign(&self.key(), &ends.said_by(side)).as_ref());
        proof
    }

    /// Whether `side` knows the code; takes as long for a wrong proof as for a right one.
    pub(super) fn proves(&self, side: Side, ends: &Ends, proof: &[u8; PROOF_BYTES]) -> bool {
        hmac::verify(&self.key(), &ends.said_by(side), proof).is_ok()
    }

    fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.0)
    }
}

impl FromStr for Code {
    type Err = CodeError;

    /// Case, dashes and spaces do not count; O is read as 0, I and L as 1.
    fn from_str(text: &str) -> Result<Self, CodeError> {
        let mut symbols = [0; SYMBOLS];
        let mut count = 0;
        for c in text.chars().filter(|c| *c != '-' && !c.is_whitespace()) {
            let symbol = match c.to_ascii_uppercase() {
                'O' => b'0',
                'I' | 'L' => b'1',
                c => u8::try_from(c).ok().filter(|b| ALPHABET.contains(b)).ok_or(CodeError("this has others"))?,
            };
            *symbols.get_mut(count).ok_or(CodeError("this has more"))? = symbol;
            count += 1;
        }
        if count == SYMBOLS { Ok(Self(symbols)) } else { Err(CodeError("this has fewer")) }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, symbol) in self.0.iter().enumerate() {
            let dash = if index > 0 && index % GROUP == 0 { "-" } else { "" };
            write!(f, "{dash}{}", char::from(*symbol))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Code {
    /// Never what it is: debug text ends in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(..)")
    }
}

/// Who proves; a proof of one side is none of the other, so neither can be sent back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The one that showed the code and waits.
    Host,
    /// The one that dialled.
    Guest,
}

/// What a proof is bound to: both certificates as seen in this handshake, and a fresh number of each side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) host: HostKey,
    pub(super) guest: HostKey,
    pub(super) host_nonce: [u8; NONCE_BYTES],
    pub(super) guest_nonce: [u8; NONCE_BYTES],
}

impl Ends {
    /// Every part has a fixed length, so no two sets of ends read alike.
    fn said_by(&self, side: Side) -> Vec<u8> {
        let head: &[u8] = match side {
            Side::Host => b"bps-pair/1 host  ",
            Side::Guest => b"bps-pair/1 guest ",
        };
        [head, &self.host.0, &self.guest.0, &self.host_nonce, &self.guest_nonce].concat()
    }
}

/// Unpredictable bytes.
pub(super) fn random<const N: usize>() -> Result<[u8; N], PairingError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| PairingError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_code_is_written_and_read() {
        for _ in 0..100 {
            let code = Code::random().unwrap();
            let text = code.to_string();
            assert_eq!((text.len(), text.matches('-').count()), (14, 2), "{text}");
            assert_eq!(text.parse::<Code>().unwrap(), code);
            assert_eq!(text.to_lowercase().replace('-', " ").parse::<Code>().unwrap(), code);
        }
    }

    #[test]
    fn every_place_takes_every_symbol() {
        let codes: Vec<Code> = (0..2_000).map(|_| Code::random().unwrap()).collect();
        for place in 0..SYMBOLS {
            let seen: BTreeSet<u8> = codes.iter().map(|c| c.0[place]).collect();
            assert_eq!(seen.len(), ALPHABET.len(), "place {place}");
        }
    }

    #[test]
    fn what_looks_alike_is_alike() {
        assert_eq!("oOiIlL000000".parse::<Code>().unwrap().to_string(), "0011-1100-0000");
    }

    #[test]
    fn what_is_no_code_says_why() {
        for (text, why) in [
            ("", "fewer"),
            ("K7QF-2M9X-8RT", "fewer"),
            ("K7QF-2M9X-8RTDA", "more"),
            ("K7QF-2M9X-8RTU", "others"),
            ("K7QF-2M9X-8RT!", "others"),
            ("K7QF-2M9X-8RTé", "others"),
        ] {
            assert!(text.parse::<Code>().unwrap_err().to_string().contains(why), "{text}");
        }
        assert_eq!(format!("{:?}", Code::random().unwrap()), "Code(..)");
    }

    #[test]
    fn a_proof_holds_for_its_side_ends_and_code_only() {
        let code: Code = "K7QF-2M9X-8RTD".parse().unwrap();
        let ends = Ends { host: HostKey([1; 32]), guest: HostKey([2; 32]), host_nonce: [3; 32], guest_nonce: [4; 32] };
        let proof = code.proof(Side::Guest, &ends);
        assert!(code.proves(Side::Guest, &ends, &proof));
        assert!(!code.proves(Side::Host, &ends, &proof));
        for other in [
            Ends { host: HostKey([9; 32]), ..ends },
            Ends { guest: HostKey([9; 32]), ..ends },
            Ends { host_nonce: [9; 32], ..ends },
            Ends { guest_nonce: [9; 32], ..ends },
            Ends { host: ends.guest, guest: ends.host, ..ends },
        ] {
            assert!(!code.proves(Side::Guest, &other, &proof), "{other:?}");
        }
        let other: Code = "K7QF-2M9X-8RTE".parse().unwrap();
        assert!(!other.proves(Side::Guest, &ends, &proof));
        for bit in 0..256 {
            let mut changed = proof;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!code.proves(Side::Guest, &ends, &changed), "bit {bit}");
        }
    }
}
