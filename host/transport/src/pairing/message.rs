//! What two hosts say while they pair: a length of two bytes (big-endian), then a message in postcard.
//!
//! **Invariants.** Nothing is allocated beyond [`MESSAGE_BYTES_MAX`]; what is parsed has been read to its last byte, and
//! its name can be shown in a terminal. The protocol's version is in TLS's ALPN, so a change here needs a new one there.

use super::code::{NONCE_BYTES, PROOF_BYTES};
use super::{PairingError, Terms};
use crate::peers::{Rights, is_name};
use serde::{Deserialize, Serialize};
use std::fmt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The largest has about 110 bytes: a proof and a name.
pub(super) const MESSAGE_BYTES_MAX: usize = 256;

/// Everything that is said, in the order of a pairing that works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Message {
    /// Guest: let us pair.
    Hello {
        /// The guest's.
        nonce: [u8; NONCE_BYTES],
    },
    /// Host: prove that you know the code.
    Challenge {
        /// The host's.
        nonce: [u8; NONCE_BYTES],
    },
    /// Guest: I know it.
    Proof {
        /// The guest's.
        proof: [u8; PROOF_BYTES],
        /// Who says so.
        about: About,
    },
    /// Host: you do, and I know it too.
    Accept {
        /// The host's.
        proof: [u8; PROOF_BYTES],
        /// Who says so.
        about: About,
    },
    /// Guest: you do; keep me.
    Confirm,
    /// Host: you are kept; keep me.
    Done,
    /// Host: no.
    Refused(Refusal),
}

/// What a host says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct About {
    /// What it calls itself.
    pub(super) name: String,
    /// Where `bps serve` listens for paired hosts; none: it does not.
    pub(super) peer_port: Option<u16>,
    /// What the other may do there.
    pub(super) grants: Rights,
}

impl About {
    /// What `terms` tell the other host.
    pub(super) fn of(terms: &Terms) -> Self {
        Self { name: terms.name.clone(), peer_port: terms.peer_port, grants: terms.rights }
    }
}

/// Why the waiting host does not pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The code is another.
    WrongCode {
        /// Tries after which it stops waiting.
        tries_left: u8,
    },
    /// The code was used, or was guessed at too often.
    Closed,
    /// Both sides are the same host.
    Itself,
    /// That is not what is said at this point.
    Unexpected,
    /// It could not write down the pairing.
    NotKept,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongCode { tries_left: 0 } => f.write_str("the code is wrong, and that was the last try"),
            Self::WrongCode { tries_left } => write!(f, "the code is wrong ({tries_left} more tries)"),
            Self::Closed => f.write_str("its code is used up; run `bps pair` there again"),
            Self::Itself => {
                f.write_str("that is this host itself; run the other command on another host, or give --state-dir")
            }
            Self::Unexpected => f.write_str("it did not understand; do both hosts run the same version?"),
            Self::NotKept => f.write_str("it could not write the pairing down; see what it says there"),
        }
    }
}

impl Message {
    /// Its bytes, without the length.
    pub(super) fn bytes(&self) -> Result<Vec<u8>, PairingError> {
        postcard::to_stdvec(self).map_err(|_| PairingError::Garbled)
    }

    /// The message in `bytes`, all of them.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, PairingError> {
        let (message, rest) = postcard::take_from_bytes::<Self>(bytes).map_err(|_| PairingError::Garbled)?;
        let fits = match &message {
            Self::Proof { about, .. } | Self::Accept { about, .. } => {
                is_name(&about.name) && about.peer_port != Some(0)
            }
            _ => true,
        };
        if fits && rest.is_empty() { Ok(message) } else { Err(PairingError::Garbled) }
    }
}

/// Sends one message.
pub(super) async fn say(carrier: &mut (impl AsyncWrite + Unpin), message: &Message) -> Result<(), PairingError> {
    let body = message.bytes()?;
    let length = u16::try_from(body.len()).map_err(|_| PairingError::Garbled)?;
    let frame = [&length.to_be_bytes()[..], &body].concat();
    carrier.write_all(&frame).await.map_err(PairingError::Carrier)?;
    carrier.flush().await.map_err(PairingError::Carrier)
}

/// Waits for one message.
pub(super) async fn hear(carrier: &mut (impl AsyncRead + Unpin)) -> Result<Message, PairingError> {
    let mut length = [0; 2];
    carrier.read_exact(&mut length).await.map_err(PairingError::Carrier)?;
    let length = usize::from(u16::from_be_bytes(length));
    if length > MESSAGE_BYTES_MAX {
        return Err(PairingError::Garbled);
    }
    let mut body = vec![0; length];
    carrier.read_exact(&mut body).await.map_err(PairingError::Carrier)?;
    Message::parse(&body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn abouts() -> impl Strategy<Value = About> {
        let port = proptest::option::of(1u16..);
        ("[a-zé0-9]{1,30}", port, any::<bool>(), any::<bool>()).prop_map(|(name, peer_port, execute, fetch_models)| {
            About { name, peer_port, grants: Rights { execute, fetch_models } }
        })
    }

    fn messages() -> impl Strategy<Value = Message> {
        let refusals = prop_oneof![
            any::<u8>().prop_map(|tries_left| Refusal::WrongCode { tries_left }),
            Just(Refusal::Closed),
            Just(Refusal::Itself),
            Just(Refusal::Unexpected),
            Just(Refusal::NotKept),
        ];
        prop_oneof![
            any::<[u8; 32]>().prop_map(|nonce| Message::Hello { nonce }),
            any::<[u8; 32]>().prop_map(|nonce| Message::Challenge { nonce }),
            (any::<[u8; 32]>(), abouts()).prop_map(|(proof, about)| Message::Proof { proof, about }),
            (any::<[u8; 32]>(), abouts()).prop_map(|(proof, about)| Message::Accept { proof, about }),
            Just(Message::Confirm),
            Just(Message::Done),
            refusals.prop_map(Message::Refused),
        ]
    }

    proptest! {
        #[test]
        fn what_is_said_is_heard(message in messages()) {
            let bytes = message.bytes().unwrap();
            prop_assert!(bytes.len() <= MESSAGE_BYTES_MAX);
            prop_assert_eq!(Message::parse(&bytes).unwrap(), message);
        }

        #[test]
        fn noise_is_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(message) = Message::parse(&bytes) {
                prop_assert!(message.bytes().unwrap().len() <= bytes.len());
            }
        }

        #[test]
        fn a_part_or_more_than_all_is_refused(
            message in messages(),
            cut in any::<prop::sample::Index>(),
            more in any::<u8>(),
        ) {
            let mut bytes = message.bytes().unwrap();
            prop_assert!(Message::parse(&bytes[..cut.index(bytes.len())]).is_err());
            bytes.push(more);
            prop_assert!(Message::parse(&bytes).is_err());
        }
    }

    #[test]
    fn its_bytes_are_pinned() {
        let about =
            About { name: "edge".into(), peer_port: Some(7860), grants: Rights { execute: true, fetch_models: false } };
        let proof = Message::Proof { proof: [7; 32], about };
        let expected = [&[2][..], &[7; 32], &[4], b"edge", &[1, 0xb4, 0x3d], &[1, 0]].concat();
        assert_eq!(proof.bytes().unwrap(), expected);
        for (message, first) in [
            (Message::Hello { nonce: [0; 32] }, 0),
            (Message::Challenge { nonce: [0; 32] }, 1),
            (Message::Confirm, 4),
            (Message::Done, 5),
            (Message::Refused(Refusal::Closed), 6),
        ] {
            assert_eq!(message.bytes().unwrap()[0], first, "{message:?}");
        }
    }

    #[test]
    fn names_and_ports_that_do_not_fit_are_refused() {
        let grants = Rights::default();
        for about in [
            About { name: String::new(), peer_port: None, grants },
            About { name: "x".repeat(65), peer_port: None, grants },
            About { name: "\u{1b}[2J".into(), peer_port: None, grants },
            About { name: "edge".into(), peer_port: Some(0), grants },
        ] {
            let bytes = Message::Proof { proof: [0; 32], about: about.clone() }.bytes().unwrap();
            assert!(matches!(Message::parse(&bytes), Err(PairingError::Garbled)), "{about:?}");
        }
    }

    #[tokio::test]
    async fn a_length_beyond_the_bound_is_refused_before_anything_is_read() {
        let long = u16::try_from(MESSAGE_BYTES_MAX + 1).unwrap().to_be_bytes();
        assert!(matches!(hear(&mut &long[..]).await, Err(PairingError::Garbled)));
        assert!(matches!(hear(&mut &[0u8, 9, 1][..]).await, Err(PairingError::Carrier(_))));
    }
}
